"""Arrays in somebody else's order of axes, brought into ours: (N, H, W, C)."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from npmobilenet.compare.formats import FLOAT16
from npmobilenet.compare.segments import distance
from npmobilenet.ops import Array
from npmobilenet.shapes import Shape


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


def arrange(array: Array, ours: Array) -> Arranged:
    """Bring an array into the order of axes of our output of the same layer.

    Of several orders that give our shape the one nearest to our values is taken; an array that has our shape already
    stays as it is, unless channels first has that shape too and is much nearer.
    """
    stored = np.asarray(array)
    values = stored.astype(np.float64)
    layout, fits = "", True
    candidates = [(name, moved) for name, moved in _orders(values, ours.shape) if moved.shape == ours.shape]
    if candidates:
        best = min(candidates, key=lambda candidate: distance(candidate[1], ours))
        first = candidates[0]
        if first[0] == "" and not distance(best[1], ours) < 0.5 * distance(first[1], ours):
            best = first
        layout, values = best
    else:
        fits = False
    rounding = FLOAT16.unit * np.abs(values) + FLOAT16.smallest if stored.dtype == np.float16 else 0.0
    return Arranged(values, fits, layout, rounding, _difference(values, ours) if fits else None, _oddities(values))


def _orders(values: Array, shape: Shape) -> list[tuple[str, Array]]:
    """The array as it is, or else under every order of its axes, with axes of length 1 added or left out."""
    sides = [side for side in values.shape if side != 1]
    wanted = [side for side in shape if side != 1]
    if sides == wanted:
        orders = [("", values.reshape(shape))]
        if len(shape) == 4 and len(sides) >= 3 and len(set(sides[-3:])) == 1:  # H, W and C are equal
            moved = np.moveaxis(values.reshape(sides), -3, -1)
            orders.append(("channels first (NCHW)", moved.reshape(shape)))
        return orders
    if not can_be_arranged(values.shape, shape):
        return []
    inner = values.reshape(sides)
    found = []
    for axes in permutations(range(len(sides))):
        if [sides[axis] for axis in axes] == wanted:
            first = axes[-1] == len(sides) - len(shape[1:]) and list(axes[:-1]) == sorted(axes[:-1])
            name = "channels first (NCHW)" if first else f"axes {values.shape}"
            found.append((name, inner.transpose(axes).reshape(shape)))
    return found


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
        if array.layout:
            layouts.setdefault(
                "channels first (NCHW)" if "NCHW" in array.layout else "other orders of axes", []
            ).append(name)
    return [
        f"layout: {len(names)} arrays are {layout}, first {names[0]}; they were turned"
        for layout, names in layouts.items()
    ]
