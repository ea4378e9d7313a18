"""Catalog of all micro-kernels for one CPU target."""

from __future__ import annotations

from npmobilenet_kernels.microkernels.depthwise_tile import DepthwiseTile, depthwise_row
from npmobilenet_kernels.microkernels.elementwise import add_pixels, epilogue, scale_and_copy, scale_weights
from npmobilenet_kernels.microkernels.emitter import Emit
from npmobilenet_kernels.microkernels.exp import sigmoid, softmax
from npmobilenet_kernels.microkernels.gemm import GemmTile
from npmobilenet_kernels.microkernels.gemv import SPLIT, GemvTile
from npmobilenet_kernels.microkernels.im2col import im2col_row, image_pixels, repeat_channels
from npmobilenet_kernels.microkernels.reductions import largest, pool
from npmobilenet_kernels.microkernels.symbols import (
    DEPTHWISE_PADDINGS,
    DEPTHWISE_PIXELS,
    STEM_CHANNELS,
    STEM_PITCH,
    depthwise_name,
    gemm_name,
    gemv_name,
    simple_name,
)
from npmobilenet_kernels.runtime.cpu import CpuTarget

SIMPLE = (
    pool, largest, scale_weights, add_pixels, scale_and_copy, im2col_row, image_pixels, repeat_channels, softmax,
    sigmoid, depthwise_row, epilogue,
)  # fmt: skip


def all_tiles(target: CpuTarget) -> dict[str, Emit]:
    """Every micro-kernel for one CPU target, by symbol."""
    simple = {simple_name(emit.__name__, target): emit for emit in SIMPLE}
    return _gemm_tiles(target) | _gemv_tiles(target) | _depthwise_tiles(target) | simple


def _gemm_tiles(target: CpuTarget) -> dict[str, Emit]:
    tiles: dict[str, Emit] = {}
    choices = ((target.panel, target.rows, target.stem_rows[0]), (1, target.narrow_rows, target.stem_rows[1]))
    for vectors, choice, stem_rows in choices:
        for half in {False, target.halves}:
            for MR in choice:
                tile = GemmTile(MR, vectors, unroll=target.unroll, by_lane=target.by_lane, half=half)
                tiles[gemm_name(MR, vectors, target, half=half)] = tile
            for MR in (stem_rows, 1):
                tile = GemmTile(MR, vectors, STEM_PITCH, unroll=STEM_CHANNELS, half=half)
                tiles[gemm_name(MR, vectors, target, stem=True, half=half)] = tile
    return tiles


def _gemv_tiles(target: CpuTarget) -> dict[str, Emit]:
    return {gemv_name(n, target): GemvTile(n, SPLIT if n == 1 else 1) for n in target.streams}


def _depthwise_tiles(target: CpuTarget) -> dict[str, Emit]:
    return {
        depthwise_name(size, stride, target, pixels, left, right): DepthwiseTile(size, stride, pixels, left, right)
        for (size, stride), paddings in DEPTHWISE_PADDINGS.items()
        for left, right in paddings
        for pixels in DEPTHWISE_PIXELS
    }
