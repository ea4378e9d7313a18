"""Packing: the memory layouts of activations and weights; the only place that converts NumPy's arrays to and from them.

L is the number of lanes of a vector (floats), NR the number of output channels of a panel, a multiple of L.

    activations   (H, W, C)       -> [ceil(C / L)][H W][L]             blocks of L channels; one vector per pixel
    matrix        (K, N)          -> [ceil(N / NR)][K][NR]             panels of output channels, each contiguous
    depthwise     (K_h, K_w, C)   -> [ceil(C / L)][1 + K_h K_w][L]     the bias, then the taps

The last block or panel is padded with zeros to whole vectors. In a feature map the stride from pixel to pixel is the
constant 4 L bytes, so one register and constant displacements address all rows of a register tile.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]


def to_blocks(x: ArrayLike, lanes: int, blocks: int | None = None) -> Floats:
    """(H, W, C) activations -> (blocks, H * W, lanes), by default with ceil(C / lanes) blocks."""
    x = np.asarray(x, np.float32)
    H, W, C = x.shape
    count = -(-C // lanes) if blocks is None else blocks
    padded = np.zeros((H * W, count * lanes), np.float32)
    padded[:, :C] = x.reshape(H * W, C)
    return np.ascontiguousarray(padded.reshape(H * W, count, lanes).transpose(1, 0, 2))


def from_blocks(x: Floats, shape: tuple[int, ...], out: Floats | None = None) -> Floats:
    """(blocks, pixels, lanes) -> an array of `shape`, whose last axis is C.

    Args:
        x: the blocks.
        shape: of the result.
        out: contiguous floats of that shape to write to; by default a new array.
    """
    _, pixels, lanes = x.shape
    y = np.empty(shape, x.dtype) if out is None else out
    rows = y.reshape(pixels, shape[-1])
    whole, rest = divmod(shape[-1], lanes)
    rows[:, : whole * lanes].reshape(pixels, whole, lanes)[...] = x[:whole].transpose(1, 0, 2)
    if rest:
        rows[:, whole * lanes :] = x[whole, :, :rest]
    return y


def packed_size(shape: tuple[int, ...], lanes: int) -> int:
    """Number of floats of a packed (K, N) matrix."""
    K, N = shape
    return K * -(-N // lanes) * lanes


def pack_matrix(kernel: ArrayLike, lanes: int, panel: int = 1, out: Floats | None = None) -> Floats:
    """(K, N) weights -> consecutive panels of (K, panel * lanes); the last one has the remaining vectors.

    Args:
        kernel: the weights.
        lanes: floats per vector.
        panel: vectors per panel.
        out: `packed_size` zeros to write to; by default a new array.
    """
    kernel = np.asarray(kernel, np.float32)
    K, N = kernel.shape
    NR = panel * lanes
    whole = N // NR
    packed = np.zeros(packed_size(kernel.shape, lanes), np.float32) if out is None else out
    panels = packed[: K * whole * NR].reshape(whole, K, NR)
    panels[...] = kernel[:, : whole * NR].reshape(K, whole, NR).swapaxes(0, 1)
    rest = packed[panels.size :].reshape(K, -1)
    rest[:, : N % NR] = kernel[:, whole * NR :]
    return packed


def pack_vector(values: ArrayLike, lanes: int) -> Floats:
    """(N,) values -> (ceil(N / lanes) * lanes,), padded with zeros."""
    values = np.asarray(values, np.float32)
    packed = np.zeros(-(-len(values) // lanes) * lanes, np.float32)  # np.pad takes ten times as long
    packed[: len(values)] = values
    return packed


def pack_depthwise(kernel: ArrayLike, bias: ArrayLike, lanes: int) -> Floats:
    """(K_h, K_w, C) taps and (C,) bias -> (blocks, 1 + K_h * K_w, lanes)."""
    kernel = np.asarray(kernel, np.float32)
    K_h, K_w, C = kernel.shape
    rows = np.concatenate([np.asarray(bias, np.float32)[None], kernel.reshape(K_h * K_w, C)])  # (1 + K_h * K_w, C)
    return pack_matrix(rows, lanes).reshape(-1, 1 + K_h * K_w, lanes)
