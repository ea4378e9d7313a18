"""The commands cost and memory: what they print, what they write, and how they refuse."""

import json
from pathlib import Path
from typing import Any

import pytest

from npmobilenet.analysis.conventions import CONVENTIONS
from npmobilenet.analysis.memory_plan import POLICIES
from tests.helpers.command_line import Result, run


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_conventions_stand_side_by_side() -> None:
    lines = run("cost", "mobilenet_v2", "--convention").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(CONVENTIONS)
    answer = document(run("cost", "mobilenet_v2", "--convention", "--json"))
    counts = {entry["name"]: entry["count"] for entry in answer["conventions"]}
    assert (counts["macs"], counts["keras_total"]) == (answer["macs"], answer["params"])


def test_shares_are_those_of_the_v1_paper_but_for_its_swapped_digits() -> None:
    shares = {entry["kind"]: entry for entry in document(run("cost", "mobilenet_v1", "--json"))["shares"]}
    assert {kind: round(share["macs_share"], 2) for kind, share in shares.items()} == {
        "Conv 1x1": 94.86,
        "Conv DW 3x3": 3.06,
        "Conv 3x3": 1.91,
        "Fully connected": 0.18,
    }


def test_traffic_goes_with_the_size_of_a_value() -> None:
    four, one = (document(run("cost", "digits", "--itemsize", size, "--json")) for size in (4, 1))
    assert four["bytes_read"] == 4 * one["bytes_read"]
    assert run("cost", "digits", "--traffic").stdout.splitlines()[0].split()[-1] == "FLOPs/byte"


def test_tables_give_counted_and_printed_figures() -> None:
    tables = document(run("cost", "--tables", "--json"))
    assert tables[0]["title"].startswith("V1 paper, table 1")
    assert all(len(row) == len(table["header"]) for table in tables for row in table["rows"])


def test_memory_compares_all_policies() -> None:
    answer = document(run("memory", "digits", "--json"))
    assert [entry["policy"] for entry in answer["policies"]] == list(POLICIES)
    peaks = [entry["peak_bytes"] for entry in answer["policies"]]
    assert peaks == sorted(peaks, reverse=True)


def test_memory_plans_under_one_policy_and_writes_header_and_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws with matplotlib: pip install npmobilenet[plot]")
    header, figure = tmp_path / "arena.h", tmp_path / "arena.svg"
    result = run("memory", "digits", "--policy", "in_place", "--header", header, "--figure", figure, "--json")
    answer = document(result)
    assert f"#define ARENA_BYTES {answer['arena_bytes']}\n" in header.read_text()
    assert "<svg" in figure.read_text()
    assert answer["steps"][-1]["type"] == "Activation"


@pytest.mark.parametrize(
    "arguments",
    [
        ["cost"],
        ["cost", "mobilenet_v1", "--tables"],
        ["cost", "--tables", "--alpha", "0.5"],
        ["cost", "mobilenet_v1", "--kinds", "--convention"],
        ["cost", "mobilenet_v1", "--itemsize", "0"],
        ["memory", "digits", "--policy", "magic"],
        ["memory", "digits", "--header", "arena.h"],
        ["memory", "digits", "--policy", "split", "--parts", "0"],
        ["memory", "mobilenet_v1", "--minimalistic"],
    ],
    ids=" ".join,
)
def test_wrong_use_is_exit_code_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["memory", "digits", "--policy", "free", "--figure", "arena.docx"], "cannot be drawn"),
        (["memory", "digits", "--policy", "free", "--header", "/dev/null/arena.h"], "npmobilenet: "),
        (["memory", "nothing.h5"], "no such file"),
        (["cost", "mobilenet_v9"], "mobilenet_v9"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_one_line_and_exit_code_1(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--figure" in arguments:
        pytest.importorskip("matplotlib", reason="draws with matplotlib: pip install npmobilenet[plot]")
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
