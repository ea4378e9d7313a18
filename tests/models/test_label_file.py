"""Label files as people have them: numbers, encodings, line ends and JSON, or a refusal that names what is wrong."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet.errors import LabelFileError
from npmobilenet.models.label_file import find_labels, read_labels
from tests.helpers.real_files import real_file

SCISSORS_ROCK_PAPER = ["가위", "바위", "보"]


def written(folder: Path, data: bytes, name: str = "labels.txt") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["teachable_machine.txt", "no_index.txt", "crlf.txt", "utf16.txt", "metadata.json"])
def test_files_as_teachable_machine_and_windows_write_them(name: str) -> None:
    assert read_labels(real_file("cases", "labels", name)) == SCISSORS_ROCK_PAPER


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n \n"])
def test_encodings_line_ends_and_blank_last_lines(tmp_path: Path, encoding: str, end: str, last: str) -> None:
    text = ("0 Class 1\n1 Class 2" + last).replace("\n", end)
    assert read_labels(written(tmp_path, text.encode(encoding))) == ["Class 1", "Class 2"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0 cat\n1 dog", ["cat", "dog"]),
        ("1 dog\n0 cat", ["cat", "dog"]),
        ("1: cat\n2: dog", ["cat", "dog"]),
        ("cat\n1 dog", ["cat", "1 dog"]),
        ("3 musketeers\n7 dwarfs", ["3 musketeers", "7 dwarfs"]),
        ("2020\n2021", ["2020", "2021"]),
        ('["cat", "dog"]', ["cat", "dog"]),
        ('{"labels": ["cat", "dog"], "imageSize": 224}', ["cat", "dog"]),
        ('{"1": "dog", "0": "cat"}', ["cat", "dog"]),
        ('{"0": ["n02123045", "tabby"]}', [("n02123045", "tabby")]),
        ('{"dog": 1, "cat": 0}', ["cat", "dog"]),
    ],
)
def test_forms(tmp_path: Path, text: str, names: list[str]) -> None:
    assert read_labels(written(tmp_path, text.encode())) == names


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no class names"),
        (b"\n\n", "no class names"),
        (b"cat\n\ndog\n", "line 2 is blank"),
        ("0 가위\n1 바위".encode("cp949"), r"not UTF-8 \(byte 2 is 0xb0\); it may be cp949 .*iconv -f CP949 -t UTF-8"),
        (b"[1, 2]", "1 is not a class name"),
        (b'{"0": "cat", "2": "dog"}', "gaps"),
        (b'{"cat": "dog"}', "expected a list of names"),
        (b'["cat"', "not valid JSON"),
    ],
)
def test_what_is_refused_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(LabelFileError, match=rf"labels\.txt: .*{message}"):
        read_labels(written(tmp_path, data))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelFileError, match=r"none\.txt: No such file"):
        read_labels(tmp_path / "none.txt")


@given(names=st.lists(st.text(st.characters(categories=["L"]), min_size=1), min_size=1, max_size=20))
def test_numbered_lines_come_back_in_order(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.txt"
    path.write_text("".join(f"{number} {name}\n" for number, name in enumerate(names)), encoding="utf-8")
    assert read_labels(path) == names


def test_a_label_file_next_to_a_model_is_found(tmp_path: Path) -> None:
    model = tmp_path / "keras_model.h5"
    assert find_labels(model) is None
    other = written(tmp_path, b'{"format": "layers-model"}', "metadata.json")
    assert find_labels(model) is None
    other.write_text(json.dumps({"labels": ["a"]}))
    assert find_labels(model) == other
    first = written(tmp_path, b"a\n")
    assert find_labels(model) == first
