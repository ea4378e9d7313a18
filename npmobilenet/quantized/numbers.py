"""Numbers of 8-bit networks: scale, zero point, multiplier and shift.

An integer q stands for the real number `scale * (q - zero_point)`. A layer sums products of such integers exactly, in
32 bits: the accumulator. What it stands for is known, `sx sw acc`, and the output's step is sy; so one real number,

    M = sx sw / sy,

takes the accumulator to the output's steps. A processor without floating point multiplies by an integer q of 31 bits
and shifts instead, `M = q 2^-31 2^e`, and this is where implementations differ: they round the product once, or twice.

Source: Jacob et al. 2018 (arXiv:1712.05877), section 2.2 and appendix B; TensorFlow Lite's `quantization_util.cc` and
`internal/common.cc`; gemmlowp's `fixedpoint.h`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from npmobilenet.quantized.tensors import Ints
from npmobilenet.types import Array

CEILINGS = {"relu": (0.0, None), "relu6": (0.0, 6.0), "relu_n1_to_1": (-1.0, 1.0), "linear": (None, None)}
GREATEST = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Multiplier:
    """A real number as an integer and a power of two, M = q 2^-31 2^e, one or one per channel.

    Args:
        q: 0, or from 2^30 to 2^31 - 1: the multiplier.
        e: from -31 to 30: to the left if positive, to the right if negative.
    """

    q: Ints
    e: Ints


def round_away(x: Array) -> Ints:
    """The nearest integer; halves away from zero, as C's `round`."""
    whole = np.trunc(x)
    return (whole + np.where(np.abs(x - whole) >= 0.5, np.sign(x), 0)).astype(np.int64)


def multiplier(M: ArrayLike) -> Multiplier:
    """A real number M >= 0 as an integer and a power of two: M = f 2^e with 1/2 <= f < 1, and q = round(f 2^31)."""
    f, e = np.frexp(np.asarray(M, np.float64))
    q, e = round_away(f * 2.0**31), e.astype(np.int64)
    q, e = np.where(q == 2**31, q // 2, q), np.where(q == 2**31, e + 1, e)
    vanishes = e < -31
    return Multiplier(np.where(vanishes, 0, q), np.where(vanishes, 0, e))


def rounding_shift(x: Ints, s: Ints | int) -> Ints:
    """x / 2^s to the nearest integer, halves away from zero: gemmlowp's RoundingDivideByPOT."""
    half = np.where(np.asarray(s) > 0, np.left_shift(1, np.maximum(s, 1) - 1), 0)
    rounded: Ints = (x + half - ((x < 0) & (np.asarray(s) > 0))) >> s
    return rounded


def high_product(a: Ints, q: Ints | int) -> Ints:
    """a q / 2^31 to the nearest integer, halves up, for any sign: gemmlowp's SaturatingRoundingDoublingHighMul."""
    y: Ints = np.minimum((a * q + 2**30) >> 31, GREATEST)
    return y


def rounded_twice(acc: Ints, m: Multiplier) -> Ints:
    """acc M, rounded after the multiplication and after the shift: TensorFlow Lite's own rule.

        high_product, then rounding_shift by s = -e; as one formula
        (acc q + 2^30 + 2^(30+s) - 2^31 [acc < 0]) >> (31 + s),  s >= 1

    The first rounding moves each step of the result by 2^-(s+1); otherwise this is one shift. A left shift, e > 0,
    comes before the multiplication, in 32 bits.
    """
    s = np.maximum(-m.e, 0)
    acc = as_int32(acc << np.maximum(m.e, 0))
    twice = 2**30 + np.left_shift(1, 30 + s) - (np.asarray(acc < 0, np.int64) << 31)
    y: Ints = (acc * m.q + np.where(s > 0, twice, 2**30)) >> (31 + s)
    return y


def rounded_once(acc: Ints, m: Multiplier) -> Ints:
    """acc M, rounded after the shift only, halves up: (acc q + 2^(30-e)) >> (31-e)."""
    y: Ints = (acc * m.q + np.left_shift(1, 30 - m.e)) >> (31 - m.e)
    return y


def rounded_up_twice(acc: Ints, m: Multiplier) -> Ints:
    """acc M, rounded as often as in `rounded_twice`, but halves up in the shift as well, as ARM's `vrshl` does."""
    s = np.maximum(-m.e, 0)
    high = high_product(as_int32(acc << np.maximum(m.e, 0)), m.q)
    y: Ints = (high + np.where(s > 0, np.left_shift(1, np.maximum(s, 1) - 1), 0)) >> s
    return y


def as_int32(x: Ints) -> Ints:
    """What is left of x in 32 bits, with its sign."""
    return x.astype(np.int32).astype(np.int64)


def step_of(real: float, scale: float, zero_point: int) -> int:
    """The integer that stands for a real number, computed in float32: zero_point + round(real / scale)."""
    return zero_point + int(round_away(np.array(real, np.float32) / np.float32(scale)))


def activation_limits(activation: str, scale: float, zero_point: int, least: int, largest: int) -> tuple[int, int]:
    """Least and largest integer of an output after its activation.

    This is all that ReLU6 takes in 8 bits: it is a clip, and costs nothing, since every result is clipped anyway.

    Args:
        activation: a key of `CEILINGS`.
        scale, zero_point: of the output.
        least, largest: of its type.
    """
    low, high = CEILINGS[activation]
    if low is not None:
        least = max(least, step_of(low, scale, zero_point))
    if high is not None:
        largest = min(largest, step_of(high, scale, zero_point))
    return least, largest
