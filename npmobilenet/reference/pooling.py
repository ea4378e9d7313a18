"""Pooling: mean or maximum over a sliding window or the whole feature map."""

from functools import reduce

import numpy as np

from npmobilenet.reference.arithmetic import check_feature_map, total
from npmobilenet.reference.convolution import taps
from npmobilenet.types import Array, Padding, Pair


def global_average_pool(x: Array, *, keepdims: bool = False) -> Array:
    """Mean of every channel over its whole feature map.

        y[n, c] = sum_{i, j} x[n, i, j, c] / (H * W)

    Args:
        x: (N, H, W, C) input.
        keepdims: keep H and W, as 1.

    Returns:
        (N, C), or (N, 1, 1, C); dtype of x.
    """
    check_feature_map("global_average_pool", x)
    return x.mean(axis=(1, 2), keepdims=keepdims)


def global_max_pool(x: Array, *, keepdims: bool = False) -> Array:
    """Maximum of every channel over its whole feature map.

    Args:
        x: (N, H, W, C) input.
        keepdims: keep H and W, as 1.

    Returns:
        (N, C), or (N, 1, 1, C); dtype of x.
    """
    check_feature_map("global_max_pool", x)
    return x.max(axis=(1, 2), keepdims=keepdims)


def average_pool(x: Array, *, size: Pair, stride: int, padding: Padding = "valid") -> Array:
    """Mean over a sliding window; padding is not counted.

        y[n, i, j, c] = mean of the pixels of x under the window at (i*stride - top, j*stride - left)

    Args:
        x: (N, H, W, C) input.
        size: (K_h, K_w) of the window, in pixels.
        stride: step of the window, in pixels, the same on both axes.
        padding: see `conv2d`.

    Returns:
        (N, H_out, W_out, C), dtype of x.

    Raises:
        ShapeError: the rank is wrong, or the window does not fit.

    Source: Keras's AveragePooling2D, which divides by the number of pixels, not by K_h * K_w.
    """
    check_feature_map("average_pool", x)
    inside = np.ones((1, *x.shape[1:3], 1), x.dtype)
    pixels = total(view for _, _, view in taps(inside, size, stride, padding))  # (1, H_out, W_out, 1)
    return total(view for _, _, view in taps(x, size, stride, padding)) / pixels


def max_pool(x: Array, *, size: Pair, stride: int, padding: Padding = "valid") -> Array:
    """Maximum over a sliding window; padding is ignored.

        y[n, i, j, c] = max of the pixels of x under the window at (i*stride - top, j*stride - left)

    Args:
        x: (N, H, W, C) input.
        size: (K_h, K_w) of the window, in pixels.
        stride: step of the window, in pixels, the same on both axes.
        padding: see `conv2d`.

    Returns:
        (N, H_out, W_out, C), dtype of x; -inf where a window holds padding only.

    Raises:
        ShapeError: the rank is wrong, or the window does not fit.

    Source: Keras's MaxPooling2D.
    """
    check_feature_map("max_pool", x)
    inside = taps(np.ones((1, *x.shape[1:3], 1), bool), size, stride, padding)
    views = zip(taps(x, size, stride, padding), inside, strict=True)
    return reduce(np.maximum, (np.where(mask, view, -np.inf) for (_, _, view), (_, _, mask) in views)).astype(x.dtype)
