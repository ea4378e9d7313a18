"""Any Keras file of a MobileNet in, a `Model` out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from npmobilenet.analysis.engine_check import EngineCheck
from npmobilenet.architectures import ARCHITECTURES
from npmobilenet.errors import NpMobileNetError, ShapeError, WeightsError
from npmobilenet.models.labels import Label, imagenet_labels
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import RAW, SYMMETRIC, Scaling, choose_scaling
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import BatchNormalization, GlobalMaxPooling2D
from npmobilenet.reference.normalization import rescale
from npmobilenet.reference.transforms import with_epsilon
from npmobilenet.types import Array, Params
from npmobilenet_weights_convert.assumptions import (
    assumed_of,
    check_classifier,
    check_left_over,
    ends_in_certainty,
    facts,
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
    """A graph with the arrays of a file beside it.

    Attributes:
        matched_by: which of the ways of `matching` it was.
        known: whether it is a network of keras.applications.
        notes: what to know about it. assumed: what the file does not tell and nobody has confirmed.
        given: what the file does not tell, as somebody gave it.
    """

    graph: Graph
    params: dict[str, Array]
    matched_by: str
    known: bool
    notes: tuple[str, ...]
    assumed: tuple[str, ...] = ()
    given: str = ""


def read_model(
    source: str | PathLike[str],
    *,
    graph: Graph | None = None,
    scaling: Scaling | None = None,
    labels: Sequence[str | Label] | None = None,
) -> Model:
    """Read a Keras file: weights in the layout of Keras Applications, a whole model as `.h5`, `.weights.h5`, `.keras`.

    A `.safetensors` of this package is opened as it is.

    Args:
        source: the file; what it is, its first bytes say, not its name.
        graph: the network that the weights are for. If it is not given, the file's own config is taken, unless it is
            a network of keras.applications, which `architectures` knows better; and for weights without config the
            network that they fit.
        scaling: from pixels in 0..255 to the network's input; if not given, see `choose_scaling`.
        labels: one a class, each a name or a (wnid, name) pair; if not given, the ImageNet classes for a network of
            keras.applications with 1000 outputs.

    Returns:
        The model. `source["matched_by"]` says how names were matched, `source["notes"]` what to know about it;
        `source["assumed"]` what the file does not tell and was assumed, until it is confirmed by giving the graph;
        `source["given"]` what the file does not tell, as the graph that was given has it.

    Raises:
        WeightsError: the file cannot be read, or does not fit; the message lists every array or layer that is wrong.
    """
    path = Path(source)
    data = read_bytes(path)
    if is_safetensors(data):
        return Model.open(path)
    with open_contents(path, data) as contents:
        network = _network(contents, graph)
        background = False
        if labels is None:
            outputs = network.graph.output_shape[-1] if len(network.graph.output_shape) == 1 else 0
            background = network.known and outputs == IMAGENET_CLASSES + 1
            labels = imagenet_labels() if network.known and outputs - background == IMAGENET_CLASSES else ()
        notes = list(network.notes)
        if scaling is None:
            scaling = choose_scaling(network.graph)
            if scaling == SYMMETRIC and not network.known:
                notes.append("the file does not say how pixels are scaled; [-1, 1] is assumed")
        origin = {
            "file": path.name,
            "sha256": contents.sha256,
            "keras_version": contents.keras_version,
            "matched_by": network.matched_by,
        }
        sentences = {"notes": notes, "assumed": network.assumed, "given": filter(None, [network.given])}
        origin |= {name: text for name, lines in sentences.items() if (text := "; ".join(lines))}
        return Model(network.graph, network.params, scaling, labels, background, origin)


def convert_file(
    source: str | PathLike[str],
    destination: str | PathLike[str],
    *,
    graph: Graph | None = None,
    scaling: Scaling | None = None,
    labels: Sequence[str | Label] | None = None,
    engine_check: Callable[[Model], EngineCheck] | None = None,
) -> Model:
    """Read a Keras file and write it as a `.safetensors` with its self-check: the whole file or none.

    Args:
        source, graph, scaling, labels: as for `read_model`.
        destination: the file to write.
        engine_check: compares the compiled engine with the reference (`analysis.engine_check.check_engine`); its
            result is recorded as `source["engine"]`, and as a note if they differ.

    Raises:
        WeightsError: the source cannot be read, or does not fit; nothing is written.
        OSError: the destination cannot be written.
    """
    model = read_model(source, graph=graph, scaling=scaling, labels=labels)
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


def _network(contents: Contents, graph: Graph | None) -> _Network:
    if graph is not None:
        return _from_graph(contents, graph)
    if contents.config is None:
        return _from_arrays(contents)
    own = _from_config(contents, contents.config)
    return _from_architecture(contents, own) or own


def _from_graph(contents: Contents, graph: Graph) -> _Network:
    """The network that somebody says the weights are for."""
    check_classifier(graph)
    matched_by, pairs = _fit(contents, graph, places_of(graph))
    check_left_over(contents.left_over)
    families = {build().name.partition("_")[0] for build in ARCHITECTURES.values()}
    filled = _filled(graph, pairs, matched_by, graph.name.partition("_")[0] in families)
    if contents.config is None:
        return replace(filled, given=facts(graph))
    try:
        own = _from_config(contents, contents.config)
    except WeightsError:
        return replace(filled, given=facts(graph), notes=(*filled.notes, "the file's own config was left aside"))
    if _same_function(own, filled):
        return filled
    note = f"the file's own config describes another network ({facts(own.graph)}) than was given ({facts(graph)})"
    return replace(filled, given=facts(graph), notes=(*filled.notes, note))


def _from_arrays(contents: Contents) -> _Network:
    """The network of keras.applications that a file of weights without config is for."""
    found = None if contents.is_nested else recognize(contents)
    if found is None:
        raise WeightsError(
            "these weights are of no plain MobileNet of keras.applications, and the file has no config that describes "
            "their network. Save the whole model (model.keras), or give its graph: npmobilenet convert --arch, or "
            "read_model(file, graph=read_model('model.keras').graph)"
        )
    size = resolution_in(contents.file)
    graph = found.graph(resolution=size or DEFAULT_RESOLUTION)
    if found.complaints:
        raise WeightsError(_misfit(graph, found.complaints, f"they are nearest to {found}"))
    if found.arguments.get("classes") == IMAGENET_CLASSES + 1:
        raise WeightsError(
            f"background class: {IMAGENET_CLASSES + 1} outputs, where {IMAGENET_CLASSES} are expected. If output 0 "
            f"stands for none of the classes, give the graph with classes={IMAGENET_CLASSES + 1}"
        )
    notes = [] if size else [f"the file does not say the input size; {DEFAULT_RESOLUTION} is assumed"]
    check_left_over(contents.left_over)
    assumed = assumed_of(contents, graph, found)
    return replace(_filled(graph, found.pairs, found.matched_by, True, notes), assumed=tuple(assumed))


def _from_config(contents: Contents, config: dict[str, Any]) -> _Network:
    """The network that the file itself describes."""
    size = resolution_in(contents.file)
    imported = import_config(config, contents.keras_major, (size, size) if size else None)
    matched_by, pairs = _fit(contents, imported.graph, imported.places)
    certain = ["it ends in a softmax over one class, which is 1 for every image"] * ends_in_certainty(imported.graph)
    return _filled(imported.graph, pairs, matched_by, False, (*imported.notes, *certain))


def _from_architecture(contents: Contents, own: _Network) -> _Network | None:
    """The same network as `architectures` has it, or None where it is not one of keras.applications.

    The published V2 files without top are whole models whose config says epsilon 1e-5, though Keras computes with 1e-3,
    and so were the weights trained. So for a network of keras.applications the architecture rules. It is one if all
    arrays have its names and shapes, and it computes the same but for epsilon.
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
        return None  # trained by somebody, who may have meant it
    said = ", ".join(f"{value:g}" for value in sorted(epsilons))
    note = f"the config's batch-norm epsilon {said} was replaced by {epsilon:g}, that of {found.arch}"
    return replace(filled, notes=(*filled.notes, note))


def arguments_in(graph: Graph, found: RecognizedNetwork) -> dict[str, Any]:
    """What arrays do not tell but a config does."""
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
    """Whether two networks answer one random picture alike."""
    if own.graph.input_shape != other.graph.input_shape or own.graph.output_shape != other.graph.output_shape:
        return False
    scaling = choose_scaling(own.graph)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, *own.graph.input_shape)).astype(np.float32)
    x = rescale(pixels, scaling.scale, scaling.offset)
    with np.errstate(all="ignore"):
        y, z = (_last(network.graph, network.params, x) for network in (own, other))
        return bool(np.max(np.abs(y - z)) <= SAME_FUNCTION * np.max(np.abs(y)))


def _last(graph: Graph, params: Params, x: Array) -> Array:
    for _, y in graph.run(params, x):
        output = y
    return output


def _fit(contents: Contents, graph: Graph, places: Sequence[Place]) -> tuple[str, Pairs]:
    """The first way under which every array fits.

    Raises:
        WeightsError: there is none; listed is what is wrong with the best.
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
        reason = reason or "the file has no names of layers; the .keras file of the same model fits by itself"
    raise WeightsError(_misfit(graph, best or [], reason))


def _misfit(graph: Graph, wrong: Sequence[str], reason: str) -> str:
    return "\n  ".join([f"the weights do not fit {graph.name}{f': {reason}' if reason else ''}", *wrong])


def _filled(graph: Graph, pairs: Pairs, matched_by: str, known: bool, notes: Sequence[str] = ()) -> _Network:
    """Read the arrays, as float32.

    Raises:
        WeightsError: a value is not a number, infinite, or a negative variance; all such arrays are listed.
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
                f"not finite: {name} has {np.count_nonzero(~np.isfinite(params[name]))} values that are no numbers"
            )
        elif name.endswith("/moving_variance") and (params[name] < 0).any():
            wrong.append(f"negative: {name} has variances down to {params[name].min():g}")
    if wrong:
        raise WeightsError(_misfit(graph, wrong, "damaged values"))
    cast = ", ".join(sorted(dtypes - {"float32"}))
    notes = (*notes, f"{cast} weights were cast to float32") if cast else tuple(notes)
    return _Network(graph, {name: params[name] for name in graph.param_shapes}, matched_by, known, notes)
