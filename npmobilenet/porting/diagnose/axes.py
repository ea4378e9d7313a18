"""Arrays in somebody else's order of axes, brought into ours: (N, H, W, C)."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from npmobilenet.analysis.segments import distance
from npmobilenet.porting.diagnose.mistakes.precision_mistakes import FLOAT16
from npmobilenet.types import Array, Shape

OURS = ""
CHANNELS_FIRST = "channels first (NCHW)"
MUCH_NEARER = 0.1


@dataclass(frozen=True, eq=False)
class Arranged:
    """One array of a dump.

    Attributes:
        values: float64, in our order of axes where some order of them gives our shape.
        fits: whether it does.
        layout: the order of axes that it came in, where that is not ours.
        rounding: how far storing it may have moved the values; 0 unless it is stored in half precision.
        difference: the largest difference to our output, None where the shapes differ.
        note: what is wrong with the values themselves.
    """

    values: Array
    fits: bool
    layout: str = ""
    rounding: Array | float = 0.0
    difference: float | None = None
    note: str = ""


def can_be_arranged(shape: Shape, ours: Shape) -> bool:
    """Whether some order of axes turns one shape into the other; axes of length 1 do not count."""
    return sorted(side for side in shape if side != 1) == sorted(side for side in ours if side != 1)


def is_channels_first(shapes: Mapping[str, Shape], ours: Mapping[str, Shape]) -> bool:
    """Whether most maps of a dump of which the shape tells are (N, C, H, W).

    Args:
        shapes: of the dump's arrays, by layer name.
        ours: of all layers' outputs without the batch, (H, W, C) or (C,).
    """
    votes = 0
    for name, shape in shapes.items():
        H, W, C = ours[name] if len(ours[name]) == 3 else (1, 1, 1)
        if (H, W, C) != (C, H, W) and len(shape) >= 3:
            votes += (shape[-3:] == (C, H, W)) - (shape[-3:] == (H, W, C))
    return votes > 0


def arrange(array: Array, ours: Array, *, channels_first: bool = False) -> Arranged:
    """Bring an array into the order of axes of our output of the same layer.

    Where several orders give our shape it is our own, or channels first if the whole dump seems to be. Another is
    taken only if its values are much nearer to ours.
    """
    stored = np.asarray(array)
    values = stored.astype(np.float64)
    layout, fits = "", True
    candidates = sorted(_orders(values, ours.shape), key=lambda order: _oddness(order[0], channels_first))
    if candidates:
        distances = [distance(moved, ours) for _, moved in candidates]
        nearest = int(np.argmin(distances))
        layout, values = candidates[nearest if distances[nearest] < MUCH_NEARER * distances[0] else 0]
    else:
        fits = False
    rounding = FLOAT16.unit * np.abs(values) + FLOAT16.smallest if stored.dtype == np.float16 else 0.0
    return Arranged(values, fits, layout, rounding, _difference(values, ours) if fits else None, _oddities(values))


def _oddness(layout: str, channels_first: bool) -> int:
    expected = (CHANNELS_FIRST, OURS) if channels_first else (OURS, CHANNELS_FIRST)
    return expected.index(layout) if layout in expected else len(expected)


def _orders(values: Array, shape: Shape) -> list[tuple[str, Array]]:
    """The array under every order of its axes that gives the shape, with axes of length 1 added or left out.

    An array that has the shape already keeps its order, or is channels first: a square map on its side is a mistake.
    """
    sides = [side for side in values.shape if side != 1]
    wanted = [side for side in shape if side != 1]
    if not can_be_arranged(values.shape, shape):
        return []
    inner = values.reshape(sides)
    found = []
    for axes in permutations(range(len(sides))):
        if [sides[axis] for axis in axes] != wanted:
            continue
        name = _name_of(axes, values.shape, len(shape))
        if sides != wanted or name in (OURS, CHANNELS_FIRST):
            found.append((name, inner.transpose(axes).reshape(shape)))
    return found


def _name_of(axes: tuple[int, ...], shape: Shape, rank: int) -> str:
    batch = tuple(range(len(axes) - 3))
    if axes == tuple(range(len(axes))):
        return OURS
    if rank == 4 and len(axes) >= 3 and axes == (*batch, len(batch) + 1, len(batch) + 2, len(batch)):
        return CHANNELS_FIRST
    if rank == 4 and len(axes) == 2 and axes == (1, 0):  # one of H and W is 1
        return CHANNELS_FIRST
    return f"axes {shape}"


def _difference(values: Array, ours: Array) -> float:
    with np.errstate(invalid="ignore"):
        apart = np.abs(values - ours)
    finite = apart[np.isfinite(apart)]
    return float(finite.max(initial=0.0)) if finite.size else float("nan")


def _oddities(values: Array) -> str:
    nan, infinite = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    parts = [f"{nan} of {values.size} values are NaN"] * (nan > 0) + [f"{infinite} are infinite"] * (infinite > 0)
    if values.size > 1 and not values.any():
        parts.append("all values are 0")
    return ", ".join(parts)


def layout_note(arranged: Mapping[str, Arranged]) -> list[str]:
    """One line for every foreign order of axes."""
    layouts: dict[str, list[str]] = {}
    for name, array in arranged.items():
        if array.layout != OURS:
            layout = CHANNELS_FIRST if array.layout == CHANNELS_FIRST else "in other orders of axes"
            layouts.setdefault(layout, []).append(name)
    return [
        f"layout: {len(names)} arrays are {layout}, first {names[0]}; they were turned"
        for layout, names in layouts.items()
    ]
