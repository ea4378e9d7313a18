"""Class names at the command line: given, found next to the model, and refused or ignored if they do not fit."""

import shutil
from pathlib import Path

import pytest

from npmobilenet.architectures import mobilenet_v1
from npmobilenet.models.model import Model
from tests.helpers.command_line import Result, document, run
from tests.helpers.networks import random_params
from tests.helpers.real_files import ROOT, real_file

DIGITS = ROOT / "examples" / "digits"
SCISSORS_ROCK_PAPER = {"가위", "바위", "보"}


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A folder that holds a model of three classes, and no label file."""
    return Path(shutil.copy(real_file("cases", "labels", "model.keras"), tmp_path / "model.keras"))


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """A network with one sigmoid output."""
    graph = mobilenet_v1(0.25, 32, classes=1, classifier_activation="sigmoid")
    path = tmp_path / "binary.safetensors"
    Model(graph, random_params(graph, seed=0)).save(path)
    return path


def names(result: Result) -> list[str]:
    (answer,) = document(result)
    return [found["label"] for found in answer["predictions"]]


@pytest.mark.parametrize("file", ["teachable_machine.txt", "no_index.txt", "crlf.txt", "utf16.txt", "metadata.json"])
def test_a_given_label_file_names_the_classes(three: Path, file: str) -> None:
    labels = real_file("cases", "labels", file)
    result = run("classify", DIGITS / "3.png", "-m", three, "--labels", labels, "--json")
    assert set(names(result)) == SCISSORS_ROCK_PAPER


def test_the_names_are_in_the_order_of_the_outputs(three: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("a\nb\nc\n")
    numbers = names(run("classify", DIGITS / "3.png", "-m", three, "--json"))
    named = names(run("classify", DIGITS / "3.png", "-m", three, "--labels", tmp_path / "other.txt", "--json"))
    assert named == ["abc"[int(number)] for number in numbers]


@pytest.mark.parametrize(
    ("file", "name"), [("teachable_machine.txt", "labels.txt"), ("metadata.json", "metadata.json")]
)
def test_a_label_file_next_to_the_model_is_found_and_reported_in_one_line(three: Path, file: str, name: str) -> None:
    shutil.copy(real_file("cases", "labels", file), three.parent / name)
    result = run("classify", DIGITS / "3.png", "-m", three, "--json")
    assert set(names(result)) == SCISSORS_ROCK_PAPER
    assert result.stderr.count(f"class names from {three.parent / name}\n") == 1


def test_a_wrong_count_blames_the_given_label_file_with_both_counts(three: Path) -> None:
    labels = real_file("cases", "labels", "eight_for_three.txt")
    for command in (
        ["classify", DIGITS / "3.png", "-m", three],
        ["convert", three, "-o", three.parent / "x.safetensors"],
    ):
        result = run(*command, "--labels", labels)
        assert result.exit_code == 1
        assert "eight_for_three.txt: 8 names, but " in result.stderr
        assert "has 3 classes" in result.stderr
    assert not (three.parent / "x.safetensors").exists()


def test_a_label_file_that_was_found_and_does_not_fit_is_reported_and_ignored(three: Path) -> None:
    for contents, reason in ((b"a\nb\n", "2 names, but "), ("0 가위\n1 바위\n2 보".encode("cp949"), "not UTF-8")):
        (three.parent / "labels.txt").write_bytes(contents)
        result = run("classify", DIGITS / "3.png", "-m", three, "--json")
        assert set(names(result)) == set("012")
        (line,) = [line for line in result.stderr.splitlines() if "labels.txt" in line]
        assert reason in line
        assert line.endswith("; ignored")


def test_a_model_with_names_does_not_look_for_others(tmp_path: Path, three: Path) -> None:
    path = tmp_path / "named.safetensors"
    (tmp_path / "mine.txt").write_text("x\ny\nz\n")
    assert run("convert", three, "-o", path, "--labels", tmp_path / "mine.txt").exit_code == 0
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    result = run("classify", DIGITS / "3.png", "-m", path, "--json")
    assert set(names(result)) == set("xyz")
    assert "labels.txt" not in result.stderr


def test_one_sigmoid_output_is_the_probability_of_class_1(binary: Path) -> None:
    (answer,) = document(run("classify", DIGITS / "3.png", "-m", binary, "--backend", "reference", "--json"))
    (found,) = answer["predictions"]
    assert found["label"] == "class 1"
    assert found["probability"] == pytest.approx(
        Model.open(binary).predict(str(DIGITS / "3.png"), backend="reference")[0, 0]
    )


def test_one_sigmoid_output_with_two_names_gives_p_and_its_complement(binary: Path, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("cat\ndog\n")
    options = ("-m", binary, "--labels", tmp_path / "two.txt", "--backend", "reference", "--json")
    (answer,) = document(run("classify", DIGITS / "3.png", *options))
    found = {prediction["label"]: prediction["probability"] for prediction in answer["predictions"]}
    p = float(Model.open(binary).predict(str(DIGITS / "3.png"), backend="reference")[0, 0])
    assert found == pytest.approx({"dog": p, "cat": 1 - p}, abs=1e-7)


def test_one_linear_output_takes_one_name_only(tmp_path: Path) -> None:
    graph = mobilenet_v1(0.25, 32, classes=1, classifier_activation=None)
    Model(graph, random_params(graph, seed=0)).save(tmp_path / "linear.safetensors")
    (tmp_path / "two.txt").write_text("cat\ndog\n")
    options = ("-m", tmp_path / "linear.safetensors", "--labels", tmp_path / "two.txt")
    result = run("classify", DIGITS / "3.png", *options)
    assert "two.txt: 2 names, but mobilenet_0.25_32 has 1 class;" in result.stderr


def test_a_label_file_of_a_network_with_background_may_name_it_or_not(tmp_path: Path) -> None:
    graph = mobilenet_v1(0.25, 32, classes=4)
    Model(graph, random_params(graph, seed=0), background=True).save(tmp_path / "background.safetensors")
    for text in ("a\nb\nc\n", "background\na\nb\nc\n"):
        (tmp_path / "labels.txt").write_text(text)
        result = run("classify", DIGITS / "3.png", "-m", tmp_path / "background.safetensors", "--json")
        assert set(names(result)) == {"background", *"abc"}
