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

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from warnings import warn

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.reference.activations import ACTIVATIONS, hard_sigmoid, relu6, sigmoid, softmax
from npmobilenet.reference.convolution import conv2d, dense, depthwise_conv2d, pointwise_conv2d
from npmobilenet.reference.pooling import average_pool, global_average_pool
from npmobilenet.types import Array, Padding, Pair, Params

if TYPE_CHECKING:
    from npmobilenet.reference.layer import Layer

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


def conv2d_bound(
    x: Array,
    w: Array,
    b: Array | None = None,
    error: Array | None = None,
    *,
    stride: int = 1,
    padding: Padding = "same",
    dtype: DTypeLike = np.float32,
) -> Array:
    """Bound for `conv2d`: sums of K_h * K_w * c_in products and the bias.

        gamma_n * (sum (|x| + error)|w| + |b|) + sum error * |w|,   n = K_h * K_w * c_in + 1

    Args:
        x: (N, H, W, c_in) exact input.
        w, b: kernel and bias, exact as they are stored.
        error: bound on the error of x, of its shape; None for 0.
        stride, padding: see `conv2d`.
        dtype: of the arithmetic.

    Returns:
        (N, H_out, W_out, c_out) bound on the error of the output.
    """
    n = w.shape[0] * w.shape[1] * w.shape[2] + 1
    terms, bias = _terms(n, x, error, b, dtype)
    return conv2d(terms, np.abs(_f64(w)), bias, stride=stride, padding=padding) + _underflow(n, dtype)


def depthwise_conv2d_bound(
    x: Array,
    w: Array,
    b: Array | None = None,
    error: Array | None = None,
    *,
    stride: int = 1,
    padding: Padding = "same",
    dtype: DTypeLike = np.float32,
) -> Array:
    """Bound for `depthwise_conv2d`, as `conv2d_bound` with n = K_h * K_w + 1."""
    n = w.shape[0] * w.shape[1] + 1
    terms, bias = _terms(n, x, error, b, dtype)
    return depthwise_conv2d(terms, np.abs(_f64(w)), bias, stride=stride, padding=padding) + _underflow(n, dtype)


def dense_bound(
    x: Array, w: Array, b: Array | None = None, error: Array | None = None, *, dtype: DTypeLike = np.float32
) -> Array:
    """Bound for `dense` on (..., c_in), as `conv2d_bound` with n = c_in + 1."""
    n = w.shape[0] + 1
    terms, bias = _terms(n, x, error, b, dtype)
    return dense(terms, np.abs(_f64(w)), bias) + _underflow(n, dtype)


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
    scale = np.abs(_f64(gamma_) if gamma_ is not None else 1.0) / np.sqrt(_f64(var) + epsilon)
    offset = np.abs(_f64(mean)) * scale + (np.abs(_f64(beta)) if beta is not None else 0.0)
    terms, offset = _terms(n, x, error, offset, dtype)
    return np.asarray(terms * scale + offset + _underflow(n, dtype))


def rescale_bound(
    x: Array,
    scale: float | Sequence[float],
    offset: float | Sequence[float],
    error: Array | None = None,
    *,
    dtype: DTypeLike = np.float32,
) -> Array:
    """Bound for `rescale`: the constants, the product and the sum are rounded, three in a row."""
    terms, constant = _terms(3, x, error, _f64(offset), dtype)
    return np.asarray(terms * np.abs(_f64(scale)) + constant + _underflow(3, dtype))


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
    return average_pool(terms, size=size, stride=stride, padding=padding) + _underflow(n, dtype)


def global_average_pool_bound(
    x: Array, error: Array | None = None, *, keepdims: bool = False, dtype: DTypeLike = np.float32
) -> Array:
    """Bound for `global_average_pool`, as `average_pool_bound` with n = H * W + 1."""
    n = x.shape[1] * x.shape[2] + 1
    terms, _ = _terms(n, x, error, None, dtype)
    return global_average_pool(terms, keepdims=keepdims) + _underflow(n, dtype)


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
    x, error = _f64(x), _error(x, error)
    s, e = global_average_pool(x, keepdims=True), global_average_pool_bound(x, error, keepdims=True, dtype=dtype)
    for w, b, activation in ((w1, b1, "relu"), (w2, b2, "hard_sigmoid")):
        s, e = pointwise_conv2d(s, _f64(w), _f64(b)), pointwise_conv2d_bound(s, w, b, e, dtype=dtype)
        s, e = ACTIVATIONS[activation](s), activation_bound(activation, s, e, dtype=dtype)
    return product_bound([x, s], [error, e], dtype=dtype)


def sum_bound(xs: Sequence[Array], errors: Sequence[Array] | None = None, *, dtype: DTypeLike = np.float32) -> Array:
    """Bound for the sum of k arrays of one shape: gamma_(k-1) * sum (|x| + error) + sum error."""
    errors = errors or [_error(x, None) for x in xs]
    terms = (_terms(len(xs) - 1, x, error, None, dtype)[0] for x, error in zip(xs, errors, strict=True))
    return np.asarray(sum(terms))


def product_bound(
    xs: Sequence[Array], errors: Sequence[Array] | None = None, *, dtype: DTypeLike = np.float32
) -> Array:
    """Bound for the product of arrays, broadcast, one factor after the other.

    |x| e_y + e_x |y| + e_x e_y,   and one rounding of a product as large as |x||y| plus that
    """
    errors = errors or [_error(x, None) for x in xs]
    size, error = np.abs(_f64(xs[0])), _f64(errors[0])
    for x, e in zip(xs[1:], errors[1:], strict=True):
        a = np.abs(_f64(x))
        spread = size * e + error * a + error * e
        size = size * a
        error = spread + gamma(1, dtype) * (size + spread) + _underflow(1, dtype)
    return np.asarray(error)


def activation_bound(name: str, x: Array, error: Array | None = None, *, dtype: DTypeLike = np.float32) -> Array:
    """Bound for an activation of `activations.ACTIVATIONS`.

        linear        error
        relu, relu6   how far the ends of the interval x +- error can move the answer, so 0 where all of it is clipped;
                      nothing is rounded
        sigmoid       error * the largest slope in the interval, at most 1, + gamma * s * (1 - log s)
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
    x, error = _f64(x), _error(x, error)
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
    return np.asarray(np.minimum(error * steepest * (1 - steepest), 1) + rounding + _underflow(1, dtype))


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
    return np.where(R < 1, np.minimum(p * relative + _underflow(2, dtype), 1.0), 1.0)


_ActivationBound = Callable[[Array, Array, DTypeLike], Array]
_ACTIVATION_BOUNDS: dict[str, _ActivationBound] = {
    "linear": lambda x, error, dtype: error,
    "relu": _relu_bound,
    "relu6": _relu6_bound,
    "sigmoid": _sigmoid_bound,
    "hard_sigmoid": _hard_sigmoid_bound,
    "hard_swish": _hard_swish_bound,
    "softmax": _softmax_bound,
}


def layer_bound(layer: "Layer", params: Params, *inputs: Array, **options: Any) -> Array:
    """Former name of `Layer.error_bound`."""
    warn("layer_bound is now the method Layer.error_bound", DeprecationWarning, stacklevel=2)
    return layer.error_bound(params, *inputs, **options)


def _terms(n: int, x: Array, error: Array | None, constant: Any, dtype: DTypeLike) -> tuple[Array, Any]:
    """What each term of a sum can be off by after n roundings, before it is weighted; and the same of a constant."""
    e = _error(x, error)
    terms = gamma(n, dtype) * (np.abs(_f64(x)) + e) + e
    return terms, None if constant is None else gamma(n, dtype) * np.abs(_f64(constant))


def _underflow(n: int, dtype: DTypeLike) -> float:
    return n * float(np.finfo(dtype).smallest_normal)


def _error(x: Array, error: Array | None) -> Array:
    return np.zeros(np.shape(x)) if error is None else _f64(error)


def _f64(x: Any) -> Array:
    return np.asarray(x, np.float64)
