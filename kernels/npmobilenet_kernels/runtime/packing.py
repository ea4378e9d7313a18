"""How activations and weights lie in memory; the only place that turns NumPy's arrays into the kernels' and back.

    activations   (H, W, C)   -> [blocks][H * W][lanes]         blocks of `lanes` channels, one vector a pixel
    matrix        (K, N)      -> [panels][K][panel of lanes]    panels of output channels, each read in one go
    depthwise     (K_h, K_w, C) -> [blocks][1 + K_h * K_w][lanes]   bias first, then the taps

The last block or panel is filled up with zeros.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]


def to_blocks(x: ArrayLike, lanes: int, blocks: int | None = None) -> Floats:
    """(H, W, C) activations -> (blocks, H * W, lanes), as many blocks as C needs unless more are asked for."""
    x = np.asarray(x, np.float32)
    H, W, C = x.shape
    count = -(-C // lanes) if blocks is None else blocks
    padded = np.zeros((H * W, count * lanes), np.float32)
    padded[:, :C] = x.reshape(H * W, C)
    return np.ascontiguousarray(padded.reshape(H * W, count, lanes).transpose(1, 0, 2))


def from_blocks(x: Floats, shape: tuple[int, ...]) -> Floats:
    """(blocks, pixels, lanes) -> a new array of `shape`, whose last axis is C."""
    blocks, pixels, lanes = x.shape
    return np.ascontiguousarray(x.transpose(1, 0, 2).reshape(pixels, blocks * lanes)[:, : shape[-1]]).reshape(shape)


def pack_matrix(kernel: ArrayLike, lanes: int, panel: int = 1) -> Floats:
    """(K, N) weights -> panels of (K, panel * lanes), one after the other; the last has the vectors left over."""
    kernel = np.asarray(kernel, np.float32)
    K, N = kernel.shape
    columns = panel * lanes
    whole = N // columns
    packed = np.zeros(K * -(-N // lanes) * lanes, np.float32)
    panels = packed[: K * whole * columns].reshape(whole, K, columns)
    panels[...] = kernel[:, : whole * columns].reshape(K, whole, columns).swapaxes(0, 1)
    rest = packed[panels.size :].reshape(K, -1)
    rest[:, : N % columns] = kernel[:, whole * columns :]
    return packed


def pack_vector(values: ArrayLike, lanes: int) -> Floats:
    """(N,) values, filled up with zeros to a multiple of `lanes`."""
    values = np.asarray(values, np.float32)
    return np.pad(values, (0, -len(values) % lanes))


def pack_depthwise(kernel: ArrayLike, bias: ArrayLike, lanes: int) -> Floats:
    """(K_h, K_w, C) taps and (C,) bias -> (blocks, 1 + K_h * K_w, lanes)."""
    kernel = np.asarray(kernel, np.float32)
    K_h, K_w, C = kernel.shape
    rows = np.concatenate([np.asarray(bias, np.float32)[None], kernel.reshape(K_h * K_w, C)])  # (1 + K_h * K_w, C)
    return pack_matrix(rows, lanes).reshape(-1, 1 + K_h * K_w, lanes)
