"""Mistakes in formulas: batch normalization, softmax, activations, and the order of operations."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from npmobilenet.analysis.segments import Segment, SegmentStep
from npmobilenet.porting.diagnose.mistakes.applied import Applied, Function, instead, preceded_by, with_function
from npmobilenet.porting.diagnose.mistakes.variants import Variant, in_place, with_params
from npmobilenet.reference.layer import KernelLayer
from npmobilenet.reference.layers import BatchNormalization
from npmobilenet.types import Array

FUNCTIONS: dict[str, tuple[Function, float]] = {
    "elu": (lambda x: _elu(x), 1.0),
    "gelu": (lambda x: 0.5 * x * (1 + _erf(x / np.sqrt(2))), 1.2),
    "gelu (tanh)": (lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))), 1.2),
    "softplus": (lambda x: np.logaddexp(0, x), 1.0),
    "mish": (lambda x: x * np.tanh(np.logaddexp(0, x)), 1.2),
    "tanh": (lambda x: np.tanh(x), 1.0),
    "|x|": (lambda x: np.abs(x), 1.0),
    "-relu(-x)": (lambda x: np.minimum(x, 0), 1.0),
    "relu of -x": (lambda x: np.maximum(-x, 0), 1.0),
    "clip(x, -1, 1)": (lambda x: np.clip(x, -1, 1), 1.0),
    "clip(x, 0, 1)": (lambda x: np.clip(x, 0, 1), 1.0),
    "clip(x, -6, 6)": (lambda x: np.clip(x, -6, 6), 1.0),
    "relu6(x + 3) / 6": (lambda x: np.clip(x + 3, 0, 6) / 6, 1.0),
    "x * relu6(x + 3)": (lambda x: x * np.clip(x + 3, 0, 6), 16.0),
    "swish, x * sigmoid(1.702 x)": (lambda x: x * _sigmoid(1.702 * x), 1.2),
    "selu": (lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))), 1.8),
    "exp": (lambda x: np.exp(np.minimum(x, 80)), 1.0),
    "x**2": (np.square, 16.0),
    "relu without its sign test, 0 above 6": (lambda x: np.where((x > 0) & (x < 6), x, 0), 1.0),
    "x * sigmoid(x) cut at 6": (lambda x: np.clip(x * _sigmoid(x), 0, 6), 1.2),
}
"""Functions that are used by mistake, and bounds on their slopes."""


def _elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _sigmoid(x: Array) -> Array:
    y: Array = 1 / (1 + np.exp(-np.clip(x, -700, 700)))
    return y


def _erf(x: Array) -> Array:
    from math import erf

    return np.asarray(np.vectorize(erf, otypes=[np.float64])(x))


def other_functions(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """A function that no MobileNet uses."""
    own = getattr(step.layer, "activation", "linear")
    if own in ("linear", "softmax"):
        return
    for name, (function, slope) in FUNCTIONS.items():
        yield with_function(step, "activation", f"{name} instead of {own}", function, slope=slope, size=np.abs)


def softmaxes(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """Another formula for softmax."""
    if getattr(step.layer, "activation", "linear") != "softmax":
        return
    for what, function in SOFTMAXES.items():
        yield with_function(step, "softmax", what, function, slope=4.0, size=lambda x: _size_of_logits(x))


def _size_of_logits(x: Array) -> Array:
    return np.broadcast_to(np.abs(x).max(axis=-1, keepdims=True), x.shape)


def _softmax(x: Array, axis: int | tuple[int, ...] = -1) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    y: Array = e / e.sum(axis=axis, keepdims=True)
    return y


def _base(x: Array, base: float) -> Array:
    return _softmax(x * np.log(base))


SOFTMAXES: dict[str, Function] = {
    "softmax over the batch axis instead of the classes": lambda x: _softmax(x, 0),
    "softmax over all values of the batch": lambda x: _softmax(x, tuple(range(x.ndim))),
    "softmax over the rows of the map": lambda x: _softmax(x, 1),
    "softmax over the columns of the map": lambda x: _softmax(x, min(2, x.ndim - 1)),
    "log-softmax": lambda x: (
        x - x.max(-1, keepdims=True) - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))
    ),
    "softmax of base 2": lambda x: _base(x, 2),
    "softmax of base 10": lambda x: _base(x, 10),
    "exp(x - max) without the division by the sum, or divided by the largest": lambda x: np.exp(
        x - x.max(-1, keepdims=True)
    ),
    "exp without the division by the sum": lambda x: np.exp(np.minimum(x, 80)),
    "x - max without exp": lambda x: x - x.max(-1, keepdims=True),
    "x divided by the sum, without exp": lambda x: x / x.sum(-1, keepdims=True),
    "softmax of -x": lambda x: _softmax(-x),
    "one-hot of the largest": lambda x: (x == x.max(-1, keepdims=True)).astype(np.float64),
    "sigmoid of every class": _sigmoid,
    "divided by the norm": lambda x: (
        np.exp(x - x.max(-1, keepdims=True))
        / np.linalg.norm(np.exp(x - x.max(-1, keepdims=True)), axis=-1, keepdims=True)
    ),
}


def normalizations(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """Batch normalization in training mode, or folded wrongly."""
    layer, params = step.layer, step.params
    if not isinstance(layer, BatchNormalization):
        return
    gamma = params.get("gamma", np.ones(1))
    beta, mean, variance = params.get("beta", np.zeros(1)), params["moving_mean"], params["moving_variance"]
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = gamma / np.sqrt(variance + layer.epsilon)
    yield from _training(step, gamma, beta, layer.epsilon)
    for what, factor, offset in (
        ("the mean not scaled: x * scale + beta - mean", scale, beta - mean),
        ("the mean added: x * scale + beta + mean * scale", scale, beta + mean * scale),
        ("beta subtracted", scale, -beta - mean * scale),
        ("beta scaled too", scale, beta * scale - mean * scale),
        ("beta scaled by gamma", scale, beta * gamma - mean * scale),
        ("gamma applied twice", scale * gamma, beta - mean * scale * gamma),
        (
            "gamma + 1 for gamma",
            scale + scale / np.where(gamma == 0, 1, gamma),
            beta - mean * (scale + scale / np.where(gamma == 0, 1, gamma)),
        ),
        ("scale without offset: x * scale", scale, 0 * mean),
        ("offset without scale", np.ones_like(scale), beta - mean * scale),
        ("the mean divided by the deviation twice", scale, beta - mean * scale / np.sqrt(variance + layer.epsilon)),
        (
            "divided by the root of the variance minus epsilon",
            gamma / np.sqrt(np.maximum(variance - layer.epsilon, 1e-30)),
            beta - mean * gamma / np.sqrt(np.maximum(variance - layer.epsilon, 1e-30)),
        ),
        (
            "multiplied by the deviation",
            gamma * np.sqrt(variance + layer.epsilon),
            beta - mean * gamma * np.sqrt(variance + layer.epsilon),
        ),
    ):
        yield instead(step, "batch-norm-folding", what, _affine(step, factor, offset, mean))
    for name in ("relu", "relu6"):
        top = 6.0 if name == "relu6" else np.inf
        what = f"{name} before the batch norm instead of after it"
        yield in_place(step, "order", what, *preceded_by(step, lambda x, top=top: np.clip(x, 0, top)))
    unscaled = segment[layer.inputs[0]].params.get("bias") if layer.inputs[0] in segment else None
    if unscaled is not None:
        what = "the convolution's bias not scaled by the batch norm"
        yield instead(
            step, "batch-norm-folding", what, _affine(step, scale, beta - mean * scale + unscaled * (1 - scale), mean)
        )
    if "beta" in params:
        yield with_params(step, "batch-norm-arrays", "beta added twice", beta=2 * beta)


def _affine(step: SegmentStep, factor: Array, offset: Array, mean: Array) -> Applied:
    factor, offset = np.asarray(factor), np.asarray(offset)
    return Applied(
        name=step.layer.name, inputs=step.layer.inputs, function=lambda x: x * factor + offset,
        slope=float(np.abs(factor).max()), size=lambda x: np.abs(x * factor) + np.abs(mean * factor) + np.abs(offset),
    )  # fmt: skip


def _training(step: SegmentStep, gamma: Array, beta: Array, epsilon: float) -> Iterator[Variant]:
    """The statistics of the batch itself, over all pixels or one pixel each; with and without Bessel's correction."""
    for axes, where in (
        ((0, 1, 2), "of the batch (training mode)"),
        ((1, 2), "of each image (instance norm)"),
        ((3,), "over the channels (layer norm)"),
    ):
        for correction in (0, 1):

            def normalized(x: Array, axes: tuple[int, ...] = axes, correction: int = correction) -> Array:
                count = int(np.prod([x.shape[axis] for axis in axes]))
                mean = x.mean(axes, keepdims=True)
                variance = x.var(axes, keepdims=True) * count / max(count - correction, 1)
                y: Array = (x - mean) / np.sqrt(variance + epsilon) * gamma + beta
                return y

            if axes[-1] != 3 or correction == 0:
                what = f"mean and variance {where}{', unbiased' * correction}"
                layer = Applied(
                    name=step.layer.name, inputs=step.layer.inputs, function=_in_maps(normalized), slope=8.0,
                    size=lambda x, f=normalized: 16 * (np.abs(_in_maps(f)(x)) + np.abs(gamma) + np.abs(beta)),
                )  # fmt: skip
                yield instead(step, "batch-norm-training", what, layer)


def _in_maps(function: Function) -> Function:
    """A function of (N, H, W, C) on arrays of any rank."""

    def applied(x: Array) -> Array:
        if x.ndim == 4:
            return function(x)
        y: Array = function(x.reshape(len(x), 1, -1, x.shape[-1])).reshape(x.shape)
        return y

    return applied


def bias_after_activation(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """The bias added after the activation, or scaled."""
    layer = step.layer
    if not isinstance(layer, KernelLayer) or "bias" not in step.params:
        return
    b = step.params["bias"]
    yield with_params(step, "bias", "bias subtracted", bias=-b)
    yield with_params(step, "bias", "bias in reverse order", bias=b[::-1])
    yield with_params(step, "bias", "the first bias at every channel", bias=np.full_like(b, b[0]))
    if layer.activation not in ("linear", "softmax"):
        without = SegmentStep(
            replace(layer, name=f"{layer.name}+unbiased"), {**step.params, "bias": 0 * b}, step.before
        )
        added = Applied(name=layer.name, inputs=(f"{layer.name}+unbiased",), function=lambda x: x + b)
        yield in_place(step, "order", "bias added after the activation", without, SegmentStep(added, {}))
