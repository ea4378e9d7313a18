"""Hard swish, logistic, softmax: curves on at most 256 values, so each is a table in the end."""

from collections.abc import Sequence

import numpy as np

from npmobilenet.quantized import fixed_point
from npmobilenet.quantized.numbers import high_product, multiplier, round_away, rounded_twice, rounding_shift
from npmobilenet.quantized.rules import Rule
from npmobilenet.quantized.tensors import Ints, Options, Tensor
from npmobilenet.types import Array

SHORT = 2**15 - 1  # the greatest int16


def hard_swish(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Ints:
    """x relu6(x + 3) / 6 in 16 bits, with 128 steps per step of the input.

    p is x in steps of the output, g the gate relu6(x + 3) / 6 in 15 bits, both of x 128 with 16-bit multipliers.

    Source: TensorFlow Lite's `reference/hard_swish.h` and `activations.cc`.
    """
    x = inputs[0]
    step = (x.scale[0] / np.float32(128)).astype(np.float32)
    precise = np.float64 if rule.hard_swish == "float64" else np.float32
    out = multiplier(precise(step) / precise(y.scale[0]))
    gate = multiplier(np.float32(step / np.float32(3.0 / 32768)))
    v = (((x.integers - x.zero_point) * 128) + 2**15) % 2**16 - 2**15  # wraps in 16 bits
    p = _short_product(v, _short(out.q))
    g, e = v, int(gate.e)
    if e > 0:
        g = np.clip(g << (e - 1), -SHORT - 1, SHORT)
    g = _short_product(g, _short(gate.q))
    if e > 0:
        g = np.clip(g << 1, -SHORT - 1, SHORT)
    elif e < 0:
        g = rounding_shift(g, -e)
    g = (g + 2**15) >> 1
    product = g * p
    r = np.sign(product) * (np.abs(product) >> 15)
    return np.clip(rounding_shift(r, -int(out.e)) + y.zero_point, *y.range)


def _short(q: Ints) -> int:
    """A multiplier of 31 bits in 15."""
    value = int(q)
    return SHORT if value >= 2**31 - 1 - 2**15 else (value + 2**15) >> 16


def _short_product(a: Ints, b: int) -> Ints:
    """a b / 2^15 of two int16, halves up."""
    y: Ints = np.minimum((a * b + 2**14) >> 15, SHORT)
    return y


def logistic(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Ints:
    """1 / (1 + exp(-x)), in steps of 1/256.

    Source: TensorFlow Lite's `activations.cc`; `reference/integer_ops/logistic.h` for fixed point.
    """
    x = inputs[0]
    q = x.integers - x.zero_point
    if rule.logistic == "fixed_point" and x.dtype == np.int8:
        return np.clip(_logistic_steps(q, float(x.scale[0])) + y.zero_point, *y.range)
    exponentials = np.exp(-(x.scale[0] * q.astype(np.float32)).astype(np.float64))
    if rule.logistic == "float64":  # XNNPACK rounds halves to even
        curve = (1 / (1 + exponentials)).astype(np.float32)
        steps: Ints = np.rint(curve * np.float32(256)).astype(np.int64)
        return np.clip(steps + y.zero_point, *y.range)
    curve = np.float32(1) / (np.float32(1) + exponentials.astype(np.float32))
    return np.clip(round_away(curve * np.float32(256)) + y.zero_point, *y.range)


def _logistic_steps(q: Ints, scale: float) -> Ints:
    """256 / (1 + exp(-x)) with x in Q4.27; 0 and 256 where that has no bits left."""
    m = multiplier(scale * 2.0**27)
    radius = int(15 * 2.0**27 / 2.0 ** int(m.e))
    steps = rounding_shift(fixed_point.logistic(rounded_twice(np.clip(q, -radius, radius), m), 4), 23)
    return np.where(q <= -radius, 0, np.where(q >= radius, 256, steps))


def softmax(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Ints:
    """exp(beta x) / sum exp(beta x) over the last axis, in steps of 1/256.

    The reference kernel of TensorFlow Lite ends the process where the exponentials sum to 512 or more; here the shift
    simply leaves nothing of such probabilities.

    Source: TensorFlow Lite's `reference/softmax.h`; `optimized_ops.h` for the table.
    """
    x = inputs[0]
    below = x.integers - x.integers.max(-1, keepdims=True)
    if rule.softmax == "table":
        return _softmax_by_table(below, float(x.scale[0]) * options.beta, y)
    exponentials = fixed_exponentials(below, float(x.scale[0]) * options.beta)
    sums = rounding_shift(exponentials, 12).sum(-1, keepdims=True)
    zeros = 32 - np.frexp(sums.astype(np.float64))[1].astype(np.int64)  # leading ones, of 32 bits
    reciprocal = fixed_point.one_over_one_plus((sums << zeros) - 2**31)
    steps = rounding_shift(high_product(exponentials, reciprocal), 12 - zeros + 31 - 8)
    q: Ints = np.clip(steps + y.range[0], *y.range)
    return q


def fixed_exponentials(below: Ints, scale: float) -> Ints:
    """exp(scale below) in Q0.31 of below <= 0; 0 where a number of 5 integer bits does not reach."""
    m = multiplier(min(scale * 2.0**26, 2.0**31 - 1))
    radius = int(31 * 2.0**26 / 2.0 ** int(m.e))
    scaled = high_product(np.maximum(below, -radius) << int(m.e), m.q)
    return np.where(below >= -radius, fixed_point.exp_of_negative(scaled, 5), 0)


def float_exponentials(scale: float) -> Array:
    """exp(-scale d) in float32, d = 0 ... 255."""
    exponents = np.float32(-scale) * np.arange(256, dtype=np.float32)
    return np.exp(exponents.astype(np.float64)).astype(np.float32)


def _softmax_by_table(below: Ints, scale: float, y: Tensor) -> Ints:
    """256 exponentials in float32, their sum in the order of the classes, and the quotients."""
    exponentials = float_exponentials(scale)[-below]
    sums = np.cumsum(exponentials, axis=-1, dtype=np.float32)[..., -1:]
    p = exponentials / (sums * y.scale[0])
    steps = np.trunc(p + np.float32(0.5)).astype(np.int64) if y.dtype == np.uint8 else round_away(p)
    q: Ints = np.clip(steps + y.zero_point, *y.range)
    return q
