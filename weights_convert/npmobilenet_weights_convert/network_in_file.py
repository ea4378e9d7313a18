"""The network in a Keras file, with its arrays: the one given, its own config's, or a published one that fits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from npmobilenet.architectures import ARCHITECTURES
from npmobilenet.errors import ShapeError, WeightsError
from npmobilenet.models.preprocessing import RAW, choose_scaling
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import BatchNormalization, GlobalMaxPooling2D
from npmobilenet.reference.transforms import with_depthwise, with_epsilon
from npmobilenet.types import Array
from npmobilenet_weights_convert.assumptions import (
    assumed_of,
    check_classifier,
    check_left_over,
    default_hidden_activation,
    ends_in_certainty,
    facts,
)
from npmobilenet_weights_convert.custom_head import SAVE, with_custom_head
from npmobilenet_weights_convert.keras_config import import_config
from npmobilenet_weights_convert.keras_file import Contents
from npmobilenet_weights_convert.name_matching import (
    Pairs,
    Place,
    assignment,
    attempts,
    have_same_names,
    places_of,
    problems,
)
from npmobilenet_weights_convert.recognize import (
    DEFAULT_RESOLUTION,
    IMAGENET_CLASSES,
    RecognizedNetwork,
    nearest_by_names,
    recognize,
    resolution_in,
)

MOST_PIXELS = 512 * 512  # of an image for which two networks are compared
SAME_FUNCTION = 1e-3  # of the largest value: above float32 rounding, below another stride or activation


@dataclass(frozen=True)
class FileNetwork:
    """A graph with its arrays from a file.

    Attributes:
        matched_by: one of the ways of `name_matching`.
        known: whether it is a keras.applications network.
        notes: remarks for the user.
        assumed: assumptions about facts that the file does not specify.
        given: these facts as specified by a given graph.
    """

    graph: Graph
    params: dict[str, Array]
    matched_by: str
    known: bool
    notes: tuple[str, ...]
    assumed: tuple[str, ...] = ()
    given: str = ""


def network_in_file(
    contents: Contents, graph: Graph | None = None, *, hidden_activation_given: bool = False
) -> FileNetwork:
    """The network that a file contains, with its arrays.

    Args:
        contents: the open file.
        graph: the network of the weights, if given.
        hidden_activation_given: whether the caller specified the hidden activation of that graph.

    Raises:
        WeightsError: the arrays fit no network, or not the one given; the message lists every mismatch.
    """
    if graph is not None:
        return _from_graph(contents, graph, hidden_activation_given)
    if contents.config is None:
        return _from_arrays(contents)
    own = _from_config(contents, contents.config)
    return _from_architecture(contents, own) or own


def _from_graph(contents: Contents, graph: Graph, hidden_activation_given: bool) -> FileNetwork:
    """The given network."""
    check_classifier(graph)
    matched_by, pairs = _fit(contents, graph, places_of(graph))
    check_left_over(contents.left_over)
    families = {build().name.partition("_")[0] for build in ARCHITECTURES.values()}
    filled = _filled(graph, pairs, matched_by, graph.name.partition("_")[0] in families)
    default = () if hidden_activation_given else default_hidden_activation(graph, matched_by)
    given = "; ".join((facts(graph), *default))
    if contents.config is None:
        return replace(filled, given=given)
    try:
        own = _from_config(contents, contents.config)
    except WeightsError:
        return replace(filled, given=given, notes=(*filled.notes, "the file's own config was ignored"))
    if _same_function(own, filled):
        return filled
    note = f"the file's own config describes another network ({facts(own.graph)}) than the given one ({facts(graph)})"
    return replace(filled, given=given, notes=(*filled.notes, note))


def _from_arrays(contents: Contents) -> FileNetwork:
    """The keras.applications network of a weights file without a config."""
    found = None if contents.is_nested else recognize(contents)
    if (found is None or found.mismatches) and (custom := _from_custom_head(contents)) is not None:
        return custom
    if found is None:
        raise _unknown(contents)
    size = resolution_in(contents.file)
    graph = found.graph(resolution=size or DEFAULT_RESOLUTION)
    if found.mismatches:
        raise _misfit(graph, found.mismatches, f"the closest match is {found}")
    if found.arguments.get("classes") == IMAGENET_CLASSES + 1:
        raise WeightsError(
            f"background class: expected {IMAGENET_CLASSES} outputs, got {IMAGENET_CLASSES + 1}. If output 0 is a "
            f"background class, specify the graph with classes={IMAGENET_CLASSES + 1}"
        )
    notes = [] if size else [f"the file does not specify the input size; {DEFAULT_RESOLUTION} is assumed"]
    check_left_over(contents.left_over)
    assumed = assumed_of(contents, graph, found)
    return replace(_filled(graph, found.pairs, found.matched_by, True, notes), assumed=tuple(assumed))


def _unknown(contents: Contents) -> WeightsError:
    """The error for weights of which not half fit any network: the nearest by the names of layers, if there is one."""
    way_on = f"the file has no config of their network. {SAVE[0].upper()}{SAVE[1:]}"
    if (nearest := nearest_by_names(contents)) is None:
        return WeightsError(f"these weights match no keras.applications MobileNet, and {way_on}")
    found, named = nearest
    count = sum(bool(layer.arrays) for layer in contents.layers)
    reason = f"by the names of layers, the closest match is {found} ({named} of the file's {count} layers); {way_on}"
    return _misfit(found.graph(), found.mismatches, reason)


def _from_custom_head(contents: Contents) -> FileNetwork | None:
    """A keras.applications network with a Dense layer of its owner, None if the file is of another kind."""
    size = resolution_in(contents.file)
    custom = with_custom_head(contents, size or DEFAULT_RESOLUTION)
    if custom is None:
        return None
    check_left_over(contents.left_over)
    graph, pairs, found, assumed = custom
    notes = [] if size else [f"the file does not specify the input size; {DEFAULT_RESOLUTION} is assumed"]
    return replace(_filled(graph, pairs, found.matched_by, False, notes), assumed=assumed)


def _from_config(contents: Contents, config: dict[str, Any]) -> FileNetwork:
    """The network of the file's own config."""
    size = resolution_in(contents.file)
    imported = import_config(config, contents.keras_major, (size, size) if size else None)
    matched_by, pairs = _fit(contents, imported.graph, imported.places)
    certain = ["the network ends in a softmax over one class, which is 1 for every image"] * ends_in_certainty(
        imported.graph
    )
    filled = _filled(imported.graph, pairs, matched_by, False, (*imported.notes, *certain))
    graph, params = with_depthwise(filled.graph, filled.params)
    return replace(filled, graph=graph, params=params)


def _from_architecture(contents: Contents, own: FileNetwork) -> FileNetwork | None:
    """The same network from `architectures`, or None if it is not a keras.applications network.

    The published V2 files without top are whole models whose config has epsilon 1e-5, although Keras computes with
    1e-3, and the weights were trained with that. So for a keras.applications network the architecture takes precedence.
    It is one if all arrays have its names and shapes, and it computes the same function except for epsilon.
    """
    found = recognize(contents)
    if found is None or found.mismatches:
        return None
    try:
        graph = found.graph(**arguments_in(own.graph, found))
        if len(own.graph.outputs) > 1:
            graph = replace(graph, outputs=own.graph.outputs)
    except ShapeError:
        return None
    if not have_same_names(own.graph, graph):
        return None
    filled = _filled(graph, found.pairs, found.matched_by, True, own.notes)
    epsilons = {layer.epsilon for layer in own.graph.layers if isinstance(layer, BatchNormalization)}
    epsilon = next(layer.epsilon for layer in graph.layers if isinstance(layer, BatchNormalization))
    if not _same_function(replace(own, graph=with_epsilon(own.graph, epsilon)), filled):
        return None
    if epsilons == {epsilon}:
        return filled
    if found.arguments.get("classes", IMAGENET_CLASSES) != IMAGENET_CLASSES:
        return None  # fine-tuned, so the epsilon may be intentional
    replaced = ", ".join(f"{value:g}" for value in sorted(epsilons))
    note = f"the config's batch-norm epsilon {replaced} was replaced by {epsilon:g}, that of {found.arch}"
    return replace(filled, notes=(*filled.notes, note))


def arguments_in(graph: Graph, found: RecognizedNetwork) -> dict[str, Any]:
    """Arguments of an architecture that only a config specifies, not the arrays."""
    arguments: dict[str, Any] = {"resolution": graph.input_shape[:2]}
    if found.arguments["include_top"]:
        activation = getattr(graph.layers[-1], "activation", "linear")
        arguments["classifier_activation"] = None if activation == "linear" else activation
    elif len(graph.shapes[graph.layers[-1].name]) == 1:
        largest = any(isinstance(layer, GlobalMaxPooling2D) for layer in graph.layers)
        arguments["pooling"] = "max" if largest else "avg"
    if found.arch.startswith("mobilenet_v3"):
        arguments["include_preprocessing"] = choose_scaling(graph) == RAW
    return arguments


def _same_function(own: FileNetwork, other: FileNetwork) -> bool:
    """Whether two networks compute the same for a random image; one of moderate size, unless they fix their own."""
    shapes = [[network.graph.input_shape, *network.graph.output_shapes.values()] for network in (own, other)]
    if shapes[0] != shapes[1]:
        return False
    if prod(own.graph.input_shape[:2]) > MOST_PIXELS:
        try:
            own, other = (
                replace(network, graph=network.graph.with_input(DEFAULT_RESOLUTION, DEFAULT_RESOLUTION))
                for network in (own, other)
            )
        except ShapeError:
            return False
    scaling = choose_scaling(own.graph)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, *own.graph.input_shape)).astype(np.float32)
    x = scaling.apply(pixels)
    with np.errstate(all="ignore"):
        y, z = (_outputs(network, x) for network in (own, other))
        return all(np.max(np.abs(a - b)) <= SAME_FUNCTION * np.max(np.abs(a)) for a, b in zip(y, z, strict=True))


def _outputs(network: FileNetwork, x: Array) -> list[Array]:
    """All outputs, in order."""
    y = network.graph.output(network.params, x)
    return list(y.values()) if isinstance(y, dict) else [y]


def _fit(contents: Contents, graph: Graph, places: Sequence[Place]) -> tuple[str, Pairs]:
    """The first way of matching under which every array fits, and its pairs.

    Raises:
        WeightsError: there is none; the message lists the mismatches of the best.
    """
    best: list[str] | None = None
    for matched_by, pairs in attempts(contents, places):
        wrong = problems(pairs, graph.param_shapes)
        if not wrong:
            return matched_by, pairs
        if best is None or len(wrong) < len(best):
            best = wrong
    found = recognize(contents)
    reason = f"these are weights of {found}" if found is not None and not found.mismatches else ""
    if contents.numbered and not any(layer.name for layer in contents.layers):
        reason = reason or "the file has no layer names; the .keras file of the same model has them"
    raise _misfit(graph, best or [], reason)


def _misfit(graph: Graph, wrong: Sequence[str], reason: str) -> WeightsError:
    """The error for arrays that do not fit."""
    return WeightsError.listing(f"the weights do not fit {graph.name}{f': {reason}' if reason else ''}", wrong)


def _filled(graph: Graph, pairs: Pairs, matched_by: str, known: bool, notes: Sequence[str] = ()) -> FileNetwork:
    """The network with its arrays, read as float32.

    Raises:
        WeightsError: an array has NaN, infinity or a negative variance; the message lists all such arrays.
    """
    params: dict[str, Array] = {}
    wrong: list[str] = []
    dtypes: set[str] = set()
    for name, stored in assignment(pairs):
        values = stored.read()
        dtypes.add(str(values.dtype))
        with np.errstate(over="ignore"):
            params[name] = np.ascontiguousarray(values, np.float32)
        if not np.isfinite(params[name]).all():
            wrong.append(
                f"not finite: {name} has {np.count_nonzero(~np.isfinite(params[name]))} NaN or infinite values"
            )
        elif name.endswith(("/moving_variance", "/variance")) and (params[name] < 0).any():
            wrong.append(f"negative: {name} has variances down to {params[name].min():g}")
    if wrong:
        raise _misfit(graph, wrong, "invalid values")
    cast = ", ".join(sorted(dtypes - {"float32"}))
    notes = (*notes, f"{cast} weights were cast to float32") if cast else tuple(notes)
    return FileNetwork(graph, {name: params[name] for name in graph.param_shapes}, matched_by, known, notes)
