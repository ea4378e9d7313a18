"""Commands from signatures: parsing, usage errors and help."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pytest

from npmobilenet.cli.options import Argument, Exit, Option, UsageError, run_command


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


def test_defaults_are_those_of_the_signature() -> None:
    assert run_command(paint, "paint", ["a"]) == 0
    assert seen == {
        "names": ["a"], "color": Color.red, "times": 3, "wide_as": None, "again": None, "pair": None, "force": False,
    }  # fmt: skip


def test_options_may_stand_anywhere_and_have_the_types_of_the_signature() -> None:
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
        ("a --colr red", "no such option: --colr; did you mean --color?"),
        ("a --col red", "no such option: --col"),
        ("a --zzz", "no such option: --zzz\n"),
        ("a --pair keras", "argument --pair: expected 2 arguments"),
        ("a --times 98", "not 98 times"),
    ],
)
def test_a_usage_error_is_printed_with_the_usage(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(paint, "paint", line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: paint [OPTIONS] NAME...\nTry 'paint --help' for help.\n\nError: ")
    assert message in err


def test_a_missing_option_and_an_extra_argument_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(write, "write", ["source"]) == 2
    assert "required: --output/-o" in capsys.readouterr().err
    assert run_command(write, "write", ["-o", "x", "one", "two"]) == 2
    assert "unexpected argument 'two'" in capsys.readouterr().err


def test_exit_sets_the_exit_code() -> None:
    assert run_command(paint, "paint", ["a", "--times", "99"]) == 7


def test_the_help_lists_all_arguments_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run_command(paint, "paint", ["--help"])
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "usage: paint [OPTIONS] NAME...", "Paint names. More about it.", "--color {red,blue}, -c {red,blue}",
        "Which, at 100 %. [default: red]", "--times N", "--pair word FILE", "--force, -f",
    ):  # fmt: skip
        assert words in shown


@dataclass(frozen=True)
class Size:
    """Options of a size."""

    width: Annotated[int, Option(help="Width.")] = 1
    height: Annotated[int | None, Option(help="Height.")] = None


@dataclass(frozen=True)
class Volume(Size):
    """Options of a volume."""

    depth: Annotated[int, Option(help="Depth.")] = 3


UNIT = Volume()


def fill(
    name: Annotated[str, Argument(metavar="NAME", help="Name.")],
    volume: Volume = UNIT,
    full: Annotated[bool, Option("--full", help="A flag.")] = False,
) -> None:
    """Fill a volume."""
    seen.clear()
    seen.update(locals())


def test_a_dataclass_stands_for_its_fields() -> None:
    assert run_command(fill, "fill", ["a", "--height", "2", "--full", "--depth=4"]) == 0
    assert seen == {"name": "a", "volume": Volume(width=1, height=2, depth=4), "full": True}
    assert run_command(fill, "fill", ["a"]) == 0
    assert seen["volume"] == UNIT
    assert run_command(fill, "fill", ["a", "--volume", "1"]) == 2
