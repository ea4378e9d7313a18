"""Every layer of MobileNet as one plain function on arrays.

Activations are (N, H, W, C): images, rows, columns, channels. A convolution with a K x K kernel is written as
what it is, K * K shifted copies of the input, each weighted by one tap of the kernel and summed:

    standard      every tap is a (c_in, c_out) matrix: it filters and mixes      K*K*c_in*c_out multiplications a pixel
    depthwise     every tap is one number a channel: it filters, nothing mixes   K*K*c_in
    pointwise     one tap, a (c_in, c_out) matrix: it mixes, nothing filters     c_in*c_out

The last two together are the depthwise separable convolution. It costs 1/c_out + 1/K**2 of the first
(Howard et al. 2017, arXiv:1704.04861, section 3.1, where c_out is called N and K is called D_K).

No function casts: with parameters of the dtype of `x` (float16, float32, float64, or objects such as
`fractions.Fraction`, which give an exact answer wherever no exponential is involved) the sums run in that dtype
and the result has it.
NaN goes through every function, max and min included, as it does in NumPy.
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from math import isqrt
from operator import add
from typing import Any

import numpy as np

from npmobilenet.errors import ShapeError
from npmobilenet.reference.shapes import resolve_padding, window_output
from npmobilenet.types import Array, Padding, Pair


def zero_pad(x: Array, padding: tuple[Pair, Pair]) -> Array:
    """Put rows and columns of zeros around every image.

    Args:
        x: (N, H, W, C) activations.
        padding: zeros at ((top, bottom), (left, right)), in pixels.

    Returns:
        (N, top + H + bottom, left + W + right, C), dtype of x; x itself where there is nothing to add.
    """
    _check_rank("zero_pad", x, 4)
    (top, bottom), (left, right) = padding
    if not (top or bottom or left or right):
        return x
    N, H, W, C = x.shape
    y = np.zeros((N, top + H + bottom, left + W + right, C), x.dtype)
    y[:, top : top + H, left : left + W] = x
    return y


def taps(x: Array, kernel: tuple[int, ...], stride: int, padding: Padding) -> Iterator[tuple[int, int, Array]]:
    """The K_h * K_w shifted copies of the input that a convolution weights and sums; nothing is copied but zeros.

    Args:
        x: (N, H, W, C) activations.
        kernel: (K_h, K_w), in pixels.
        stride, padding: see `conv2d`.

    Yields:
        (u, v, view) for every tap of the kernel: the pixels that it meets, (N, H_out, W_out, C).

    Raises:
        ShapeError: the window does not fit.
    """
    H_out, W_out = window_output(x.shape[1:3], kernel, stride, padding)
    x = zero_pad(x, resolve_padding(padding, x.shape[1:3], kernel, stride))
    for u in range(kernel[0]):
        for v in range(kernel[1]):
            yield u, v, x[:, u : u + stride * H_out : stride, v : v + stride * W_out : stride]


def conv2d(x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: Padding = "same") -> Array:
    """Standard convolution: filter and mix the channels in one step.

        y[n, i, j, d] = b[d] + sum_{u, v, c} x[n, i*stride + u - top, j*stride + v - left, c] * w[u, v, c, d]

    This is cross-correlation, as in every deep learning framework: w is not flipped.

    Args:
        x: (N, H, W, c_in) activations.
        w: (K_h, K_w, c_in, c_out) kernel.
        b: (c_out,) bias, or None.
        stride: step of the window, in pixels, the same on both axes.
        padding: "same" (H_out = ceil(H / stride), the odd zero at the end), "valid", or ((top, bottom), (left, right)).

    Returns:
        (N, H_out, W_out, c_out), dtype of x.

    Raises:
        ShapeError: the ranks are wrong, the channels differ, or the window does not fit.

    Source: Howard et al. 2017 (arXiv:1704.04861), section 3.1, eq. 1; layouts and padding as Keras's Conv2D.
    """
    _check_kernel("conv2d", x, w)
    y = _sum(view @ w[u, v] for u, v, view in taps(x, w.shape[:2], stride, padding))  # (N, H_out, W_out, c_out)
    return _add_bias(y, b)


def depthwise_conv2d(
    x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: Padding = "same"
) -> Array:
    """Filter each channel with its own K x K kernels; channels are not mixed.

        y[n, i, j, c*M + m] = b[c*M + m] + sum_{u, v} x[n, i*stride + u - top, j*stride + v - left, c] * w[u, v, c, m]

    This is cross-correlation, as in every deep learning framework: w is not flipped.

    Args:
        x: (N, H, W, C) activations.
        w: (K_h, K_w, C, M) kernel; M, the depth multiplier, is 1 in every published MobileNet.
        b: (C * M,) bias, or None.
        stride: step of the window, in pixels, the same on both axes.
        padding: "same" (H_out = ceil(H / stride), the odd zero at the end), "valid", or ((top, bottom), (left, right)).

    Returns:
        (N, H_out, W_out, C * M), dtype of x.

    Raises:
        ShapeError: the ranks are wrong, the channels differ, or the window does not fit.

    Source: Howard et al. 2017 (arXiv:1704.04861), section 3.1, eq. 3; layouts and padding as Keras's DepthwiseConv2D.
    """
    _check_kernel("depthwise_conv2d", x, w)
    views = taps(x, w.shape[:2], stride, padding)
    y = _sum(view[..., None] * w[u, v] for u, v, view in views)  # (N, H_out, W_out, C, M)
    return _add_bias(y.reshape(*y.shape[:3], w.shape[2] * w.shape[3]), b)  # (N, H_out, W_out, C * M)


def pointwise_conv2d(x: Array, w: Array, b: Array | None = None) -> Array:
    """1x1 convolution: mix the channels of each pixel; no pixel sees a neighbour.

        y[n, i, j, d] = b[d] + sum_c x[n, i, j, c] * w[c, d]

    Over all pixels this is one matrix product, (N*H*W, c_in) @ (c_in, c_out).

    Args:
        x: (N, H, W, c_in) activations.
        w: (c_in, c_out) or, as Keras stores it, (1, 1, c_in, c_out).
        b: (c_out,) bias, or None.

    Returns:
        (N, H, W, c_out), dtype of x.

    Raises:
        ShapeError: the ranks are wrong or the channels differ.

    Source: Howard et al. 2017 (arXiv:1704.04861), section 3.1.
    """
    w = w.reshape(w.shape[2:]) if w.shape[:2] == (1, 1) and w.ndim == 4 else w
    _check_rank("pointwise_conv2d", x, 4)
    return dense(x, w, b)


def dense(x: Array, w: Array, b: Array | None = None) -> Array:
    """Fully connected layer on the last axis.

        y[..., d] = b[d] + sum_c x[..., c] * w[c, d]

    Args:
        x: (..., c_in) activations.
        w: (c_in, c_out) weights.
        b: (c_out,) bias, or None.

    Returns:
        (..., c_out), dtype of x.

    Raises:
        ShapeError: w is not a matrix, or the channels differ.
    """
    if w.ndim != 2 or x.ndim < 1 or x.shape[-1] != w.shape[0]:
        raise ShapeError(f"dense: x (..., c_in) and w (c_in, c_out) are needed; x {x.shape}, w {w.shape}")
    rows = x.reshape(-1, w.shape[0])  # (pixels, c_in)
    return _add_bias((rows @ w).reshape(*x.shape[:-1], w.shape[1]), b)


def batch_norm(
    x: Array, gamma: Array | None, beta: Array | None, mean: Array, var: Array, *, epsilon: float = 1e-3
) -> Array:
    """Batch normalisation as it is at inference: one multiplication and one addition a value.

        y = gamma * (x - mean) / sqrt(var + epsilon) + beta

    Args:
        x: (..., C) activations.
        gamma, beta: (C,) learned scale and shift, or None for 1 and 0.
        mean, var: (C,) moving statistics from training.
        epsilon: keeps the root away from 0. Keras's MobileNets use 1e-3; frameworks default to 1e-5 elsewhere, and
            a port that takes the wrong one is off by a few per cent on channels of small variance.

    Returns:
        Shape and dtype of x.

    Raises:
        ShapeError: a parameter has not one value a channel.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), algorithm 2.
    """
    for name, values in (("gamma", gamma), ("beta", beta), ("mean", mean), ("var", var)):
        if values is not None and values.shape != x.shape[-1:]:
            raise ShapeError(f"batch_norm: {name} {values.shape} needs one value a channel of x {x.shape}")
    scale = 1 / _sqrt(var + _constant(epsilon, x))  # (C,)
    if gamma is not None:
        scale = scale * gamma
    y = x - mean
    y *= scale
    return _add_bias(y, beta)


def rescale(x: Array, scale: float, offset: float) -> Array:
    """x * scale + offset with two constants, as a Rescaling layer maps 0..255 to [-1, 1]."""
    return x * _constant(scale, x) + _constant(offset, x)


def relu(x: Array) -> Array:
    """max(x, 0). NaN stays NaN."""
    return np.maximum(x, _constant(0, x))


def relu6(x: Array) -> Array:
    """min(max(x, 0), 6). NaN stays NaN.

    The ceiling keeps activations in a known range, so that few bits can represent them.

    Source: Howard et al. 2017 use it in their code; Sandler et al. 2018 (arXiv:1801.04381), section 3.4, in the text.
    """
    return np.minimum(relu(x), _constant(6, x))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written as exp(-log(1 + exp(-x))) so that no x overflows. NaN stays NaN."""
    with np.errstate(invalid="ignore"):
        return np.exp(-np.logaddexp(_constant(0, x), -x))


def hard_sigmoid(x: Array) -> Array:
    """The sigmoid in straight lines: relu6(x + 3) / 6.

    Keras before version 3 had another function of this name, clip(0.2 * x + 0.5, 0, 1); MobileNetV3 never used it.

    Source: Howard et al. 2019 (arXiv:1905.02244), section 5.2.
    """
    return relu6(x + _constant(3, x)) / _constant(6, x)


def hard_swish(x: Array) -> Array:
    """x * relu6(x + 3) / 6. Of -inf it is NaN, since it multiplies infinity by 0.

    Source: Howard et al. 2019 (arXiv:1905.02244), section 5.2.
    """
    with np.errstate(invalid="ignore"):
        return x * hard_sigmoid(x)


def softmax(x: Array) -> Array:
    """Probabilities along the last axis: exp(x) / sum(exp(x)), shifted by the maximum so that nothing overflows.

    Args:
        x: (..., classes) logits.

    Returns:
        Shape and dtype of x; each row sums to 1. A row that holds NaN or +inf is all NaN.
    """
    with np.errstate(invalid="ignore"):
        exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def global_average_pool(x: Array, *, keepdims: bool = False) -> Array:
    """Mean of every channel over its whole map.

        y[n, c] = sum_{i, j} x[n, i, j, c] / (H * W)

    Args:
        x: (N, H, W, C) activations.
        keepdims: keep the map as 1 x 1 pixel.

    Returns:
        (N, C), or (N, 1, 1, C); dtype of x.
    """
    _check_rank("global_average_pool", x, 4)
    return x.mean(axis=(1, 2), keepdims=keepdims)


def global_max_pool(x: Array, *, keepdims: bool = False) -> Array:
    """Largest value of every channel over its whole map.

    Args:
        x: (N, H, W, C) activations.
        keepdims: keep the map as 1 x 1 pixel.

    Returns:
        (N, C), or (N, 1, 1, C); dtype of x.
    """
    _check_rank("global_max_pool", x, 4)
    return x.max(axis=(1, 2), keepdims=keepdims)


def average_pool(x: Array, *, size: Pair, stride: int, padding: Padding = "valid") -> Array:
    """Mean over a sliding window; zeros of the padding are not counted.

        y[n, i, j, c] = mean of the pixels of x under the window at (i*stride - top, j*stride - left)

    Args:
        x: (N, H, W, C) activations.
        size: (K_h, K_w) of the window, in pixels.
        stride: step of the window, in pixels, the same on both axes.
        padding: see `conv2d`.

    Returns:
        (N, H_out, W_out, C), dtype of x.

    Raises:
        ShapeError: the rank is wrong, or the window does not fit.

    Source: Keras's AveragePooling2D, which divides by the number of pixels, not by K_h * K_w.
    """
    _check_rank("average_pool", x, 4)
    inside = np.ones((1, *x.shape[1:3], 1), x.dtype)
    pixels = _sum(view for _, _, view in taps(inside, size, stride, padding))  # (1, H_out, W_out, 1)
    return _sum(view for _, _, view in taps(x, size, stride, padding)) / pixels


def max_pool(x: Array, *, size: Pair, stride: int, padding: Padding = "valid") -> Array:
    """Largest value under a sliding window; zeros of the padding are not looked at.

        y[n, i, j, c] = max of the pixels of x under the window at (i*stride - top, j*stride - left)

    Args:
        x: (N, H, W, C) activations.
        size: (K_h, K_w) of the window, in pixels.
        stride: step of the window, in pixels, the same on both axes.
        padding: see `conv2d`.

    Returns:
        (N, H_out, W_out, C), dtype of x; -inf where a window holds padding only.

    Raises:
        ShapeError: the rank is wrong, or the window does not fit.

    Source: Keras's MaxPooling2D.
    """
    _check_rank("max_pool", x, 4)
    inside = taps(np.ones((1, *x.shape[1:3], 1), bool), size, stride, padding)
    views = zip(taps(x, size, stride, padding), inside, strict=True)
    return reduce(np.maximum, (np.where(mask, view, -np.inf) for (_, _, view), (_, _, mask) in views)).astype(x.dtype)


def squeeze_excite(x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> Array:
    """Let the whole map decide how much each channel counts.

        s = global_average_pool(x);  y = x * hard_sigmoid(relu(s @ w1 + b1) @ w2 + b2)

    Args:
        x: (N, H, W, C) activations.
        w1, b1: (C, c_squeezed) and (c_squeezed,), the squeeze.
        w2, b2: (c_squeezed, C) and (C,), the excitation.

    Returns:
        (N, H, W, C), dtype of x.

    Source: Hu et al. 2018 (arXiv:1709.01507); hard sigmoid and position as in Howard et al. 2019, section 5.3.
    """
    s = global_average_pool(x, keepdims=True)  # (N, 1, 1, C)
    s = relu(pointwise_conv2d(s, w1, b1))  # (N, 1, 1, c_squeezed)
    return x * hard_sigmoid(pointwise_conv2d(s, w2, b2))


def _sum(terms: Iterable[Array]) -> Array:
    return reduce(add, terms)


def _add_bias(y: Array, b: Array | None) -> Array:
    if b is not None:
        y += b
    return y


def _constant(value: float, like: Array) -> Any:
    """`value` in the arithmetic of `like`: exact decimal fractions beside objects, else left to NumPy's weak typing."""
    if like.dtype != object:
        return value
    from fractions import Fraction

    return Fraction(str(value))


def _sqrt(x: Array) -> Array:
    """Square root, exact on objects: there it raises ValueError unless every value is the square of a fraction."""
    if x.dtype != object:
        return np.sqrt(x)
    return np.array([_rational_sqrt(value) for value in x.ravel()], object).reshape(x.shape)


def _rational_sqrt(value: Any) -> Any:
    from fractions import Fraction

    exact = Fraction(value)
    root = Fraction(isqrt(exact.numerator), isqrt(exact.denominator))
    if root * root != exact:
        raise ValueError(f"{exact} is not the square of a fraction, so exact arithmetic cannot take its root")
    return root


def _check_rank(op: str, x: Array, rank: int) -> None:
    if x.ndim != rank:
        raise ShapeError(f"{op}: x (N, H, W, C) is needed; x {x.shape}")


def _check_kernel(op: str, x: Array, w: Array) -> None:
    _check_rank(op, x, 4)
    if w.ndim != 4:
        raise ShapeError(f"{op}: w needs 4 axes, (K_h, K_w, c_in, ...); w {w.shape}")
    if x.shape[3] != w.shape[2]:
        raise ShapeError(f"{op}: x has {x.shape[3]} channels, w has {w.shape[2]}; x {x.shape}, w {w.shape}")
