"""Commands from signatures: what is read, how wrong use is told, and which modules a command loads."""

import os
import re
import subprocess
import sys
from enum import StrEnum
from inspect import getdoc
from pathlib import Path
from typing import Annotated, Any

import pytest

from npmobilenet.cli.main import INTERRUPTED, SUMMARIES, command
from npmobilenet.cli.options import Argument, Exit, Option, UsageError, run_command
from tests.helpers.command_line import run


class Color(StrEnum):
    """A choice."""

    red = "red"
    blue = "blue"


seen: dict[str, Any] = {}


def paint(
    names: Annotated[list[str], Argument(metavar="NAME...", help="Names.")],
    color: Annotated[Color, Option("--color", "-c", help="Which, at 100 %.")] = Color.red,
    times: Annotated[int, Option(min=1, help="How often.")] = 3,
    wide_as: Annotated[float | None, Option(help="How wide.")] = None,
    again: Annotated[list[str] | None, Option("--again", help="Several.")] = None,
    pair: Annotated[tuple[str, Path] | None, Option(metavar="word FILE", help="Two.")] = None,
    force: Annotated[bool, Option("--force", "-f", help="A switch.")] = False,
) -> None:
    """Paint names.

    More about it.
    """
    seen.clear()
    seen.update(locals())
    if times == 99:
        raise Exit(7)
    if times == 98:
        raise UsageError("not 98 times")


def write(
    output: Annotated[Path, Option("--output", "-o", help="Where to.")],
    source: Annotated[str, Argument(metavar="[SOURCE]", help="What.")] = "nothing",
) -> None:
    """Write."""
    seen.clear()
    seen.update(locals())


def test_what_is_not_given_is_as_the_signature_says() -> None:
    assert run_command(paint, "paint", ["a"]) == 0
    assert seen == {
        "names": ["a"], "color": Color.red, "times": 3, "wide_as": None, "again": None, "pair": None, "force": False,
    }  # fmt: skip


def test_options_stand_anywhere_and_get_their_types() -> None:
    line = "-f a --color blue --times=5 b --wide-as 1.5 --again x --again y c --pair keras f.h5 -- -d"
    assert run_command(paint, "paint", line.split()) == 0
    assert seen == {
        "names": ["a", "b", "c", "-d"], "color": Color.blue, "times": 5, "wide_as": 1.5, "again": ["x", "y"],
        "pair": ("keras", Path("f.h5")), "force": True,
    }  # fmt: skip
    assert isinstance(seen["color"], Color)
    assert run_command(write, "write", ["-o", "x"]) == 0
    assert seen == {"output": Path("x"), "source": "nothing"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "the following arguments are required: NAME..."),
        ("a --times 0", "argument --times: expected an integer of at least 1, got '0'"),
        ("a --times 1.5", "argument --times: expected an integer of at least 1, got '1.5'"),
        ("a --wide-as wide", "argument --wide-as: expected a number, got 'wide'"),
        ("a -c green", "argument --color/-c: invalid choice: 'green'"),
        ("a --color red", "no such option: --color; did you mean --color?"),
        ("a --col red", "no such option: --col"),
        ("a --zzz", "no such option: --zzz\n"),
        ("a --pair keras", "argument --pair: expected 2 arguments"),
        ("a --times 98", "not 98 times"),
    ],
)
def test_wrong_use_is_told_with_the_usage(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(paint, "paint", line.split()) == 2
    out, told = capsys.readouterr()
    assert out == ""
    assert told.startswith("usage: paint [OPTIONS] NAME...\nTry 'paint --help' for help.\n\nError: ")
    assert message in told


def test_what_has_to_be_given_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(write, "write", ["source"]) == 2
    assert "required: --output/-o" in capsys.readouterr().err
    assert run_command(write, "write", ["-o", "x", "one", "two"]) == 2
    assert "unexpected argument 'two'" in capsys.readouterr().err


def test_a_command_ends_with_the_exit_code_that_it_chooses() -> None:
    assert run_command(paint, "paint", ["a", "--times", "99"]) == 7


def test_the_help_says_everything_about_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run_command(paint, "paint", ["--help"])
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "usage: paint [OPTIONS] NAME...", "Paint names. More about it.", "--color {red,blue}, -c {red,blue}",
        "Which, at 100 %. [default: red]", "--times N", "--pair word FILE", "--force, -f",
    ):  # fmt: skip
        assert words in shown


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_list_of_commands_has_the_first_line_of_each(name: str) -> None:
    first = (getdoc(command(name)) or "").partition("\n")[0]
    assert SUMMARIES[name] == first
    assert re.search(rf"^  {name} +{re.escape(first)}$", run("--help").stdout, re.MULTILINE)
    assert run(name, "--help").stdout.startswith(f"usage: npmobilenet {name} [OPTIONS]")


def test_without_a_command_the_help_is_shown_and_the_use_is_wrong() -> None:
    assert run().exit_code == 2
    assert run().stdout == run("--help").stdout


def test_a_command_that_is_nearly_right_is_answered_with_its_name() -> None:
    assert "no such command: clasify; did you mean classify?" in run("clasify").stderr


def test_an_interrupt_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("npmobilenet.cli.classify_command.load_with_notes", interrupted)
    result = run("classify", "x.png", "--model", "digits")
    assert (result.exit_code, result.stdout, result.stderr) == (INTERRUPTED, "", "npmobilenet: interrupted\n")


@pytest.mark.skipif(os.name != "posix", reason="a pipe that is closed early, as Unix has it")
def test_a_reader_who_has_seen_enough_ends_the_command_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        command = [sys.executable, "-m", "npmobilenet", "models"]
        shown = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert (shown.returncode, shown.stderr) == (1, "")


def test_a_command_loads_no_other_commands_module() -> None:
    program = (
        "import contextlib, io, sys\n"
        "from npmobilenet.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    main(['--help']), main(['classify', '--help'])\n"
        "print(*(module for module in sys.modules if module.endswith('_command')))\n"
        "print(*{'rich', 'typer', 'PIL', 'importlib.resources', 'tempfile', 'concurrent.futures'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown == "npmobilenet.cli.classify_command\n\n"
