"""Pixels and image files at the command line: Teachable Machine, ranges, resizes, directories, odd names."""

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_weights_convert import read_model
from PIL import Image, ImageOps

from npmobilenet.architectures import mobilenet_v1, mobilenet_v3_small
from npmobilenet.errors import AssumptionWarning
from npmobilenet.hub.load import load
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import SYMMETRIC, UNIT
from tests.helpers.command_line import Result, document, run
from tests.helpers.images import photo
from tests.helpers.networks import random_params
from tests.helpers.real_files import ROOT, real_file
from tests.helpers.tolerances import PROBABILITIES

DIGITS = ROOT / "examples" / "digits"
NAMES = ("Class 1", "Class 2", "Class 3")
PHOTOS = ("burger.jpg", "cat.bmp", "panda.jpg", "parrot.jpg", "sunflower.bmp")


@pytest.fixture(scope="module")
def teachable(tf_keras: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A keras_model.h5 of the structure that Teachable Machine exports, with labels.txt; and the Keras model."""
    layers = tf_keras.layers
    base = tf_keras.applications.MobileNetV2((224, 224, 3), alpha=0.35, include_top=False, weights=None)
    model = tf_keras.Sequential([
        tf_keras.Sequential([base, layers.GlobalAveragePooling2D()]),
        tf_keras.Sequential([
            layers.Dense(100, activation="relu", input_shape=(1280,)),
            layers.Dense(3, activation="softmax", use_bias=False),
        ]),
    ])  # fmt: skip
    images = np.stack([np.asarray(photo(224, 224, seed=seed)) for seed in range(4)]).astype(np.float32) / 127.5 - 1
    hidden, classifier = model.layers[1].layers
    spread = np.std(hidden(model.layers[0](images)).numpy() @ classifier.get_weights()[0], axis=0).mean()
    classifier.set_weights([classifier.get_weights()[0] / spread])  # as after training: logits that differ by image
    folder = tmp_path_factory.mktemp("converted_keras")
    with pytest.warns(UserWarning, match="HDF5"):
        model.save(folder / "keras_model.h5")
    (folder / "labels.txt").write_text("0 Class 1\n1 Class 2\n2 Class 3\n")
    with zipfile.ZipFile(folder / "converted_keras.zip", "w") as archive:
        for name in ("keras_model.h5", "labels.txt"):
            archive.write(folder / name, name)
    return folder / "keras_model.h5", model


def sample_script(model: Any, path: Path) -> Any:
    """Probabilities as the Python script computes them that Teachable Machine shows next to an export."""
    image = ImageOps.fit(Image.open(path).convert("RGB"), (224, 224), Image.Resampling.LANCZOS)
    return model.predict((np.asarray(image).astype(np.float32) / 127.5 - 1)[None], verbose=0)[0]


def found(result: Result) -> list[dict[str, float]]:
    """Probabilities by label of every image."""
    return [{p["label"]: p["probability"] for p in answer["predictions"]} for answer in document(result)]


@pytest.mark.parametrize("file", ["keras_model.h5", "converted_keras.zip"])
def test_a_teachable_machine_export_answers_as_its_sample_script(teachable: tuple[Path, Any], file: str) -> None:
    path, model = teachable[0].with_name(file), teachable[1]
    photos = [real_file("images", name) for name in PHOTOS]
    result = run("classify", *photos, "-m", path, "--backend", "reference", "--json")
    for photograph, answer in zip(photos, found(result), strict=True):
        expected = sample_script(model, photograph)
        assert answer == pytest.approx(dict(zip(NAMES, expected, strict=True)), abs=PROBABILITIES)
        assert max(answer, key=lambda label: answer[label]) == NAMES[expected.argmax()]
    lines = result.stderr.splitlines()
    assert len([line for line in lines if "Teachable Machine" in line]) == 1
    names = [f"npmobilenet: class names from {path.parent / 'labels.txt'}"] if file.endswith(".h5") else []
    assert lines[1:] == names
    loaded = read_model(path)
    assert (loaded.pixels(str(photos[0])) != loaded.pixels(str(photos[0]), resize="crop")).any()  # another rule


def test_a_converted_teachable_machine_export_keeps_its_rule(teachable: tuple[Path, Any], tmp_path: Path) -> None:
    converted = tmp_path / "mine.safetensors"
    assert run("convert", teachable[0], "-o", converted).exit_code == 0
    assert Model.open(converted).resize == "teachable-machine"
    assert run("convert", teachable[0], "-o", converted, "--force", "--resize", "keras").exit_code == 0
    assert Model.open(converted).resize == "keras"


def test_python_finds_the_names_next_to_a_model_and_reports_it(teachable: tuple[Path, Any]) -> None:
    path, model = teachable
    photograph = real_file("images", "panda.jpg")
    with pytest.warns(AssumptionWarning, match=r"class names from .*labels\.txt"):
        loaded = load(path, backend="reference")
    (_, name, probability) = loaded.classify(photograph, top=1)[0][0]
    expected = sample_script(model, photograph)
    assert name == NAMES[expected.argmax()]
    assert probability == pytest.approx(expected.max(), abs=PROBABILITIES)
    assert [label[1] for label in load(path, labels=["a", "b", "c"]).labels] == list("abc")  # given: nothing to report


def test_python_ignores_names_that_do_not_fit_and_reports_it(small_network: Path) -> None:
    model = Model.open(small_network)
    Model(model.graph, model.params).save(small_network.parent / "unnamed.safetensors")
    (small_network.parent / "labels.txt").write_text("a\nb\n")
    with pytest.warns(AssumptionWarning, match=r"labels\.txt: 2 names, but .* has 3 classes.*; ignored"):
        assert load(small_network.parent / "unnamed.safetensors").labels == ()


def test_a_note_on_an_assumption_is_omitted_once_it_is_specified(teachable: tuple[Path, Any], tf_keras: Any) -> None:
    path, _ = teachable
    photograph = real_file("images", "panda.jpg")

    def notes(file: Path, *options: object) -> str:
        result = run("classify", photograph, "-m", file, "--backend", "reference", *options)
        assert result.exit_code == 0, result.stderr
        return "".join(line for line in result.stderr.splitlines(True) if "class names" not in line)

    assert "--range changes it" in notes(path)
    assert "--resize changes it" in notes(path)
    assert "--range changes it" not in notes(path, "--range", "0..1")
    assert "sample script" in notes(path, "--range", "0..1")
    assert "sample script" not in notes(path, "--resize", "crop")
    assert notes(path, "--resize", "crop", "--range", "-1..1") == ""

    other = path.with_name("other.h5")
    layers = tf_keras.layers
    head = [layers.Conv2D(4, 3, 2, input_shape=(32, 32, 3)), layers.GlobalAveragePooling2D(), layers.Dense(3)]
    with pytest.warns(UserWarning, match="HDF5"):
        tf_keras.Sequential(head).save(other)
    assert "[-1, 1] is assumed (--range changes it)" in notes(other, "--resize", "crop")
    assert "is assumed" not in notes(other, "--resize", "crop", "--range", "0..255")
    output = path.with_name("features.npy")
    options = ("--range", "0..1", "--resize", "crop", "--backend", "reference")
    result = run("features", photograph, "-m", other, *options, "-o", output)
    assert "is assumed" not in result.stderr
    np.testing.assert_array_equal(
        np.load(output), replace(read_model(other), scaling=UNIT).features(str(photograph), backend="reference")
    )


def test_another_nested_sequential_is_no_teachable_machine_export(tf_keras: Any, tmp_path: Path) -> None:
    layers = tf_keras.layers
    base = tf_keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, include_top=False, weights=None)
    head = [layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax")]
    with pytest.warns(UserWarning, match="HDF5"):
        tf_keras.Sequential([base, *head]).save(tmp_path / "other.h5")
    result = run("classify", DIGITS / "3.png", "-m", tmp_path / "other.h5")
    assert "Teachable" not in result.stderr
    assert "the file does not specify how images are resized; crop is assumed. --resize changes it" in result.stderr


def test_the_assumed_resize_is_reported_unless_it_is_given_or_known(small_network: Path, tmp_path: Path) -> None:
    assert "crop is assumed" in run("classify", DIGITS / "3.png", "-m", small_network).stderr
    assert run("classify", DIGITS / "3.png", "-m", small_network, "--resize", "keras-dataset").stderr == ""
    model = Model.open(small_network)
    Model(model.graph, model.params, labels=model.labels, resize="keras").save(tmp_path / "known.safetensors")
    result = run("classify", DIGITS / "3.png", "-m", tmp_path / "known.safetensors", "--backend", "reference", "--json")
    assert result.stderr == ""
    expected = model.predict(str(DIGITS / "3.png"), resize="keras", backend="reference")[0]
    assert found(result) == [pytest.approx(dict(zip(("cat", "dog", "owl"), expected, strict=True)), abs=1e-7)]


def test_the_range_replaces_the_files(small_network: Path, tmp_path: Path) -> None:
    model = Model.open(small_network)
    assert model.scaling == SYMMETRIC
    options = ("-m", small_network, "--backend", "reference", "--json")
    (answer,) = found(run("classify", DIGITS / "3.png", *options, "--range", "0..1"))
    unit = Model(model.graph, model.params, UNIT).predict(str(DIGITS / "3.png"), backend="reference")[0]
    assert answer == pytest.approx(dict(zip(("cat", "dog", "owl"), unit, strict=True)), abs=1e-7)
    assert run("classify", DIGITS / "3.png", *options, "--range", "torch").exit_code == 0


def test_a_range_for_a_network_that_rescales_its_input_is_reported(tmp_path: Path) -> None:
    graph = mobilenet_v3_small(0.75, 32, classes=3)
    Model(graph, random_params(graph, seed=0)).save(tmp_path / "v3.safetensors")
    result = run("classify", DIGITS / "3.png", "-m", tmp_path / "v3.safetensors", "--range", "-1..1")
    assert "rescales its input itself" in result.stderr


def test_a_gray_network_classifies_a_color_photograph(tmp_path: Path) -> None:
    graph = mobilenet_v1(0.25, 32, classes=3, channels=1)
    model = Model(graph, random_params(graph, seed=0))
    model.save(tmp_path / "gray.safetensors")
    photo(50, 40).save(tmp_path / "color.png")
    result = run("classify", tmp_path / "color.png", "-m", tmp_path / "gray.safetensors", "--json")
    assert set(found(result)[0]) == set("012")
    assert (
        run("trace", tmp_path / "color.png", "-m", tmp_path / "gray.safetensors", "-o", tmp_path / "p").exit_code == 0
    )
    np.save(tmp_path / "gray.npy", np.asarray(photo(50, 40, "L")))
    traced = run("trace", tmp_path / "gray.npy", "-m", tmp_path / "gray.safetensors", "-o", tmp_path / "q")
    assert traced.exit_code == 0, traced.stderr


def test_files_that_are_skipped_are_counted_and_named(tmp_path: Path) -> None:
    shutil.copy(DIGITS / "3.png", tmp_path / "3.png")
    for name in ("b.txt", "a.mp4", ".hidden.png", "c.md", "d.md", "e.md", "f.md"):
        (tmp_path / name).touch()
    (tmp_path / "inner").mkdir()
    shutil.copy(DIGITS / "4.png", tmp_path / "inner" / "4.png")
    result = run("classify", tmp_path, "-m", "digits", "--json")
    assert len(document(result)) == 1
    assert "skipped 7 files: .hidden.png, a.mp4, b.txt, c.md, d.md and 2 more" in result.stderr
    assert "1 subdirectory not searched; --recursive includes them" in result.stderr
    inner = run("classify", tmp_path, "-m", "digits", "--recursive", "--json")
    assert [Path(answer["image"]).name for answer in document(inner)] == ["3.png", "4.png"]
    assert "not searched" not in inner.stderr


def test_a_folder_of_folders_is_refused_with_the_option_that_searches_them(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    assert "1 subdirectory not searched: --recursive" in run("classify", tmp_path, "-m", "digits").stderr


def test_a_file_whose_name_begins_with_a_dash_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DIGITS / "3.png", tmp_path / "-dash.png")
    for arguments in (["-dash.png", "-m", "digits"], ["-m", "digits", "--", "-dash.png"]):
        result = run("classify", *arguments, "--json")
        assert document(result)[0]["predictions"][0]["label"] == "3"
    assert "no such option: -other.png" in run("classify", "3.png", "-other.png", "-m", "digits").stderr


def test_a_background_for_transparent_images(tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 32, 4), (255, 255, 255, 0), np.uint8)).save(tmp_path / "clear.png")
    on = {
        color: found(run("classify", tmp_path / "clear.png", "-m", "digits", "--background", color, "--json"))
        for color in ("white", "black", "none")
    }
    assert on["white"] == on["none"]
    assert on["white"] != on["black"]
    refused = run("classify", tmp_path / "clear.png", "-m", "digits", "--background", "whit")
    assert "unknown color 'whit'" in refused.stderr


def test_a_url_is_refused_as_one() -> None:
    result = run("classify", "https://example.org/cat.jpg", "-m", "digits")
    assert result.exit_code == 1
    assert "is a URL; download the image" in result.stderr
