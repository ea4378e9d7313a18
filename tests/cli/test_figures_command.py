"""`npmobilenet figures`."""

import json
from pathlib import Path

import pytest

from npmobilenet.cli.main import main
from npmobilenet.figures.figure_catalog import FIGURES
from tests.helpers.real_files import real_file


def test_files_are_written_in_all_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "folder"
    assert main(["figures", "ratio", "relu6", "-o", str(folder), "--format", "svg,png"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["ratio.png", "ratio.svg", "relu6.png", "relu6.svg"]
    assert capsys.readouterr().out == f"4 files in {folder}\n"


def test_numbers_as_json_write_no_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["figures", "gap-or-flatten", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["figures"]
    assert (entry["name"], entry["data"]["flat_weights"]) == ("gap-or-flatten", 50_176_000)
    assert "49 times fewer" in entry["caption"]
    assert list(tmp_path.iterdir()) == []


def test_json_with_a_folder_lists_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", "padding", "--json", "-o", str(tmp_path)]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["figures"]
    assert entry["files"] == [str(tmp_path / "padding.svg")]


@pytest.mark.parametrize(("language", "title"), [("en", "V1's block"), ("zh", "V1 的基本块")])
def test_the_list_has_every_figure(language: str, title: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", "--list", "--json", "--lang", language]) == 0
    rows = {row["name"]: row["title"] for row in json.loads(capsys.readouterr().out)["figures"]}
    assert list(rows) == list(FIGURES)
    assert rows["v1-block"] == title
    assert main(["figures", "--list", "--lang", language]) == 0
    assert title in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ration"], "unknown figure 'ration'; did you mean ratio?"),
        (["zzz"], "unknown figure 'zzz'; --list lists them"),
        (["ratio", "--format", "svg,jpg"], "unknown format 'jpg'; choose from svg, png, pdf, gif"),
        (["window", "ratio", "--format", "gif"], "ratio does not move; gif is a format of window"),
        (["ratio", "--model", "digits"], "--model does not apply to ratio"),
    ],
)
def test_usage_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_network_without_the_layers_of_a_figure_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["figures", "squeeze-excite", "--model", "digits", "-o", str(tmp_path)]) == 1
    assert "squeeze-excite: mobilenet_0.25_32 has 0 squeeze-and-excitations, no number 2" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_the_user_s(capsys: pytest.CaptureFixture[str]) -> None:
    image = str(real_file("images/cat.bmp"))
    assert main(["figures", "growth", "--model", "digits", "--image", image, "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["figures"]
    assert entry["data"]["model"] == "mobilenet_0.25_32"
    assert main(["figures", "growth", "--model", "digits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"][0]["data"]["layers"] != entry["data"]["layers"]
