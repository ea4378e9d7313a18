"""Teachable Machine's archives and TensorFlow.js layers models equal Keras on the same arrays."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_weights_convert import read_model

from npmobilenet.errors import WeightsError
from npmobilenet.hub.load import load
from tests.helpers.keras_files import Twin, twin
from tests.helpers.teachable_machine import LABELS, teachable_machine
from tests.helpers.tfjs_files import all_layers, write_tfjs
from tests.helpers.tolerances import rounding


@pytest.fixture(scope="module")
def theirs(tf_keras: Any) -> Twin:
    return twin(teachable_machine(tf_keras), pixels=False)


def dequantized(values: Any, stored: str) -> Any:
    """What the stored form of an array stands for, in float32."""
    if stored == "float16":
        return values.astype(np.float16).astype(np.float32)
    if stored == "float32":
        return values
    steps = {"uint8": 255, "uint16": 65535}[stored]
    low, high = float(values.min()), float(values.max())
    scale = (high - low) / steps or 1.0
    return (np.round((values.astype(np.float64) - low) / scale) * scale + low).astype(np.float32)


@pytest.mark.parametrize("shard", [1 << 22, 100_003], ids=["one shard", "many shards"])
@pytest.mark.parametrize("stored", ["float32", "float16", "uint8", "uint16"])
def test_a_tensorflow_js_model_equals_keras(theirs: Twin, tmp_path: Path, stored: str, shard: int) -> None:
    folder = write_tfjs(theirs.model, tmp_path / "tfjs", stored=stored, shard=shard)
    model = read_model(folder)
    expected = [dequantized(array, stored) for array in theirs.arrays()]
    for ours, array in zip(model.params.values(), expected, strict=True):
        np.testing.assert_array_equal(ours, array)

    before = [layer.get_weights() for layer in all_layers(theirs.model)]
    for layer in all_layers(theirs.model):
        layer.set_weights([dequantized(array, stored) for array in layer.get_weights()])
    y = np.asarray(theirs.model(theirs.x, training=False))
    for layer, arrays in zip(all_layers(theirs.model), before, strict=True):
        layer.set_weights(arrays)
    ours = model.forward(theirs.x, backend="reference")
    np.testing.assert_allclose(ours, y, rtol=0, atol=rounding(len(model.graph.layers)) * np.abs(y).max())


def test_an_archive_of_a_tensorflow_js_export_names_its_classes(theirs: Twin, tmp_path: Path) -> None:
    folder = write_tfjs(theirs.model, tmp_path / "tfjs")
    (folder / "metadata.json").write_text(
        json.dumps({"tfjsVersion": "1.3.1", "labels": list(LABELS), "imageSize": 224})
    )
    archive = tmp_path / "tm-my-image-model.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.iterdir():
            file.write(path, path.name)
    for source in (archive, folder, folder / "model.json"):
        model = load(source)
        assert [label[1] for label in model.labels] == list(LABELS)
        np.testing.assert_array_equal(list(model.params.values())[-1], theirs.arrays()[-1])


def test_converted_keras_zip_names_its_classes(theirs: Twin, tmp_path: Path) -> None:
    path = theirs.save(tmp_path, ".h5", "keras_model")
    archive = tmp_path / "converted_keras.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(path, "keras_model.h5")
        file.writestr("labels.txt", "".join(f"{number} {name}\n" for number, name in enumerate(LABELS)))
    model = load(archive)
    assert [label[1] for label in model.labels] == list(LABELS)
    ours = model.forward(theirs.x, backend="reference")
    np.testing.assert_allclose(ours, theirs.y, rtol=0, atol=rounding(len(model.graph.layers)) * np.abs(theirs.y).max())


@pytest.mark.parametrize("path", ["../weights.bin", "/etc/passwd", "https://example.org/weights.bin", "..", ""])
def test_a_shard_outside_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(4))
    folder = tmp_path / "tfjs"
    folder.mkdir()
    weights = [{"name": "a/kernel", "shape": [1], "dtype": "float32"}]
    document = {"modelTopology": {"config": {"layers": []}}, "weightsManifest": [{"paths": [path], "weights": weights}]}
    (folder / "model.json").write_text(json.dumps(document))
    with pytest.raises(WeightsError, match="expected the name of a file in the folder"):
        read_model(folder)


def test_shards_of_another_size_than_the_manifest_are_refused(theirs: Twin, tmp_path: Path) -> None:
    folder = write_tfjs(theirs.model, tmp_path / "tfjs")
    shard = next(folder.glob("*.bin"))
    data = shard.read_bytes()
    for changed in (data[:-4], data + bytes(4)):
        shard.write_bytes(changed)
        with pytest.raises(WeightsError, match=r"tfjs: .*download"):
            read_model(folder)
    shard.unlink()
    with pytest.raises(WeightsError, match=r"group1-shard1\.bin"):
        read_model(folder)
