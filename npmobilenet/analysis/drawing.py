"""Figures drawn with matplotlib."""

from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from npmobilenet.errors import NpMobileNetError
from npmobilenet.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure() -> "Figure":
    """An empty figure of 10 x 5 inches.

    Raises:
        NpMobileNetError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NpMobileNetError("drawing requires matplotlib: pip install 'npmobilenet[plot]'") from error
    return Figure(figsize=(10, 5), layout="constrained")


def save_figure(figure: "Figure", path: str | PathLike[str]) -> None:
    """Write a figure; the suffix of the path (.png, .svg, .pdf) is the format.

    Raises:
        NpMobileNetError: the format is not supported.
        OSError: the file cannot be written.
    """
    content = BytesIO()
    try:
        figure.savefig(content, format=Path(path).suffix[1:] or "png", dpi=150)
    except ValueError as error:
        raise NpMobileNetError(f"{path}: cannot be drawn: {error}") from error
    write_atomically(Path(path), content.getvalue())
