"""Conversion of any Keras file of a MobileNet to a `Model`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from npmobilenet.analysis.engine_check import EngineCheck
from npmobilenet.architectures import ARCHITECTURES
from npmobilenet.errors import ArgumentError, NpMobileNetError, ShapeError, WeightsError
from npmobilenet.models.labels import Label, imagenet_labels
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import PLAUSIBLE, RAW, SYMMETRIC, UNIT, Scaling, choose_scaling
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import BatchNormalization, GlobalMaxPooling2D
from npmobilenet.reference.normalization import rescale
from npmobilenet.reference.transforms import with_epsilon
from npmobilenet.types import Array
from npmobilenet_weights_convert.assumptions import (
    assumed_of,
    check_classifier,
    check_left_over,
    default_hidden_activation,
    ends_in_certainty,
    facts,
    with_hidden_activation,
)
from npmobilenet_weights_convert.keras_config import import_config
from npmobilenet_weights_convert.keras_file import Contents, is_safetensors, open_contents, read_bytes
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
    recognize,
    resolution_in,
)

SAME_FUNCTION = 1e-3  # of the largest value: float32 rounding stays below, another stride or activation does not


@dataclass(frozen=True)
class _Network:
    """A graph with the arrays of a file.

    Attributes:
        graph: the network.
        params: float32 arrays by `layer/array`.
        matched_by: how names were matched, see `name_matching`.
        known: whether it is a network of keras.applications.
        notes: sentences for the user.
        assumed: what the file does not specify, not confirmed by the caller.
        given: what the file does not specify, as the caller's graph has it.
    """

    graph: Graph
    params: dict[str, Array]
    matched_by: str
    known: bool
    notes: tuple[str, ...]
    assumed: tuple[str, ...] = ()
    given: tuple[str, ...] = ()


def read_model(
    source: str | PathLike[str],
    *,
    graph: Graph | None = None,
    hidden_activation: str | None = None,
    scaling: Scaling | None = None,
    labels: Sequence[str | Label] | None = None,
) -> Model:
    """Read a Keras file: weights in the layout of Keras Applications, a whole model as `.h5`, `.weights.h5`, `.keras`.

    A `.safetensors` of this package is opened as it is.

    Args:
        source: the file; its format is detected from its first bytes, not from its name.
        graph: the network that the weights are for. By default that of the file's own config, unless it is a network
            of keras.applications, where `architectures` rules; for weights without config the network that they fit.
        hidden_activation: with a `graph` of V1 or V2: the activation in place of its ReLU6, "relu6" or "relu".
            Weights do not specify it.
        scaling: from pixels in 0..255 to the network's input; by default see `choose_scaling`.
        labels: one per class, each a name or a (wnid, name) pair; by default the ImageNet classes for a network of
            keras.applications with 1000 outputs, otherwise none.

    Returns:
        The model. Its `source` records how names were matched (`matched_by`), `notes`, and what the file does not
        specify: `assumed` until a graph is given to confirm it, `given` as that graph has it.

    Raises:
        WeightsError: the file cannot be read or does not fit; the message lists every wrong array or layer.
        ShapeError: the graph has no hidden activation that can be replaced.
        ArgumentError: `hidden_activation` without `graph`.
    """
    if hidden_activation is not None:
        if graph is None:
            raise ArgumentError("hidden_activation requires graph")
        graph = with_hidden_activation(graph, hidden_activation)
    path = Path(source)
    data = read_bytes(path)
    if is_safetensors(data):
        return Model.open(path)
    with open_contents(path, data) as contents:
        network = _network(contents, graph, hidden_activation is not None)
        background = False
        if labels is None:
            outputs = network.graph.output_shape[-1] if len(network.graph.output_shape) == 1 else 0
            background = network.known and outputs == IMAGENET_CLASSES + 1
            labels = imagenet_labels() if network.known and outputs - background == IMAGENET_CLASSES else ()
        notes = list(network.notes)
        if scaling is None:
            scaling = choose_scaling(network.graph)
            if scaling == SYMMETRIC and not network.known:
                notes.append("the file does not specify how pixels are scaled; [-1, 1] is assumed")
            elif scaling == UNIT:
                notes.append(
                    f"the network's Rescaling would map pixels in 0..255 beyond [-{PLAUSIBLE:g}, {PLAUSIBLE:g}]; "
                    "input in 0..1 is assumed"
                )
        origin = {
            "file": path.name,
            "sha256": contents.sha256,
            "keras_version": contents.keras_version,
            "matched_by": network.matched_by,
        }
        sentences = {"notes": notes, "assumed": network.assumed, "given": network.given}
        origin |= {name: text for name, lines in sentences.items() if (text := "; ".join(lines))}
        return Model(network.graph, network.params, scaling, labels, background, origin)


def convert_file(
    source: str | PathLike[str],
    destination: str | PathLike[str],
    *,
    graph: Graph | None = None,
    hidden_activation: str | None = None,
    scaling: Scaling | None = None,
    labels: Sequence[str | Label] | None = None,
    engine_check: Callable[[Model], EngineCheck] | None = None,
) -> Model:
    """Read a Keras file and write it as a `.safetensors` with its self-check: the whole file or none.

    Args:
        source, graph, hidden_activation, scaling, labels: as for `read_model`.
        destination: the file to write.
        engine_check: compares the compiled engine with the reference (`analysis.engine_check.check_engine`); its
            result is recorded as `source["engine"]`, and as a note if they differ.

    Raises:
        WeightsError, ShapeError, ArgumentError: as for `read_model`; nothing is written.
        OSError: the destination cannot be written.
    """
    model = read_model(source, graph=graph, hidden_activation=hidden_activation, scaling=scaling, labels=labels)
    if engine_check is not None:
        model = replace(model, source=_with_engine_check(model, engine_check))
    model.save(destination)
    return model


def _with_engine_check(model: Model, engine_check: Callable[[Model], EngineCheck]) -> dict[str, str]:
    """The model's source with the result of its engine check."""
    try:
        check = engine_check(model)
    except NpMobileNetError as error:
        return {**model.source, "engine": f"not checked: {error}"}
    source = {**model.source, "engine": str(check)}
    if not check.passed:
        notes = (model.source.get("notes"), f"compiled backend: {check}; use the reference backend")
        source["notes"] = "; ".join(filter(None, notes))
    return source


def _network(contents: Contents, graph: Graph | None, hidden_activation_given: bool) -> _Network:
    if graph is not None:
        return _from_graph(contents, graph, hidden_activation_given)
    if contents.config is None:
        return _from_arrays(contents)
    own = _from_config(contents, contents.config)
    return _from_architecture(contents, own) or own


def _from_graph(contents: Contents, graph: Graph, hidden_activation_given: bool) -> _Network:
    """The network that the caller gives for the weights."""
    check_classifier(graph)
    matched_by, pairs = _fit(contents, graph, places_of(graph))
    check_left_over(contents.left_over)
    families = {build().name.partition("_")[0] for build in ARCHITECTURES.values()}
    filled = _filled(graph, pairs, matched_by, graph.name.partition("_")[0] in families)
    default = () if hidden_activation_given else default_hidden_activation(graph, matched_by)
    given = (*default, facts(graph))
    if contents.config is None:
        return replace(filled, given=given)
    try:
        own = _from_config(contents, contents.config)
    except WeightsError:
        return replace(filled, given=given, notes=(*filled.notes, "the file's own config was ignored"))
    if _same_function(own, filled):
        return filled
    note = f"the file's own config describes another network ({facts(own.graph)}) than was given ({facts(graph)})"
    return replace(filled, given=given, notes=(*filled.notes, note))


def _from_arrays(contents: Contents) -> _Network:
    """The network of keras.applications that a file of weights without config is for."""
    found = None if contents.is_nested else recognize(contents)
    if found is None:
        raise WeightsError(
            "these weights match no keras.applications MobileNet, and the file has no config that describes their "
            "network. Save the whole model (model.keras), or give its graph: npmobilenet convert --arch, or "
            "read_model(file, graph=read_model('model.keras').graph)"
        )
    size = resolution_in(contents.file)
    graph = found.graph(resolution=size or DEFAULT_RESOLUTION)
    if found.complaints:
        raise WeightsError(_misfit(graph, found.complaints, f"the nearest network is {found}"))
    if found.arguments.get("classes") == IMAGENET_CLASSES + 1:
        raise WeightsError(
            f"background class: expected {IMAGENET_CLASSES} outputs, got {IMAGENET_CLASSES + 1}. If output 0 means "
            f"none of the classes, give the graph with classes={IMAGENET_CLASSES + 1}"
        )
    notes = [] if size else [f"the file does not specify the input size; {DEFAULT_RESOLUTION} is assumed"]
    check_left_over(contents.left_over)
    assumed = assumed_of(contents, graph, found)
    return replace(_filled(graph, found.pairs, found.matched_by, True, notes), assumed=tuple(assumed))


def _from_config(contents: Contents, config: dict[str, Any]) -> _Network:
    """The network that the file itself describes."""
    size = resolution_in(contents.file)
    imported = import_config(config, contents.keras_major, (size, size) if size else None)
    matched_by, pairs = _fit(contents, imported.graph, imported.places)
    certain = ends_in_certainty(imported.graph)
    notes = ["it ends in a softmax over one class, whose output is 1 for every image"] * certain
    return _filled(imported.graph, pairs, matched_by, False, (*imported.notes, *notes))


def _from_architecture(contents: Contents, own: _Network) -> _Network | None:
    """The same network as `architectures` has it, or None if it is not one of keras.applications.

    The published V2 files without top are whole models whose config has epsilon 1e-5, though Keras computes with 1e-3,
    with which the weights were trained. Therefore the architecture rules for a network of keras.applications: one whose
    arrays have its names and shapes, and whose outputs are the same except for epsilon.
    """
    found = recognize(contents)
    if found is None or found.complaints:
        return None
    try:
        graph = found.graph(**arguments_in(own.graph, found))
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
    stored = ", ".join(f"{value:g}" for value in sorted(epsilons))
    note = f"the config's batch-norm epsilon {stored} was replaced by {epsilon:g}, that of {found.arch}"
    return replace(filled, notes=(*filled.notes, note))


def arguments_in(graph: Graph, found: RecognizedNetwork) -> dict[str, Any]:
    """The arguments of an architecture that arrays do not specify but a config does."""
    arguments: dict[str, Any] = {"resolution": graph.input_shape[:2]}
    if found.arguments["include_top"]:
        activation = getattr(graph.layers[-1], "activation", "linear")
        arguments["classifier_activation"] = None if activation == "linear" else activation
    elif len(graph.output_shape) == 1:
        largest = any(isinstance(layer, GlobalMaxPooling2D) for layer in graph.layers)
        arguments["pooling"] = "max" if largest else "avg"
    if found.arch.startswith("mobilenet_v3"):
        arguments["include_preprocessing"] = choose_scaling(graph) == RAW
    return arguments


def _same_function(own: _Network, other: _Network) -> bool:
    """Whether two networks have the same output for one random image."""
    if own.graph.input_shape != other.graph.input_shape or own.graph.output_shape != other.graph.output_shape:
        return False
    scaling = choose_scaling(own.graph)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, *own.graph.input_shape)).astype(np.float32)
    x = rescale(pixels, scaling.scale, scaling.offset)
    with np.errstate(all="ignore"):
        y, z = (network.graph.output(network.params, x) for network in (own, other))
        return bool(np.max(np.abs(y - z)) <= SAME_FUNCTION * np.max(np.abs(y)))


def _fit(contents: Contents, graph: Graph, places: Sequence[Place]) -> tuple[str, Pairs]:
    """The first matching under which every array fits.

    Raises:
        WeightsError: there is none; the message lists the problems of the best.
    """
    best: list[str] | None = None
    for matched_by, pairs in attempts(contents, places):
        wrong = problems(pairs, graph.param_shapes)
        if not wrong:
            return matched_by, pairs
        if best is None or len(wrong) < len(best):
            best = wrong
    found = recognize(contents)
    reason = f"these are weights of {found}" if found is not None and not found.complaints else ""
    if contents.numbered and not any(layer.name for layer in contents.layers):
        reason = reason or "the file has no layer names; the .keras file of the same model fits without a graph"
    raise WeightsError(_misfit(graph, best or [], reason))


def _misfit(graph: Graph, wrong: Sequence[str], reason: str) -> str:
    return "\n  ".join([f"the weights do not fit {graph.name}{f': {reason}' if reason else ''}", *wrong])


def _filled(graph: Graph, pairs: Pairs, matched_by: str, known: bool, notes: Sequence[str] = ()) -> _Network:
    """Read the arrays, as float32.

    Raises:
        WeightsError: a value is NaN, infinite, or a negative variance; all such arrays are listed.
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
        elif name.endswith("/moving_variance") and (params[name] < 0).any():
            wrong.append(f"negative: {name} has variances down to {params[name].min():g}")
    if wrong:
        raise WeightsError(_misfit(graph, wrong, "corrupt values"))
    cast = ", ".join(sorted(dtypes - {"float32"}))
    notes = (*notes, f"{cast} weights were cast to float32") if cast else tuple(notes)
    return _Network(graph, {name: params[name] for name in graph.param_shapes}, matched_by, known, notes)
