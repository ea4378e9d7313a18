"""Averages over a window and over whole axes, and the maximum of a window."""

from collections.abc import Sequence
from functools import reduce

import numpy as np

from npmobilenet.quantized.numbers import Multiplier, multiplier, rounded_once, rounded_twice
from npmobilenet.quantized.rules import Rule
from npmobilenet.quantized.tensors import Ints, Options, Tensor
from npmobilenet.quantized.weighted_sums import clipped
from npmobilenet.quantized.windows import windows
from npmobilenet.reference.arithmetic import total


def average_pool(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Ints:
    """Mean of the integers under a window, halves away from zero; padding is not counted.

    Scale and zero point of input and output are the same, so that the mean of the integers is the integer of the mean.

    Source: TensorFlow Lite's `reference/integer_ops/pooling.h`.
    """
    x = inputs[0].integers
    n, sums = (_sums(values, options) for values in (np.ones((1, *x.shape[1:3], 1), np.int64), x))
    return clipped(rounded_average(sums, n), y, options)


def rounded_average(sums: Ints, n: Ints | int) -> Ints:
    """sums / n, halves away from zero."""
    return np.asarray(np.sign(sums) * ((np.abs(sums) + n // 2) // n), np.int64)


def _sums(x: Ints, options: Options) -> Ints:
    """Sums under the windows, (N, H_out, W_out, C)."""
    return total(view for _, _, view in windows(x, options.filter, options))


def max_pool(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Ints:
    """Maximum under a window; padding is ignored."""
    x = inputs[0].integers
    largest = reduce(np.maximum, (view for _, _, view in windows(x, options.filter, options, inputs[0].range[0])))
    return clipped(largest, y, options)


def mean(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Ints:
    """Mean over axes: the division by n is part of the multiplier.

        M = sx / sy as q 2^-31 2^e;  q' = (q << k) // n,  e' = e - k,  k as large as 32 bits and the shift allow

    Source: TensorFlow Lite's `reference/reduce.h`, `QuantizedMeanOrSum`.
    """
    x, axes = inputs[0], tuple(int(axis) for axis in inputs[1].integers.ravel())
    sums = x.integers.sum(axes, keepdims=options.keep_dims)
    n = x.integers.size // max(sums.size, 1)
    return clipped(rounded_mean(sums, n, x, y, rule), y, options)


def rounded_mean(sums: Ints, n: int, x: Tensor, y: Tensor, rule: Rule) -> Ints:
    """The mean of n integers whose sums are given, as integers of the output."""
    if rule.elementwise == "float32":
        return _mean_in_float32(sums, n, x, y)
    rounded = rounded_once if rule.elementwise == "once" else rounded_twice
    return rounded(sums - n * x.zero_point, mean_multiplier(x, y, n)) + y.zero_point


def mean_multiplier(x: Tensor, y: Tensor, n: int) -> Multiplier:
    """sx / (n sy) as an integer and a power of two."""
    m = multiplier(float(x.scale[0]) / float(y.scale[0]))
    q, e = int(m.q), int(m.e)
    k = min(n.bit_length() - 1, 32, 31 + e)
    return Multiplier(np.array((q << k) // n), np.array(e - k))


def _mean_in_float32(sums: Ints, n: int, x: Tensor, y: Tensor) -> Ints:
    """XNNPACK's: rint(sum k + (zy - n zx k)), k = (sx / sy) (1 / n), each operation in float32."""
    k = (x.scale / y.scale) * (np.float32(1) / np.float32(n))
    offset = np.float32(y.zero_point) - np.float32(n * x.zero_point) * k
    steps: Ints = np.rint(sums.astype(np.float32) * k + offset).astype(np.int64)
    return steps
