"""Arrays in any order of axes, rearranged to (N, H, W, C)."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from npmobilenet.analysis.segments import distance
from npmobilenet.porting.diagnose.mistakes.precision_mistakes import FLOAT16
from npmobilenet.types import Array, Shape

CHANNELS_LAST = ""  # the reference's own order, which needs no note
CHANNELS_FIRST = "channels first (NCHW)"
MUCH_CLOSER = 0.1


@dataclass(frozen=True, eq=False)
class Arranged:
    """One array of a dump.

    Attributes:
        values: float64, in the reference's order of axes if some order gives the reference's shape.
        fits: whether some order does.
        layout: the order of axes in the dump, "" if it is the reference's.
        rounding: bound on the rounding error of storage; 0 unless stored in half precision.
        difference: maximum difference from the reference's output, None if the shapes differ.
        note: NaN, infinite or all-zero values.
    """

    values: Array
    fits: bool
    layout: str = ""
    rounding: Array | float = 0.0
    difference: float | None = None
    note: str = ""


def can_be_arranged(shape: Shape, expected: Shape) -> bool:
    """Whether some order of axes turns one shape into the other; axes of length 1 are ignored."""
    return sorted(side for side in shape if side != 1) == sorted(side for side in expected if side != 1)


def is_channels_first(shapes: Mapping[str, Shape], expected: Mapping[str, Shape]) -> bool:
    """Whether most feature maps with an unambiguous shape are (N, C, H, W).

    Args:
        shapes: of the dump's arrays, by layer name.
        expected: of all layers' outputs without the batch axis, (H, W, C) or (C,).
    """
    votes = 0
    for name, shape in shapes.items():
        H, W, C = expected[name] if len(expected[name]) == 3 else (1, 1, 1)
        if (H, W, C) != (C, H, W) and len(shape) >= 3:
            votes += (shape[-3:] == (C, H, W)) - (shape[-3:] == (H, W, C))
    return votes > 0


def arrange(array: Array, expected: Array, *, channels_first: bool = False) -> Arranged:
    """An array of a dump in the order of axes of the reference's output of the same layer, `expected` (N, ...).

    If several orders give the expected shape, the reference's own order is taken, or channels first if most of the
    dump is; another one only if its values are much closer.
    """
    stored = np.asarray(array)
    values = stored.astype(np.float64)
    layout, fits = "", True
    candidates = sorted(_orders(values, expected.shape), key=lambda order: _oddness(order[0], channels_first))
    if candidates:
        distances = [distance(moved, expected) for _, moved in candidates]
        closest = int(np.argmin(distances))
        layout, values = candidates[closest if distances[closest] < MUCH_CLOSER * distances[0] else 0]
    else:
        fits = False
    rounding = FLOAT16.unit * np.abs(values) + FLOAT16.smallest if stored.dtype == np.float16 else 0.0
    return Arranged(values, fits, layout, rounding, _difference(values, expected) if fits else None, _oddities(values))


def _oddness(layout: str, channels_first: bool) -> int:
    usual = (CHANNELS_FIRST, CHANNELS_LAST) if channels_first else (CHANNELS_LAST, CHANNELS_FIRST)
    return usual.index(layout) if layout in usual else len(usual)


def _orders(values: Array, shape: Shape) -> list[tuple[str, Array]]:
    """(layout, array) for every order of axes that gives the shape, with axes of length 1 added or removed.

    An array that already has the shape keeps its order, or is channels first: a transposed square map is a mistake.
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
        if sides != wanted or name in (CHANNELS_LAST, CHANNELS_FIRST):
            found.append((name, inner.transpose(axes).reshape(shape)))
    return found


def _name_of(axes: tuple[int, ...], shape: Shape, rank: int) -> str:
    batch = tuple(range(len(axes) - 3))
    if axes == tuple(range(len(axes))):
        return CHANNELS_LAST
    if rank == 4 and len(axes) >= 3 and axes == (*batch, len(batch) + 1, len(batch) + 2, len(batch)):
        return CHANNELS_FIRST
    if rank == 4 and len(axes) == 2 and axes == (1, 0):  # one of H and W is 1
        return CHANNELS_FIRST
    return f"axes {shape}"


def _difference(values: Array, expected: Array) -> float:
    with np.errstate(invalid="ignore"):
        difference = np.abs(values - expected)
    finite = difference[np.isfinite(difference)]
    return float(finite.max(initial=0.0)) if finite.size else float("nan")


def _oddities(values: Array) -> str:
    nan, infinite = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    parts = [f"{nan} of {values.size} values are NaN"] * (nan > 0) + [f"{infinite} are infinite"] * (infinite > 0)
    if values.size > 1 and not values.any():
        parts.append("all values are 0")
    return ", ".join(parts)


def layout_note(arranged: Mapping[str, Arranged]) -> list[str]:
    """One line per order of axes other than the reference's."""
    layouts: dict[str, list[str]] = {}
    for name, array in arranged.items():
        if array.layout != CHANNELS_LAST:
            layout = CHANNELS_FIRST if array.layout == CHANNELS_FIRST else "in other orders of axes"
            layouts.setdefault(layout, []).append(name)
    return [
        f"layout: {len(names)} arrays are {layout}, first {names[0]}; they were transposed"
        for layout, names in layouts.items()
    ]
