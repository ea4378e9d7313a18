"""Conversion between this package's layouts and those of channels-first frameworks.

    here                            channels first
    map (N, H, W, C)                (N, C, H, W)
    image (H, W, C)                 (C, H, W)
    kernel (K_h, K_w, c_in, c_out)  (c_out, c_in, K_h, K_w)
    depthwise (K_h, K_w, C, M)      (C * M, 1, K_h, K_w)
    dense (c_in, c_out)             (c_out, c_in)

Axes are one letter each, outermost first: "NHWC", "HWC", "HWIO", "HWCM", "IO". Anything else is the same in both.
"""

from math import prod

import numpy as np

from npmobilenet.types import Array, Shape

AXES = {"NHWC": "NCHW", "HWC": "CHW", "HWIO": "OIHW", "HWCM": "OIHW", "IO": "OI"}
"""Axes here -> axes channels first."""


def to_channels_first(values: Array, axes: str) -> Array:
    """An array with the given axes, as a view in the layout `AXES[axes]`."""
    if axes in ("NHWC", "HWC"):
        return np.moveaxis(values, -1, -3)
    if axes == "HWIO":
        return values.transpose(3, 2, 0, 1)  # (c_out, c_in, K_h, K_w)
    if axes == "HWCM":
        K_h, K_w, C, M = values.shape
        return values.transpose(2, 3, 0, 1).reshape(C * M, 1, K_h, K_w)
    return values.T if axes == "IO" else values


def map_to_channels_last(values: Array) -> Array:
    """(N, C, H, W) -> (N, H, W, C), or (C, H, W) -> (H, W, C), contiguous."""
    return np.ascontiguousarray(np.moveaxis(values, -3, -1))


def weight_to_channels_last(w: Array, shape: Shape) -> Array:
    """A weight in Keras's layout, contiguous; `shape` is its shape there."""
    if w.ndim == 4 and w.shape[1] == 1 and prod(shape[2:]) == w.shape[0]:  # depthwise, or a convolution of one channel
        return np.ascontiguousarray(w.reshape(shape[2], shape[3], *shape[:2]).transpose(2, 3, 0, 1))
    return np.ascontiguousarray(w.transpose(2, 3, 1, 0) if w.ndim == 4 else w.T)
