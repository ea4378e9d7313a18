"""Rescaling in float32, where it is proven to give the integers that a rule asks for.

A rule takes an accumulator to an output by 64-bit integers. Three instructions of float32 do the same in less time,

    y = rint(fma(float32(acc - c), k, o)) + middle,

if c, k and o can be found such that no accumulator which 8-bit inputs can reach gives another result. Both sides rise
with the accumulator, so it suffices to look at both sides of every step of y: the least accumulator that gives at least
y, and the one below it. There are at most 255 steps, however many accumulators.

A rule that rounds twice puts the steps of negative accumulators elsewhere than those of the others, by up to two
accumulators; they get an offset of their own where one does not do for both.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from npmobilenet.quantized.rescaling import Rescaling
from npmobilenet.quantized.tensors import Ints, Tensor
from npmobilenet.quantized.weighted_sums import centered
from npmobilenet.types import Array, Pair

Floats = NDArray[np.float32]
NEIGHBORS = (0, 1, -1, 2, -2, 3, -3)  # factors tried: M in float32, and those that many units in its last place away
OFFSETS = (0.5, 0.7, 0.3)  # places tried in the interval that an offset may lie in
TRIALS = [(places, split) for places in NEIGHBORS for split in (False, True)]
LEAST_FACTOR = 2.0**-23  # below it, a product and its offset have more bits than float64


@dataclass(frozen=True, eq=False)
class Reach:
    """Least and most accumulator of every output channel, (C,) each."""

    least: Ints
    most: Ints


@dataclass(frozen=True, eq=False)
class FloatRescaling:
    """y = rint(fma(float32(acc - c), k, o)) + middle, o by the sign of acc.

    Attributes:
        c: (C,) integers, close to the accumulator of the middle step, so that acc - c is exact in float32.
        k: (C,) factors.
        o, o_negative: (C,) offsets, and those where acc < 0.
        middle: the step in the middle of the output's.
        proven: (C,) whether the results are those of the rule.
    """

    c: Ints
    k: Floats
    o: Floats
    o_negative: Floats
    middle: int
    proven: NDArray[np.bool_]

    def repeated(self, channels: int) -> "FloatRescaling":
        """The same for several channels, of a rescaling of one."""
        k, o, o_negative = (np.repeat(values, channels) for values in (self.k, self.o, self.o_negative))
        return FloatRescaling(
            np.repeat(self.c, channels), k, o, o_negative, self.middle, np.repeat(self.proven, channels)
        )

    def __call__(self, acc: Ints) -> Ints:
        """Steps (..., C) of accumulators (..., C)."""
        o = np.where(acc < 0, self.o_negative, self.o)
        return _rounded((acc - self.c).astype(np.float32), self.k, o).astype(np.int64) + self.middle

    @property
    def needs_sign(self) -> NDArray[np.bool_]:
        """(C,) whether the offset depends on the sign of the accumulator."""
        return np.asarray(self.o != self.o_negative)


def reach_of(w: Tensor, bias: Ints | int, x: Tensor) -> Reach:
    """What the accumulators of a layer can be: every input at the end of its range that its weight prefers.

    Args:
        w: (c_out, ..., c_in) weights, or (1, K_h, K_w, C) of a depthwise convolution.
        bias: (c_out,), or 0.
        x: the input.
    """
    rows = centered(w).reshape(-1, w.shape[-1]).T if w.shape[0] == 1 and len(w.shape) == 4 else centered(w)
    rows = rows.reshape(len(rows), -1)
    low, high = x.range[0] - x.zero_point, x.range[1] - x.zero_point
    positive, negative = np.maximum(rows, 0).sum(1), np.minimum(rows, 0).sum(1)
    return Reach(
        (positive * low + negative * high).astype(np.int64) + bias,
        (positive * high + negative * low).astype(np.int64) + bias,
    )


@dataclass(frozen=True, eq=False)
class RisingFunction:
    """Any function that rises with the accumulator.

    Attributes:
        M: (1,) roughly, steps per accumulator.
        function: from accumulators to steps.
        rounding: none of a rule's.
    """

    M: NDArray[np.float64]
    function: Callable[[Ints], Ints]
    rounding: str = "its own"

    def __call__(self, acc: Ints) -> Ints:
        """Steps of accumulators."""
        return self.function(acc)


def prove(rescale: Rescaling | RisingFunction, reach: Reach, limits: Pair) -> FloatRescaling:
    """A rescaling in float32 that equals the rule's wherever `proven`.

    Args:
        rescale: the rule's.
        reach: of the accumulators.
        limits: least and largest step of the output, its zero point subtracted; steps outside need not be told apart.
    """
    if rescale.rounding == "float32":
        return _as_it_is(np.broadcast_to(rescale.M, reach.least.shape).astype(np.float32), reach)
    if not _rises(rescale, reach):
        return _unproven(reach)
    if len(reach.least) > 1 == rescale.M.size:  # one factor: what holds in the reach of all channels holds in each
        least, most = reach.least.min(keepdims=True), reach.most.max(keepdims=True)
        return prove(rescale, Reach(least, most), limits).repeated(len(reach.least))
    M = rescale.M
    middle = (sum(limits) + 1) // 2
    steps = np.arange(limits[0] + 1, limits[1] + 1)[:, None]
    edges = first_accumulators(rescale, reach, steps)
    constant = ~np.any((edges > reach.least) & (edges <= reach.most), axis=0)
    value = (np.clip(rescale(reach.least), *limits) - middle).astype(np.float32)
    c = np.where(constant, 0, np.rint(middle / np.maximum(M, LEAST_FACTOR)).astype(np.int64))
    found = FloatRescaling(c, np.zeros_like(value), value, value.copy(), middle, constant.copy())
    fits = (reach.most - c < 2**31) & (reach.least - c >= -(2**31)) & (M >= LEAST_FACTOR)
    all_sides = _Edges(edges, reach, c, steps - middle)
    for places, split in TRIALS:
        left = fits & ~found.proven
        if not left.any():
            break
        k = M[left].astype(np.float32)
        _search(found, np.flatnonzero(left), k + places * np.spacing(k), all_sides.among(left), split)
    return found


def _rises(rescale: Rescaling | RisingFunction, reach: Reach) -> bool:
    """Whether the rule rises with the accumulator: it does not where a left shift leaves 32 bits."""
    most = np.maximum(np.abs(reach.least), np.abs(reach.most))
    return bool((np.where(rescale.M < 1, 0, most * rescale.M) < 2.0**30).all())


def _unproven(reach: Reach) -> FloatRescaling:
    """No channel proven."""
    zeros = np.zeros(reach.least.shape, np.int64)
    none = zeros.astype(np.float32)
    return FloatRescaling(zeros, none, none, none, 0, zeros.astype(bool))


def _as_it_is(k: Floats, reach: Reach) -> FloatRescaling:
    """The rescaling of a rule that rounds in float32 itself; results beyond 32 bits cannot be converted."""
    zeros = np.zeros(k.shape, np.int64)
    most = np.maximum(np.abs(reach.least), np.abs(reach.most))
    o = zeros.astype(np.float32)
    return FloatRescaling(zeros, k, o, o, 0, most * np.maximum(k, 1) < 2.0**31)


def first_accumulators(rescale: Rescaling | RisingFunction, reach: Reach, steps: Ints) -> Ints:
    """The least accumulator that gives at least each step.

    Args:
        rescale: the rule's.
        reach: of the accumulators.
        steps: (steps, 1), ascending.

    Returns:
        (steps, C), from `reach.least` to `reach.most` + 1, which stand for all that is below and above.
    """
    least, most = reach.least, reach.most
    edges = np.clip(np.ceil((steps - 0.5) / np.maximum(rescale.M, 2.0**-60)), least, most + 1).astype(np.int64)
    while (below := (edges <= most) & (rescale(edges) < steps)).any():
        edges += below
    while (above := (edges > least) & (rescale(edges - 1) >= steps)).any():
        edges -= above
    return edges


class _Edges:
    """Both sides of every step, of some channels.

    Attributes:
        steps: (2 steps, 1), counted from the middle one: each step, and then each again.
        d: (2 steps, channels) float32, the least accumulators that give them, then the ones below those, minus c.
        is_negative: of the accumulators.
        is_least, is_below: which of them are in reach: the least, and the ones below.
    """

    def __init__(self, edges: Ints, reach: Reach, c: Ints, steps: Ints) -> None:
        A = np.concatenate([edges, edges - 1])
        nothing = np.zeros(edges.shape, bool)
        self.steps = np.concatenate([steps, steps])
        self.d = (A - c).astype(np.float32)
        self.is_negative = A < 0
        self.is_least = np.concatenate([edges <= reach.most, nothing])
        self.is_below = np.concatenate([nothing, edges > reach.least])

    def among(self, channels: NDArray[np.bool_]) -> "_Edges":
        """Those of some of the channels."""
        if channels.all():
            return self
        some = copy(self)
        for name in ("d", "is_negative", "is_least", "is_below"):
            setattr(some, name, getattr(self, name)[:, channels])
        return some

    def intervals(self, k: Floats, split: bool) -> list[tuple[Array, Array]]:
        """The offsets between which every step is where it belongs, in exact arithmetic.

        Args:
            k: factors.
            split: whether accumulators below 0 have an interval of their own, the second.
        """
        offsets = self.steps - 0.5 - self.d * k.astype(np.float64)
        masks = (~self.is_negative, self.is_negative) if split else (True,)
        return [
            (
                np.where(self.is_least & mask, offsets, -np.inf).max(0),
                np.where(self.is_below & mask, offsets, np.inf).min(0),
            )
            for mask in masks
        ]

    def hold(self, k: Floats, o: Floats, o_negative: Floats) -> NDArray[np.bool_]:
        """Whether every step is where it belongs in float32."""
        y = _rounded(self.d, k, np.where(self.is_negative, o_negative, o))
        return np.asarray(np.where(y >= self.steps, ~self.is_below, ~self.is_least).all(0))


def _search(found: FloatRescaling, channels: NDArray[np.intp], k: Floats, edges: _Edges, split: bool) -> None:
    """Offsets for one factor per channel; what is found is written to `found`."""
    intervals: Array = np.array(edges.intervals(k, split))  # (intervals, 2, channels)
    left = np.all(intervals[:, 0] < intervals[:, 1], axis=0)
    for place in OFFSETS:
        channels, k, edges, intervals = channels[left], k[left], edges.among(left), intervals[..., left]
        offsets = _on_grid(_between(intervals[:, 0], intervals[:, 1], place), k)
        o, o_negative = offsets[0], offsets[-1]
        holds = edges.hold(k, o, o_negative)
        now = channels[holds]
        found.k[now], found.o[now], found.o_negative[now] = k[holds], o[holds], o_negative[holds]
        found.proven[now] = True
        left = ~holds
        if not left.any():
            break


def _between(least: Array, most: Array, place: float) -> Array:
    """A place between two bounds, one of which may be missing; if both are, 0."""
    has_least, has_most = np.isfinite(least), np.isfinite(most)
    low = np.where(has_least, least, np.where(has_most, most, 0))
    high = np.where(has_most, most, low)
    return low + place * (high - low)


def _on_grid(o: Array, k: Floats) -> Floats:
    """Offsets as multiples of the factor's last place, so that a product and its offset add up exactly in float64."""
    last = np.spacing(k).astype(np.float64)
    return (np.rint(o / last) * last).astype(np.float32)


def _rounded(d: Floats, k: Floats, o: Floats) -> Array:
    """rint(fma(d, k, o)): product and sum are exact in float64, and rounded to float32 once."""
    return np.rint((d * k.astype(np.float64) + o).astype(np.float32))


@dataclass(frozen=True, eq=False)
class FloatSum:
    """y = rint(fma(x1, a, fma(x2, b, o))), of bytes x1 and x2."""

    a: np.float32
    b: np.float32
    o: np.float32

    def __call__(self, x1: Floats, x2: Floats) -> Array:
        """Steps of two arrays of bytes."""
        inner = (x2 * self.b.astype(np.float64) + self.o).astype(np.float32)
        return np.rint((x1 * self.a.astype(np.float64) + inner).astype(np.float32))


def prove_sum(y: Ints, limits: Pair, factors: tuple[float, float]) -> FloatSum | None:
    """A sum in float32 that equals a rule's for all pairs of bytes, or None.

    Args:
        y: (65536,) the rule's steps, within the limits, of the pairs (0, 0), (0, 1), ..., (255, 255).
        limits: least and largest step; steps outside need not be told apart.
        factors: steps of y per step of x1 and of x2, roughly.
    """
    x1, x2 = (x.astype(np.float32) for x in np.divmod(np.arange(len(y)), 256))
    if min(map(abs, factors)) < LEAST_FACTOR:
        return None
    for a, b in product(*([np.float32(f) + n * np.spacing(np.float32(f)) for n in NEIGHBORS] for f in factors)):
        exact = x1 * a.astype(np.float64) + x2 * b.astype(np.float64)
        least = np.where(y > limits[0], y - 0.5 - exact, -np.inf).max()
        most = np.where(y < limits[1], y + 0.5 - exact, np.inf).min()
        for place in OFFSETS if least < most else ():
            found = FloatSum(a, b, np.float32(_on_grid(_between(least, most, place), np.abs(b))))
            if np.array_equal(np.clip(found(x1, x2), *limits), y):
                return found
    return None
