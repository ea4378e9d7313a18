"""TensorFlow Lite Metadata: class names, and how pixels are normalized.

The metadata is a FlatBuffer of its own in a buffer of the model. The label file that it names is in a zip archive that
is appended to the model, so that the file is both.

Source: TensorFlow Lite Support's `metadata_schema.fbs`, version 1.5.
"""

import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from npmobilenet.errors import WeightsError
from npmobilenet.models.label_file import MAX_BYTES, parse_labels
from npmobilenet.models.labels import Label
from npmobilenet.models.preprocessing import Scaling
from npmobilenet_weights_convert.flatbuffer import Table, root
from npmobilenet_weights_convert.keras_file import corruption_reported, read_member

NAME = "TFLITE_METADATA"
IDENTIFIER = b"M001"
NORMALIZATION = 1  # of the union ProcessUnitOptions
LABELS_OF_AXIS = 2  # of the enumeration AssociatedFileType


@dataclass(frozen=True)
class Metadata:
    """What a file says about itself.

    Args:
        scaling: from pixels in 0..255 to the real numbers of the input; None if it is not said.
        labels: class names, in the order of the output; None if there are none.
    """

    scaling: Scaling | None = None
    labels: list[str | Label] | None = None


def read_metadata(path: Path, data: bytes) -> Metadata:
    """The metadata of a file; empty if it has none.

    Args:
        path: the file, for messages.
        data: its contents.

    Raises:
        WeightsError: the metadata is damaged.
        LabelFileError: the label file cannot be read.
    """
    described = _described(data)
    if described is None:
        return Metadata()
    subgraphs = described.tables(3)
    inputs, outputs = (subgraphs[0].tables(slot) for slot in (2, 3)) if subgraphs else ((), ())
    files = [file.string(0) for output in outputs for file in output.tables(6) if file.number(2, "b") == LABELS_OF_AXIS]
    return Metadata(_normalization(inputs[0]) if inputs else None, _labels(path, data, files[0]) if files else None)


def _described(data: bytes) -> Table | None:
    """The root of the metadata."""
    model = root(data)
    buffers = model.tables(4)
    for entry in model.tables(6):
        number = entry.number(1, "I")
        if entry.string(0) != NAME:
            continue
        if number >= len(buffers):
            raise WeightsError(f"the metadata is in buffer {number} of {len(buffers)}")
        content = buffers[number].numbers(0, "u1").tobytes()
        return root(content) if content[4:8] == IDENTIFIER else None
    return None


def _normalization(image: Table) -> Scaling | None:
    """(pixel - mean) / std of an input, with one number each or one per channel."""
    for unit in image.tables(4):
        options = unit.table(1)
        if unit.number(0, "B") != NORMALIZATION or options is None:
            continue
        mean, std = options.numbers(0, "f4").astype(float).tolist(), options.numbers(1, "f4").astype(float).tolist()
        if not mean or len(mean) != len(std) or 0 in std:
            raise WeightsError(f"the metadata normalizes by mean {mean} and standard deviation {std}")
        if len(set(mean)) == len(set(std)) == 1:
            return Scaling(1 / std[0], -mean[0] / std[0])
        return Scaling(tuple(1 / s for s in std), tuple(-m / s for m, s in zip(mean, std, strict=True)))
    return None


def _labels(path: Path, data: bytes, name: str) -> list[str | Label] | None:
    """The names in a file of the appended archive; None if it is not there."""
    if not zipfile.is_zipfile(BytesIO(data)):
        return None
    with corruption_reported(str(path)), zipfile.ZipFile(BytesIO(data)) as archive:
        if name not in archive.namelist():
            return None
        return parse_labels(path / name, read_member(archive, archive.getinfo(name), MAX_BYTES))
