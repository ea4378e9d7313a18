"""A file of a MobileNet to a `Model`: Keras, Teachable Machine, TensorFlow.js, PyTorch, ONNX or TensorFlow Lite."""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from npmobilenet.analysis.engine_check import ByteEngineCheck, EngineCheck
from npmobilenet.errors import ArgumentError, NpMobileNetError, WeightsError
from npmobilenet.models.class_names import LabelsLike, class_output, with_labels
from npmobilenet.models.labels import Label, imagenet_labels
from npmobilenet.models.model import Model
from npmobilenet.models.opening import Loaded, open_stored
from npmobilenet.models.preprocessing import PLAUSIBLE, SYMMETRIC, UNIT, Scaling, choose_scaling
from npmobilenet.reference.graph import Graph
from npmobilenet_weights_convert.assumptions import precision_notes, with_hidden_activation
from npmobilenet_weights_convert.keras_file import Contents, is_safetensors, read_bytes
from npmobilenet_weights_convert.model_export import open_model
from npmobilenet_weights_convert.network_in_file import FileNetwork, network_in_file
from npmobilenet_weights_convert.onnx_file import is_onnx
from npmobilenet_weights_convert.onnx_model import read_onnx_model
from npmobilenet_weights_convert.recognize import IMAGENET_CLASSES
from npmobilenet_weights_convert.teachable_machine import (
    TEACHABLE_MACHINE_NOTES,
    TEACHABLE_MACHINE_RESIZE,
    is_teachable_machine,
)
from npmobilenet_weights_convert.tflite_model import is_tflite, read_tflite_model
from npmobilenet_weights_convert.torch_file import is_torch_file
from npmobilenet_weights_convert.torch_model import read_torch_model

OTHER_FORMATS = ((is_torch_file, read_torch_model), (is_onnx, read_onnx_model), (is_tflite, read_tflite_model))


def read_model(
    source: str | PathLike[str],
    *,
    graph: Graph | None = None,
    hidden_activation: str | None = None,
    scaling: Scaling | None = None,
    labels: LabelsLike | None = None,
    resize: str | None = None,
) -> Model | Any:
    """Read a Keras file: weights in the layout of Keras Applications, or a model as `.h5`, `.weights.h5` or `.keras`.

    Also TensorFlow.js layers models (the folder, or its model.json), the zip archives of Teachable Machine with their
    class names, PyTorch state dicts of torchvision and timm (`torch_model`), ONNX files (`onnx_model`), and TensorFlow
    Lite files (`tflite_model`). A `.safetensors` of this package is opened as it is.

    Args:
        source: the file or folder; its format is determined by its first bytes, not by its name.
        graph: the network of the weights. By default the file's own config, unless it is a keras.applications network,
            for which `architectures` takes precedence; for weights without a config, the network that fits them.
        hidden_activation: with a `graph` of V1 or V2, the activation in place of its ReLU6: "relu6" or "relu".
        scaling: from pixels in 0..255 to the network's input; by default, see `choose_scaling`.
        labels: one per class, a name or a (wnid, name) pair, or a label file (`read_labels`); by default the ImageNet
            classes for a keras.applications network with 1000 outputs.
        resize: how images are resized, a name in `resizing.RESIZES`; by default "crop" for a network with ImageNet's
            classes, the rule of its sample script for a Teachable Machine export, and else None: not known.

    Returns:
        The model; of a quantized file a `QuantizedModel`. `source["matched_by"]` is how names were matched,
        `source["notes"]` what to know about the model, `source["range"]` and `source["resize"]` what was chosen for
        pixels, unless the caller specified it, `source["assumed"]` the assumptions about facts that the file does not
        specify, until they are confirmed by a graph, and `source["given"]` these facts as specified by the graph.

    Raises:
        WeightsError: the file cannot be read, or does not fit; the message lists every wrong array or layer.
        ArgumentError: `hidden_activation` without `graph`.
        ShapeError: the graph has no hidden activation that can be replaced, or the labels do not fit.
        LabelFileError: the label file cannot be read, or does not fit.
    """
    if hidden_activation is not None:
        if graph is None:
            raise ArgumentError("hidden_activation requires graph")
        graph = with_hidden_activation(graph, hidden_activation)
    path = Path(source)
    for is_format, read in OTHER_FORMATS if path.is_file() else ():
        if is_format(path):
            if graph is not None:
                raise WeightsError(f"{path}: the file specifies its own network; leave out --arch and graph")
            return read(path, read_bytes(path), scaling=scaling, labels=labels, resize=resize)
    if is_safetensors(path):
        return open_stored(path)
    return _read_keras(path, graph, hidden_activation is not None, scaling, labels, resize)


def _read_keras(
    path: Path,
    graph: Graph | None,
    hidden_activation_given: bool,
    scaling: Scaling | None,
    labels: LabelsLike | None,
    resize: str | None,
) -> Model:
    with open_model(path) as (contents, own_labels):
        labels = own_labels if labels is None else labels
        network = network_in_file(contents, graph, hidden_activation_given=hidden_activation_given)
        published, background = _published_labels(network)
        origin = _origin(path, contents, network)
        is_teachable = is_teachable_machine(contents.config)
        if scaling is None:
            scaling = choose_scaling(network.graph)
            trained_by_keras = network.known and (bool(published) or not _has_classifier(network.graph))
            note = TEACHABLE_MACHINE_NOTES["range"] if is_teachable else _scaling_note(scaling, trained_by_keras)
            origin |= {"range": note} if note else {}
        if resize is None:
            resize = TEACHABLE_MACHINE_RESIZE if is_teachable else "crop" if published else None
            origin |= {"resize": TEACHABLE_MACHINE_NOTES["resize"]} if is_teachable else {}
        model = Model(network.graph, network.params, scaling, published, background, origin, resize=resize)
        return model if labels is None else with_labels(model, labels)


def _origin(path: Path, contents: Contents, network: FileNetwork) -> dict[str, str]:
    """What `Model.source` states of a Keras file."""
    origin = {"file": path.name, "sha256": contents.sha256, "keras_version": contents.keras_version}
    origin |= {"matched_by": network.matched_by}
    notes = [*network.notes, *precision_notes(contents.config)]
    sentences = {"notes": notes, "assumed": network.assumed, "given": filter(None, [network.given])}
    return origin | {name: text for name, lines in sentences.items() if (text := "; ".join(lines))}


def _has_classifier(graph: Graph) -> bool:
    """Whether anything comes after the vector that summarizes the image."""
    return graph.embedding is not None and graph.output_layers != (graph.embedding,)


def _scaling_note(scaling: Scaling, trained_by_keras: bool) -> str:
    """The note on a scaling that the file does not specify; "" if it does, or if Keras's own weights do."""
    if scaling == SYMMETRIC and not trained_by_keras:
        return "the file does not specify how pixels are scaled; [-1, 1] is assumed (--range changes it)"
    if scaling == UNIT:
        return (
            f"the network's Rescaling would map pixels in 0..255 beyond [-{PLAUSIBLE:g}, {PLAUSIBLE:g}]; "
            "input in 0..1 is assumed"
        )
    return ""


def _published_labels(network: FileNetwork) -> tuple[Sequence[str | Label], bool]:
    """(labels, whether output 0 is a background class) of a network without labels of its own."""
    try:
        shape = network.graph.output_shapes[class_output(network.graph)]
    except ArgumentError:
        return (), False
    outputs = shape[-1] if len(shape) == 1 else 0
    background = network.known and outputs == IMAGENET_CLASSES + 1
    return (imagenet_labels() if network.known and outputs - background == IMAGENET_CLASSES else ()), background


def convert_file(
    source: str | PathLike[str],
    destination: str | PathLike[str],
    *,
    graph: Graph | None = None,
    hidden_activation: str | None = None,
    scaling: Scaling | None = None,
    labels: LabelsLike | None = None,
    resize: str | None = None,
    engine_check: Callable[[Model | Any], EngineCheck | ByteEngineCheck] | None = None,
) -> Model | Any:
    """Convert a Keras file to a `.safetensors` file with a self-check, atomically.

    Args:
        source, graph, hidden_activation, scaling, labels, resize: as for `read_model`.
        destination: output path.
        engine_check: compares the compiled engine with the reference (`analysis.engine_check.check_engine`); its
            result is recorded as `source["engine"]`, and as a note if they differ.

    Raises:
        WeightsError: the source cannot be read, or does not fit; nothing is written.
        OSError: the destination is not writable.
    """
    model = read_model(
        source, graph=graph, hidden_activation=hidden_activation, scaling=scaling, labels=labels, resize=resize
    )
    if engine_check is not None:
        model = model.changed(source=_with_engine_check(model, engine_check))
    model.save(destination)
    return model


def _with_engine_check(
    model: Loaded, engine_check: Callable[[Model | Any], EngineCheck | ByteEngineCheck]
) -> dict[str, str]:
    """The model's source with the result of its engine check, or the reason why there is none."""
    try:
        check = engine_check(model)
    except NpMobileNetError as error:
        return {**model.source, "engine": f"not checked: {error}"}
    source = {**model.source, "engine": str(check)}
    if not check.passed:
        notes = (model.source.get("notes"), f"compiled backend: {check}; use the reference backend")
        source["notes"] = "; ".join(filter(None, notes))
    return source
