"""The command memory: plans, and the files that it writes."""

from pathlib import Path

import pytest

from npmobilenet.analysis.memory_plan import POLICIES
from tests.helpers.command_line import document, run


def test_all_policies_are_compared() -> None:
    answer = document(run("memory", "digits", "--json"))
    assert [entry["policy"] for entry in answer["policies"]] == list(POLICIES)
    peaks = [entry["peak_bytes"] for entry in answer["policies"]]
    assert peaks == sorted(peaks, reverse=True)


def test_one_policy_is_planned_drawn_and_written_as_a_header(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="requires matplotlib: pip install npmobilenet[plot]")
    header, figure = tmp_path / "arena.h", tmp_path / "arena.svg"
    result = run("memory", "digits", "--policy", "in_place", "--header", header, "--figure", figure, "--json")
    answer = document(result)
    assert f"#define ARENA_BYTES {answer['arena_bytes']}\n" in header.read_text()
    assert "<svg" in figure.read_text()
    assert answer["steps"][-1]["type"] == "Activation"
