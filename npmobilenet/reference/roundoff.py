"""Roundoff: what n roundings in a row, underflow and a product can make of an error; see `rounding` for the model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.types import Array

EXP_ROUNDINGS = 8
"""exp and log count as this many roundings, 4 units in the last place: vector libraries promise 1 to 4."""
RSQRT_ROUNDINGS = 4
"""1 / sqrt(x): two correctly rounded operations, or an estimate and a Newton step, within 2 units in the last place."""


def gamma(n: int, dtype: DTypeLike = np.float32) -> float:
    """n u / (1 - n u): the relative error that n roundings can make; infinite where n u reaches 1.

    Args:
        n: number of roundings in a row.
        dtype: float16, float32 or float64; u is half the distance from 1 to the next number.

    Source: Higham 2002, lemma 3.1.
    """
    nu = n * float(np.finfo(dtype).eps) / 2
    return nu / (1 - nu) if nu < 1 else float("inf")


def product_bound(
    xs: Sequence[Array], errors: Sequence[Array] | None = None, *, dtype: DTypeLike = np.float32
) -> Array:
    """Bound for the product of arrays, broadcast, one factor after the other.

    |x| e_y + e_x |y| + e_x e_y,   and one rounding of a product as large as |x||y| plus that
    """
    errors = errors or [error_or_zero(x, None) for x in xs]
    size, error = np.abs(float64(xs[0])), float64(errors[0])
    for x, e in zip(xs[1:], errors[1:], strict=True):
        a = np.abs(float64(x))
        spread = size * e + error * a + error * e
        size = size * a
        error = spread + gamma(1, dtype) * (size + spread) + underflow(1, dtype)
    return np.asarray(error)


def underflow(n: int, dtype: DTypeLike) -> float:
    """What n roundings can lose to underflow."""
    return n * float(np.finfo(dtype).smallest_normal)


def error_or_zero(x: Array, error: Array | None) -> Array:
    """A bound on the error of x in float64; None is 0."""
    return np.zeros(np.shape(x)) if error is None else float64(error)


def float64(x: Any) -> Array:
    """x in float64."""
    return np.asarray(x, np.float64)
