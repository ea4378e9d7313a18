"""Mistakes seen in the output alone: values dropped, moved, or rounded to a grid."""

from collections.abc import Iterator

import numpy as np

from npmobilenet.analysis.segments import Segment
from npmobilenet.porting.diagnose.mistakes.applied import Function, followed_by
from npmobilenet.porting.diagnose.mistakes.variants import Altered
from npmobilenet.types import Array

MINIMUM_SHARE = 0.02  # of values that dropout must drop, and keep
MOST_LEVELS = 2**16  # of a quantized output
MOST_COSTS = 3e8  # values compared to find a shift of channels
ORDERED_CHANNELS = 2048  # at most, to find their order
PIXELS = 256  # compared for that


def output_mistakes(segment: Segment, actual: Array) -> Iterator[Altered]:
    """What could have been done to a segment's output, by the port's output (N, ...) of the same shape."""
    yield from dropped(segment, actual)
    yield from shifted_channels(segment, actual)
    if actual.ndim == 4:
        yield from shifted_lines(segment)
    yield from on_a_grid(segment, actual)


def dropped(segment: Segment, actual: Array) -> Iterator[Altered]:
    """Dropout that is active: a share of the values is 0, and the others are larger by one factor; or only the 0."""
    y = segment.y
    nonzero = np.abs(y) > 1e-6 * max(float(np.abs(y).max()), 1e-30)
    dropped = nonzero & (actual == 0)
    share = float(dropped.sum() / max(nonzero.sum(), 1))
    if not MINIMUM_SHARE < share < 1 - MINIMUM_SHARE:
        return
    kept = nonzero & ~dropped
    factor = float(np.median(actual[kept] / y[kept]))
    mask = (actual != 0) | ~nonzero
    if abs(factor - 1) > 1e-4:
        what = f"dropout active: {share:.0%} of the values are 0, the others times {factor:.6g}"
        yield _followed(segment, "dropout-active", what, lambda x: x * mask * factor, abs(factor))
    for axis, kind in enumerate(("images", "rows", "columns", "channels") if y.ndim == 4 else ()):
        others = tuple(other for other in range(4) if other != axis)
        lines = dropped.any(axis=others, keepdims=True)
        if axis and lines.any() and not (lines & kept).any():
            what = f"{kind} {_listed(np.flatnonzero(lines))} left at 0"
            yield _followed(segment, "not-computed", what, lambda x, lines=lines: x * ~lines)


def _listed(numbers: Array) -> str:
    if numbers.size > 2 and np.array_equal(numbers, np.arange(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers[:5])) + (", ..." if numbers.size > 5 else "")


def _followed(
    segment: Segment, cause: str, what: str, function: Function, slope: float = 1.0, moves: Function | None = None
) -> Altered:
    steps = followed_by(segment[segment.output], function, slope=slope, moves=moves)
    return Altered(cause, what, (segment.output,), segment.altered({segment.output: steps}))


def _moved(segment: Segment, cause: str, what: str, function: Function) -> Altered:
    return _followed(segment, cause, what, function, moves=function)


def shifted_channels(segment: Segment, actual: Array) -> Iterator[Altered]:
    """Channels of the output shifted by any number, or in any order."""
    C = segment.y.shape[-1]
    if C < 3:
        return
    pixels, wanted = segment.y.reshape(-1, C), actual.reshape(-1, C)
    if pixels.size * C < MOST_COSTS:
        costs = [float(np.abs(np.roll(pixels, k, -1) - wanted).sum()) for k in range(C)]
        shift = int(np.argmin(costs))
        by = shift if shift <= C // 2 else shift - C
        if by:
            what = f"output channels shifted by {by}"
            yield _moved(segment, "channels-shifted", what, lambda x: np.roll(x, by, -1))
    order = _order(pixels, wanted)
    if order is not None:
        how = f"interleaved in {groups} groups" if (groups := _groups(order)) else f"in another order: {_listed(order)}"
        yield _moved(segment, "channels-permuted", f"output channels {how}", lambda x: x[..., order])


def _order(y: Array, actual: Array) -> Array | None:
    """The order of channels that makes y (pixels, C) the port's, None if there is none or it is the own one."""
    C = y.shape[1]
    if C > ORDERED_CHANNELS or y.shape[0] < 4:
        return None
    some = np.random.default_rng(0).permutation(len(y))[:PIXELS]
    a, b = y[some], actual[some]
    costs = (a**2).sum(0)[:, None] - 2 * a.T @ b + (b**2).sum(0)[None]
    best = costs.argmin(0)
    return best if np.unique(best).size == C and not np.array_equal(best, np.arange(C)) else None


def _groups(order: Array) -> int:
    """Number of groups whose channels are interleaved, 0 if they are not."""
    C = order.size
    divisors = (groups for groups in range(2, C) if C % groups == 0)
    return next((g for g in divisors if np.array_equal(order, np.arange(C).reshape(g, -1).T.ravel())), 0)


def shifted_lines(segment: Segment) -> Iterator[Altered]:
    """Rows or columns of a map shifted, around or with zeros where they came from."""
    for axis, kind in ((1, "rows"), (2, "columns")):
        for by in (1, -1, 2, -2):
            what = f"{kind} of the output rotated by {by}"
            yield _moved(segment, "layout", what, lambda x, by=by, axis=axis: np.roll(x, by, axis))
            what = f"{kind} of the output shifted by {by}, zeros in their place"
            yield _moved(segment, "layout", what, lambda x, by=by, axis=axis: _shifted(x, by, axis))


def _shifted(x: Array, by: int, axis: int) -> Array:
    y = np.roll(x, by, axis)
    edge = [slice(None)] * x.ndim
    edge[axis] = slice(0, by) if by > 0 else slice(by, None)
    y[tuple(edge)] = 0
    return y


def on_a_grid(segment: Segment, actual: Array) -> Iterator[Altered]:
    """Values that are multiples of one step: fixed-point or quantized outputs, rounded or cut off."""
    levels = np.unique(actual)
    if levels.size < 4:
        return
    step = float(np.diff(levels).min())
    if np.ptp(levels) / step > MOST_LEVELS:
        return
    largest = float(np.abs(actual).max())
    step = largest / float(np.rint(largest / step))
    offset = float(levels[0] - np.rint(levels[0] / step) * step)
    places = (levels - offset) / step
    if np.abs(places - np.rint(places)).max() > 0.02:
        return
    low, high = float(levels[0]), float(levels[-1])
    for how, rounded in ROUNDINGS.items():

        def function(x: Array, rounded: Function = rounded) -> Array:
            y = np.clip(rounded((x - offset) / step) * step + offset, low, high)
            tie = _near_tie((x - offset) / step, rounded) & (np.abs(y - actual) <= 1.01 * step)
            return np.where(tie, actual, y)

        what = f"output {how} to multiples of {step:.6g}, {levels.size} levels"
        yield _followed(segment, "quantized-output", what, function)


ROUNDINGS: dict[str, Function] = {
    "rounded": np.rint,
    "rounded half up": lambda q: np.floor(q + 0.5),
    "cut off": np.trunc,
    "rounded down": np.floor,
}


def _near_tie(q: Array, rounded: Function) -> Array:
    """Where float32 arithmetic may round to the other side."""
    margin = 1e-5 * (np.abs(q) + 1)
    return np.not_equal(rounded(q - margin), rounded(q + margin))
