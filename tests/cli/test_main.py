"""Dispatch to commands: help, exit codes, errors, interrupts, and the modules that a command loads."""

import os
import re
import subprocess
import sys
from inspect import getdoc
from pathlib import Path

import pytest

from npmobilenet.cli.main import INTERRUPTED, SUMMARIES, command
from tests.helpers.command_line import document, run
from tests.helpers.real_files import ROOT

DIGITS = ROOT / "examples" / "digits"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["classify"], "IMAGE"),
        (["classify", "x.png", "--top", "0"], "top"),
        (["classify", "x.png", "--resize", "squash"], "resize"),
        (["classify", "x.png", "--backend", "gpu"], "backend"),
        (["classify", "x.png", "--threads", "0"], "threads"),
        (["cost", "mobilenet_v1", "--resolution", "big"], "mobilenet_v1"),
        (["cost", "mobilenet_v1", "--resolution", "16"], "32"),
        (["cost", "mobilenet_v1", "--minimalistic"], "minimalistic"),
        (["cost", "mobilenet_v1_1.0_224", "--alpha", "0.5"], "architecture"),
        (["convert", "x.h5", "--arch", "resnet"], "mobilenet_v2"),
        (["convert", "x.h5", "--alpha", "0.5"], "--arch"),
        (["nonsense"], "nonsense"),
    ],
)
def test_a_usage_error_has_exit_code_2_and_names_the_problem(arguments: list[str], word: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert word in result.stderr
    assert result.stdout == ""


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
def test_a_usage_error_of_cost_and_memory_has_exit_code_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["classify", DIGITS, "--model", "missing.h5"],
        ["classify", DIGITS, "--model", "mobilnet_v2"],
        ["classify", DIGITS, "--model", ROOT / "README.md"],
        ["convert", "missing.h5"],
        ["convert", ROOT / "README.md"],
        ["cost", "mobilenet_v9"],
    ],
    ids=str,
)
def test_a_failure_has_exit_code_1_and_one_json_document(
    arguments: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments, "--json")
    assert set(document(result, 1)) == {"error"}
    assert document(result, 1)["error"] in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


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
def test_a_failure_of_cost_and_memory_is_one_line_and_exit_code_1(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--figure" in arguments:
        pytest.importorskip("matplotlib", reason="requires matplotlib: pip install npmobilenet[plot]")
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_summary_of_a_command_is_the_first_line_of_its_docstring(name: str) -> None:
    assert SUMMARIES[name] == (getdoc(command(name)) or "").partition("\n")[0]
    assert re.search(rf"^  {name} +{re.escape(SUMMARIES[name])}$", run("--help").stdout, re.MULTILINE)
    assert run(name, "--help").stdout.startswith(f"usage: npmobilenet {name} [OPTIONS]")


def test_no_command_prints_the_help_with_exit_code_2() -> None:
    assert run().exit_code == 2
    assert run().stdout == run("--help").stdout


def test_a_misspelled_command_is_answered_with_a_suggestion() -> None:
    assert "no such command: clasify; did you mean classify?" in run("clasify").stderr


def test_an_interrupt_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("npmobilenet.cli.classify_command.load_unnamed", interrupted)
    result = run("classify", "x.png", "--model", "digits")
    assert (result.exit_code, result.stdout, result.stderr) == (INTERRUPTED, "", "npmobilenet: interrupted\n")


@pytest.mark.skipif(os.name != "posix", reason="closed pipes behave differently outside Unix")
def test_a_closed_pipe_ends_the_command_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        command = [sys.executable, "-m", "npmobilenet", "models"]
        shown = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert (shown.returncode, shown.stderr) == (1, "")


def test_a_command_imports_no_module_of_another_command() -> None:
    program = (
        "import contextlib, io, sys\n"
        "from npmobilenet.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    main(['--help']), main(['classify', '--help'])\n"
        "print(*(name for name in sys.modules if name.startswith('npmobilenet.cli') and name.endswith('_command')))\n"
        "print(*{'rich', 'typer', 'PIL', 'importlib.resources', 'tempfile', 'concurrent.futures'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown == "npmobilenet.cli.classify_command\n\n"
