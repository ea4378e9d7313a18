"""The text of functions that run, with file and lines."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Source(NamedTuple):
    """Text of a function: the file, its first and last line there, and the lines."""

    file: Path
    first: int
    last: int
    text: str


def source_of(function: Callable[..., Any]) -> Source:
    """Where a function is written; of one that Numba has compiled, what it was compiled from."""
    plain = getattr(function, "py_func", function)
    lines, first = inspect.getsourcelines(plain)
    file = inspect.getsourcefile(plain)
    assert file is not None
    return Source(Path(file), first, first + len(lines) - 1, "".join(lines))


def module_path(function: Callable[..., Any]) -> str:
    """The file of a function's module from its package on, and its lines: npmobilenet/ladder/rungs.py:80-92."""
    source = source_of(function)
    return f"{function.__module__.replace('.', '/')}.py:{source.first}-{source.last}"
