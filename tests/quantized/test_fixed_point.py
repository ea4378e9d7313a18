"""Exponential, reciprocal and logistic in fixed point against the functions that they approximate."""

import numpy as np
import pytest

from npmobilenet.quantized.fixed_point import exp_of_negative, logistic, one_over_one_plus

ONE = 2.0**31
RNG = np.random.default_rng(0)
STEPS = 2.0**-27  # what roundings of 31 bits leave
TAYLOR = 0.125**5 / 120 + STEPS  # what a polynomial of degree 4 leaves of exp(x), |x| <= 1/8


@pytest.mark.parametrize("I", [4, 5])
def test_exponential(I: int) -> None:  # noqa: E741
    a = -np.concatenate([RNG.integers(0, 2**31, 20000), [0, 1, 2**20, 2**31 - 1]])
    real = a / 2.0 ** (31 - I)
    np.testing.assert_allclose(exp_of_negative(a, I) / ONE, np.exp(real), rtol=0, atol=TAYLOR)


def test_reciprocal() -> None:
    a = np.concatenate([RNG.integers(0, 2**31, 20000), [0, 1, 2**31 - 1]])
    np.testing.assert_allclose(one_over_one_plus(a) / ONE, 1 / (1 + a / ONE), rtol=0, atol=STEPS)


def test_logistic() -> None:
    a = np.concatenate([RNG.integers(-(2**31) + 1, 2**31, 20000), [0, 1, -1]])
    np.testing.assert_allclose(logistic(a, 4) / ONE, 1 / (1 + np.exp(-a / 2.0**27)), rtol=0, atol=TAYLOR)
