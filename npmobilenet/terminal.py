"""What the command line shows: tables for people, plain text for files and pipes, progress on standard error."""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table: drawn by rich on a terminal, else as columns of plain text.

    Args:
        header: name of every column; numbers stand to the right.
        rows: one value a column; None is an empty cell.
        title: a line above.
    """
    cells = [tuple(map(_cell, row)) for row in rows]
    right = [all(_is_number(row[column]) for row in cells) for column in range(len(header))]
    if sys.stdout.isatty():
        _print_drawn(header, cells, right, title)
    else:
        _print_plain(header, cells, right, title)


def print_json(document: object) -> None:
    """Print one JSON document; NaN and infinity, which JSON has not, become null."""
    print(json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False))


def progress_bar(items: Iterable[Item], total: int | None, label: str) -> Iterator[Item]:
    """Hand items on; show a bar on standard error while that takes, if a person is there to see it."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False)
    with bar:
        yield from bar.track(items, total, description=label)


@contextmanager
def waiting(message: str) -> Iterator[None]:
    """Say on standard error what takes a while, with something that moves if a person is there to see it."""
    if not sys.stderr.isatty():
        print(message, file=sys.stderr)
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(message):
        yield


def _print_drawn(header: Sequence[str], cells: list[tuple[str, ...]], right: list[bool], title: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_header=any(header), show_edge=False, pad_edge=False)
    for column, (name, is_right) in enumerate(zip(header, right, strict=True)):
        table.add_column(name, justify="right" if is_right else "left", no_wrap=column == 0, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    console = Console()
    if title:
        console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(table)


def _print_plain(header: Sequence[str], cells: list[tuple[str, ...]], right: list[bool], title: str) -> None:
    lines = [tuple(header), *cells] if any(header) else cells
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    if title:
        print(title)
    for line in lines:
        padded = (
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, right, strict=True)
        )
        print("  ".join(padded).rstrip())


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, tuple):
        return " x ".join(map(str, value))
    return str(value)


def _is_number(cell: str) -> bool:
    return not cell.strip("0123456789.,%-+ ") and cell != "-"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
