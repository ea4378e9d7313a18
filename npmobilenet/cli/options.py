"""Commands as functions: their signature says what argparse reads.

    def classify(
        images: Annotated[list[str], Argument(metavar="IMAGE...", help="Image files.")],
        top: Annotated[int, Option(min=1, help="Number of classes per image.")] = 5,
    ) -> None:
        '''Classify images.'''

A parameter is a `list` (one or more; any number if it has a default), a `tuple` (exactly that many), a StrEnum (a
choice), a `bool` (a switch), or one value of any type that can be made from a string; `| None` makes it optional. Its
option is --like-the-parameter unless `Option` names it otherwise. A parameter whose type is a dataclass stands for one
option per field. Typer would do this as well, but importing it takes half as long as importing NumPy.
"""

import argparse
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from npmobilenet.errors import shortened
from npmobilenet.output import printable


class UsageError(Exception):
    """Invalid options or arguments; exit code 2."""


class Exit(Exception):  # noqa: N818  not an error
    """Ends a command with an exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Argument:
    """A positional argument.

    Args:
        metavar: its name in the help.
        help: its description.
    """

    metavar: str
    help: str


class Option:
    """A named option.

    Args:
        names: "--like", "-l"; by default derived from the parameter's name.
        help: its description.
        metavar: name of its value in the help.
        min: minimum of a number.
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
    """Parse a command's arguments and run it; usage errors are printed on standard error.

    Args:
        command: a function with `Argument`s and `Option`s.
        program: the words before the arguments, "npmobilenet classify".
        arguments: the words to parse.

    Returns:
        The exit code: 0; that of `Exit`; 2 for a usage error.
    """
    parameters = list(_parameters(command))
    parser = _parser(command, parameters, program)
    try:
        options, left = parser.parse_known_intermixed_args(_unambiguous(arguments, parser))
        if left:
            raise UsageError(_unknown(left[0], parser))
        command(**_keywords(command, parameters, vars(options)))
    except UsageError as error:
        print_usage_error(parser.format_usage(), program, str(error))
        return 2
    except Exit as end:
        return end.code
    return 0


def _unambiguous(arguments: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Arguments in which a word with a leading dash is not taken for an option if it is a choice, or a file."""
    options = {name: action for action in parser._actions for name in action.option_strings}
    words: list[str] = []
    for word in arguments:
        before = options.get(words[-1]) if words else None
        if before is not None and before.choices is not None and word.startswith("-") and word in before.choices:
            words[-1] += f"={word}"  # --range -1..1
        elif word.startswith("-") and word not in ("-", "--", *options) and Path(word).is_file():
            words.append(f"./{word}")  # a download
        else:
            words.append(word)
    return words


def print_usage_error(usage: str, program: str, message: str) -> None:
    """Print the usage of a program and an error."""
    print(f"{usage}Try '{program} --help' for help.\n\nError: {printable(shortened(message))}", file=sys.stderr)


def near(word: str, words: Iterable[str]) -> str:
    """End of a message about an unknown word: the nearest known one."""
    from difflib import get_close_matches

    found = get_close_matches(word, list(words), n=1)
    return f"; did you mean {found[0]}?" if found else ""


@dataclass(frozen=True)
class _Parameter:
    """One argument or option; `group` is the command's parameter whose field it is, or empty."""

    name: str
    kind: Any
    entry: Argument | Option
    default: Any
    group: str = ""

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


def _parameters(command: Callable[..., None]) -> Iterator[_Parameter]:
    """Arguments and options of a command, those of its dataclasses field by field."""
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        if not is_dataclass(hints[name]):
            kind, entry = get_args(hints[name])[:2]
            yield _Parameter(name, _without_none(kind), entry, parameter.default)
            continue
        inner = get_type_hints(hints[name], include_extras=True)
        for each in fields(hints[name]):
            kind, entry = get_args(inner[each.name])[:2]
            yield _Parameter(each.name, _without_none(kind), entry, each.default, group=name)


def _keywords(command: Callable[..., None], parameters: Sequence[_Parameter], parsed: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a command from parsed options."""
    hints = get_type_hints(command)
    grouped: dict[str, dict[str, Any]] = {}
    for parameter in parameters:
        grouped.setdefault(parameter.group, {})[parameter.name] = _converted(parameter.kind, parsed[parameter.name])
    return grouped.pop("", {}) | {name: hints[name](**values) for name, values in grouped.items()}


def _parser(command: Callable[..., None], parameters: Sequence[_Parameter], program: str) -> _Parser:
    usage = [program, "[OPTIONS]"]
    parser = _Parser(
        description=inspect.getdoc(command), formatter_class=_Paragraphs, allow_abbrev=False, add_help=False
    )
    for parameter in parameters:
        if isinstance(parameter.entry, Argument):
            usage.append(parameter.entry.metavar)
            _add_argument(parser, parameter, parameter.entry)
        else:
            _add_option(parser, parameter, parameter.entry)
    parser.add_argument("--help", action="help", help="Show this message and exit.")
    parser.usage = " ".join(usage)
    return parser


def _add_argument(parser: _Parser, parameter: _Parameter, entry: Argument) -> None:
    several = get_origin(parameter.kind) is list
    parser.add_argument(
        parameter.name,
        metavar=entry.metavar,
        nargs=("+" if parameter.required else "*") if several else None if parameter.required else "?",
        default=None if parameter.required else parameter.default,
        help=_help(entry.help, parameter.default),
    )


def _add_option(parser: _Parser, parameter: _Parameter, entry: Option) -> None:
    kind = parameter.kind
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
    parser.add_argument(
        *names,
        dest=parameter.name,
        metavar=metavar,
        required=parameter.required,
        default=None if parameter.required else parameter.default,
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
        expected = "an integer" if kind is int else "a number"
        bound = "" if least is None else f" of at least {least}"
        raise argparse.ArgumentTypeError(f"expected {expected}{bound}, got {text!r}")

    return number


def _converted(kind: Any, value: Any) -> Any:
    """A parsed value as the parameter's type."""
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


def _unknown(word: str, parser: _Parser) -> str:
    if not word.startswith("-"):
        return f"unexpected argument {word!r}"
    known = [name for action in parser._actions for name in action.option_strings]
    return f"no such option: {word}{near(word, known)}"
