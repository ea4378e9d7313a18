"""Mistakes with a parameter to fit: an epsilon, a factor, an order of filters; and moved values."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from npmobilenet.analysis.segments import Segment, SegmentStep, distance
from npmobilenet.porting.diagnose.mistakes.variants import SHORT, Altered, scaled
from npmobilenet.reference.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePooling2D,
    Rescaling,
)
from npmobilenet.types import Array

SECTIONS = 32  # of a golden section search: the interval shrinks to 0.618**32, two ten-millionths
DIGITS = 3  # of an epsilon in source code; the rounded value is taken if it fits better than the fitted one
MINIMUM_PIXELS = 64  # for fitting the order of depthwise filters; all pixels if affordable
FILTER_OUTPUTS = 3e7  # of all filters at all channels and pixels compared for that, which bounds the time
CHANNELS = 32  # compared at once for that, which bounds the memory
NEGLIGIBLE = 1e-3  # share of the port's range below which a factor counts as zero

Norms = tuple[BatchNormalization, ...]


def fitted(segment: Segment, actual: Array) -> Iterator[Altered]:
    """Alterations fitted to the port's output (N, ...); in long segments only the cheap ones."""
    yield from moved(segment, actual)
    if actual.shape != segment.y.shape:
        return
    if len(segment.steps) <= SHORT:
        yield from epsilons(segment, actual)
        for step in segment.steps:
            if isinstance(step.layer, DepthwiseConv2D):
                yield from permuted_filters(segment, step, step.layer, actual)
            if isinstance(step.layer, GlobalAveragePooling2D | AveragePooling2D):
                yield from factors(segment, step, actual)


def moved(segment: Segment, actual: Array) -> Iterator[Altered]:
    """The right values in other places: the other memory layout, a transposed map, classes off by one."""
    y = segment.y
    last = (segment.output,)
    if y.ndim == 4 and y[0, ..., 0].size > 1:
        N, H, W, C = y.shape
        moves: list[tuple[str, Callable[[Array], Array]]] = [
            (
                "channels first in memory, in the shape of channels last",
                lambda y: y.transpose(0, 3, 1, 2).reshape(y.shape),
            ),
            (
                "channels last in memory, transposed as if channels first",
                lambda y: y.reshape(N, C, H, W).transpose(0, 2, 3, 1),
            ),
            ("height and width of the output exchanged", lambda y: y.transpose(0, 2, 1, 3)),
            ("output upside down", lambda y: y[:, ::-1]),
            ("output mirrored", lambda y: y[:, :, ::-1]),
        ]
        for what, move in moves:
            yield Altered("layout", what, last, replace(segment, after=move, parent=segment))
    C = y.shape[-1]
    for offset in (1, -1) if y.size == len(y) * C and C > 2 else ():
        free = np.arange(C) == (0 if offset == 1 else C - 1)
        what = f"classes off by one: class k at output k {'+' if offset == 1 else '-'} 1"
        yield Altered("class-offset", what, last, replace(segment, after=_rolled(offset), free=free, parent=segment))
    if actual.shape == (*y.shape[:-1], C + 1):
        yield _with_background(segment, actual)
    if C > 1:
        yield Altered(
            "layout", "channels in reverse order", last, replace(segment, after=lambda y: y[..., ::-1], parent=segment)
        )


def _with_background(segment: Segment, actual: Array) -> Altered:
    """An additional first class; if the outputs are probabilities, its share is taken from the others."""
    total = segment.y.sum(axis=-1, keepdims=True)
    share = 1 - actual[..., :1] if np.allclose(total, 1) and np.allclose(actual.sum(axis=-1), 1) else 1.0
    after = replace(
        segment,
        after=lambda y: np.concatenate([y[..., :1] * 0, y * share], axis=-1),
        free=np.arange(actual.shape[-1]) == 0,
        parent=segment,
    )
    return Altered("class-offset", "a background class at output 0", (segment.output,), after)


def _rolled(offset: int) -> Callable[[Array], Array]:
    return lambda y: np.roll(y, offset, axis=-1)


def epsilons(segment: Segment, actual: Array) -> Iterator[Altered]:
    """The best-fitting epsilon, for all batch norms of the segment together and for each alone."""
    norms = tuple(step.layer for step in segment.steps if isinstance(step.layer, BatchNormalization))
    groups = [norms] * (len(norms) > 1) + [(norm,) for norm in norms]
    for group in groups:
        error = partial(_distance_with, segment, actual, group)
        exact = _minimum(error)
        rounded = float(f"{exact:.{DIGITS}g}")
        epsilon = min(rounded, exact, key=error)
        what = f"epsilon {epsilon:.6g} instead of {group[0].epsilon:g}"
        yield Altered("epsilon", what, tuple(norm.name for norm in group), _with_epsilon(segment, group, epsilon))


def _distance_with(segment: Segment, actual: Array, norms: Norms, epsilon: float) -> float:
    return distance(actual, _with_epsilon(segment, norms, epsilon).y)


def _with_epsilon(segment: Segment, norms: Norms, epsilon: float) -> Segment:
    return segment.altered(
        {norm.name: [SegmentStep(replace(norm, epsilon=epsilon), segment[norm.name].params)] for norm in norms}
    )


def _minimum(f: Callable[[float], float]) -> float:
    """The epsilon that minimizes f: a scan of decades, then a golden section search over the exponent."""
    ratio = (5**0.5 - 1) / 2
    center = min(range(-9, 2), key=lambda exponent: f(10.0**exponent))
    a, b = float(center - 1), float(center + 1)
    c, d = b - ratio * (b - a), a + ratio * (b - a)
    f_c, f_d = f(10**c), f(10**d)
    for _ in range(SECTIONS):
        if f_c < f_d:
            b, d, f_d = d, c, f_c
            c = b - ratio * (b - a)
            f_c = f(10**c)
        else:
            a, c, f_c = c, d, f_d
            d = a + ratio * (b - a)
            f_d = f(10**d)
    return float(10 ** ((a + b) / 2))


def factors(segment: Segment, step: SegmentStep, actual: Array) -> Iterator[Altered]:
    """The divisor of a mean, from the best-fitting factor."""
    name = step.layer.name
    _, H, W, _ = segment.outputs[step.layer.inputs[0]].shape
    if isinstance(step.layer, AveragePooling2D):
        H, W = step.layer.kernel_size
    factor = 1.0
    for _ in range(4):  # secant steps; the layers that follow are piecewise linear
        y = segment.altered({name: scaled(step, factor)}).y
        slope = segment.altered({name: scaled(step, factor * 1.001)}).y - y
        size = float((slope**2).sum())
        if not np.isfinite(size) or size == 0 or factor == 0:
            return
        factor += 0.001 * factor * float((slope * (actual - y)).sum()) / size
    if factor <= 0 or not np.isfinite(factor):
        return
    what = f"mean of {H} x {W} pixels divided by {H * W / factor:.5g} instead of {H * W}"
    yield Altered("pooling-divisor", what, (name,), segment.altered({name: scaled(step, factor)}))


def affine(segment: Segment, actual: Array) -> Iterator[Altered]:
    """The segment's output times a number, or times a number plus another."""
    y = segment.y.ravel()
    usable = np.isfinite(y) & np.isfinite(actual.ravel())
    y, t = y[usable], actual.ravel()[usable]
    if segment.output not in segment or y.size < 8 or np.ptp(y) == 0:
        return
    slope = float(y @ t / (y @ y))
    if not _is_negligible(slope, y, t):
        yield _affine(segment, slope, 0.0, f"the output times {slope:.6g}")
    slope, offset = (float(number) for number in np.polyfit(y, t, 1))
    if not _is_negligible(slope, y, t):
        yield _affine(segment, slope, offset, f"the output times {slope:.6g} plus {offset:.6g}")


def _is_negligible(slope: float, y: Array, t: Array) -> bool:
    """Whether the factor is so small that the port's values t do not depend on y."""
    return bool(abs(slope) * np.ptp(y) < NEGLIGIBLE * max(np.ptp(t), np.abs(t).max()))


def _affine(segment: Segment, slope: float, offset: float, what: str) -> Altered:
    steps = scaled(segment[segment.output], slope, offset)
    return Altered("scaled", what, (segment.output,), segment.altered({segment.output: steps}))


def permuted_filters(segment: Segment, step: SegmentStep, layer: DepthwiseConv2D, actual: Array) -> Iterator[Altered]:
    """Depthwise filters at other channels, in any order: for each channel the best-fitting filter.

    Only if all layers that follow are elementwise, and each filter has one channel.
    """
    following = segment.steps[segment.steps.index(step) + 1 :]
    elementwise = (BatchNormalization, Activation, Rescaling, Dropout)
    if layer.depth_multiplier != 1 or step.before is not None or actual.ndim != 4:
        return
    if not all(isinstance(after.layer, elementwise) for after in following):
        return
    costs = _filter_costs(segment, step, layer, following, actual)  # (filter, channel)
    C = len(costs)
    own = np.diagonal(costs)
    best = np.where(own <= costs.min(axis=0) * (1 + 1e-6) + 1e-20, np.arange(C), costs.argmin(axis=0))  # (C,)
    if np.array_equal(best, np.arange(C)) or not np.isfinite(costs).all():
        return
    steps = {layer.name: [SegmentStep(layer, {**step.params, "kernel": step.params["kernel"][:, :, best]})]}
    yield Altered("depthwise-permuted", _describe_order(best), (layer.name,), segment.altered(steps))


def _filter_costs(
    segment: Segment, step: SegmentStep, layer: DepthwiseConv2D, following: tuple[SegmentStep, ...], actual: Array
) -> Array:
    """(filter, channel): sum of squared differences from the port if the filter were at the channel."""
    w, x = step.params["kernel"], segment.outputs[layer.inputs[0]]
    C = w.shape[2]
    bare = SegmentStep(replace(layer, use_bias=False, activation="linear"), {})
    costs = np.empty((C, C))
    N, H_out, W_out, _ = actual.shape
    chosen = np.random.default_rng(0).permutation(N * H_out * W_out)
    chosen = chosen[: max(MINIMUM_PIXELS, int(FILTER_OUTPUTS / C**2))]
    t = actual.reshape(-1, C)[chosen]  # (pixels, C)
    for start in range(0, C, CHANNELS):
        channels = slice(start, start + CHANNELS)
        windows = _windows(bare, x[..., channels], w.shape[:2], chosen)  # (pixels, K*K, c)
        y = np.tensordot(windows, w.reshape(-1, C), (1, 0)).transpose(0, 2, 1)  # (pixels, C filters, c channels)
        y = _epilogue(y, step, layer.activation, following, channels)
        costs[:, channels] = ((y - t[:, None, channels]) ** 2).sum(axis=0)
    return costs


def _windows(step: SegmentStep, x: Array, K: tuple[int, ...], chosen: Array) -> Array:
    """Inputs of each chosen output pixel: (pixels, K_h * K_w, C), by filters that pick one tap each."""
    C = x.shape[-1]
    taps = []
    for tap in np.ndindex(*K):
        w = np.zeros((*K, C, 1))
        w[tap] = 1
        taps.append(SegmentStep(step.layer, {"kernel": w}).apply([x]).reshape(-1, C)[chosen])
    return np.stack(taps, axis=1)


def _epilogue(
    y: Array, step: SegmentStep, activation: str, following: tuple[SegmentStep, ...], channels: slice
) -> Array:
    """Bias, activation and the layers that follow, on (pixels, filters, channels)."""
    y = y + step.params["bias"][channels] if "bias" in step.params else y
    y = SegmentStep(Activation(name="", activation=activation), {}).apply([y])
    for after in following:
        y = SegmentStep(after.layer, {name: array[channels] for name, array in after.params.items()}).apply([y])
    return y


def _describe_order(best: Array) -> str:
    """Description of a permutation: `best[c]` is the filter at channel c."""
    C = len(best)
    if np.array_equal(best, np.arange(C)[::-1]):
        return "depthwise filters in reverse order"
    for shift in range(1, C):
        if np.array_equal(best, np.roll(np.arange(C), shift)):
            return f"depthwise filters rotated by {shift} of {C} channels"
    for groups in (groups for groups in range(2, C) if C % groups == 0):
        if np.array_equal(best, np.arange(C).reshape(groups, -1).T.ravel()):
            return f"depthwise filters shuffled: {groups} groups of {C // groups} interleaved"
    wrong = np.flatnonzero(best != np.arange(C))
    first = ", ".join(f"{best[c]} at {c}" for c in wrong[:4])
    return f"{wrong.size} of {C} depthwise filters at other channels: {first}{', ...' if wrong.size > 4 else ''}"
