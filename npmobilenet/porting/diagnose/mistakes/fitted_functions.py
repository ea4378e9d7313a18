"""Mistakes with numbers, fitted to the port's output: ceilings, slopes, factors, padding values, steps of a grid."""

from collections.abc import Callable, Iterator

import numpy as np

from npmobilenet.analysis.segments import Segment, SegmentStep, distance
from npmobilenet.porting.diagnose.mistakes.applied import (
    Applied,
    Function,
    applied,
    followed_by,
    linear_part,
    with_function,
)
from npmobilenet.porting.diagnose.mistakes.output_mistakes import output_mistakes
from npmobilenet.porting.diagnose.mistakes.variants import Altered, Variant
from npmobilenet.porting.diagnose.mistakes.window_loops import padded_with
from npmobilenet.porting.diagnose.mistakes.window_mistakes import padding_of
from npmobilenet.reference.layer import KernelLayer, Window
from npmobilenet.reference.layers import Activation, Add
from npmobilenet.types import Array

DIGITS = 4  # of a number in source code; the rounded value is taken if it fits as well as the fitted one
STEPS = 12  # of Newton's method, on functions that are linear in pieces
SECTIONS = 40  # of a golden section search for a limit
LARGEST = 1e30  # of values that are fitted: their squares are finite
CEILINGS = (5.0, 4.0, 8.0, 7.0, 3.0, 2.0, 1.0, 6.35, 5.9, 6.5, 10.0, 20.0, 127.0, 16.0)


def fitted_functions(segment: Segment, actual: Array) -> Iterator[Altered]:
    """Alterations with a number that is read from the port's output (N, ...)."""
    if actual.shape != segment.y.shape or segment.output not in segment:
        return
    if not np.abs(np.stack([segment.y, actual])).max() < LARGEST:  # nor NaN
        return
    last = segment[segment.output]
    yield from _variants(segment, _clipped(segment, last, actual))
    yield from _variants(segment, _sloped(segment, last, actual))
    yield from _variants(segment, _gated(segment, last, actual))
    yield from _variants(segment, _tempered(segment, last, actual))
    yield from output_mistakes(segment, actual)
    yield from operands(segment, last, actual)
    for step in segment.steps:
        yield from padding(segment, step, actual)
        if step is not last:
            yield from _variants(segment, inner(step))
            yield from inner_saturation(segment, step, actual)


def inner(step: SegmentStep) -> Iterator[Variant]:
    """Other ceilings and slopes in a layer whose output is not dumped."""
    own = getattr(step.layer, "activation", "linear")
    if own not in ("relu", "relu6"):
        return
    for top in CEILINGS:
        yield with_function(
            step, "clipping", f"clipped at {top:g} instead of {own}", lambda x, top=top: np.clip(x, 0, top)
        )
    top = 6.0 if own == "relu6" else np.inf
    for slope in (0.01, 0.1, 0.2, 0.3, 0.25, 0.05):
        leaky = _leaky(slope, top)
        yield with_function(step, "leaky-relu", f"leaky: negative values times {slope:g} instead of {own}", leaky)


def inner_saturation(segment: Segment, step: SegmentStep, actual: Array) -> Iterator[Altered]:
    """Sums whose output is not dumped, cut at the limit that fits best."""
    if not isinstance(step.layer, KernelLayer) or step.layer.activation != "linear":
        return
    name, sums = step.layer.name, segment.outputs[step.layer.name]

    def error(limit: float) -> float:
        cut = applied(step.layer, lambda *_: np.clip(sums, -limit, limit))
        return distance(actual, segment.altered({name: [SegmentStep(cut, {})]}).y)

    limit = _least(error, 0.0, float(np.abs(sums).max()))
    what = f"sums cut at -{limit:.6g} and {limit:.6g}: saturating"
    cut = followed_by(step, lambda x: np.clip(x, -limit, limit))
    yield Altered("saturation", what, (name,), segment.altered({name: cut}))


def _least(f: Callable[[float], float], a: float, b: float) -> float:
    """Where f is least between a and b, by golden section search."""
    ratio = (5**0.5 - 1) / 2
    c, d = b - ratio * (b - a), a + ratio * (b - a)
    f_c, f_d = f(c), f(d)
    for _ in range(SECTIONS):
        if f_c < f_d:
            b, d, f_d = d, c, f_c
            c = b - ratio * (b - a)
            f_c = f(c)
        else:
            a, c, f_c = c, d, f_d
            d = a + ratio * (b - a)
            f_d = f(d)
    return (a + b) / 2


def _candidates(*exact: float) -> list[tuple[float, ...]]:
    """Fitted numbers as they stand in source code, and as they were fitted."""
    rounded = tuple(float(f"{number:.{DIGITS}g}") for number in exact)
    return list(dict.fromkeys((rounded, tuple(map(float, exact)))))


def _variants(segment: Segment, variants: Iterator[Variant]) -> Iterator[Altered]:
    for variant in variants:
        yield Altered(variant.cause, variant.what, variant.layers, segment.altered(variant.steps))


def _linear(segment: Segment, step: SegmentStep) -> Array:
    """What the step's activation reads, or its output if it has none."""
    if isinstance(step.layer, Activation):
        return segment.outputs[step.layer.inputs[0]]
    if getattr(step.layer, "activation", "linear") == "linear":
        return segment.outputs[step.layer.name]
    (bare,), _ = linear_part(step)
    return bare.apply([segment.outputs[source] for source in step.layer.inputs])


def _clipped(segment: Segment, step: SegmentStep, actual: Array) -> Iterator[Variant]:
    """The least and the largest value of the port's output as limits, on what the activation reads or gives."""
    own = getattr(step.layer, "activation", "linear")
    low, high = float(actual.min()), float(actual.max())
    repeated_low, repeated_high = int((actual == low).sum()) > 1, int((actual == high).sum()) > 1
    if own == "softmax" or not (repeated_low or repeated_high) or low == high:
        return
    low_limit, high_limit = low if repeated_low else -np.inf, high if repeated_high else np.inf
    limits = f"[{low_limit:.6g}, {high_limit:.6g}]"
    if own != "linear":
        what = f"clipped to {limits} instead of {own}"
        yield with_function(step, "clipping", what, lambda x: np.clip(x, low_limit, high_limit))
    cause = "saturation" if own == "linear" else "clipping"
    what = f"output clipped to {limits}" + (": saturating sums" if own == "linear" else "")
    yield Variant(
        cause, what, (step.layer.name,),
        {step.layer.name: tuple(followed_by(step, lambda x: np.clip(x, low_limit, high_limit)))},
    )  # fmt: skip


def _leaky(slope: float, top: float) -> Function:
    return lambda x: np.where(x < 0, slope * x, np.minimum(x, top))


def _sloped(segment: Segment, step: SegmentStep, actual: Array) -> Iterator[Variant]:
    """A slope below zero, an offset, and a threshold; each from the values where only it shows."""
    own = getattr(step.layer, "activation", "linear")
    if own not in ("relu", "relu6", "hard_swish"):
        return
    x = _linear(segment, step)
    top = 6.0 if own == "relu6" else np.inf
    negative = x < 0
    if own != "hard_swish" and np.any(actual[negative]):
        size = float((x[negative] ** 2).sum())
        exact = float((actual[negative] * x[negative]).sum()) / size
        for (slope,) in _candidates(exact):
            if slope == -1:  # |x|, which has a name
                continue
            what = f"leaky: negative values times {slope:.6g} instead of {own}"
            yield with_function(step, "leaky-relu", what, _leaky(slope, top))
        scale = float((actual[negative] * np.expm1(x[negative])).sum() / (np.expm1(x[negative]) ** 2).sum())
        what = f"elu with factor {scale:.6g} instead of {own}"
        yield with_function(
            step,
            "activation",
            what,
            lambda x: np.where(x < 0, scale * np.expm1(np.minimum(x, 0)), np.minimum(x, top)),
            slope=max(1.0, abs(scale)),
        )
    kept, cut = x[(actual != 0) & (x > 0)], x[(actual == 0) & (x > 0)]
    if kept.size and cut.size and cut.max() < kept.min():
        threshold = float((cut.max() + kept.min()) / 2)
        what = f"values up to about {threshold:.4g} set to 0"
        yield with_function(step, "threshold", what, lambda x: np.where(x > threshold, np.minimum(x, top), 0))


def _gated(segment: Segment, step: SegmentStep, actual: Array) -> Iterator[Variant]:
    """x * clip(a x + b, 0, 1), and clip(a x + b, 0, 1), with fitted numbers."""
    own = getattr(step.layer, "activation", "linear")
    if own not in ("hard_swish", "hard_sigmoid"):
        return
    x = _linear(segment, step)
    with np.errstate(all="ignore"):
        gate = actual / x if own == "hard_swish" else actual
    inside = (gate > 0.02) & (gate < 0.98) & (np.abs(x) > 0.05)
    if inside.sum() < 8:
        return
    fit = np.polyfit(x[inside], gate[inside], 1)
    for a, b in _candidates(*fit):
        what = f"clip({a:.6g} x + {b:.6g}, 0, 1)"
        if own == "hard_swish":
            yield with_function(
                step,
                "hard-sigmoid",
                f"x * {what} instead of {own}",
                lambda x, a=a, b=b: x * np.clip(a * x + b, 0, 1),
                slope=2.0,
            )
        else:
            yield with_function(
                step, "hard-sigmoid", f"{what} instead of {own}", lambda x, a=a, b=b: np.clip(a * x + b, 0, 1)
            )


def _tempered(segment: Segment, step: SegmentStep, actual: Array) -> Iterator[Variant]:
    """Softmax of the logits times a number."""
    if getattr(step.layer, "activation", "linear") != "softmax" or not (actual > 0).all():
        return
    x, logs = _linear(segment, step), np.log(actual)
    x, logs = x - x.mean(-1, keepdims=True), logs - logs.mean(-1, keepdims=True)
    exact = float((x * logs).sum() / (x * x).sum())
    if abs(exact) < 1e-3:
        return
    for (factor,) in _candidates(exact):

        def tempered(x: Array, factor: float = factor) -> Array:
            e = np.exp(factor * x - (factor * x).max(-1, keepdims=True))
            y: Array = e / e.sum(-1, keepdims=True)
            return y

        yield with_function(
            step, "softmax", f"softmax of the logits times {factor:.6g}", tempered, slope=4 * max(abs(factor), 1.0),
            size=lambda x: np.broadcast_to(np.abs(x).max(-1, keepdims=True), x.shape),
        )  # fmt: skip


def operands(segment: Segment, step: SegmentStep, actual: Array) -> Iterator[Altered]:
    """A sum of two arrays with fitted factors."""
    if not isinstance(step.layer, Add) or len(step.layer.inputs) != 2:
        return
    a, b = (segment.outputs[source] for source in step.layer.inputs)
    A = np.stack([a.ravel(), b.ravel()], axis=1)
    factors = np.linalg.lstsq(A, actual.ravel(), rcond=None)[0]
    if np.abs(factors).min() < 1e-3:
        return
    for p, q in _candidates(*factors):
        what = f"{p:.6g} * {step.layer.inputs[0]} + {q:.6g} * {step.layer.inputs[1]}"
        layer = Applied(
            name=step.layer.name,
            inputs=step.layer.inputs,
            function=lambda a, b, p=p, q=q: p * a + q * b,
            slope=max(abs(p), abs(q)),
        )
        yield Altered(
            "residual", what, (step.layer.name,), segment.altered({step.layer.name: [SegmentStep(layer, {})]})
        )


def padding(segment: Segment, step: SegmentStep, actual: Array) -> Iterator[Altered]:
    """The number around a map that fits best, by secant steps."""
    layer = step.layer
    if not isinstance(layer, Window) or not isinstance(layer, KernelLayer) or step.before is not None:
        return
    source, zeros = padding_of(segment, layer)
    if not any(map(any, zeros)):
        return
    pads = layer.inputs if source not in layer.inputs else ()

    def with_value(value: float) -> Segment:
        return segment.altered(padded_with(step, source, zeros, value, pads).steps)

    value = _newton(lambda value: with_value(value).y, actual, float(np.abs(segment.outputs[source]).mean()) or 1.0)
    if value is None:
        return
    for (number,) in _candidates(value):
        variant = padded_with(step, source, zeros, number, pads)
        yield Altered(variant.cause, variant.what, variant.layers, segment.altered(variant.steps))


def _newton(y_of: Callable[[float], Array], actual: Array, size: float) -> float | None:
    """The number that makes a piecewise linear function fit best, from three starts; None if it is without effect."""
    best: tuple[float, float] | None = None
    for start in (0.0, size, -size):
        value = start
        for _ in range(STEPS):
            y = y_of(value)
            slope = (y_of(value + 1e-3 * size) - y) / (1e-3 * size)
            square = float((slope**2).sum())
            if not np.isfinite(square) or square == 0:
                break
            change = float((slope * (actual - y)).sum()) / square
            value += change
            if abs(change) < 1e-9 * size:
                break
        left = distance(actual, y_of(value))
        best = (left, value) if best is None else min(best, (left, value))
    return None if best is None or best[1] == 0 or not np.isfinite(best[1]) else best[1]
