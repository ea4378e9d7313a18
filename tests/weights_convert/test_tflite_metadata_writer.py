"""Metadata of `.tflite` files: how pixels are scaled, and the names of the classes."""

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from npmobilenet_weights_convert import flatbuffer, read_model
from npmobilenet_weights_convert.tflite_metadata_writer import tflite_with_metadata

from npmobilenet.architectures import mobilenet_v1
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, TORCH, UNIT, Scaling
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.models.quantizing import quantize_model
from tests.helpers.images import random_pixels
from tests.helpers.networks import random_params


def quantized_model(
    scaling: Scaling = UNIT, labels: tuple[str, ...] = (), *, background: bool = False, classes: int = 3
) -> QuantizedModel:
    """A small network."""
    activation = "sigmoid" if classes == 1 else "softmax"
    graph = mobilenet_v1(alpha=0.25, resolution=32, classes=classes, classifier_activation=activation)
    model = Model(graph, random_params(graph, 0), scaling, labels, background)
    result = quantize_model(model, [random_pixels(32, 32)])
    return QuantizedModel(result.network, result.scaling, model.labels, background)


def metadata(data: bytes) -> flatbuffer.Table:
    """The metadata of a file, found as the format says."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    (entry,) = model.metadata
    assert entry.name == b"TFLITE_METADATA"
    content = bytes(model.buffers[entry.buffer].data)
    assert content[4:8] == b"M001"
    return flatbuffer.root(content)


def normalization(data: bytes) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the input."""
    (graph,) = metadata(data).tables(3)
    (image,) = graph.tables(2)
    (unit,) = image.tables(4)
    assert unit.number(0, "B") == 1
    options = unit.table(1)
    assert options is not None
    mean, std = options.numbers(0, "f4"), options.numbers(1, "f4")
    return mean.tolist(), std.tolist()


def label_files(data: bytes) -> dict[str, str]:
    """Files that the output's metadata name, from the archive after the network."""
    (graph,) = metadata(data).tables(3)
    (output,) = graph.tables(3)
    assert all(entry.number(2, "b") == 2 for entry in output.tables(6))
    names = [entry.string(0) for entry in output.tables(6)]
    if not names:
        return {}
    with zipfile.ZipFile(BytesIO(data)) as archive:
        return {name: archive.read(name).decode() for name in names}


def test_labels_follow_the_network() -> None:
    data = tflite_with_metadata(quantized_model(labels=("cat", "dog", "Ente")))
    assert label_files(data) == {"labels.txt": "cat\ndog\nEnte\n"}
    assert data == tflite_with_metadata(quantized_model(labels=("cat", "dog", "Ente"))), "no file has a date"


@pytest.mark.parametrize("scaling", [UNIT, TORCH])
def test_the_model_that_is_read_back_predicts_the_same(scaling: Scaling, tmp_path: Path) -> None:
    model = quantized_model(scaling, ("cat", "dog", "Ente"))
    (tmp_path / "q.tflite").write_bytes(tflite_with_metadata(model))
    again = read_model(tmp_path / "q.tflite")
    assert isinstance(again, QuantizedModel)
    assert again.labels == model.labels
    np.testing.assert_allclose(again.scaling.scale, model.scaling.scale, rtol=1e-6)
    images = np.stack([random_pixels(32, 32, seed) for seed in range(3)])
    assert np.array_equal(again.scale(images), model.scale(images))
    assert np.array_equal(again.predict_integers(images), model.predict_integers(images))


def test_the_background_has_a_line_of_its_own() -> None:
    data = tflite_with_metadata(quantized_model(labels=("cat", "dog"), background=True))
    assert label_files(data) == {"labels.txt": "background\ncat\ndog\n"}


@pytest.mark.parametrize(("labels", "classes"), [((), 3), (("no", "yes"), 1)])
def test_without_a_label_for_each_value_there_is_no_file(labels: tuple[str, ...], classes: int) -> None:
    data = tflite_with_metadata(quantized_model(labels=labels, classes=classes))
    assert label_files(data) == {}
    assert not zipfile.is_zipfile(BytesIO(data))


def test_pixels_are_normalized_by_channel() -> None:
    mean, std = normalization(tflite_with_metadata(quantized_model(TORCH)))
    np.testing.assert_allclose(mean, 255 * np.array(IMAGENET_MEAN), rtol=1e-6)
    np.testing.assert_allclose(std, 255 * np.array(IMAGENET_STD), rtol=1e-6)


@pytest.mark.parametrize("scaling", [UNIT, TORCH, Scaling(1 / 127.5, -1.0)])
def test_litert_runs_the_file_as_the_metadata_say(scaling: Scaling) -> None:
    """(p - mean) / std, quantized by the input's own numbers, is what the model makes of pixels."""
    model = quantized_model(scaling, ("a", "b", "c"))
    data = tflite_with_metadata(model)
    mean, std = normalization(data)
    pixels = random_pixels(32, 32, 1)[None]
    x = model.network.input.quantize((pixels - np.array(mean, np.float32)) / np.array(std, np.float32))
    off = np.abs(x.astype(int) - model.scale(pixels))
    assert off.max() <= 1
    assert (off > 0).mean() < 0.01, "but for ties"
    interpreter: Any = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], model.scale(pixels))
    interpreter.invoke()
    assert interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).shape == (1, 3)
