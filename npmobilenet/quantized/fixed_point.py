"""Exponential and reciprocal in fixed point, as processors without floating point compute them.

A number Q I.F is an integer of 32 bits with I integer bits and F = 31 - I binary places; `*` below is `high_product`,
a b / 2^31 rounded.

Source: gemmlowp's `fixedpoint.h`.
"""

import numpy as np

from npmobilenet.quantized.numbers import GREATEST, high_product, rounding_shift
from npmobilenet.quantized.tensors import Ints

EXP_MINUS_EIGHTH = 1895147668  # in Q0.31
THIRD = 715827883
EXP_MINUS_POWERS = {  # exp(-2^k) in Q0.31, by k
    -2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242,
}  # fmt: skip
FORTY_EIGHT_17THS, THIRTY_TWO_17THS = 1515870810, 1010580540  # in Q2.29: Newton's first guess of 1 / x, 1/2 <= x <= 1


def exp_of_negative(a: Ints, I: int) -> Ints:  # noqa: E741  # as in Q I.F
    """exp(a) in Q0.31 of a <= 0 in Q I.(31 - I).

    a is split into a multiple of -1/4 and a rest in [-1/4, 0), whose exponential is a Taylor polynomial about -1/8;
    each bit of the multiple is a factor of its own.
    """
    quarter = 1 << (29 - I)
    rest = (a & (quarter - 1)) - quarter
    x = (rest << I) + (1 << 28)
    x2 = high_product(x, x)
    x3, x4 = high_product(x2, x), high_product(x2, x2)
    terms = rounding_shift(high_product(rounding_shift(x4, 2) + x3, THIRD) + x2, 1)
    y = EXP_MINUS_EIGHTH + high_product(x + terms, EXP_MINUS_EIGHTH)
    for power, factor in EXP_MINUS_POWERS.items():
        if power < I:
            has_bit = ((rest - a) >> (31 - I + power)) & 1
            y = np.where(has_bit == 1, high_product(y, factor), y)
    return np.where(a == 0, GREATEST, y)


def one_over_one_plus(a: Ints) -> Ints:
    """1 / (1 + a) in Q0.31 of 0 <= a < 1 in Q0.31, by three steps of Newton's iteration."""
    half = (a + 2**31) >> 1
    x = FORTY_EIGHT_17THS + high_product(half, -THIRTY_TWO_17THS)
    for _ in range(3):
        x = x + _saturated(high_product(x, 2**29 - high_product(half, x)) << 2)
    return _saturated(x << 1)


def logistic(a: Ints, I: int) -> Ints:  # noqa: E741
    """1 / (1 + exp(-a)) in Q0.31 of a in Q I.(31 - I)."""
    positive = one_over_one_plus(exp_of_negative(-np.abs(a), I))
    return np.where(a == 0, 2**30, np.where(a > 0, positive, GREATEST - positive))


def _saturated(x: Ints) -> Ints:
    return np.clip(x, -(2**31), GREATEST)
