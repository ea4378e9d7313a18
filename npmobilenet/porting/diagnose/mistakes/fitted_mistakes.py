"""Mistakes with a number to be found: any epsilon, any factor, any order of filters; and values in other places."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from npmobilenet.analysis.segments import Segment, distance
from npmobilenet.analysis.segments import SegmentStep as Step
from npmobilenet.porting.diagnose.mistakes.layer_mistakes import SHORT, Altered, scaled
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
DIGITS = 3  # of an epsilon that somebody would type; taken if it fits better than what was found
FEWEST_PIXELS = 64  # from which the order of depthwise filters is found; all pixels where that is affordable
ANSWERS = 3e7  # of all filters at all channels and pixels looked at there, which bounds the time
CHANNELS = 32  # looked at together there, which bounds the memory

Norms = tuple[BatchNormalization, ...]


def solved(segment: Segment, theirs: Array) -> Iterator[Altered]:
    """Alterations fitted to the other side's values. In long segments only what is cheap."""
    yield from moved(segment, theirs)
    if theirs.shape != segment.y.shape:
        return
    if len(segment.steps) <= SHORT:
        yield from epsilons(segment, theirs)
        for step in segment.steps:
            if isinstance(step.layer, DepthwiseConv2D):
                yield from permuted_filters(segment, step, theirs)
            if isinstance(step.layer, GlobalAveragePooling2D | AveragePooling2D):
                yield from factors(segment, step, theirs)
    yield from affine(segment, theirs)


def moved(segment: Segment, theirs: Array) -> Iterator[Altered]:
    """The right values in other places: the other layout of memory, a map on its side, classes off by one."""
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
                "channels last in memory, turned as if channels first",
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
    if theirs.shape == (*y.shape[:-1], C + 1):
        yield _with_background(segment, theirs)
    if C > 1:
        yield Altered(
            "layout", "channels in reverse order", last, replace(segment, after=lambda y: y[..., ::-1], parent=segment)
        )


def _with_background(segment: Segment, theirs: Array) -> Altered:
    """One class more, in front; where the outputs are probabilities, its share is taken from the others."""
    total = segment.y.sum(axis=-1, keepdims=True)
    share = 1 - theirs[..., :1] if np.allclose(total, 1) and np.allclose(theirs.sum(axis=-1), 1) else 1.0
    after = replace(
        segment,
        after=lambda y: np.concatenate([y[..., :1] * 0, y * share], axis=-1),
        free=np.arange(theirs.shape[-1]) == 0,
        parent=segment,
    )
    return Altered("class-offset", "a class for the background at output 0", (segment.output,), after)


def _rolled(offset: int) -> Callable[[Array], Array]:
    return lambda y: np.roll(y, offset, axis=-1)


def epsilons(segment: Segment, theirs: Array) -> Iterator[Altered]:
    """The epsilon that fits best, for all batch norms of the segment together and for each alone."""
    norms = tuple(step.layer for step in segment.steps if isinstance(step.layer, BatchNormalization))
    groups = [norms] * (len(norms) > 1) + [(norm,) for norm in norms]
    for group in groups:
        apart = partial(_distance_with, segment, theirs, group)
        found = _minimum(apart)
        typed = float(f"{found:.{DIGITS}g}")
        epsilon = min(typed, found, key=apart)
        what = f"epsilon {epsilon:.6g} instead of {group[0].epsilon:g}"
        yield Altered("epsilon", what, tuple(norm.name for norm in group), _with_epsilon(segment, group, epsilon))


def _distance_with(segment: Segment, theirs: Array, norms: Norms, epsilon: float) -> float:
    return distance(theirs, _with_epsilon(segment, norms, epsilon).y)


def _with_epsilon(segment: Segment, norms: Norms, epsilon: float) -> Segment:
    return segment.altered(
        {norm.name: [Step(replace(norm, epsilon=epsilon), segment[norm.name].params)] for norm in norms}
    )


def _minimum(f: Callable[[float], float]) -> float:
    """The epsilon for which f is least: a scan of decades, then a golden section search over the exponent."""
    ratio = (5**0.5 - 1) / 2
    centre = min(range(-9, 2), key=lambda exponent: f(10.0**exponent))
    a, b = float(centre - 1), float(centre + 1)
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


def factors(segment: Segment, step: Step, theirs: Array) -> Iterator[Altered]:
    """The number that a mean was divided by, from the factor that fits best."""
    name = step.layer.name
    _, H, W, _ = segment.outputs[step.layer.inputs[0]].shape
    if isinstance(step.layer, AveragePooling2D):
        H, W = step.layer.kernel_size
    factor = 1.0
    for _ in range(4):  # a secant each; what follows is made of straight lines
        y = segment.altered({name: scaled(step, factor)}).y
        slope = segment.altered({name: scaled(step, factor * 1.001)}).y - y
        size = float((slope**2).sum())
        if not np.isfinite(size) or size == 0 or factor == 0:
            return
        factor += 0.001 * factor * float((slope * (theirs - y)).sum()) / size
    if factor <= 0 or not np.isfinite(factor):
        return
    what = f"mean of {H} x {W} pixels divided by {H * W / factor:.5g} instead of {H * W}"
    yield Altered("pooling-divisor", what, (name,), segment.altered({name: scaled(step, factor)}))


def affine(segment: Segment, theirs: Array) -> Iterator[Altered]:
    """Everything times one number, or times one number and plus another, at the end of the segment."""
    y = segment.y.ravel()
    usable = np.isfinite(y) & np.isfinite(theirs.ravel())
    y, t = y[usable], theirs.ravel()[usable]
    if segment.output not in segment or y.size < 8 or np.ptp(y) == 0:
        return
    slope = float(y @ t / (y @ y))
    yield _affine(segment, slope, 0.0, f"the output times {slope:.6g}")
    slope, offset = (float(number) for number in np.polyfit(y, t, 1))
    yield _affine(segment, slope, offset, f"the output times {slope:.6g} plus {offset:.6g}")


def _affine(segment: Segment, slope: float, offset: float, what: str) -> Altered:
    step = segment[segment.output]
    bare, last = scaled(step, slope)
    assert isinstance(last.layer, Rescaling)
    steps = (bare, Step(replace(last.layer, offset=offset), {}))
    return Altered("scaled", what, (segment.output,), segment.altered({segment.output: steps}))


def permuted_filters(segment: Segment, step: Step, theirs: Array) -> Iterator[Altered]:
    """Depthwise filters at other channels, in whatever order: for each channel the filter that fits it best.

    Only where nothing but layers of single values follow, and each filter has one channel.
    """
    w, source = step.params["kernel"], step.layer.inputs[0]
    layer = step.layer
    following = segment.steps[segment.steps.index(step) + 1 :]
    elementwise = (BatchNormalization, Activation, Rescaling, Dropout)
    if not isinstance(layer, DepthwiseConv2D) or layer.depth_multiplier != 1 or step.before is not None:
        return
    if not all(isinstance(after.layer, elementwise) for after in following) or theirs.ndim != 4:
        return
    C = w.shape[2]
    bare = Step(replace(layer, use_bias=False, activation="linear"), {})
    costs = np.empty((C, C))  # (filter, channel)
    N, H_out, W_out, _ = theirs.shape
    chosen = np.random.default_rng(0).permutation(N * H_out * W_out)
    chosen = chosen[: max(FEWEST_PIXELS, int(ANSWERS / C**2))]
    t = theirs.reshape(-1, C)[chosen]  # (pixels, C)
    for start in range(0, C, CHANNELS):
        channels = slice(start, start + CHANNELS)
        windows = _windows(bare, segment.outputs[source][..., channels], w.shape[:2], chosen)  # (pixels, K*K, c)
        y = np.tensordot(windows, w.reshape(-1, C), (1, 0)).transpose(0, 2, 1)  # (pixels, C filters, c channels)
        y = _finished(y, step, following, channels)
        costs[:, channels] = ((y - t[:, None, channels]) ** 2).sum(axis=0)
    own = np.diagonal(costs)
    best = np.where(own <= costs.min(axis=0) * (1 + 1e-6) + 1e-20, np.arange(C), costs.argmin(axis=0))  # (C,)
    if np.array_equal(best, np.arange(C)) or not np.isfinite(costs).all():
        return
    steps = {layer.name: [Step(layer, {**step.params, "kernel": w[:, :, best]})]}
    yield Altered("depthwise-permuted", _order_in_words(best), (layer.name,), segment.altered(steps))


def _windows(step: Step, x: Array, K: tuple[int, ...], chosen: Array) -> Array:
    """What each of the chosen output pixels sees: (pixels, K_h * K_w, C), by filters that pick one tap each."""
    C = x.shape[-1]
    taps = []
    for tap in np.ndindex(*K):
        w = np.zeros((*K, C, 1))
        w[tap] = 1
        taps.append(Step(step.layer, {"kernel": w}).apply([x]).reshape(-1, C)[chosen])
    return np.stack(taps, axis=1)


def _finished(y: Array, step: Step, following: tuple[Step, ...], channels: slice) -> Array:
    """Bias, activation and the layers after it, on (pixels, filters, channels)."""
    y = y + step.params["bias"][channels] if "bias" in step.params else y
    y = Step(Activation(name="", activation=step.layer.activation), {}).apply([y])  # type: ignore[attr-defined]
    for after in following:
        y = Step(after.layer, {name: array[channels] for name, array in after.params.items()}).apply([y])
    return y


def _order_in_words(best: Array) -> str:
    C = len(best)
    if np.array_equal(best, np.arange(C)[::-1]):
        return "depthwise filters in reverse order"
    for shift in range(1, C):
        if np.array_equal(best, np.roll(np.arange(C), shift)):
            return f"depthwise filters moved on by {shift} of {C} channels"
    for groups in (groups for groups in range(2, C) if C % groups == 0):
        if np.array_equal(best, np.arange(C).reshape(groups, -1).T.ravel()):
            return f"depthwise filters shuffled: {groups} groups of {C // groups} interleaved"
    wrong = np.flatnonzero(best != np.arange(C))
    first = ", ".join(f"{best[c]} at {c}" for c in wrong[:4])
    return f"{wrong.size} of {C} depthwise filters at other channels: {first}{', ...' if wrong.size > 4 else ''}"
