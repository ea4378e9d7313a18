"""A TensorFlow Lite file to a model: a quantized one to a `QuantizedModel`."""

from hashlib import sha256
from pathlib import Path

from npmobilenet.errors import ArgumentError, WeightsError
from npmobilenet.models.class_names import LabelsLike, class_count, with_labels
from npmobilenet.models.labels import imagenet_labels
from npmobilenet.models.preprocessing import Scaling
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.quantized.consistency import check_network
from npmobilenet_weights_convert.keras_file import ZIP_MAGIC
from npmobilenet_weights_convert.recognize import IMAGENET_CLASSES
from npmobilenet_weights_convert.teachable_machine import TEACHABLE_MACHINE_NOTES, TEACHABLE_MACHINE_RESIZE
from npmobilenet_weights_convert.tflite_export import is_tflite_export, open_export
from npmobilenet_weights_convert.tflite_file import IDENTIFIER, read_tflite


def is_tflite(path: Path) -> bool:
    """Whether a file is a TensorFlow Lite file, by its first bytes, or an archive with one."""
    with path.open("rb") as file:
        return file.read(8)[4:] == IDENTIFIER or is_tflite_export(path)


def read_tflite_model(
    path: Path, data: bytes, *, scaling: Scaling | None, labels: LabelsLike | None, resize: str | None
) -> QuantizedModel:
    """Read a TensorFlow Lite file, or an export of Teachable Machine with one.

    Args:
        path: the file, for its name.
        data: its contents.
        scaling: from pixels in 0..255 to the real numbers of the input; by default the integers are the pixels.
        labels: one per class; by default those of an export, or the ImageNet classes of a network with 1000 or, with a
            background, 1001.
        resize: how images are resized; by default the rule of its sample script for an export, "crop" with ImageNet's
            classes, else None: not known.

    Raises:
        WeightsError: the file is corrupt or not supported.
    """
    source = {"file": path.name, "sha256": sha256(data).hexdigest(), "matched_by": "TensorFlow Lite operators"}
    own_labels: LabelsLike | None = None
    is_export = data.startswith(ZIP_MAGIC)
    if is_export:
        data, own_labels = open_export(path, data)
        source["resize"] = TEACHABLE_MACHINE_NOTES["resize"]
    try:
        network = read_tflite(data, path.stem)
        check_network(network)
        model = QuantizedModel(network, scaling, source=source)  # type: ignore[arg-type]
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    classes = _classes(model)
    background = classes == IMAGENET_CLASSES + 1
    if classes - background == IMAGENET_CLASSES:
        model = model.changed(labels=imagenet_labels(), background=background, resize="crop")
    if is_export:
        model = model.changed(resize=TEACHABLE_MACHINE_RESIZE)
    if resize is not None:
        model = model.changed(resize=resize)
    labels = own_labels if labels is None else labels
    return model if labels is None else with_labels(model, labels)


def _classes(model: QuantizedModel) -> int:
    """Number of classes; 0 if the network has no classifier, or it is not clear which output holds classes."""
    try:
        return class_count(model.interface) if all(map(len, model.interface.output_shapes.values())) else 0
    except ArgumentError:
        return 0
