"""Wrong answers to the other exercises, each with the key of the mistake in it, as students write them."""

import math
from typing import Any

import numpy as np

from tests.exercises.right_answers import block, channels_of, diagnose, differs, run_layer
from tests.exercises.wrong_convolutions import Answer, half, same

PADDING: list[Answer] = [
    ("same_padding", "symmetric-padding", lambda size, K, stride: (K // 2, K // 2)),
    ("same_padding", "odd-first", lambda size, K, stride: same(size, K, stride)[::-1]),
    ("same_padding", "negative", lambda size, K, stride: (
        lambda total: (total // 2, total - total // 2))((math.ceil(size / stride) - 1) * stride + K - size)),
    ("same_padding", "rounded-down", lambda size, K, stride: (
        lambda total: (total // 2, total - total // 2))(max((size // stride - 1) * stride + K - size, 0))),
    ("same_padding", "no-padding", lambda size, K, stride: (0, 0)),
    ("same_padding", "at-end", lambda size, K, stride: (0, sum(same(size, K, stride)))),
    ("same_padding", "stride-forgotten", lambda size, K, stride: same(size, K, 1)),
]  # fmt: skip


def bn(rule: Any) -> Any:
    def answer(x: Any, gamma: Any, beta: Any, mean: Any, var: Any, epsilon: Any) -> Any:
        return rule(x=x, g=gamma, b=beta, m=mean, v=var, e=epsilon)

    return answer


BATCH_NORM: list[Answer] = [
    ("batch_norm", "variance", bn(lambda x, g, b, m, v, e: (x - m) / (v + e) * g + b)),
    ("batch_norm", "epsilon-outside", bn(lambda x, g, b, m, v, e: (x - m) / (v**0.5 + e) * g + b)),
    ("batch_norm", "epsilon-forgotten", bn(lambda x, g, b, m, v, e: (x - m) / v**0.5 * g + b)),
    ("batch_norm", "epsilon-fixed", bn(lambda x, g, b, m, v, e: (x - m) / (v + 1e-5) ** 0.5 * g + b)),
    ("batch_norm", "gamma-beta", bn(lambda x, g, b, m, v, e: (x - m) / (v + e) ** 0.5 * b + g)),
    ("batch_norm", "mean-forgotten", bn(lambda x, g, b, m, v, e: x / (v + e) ** 0.5 * g + b)),
    ("batch_norm", "mean-added", bn(lambda x, g, b, m, v, e: (x + m) / (v + e) ** 0.5 * g + b)),
    ("batch_norm", "of-x", bn(lambda x, g, b, m, v, e: (x - x.mean((0, 1))) / (x.var((0, 1)) + e) ** 0.5 * g + b)),
    ("batch_norm", "beta-scaled", bn(lambda x, g, b, m, v, e: ((x - m) / (v + e) ** 0.5 + b) * g)),
    ("batch_norm", "wrong-axis", bn(lambda x, g, b, m, v, e: (x - m[:, None, None]) / (v[:, None, None] + e) ** 0.5
        * g[:, None, None] + b[:, None, None])),
]  # fmt: skip


def fold(rule: Any) -> Any:
    def answer(w: Any, b: Any, gamma: Any, beta: Any, mean: Any, var: Any, epsilon: Any) -> Any:
        return rule(w, b, gamma / np.sqrt(var + epsilon), gamma, beta, mean, var, epsilon)

    return answer


def fold_with(scale: Any) -> Any:
    return fold(lambda w, b, s, g, be, m, v, e: (w * scale(g, v, e), (b - m) * scale(g, v, e) + be))


FOLD: list[Answer] = [
    ("fold_batch_norm", "wrong-axis", fold(lambda w, b, s, g, be, m, v, e: (w * s[:, None], (b - m) * s + be))),
    ("fold_batch_norm", "mean-forgotten", fold(lambda w, b, s, g, be, m, v, e: (w * s, b * s + be))),
    ("fold_batch_norm", "mean-not-scaled", fold(lambda w, b, s, g, be, m, v, e: (w * s, b * s - m + be))),
    ("fold_batch_norm", "bias-forgotten", fold(lambda w, b, s, g, be, m, v, e: (w * s, be - m * s))),
    ("fold_batch_norm", "bias-not-scaled", fold(lambda w, b, s, g, be, m, v, e: (w * s, b + be - m * s))),
    ("fold_batch_norm", "epsilon-forgotten", fold_with(lambda g, v, e: g / np.sqrt(v))),
    ("fold_batch_norm", "epsilon-outside", fold_with(lambda g, v, e: g / (np.sqrt(v) + e))),
    ("fold_batch_norm", "variance", fold_with(lambda g, v, e: g / (v + e))),
    ("fold_batch_norm", "weights-not-scaled", fold(lambda w, b, s, g, be, m, v, e: (w, (b - m) * s + be))),
]

RELU6: list[Answer] = [
    ("relu6", "slope-at-6", lambda x: (np.clip(x, 0, 6), (x > 0) & (x <= 6))),
    ("relu6", "slope-at-0", lambda x: (np.clip(x, 0, 6), np.where((x >= 0) & (x < 6), 1, 0))),
    ("relu6", "slope-at-ends", lambda x: (np.clip(x, 0, 6), (np.clip(x, 0, 6) == x).astype(float))),
    ("relu6", "slope-of-relu", lambda x: (np.minimum(np.maximum(x, 0), 6), np.heaviside(x, 0))),
    ("relu6", "relu", lambda x: (np.maximum(x, 0), (x > 0).astype(int))),
    ("relu6", "relu", lambda x: ([max(v, 0) for v in x], [1 if 0 < v < 6 else 0 for v in x])),
    ("relu6", "cut-at-1", lambda x: (np.clip(x, 0, 1), (x > 0) & (x < 6))),
]

RESIDUAL: list[Answer] = [
    ("inverted_residual", "relu-after-projection", lambda *a: block(*a, third=lambda y: np.clip(y, 0, 6))),
    ("inverted_residual", "relu-after-addition", lambda *a: np.clip(block(*a), 0, 6)),
    ("inverted_residual", "added-at-stride-2", lambda *a: block(*a, shortcut=lambda x, y, s: (
        x[::s, ::s] if x.shape[2] == y.shape[2] else 0))),
    ("inverted_residual", "no-residual", lambda *a: block(*a, shortcut=lambda x, y, s: 0)),
    ("inverted_residual", "no-expansion-bn", lambda *a: block(*a, norms=(0, 1, 1))),
    ("inverted_residual", "no-projection-bn", lambda *a: block(*a, norms=(1, 1, 0))),
    ("inverted_residual", "residual-of-expanded", lambda *a: block(*a, keep=True, shortcut=lambda x, y, s: 0)),
    ("inverted_residual", "relu-for-relu6", lambda *a: block(*a, act=lambda y: y * (y > 0))),
    ("inverted_residual", "no-depthwise-relu", lambda *a: block(*a, second=lambda y: y)),
    ("inverted_residual", "symmetric-padding", lambda *a: block(*a, pads=half)),
]  # fmt: skip

WIDTH: list[Answer] = [
    ("width", "cut", lambda channels, alpha, network: [
        c if network == "v2" and alpha < 1 and k == len(channels) - 1 else int(c * alpha)
        for k, c in enumerate(channels)]),
    ("width", "ten-percent", lambda *a: channels_of(*a, grow=False)),
    ("width", "head-scaled", lambda *a: channels_of(*a, head=lambda alpha: False)),
    ("width", "head-kept", lambda *a: channels_of(*a, head=lambda alpha: True)),
    ("width", "v1-rounded",
     lambda channels, alpha, network: channels_of(channels, alpha, {"v1": "v3"}.get(network, network))),
    ("width", "v1-rounded",
     lambda channels, alpha, network: channels_of(channels, alpha, network) if network != "v1" else [
        round(float(c * alpha)) for c in channels]),
    ("width", "rounded-down", lambda *a: channels_of(*a, nearest=lambda c: c // 8 * 8, grow=False)),
]  # fmt: skip


def excite(gate: Any = None, squeeze: Any = None, middle: Any = None, end: Any = None) -> Any:
    def answer(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        s = squeeze(x) if squeeze else x.mean((0, 1))
        s = (middle or (lambda v: np.maximum(v, 0)))(s @ w1 + b1) @ w2 + b2
        return (end or (lambda x, g: x * g))(x, (gate or (lambda v: np.clip(v + 3, 0, 6) / 6))(s))

    return answer


SQUEEZE: list[Answer] = [
    ("squeeze_excite", "gate-added", excite(end=lambda x, g: x + g)),
    ("squeeze_excite", "sum-for-mean", excite(squeeze=lambda x: x.sum(axis=(0, 1)))),
    ("squeeze_excite", "max-for-mean", excite(squeeze=lambda x: x.max(axis=(0, 1)))),
    ("squeeze_excite", "old-hard-sigmoid", excite(gate=lambda v: np.clip(0.2 * v + 0.5, 0, 1))),
    ("squeeze_excite", "sigmoid", excite(gate=lambda v: 1 / (1 + np.exp(-v)))),
    ("squeeze_excite", "no-relu", excite(middle=lambda v: v)),
    ("squeeze_excite", "gate-alone", excite(end=lambda x, g: np.broadcast_to(g, x.shape))),
]

SWISH: list[Answer] = [
    ("hard_swish", "old-hard-sigmoid", lambda x: x * np.clip(0.2 * x + 0.5, 0, 1)),
    ("hard_swish", "gate-alone", lambda x: np.clip(x + 3, 0, 6) / 6),
    ("hard_swish", "swish", lambda x: x / (1 + np.exp(-x))),
    ("hard_swish", "not-divided", lambda x: x * np.clip(x + 3, 0, 6)),
    ("hard_swish", "relu", lambda x: x * np.maximum(x + 3, 0) / 6),
    ("hard_swish", "shift-forgotten", lambda x: [v * min(max(v, 0), 6) / 6 for v in x]),
]


def affine(x: Any, levels: int = 255, least: int = -128, rule: Any = np.round, whole: Any = np.round,
           axis: Any = 0, zero_in: bool = True) -> Any:  # fmt: skip
    low, high = x.min(axis), x.max(axis)
    if zero_in:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    scale = (high - low) / levels * np.ones(x.shape[1])
    zero = whole(least - low / scale)
    q = np.clip(rule(x / scale + zero), least, least + 255)
    return q, scale, zero, (q - zero) * scale


def symmetric(x: Any) -> Any:
    scale = np.abs(x).max(0) / 127
    q = np.clip(np.round(x / scale), -128, 127)
    return q, scale, 0 * scale, q * scale


QUANTIZE: list[Answer] = [
    ("quantize", "zero-not-whole", lambda x: affine(x.astype(np.float64), whole=lambda z: z)),
    ("quantize", "cut", lambda x: affine(x.astype(np.float64), rule=np.floor)),
    ("quantize", "cut", lambda x: (lambda q, s, z, back: (
        np.trunc(x / s) + z, s, z, np.trunc(x / s) * s))(*affine(x.astype(np.float64)))),
    ("quantize", "symmetric", symmetric),
    ("quantize", "per-tensor", lambda x: affine(x.astype(np.float64), axis=None)),
    ("quantize", "256-steps", lambda x: affine(x.astype(np.float64), levels=256)),
    ("quantize", "unsigned", lambda x: affine(x.astype(np.float64), least=0)),
    ("quantize", "without-zero", lambda x: affine(x.astype(np.float64), zero_in=False)),
]  # fmt: skip


def last_that_differs(x: Any, layers: Any, values: Any) -> Any:
    """Against a right run from the image, and the last difference instead of the first."""
    y, found = x, layers[0]
    for layer, value in zip(layers, values, strict=True):
        y = run_layer(layer, y, "")
        if differs(y, value, 1e-3):
            found = layer
    return found[0], diagnose(x, layers, values)[1]


def any_difference(x: Any, layers: Any, values: Any) -> Any:
    """Without a tolerance, so that rounding counts."""
    y = np.asarray(x, np.float64)
    for layer, value in zip(layers, values, strict=True):
        y = run_layer(layer, y, "")
        if differs(y, value, 0):
            return layer[0], diagnose(x, layers, values)[1]
    return "", ""


def always(cause: str) -> Any:
    return lambda x, layers, values: (diagnose(x, layers, values)[0], cause)


def next_layer(x: Any, layers: Any, values: Any) -> Any:
    name, cause = diagnose(x, layers, values)
    names = [layer[0] for layer in layers]
    return names[min(names.index(name) + 1, len(names) - 1)], cause


FIND: list[Answer] = [
    ("find_the_mistake", "inherits", last_that_differs),
    ("find_the_mistake", "rounding", any_difference),
    ("find_the_mistake", "other-cause", always("flipped kernel")),
    ("find_the_mistake", "other-cause", always("epsilon 1e-5")),
    ("find_the_mistake", "inherits", next_layer),
]

ANSWERS = PADDING + BATCH_NORM + FOLD + RELU6 + RESIDUAL + WIDTH + SQUEEZE + SWISH + QUANTIZE + FIND
