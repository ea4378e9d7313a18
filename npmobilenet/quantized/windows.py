"""The pixels under a window that slides over a feature map, with its own stride and dilation along each axis."""

from collections.abc import Iterator

import numpy as np

from npmobilenet.quantized.tensors import Options
from npmobilenet.reference.shapes import output_size, same_padding
from npmobilenet.types import Array, Pair, Shape


def windows(x: Array, size: Pair, options: Options, outside: int = 0) -> Iterator[tuple[int, int, Array]]:
    """The K_h * K_w shifted views of a feature map.

    Args:
        x: (N, H, W, C).
        size: (K_h, K_w).
        options: padding, stride and dilation.
        outside: value of the padding.

    Yields:
        (u, v, view) for every tap: the pixels that it sees, (N, H_out, W_out, C).
    """
    padding, outputs = zip(*(_axis(*axis, options.padding) for axis in _axes(x.shape, size, options)), strict=True)
    padded = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=outside)
    (H_out, W_out), (rows, columns), (down, right) = outputs, options.stride, options.dilation
    for u in range(size[0]):
        for v in range(size[1]):
            top, left = u * down, v * right
            yield u, v, padded[:, top : top + rows * H_out : rows, left : left + columns * W_out : columns]


def paddings(x: Shape, size: Pair, options: Options) -> tuple[Pair, Pair]:
    """Pixels outside a feature map of shape (N, H, W, C), at ((top, bottom), (left, right))."""
    (rows, _), (columns, _) = (_axis(*axis, options.padding) for axis in _axes(x, size, options))
    return rows, columns


def map_size(x: Shape, size: Pair, options: Options) -> Pair:
    """(H_out, W_out) of a feature map of shape (N, H, W, C).

    Raises:
        ValueError: the window has no pixel, or does not fit the map.
    """
    rows, columns = (_axis(*axis, options.padding)[1] for axis in _axes(x, size, options))
    if min(*size, rows, columns) < 1:
        raise ValueError(f"a window of {size[0]} x {size[1]} on a map of shape {x}")
    return rows, columns


def _axes(x: Shape, size: Pair, options: Options) -> Iterator[tuple[int, int, int]]:
    """Pixels, extent of the window, and stride along each axis."""
    for pixels, K, stride, dilation in zip(x[1:3], size, options.stride, options.dilation, strict=True):
        yield pixels, (K - 1) * dilation + 1, stride


def _axis(pixels: int, extent: int, stride: int, padding: str) -> tuple[Pair, int]:
    """Padding before and after, and the number of outputs."""
    around = same_padding(pixels, extent, stride) if padding == "same" else (0, 0)
    return around, output_size(pixels, extent, stride, around)
