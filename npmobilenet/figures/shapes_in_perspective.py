"""Feature maps and filters as cuboids, layers as boxes, arrows between them, values above bars."""

from typing import TYPE_CHECKING

from npmobilenet.figures.style import DARK, INK, LIGHT, PAPER, QUIET, SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

SLANT = 0.45  # how far an edge that points away goes to the right and up, per unit of its length


def blank_axes(canvas: "Canvas", *, equal: bool = True) -> "Axes":
    """Axes without an axis, for shapes."""
    axes: Axes = canvas.subplots()
    clear(axes, equal=equal)
    return axes


def clear(axes: "Axes", *, equal: bool = True) -> None:
    """Take the axis from axes; equal: one unit is as long in x as in y."""
    axes.set_axis_off()
    if equal:
        axes.set_aspect("equal")


def cuboid(
    axes: "Axes", x: float, y: float, width: float, height: float, depth: float, *, color: str = LIGHT, hatch: str = ""
) -> None:
    """A box with its front at (x, y), the lower left corner; depth points away to the upper right."""
    from matplotlib.patches import Polygon

    dx = dy = depth * SLANT
    front = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    top = [(x, y + height), (x + dx, y + height + dy), (x + width + dx, y + height + dy), (x + width, y + height)]
    side = [(x + width, y), (x + width + dx, y + dy), (x + width + dx, y + height + dy), (x + width, y + height)]
    for corners, shade in ((side, 0.75), (top, 1.12), (front, 1.0)):
        face = _shaded(color, shade)
        axes.add_patch(Polygon(corners, facecolor=face, edgecolor=INK, linewidth=0.7, hatch=hatch, closed=True))


def box(
    axes: "Axes", x: float, y: float, width: float, height: float, text: str, *, color: str = PAPER, hatch: str = ""
) -> None:
    """A rectangle centered at (x, y) with a text in it; dark boxes have white text."""
    from matplotlib.patches import FancyBboxPatch

    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0,rounding_size=0.06"
    axes.add_patch(
        FancyBboxPatch(
            corner, width, height, boxstyle=style, facecolor=color, edgecolor=INK, linewidth=0.8, hatch=hatch
        )
    )
    axes.text(x, y, text, ha="center", va="center", fontsize=SMALL, color=PAPER if color == DARK else INK)


def arrow(axes: "Axes", start: tuple[float, float], end: tuple[float, float], *, bend: float = 0.0) -> None:
    """An arrow in data coordinates; bend: of its arc, as matplotlib's `arc3,rad`."""
    style = {"arrowstyle": "-|>", "color": QUIET, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=style | {"connectionstyle": f"arc3,rad={bend}"})


def label(axes: "Axes", x: float, y: float, text: str, *, size: float = SMALL, ha: str = "center") -> None:
    """Text below or above a shape, centered in both directions unless `ha` says otherwise."""
    axes.text(x, y, text, ha=ha, va="center", fontsize=size, linespacing=1.3)


def value_above(axes: "Axes", x: float, y: float, text: str) -> None:
    """The value of a bar, two points above its end at (x, y)."""
    axes.annotate(text, (x, y), (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=SMALL)


def _shaded(color: str, factor: float) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return tuple(min(1.0, channel * factor) for channel in to_rgb(color))
