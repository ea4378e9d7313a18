"""Sums, constants and square roots in the dtype of their arrays (exact on objects), and the check of a rank."""

from collections.abc import Iterable
from functools import reduce
from math import isqrt
from operator import add
from typing import Any

import numpy as np

from npmobilenet.errors import ShapeError
from npmobilenet.types import Array


def total(terms: Iterable[Array]) -> Array:
    """Sum of arrays, from the first to the last."""
    return reduce(add, terms)


def add_bias(y: Array, b: Array | None) -> Array:
    """y (..., C) with the bias b (C,) added in place; y itself if b is None."""
    if b is not None:
        y += b
    return y


def constant(value: float, like: Array) -> Any:
    """`value` in the arithmetic of `like`: an exact decimal fraction for objects, else left to NumPy's weak typing."""
    if like.dtype != object:
        return value
    from fractions import Fraction

    return Fraction(str(value))


def square_root(x: Array) -> Array:
    """Square root; of objects the exact one, or ValueError if a value is not the square of a fraction."""
    if x.dtype != object:
        return np.sqrt(x)
    return np.array([_rational_root(value) for value in x.ravel()], object).reshape(x.shape)


def _rational_root(value: Any) -> Any:
    from fractions import Fraction

    exact = Fraction(value)
    root = Fraction(isqrt(exact.numerator), isqrt(exact.denominator))
    if root * root != exact:
        raise ValueError(f"{exact} is not the square of a fraction, so it has no exact root")
    return root


def check_feature_map(op: str, x: Array) -> None:
    """Raise ShapeError unless x is (N, H, W, C)."""
    if x.ndim != 4:
        raise ShapeError(f"{op}: expected x of shape (N, H, W, C), got {x.shape}")
