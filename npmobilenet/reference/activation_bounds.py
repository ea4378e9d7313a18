"""Error bounds of the activations; see `rounding` for the model."""

from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.reference.activations import (
    SELU_ALPHA,
    SELU_SCALE,
    SQRT_2_OVER_PI,
    hard_sigmoid,
    normal_cdf,
    relu6,
    sigmoid,
    softmax,
    softplus,
)
from npmobilenet.reference.roundoff import EXP_ROUNDINGS, error_or_zero, float64, gamma, product_bound, underflow
from npmobilenet.types import Array


def activation_bound(name: str, x: Array, error: Array | None = None, *, dtype: DTypeLike = np.float32) -> Array:
    """Bound for an activation of `activations.ACTIVATIONS`.

        linear        error
        relu, relu6   how far the ends of the interval x +- error can move the answer, so 0 where all of it is clipped;
                      nothing is rounded
        sigmoid       error * the largest slope in the interval, at most 1, + gamma * s * (1 - log s)
        tanh          as sigmoid, with its slope, and gamma * |tanh|
        elu, selu     error * the largest slope in the interval, and gamma where exp(x) - 1 is computed
        softplus      error * the largest slope in the interval, a sigmoid, and gamma of exp(x) and of the logarithm
        mish          the product of x and tanh, with the error that softplus carries into it
        silu          the product of x and its sigmoid
        gelu          the product of x and Phi(x), the error of which is error * the largest density, + gamma
        gelu_tanh     the product of x and (1 + tanh) / 2, with the error that the cubic polynomial carries into it
        hard_sigmoid  error / 6 and three roundings of (|x| + 3) / 6, 0 where clipped, and two of the result
        hard_swish    the product of x and its hard sigmoid
        softmax       every exponential shifted by its error, the sum by the weighted mean of these; at most 1

    The sigmoid may be written exp(-log(1 + exp(-x))): then the error of log s = -log(1 + exp(-x)) is multiplied by s.

    Args:
        name: of the activation.
        x: exact input, of any shape; softmax goes along the last axis.
        error: bound on the error of x, of its shape; None for 0.
        dtype: of the arithmetic.

    Returns:
        Shape of x.

    Raises:
        KeyError: the activation is not known.
    """
    x, error = float64(x), error_or_zero(x, error)
    return _ACTIVATION_BOUNDS[name](x, error, dtype)


def _relu_bound(x: Array, error: Array, dtype: DTypeLike) -> Array:
    return np.asarray(np.maximum(error + np.minimum(x, 0), 0))


def _relu6_bound(x: Array, error: Array, dtype: DTypeLike) -> Array:
    y = relu6(x)
    upwards = np.clip(error + np.minimum(x, 0), 0, 6 - y)
    downwards = np.clip(error - np.maximum(x - 6, 0), 0, y)
    return np.asarray(np.maximum(upwards, downwards))


def _sigmoid_bound(x: Array, error: Array, dtype: DTypeLike) -> Array:
    steepest = sigmoid(np.maximum(np.abs(x) - error, 0))
    log_s = -np.logaddexp(0, -x)
    rounding = gamma(2 * EXP_ROUNDINGS, dtype) * np.exp(log_s) * (1 - log_s)
    return np.asarray(np.minimum(error * steepest * (1 - steepest), 1) + rounding + underflow(1, dtype))


def _tanh_bound(x: Array, error: Array, dtype: DTypeLike) -> Array:
    steepest = 1 - np.tanh(np.maximum(np.abs(x) - error, 0)) ** 2
    rounding = gamma(2 * EXP_ROUNDINGS, dtype) * np.abs(np.tanh(x))
    return np.asarray(np.minimum(error * steepest, 2) + rounding + underflow(1, dtype))


def elu_bound(
    x: Array, alpha: float = 1.0, error: Array | None = None, *, scale: float = 1.0, dtype: DTypeLike = np.float32
) -> Array:
    """Bound for scale * `elu`; constants other than 1 are rounded, and so are the products with them."""
    x, error = float64(x), error_or_zero(x, error)
    size = abs(alpha)
    steepest = np.where(x - error < 0, size * np.exp(np.minimum(x + error, 0)), 0)
    steepest = np.maximum(steepest, np.where(x + error > 0, 1, 0))
    roundings = EXP_ROUNDINGS + 1 + 2 * (alpha != 1) + 2 * (scale != 1)
    rounding = np.where(x - error < 0, gamma(roundings, dtype) * size, 0)  # exp(x) is at most 1
    positive = gamma(2 * (scale != 1), dtype) * np.maximum(x + error, 0)
    return np.asarray(scale * (error * steepest + rounding + positive))


def _softplus_bound(x: Array, error: Array, dtype: DTypeLike) -> Array:
    rounding = gamma(2 * EXP_ROUNDINGS, dtype) * (softplus(x + error) + np.exp(np.minimum(x + error, 0)))
    return np.asarray(error * sigmoid(x + error) + rounding + underflow(2, dtype))


def _mish_bound(x: Array, error: Array, dtype: DTypeLike) -> Array:
    y = softplus(x)
    carried = _tanh_bound(y, _softplus_bound(x, error, dtype), dtype)
    return product_bound([x, np.tanh(y)], [error, carried], dtype=dtype)


def _silu_bound(x: Array, error: Array, dtype: DTypeLike) -> Array:
    return product_bound([x, sigmoid(x)], [error, _sigmoid_bound(x, error, dtype)], dtype=dtype)


def _gelu_bound(x: Array, error: Array, dtype: DTypeLike) -> Array:
    Phi = normal_cdf(x)
    densest = np.exp(-(np.maximum(np.abs(x) - error, 0) ** 2) / 2) / np.sqrt(2 * np.pi)
    carried = np.minimum(error * densest, 1)
    rounding = gamma(2 * EXP_ROUNDINGS, dtype)  # erf and 1 + erf are at most 1 and 2, whatever cancels
    return product_bound([x, Phi], [error, carried + rounding], dtype=dtype)


def _gelu_tanh_bound(x: Array, error: Array, dtype: DTypeLike) -> Array:
    largest = np.abs(x) + error
    slope = SQRT_2_OVER_PI * (1 + 3 * 0.044715 * largest**2)
    rounding = gamma(8, dtype) * SQRT_2_OVER_PI * (largest + 0.044715 * largest**3)
    z = SQRT_2_OVER_PI * (x + 0.044715 * x**3)
    half = (_tanh_bound(z, error * slope + rounding, dtype) + gamma(2, dtype) * 2) / 2
    return product_bound([x, (1 + np.tanh(z)) / 2], [error, half], dtype=dtype)


def leaky_relu_bound(
    x: Array, slope: float | Array, error: Array | None = None, *, dtype: DTypeLike = np.float32
) -> Array:
    """Bound for `leaky_relu`: error * the larger slope in the interval; slope and product are rounded below 0."""
    x, error = float64(x), error_or_zero(x, error)
    size = np.abs(slope)
    carried = error * np.maximum(np.where(x + error >= 0, 1, 0), np.where(x - error < 0, size, 0))
    rounding = gamma(2, dtype) * size * (np.abs(x) + error) + underflow(2, dtype)
    return np.asarray(carried + np.where(x - error < 0, rounding, 0))


def _hard_sigmoid_bound(x: Array, error: Array, dtype: DTypeLike) -> Array:
    inside = error + gamma(3, dtype) * (np.abs(x) + error + 3)
    clipped = _relu6_bound(x + 3, inside, dtype) / 6
    return np.asarray(clipped + gamma(2, dtype) * (hard_sigmoid(x) + clipped))


def _hard_swish_bound(x: Array, error: Array, dtype: DTypeLike) -> Array:
    return product_bound([x, hard_sigmoid(x)], [error, _hard_sigmoid_bound(x, error, dtype)], dtype=dtype)


def _softmax_bound(x: Array, error: Array, dtype: DTypeLike) -> Array:
    """Bound for softmax: exponential i has a relative error r_i, their sum that of the exponentials, weighted by p.

    r_i = exp(error_i + u (|x_i - max x| + 2 max error)) * (1 + gamma) - 1,   R = sum_j p_j r_j
    |computed - p_i| <= p_i * ((1 + r_i) (1 + gamma_(n+1)) / (1 - R) - 1),   and never more than 1
    """
    p = softmax(x)
    shift = np.abs(x - x.max(axis=-1, keepdims=True)) + 2 * error.max(axis=-1, keepdims=True)
    exponent = np.minimum(error + gamma(1, dtype) * shift, 40)  # more gives 1 anyway
    g = gamma(EXP_ROUNDINGS, dtype)
    r = np.expm1(exponent) * (1 + g) + g
    R = (p * r).sum(axis=-1, keepdims=True)
    g = gamma(x.shape[-1] + 1, dtype)
    relative = (r + g + r * g + R) / np.where(R < 1, 1 - R, 1)
    return np.where(R < 1, np.minimum(p * relative + underflow(2, dtype), 1.0), 1.0)


_ActivationBound = Callable[[Array, Array, DTypeLike], Array]
_ACTIVATION_BOUNDS: dict[str, _ActivationBound] = {
    "linear": lambda x, error, dtype: error,
    "relu": _relu_bound,
    "relu6": _relu6_bound,
    "sigmoid": _sigmoid_bound,
    "hard_sigmoid": _hard_sigmoid_bound,
    "hard_swish": _hard_swish_bound,
    "softmax": _softmax_bound,
    "tanh": _tanh_bound,
    "elu": lambda x, error, dtype: elu_bound(x, 1.0, error, dtype=dtype),
    "selu": lambda x, error, dtype: elu_bound(x, SELU_ALPHA, error, scale=SELU_SCALE, dtype=dtype),
    "softplus": _softplus_bound,
    "mish": _mish_bound,
    "silu": _silu_bound,
    "gelu": _gelu_bound,
    "gelu_tanh": _gelu_tanh_bound,
}
