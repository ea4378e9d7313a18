"""How far rounding can take a layer from the exact answer: the forward error bounds that the tolerances come from.

Arithmetic with unit roundoff u rounds every operation to

    fl(a op b) = (a op b) * (1 + delta) + eta,   |delta| <= u,  |eta| <= smallest normal number

where eta is underflow (engines may flush subnormal numbers to zero). A term that goes through n such roundings is
off by at most gamma_n = n u / (1 - n u) of its size, so a sum of products, in whatever order it is added, by

    |computed - exact| <= gamma_n * sum |x||w|

Errors that x brings along are carried through the layer and added (running error analysis). Every function takes
the exact input and a bound on its error, and returns a bound on the error of the output, as float64 of its shape.
It holds for every engine that computes in `dtype` by this arithmetic, with fused multiply-adds or without, in any
order of sums, as long as nothing overflows; two such engines differ by at most the sum of their bounds. The bounds
are themselves computed in float64, whose own rounding is 2**-29 of float32's and is left out.

Source: Higham 2002, Accuracy and Stability of Numerical Algorithms, 2nd edition: section 2.2 (the model), lemma 3.1
(gamma_n), section 3.1 (inner products), section 3.3 (running error analysis).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from warnings import warn

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from npmobilenet.reference.activation_bounds import activation_bound as activation_bound
from npmobilenet.reference.activations import ACTIVATIONS
from npmobilenet.reference.convolution import conv2d, dense, depthwise_conv2d, pointwise_conv2d
from npmobilenet.reference.interpolation import resize
from npmobilenet.reference.normalization import SMALLEST_DEVIATION
from npmobilenet.reference.pooling import average_pool, global_average_pool
from npmobilenet.reference.roundoff import EXP_ROUNDINGS as EXP_ROUNDINGS
from npmobilenet.reference.roundoff import RSQRT_ROUNDINGS as RSQRT_ROUNDINGS
from npmobilenet.reference.roundoff import error_or_zero, float64, underflow
from npmobilenet.reference.roundoff import gamma as gamma
from npmobilenet.reference.roundoff import product_bound as product_bound
from npmobilenet.types import Array, Padding, Pair, Params

if TYPE_CHECKING:
    from npmobilenet.reference.layer import Layer


def conv2d_bound(
    x: Array,
    w: Array,
    b: Array | None = None,
    error: Array | None = None,
    *,
    stride: int = 1,
    padding: Padding = "same",
    dilation: int = 1,
    dtype: DTypeLike = np.float32,
) -> Array:
    """Bound for `conv2d`: sums of K_h * K_w * c_in products and the bias.

        gamma_n * (sum (|x| + error)|w| + |b|) + sum error * |w|,   n = K_h * K_w * c_in + 1

    Args:
        x: (N, H, W, c_in) exact input.
        w, b: kernel and bias, exact as they are stored.
        error: bound on the error of x, of its shape; None for 0.
        stride, padding, dilation: see `conv2d`.
        dtype: of the arithmetic.

    Returns:
        (N, H_out, W_out, c_out) bound on the error of the output.
    """
    n = w.shape[0] * w.shape[1] * w.shape[2] + 1
    terms, bias = _terms(n, x, error, b, dtype)
    y = conv2d(terms, np.abs(float64(w)), bias, stride=stride, padding=padding, dilation=dilation)
    return y + underflow(n, dtype)


def depthwise_conv2d_bound(
    x: Array,
    w: Array,
    b: Array | None = None,
    error: Array | None = None,
    *,
    stride: int = 1,
    padding: Padding = "same",
    dilation: int = 1,
    dtype: DTypeLike = np.float32,
) -> Array:
    """Bound for `depthwise_conv2d`, as `conv2d_bound` with n = K_h * K_w + 1."""
    n = w.shape[0] * w.shape[1] + 1
    terms, bias = _terms(n, x, error, b, dtype)
    y = depthwise_conv2d(terms, np.abs(float64(w)), bias, stride=stride, padding=padding, dilation=dilation)
    return y + underflow(n, dtype)


def dense_bound(
    x: Array, w: Array, b: Array | None = None, error: Array | None = None, *, dtype: DTypeLike = np.float32
) -> Array:
    """Bound for `dense` on (..., c_in), as `conv2d_bound` with n = c_in + 1."""
    n = w.shape[0] + 1
    terms, bias = _terms(n, x, error, b, dtype)
    return dense(terms, np.abs(float64(w)), bias) + underflow(n, dtype)


def pointwise_conv2d_bound(
    x: Array, w: Array, b: Array | None = None, error: Array | None = None, *, dtype: DTypeLike = np.float32
) -> Array:
    """Bound for `pointwise_conv2d`; w is (c_in, c_out) or (1, 1, c_in, c_out)."""
    return dense_bound(x, w.reshape(w.shape[-2:]), b, error, dtype=dtype)


def batch_norm_bound(
    x: Array,
    gamma_: Array | None,
    beta: Array | None,
    mean: Array,
    var: Array,
    error: Array | None = None,
    *,
    epsilon: float = 1e-3,
    dtype: DTypeLike = np.float32,
) -> Array:
    """Bound for `batch_norm`, whether it is written (x - mean) * scale + beta or x * scale + (beta - mean * scale).

        gamma_n * ((|x| + error + |mean|)|scale| + |beta|) + error * |scale|,   scale = gamma / sqrt(var + epsilon)

    n counts half a rounding each for epsilon and var + epsilon (the root halves them), `RSQRT_ROUNDINGS`, one for
    gamma, one for the product and two for the sums.

    Args:
        x: (..., C) exact input.
        gamma_, beta, mean, var, epsilon: as for `batch_norm`.
        error: bound on the error of x, of its shape; None for 0.
        dtype: of the arithmetic.

    Returns:
        Shape of x.
    """
    n = 1 + RSQRT_ROUNDINGS + 1 + 1 + 2
    scale = np.abs(float64(gamma_) if gamma_ is not None else 1.0) / np.sqrt(float64(var) + epsilon)
    offset = np.abs(float64(mean)) * scale + (np.abs(float64(beta)) if beta is not None else 0.0)
    terms, offset = _terms(n, x, error, offset, dtype)
    return np.asarray(terms * scale + offset + underflow(n, dtype))


def rescale_bound(
    x: Array,
    scale: ArrayLike,
    offset: ArrayLike,
    error: Array | None = None,
    *,
    dtype: DTypeLike = np.float32,
) -> Array:
    """Bound for `rescale`, also by channel: the constants, the product and the sum are rounded, three in a row."""
    terms, constant = _terms(3, x, error, np.asarray(offset, np.float64), dtype)
    return np.asarray(terms * np.abs(scale) + constant + underflow(3, dtype))


def normalize_bound(
    x: Array, mean: Array, variance: Array, error: Array | None = None, *, dtype: DTypeLike = np.float32
) -> Array:
    """Bound for `normalize`, written (x - mean) / s or x / s - mean / s: a root, a quotient and a difference."""
    terms, offset = _terms(4, x, error, mean, dtype)
    deviation = np.maximum(np.sqrt(float64(variance)), SMALLEST_DEVIATION)
    return np.asarray((terms + offset) / deviation + underflow(4, dtype))


def layer_norm_bound(
    x: Array,
    gamma_: Array | None,
    beta: Array | None,
    error: Array | None = None,
    *,
    epsilon: float = 1e-3,
    dtype: DTypeLike = np.float32,
) -> Array:
    """Bound for `layer_norm`, with the variance as mean((x - mean)**2) or as mean(x**2) - mean**2.

        |m - mean|  <= mean(error) + gamma_(C+1) mean(|x| + error)
        |v - var|   <= mean(2 |d| d_e + d_e**2) + gamma_(2C+6) (mean((|x| + error)**2) + mean((|d| + d_e)**2))
        |s - scale| <= 1 / sqrt(max(var - |v - var|, 0) + epsilon) - scale, and `RSQRT_ROUNDINGS` + 2

    where d = x - mean, with the error d_e, and scale = 1 / sqrt(var + epsilon). Arguments as `batch_norm_bound`.
    """
    x, e = float64(x), error_or_zero(x, error)
    C = x.shape[-1]
    mean = x.mean(axis=-1, keepdims=True)  # (..., 1)
    d = np.abs(x - mean)
    mean_error = e.mean(axis=-1, keepdims=True) + gamma(C + 1, dtype) * (np.abs(x) + e).mean(axis=-1, keepdims=True)
    d_e = e + mean_error + gamma(1, dtype) * (d + e + mean_error)
    squares = ((np.abs(x) + e) ** 2 + (d + d_e) ** 2).mean(axis=-1, keepdims=True)
    var = (d**2).mean(axis=-1, keepdims=True)
    var_error = (2 * d * d_e + d_e**2).mean(axis=-1, keepdims=True) + gamma(2 * C + 6, dtype) * squares
    largest = 1 / np.sqrt(np.maximum(var - var_error, 0) + epsilon)
    scale = 1 / np.sqrt(var + epsilon)
    scale_error = largest - scale + gamma(RSQRT_ROUNDINGS + 2, dtype) * largest
    terms = (np.abs(x) + e + np.abs(mean) + mean_error) * (scale + scale_error)  # as x * scale - mean * scale
    spread = (d + d_e) * scale_error + d_e * scale + gamma(4, dtype) * terms + underflow(4, dtype)
    spread = spread * np.abs(float64(gamma_) if gamma_ is not None else 1.0)
    total = spread if beta is None else spread + gamma(2, dtype) * np.abs(float64(beta))
    return np.asarray(total + underflow(4, dtype))


def resize_bound(
    x: Array, size: Pair, interpolation: str, error: Array | None = None, *, dtype: DTypeLike = np.float32
) -> Array:
    """Bound for `resize` with exact positions: per axis a rounded weight, a product and a sum; nearest only moves."""
    error = error_or_zero(x, error)
    if interpolation == "nearest":
        return resize(error, size, interpolation)
    terms, _ = _terms(6, x, error, None, dtype)
    return resize(terms, size, interpolation) + underflow(6, dtype)


def average_pool_bound(
    x: Array,
    error: Array | None = None,
    *,
    size: Pair,
    stride: int,
    padding: Padding = "valid",
    dtype: DTypeLike = np.float32,
) -> Array:
    """Bound for `average_pool`: a sum of K_h * K_w pixels and a division, or a product with the rounded inverse.

    Args:
        x: (N, H, W, C) exact input.
        error: bound on the error of x, of its shape; None for 0.
        size, stride, padding: as for `average_pool`.
        dtype: of the arithmetic.

    Returns:
        (N, H_out, W_out, C).
    """
    n = size[0] * size[1] + 1
    terms, _ = _terms(n, x, error, None, dtype)
    return average_pool(terms, size=size, stride=stride, padding=padding) + underflow(n, dtype)


def global_average_pool_bound(
    x: Array, error: Array | None = None, *, keepdims: bool = False, dtype: DTypeLike = np.float32
) -> Array:
    """Bound for `global_average_pool`, as `average_pool_bound` with n = H * W + 1."""
    n = x.shape[1] * x.shape[2] + 1
    terms, _ = _terms(n, x, error, None, dtype)
    return global_average_pool(terms, keepdims=keepdims) + underflow(n, dtype)


def squeeze_excite_bound(
    x: Array,
    w1: Array,
    b1: Array,
    w2: Array,
    b2: Array,
    error: Array | None = None,
    *,
    dtype: DTypeLike = np.float32,
) -> Array:
    """Bound for `squeeze_excite`: the bounds of its steps, one carried into the next."""
    x, error = float64(x), error_or_zero(x, error)
    s, e = global_average_pool(x, keepdims=True), global_average_pool_bound(x, error, keepdims=True, dtype=dtype)
    for w, b, activation in ((w1, b1, "relu"), (w2, b2, "hard_sigmoid")):
        s, e = pointwise_conv2d(s, float64(w), float64(b)), pointwise_conv2d_bound(s, w, b, e, dtype=dtype)
        s, e = ACTIVATIONS[activation](s), activation_bound(activation, s, e, dtype=dtype)
    return product_bound([x, s], [error, e], dtype=dtype)


def sum_bound(xs: Sequence[Array], errors: Sequence[Array] | None = None, *, dtype: DTypeLike = np.float32) -> Array:
    """Bound for the sum of k arrays of one shape: gamma_(k-1) * sum (|x| + error) + sum error."""
    errors = errors or [error_or_zero(x, None) for x in xs]
    terms = (_terms(len(xs) - 1, x, error, None, dtype)[0] for x, error in zip(xs, errors, strict=True))
    return np.asarray(sum(terms))


def layer_bound(layer: "Layer", params: Params, *inputs: Array, **options: Any) -> Array:
    """Former name of `Layer.error_bound`."""
    warn("layer_bound is now the method Layer.error_bound", DeprecationWarning, stacklevel=2)
    return layer.error_bound(params, *inputs, **options)


def _terms(n: int, x: Array, error: Array | None, constant: Any, dtype: DTypeLike) -> tuple[Array, Any]:
    """What each term of a sum can be off by after n roundings, before it is weighted; and the same of a constant."""
    e = error_or_zero(x, error)
    terms = gamma(n, dtype) * (np.abs(float64(x)) + e) + e
    return terms, None if constant is None else gamma(n, dtype) * np.abs(float64(constant))
