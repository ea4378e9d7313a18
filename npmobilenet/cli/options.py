"""Commands as functions: their signature says what argparse reads.

    def classify(
        images: Annotated[list[str], Argument(metavar="IMAGE...", help="Pictures.")],
        top: Annotated[int, Option(min=1, help="How many classes to name.")] = 5,
    ) -> None:
        '''Name what is on pictures.'''

A parameter is a `list` (several), a `tuple` (that many), a StrEnum (a choice), a `bool` (a switch), or one value of any
type that makes itself from a string; `| None` is for what need not be given. Its option is --like-the-parameter unless
`Option` names it otherwise. Why not Typer: importing it takes half as long as importing NumPy.
"""

import argparse
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints


class UsageError(Exception):
    """Options or arguments that do not fit; exit code 2."""


class Exit(Exception):  # noqa: N818  an end, and no error
    """The end of a command with an exit code of its own."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Argument:
    """A value that is known by its place.

    Args:
        metavar: its name in the help.
        help: what it is.
    """

    metavar: str
    help: str


class Option:
    """A value that is known by a name.

    Args:
        names: "--like", "-l"; made from the parameter's name where none is given.
        help: what it is.
        metavar: the value's name in the help.
        min: the least number that is taken.
    """

    def __init__(self, *names: str, help: str, metavar: str | None = None, min: int | None = None) -> None:
        self.names = names
        self.help = help
        self.metavar = metavar
        self.min = min


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UsageError(message)


class _Paragraphs(argparse.HelpFormatter):
    """Wraps each paragraph of a description by itself."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(super(_Paragraphs, self)._fill_text(part, width, indent) for part in text.split("\n\n"))


def run_command(command: Callable[..., None], program: str, arguments: Sequence[str]) -> int:
    """Read a command's arguments and run it; wrong use is told on standard error.

    Args:
        command: a function with `Argument`s and `Option`s.
        program: what was typed before the arguments: "npmobilenet classify".
        arguments: what was typed.

    Returns:
        The exit code: 0; what `Exit` says; 2 for wrong use.
    """
    kinds, parser = _parser(command, program)
    try:
        options, left = parser.parse_known_intermixed_args(arguments)
        if left:
            raise UsageError(_not_known(left[0], parser))
        command(**{name: _converted(kinds[name], value) for name, value in vars(options).items()})
    except UsageError as error:
        print_usage_error(parser.format_usage(), program, str(error))
        return 2
    except Exit as end:
        return end.code
    return 0


def print_usage_error(usage: str, program: str, message: str) -> None:
    """Say how a program is used and what was wrong."""
    print(f"{usage}Try '{program} --help' for help.\n\nError: {message}", file=sys.stderr)


def near(word: str, words: Iterable[str]) -> str:
    """The end of a message about a word that is not known: what may have been meant."""
    from difflib import get_close_matches

    found = get_close_matches(word, list(words), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def _parser(command: Callable[..., None], program: str) -> tuple[dict[str, Any], _Parser]:
    """(type of every parameter, parser)."""
    kinds: dict[str, Any] = {}
    usage = [program, "[OPTIONS]"]
    parser = _Parser(
        description=inspect.getdoc(command), formatter_class=_Paragraphs, allow_abbrev=False, add_help=False
    )
    hints = get_type_hints(command, include_extras=True)
    for parameter in inspect.signature(command).parameters.values():
        kind, entry = get_args(hints[parameter.name])[:2]
        kinds[parameter.name] = _without_none(kind)
        if isinstance(entry, Argument):
            given = parameter.default is inspect.Parameter.empty
            usage.append(entry.metavar)
            _add_argument(parser, parameter, entry, kinds[parameter.name], required=given)
        else:
            _add_option(parser, parameter, entry, kinds[parameter.name])
    parser.add_argument("--help", action="help", help="Show this message and exit.")
    parser.usage = " ".join(usage)
    return kinds, parser


def _add_argument(parser: _Parser, parameter: inspect.Parameter, entry: Argument, kind: Any, *, required: bool) -> None:
    several = get_origin(kind) is list
    parser.add_argument(
        parameter.name,
        metavar=entry.metavar,
        nargs="+" if several else None if required else "?",
        default=None if required else parameter.default,
        help=_help(entry.help, parameter.default),
    )


def _add_option(parser: _Parser, parameter: inspect.Parameter, entry: Option, kind: Any) -> None:
    names = entry.names or (f"--{parameter.name.replace('_', '-')}",)
    if kind is bool:
        parser.add_argument(*names, dest=parameter.name, action="store_true", help=_help(entry.help))
        return
    how: dict[str, Any] = {}
    metavar: str | tuple[str, ...] = entry.metavar or ("N" if kind is int else parameter.name.upper())
    if get_origin(kind) is list:
        how["action"] = "append"
    elif get_origin(kind) is tuple:
        how["nargs"] = len(get_args(kind))
        metavar = tuple(str(metavar).split())
    elif issubclass(kind, StrEnum):
        how["choices"] = [str(member) for member in kind]
        metavar = f"{{{','.join(how['choices'])}}}"
    elif kind in (int, float):
        how["type"] = _number(kind, entry.min)
    required = parameter.default is inspect.Parameter.empty
    parser.add_argument(
        *names,
        dest=parameter.name,
        metavar=metavar,
        required=required,
        default=None if required else parameter.default,
        help=_help(entry.help, parameter.default),
        **how,
    )


def _number(kind: type[int] | type[float], least: int | None) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = kind(text)
            if least is None or value >= least:
                return value
        except ValueError:
            pass
        expected = "a whole number" if kind is int else "a number"
        bound = "" if least is None else f", {least} or more"
        raise argparse.ArgumentTypeError(f"expected {expected}{bound}, got {text!r}")

    return number


def _converted(kind: Any, value: Any) -> Any:
    """What was typed, as the parameter's type."""
    if value is None or get_origin(kind) is list:
        return value
    if get_origin(kind) is tuple:
        return tuple(each(text) for each, text in zip(get_args(kind), value, strict=True))
    return kind(value)


def _help(text: str, default: Any = None) -> str:
    shown = "" if default in (None, inspect.Parameter.empty) else f"  [default: {default}]"
    return f"{text}{shown}".replace("%", "%%")


def _without_none(kind: Any) -> Any:
    if get_origin(kind) is UnionType:
        (kind,) = (member for member in get_args(kind) if member is not type(None))
    return kind


def _not_known(word: str, parser: _Parser) -> str:
    if not word.startswith("-"):
        return f"unexpected argument {word!r}"
    known = [name for action in parser._actions for name in action.option_strings]
    return f"no such option: {word}{near(word, known)}"
