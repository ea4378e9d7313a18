"""Catalog of all kernels on bytes for one CPU target, by symbol."""

from __future__ import annotations

from itertools import product

from npmobilenet_kernels.microkernels.byte_depthwise import ByteDepthwise, depthwise_any
from npmobilenet_kernels.microkernels.byte_elementwise import byte_add, byte_multiply, byte_pad, byte_pairs, byte_table
from npmobilenet_kernels.microkernels.byte_pooling import byte_max_pool, byte_mean
from npmobilenet_kernels.microkernels.byte_products import (
    ByteConvolution,
    BytePointwise,
    ByteStem,
    dense,
    row_sums,
)
from npmobilenet_kernels.microkernels.byte_softmax import softmax_fixed, softmax_table
from npmobilenet_kernels.microkernels.emitter import Emit
from npmobilenet_kernels.runtime.byte_packing import GROUP
from npmobilenet_kernels.runtime.cpu import ByteTarget

PREFIX = "npmobilenet_byte_"
STEM_CHANNELS = (1, 3)  # of images with a first convolution of their own
STRIDES = (1, 2)  # of the other convolutions, along a row
SIMPLE: tuple[Emit, ...] = (
    dense, row_sums, depthwise_any, byte_mean, byte_max_pool, byte_add, byte_multiply, byte_table, byte_pairs, byte_pad,
    softmax_fixed, softmax_table,
)  # fmt: skip
DEPTHWISE_SIZES = (3, 5)  # of the square filters that read windows of four pixels
TERMS = (1, 2, 3)


def byte_name(kernel: str, target: ByteTarget) -> str:
    """Symbol of a kernel, such as "dense", "pointwise_14" (MR), "stem3_14" (channels), "convolution1_14" (stride)."""
    return f"{PREFIX}{kernel}_{target.name}"


def depthwise_kernel(sides: tuple[int, int], stride: int, outputs: int, terms: int) -> str:
    """The kernel for `byte_name` of a depthwise convolution without gaps between taps, one output per input channel.

    Args:
        sides: of the filter; stride: columns from output to output.
        outputs: neighboring outputs of a tile, min(4, W).
        terms: bytes whose sum is a weight, see `byte_filters.pack_byte_depthwise`.
    """
    if sides[0] != sides[1] or sides[0] not in DEPTHWISE_SIZES or stride not in STRIDES:
        return depthwise_any.__name__
    return f"depthwise{sides[0]}_{stride}_{outputs}_{terms}"


def all_byte_kernels(target: ByteTarget) -> dict[str, Emit]:
    """Every kernel on bytes for one CPU target, by symbol."""
    kernels: dict[str, Emit] = {emit.__name__: emit for emit in SIMPLE}
    for MR in target.rows:
        kernels[f"pointwise_{MR}"] = BytePointwise(MR, target.panel)
        for channels in STEM_CHANNELS:
            kernels[f"stem{channels}_{MR}"] = ByteStem(MR, target.panel, channels)
        for stride in STRIDES:
            kernels[f"convolution{stride}_{MR}"] = ByteConvolution(MR, target.panel, stride)
    for size, stride, outputs, terms in product(DEPTHWISE_SIZES, STRIDES, range(1, GROUP + 1), TERMS):
        name = depthwise_kernel((size, size), stride, outputs, terms)
        kernels[name] = ByteDepthwise(size, size, stride, outputs, terms)
    return {byte_name(kernel, target): emit for kernel, emit in kernels.items()}
