"""Output: what is printed in parts equals what is printed at once; names from files are harmless."""

import json
import re

import pytest

from npmobilenet.errors import LONGEST, WeightsError
from npmobilenet.output import json_text, print_json, print_json_list, print_line, print_note, print_table
from tests.helpers.real_files import ROOT

BARE = re.compile(r"(?<![\w.])print\(")


def test_a_list_that_is_printed_in_parts_is_the_same_document(capsys: pytest.CaptureFixture[str]) -> None:
    for document in ([], [{"image": "a\nb", "predictions": [{"label": "ü", "probability": 0.5}]}, {"error": "é"}, 3]):
        print_json(document)
        whole = capsys.readouterr().out
        print_json_list([json_text(part) for part in document])
        assert capsys.readouterr().out == whole


ESCAPES = "cat\x1b[2J\x9b31m\x07\x7f"
SHOWN = "cat\\x1b[2J\\x9b31m\\x07\\x7f"


def test_names_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("label",), [(ESCAPES,)], title=ESCAPES)
    print_line(ESCAPES)
    print_note(ESCAPES)
    printed = "".join(capsys.readouterr())
    assert printed.count(SHOWN) == 4
    assert printed.replace("\n", "").isprintable()


def test_json_has_no_control_characters_and_the_same_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"label": ESCAPES})
    printed = capsys.readouterr().out
    assert printed.replace("\n", "").isprintable()
    assert json.loads(printed) == {"label": ESCAPES}


def test_messages_have_a_length(capsys: pytest.CaptureFixture[str]) -> None:
    error = WeightsError("layer " + 155_000 * "x" + " is missing")
    assert len(str(error)) < LONGEST + 100
    assert str(error).startswith("layer xxx")
    assert str(error).endswith("xxx is missing")
    assert "(151,017 characters)" in str(error)


def test_the_command_line_prints_by_functions_that_write_out_control_characters() -> None:
    bare = [path.name for path in (ROOT / "npmobilenet" / "cli").glob("*_command.py") if BARE.search(path.read_text())]
    assert not bare
