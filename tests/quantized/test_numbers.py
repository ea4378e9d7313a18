"""The numbers of 8-bit networks against exact arithmetic."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet.quantized.numbers import (
    Multiplier,
    activation_limits,
    as_int32,
    high_product,
    multiplier,
    round_away,
    rounded_once,
    rounded_twice,
    rounded_up_twice,
    rounding_shift,
)
from npmobilenet.quantized.tensors import Quantization, Tensor

ACCUMULATORS = st.integers(-(2**31), 2**31 - 1)
SMALL_ACCUMULATORS = st.integers(-(2**25), 2**25)
MULTIPLIERS = st.integers(2**30, 2**31 - 1)
RIGHT_SHIFTS = st.integers(0, 31)


def nearest(x: Fraction, *, up: bool) -> int:
    """The nearest integer; halves up, or away from zero."""
    if up or x >= 0:
        return floor(x + Fraction(1, 2))
    return -floor(-x + Fraction(1, 2))


def one(value: int) -> np.ndarray:
    """An int64 array of one value."""
    return np.array([value], np.int64)


@given(st.fractions(-1000, 1000, max_denominator=64))
def test_round_away(x: Fraction) -> None:
    assert round_away(np.array(float(x))) == nearest(x, up=False)


@pytest.mark.parametrize(("x", "rounded"), [(0.5, 1), (-0.5, -1), (0.49999999999999994, 0), (2.5, 3), (-2.5, -3)])
def test_round_away_of_halves(x: float, rounded: int) -> None:
    assert round_away(np.array(x)) == rounded


@given(st.floats(1e-9, 2.0**20))
def test_a_multiplier_is_within_half_a_step(M: float) -> None:
    m = multiplier(M)
    assert 2**30 <= int(m.q) < 2**31
    value = Fraction(int(m.q)) * Fraction(2) ** (int(m.e) - 31)
    assert abs(value - Fraction(M)) <= Fraction(2) ** (int(m.e) - 32)


@pytest.mark.parametrize(("M", "q", "e"), [(0.0, 0, 0), (2.0**-34, 0, 0), (1.0 - 2.0**-40, 2**30, 1), (0.5, 2**30, 0)])
def test_multipliers_at_the_ends(M: float, q: int, e: int) -> None:
    m = multiplier(M)
    assert (int(m.q), int(m.e)) == (q, e)


@given(ACCUMULATORS, RIGHT_SHIFTS)
def test_rounding_shift(x: int, s: int) -> None:
    assert rounding_shift(one(x), s) == nearest(Fraction(x, 2**s), up=False)


@given(ACCUMULATORS, MULTIPLIERS)
def test_high_product(a: int, q: int) -> None:
    assert high_product(one(a), q) == nearest(Fraction(a * q, 2**31), up=True)


@given(SMALL_ACCUMULATORS, MULTIPLIERS, st.integers(-31, 5))
def test_the_rules_are_their_roundings(acc: int, q: int, e: int) -> None:
    m = Multiplier(one(q), one(e))
    left = int(as_int32(one(acc << max(e, 0)))[0])
    high = nearest(Fraction(left * q, 2**31), up=True)
    shift = Fraction(1, 2 ** max(-e, 0))
    assert rounded_twice(one(acc), m) == nearest(high * shift, up=False)
    assert rounded_up_twice(one(acc), m) == nearest(high * shift, up=True)
    assert rounded_once(one(acc), m) == nearest(Fraction(acc * q) * Fraction(2) ** (e - 31), up=True)


@given(SMALL_ACCUMULATORS, MULTIPLIERS, st.integers(-31, 0))
def test_results_rise_with_the_accumulator(acc: int, q: int, e: int) -> None:
    m = Multiplier(one(q), one(e))
    for rounded in (rounded_twice, rounded_once, rounded_up_twice):
        assert rounded(one(acc), m) <= rounded(one(acc + 1), m)


def test_two_roundings_differ_from_one() -> None:
    """9 * 31/64 = 4.36: once, 4. Twice: 9 * 31/32 = 8.72, rounded 9; half of that 4.5, rounded 5."""
    m = multiplier(31 / 64)
    assert (rounded_twice(one(9), m)[0], rounded_once(one(9), m)[0]) == (5, 4)


@pytest.mark.parametrize(
    ("activation", "limits"),
    [("linear", (-128, 127)), ("relu", (-28, 127)), ("relu6", (-28, 32)), ("relu_n1_to_1", (-38, -18))],
)
def test_activation_limits(activation: str, limits: tuple[int, int]) -> None:
    assert activation_limits(activation, 0.1, -28, -128, 127) == limits


def test_limits_are_rounded_in_float32() -> None:
    """6 / 0.036923 is 162.49999 in float64 and 162.5 in float32."""
    scale = float(np.float32(0.03692307695746422))
    assert activation_limits("relu6", scale, 0, 0, 255) == (0, 163)


@given(st.integers(-128, 127), st.floats(2.0**-16, 16, width=32), st.integers(-128, 127))
def test_quantizing_what_was_dequantized(q: int, scale: float, zero: int) -> None:
    how = Quantization(np.array([scale], np.float32), one(zero))
    tensor = Tensor("x", (1,), np.dtype(np.int8), how)
    assert tensor.quantize(tensor.dequantize(np.array([q], np.int8))) == q
