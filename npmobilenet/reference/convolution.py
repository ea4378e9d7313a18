"""Convolutions: standard, depthwise, pointwise, dense.

Feature maps are (N, H, W, C): batch size, rows, columns, channels. A convolution with a K x K kernel is written as
what it is, K * K shifted copies of the input, each weighted by one tap of the kernel and summed:

    standard      every tap is a (c_in, c_out) matrix: it filters and mixes    K*K*c_in*c_out multiplications per pixel
    depthwise     every tap is one number per channel: it filters, no mixing   K*K*c_in
    pointwise     one tap, a (c_in, c_out) matrix: it mixes, no filtering      c_in*c_out

The last two together are the depthwise separable convolution. It costs 1/c_out + 1/K**2 of the first
(Howard et al. 2017, arXiv:1704.04861, section 3.1, where c_out is called N and K is called D_K).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npmobilenet.errors import ShapeError
from npmobilenet.reference.arithmetic import add_bias, check_feature_map, total
from npmobilenet.reference.shapes import dilated, resolve_padding, window_output
from npmobilenet.types import Array, Padding, Pair


def zero_pad(x: Array, padding: tuple[Pair, Pair]) -> Array:
    """Zero padding: rows and columns of zeros around every feature map.

    Args:
        x: (N, H, W, C) input.
        padding: zeros at ((top, bottom), (left, right)), in pixels.

    Returns:
        (N, top + H + bottom, left + W + right, C), dtype of x; x itself if there is nothing to add.
    """
    check_feature_map("zero_pad", x)
    (top, bottom), (left, right) = padding
    if not (top or bottom or left or right):
        return x
    N, H, W, C = x.shape
    y = np.zeros((N, top + H + bottom, left + W + right, C), x.dtype)
    y[:, top : top + H, left : left + W] = x
    return y


def taps(
    x: Array, kernel: tuple[int, ...], stride: int, padding: Padding, dilation: int = 1
) -> Iterator[tuple[int, int, Array]]:
    """The K_h * K_w shifted views of the input that a convolution weights and sums; only padding makes a copy.

    Args:
        x: (N, H, W, C) input.
        kernel: (K_h, K_w), in pixels.
        stride, padding, dilation: see `conv2d`.

    Yields:
        (u, v, view) for every tap of the kernel: the pixels that it is multiplied by, (N, H_out, W_out, C).

    Raises:
        ShapeError: the window does not fit.
    """
    extent = dilated(kernel, dilation)
    H_out, W_out = window_output(x.shape[1:3], extent, stride, padding)
    x = zero_pad(x, resolve_padding(padding, x.shape[1:3], extent, stride))
    for u in range(kernel[0]):
        for v in range(kernel[1]):
            top, left = u * dilation, v * dilation
            yield u, v, x[:, top : top + stride * H_out : stride, left : left + stride * W_out : stride]


def conv2d(
    x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: Padding = "same", dilation: int = 1
) -> Array:
    """Standard convolution: filters and mixes the channels in one step.

        y[n, i, j, d] = b[d] + sum_{u, v, c} x[n, i*stride + u*dilation - top, j*stride + v*dilation - left, c]
                                             * w[u, v, c, d]

    This is cross-correlation, as in every deep learning framework: w is not flipped.

    Args:
        x: (N, H, W, c_in) input.
        w: (K_h, K_w, c_in, c_out) kernel.
        b: (c_out,) bias, or None.
        stride: step of the window, in pixels, the same on both axes.
        padding: "same" (H_out = ceil(H / stride), the odd zero at the end), "valid", or ((top, bottom), (left, right)).
        dilation: distance between the pixels that two neighboring taps see; 1 is the ordinary convolution. With
            another one the convolution is also called atrous.

    Returns:
        (N, H_out, W_out, c_out), dtype of x.

    Raises:
        ShapeError: the ranks are wrong, the channels differ, or the window does not fit.

    Source: Howard et al. 2017 (arXiv:1704.04861), section 3.1, eq. 1; layouts and padding as Keras's Conv2D.
    """
    _check_kernel("conv2d", x, w)
    y = total(view @ w[u, v] for u, v, view in taps(x, w.shape[:2], stride, padding, dilation))
    return add_bias(y, b)  # (N, H_out, W_out, c_out)


def depthwise_conv2d(
    x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: Padding = "same", dilation: int = 1
) -> Array:
    """Depthwise convolution: each channel is filtered with its own K x K kernels; channels are not mixed.

        y[n, i, j, c*M + m] = b[c*M + m] + sum_{u, v} x[n, i*stride + u*dilation - top, j*stride + v*dilation - left, c]
                                                       * w[u, v, c, m]

    This is cross-correlation, as in every deep learning framework: w is not flipped.

    Args:
        x: (N, H, W, C) input.
        w: (K_h, K_w, C, M) kernel; M, the depth multiplier, is 1 in every published MobileNet.
        b: (C * M,) bias, or None.
        stride, padding, dilation: see `conv2d`.

    Returns:
        (N, H_out, W_out, C * M), dtype of x.

    Raises:
        ShapeError: the ranks are wrong, the channels differ, or the window does not fit.

    Source: Howard et al. 2017 (arXiv:1704.04861), section 3.1, eq. 3; layouts and padding as Keras's DepthwiseConv2D.
    """
    _check_kernel("depthwise_conv2d", x, w)
    views = taps(x, w.shape[:2], stride, padding, dilation)
    y = total(view[..., None] * w[u, v] for u, v, view in views)  # (N, H_out, W_out, C, M)
    return add_bias(y.reshape(*y.shape[:3], w.shape[2] * w.shape[3]), b)  # (N, H_out, W_out, C * M)


def grouped(
    op: Callable[..., Array], groups: int, x: Array, w: Array, *per_group: Array | None, **window: Any
) -> Array:
    """Grouped convolution: the g-th part of the filters reads the g-th part of the channels, and nothing else.

    Args:
        op: `conv2d`, or its bound.
        groups: number of groups, which divides c_in and c_out.
        x: (N, H, W, c_in) input.
        w: (K_h, K_w, c_in / groups, c_out) kernel.
        per_group: other arrays of `op`, split along their last axis, or None.
        window: keyword arguments of `op`.

    Returns:
        (N, H_out, W_out, c_out).

    Source: Krizhevsky et al. 2012, section 3.5; layouts as Keras's Conv2D with `groups`.
    """
    if groups == 1:
        return op(x, w, *per_group, **window)
    split = [[None] * groups if a is None else np.split(a, groups, axis=-1) for a in (x, w, *per_group)]
    return np.concatenate([op(*arrays, **window) for arrays in zip(*split, strict=True)], axis=-1)


def transposed_conv2d(x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: str = "valid") -> Array:
    """Transposed convolution: every pixel of the input adds its multiple of the kernel to the output.

        y[n, i*stride + u - top, j*stride + v - left, d] = b[d] + sum_{i, j, u, v, c} x[n, i, j, c] * w[u, v, d, c]

    Computed as the convolution of `spread_pixels` with the kernel turned by 180 degrees.

    Args:
        x: (N, H, W, c_in) input.
        w: (K_h, K_w, c_out, c_in) kernel.
        b: (c_out,) bias, or None.
        stride: distance of the kernel's copies, in pixels, the same on both axes.
        padding: "valid" (H_out = H * stride + max(K_h - stride, 0)) or "same" (H_out = H * stride, cut at both ends).

    Returns:
        (N, H_out, W_out, c_out), dtype of x.

    Source: Dumoulin & Visin 2016 (arXiv:1603.07285), section 4.6; layouts and sizes as Keras's Conv2DTranspose.
    """
    turned = w[::-1, ::-1].swapaxes(2, 3)  # (K_h, K_w, c_in, c_out)
    return conv2d(spread_pixels(x, w.shape[:2], stride, padding), turned, b, padding="valid")


def spread_pixels(x: Array, kernel: tuple[int, ...], stride: int, padding: str) -> Array:
    """The pixels of x at every `stride`-th place among zeros, and zeros around them, for `transposed_conv2d`.

    Returns:
        (N, H_out + K_h - 1, W_out + K_w - 1, c_in).
    """
    check_feature_map("transposed_conv2d", x)
    N, H, W, C = x.shape
    cut = [max(K - stride, 0) // 2 if padding == "same" else 0 for K in kernel]
    top, left = (K - 1 - before for K, before in zip(kernel, cut, strict=True))
    H_out, W_out = (transposed_size(side, K, stride, padding) for side, K in zip((H, W), kernel, strict=True))
    y = np.zeros((N, H_out + kernel[0] - 1, W_out + kernel[1] - 1, C), x.dtype)
    y[:, top : top + H * stride : stride, left : left + W * stride : stride][:, :H, :W] = x
    return y


def transposed_size(size: int, K: int, stride: int, padding: str) -> int:
    """Length of one axis after a transposed convolution: `size` pixels, a kernel of K."""
    return size * stride + (max(K - stride, 0) if padding == "valid" else 0)


def pointwise_conv2d(x: Array, w: Array, b: Array | None = None) -> Array:
    """Pointwise (1x1) convolution: mixes the channels of each pixel; no pixel sees a neighbor.

        y[n, i, j, d] = b[d] + sum_c x[n, i, j, c] * w[c, d]

    Over all pixels this is one matrix product, (N*H*W, c_in) @ (c_in, c_out).

    Args:
        x: (N, H, W, c_in) input.
        w: (c_in, c_out) or, as Keras stores it, (1, 1, c_in, c_out).
        b: (c_out,) bias, or None.

    Returns:
        (N, H, W, c_out), dtype of x.

    Raises:
        ShapeError: the ranks are wrong or the channels differ.

    Source: Howard et al. 2017 (arXiv:1704.04861), section 3.1.
    """
    w = w.reshape(w.shape[2:]) if w.shape[:2] == (1, 1) and w.ndim == 4 else w
    check_feature_map("pointwise_conv2d", x)
    return dense(x, w, b)


def dense(x: Array, w: Array, b: Array | None = None) -> Array:
    """Fully connected layer on the last axis.

        y[..., d] = b[d] + sum_c x[..., c] * w[c, d]

    Args:
        x: (..., c_in) input.
        w: (c_in, c_out) weights.
        b: (c_out,) bias, or None.

    Returns:
        (..., c_out), dtype of x.

    Raises:
        ShapeError: w is not a matrix, or the channels differ.
    """
    if w.ndim != 2 or x.ndim < 1 or x.shape[-1] != w.shape[0]:
        raise ShapeError(f"dense: expected x (..., c_in) and w (c_in, c_out), got x {x.shape}, w {w.shape}")
    rows = x.reshape(-1, w.shape[0])  # (pixels, c_in)
    return add_bias((rows @ w).reshape(*x.shape[:-1], w.shape[1]), b)


def _check_kernel(op: str, x: Array, w: Array) -> None:
    check_feature_map(op, x)
    if w.ndim != 4:
        raise ShapeError(f"{op}: expected w with 4 axes, (K_h, K_w, c_in, ...), got {w.shape}")
    if x.shape[3] != w.shape[2]:
        raise ShapeError(f"{op}: expected x with {w.shape[2]} channels, as in w {w.shape}, got {x.shape}")
