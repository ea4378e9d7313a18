"""The command convert: what it writes, prints and compiles."""

from pathlib import Path
from typing import Any

import pytest

from npmobilenet.errors import KernelError
from npmobilenet.models.model import Model
from tests.helpers.command_line import document, run

pytestmark = pytest.mark.usefixtures("kernels_kept")


@pytest.fixture
def keras_file(keras: Any, tmp_path: Path) -> Path:
    network = keras.applications.MobileNet((32, 32, 3), alpha=0.25, classes=3, weights=None)
    network.save(tmp_path / "mine.keras")
    return tmp_path / "mine.keras"


def test_the_output_is_written_to_the_current_directory_and_summarized(
    keras_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\nowl\n")
    result = run("convert", keras_file, "--labels", names, "--range", "0..1", "--json")
    answer = document(result)
    assert answer["output"] == "mine.safetensors"
    assert answer["matched_by"]
    model = Model.open(tmp_path / "mine.safetensors")
    assert model.labels == (("", "cat"), ("", "dog"), ("", "owl"))
    assert model.scaling.scale == 1 / 255


def test_an_existing_file_is_overwritten_only_with_force(
    keras_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.safetensors").write_text("precious")
    result = run("convert", keras_file)
    assert result.exit_code == 1
    assert "mine.safetensors already exists; use --force to overwrite" in result.stderr
    assert (tmp_path / "mine.safetensors").read_text() == "precious"
    assert run("convert", keras_file, "--force").exit_code == 0
    assert Model.open(tmp_path / "mine.safetensors").graph.total_params == 219_315


@pytest.mark.parametrize("is_compiled", [False, True])
def test_compilation_is_announced_unless_the_kernels_are_ready(
    keras_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_compiled: bool
) -> None:
    compiled: list[Model] = []
    monkeypatch.setattr(Model, "is_compiled", lambda model: is_compiled)
    monkeypatch.setattr(Model, "compile", lambda model: compiled.append(model))
    result = run("convert", keras_file, "--output", tmp_path / "out.safetensors")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("compiling the kernels for this CPU") == len(compiled) == (not is_compiled)


def test_without_kernels_the_file_is_written_and_says_why_the_engine_was_not_checked(
    keras_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object) -> bool:
        raise KernelError("no compiled kernels: no such CPU")

    monkeypatch.setattr(Model, "is_compiled", unavailable)
    result = run("convert", keras_file, "--output", tmp_path / "out.safetensors", "--json")
    assert document(result)["engine"] == "not checked: no compiled kernels: no such CPU"
    assert "compil" not in result.stderr
    assert Model.open(tmp_path / "out.safetensors").source["engine"].startswith("not checked")
