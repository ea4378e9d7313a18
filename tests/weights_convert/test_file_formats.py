"""Formats that are not read are refused by name, with the way on."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_weights_convert import convert_file, read_model

from npmobilenet import architectures
from npmobilenet.errors import WeightsError
from npmobilenet.hub.load import load
from tests.helpers.command_line import run
from tests.helpers.keras_files import application, twin
from tests.helpers.real_files import real_file
from tests.helpers.tolerances import rounding

TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER

FILES = {
    "torch_legacy.pth": (pickle.dumps(TORCH_MAGIC, protocol=2), "corrupt or truncated PyTorch file", ""),
    "other.pkl": (pickle.dumps({"a": 1}), "Python pickle", r"model\.keras"),
    "net.onnx": (b"\x08\x07\x12\x07pytorch:\x00", "ONNX file without a network", ""),
    "saved_model.pb": (b"\x08\x01\x12\x05" + bytes(8), "SavedModel", r"model\.keras"),
    "pointer.h5": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS", "git lfs pull"),
    "page.h5": (b"\n<!DOCTYPE html><html></html>", "web page", "download"),
    "script.h5": (b"# train\nimport keras\n", "Python script", "run it"),
    "train.ipynb": (b'{"cells": []}', "Jupyter notebook", "run it"),
    "model.json": (b'{"format": "graph-model", "modelTopology": {"node": []}}', "graph model", "layers model"),
    "config.json": (b'{"class_name": "Sequential"}', "JSON file without weights", r"model\.keras"),
    "random.h5": (b"\x93\x01\x02\xff\xfe\x00\x00\x00\x01", "unknown format", "download it again"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_format_is_named(tmp_path: Path, name: str) -> None:
    data, title, advice = FILES[name]
    path = tmp_path / name
    path.write_bytes(data)
    for reader in (read_model, load):
        with pytest.raises(WeightsError, match=f"{name}: .*{title}.*{advice}"):
            reader(path)
    with pytest.raises(WeightsError, match=title):
        convert_file(path, tmp_path / "out.safetensors")
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("member", "title"),
    [
        ("archive/data.pkl", "corrupt or truncated PyTorch file"),
        ("model/saved_model.pb", "SavedModel"),
    ],
)
def test_an_archive_of_another_format_is_named(tmp_path: Path, member: str, title: str) -> None:
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, b"")
    with pytest.raises(WeightsError, match=title):
        load(path)


@pytest.mark.parametrize(
    ("member", "title"),
    [
        ("saved_model.pb", "SavedModel"),
        ("model.ckpt.index", "TensorFlow checkpoint"),
        ("notes.txt", "a folder without a model"),
    ],
)
def test_a_folder_of_another_format_is_named(tmp_path: Path, member: str, title: str) -> None:
    (tmp_path / member).write_bytes(b"")
    with pytest.raises(WeightsError, match=title):
        load(tmp_path)


@pytest.mark.parametrize(
    ("names", "title"),
    [
        (("other_formats", "net.onnx"), "ONNX file"),
        (("other_formats", "script.h5"), "a Python script"),
        (("other_formats", "tfjs", "model.json"), r"TensorFlow\.js model without weights"),
        (("quantized_head", "model.keras"), r"quantized by Keras to int8 \(dense_18\); .*before model\.quantize"),
    ],
)
def test_the_files_of_other_formats_are_named(names: tuple[str, ...], title: str) -> None:
    with pytest.raises(WeightsError, match=title):
        read_model(real_file("cases", *names))


def test_a_lora_model_equals_keras(keras: Any, tmp_path: Path) -> None:
    """Keras stores the kernel with LoRA's update added, so the file holds a whole model."""
    network = application(keras, "v1")
    dense = keras.layers.Dense(4, name="adapted")
    model = keras.Model(network.input, dense(network.output))
    dense.enable_lora(2)
    theirs = twin(model, pixels=False)
    loaded = read_model(theirs.save(tmp_path, ".keras"))
    y = loaded.forward(theirs.x, backend="reference")
    np.testing.assert_allclose(y, theirs.y, rtol=0, atol=rounding(len(loaded.graph.layers)) * np.abs(theirs.y).max())


def test_a_misfit_is_named_in_ten_lines_and_listed_on_request(keras: Any, tmp_path: Path) -> None:
    path = twin(application(keras, "v1"), pixels=False).save(tmp_path, ".weights.h5")
    with pytest.raises(WeightsError, match=r"these are weights of mobilenet_v1, alpha 0\.25, 10 outputs") as caught:
        read_model(path, graph=architectures.mobilenet_v2(0.5))
    shown = str(caught.value).splitlines()
    assert len(shown) <= 11
    assert len(caught.value.details) > 50
    hidden = len(caught.value.details) - (len(shown) - 2)
    assert f"and {hidden} more" in shown[-1]

    arguments = ("convert", path, "--arch", "mobilenet_v2", "--alpha", "0.5", "-o", tmp_path / "out.safetensors")
    brief, verbose = run(*arguments), run(*arguments, "--verbose")
    assert len(brief.stderr.splitlines()) <= 11
    assert all(line in verbose.stderr for line in caught.value.details)
