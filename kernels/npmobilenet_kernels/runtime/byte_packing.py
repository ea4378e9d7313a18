"""Packing of bytes: the memory layouts of 8-bit activations, weights, and what requantization needs.

    activations   (H, W, C) uint8   -> [ceil(C / 16)][H W][16]          16 bytes per pixel, on every CPU
    matrix        (K, N) int8       -> [ceil(N / NR)][ceil(K / 4)][NR][4]    four weights of a channel are one group
    depthwise     (K_h, K_w, C)     -> [ceil(C / 16)][K_h][shifts][16][4]    a filter row at each place in a window
    records       per output channel -> [ceil(N / 16)] of RECORD bytes       bias, and one way of requantization

int8 networks are stored as q + 128, so that activations are unsigned everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
LANES = 16  # channels of a block
GROUP = 4  # weights of a group
LINE = 64  # bytes


class Requantization(IntEnum):
    """How a record's accumulators become steps of the output."""

    EXACT = 0  # integers: ((acc << left) q + R - N [acc < 0]) >> T
    FLOAT = 1  # rint(fma(float32(acc), k, o))
    DOUBLE = 2  # float64(acc) M to the nearest, halves away from zero
    POSITIVE = 3  # EXACT where results below the zero point are clipped: ((acc q + R) >> 32) >> T
    FLOAT_SIGNED = 4  # FLOAT with another o for negative accumulators: rounding twice is not symmetric
    NARROW = 5  # EXACT without a left shift, and where 32 bits hold (acc q + R) >> 31: that, less n [acc < 0], >> T


class Part(IntEnum):
    """Places in a record, in bytes: 16 values each, of 32 bits or as eight even and eight odd lanes of 64 bits.

    Those of different kinds may be the same, and are then names of one member.
    """

    KIND = 0
    BIAS = LINE
    LEFT = 2 * LINE  # EXACT
    Q = 3 * LINE
    R = 5 * LINE
    N = 7 * LINE
    T = 9 * LINE  # of POSITIVE and NARROW, like N of NARROW, 16 values of 32 bits
    K = 2 * LINE  # FLOAT
    O = 3 * LINE  # noqa: E741  # as in the formula
    O_NEGATIVE = 4 * LINE  # FLOAT_SIGNED: o of sums below MINUS_C, which stand for negative accumulators
    MINUS_C = 5 * LINE
    M = 2 * LINE  # DOUBLE: 16 float64 in order


class LogitTable(IntEnum):
    """Places in the constants of a softmax by a table, in bytes: 256 exponentials in float32, then these."""

    SCALE = 1024  # of the output, float32
    NEAREST = 1028  # int32: whether halves are rounded away from zero, or 0.5 added and the rest cut off
    ZERO = 1032  # int32: zero point of the output
    END = 1036


FLOATING: dict[Requantization, Any] = {
    Requantization.FLOAT: np.float32, Requantization.FLOAT_SIGNED: np.float32, Requantization.DOUBLE: np.float64
}  # fmt: skip
RECORD = 11 * LINE


def to_byte_blocks(x: NDArray[Any], blocks: int | None = None) -> Bytes:
    """(H, W, C) uint8 -> (blocks, H * W, 16), by default with ceil(C / 16) blocks; zeros beyond the channels."""
    H, W, C = x.shape
    count = -(-C // LANES) if blocks is None else blocks
    padded = np.zeros((H * W, count * LANES), np.uint8)
    padded[:, :C] = x.reshape(H * W, C)
    return np.ascontiguousarray(padded.reshape(H * W, count, LANES).transpose(1, 0, 2))


def from_byte_blocks(x: Bytes, shape: Sequence[int]) -> Bytes:
    """(blocks, pixels, 16) -> a new array of `shape`, whose last axis is C."""
    blocks, pixels, lanes = x.shape
    rows = x.transpose(1, 0, 2).reshape(pixels, blocks * lanes)[:, : shape[-1]]
    return np.array(rows, order="C").reshape(shape)


def pack_byte_matrix(kernel: NDArray[Any], panel: int, segment: int | None = None) -> NDArray[np.int8]:
    """(K, N) int8 weights -> consecutive panels of [K / 4][16 panel][4]; the last one has the remaining vectors.

    Args:
        kernel: the weights.
        panel: vectors of 16 output channels per panel.
        segment: values of k that lie together in memory, if there are several segments each of which begins a group of
            its own; by default K.
    """
    K, N = kernel.shape
    length = K if segment is None else segment
    groups, blocks = -(-length // GROUP), -(-N // LANES)
    padded = np.zeros((K // length, groups * GROUP, blocks * LANES), np.int8)
    padded[:, :length, :N] = kernel.reshape(K // length, length, N)
    grouped = padded.reshape(-1, GROUP, blocks * LANES).transpose(0, 2, 1)  # (groups of all segments, N, 4)
    width = panel * LANES
    panels = [grouped[:, first : first + width].ravel() for first in range(0, blocks * LANES, width)]
    return np.concatenate(panels)


def pack_records(kinds: NDArray[Any], parts: Mapping[Part, NDArray[Any]]) -> Bytes:
    """Records of ceil(N / 16) blocks.

    Args:
        kinds: (blocks,) of `Requantization`.
        parts: (N,) values by place; those of another kind than a block's are left out.

    Returns:
        (blocks, RECORD).
    """
    blocks = len(kinds)
    records = np.zeros((blocks, RECORD), np.uint8)
    records[:, Part.KIND : Part.KIND + 8] = np.asarray(kinds, np.int64)[:, None].view(np.uint8)
    by_kind = {
        Requantization.EXACT: (Part.LEFT, Part.Q, Part.R, Part.N, Part.T),
        Requantization.FLOAT: (Part.K, Part.O),
        Requantization.FLOAT_SIGNED: (Part.K, Part.O, Part.O_NEGATIVE, Part.MINUS_C),
        Requantization.DOUBLE: (Part.M,),
        Requantization.POSITIVE: (Part.Q, Part.R, Part.T),
        Requantization.NARROW: (Part.Q, Part.R, Part.N, Part.T),
    }
    for kind, own in by_kind.items():
        for part in (Part.BIAS, *own):
            if part in parts:
                _write(records, np.flatnonzero(kinds == kind), part, _laid_out(kind, part, parts[part], blocks))
    return records


def _laid_out(kind: Requantization, part: Part, values: NDArray[Any], blocks: int) -> Bytes:
    """(blocks, bytes) of one part of all records."""
    wide = kind not in FLOATING and part in (Part.Q, Part.R, Part.N, Part.T)
    match kind, part:
        case Requantization.POSITIVE, Part.T:
            wide, values = False, values - 32
        case Requantization.NARROW, Part.T:
            wide, values = False, values - 31
        case Requantization.NARROW, Part.N:
            wide, values = False, values >> 31
    narrow = FLOATING.get(kind, np.int32) if part not in (Part.BIAS, Part.MINUS_C) else np.int32
    padded = np.zeros(blocks * LANES, np.int64 if wide else narrow)
    padded[: len(values)] = values
    rows = padded.reshape(blocks, LANES)
    if wide:
        rows = np.concatenate([rows[:, ::2], rows[:, 1::2]], axis=1)
    return np.ascontiguousarray(rows).view(np.uint8)


def _write(records: Bytes, which: Ints, part: Part, values: Bytes) -> None:
    records[which, part : part + values.shape[1]] = values[which]


def pack_limits(zero_point: int, low: int, high: int) -> Bytes:
    """Zero point 32 times as int16, least and largest byte 64 times each."""
    return np.concatenate([
        np.full(32, zero_point, np.int16).view(np.uint8), np.full(LINE, low, np.uint8), np.full(LINE, high, np.uint8)
    ])  # fmt: skip


def pack_dense_constants(factor: int, K: int) -> Bytes:
    """The factor of the sum of K inputs, 16 times, and 1 for each of the inputs in the last group of four."""
    ones = np.tile(np.arange(GROUP) < (K - 1) % GROUP + 1, LANES).astype(np.uint8)
    return np.concatenate([np.full(LANES, factor, np.int32).view(np.uint8), ones])


def exact_parts(bias: Ints, q: Ints, e: Ints, rounding: str) -> dict[Part, Ints]:
    """A multiplier q 2^-31 2^e of each channel as integers of the EXACT kind.

    Args:
        bias: (N,), that of the layer and what zero points contribute.
        q, e: (N,) multiplier and exponent.
        rounding: "twice", "once" or "up_twice", as in `npmobilenet.quantized.rules`.
    """
    s = np.maximum(-e, 0)
    if rounding == "once":
        left, T = np.zeros_like(e), 31 - e
        R = np.left_shift(1, 30 - e)
    else:
        left, T = np.maximum(e, 0), 31 + s
        R = (1 << 30) + np.where(s > 0, np.left_shift(1, 30 + s), 0)
    N = np.where((s > 0) & (rounding == "twice"), -(1 << 31), 0)
    return {Part.BIAS: bias, Part.LEFT: left, Part.Q: q, Part.R: R, Part.N: N, Part.T: T}
