"""Feature maps of another size: nearest and bilinear interpolation."""

import numpy as np

from npmobilenet.reference.arithmetic import check_feature_map
from npmobilenet.types import Array, Pair


def resize(x: Array, size: Pair, interpolation: str) -> Array:
    """The feature map with other numbers of rows and columns.

        nearest    y[i] = x[floor((i + 1/2) * H / H_out)]
        bilinear   y[i] = (1 - f) * x[r] + f * x[r + 1],   r + f = (i + 1/2) * H / H_out - 1/2, clipped to 0..H - 1

    along the rows, then likewise along the columns. Nothing is averaged where the map shrinks.

    Args:
        x: (N, H, W, C) input.
        size: (H_out, W_out), in pixels.
        interpolation: "nearest" or "bilinear".

    Returns:
        (N, *size, C), dtype of x.

    Source: Keras's Resizing and UpSampling2D, which follow TensorFlow's `tf.image.resize` without antialias.
    """
    check_feature_map("resize", x)
    for axis, side in ((1, size[0]), (2, size[1])):
        x = _resize_axis(x, axis, side, interpolation)
    return x


def _resize_axis(x: Array, axis: int, side: int, interpolation: str) -> Array:
    """One axis of the map to `side` pixels."""
    before = x.shape[axis]
    centers = np.arange(2 * side)[1::2] * before  # of the output's pixels, in units of 1 / (2 * side)
    if interpolation == "nearest":
        return x.take(centers // (2 * side), axis=axis)
    position = np.clip(centers - side, 0, 2 * side * (before - 1))
    first, rest = np.divmod(position, 2 * side)
    weight = (rest / (2 * side)).reshape(-1, *[1] * (x.ndim - axis - 1))  # f
    below = x.take(np.minimum(first + 1, before - 1), axis=axis)
    return x.take(first, axis=axis) * (1 - weight).astype(x.dtype) + below * weight.astype(x.dtype)
