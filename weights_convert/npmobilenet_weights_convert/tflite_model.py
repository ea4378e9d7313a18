"""A TensorFlow Lite file to a model: a float one to a `Model`, a quantized one to a `QuantizedModel`.

A detector becomes a `Detector` or a `QuantizedDetector` (`tflite_detector`).
"""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from npmobilenet.errors import ArgumentError, LabelFileError, ShapeError
from npmobilenet.models.class_names import LabelsLike, class_count
from npmobilenet.models.detects import Detects, relabeled
from npmobilenet.models.image_model import ImageModel
from npmobilenet.models.labels import imagenet_labels
from npmobilenet.models.model import Model
from npmobilenet.models.opening import Loaded
from npmobilenet.models.preprocessing import SYMMETRIC, Scaling, choose_scaling
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.quantized.consistency import check_network
from npmobilenet.quantized.tensors import Network
from npmobilenet_weights_convert.assumptions import LOGITS, unspecified_range
from npmobilenet_weights_convert.keras_file import ZIP_MAGIC, corruption_reported
from npmobilenet_weights_convert.recognize import IMAGENET_CLASSES
from npmobilenet_weights_convert.teachable_machine import TEACHABLE_MACHINE_NOTES, TEACHABLE_MACHINE_RESIZE
from npmobilenet_weights_convert.tflite_detector import as_detector
from npmobilenet_weights_convert.tflite_export import is_tflite_export, open_export
from npmobilenet_weights_convert.tflite_file import IDENTIFIER, read_tflite
from npmobilenet_weights_convert.tflite_graph import network_graph
from npmobilenet_weights_convert.tflite_metadata import Metadata, read_metadata

UNNAMED = "main"


def is_tflite(path: Path) -> bool:
    """Whether a file is a TensorFlow Lite file, by its first bytes, or an archive with one."""
    with path.open("rb") as file:
        return file.read(8)[4:] == IDENTIFIER or is_tflite_export(path)


def read_tflite_model(
    path: Path, data: bytes, *, scaling: Scaling | None, labels: LabelsLike | None, resize: str | None
) -> Loaded:
    """Read a TensorFlow Lite file, or an export of Teachable Machine with one.

    Args:
        path: the file, for its name.
        data: its contents.
        scaling: from pixels in 0..255 to the real numbers of the input. By default, of a quantized network, the one for
            which its integers are the pixels, as everything that runs such files has it; of a float network the one of
            the file's metadata, else the network's own Rescaling, else [-1, 1], which is reported as an assumption.
        labels: one per class; by default those of the export or of the metadata, or the ImageNet classes of a network
            with 1000 or, with a background, 1001.
        resize: how images are resized; by default the rule of its sample script for an export, "crop" with
            ImageNet's number of classes, else None: not known.

    Raises:
        WeightsError: the file is corrupt or not supported.
        LabelFileError, ShapeError: the labels do not fit.
    """
    source = {"file": path.name, "sha256": sha256(data).hexdigest(), "matched_by": "TensorFlow Lite operators"}
    own_labels: LabelsLike | None = None
    is_export = data.startswith(ZIP_MAGIC)
    if is_export:
        data, own_labels = open_export(path, data)
        source["resize"] = TEACHABLE_MACHINE_NOTES["resize"]
    with corruption_reported(str(path)):
        network = _named(read_tflite(data, path.stem), path.stem)
        check_network(network, takes_image=True)
        metadata = read_metadata(path, data)
        if network.is_quantized:
            scaling = scaling or _by_channel(metadata)
            model: Loaded = QuantizedModel(network, scaling, source=source)  # type: ignore[arg-type]
        else:
            model = _float_model(network, scaling, metadata, source, is_export)
        model = as_detector(model, network)
    if _gives_logits(model):
        model = model.changed(source={**model.source, "notes": LOGITS})
    resize = resize or (TEACHABLE_MACHINE_RESIZE if is_export else None)
    named = _with_own_labels(model.changed(resize=resize), own_labels or metadata.labels)
    return named if labels is None else relabeled(named, labels)


def _named(network: Network, file: str) -> Network:
    """A network with the name of its file, if its own is the one that TensorFlow gives to every network."""
    return replace(network, name=file) if network.name == UNNAMED else network


def _by_channel(metadata: Metadata) -> Scaling | None:
    """The normalization in the metadata if channels differ in it, so that the input's integers cannot be the pixels."""
    scaling = metadata.scaling
    return scaling if scaling is not None and isinstance(scaling.scale, tuple) else None


def _float_model(
    network: Network, scaling: Scaling | None, metadata: Metadata, source: dict[str, str], is_export: bool
) -> Model:
    graph, params = network_graph(network)
    scaling = scaling or metadata.scaling
    if scaling is None:
        scaling = choose_scaling(graph)
        if is_export:
            source = source | {"range": TEACHABLE_MACHINE_NOTES["range"]}
        elif scaling == SYMMETRIC:
            source = source | {"assumed_range": unspecified_range("[-1, 1]")}
    return Model(graph, params, scaling, source=source)


def _gives_logits(model: ImageModel) -> bool:
    """Whether the only output is a vector without a softmax or sigmoid."""
    activations = list(model.interface.output_activations.values())
    return _classes(model) > 0 and len(activations) == 1 and activations[0] not in ("softmax", "sigmoid")


def _with_own_labels(model: Loaded, labels: LabelsLike | None) -> Loaded:
    """A model with the labels of its file, or ImageNet's, if they fit, and with the resize that goes with ImageNet."""
    classes = _classes(model)
    background = classes == IMAGENET_CLASSES + 1
    if classes - background == IMAGENET_CLASSES:
        model = model.changed(labels=imagenet_labels(), background=background, resize=model.resize or "crop")
    try:
        has_classes = classes or isinstance(model, Detects)
        return model if labels is None or not has_classes else relabeled(model, labels)
    except (LabelFileError, ShapeError):
        return model


def _classes(model: ImageModel) -> int:
    """Number of classes; 0 if the network has no classifier, or it is not clear which output holds classes."""
    try:
        return class_count(model.interface) if all(map(len, model.interface.output_shapes.values())) else 0
    except ArgumentError:
        return 0
