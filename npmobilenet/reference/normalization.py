"""Batch and layer normalization at inference, normalization by given statistics, and rescaling by constants."""

import numpy as np

from npmobilenet.errors import ShapeError
from npmobilenet.reference.arithmetic import add_bias, constant, square_root
from npmobilenet.types import Array

SMALLEST_DEVIATION = 1e-7
"""What `normalize` divides by at least, as Keras does."""


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


def layer_norm(x: Array, gamma: Array | None, beta: Array | None, *, epsilon: float = 1e-3) -> Array:
    """Layer normalization of the last axis.

        y = gamma * (x - mean) / sqrt(var + epsilon) + beta,   mean and var of x[..., :]

    Args:
        x: (..., C) input.
        gamma, beta: (C,) learned scale and shift, or None for 1 and 0.
        epsilon: keeps the root away from 0.

    Returns:
        Shape and dtype of x.

    Source: Ba et al. 2016 (arXiv:1607.06450), eq. 3; the axis is Keras's default.
    """
    y = x - x.mean(axis=-1, keepdims=True)
    var = (y * y).mean(axis=-1, keepdims=True)  # (..., 1)
    y /= square_root(var + constant(epsilon, x))
    return add_bias(y if gamma is None else y * gamma, beta)


def normalize(x: Array, mean: Array, variance: Array) -> Array:
    """(x - mean) / max(sqrt(variance), 1e-7) with (C,) statistics of the training set; shape and dtype of x.

    Source: Keras's Normalization.
    """
    return (x - mean) / np.maximum(square_root(variance), constant(SMALLEST_DEVIATION, x))


def rescale(x: Array, scale: float | Array, offset: float | Array) -> Array:
    """x * scale + offset with constants, for example from 0..255 to [-1, 1]; shape and dtype of x.

    Args:
        x: (..., C) input.
        scale, offset: numbers, or (C,) arrays of the dtype of x.
    """
    scale, offset = (value if isinstance(value, np.ndarray) else constant(value, x) for value in (scale, offset))
    return np.asarray(x * scale + offset)
