"""Batch normalization at inference, and rescaling by two constants."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from npmobilenet.errors import ShapeError
from npmobilenet.reference.arithmetic import add_bias, constant, square_root
from npmobilenet.types import Array


def batch_norm(
    x: Array, gamma: Array | None, beta: Array | None, mean: Array, var: Array, *, epsilon: float = 1e-3
) -> Array:
    """Batch normalization at inference: one multiplication and one addition per value.

        y = gamma * (x - mean) / sqrt(var + epsilon) + beta

    Args:
        x: (..., C) input.
        gamma, beta: (C,) learned scale and shift, or None for 1 and 0.
        mean, var: (C,) moving statistics from training.
        epsilon: keeps the root away from 0. Keras's MobileNets use 1e-3; other frameworks default to 1e-5, and a port
            with the wrong one is off by a few percent on channels of small variance.

    Returns:
        Shape and dtype of x.

    Raises:
        ShapeError: a parameter does not have one value per channel.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), algorithm 2.
    """
    for name, values in (("gamma", gamma), ("beta", beta), ("mean", mean), ("var", var)):
        if values is not None and values.shape != x.shape[-1:]:
            raise ShapeError(
                f"batch_norm: expected {name} of shape {x.shape[-1:]}, one value per channel of x, got {values.shape}"
            )
    scale = 1 / square_root(var + constant(epsilon, x))  # (C,)
    if gamma is not None:
        scale = scale * gamma
    y = x - mean
    y *= scale
    return add_bias(y, beta)


def rescale(x: Array, scale: float | Sequence[float], offset: float | Sequence[float]) -> Array:
    """x * scale + offset with two constants, for example from 0..255 to [-1, 1]; shape and dtype of x.

    A constant may have one value per channel: x (..., C), scale (C,).
    """
    return x * _constants(scale, x) + _constants(offset, x)


def _constants(values: float | Sequence[float], like: Array) -> Any:
    """A constant or one per channel, in the arithmetic of `like`."""
    if not isinstance(values, Sequence):
        return constant(values, like)
    return np.array([constant(value, like) for value in values], like.dtype)
