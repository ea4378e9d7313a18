"""Terminal output: tables, plain text for files and pipes, JSON, progress on standard error."""

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from textwrap import indent
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

Item = TypeVar("Item")

_shown: "Console | None" = None  # with a progress bar at its bottom; messages are printed above it


_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """A text whose control characters are written out, so that names from files cannot steer a terminal."""
    return text.translate(_CONTROL)


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table: by rich on a terminal, else as columns of plain text.

    Args:
        header: column names; columns of numbers are right-aligned.
        rows: one value per column; None is an empty cell.
        title: line above the table.
    """
    cells = [tuple(map(_cell, row)) for row in rows]
    right = [all(_is_number(row[column]) for row in cells) for column in range(len(header))]
    if sys.stdout.isatty():
        _print_drawn(header, cells, right, title)
    else:
        _print_plain(header, cells, right, title)


def print_json(document: object) -> None:
    """Print one JSON document; NaN and infinity, which JSON does not have, become null."""
    print(json_text(document))


def json_text(document: object) -> str:
    """Text that `print_json` prints; the parts of a large document take less memory as text."""
    text = json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False)
    return text.translate({code: f"\\u{code:04x}" for code in range(127, 160)})  # what JSON allows and terminals obey


def print_json_list(texts: Sequence[str]) -> None:
    """Print a list, given the `json_text` of its items, as `print_json` prints it."""
    parts = ",".join(f"\n{indent(text, '  ')}" for text in texts)
    print(f"[{parts}\n]" if texts else "[]")


def progress_bar(items: Iterable[Item], total: int | None, label: str, unit: str = "") -> Iterator[Item]:
    """Yield items with a progress bar; without one if standard error is not a terminal.

    Args:
        items: the items.
        total: number of items, or None if unknown.
        label: text before the bar.
        unit: of the items, to show their rate per second; "" shows no rate.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    global _shown
    _shown = Console(stderr=not sys.stdout.isatty())
    columns = list(Progress.get_default_columns())  # label, bar, percentage, time left
    if unit:
        columns.insert(-1, TextColumn("{task.fields[rate]}"))
    bar = Progress(*columns, console=_shown, transient=True, redirect_stdout=False, redirect_stderr=False)
    try:
        with bar:
            task = bar.add_task(label, total=total, rate="")
            for item in items:
                yield item
                speed = bar.tasks[task].speed
                bar.update(task, advance=1, rate="" if speed is None else f"{speed:,.0f} {unit}/s")
    finally:
        _shown = None


@contextmanager
def byte_progress(label: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a progress bar for a transfer of bytes on standard error, if that is a terminal.

    Yields:
        A callback for (bytes so far, total bytes or None if unknown); a no-op if standard error is not a terminal.
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(label), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def print_line(text: str = "") -> None:
    """Print a line of results, or several."""
    print(printable(text))


def print_note(text: str) -> None:
    """Print a note for the user on standard error; standard output is for results."""
    print(printable(text), file=sys.stderr)


@contextmanager
def waiting(message: str) -> Iterator[None]:
    """A message on standard error while the body runs, with a spinner if that is a terminal."""
    message = printable(message)
    if not sys.stderr.isatty():
        print(message, file=sys.stderr)
        yield
        return
    if _shown is not None:  # a progress bar is on screen
        _shown.print(message)
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
    console = _shown or Console()
    if title:
        console.print(Text(printable(title), style="bold"), soft_wrap=True)
    console.print(table)


def _print_plain(header: Sequence[str], cells: list[tuple[str, ...]], right: list[bool], title: str) -> None:
    lines = [tuple(header), *cells] if any(header) else cells
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    if title:
        print(printable(title))
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
    return printable(str(value))


def _is_number(cell: str) -> bool:
    return not cell.strip("0123456789.,%-+ ") and cell != "-"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
