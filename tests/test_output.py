"""Output that is printed in parts equals output that is printed at once."""

import pytest

from npmobilenet.output import json_text, print_json, print_json_list


def test_a_list_that_is_printed_in_parts_is_the_same_document(capsys: pytest.CaptureFixture[str]) -> None:
    for document in ([], [{"image": "a\nb", "predictions": [{"label": "ü", "probability": 0.5}]}, {"error": "é"}, 3]):
        print_json(document)
        whole = capsys.readouterr().out
        print_json_list([json_text(part) for part in document])
        assert capsys.readouterr().out == whole
