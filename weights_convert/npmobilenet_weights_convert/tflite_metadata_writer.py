"""A quantized model as a `.tflite` with metadata: how pixels are scaled, and the names of the classes.

The metadata is a FlatBuffer of its own in one of the file's buffers; the names are a text file in a zip archive that
follows the network, where tools for Android and others look for them.

Source: TensorFlow Lite Support's `metadata_schema.fbs`, version 1.0.
"""

import zipfile
from collections.abc import Sequence
from io import BytesIO
from typing import cast

import numpy as np

from npmobilenet.models.labels import Label
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet_weights_convert.flatbuffer_writer import Fields, Nodes, Number, Numbers, Text, flatbuffer
from npmobilenet_weights_convert.tflite_writer import WRITER, tflite_bytes

IDENTIFIER = b"M001"
PARSER = "1.0.0"  # the least version of a parser that understands it
LABEL_FILE, BACKGROUND = "labels.txt", "background"
IMAGE_PROPERTIES, NORMALIZATION, AXIS_LABELS = 2, 1, 2  # numbers of types in the format
COLOR_SPACES = {3: 1, 1: 2}  # by channels: RGB, gray


def tflite_with_metadata(model: QuantizedModel) -> bytes:
    """The contents of a `.tflite` file.

    Raises:
        WeightsError: as `tflite_bytes`.
    """
    names = _class_names(model)
    data = tflite_bytes(model.network, flatbuffer(_model(model, has_names=bool(names)), IDENTIFIER))
    return _with_file(data, LABEL_FILE, "".join(f"{name}\n" for name in names)) if names else data


def _class_names(model: QuantizedModel) -> Sequence[str]:
    """A name for each value of the only output; none if the model has no names for them."""
    names = [label for _, label in cast("Sequence[Label]", model.labels)]
    names = [BACKGROUND, *names] if names and model.background else names
    shapes = list(model.interface.output_shapes.values())
    return names if shapes == [(len(names),)] else []


def _model(model: QuantizedModel, *, has_names: bool) -> Fields:
    network = model.network
    outputs = [Fields({0: Text(network.tensors[number].name), **_labeled(has_names)}) for number in network.outputs]
    graph = Fields({2: Nodes([_image(model)]), 3: Nodes(outputs)})
    return Fields({0: Text(network.name), 1: Text(f"Written by {WRITER}."), 3: Nodes([graph]), 7: Text(PARSER)})


def _labeled(has_names: bool) -> dict[int, Nodes]:
    return {6: Nodes([Fields({0: Text(LABEL_FILE), 2: Number("b", AXIS_LABELS)})])} if has_names else {}


def _image(model: QuantizedModel) -> Fields:
    """The input: an image, normalized as (pixel - mean) / std."""
    image, C = model.network.input, model.network.input.shape[-1]
    scale, offset = (
        np.broadcast_to(value, C).astype(np.float64) for value in (model.scaling.scale, model.scaling.offset)
    )
    normalization = Fields(
        {0: Numbers((-offset / scale).astype(np.float32)), 1: Numbers((1 / scale).astype(np.float32))}
    )
    properties = Fields({0: Number("b", COLOR_SPACES.get(C, 0))})
    return Fields({
        0: Text(image.name),
        3: Fields({0: Number("B", IMAGE_PROPERTIES), 1: properties}),
        4: Nodes([Fields({0: Number("B", NORMALIZATION), 1: normalization})]),
    })  # fmt: skip


def _with_file(data: bytes, name: str, text: str) -> bytes:
    """Data followed by a zip archive with one file, of no date."""
    content = BytesIO(data)
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), text)
    return content.getvalue()
