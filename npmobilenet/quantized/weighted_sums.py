"""Convolution, depthwise convolution and dense layer: sums of products of integers, and what becomes of them.

    acc = b + sum (x - zx) (w - zw)         y = clip(round(acc M) + zy)

The sums are computed in float64, in which they are exact, since they stay far below 2^53: NumPy has a fast matrix
product for float64 and none for integers. A pixel of padding stands for 0: it is zx, or left out.

Source: TensorFlow Lite's `reference/integer_ops/{conv,depthwise_conv,fully_connected}.h` and `reference/conv.h`.
"""

from collections.abc import Sequence

import numpy as np

from npmobilenet.quantized.numbers import activation_limits
from npmobilenet.quantized.rescaling import Rescaling, convolution_rescaling, dense_rescaling
from npmobilenet.quantized.rules import Rule
from npmobilenet.quantized.tensors import Ints, Options, Tensor
from npmobilenet.quantized.windows import windows
from npmobilenet.reference.arithmetic import total
from npmobilenet.types import Array


def accumulators(code: str, inputs: Sequence[Tensor], options: Options) -> Ints:
    """Sums (N, H, W, C), or (N, C) of a dense layer, before they are rescaled.

    Args:
        code: "CONV_2D", "DEPTHWISE_CONV_2D" or "FULLY_CONNECTED".
        inputs: x, w and, if there is one, the bias.
        options: of the operator.
    """
    return SUMS[code](inputs[0], inputs[1], options) + bias(inputs)


def bias(inputs: Sequence[Tensor]) -> Ints | int:
    """The bias (C,) in steps of sx sw, 0 if there is none."""
    return inputs[2].integers if len(inputs) > 2 else 0


def rescaling(code: str, inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Rescaling:
    """The factor M of each output channel, and how the rule rounds."""
    if code == "FULLY_CONNECTED":
        return dense_rescaling(inputs[0], inputs[1], y, rule.dense)
    return convolution_rescaling(inputs[0], inputs[1], y, rule.convolution)


def weighted_sum(code: str, inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Ints:
    """The operator's output: accumulators, rescaled, in steps from the zero point, clipped to the activation."""
    return from_accumulators(code, accumulators(code, inputs, options), inputs, y, options, rule)


def from_accumulators(code: str, acc: Ints, inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Ints:
    """The operator's output from its accumulators."""
    steps = rescaling(code, inputs, y, rule)(acc)
    return clipped(steps + y.zero_point, y, options)


def clipped(q: Ints, y: Tensor, options: Options) -> Ints:
    """Integers within the limits of the output's type and activation."""
    return np.clip(q, *limits(y, options))


def limits(y: Tensor, options: Options) -> tuple[int, int]:
    """Least and largest integer of an output."""
    return activation_limits(options.activation, float(y.scale[0]), y.zero_point, *y.range)


def centered(x: Tensor) -> Array:
    """x - zx, in float64, in which products and sums of such integers are exact."""
    return (x.integers - x.zero_point).astype(np.float64)


def convolution_sums(x: Tensor, w: Tensor, options: Options) -> Ints:
    """(N, H_out, W_out, c_out) of x (N, H, W, c_in) and w (c_out, K_h, K_w, c_in / groups)."""
    groups = x.integers.shape[3] // w.shape[3]
    kernels = np.split(centered(w).transpose(1, 2, 3, 0), groups, axis=3)  # (K_h, K_w, c_in / groups, c_out / groups)
    maps = np.split(centered(x), groups, axis=3)
    sums = [_convolution(*pair, options) for pair in zip(maps, kernels, strict=True)]
    return np.concatenate(sums, axis=3).astype(np.int64)


def _convolution(x: Array, w: Array, options: Options) -> Array:
    return total(view @ w[u, v] for u, v, view in windows(x, (w.shape[0], w.shape[1]), options))


def depthwise_sums(x: Tensor, w: Tensor, options: Options) -> Ints:
    """(N, H_out, W_out, C m) of x (N, H, W, C) and w (1, K_h, K_w, C m)."""
    kernel = centered(w).reshape(*w.shape[1:3], x.integers.shape[3], -1)  # (K_h, K_w, C, m)
    views = windows(centered(x), (w.shape[1], w.shape[2]), options)
    sums = total(view[..., None] * kernel[u, v] for u, v, view in views)  # (N, H_out, W_out, C, m)
    return sums.reshape(*sums.shape[:3], -1).astype(np.int64)


def dense_sums(x: Tensor, w: Tensor, options: Options) -> Ints:
    """(N, c_out) of x (N, c_in), whose rows may be spread over several axes, and w (c_out, c_in)."""
    rows = centered(x).reshape(-1, w.shape[1])
    sums = (rows @ centered(w).T).astype(np.int64)
    return sums.reshape(*x.integers.shape[:-1], -1) if options.keep_dims else sums


SUMS = {"CONV_2D": convolution_sums, "DEPTHWISE_CONV_2D": depthwise_sums, "FULLY_CONNECTED": dense_sums}
