"""The commands on a network with several outputs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npmobilenet.models.model import Model
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Conv2D, Dense, GlobalAveragePooling2D, Input
from tests.helpers.command_line import document, run
from tests.helpers.networks import random_params

LAYERS = (
    Input(name="x", shape=(16, 16, 3)),
    Conv2D(name="conv", inputs=("x",), filters=8, kernel_size=(3, 3), activation="relu"),
    GlobalAveragePooling2D(name="pool", inputs=("conv",)),
    Dense(name="age", inputs=("pool",), units=1),
    Dense(name="gender", inputs=("pool",), units=2, activation="softmax"),
)
FACES = Graph("faces", LAYERS, (("age", "age"), ("gender", "gender")))
UNCLEAR = Graph("faces", (*LAYERS, Dense(name="mood", inputs=("pool",), units=3, activation="softmax")),
                (*FACES.outputs, ("mood", "mood")))  # fmt: skip


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "face.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    return path


def saved(graph: Graph, folder: Path) -> Path:
    path = folder / "faces.safetensors"
    Model(graph, random_params(graph, 0)).save(path)
    return path


def test_classify_takes_the_only_softmax_and_says_so(image: Path, tmp_path: Path) -> None:
    result = run("classify", image, "-m", saved(FACES, tmp_path), "--json")
    assert "classes from output gender of age, gender; --output chooses another" in result.stderr
    ((gender,),) = [[found["predictions"]] for found in document(result)]
    assert [len(gender), sum(found["probability"] for found in gender)] == [2, pytest.approx(1)]


def test_classify_asks_where_it_is_not_clear_and_names_all_outputs(image: Path, tmp_path: Path) -> None:
    model = saved(UNCLEAR, tmp_path)
    outputs = "age (1,), gender (2,), mood (3,)"
    words = f"faces has 3 outputs, it is not clear which holds classes: {outputs}; --output NAME chooses one"
    assert document(run("classify", image, "-m", model, "--json"), 1)["error"] == words
    result = run("classify", image, "-m", model, "--output", "mood", "--json")
    assert "output" not in result.stderr
    assert len(document(result)[0]["predictions"]) == 3
    wrong = run("classify", image, "-m", model, "--output", "moods", "--json")
    assert document(wrong, 1)["error"] == "faces: unknown output 'moods'; outputs: age, gender, mood"


def test_class_names_are_those_of_the_chosen_output(image: Path, tmp_path: Path) -> None:
    (tmp_path / "moods.txt").write_text("sad\nfine\nglad\n")
    model = saved(UNCLEAR, tmp_path)
    arguments = ("classify", image, "-m", model, "--labels", tmp_path / "moods.txt", "--json", "--output")
    found = document(run(*arguments, "mood"))[0]["predictions"]
    assert {one["label"] for one in found} == {"sad", "fine", "glad"}
    assert "3 names, but faces has 2 classes" in document(run(*arguments, "gender"), 1)["error"]


def test_the_other_commands_read_such_a_file(image: Path, tmp_path: Path) -> None:
    model = saved(FACES, tmp_path)
    verified = document(run("verify", model, "--backend", "compiled", "--json"))
    assert (verified["same"], verified["self_check"]["checked"]) == (True, 5)
    assert document(run("cost", model, "--json"))["outputs"] == {"age": [1], "gender": [2]}
    assert "age (1,), gender (2,)" in run("cost", model).stdout
    assert document(run("memory", model, "--policy", "free", "--json"))["outputs"] == {"age": "age", "gender": "gender"}
    assert [row["name"] for row in document(run("bounds", image, "-m", model, "--json"))["layers"]][-2:] == [
        "age",
        "gender",
    ]
    assert run("trace", image, "-m", model, "-o", tmp_path / "pack").exit_code == 0
    manifest = json.loads((tmp_path / "pack" / "manifest.json").read_text())
    assert manifest["graph"]["outputs"] == {"age": "age", "gender": "gender"}
    dump = tmp_path / "pack" / "npz" / "outputs.npz"
    assert run("compare", "-m", model, "-i", image, dump).exit_code == 0
    assert run("features", image, "-m", model, "-o", tmp_path / "rows.npy").exit_code == 0
    assert np.load(tmp_path / "rows.npy").shape == (1, 8)


def test_compare_takes_a_dump_by_the_names_of_the_outputs(image: Path, tmp_path: Path) -> None:
    graph = Graph("faces", LAYERS, (("years", "age"), ("sex", "gender")))
    path = saved(graph, tmp_path)
    model = Model.open(path)
    y = model.predict(image, backend="reference")
    dump = tmp_path / "dump.npz"
    for scale, exit_code, wrong in ((1, 0, []), (1.1, 1, ["age"])):
        np.savez(dump, sex=y["sex"], years=scale * y["years"])
        found = document(run("compare", "-m", path, "-i", image, dump, "--json"), exit_code)
        assert [row["layer"] for row in found["layers"] if row["status"] == "wrong"] == wrong
        assert [row["layer"] for row in found["layers"] if row["status"] != "missing"] == ["age", "gender"]


def test_convert_names_the_outputs(tmp_path: Path, keras: Any) -> None:
    image = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(image)
    heads = [keras.layers.Dense(2, name=name)(x) for name in ("age", "gender")]
    keras.Model(image, heads).save(tmp_path / "faces.keras")
    found = document(run("convert", tmp_path / "faces.keras", "-o", tmp_path / "faces.safetensors", "--json"))
    assert found["outputs"] == "age, gender"
    assert found["engine"].startswith("all 3 results within rounding of the reference")
