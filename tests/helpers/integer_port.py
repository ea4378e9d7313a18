"""A port of 8-bit operators that was written apart from the package, with mistakes to choose from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from npmobilenet.quantized.rules import TFLITE, Rule
from npmobilenet.quantized.running import compute
from npmobilenet.quantized.tensors import Network, Operator, Quantization, Tensor
from npmobilenet.types import Array

LIMITS = {"linear": (None, None), "relu": (0.0, None), "relu6": (0.0, 6.0), "relu_n1_to_1": (-1.0, 1.0)}
SUMS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
Rounded = Callable[[Array, Array], Array]


def away(x: Array) -> Array:
    """Nearest, halves away from zero."""
    return (np.sign(x) * np.floor(np.abs(x) + 0.5)).astype(np.int64)


def fixed(M: Array) -> tuple[Array, Array]:
    """31-bit multipliers and exponents."""
    f, e = np.frexp(M)
    return away(f * 2.0**31), e.astype(np.int64)


def twice(acc: Array, M: Array) -> Array:
    """Two roundings, as gemmlowp has them."""
    q, e = fixed(M)
    high = (acc * 2 ** np.maximum(e, 0) * q + 2**30) // 2**31
    divisor = 2 ** np.maximum(-e, 0)
    size = (np.abs(high) + divisor // 2) // divisor
    return np.asarray(np.sign(high) * size)


def once(acc: Array, M: Array) -> Array:
    """One rounding of the 62-bit product."""
    q, e = fixed(M)
    return np.asarray((acc * q + 2 ** (30 - e)) // 2 ** (31 - e))


def in_float32(acc: Array, M: Array) -> Array:
    """A product in float32."""
    return np.rint(acc.astype(np.float32) * M.astype(np.float32)).astype(np.int64)


ROUNDINGS: dict[str, tuple[str, Rounded]] = {
    "single rounding": ("rule-single", once),
    "XNNPACK's rounding": ("rule-xnnpack", in_float32),
    "truncation": ("truncation", lambda acc, M: np.floor(acc * M).astype(np.int64)),
    "truncation towards zero": ("truncation", lambda acc, M: np.trunc(acc * M).astype(np.int64)),
    "half to even": ("rounding", lambda acc, M: np.rint(acc * M).astype(np.int64)),
}
CAUSES = {name: cause for name, (cause, _) in ROUNDINGS.items()} | {
    "zero padding": "zero-padding",
    "symmetric padding": "same-padding",
    "padding before": "same-padding",
    "weights' zero point ignored": "weights-zero-point",
    "input's zero point ignored": "input-zero-point",
    "output's zero point ignored": "output-zero-point",
    "no bias": "missing-bias",
    "bias after rescaling": "bias-scale",
    "bias in the first channel's scale": "bias-scale",
    "bias in steps of the input": "bias-scale",
    "scales reversed": "channel-scales",
    "first scale only": "channel-scales",
    "output off by 128": "off-by-128",
    "no limits": "limits",
    "flipped kernel": "kernel-order",
    "other precision": "scale-precision",
    "16-bit accumulator": "accumulator",
    "dense in fixed point": "rule-tflm",
}
"""Mistakes in weighted sums, and the causes that `compare` should name."""


def port_sum(operator: Operator, inputs: Sequence[Tensor], y: Tensor, mistake: str = "") -> Array:
    """A convolution, depthwise convolution or dense layer with a mistake."""
    x, w = inputs[:2]
    q, k = x.integers, w.integers
    zx = 0 if mistake == "input's zero point ignored" else x.zero_point
    zw = 0 if mistake == "weights' zero point ignored" else w.zero_point
    sw = {"scales reversed": w.scale[::-1], "first scale only": w.scale[:1]}.get(mistake, w.scale)
    if mistake == "flipped kernel":
        k = k[:, ::-1, ::-1]
    b = _bias(inputs, mistake)
    acc = _sums(operator, q, k - zw, zx, mistake) + (0 if mistake == "bias after rescaling" else b)
    acc = acc.astype(np.int16 if mistake == "16-bit accumulator" else np.int32).astype(np.int64)
    steps = _rounding(operator, mistake)(acc, _factor(x, sw, y, mistake, operator.code))
    steps = steps + (b if mistake == "bias after rescaling" else 0)
    zy = 0 if mistake == "output's zero point ignored" else y.zero_point
    result = np.clip(steps + zy, *_limits(operator, y, mistake))
    if mistake == "output off by 128":
        result = (result.astype(np.uint8) ^ 0x80).view(y.dtype) if y.dtype == np.uint8 else -128 + (result + 256) % 256
    return np.asarray(result).astype(y.dtype)


def _bias(inputs: Sequence[Tensor], mistake: str) -> Array:
    w = inputs[1]
    if len(inputs) < 3 or mistake == "no bias":
        return np.zeros(1, np.int64)
    b = inputs[2].integers
    if mistake == "bias in the first channel's scale":
        return np.clip(away(b * (w.scale.astype(np.float64) / float(w.scale[0]))), *inputs[2].range)
    if mistake == "bias in steps of the input":
        return away(b * w.scale.astype(np.float64))
    return np.asarray(b)


def _rounding(operator: Operator, mistake: str) -> Rounded:
    if mistake in ROUNDINGS:
        return ROUNDINGS[mistake][1]
    if operator.code == "FULLY_CONNECTED" and mistake != "dense in fixed point":
        return lambda acc, M: away(acc * M)
    return twice


def _factor(x: Tensor, sw: Array, y: Tensor, mistake: str, code: str) -> Array:
    if mistake == "XNNPACK's rounding":
        return np.asarray(x.scale * sw / y.scale)
    in_32 = (y.dtype == np.uint8 and code != "FULLY_CONNECTED") != (mistake == "other precision")
    if code == "FULLY_CONNECTED" and mistake == "dense in fixed point":
        in_32 = sw.size == 1
    product = x.scale * sw if in_32 else x.scale.astype(np.float64) * sw
    return np.asarray(product.astype(np.float64) / y.scale.astype(np.float64))


def _limits(operator: Operator, y: Tensor, mistake: str) -> tuple[int, int]:
    least, largest = y.range
    if mistake == "no limits":
        return least, largest
    low, high = LIMITS[operator.options.activation]
    if low is not None:
        least = max(least, int(away(np.array(np.float32(low) / y.scale[0]))) + y.zero_point)
    if high is not None:
        largest = min(largest, int(away(np.array(np.float32(high) / y.scale[0]))) + y.zero_point)
    return least, largest


def _sums(operator: Operator, q: Array, k: Array, zx: int, mistake: str) -> Array:
    if operator.code == "FULLY_CONNECTED":
        return (q.reshape(-1, k.shape[1]) - zx).astype(np.float64) @ k.T.astype(np.float64) // 1 + np.int64(0)
    o, size = operator.options, k.shape[1:3]
    around = [_around(*axis, o.padding, mistake) for axis in zip(q.shape[1:3], size, o.stride, o.dilation, strict=True)]
    outputs = [
        -(-side // s) if o.padding == "same" else (side - (n - 1) * d - 1) // s + 1
        for side, n, s, d in zip(q.shape[1:3], size, o.stride, o.dilation, strict=True)
    ]
    value = 0 if mistake == "zero padding" else zx
    padded = np.pad(q, ((0, 0), *around, (0, 0)), constant_values=value) - zx
    spans = tuple((n - 1) * d + 1 for n, d in zip(size, o.dilation, strict=True))
    view = sliding_window_view(padded, spans, (1, 2))
    view = view[:, :: o.stride[0], :: o.stride[1], :, :: o.dilation[0], :: o.dilation[1]]
    view = view[:, : outputs[0], : outputs[1]].astype(np.float64)
    if operator.code == "DEPTHWISE_CONV_2D":
        kernel = k[0].reshape(*size, q.shape[3], -1).astype(np.float64)
        sums = np.einsum("nhwcuv,uvcm->nhwcm", view, kernel, optimize=True)
        return np.asarray(sums.reshape(*sums.shape[:3], -1).astype(np.int64))
    return np.asarray(np.einsum("nhwcuv,ouvc->nhwo", view, k.astype(np.float64), optimize=True).astype(np.int64))


def _around(side: int, n: int, s: int, d: int, padding: str, mistake: str) -> tuple[int, int]:
    if padding != "same":
        return 0, 0
    missing = max((-(-side // s) - 1) * s + (n - 1) * d + 1 - side, 0)
    before, after = missing // 2, missing - missing // 2
    if mistake == "symmetric padding":
        return ((n - 1) * d // 2, (n - 1) * d // 2)
    return (after, before) if mistake == "padding before" else (before, after)


def _real(x: Tensor) -> Array:
    return np.asarray(float(x.scale[0]) * (x.integers - x.zero_point))


def _quantized(real: Array, y: Tensor, operator: Operator) -> Array:
    steps = away(real / float(y.scale[0])) + y.zero_point
    return np.asarray(np.clip(steps, *_limits(operator, y, "")).astype(y.dtype))


def _by_float(inputs: Sequence[Tensor], y: Tensor, operator: Operator) -> Array:
    a = _real(inputs[0])
    if operator.code == "HARD_SWISH":
        return _quantized(a * np.clip(a + 3, 0, 6) / 6, y, operator)
    b = _real(inputs[1])
    return _quantized(a + b if operator.code == "ADD" else a * b, y, operator)


def _without_zero_point(inputs: Sequence[Tensor], y: Tensor, operator: Operator) -> Array:
    first = replace(inputs[0], quantization=Quantization(inputs[0].scale, np.zeros(1, np.int64)))
    return compute(operator, [first, *inputs[1:]], y)


def _integers_added(inputs: Sequence[Tensor], y: Tensor, operator: Operator) -> Array:
    a, b = (x.integers - x.zero_point for x in inputs)
    return np.asarray(np.clip(a + b + y.zero_point, *_limits(operator, y, "")).astype(y.dtype))


def _quotient_cut_off(inputs: Sequence[Tensor], y: Tensor, operator: Operator) -> Array:
    o = operator.options
    view = sliding_window_view(inputs[0].integers, o.filter, (1, 2))[:, :: o.stride[0], :: o.stride[1]]
    if view.shape[1:3] != y.shape[1:3]:
        raise ValueError("padded")
    means = np.trunc(view.sum((-1, -2)) / (o.filter[0] * o.filter[1]))
    return np.asarray(np.clip(means, *_limits(operator, y, "")).astype(y.dtype))


def _integers_copied(inputs: Sequence[Tensor], y: Tensor, operator: Operator) -> Array:
    return np.concatenate([x.integers for x in inputs], operator.options.axis).astype(y.dtype)


Computed = Callable[[Sequence[Tensor], Tensor, Operator], Array]
OTHERS: dict[str, dict[str, tuple[str, Computed]]] = {
    "ADD": {
        "in floating point": ("by-float", _by_float),
        "a zero point ignored": ("input-zero-point", _without_zero_point),
        "integers added": ("change-of-scale", _integers_added),
    },
    "MUL": {
        "in floating point": ("by-float", _by_float),
        "a zero point ignored": ("input-zero-point", _without_zero_point),
    },
    "HARD_SWISH": {
        "in floating point": ("by-float", _by_float),
        "a zero point ignored": ("input-zero-point", _without_zero_point),
    },
    "MEAN": {"a zero point ignored": ("input-zero-point", _without_zero_point)},
    "AVERAGE_POOL_2D": {"quotient cut off": ("truncation", _quotient_cut_off)},
    "CONCATENATION": {"integers copied": ("change-of-scale", _integers_copied)},
}
"""Mistakes in other operators by code and name: the cause, and the function."""


def mistakes_of(operator: Operator) -> list[tuple[str, str]]:
    """(name, cause) of the mistakes that can be made in an operator; some change nothing there."""
    if operator.code in SUMS:
        return list(CAUSES.items())
    found = [(name, cause) for name, (cause, _) in OTHERS.get(operator.code, {}).items()]
    return [*found, ("output off by 128", "off-by-128")] if found else []


def mistaken(operator: Operator, inputs: Sequence[Tensor], y: Tensor, name: str) -> Array:
    """An operator's output with a mistake."""
    if operator.code in SUMS:
        return port_sum(operator, inputs, y, name)
    if name in OTHERS[operator.code]:
        return OTHERS[operator.code][name][1](inputs, y, operator)
    return (compute(operator, inputs, y).view(np.uint8) ^ 0x80).view(y.dtype)


def ported(
    network: Network, x: Array, wrong: Operator, name: str, rule: Rule = TFLITE
) -> Iterator[tuple[Operator, Array]]:
    """A port's tensors: one operator has a mistake, the others are right."""
    values = {number: tensor for number, tensor in enumerate(network.tensors) if tensor.data is not None}
    values[network.inputs[0]] = replace(network.input, data=x)
    for operator in network.operators:
        inputs = [values[i] for i in operator.inputs if i >= 0]
        y = network.tensors[operator.outputs[0]]
        made = mistaken(operator, inputs, y, name) if operator is wrong else compute(operator, inputs, y, rule)
        values[operator.outputs[0]] = replace(y, data=made)
        yield operator, made
