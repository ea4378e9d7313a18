"""Operators of two tensors: sum, difference, product, concatenation."""

from collections.abc import Sequence

import numpy as np

from npmobilenet.quantized.numbers import multiplier, round_away, rounded_once, rounded_twice
from npmobilenet.quantized.rescaling import Rescaling, change_of_scale
from npmobilenet.quantized.rules import Rule
from npmobilenet.quantized.tensors import Ints, Options, Tensor
from npmobilenet.quantized.weighted_sums import clipped

HEADROOM = 20  # bits that a sum's inputs are shifted left before they are brought to a common scale


def add(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Ints:
    """x1 + x2; see `_sum`."""
    return _sum(inputs, +1, y, options, rule)


def subtract(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Ints:
    """x1 - x2; see `_sum`."""
    return _sum(inputs, -1, y, options, rule)


def _sum(inputs: Sequence[Tensor], sign: int, y: Tensor, options: Options, rule: Rule) -> Ints:
    """Both inputs in steps of a common scale, twice the larger one, 2^-20 of it each; their sum in steps of the output.

    Source: TensorFlow Lite's `add.cc` and `reference/integer_ops/add.h`; XNNPACK's `qs8-vadd`.
    """
    x1, x2 = (x.integers - x.zero_point for x in inputs)
    s1, s2 = (float(x.scale[0]) for x in inputs)
    if rule.add == "common_shift":
        return clipped(_with_common_shift(x1, sign * x2, s1, s2, float(y.scale[0])) + y.zero_point, y, options)
    rounded = rounded_once if rule.add == "once" else rounded_twice
    M1, M2, M = sum_factors(inputs, y)
    a1, a2 = rounded(x1 << HEADROOM, multiplier(M1)), rounded(x2 << HEADROOM, multiplier(M2))
    return clipped(rounded(a1 + sign * a2, multiplier(M)) + y.zero_point, y, options)


def sum_factors(inputs: Sequence[Tensor], y: Tensor) -> tuple[float, float, float]:
    """What takes each input, 2^20 steps of it, to the common scale, and their sum to the output's steps."""
    s1, s2 = (float(x.scale[0]) for x in inputs)
    common = 2 * max(s1, s2)
    return s1 / common, s2 / common, common / (2**HEADROOM * float(y.scale[0]))


def _with_common_shift(x1: Ints, x2: Ints, s1: float, s2: float, sy: float) -> Ints:
    """(x1 m1 + x2 m2 + 2^(shift-1)) >> shift, with m_i 2^-shift = s_i / sy to 20 bits or more."""
    ratios = np.array([s1, s2], np.float32) / np.float32(sy)
    shift = HEADROOM - int(np.frexp(ratios.max())[1] - 1)
    m1, m2 = np.rint(ratios.astype(np.float64) * 2.0**shift).astype(np.int64)
    y: Ints = (x1 * m1 + x2 * m2 + (1 << (shift - 1))) >> shift
    return y


def multiply(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Ints:
    """x1 x2, with M = s1 s2 / sy in float32.

    Source: TensorFlow Lite's `mul.cc`.
    """
    x1, x2 = (x.integers - x.zero_point for x in inputs)
    return clipped(product_rescaling(inputs, y, rule)(x1 * x2) + y.zero_point, y, options)


def product_rescaling(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Rescaling:
    """The factor s1 s2 / sy of a product, and how the rule rounds."""
    return change_of_scale((inputs[0].scale * inputs[1].scale / y.scale).astype(np.float64), rule.elementwise)


def concatenate(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Ints:
    """Tensors one after another; a uint8 tensor of another scale than the output's is brought to it in float32.

    Source: TensorFlow Lite's `reference/concatenation.h`, `ConcatenationWithScaling`.
    """
    return np.concatenate([_in_steps_of(x, y) for x in inputs], options.axis)


def _in_steps_of(x: Tensor, y: Tensor) -> Ints:
    same = y.quantization is None or (x.zero_point == y.zero_point and x.scale[0] == y.scale[0])
    if same or y.dtype != np.uint8:
        return x.integers
    factor = x.scale * (np.float32(1) / y.scale)
    offset = -np.float32(x.zero_point) * factor
    steps = round_away(x.integers.astype(np.float32) * factor + offset) + y.zero_point
    return np.clip(steps, *y.range)
