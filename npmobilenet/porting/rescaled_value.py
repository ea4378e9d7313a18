"""One accumulator on its way to the output's steps, as each kind of rounding takes it."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from npmobilenet.quantized.numbers import Multiplier, multiplier, rounded_once, rounded_twice, rounded_up_twice
from npmobilenet.quantized.rescaling import Rescaling
from npmobilenet.quantized.rules import Rounding

MANTISSA = 24  # bits of a float32
IN_STEPS = {"twice": rounded_twice, "once": rounded_once, "up_twice": rounded_up_twice}


@dataclass(frozen=True)
class RescaledValue:
    """acc M, rounded.

    Attributes:
        accumulator: the integer that is rescaled.
        M: the real factor, as precise as the rule has it.
        rounding: see `rules.Rounding`.
        q, e: M as q 2^-31 2^e; of a float32 multiplier, its 24 bits and M = q 2^e; None where the rule multiplies in
            floating point.
        high: the accumulator times q 2^-31, after the first of two roundings; None where there is one.
        before: the value that the last rounding rounds.
        tie: whether `before` is halfway between two integers, so that only the rule decides.
        steps: the result, without zero point and limits.
    """

    accumulator: int
    M: float
    rounding: Rounding
    q: int | None
    e: int | None
    high: int | None
    before: float
    tie: bool
    steps: int


def rescaled(acc: int, M: float, rounding: Rounding, m: Multiplier | None = None) -> RescaledValue:
    """An accumulator times a real M; `m` is M as an integer and a power of two, if the operator has its own."""
    if rounding in IN_STEPS:
        return _in_fixed_point(acc, M, rounding, m or multiplier(M))
    factor = Rescaling(np.array([M]), rounding)
    steps = int(factor(np.array([acc]))[0])
    if rounding == "mantissa":
        f, e = np.frexp(np.float32(M))
        q = int(float(f) * 2.0**MANTISSA)
        exact = Fraction(acc * q) * Fraction(2) ** (int(e) - MANTISSA)
        return RescaledValue(acc, M, rounding, q, int(e) - MANTISSA, None, float(exact), _is_tie(exact), steps)
    product = float(np.float32(acc) * np.float32(M)) if rounding == "float32" else float(acc) * M
    return RescaledValue(acc, M, rounding, None, None, None, product, _is_tie(Fraction(product)), steps)


def _in_fixed_point(acc: int, M: float, rounding: Rounding, m: Multiplier) -> RescaledValue:
    q, e = int(m.q), int(m.e)
    steps = int(IN_STEPS[rounding](np.array(acc), Multiplier(np.array(q), np.array(e))))
    if rounding == "once":
        exact = Fraction(acc * q) * Fraction(2) ** (e - 31)
        return RescaledValue(acc, M, rounding, q, e, None, float(exact), _is_tie(exact), steps)
    high = ((acc << max(e, 0)) * q + 2**30) >> 31
    before = Fraction(high) / 2 ** max(-e, 0)
    return RescaledValue(acc, M, rounding, q, e, high, float(before), _is_tie(before), steps)


def _is_tie(value: Fraction) -> bool:
    return value - (value.numerator // value.denominator) == Fraction(1, 2)
