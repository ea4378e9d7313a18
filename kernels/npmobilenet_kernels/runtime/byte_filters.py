"""Filters of depthwise convolutions on bytes: windows of four pixels, and the weights at each place in a window.

One `dot` multiplies four neighboring pixels of each channel by four weights. A filter row narrower than the window is
moved inside it by zero weights, so that several outputs share a window:

    pixels of a window      p    p+1  p+2  p+3
    output at p             w0   w1   w2   0           shift 0
    output at p+1           0    w0   w1   w2          shift 1

A wider row lies in several windows, with a negative shift where it began before the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npmobilenet_kernels.runtime.byte_packing import GROUP, LANES, LINE

LEAST, LARGEST = -128, 127  # of a signed byte
ADDRESS_BYTES = 8  # of an int64


@dataclass(frozen=True)
class Use:
    """One `dot` of a filter row.

    Attributes:
        window: first pixel of the window, from the first one under the filter at the tile's first output.
        output: number of the output in its tile.
        shift: pixels from the window's first one to that of the filter row.
    """

    window: int
    output: int
    shift: int


def uses_of_windows(K_w: int, stride: int, outputs: int) -> tuple[Use, ...]:
    """The dots of one filter row for neighboring outputs, by window."""
    uses, window = [], 0
    for output in range(outputs):
        column = output * stride
        if K_w <= GROUP:
            if column + K_w > window + GROUP:
                window = column
            uses.append(Use(window, output, column - window))
        else:
            first, last = column // GROUP, (column + K_w - 1) // GROUP
            uses += [Use(GROUP * n, output, column - GROUP * n) for n in range(first, last + 1)]
    return tuple(sorted(uses, key=lambda use: (use.window, use.output)))


def shifts_of(uses: tuple[Use, ...]) -> list[int]:
    """The different shifts, ascending."""
    return sorted({use.shift for use in uses})


def windows_of(uses: tuple[Use, ...]) -> list[int]:
    """The different windows, ascending."""
    return sorted({use.window for use in uses})


def pack_byte_depthwise(kernel: NDArray[Any], stride: int, outputs: int) -> tuple[NDArray[np.int8], int]:
    """(K_h, K_w, C) weights less their zero point -> [ceil(C / 16)][K_h][terms][shifts][16][4], and the terms.

    Weights that a signed byte cannot hold are the sum of several terms. Few blocks have such weights, so if there are
    several terms, a line before each block has the number that this block needs, as int64.

    Args:
        kernel: from -255 to 255.
        stride: columns from output to output.
        outputs: neighboring outputs of a tile.
    """
    K_h, K_w, C = kernel.shape
    blocks = -(-C // LANES)
    padded = np.zeros((K_h, K_w, blocks * LANES), np.int64)
    padded[..., :C] = kernel
    terms = [np.clip(padded, LEAST, LARGEST)]
    while (rest := padded - sum(terms)).any():
        terms.append(np.clip(rest, LEAST, LARGEST))
    shifts = shifts_of(uses_of_windows(K_w, stride, outputs))
    packed = np.zeros((blocks, K_h, len(terms), len(shifts), LANES, GROUP), np.int8)
    for t, term in enumerate(terms):
        by_block = term.reshape(K_h, K_w, blocks, LANES).transpose(2, 0, 3, 1)  # (blocks, K_h, 16, K_w)
        for n, shift in enumerate(shifts):
            for place in range(max(0, shift), min(GROUP, shift + K_w)):
                packed[:, :, t, n, :, place] = by_block[..., place - shift]
    if len(terms) == 1:
        return packed.ravel(), 1
    needed = np.ones(blocks, np.int64)
    for term in terms[1:]:
        needed += term.reshape(-1, blocks, LANES).any((0, 2))
    header = np.zeros((blocks, LINE), np.int8)
    header[:, :ADDRESS_BYTES] = needed[:, None].view(np.int8)
    return np.concatenate([header, packed.reshape(blocks, -1)], axis=1).ravel(), len(terms)


def pack_byte_taps(kernel: NDArray[Any]) -> NDArray[np.int16]:
    """(K_h, K_w, C) weights less their zero point -> [ceil(C / 16)][K_h K_w][16]."""
    K_h, K_w, C = kernel.shape
    blocks = -(-C // LANES)
    padded = np.zeros((K_h * K_w, blocks * LANES), np.int16)
    padded[:, :C] = kernel.reshape(K_h * K_w, C)
    return np.ascontiguousarray(padded.reshape(K_h * K_w, blocks, LANES).transpose(1, 0, 2)).ravel()


def pack_window_masks(W_in: int, W: int, left: int, K_w: int, stride: int, outputs: int) -> NDArray[np.uint64]:
    """Which bytes of every window are on the image: (tiles, windows) masks of 64 bits, 16 for each pixel.

    Args:
        W_in, W: columns of input and output.
        left: columns of padding on the left.
        K_w, stride: columns of the filter, and from output to output.
        outputs: neighboring outputs of a tile; the last tile overlaps the one before.
    """
    windows = np.array(windows_of(uses_of_windows(K_w, stride, outputs)))
    starts = np.minimum(np.arange(0, W, outputs), W - outputs)
    columns = (starts * stride - left)[:, None, None] + windows[:, None] + np.arange(GROUP)  # (tiles, windows, 4)
    inside = (columns >= 0) & (columns < W_in)
    masks: NDArray[np.uint64] = inside @ (np.uint64(0xFFFF) << np.arange(GROUP, dtype=np.uint64) * np.uint64(LANES))
    return masks
