"""The columns of the step table that kernels on bytes read.

A step on bytes is one call of its kernel per share of units, (step, arena, scratch, image, first, last): everything
else is in its row. Addresses of activations are byte offsets into the arena; all others are absolute. A feature map is
[ceil(C / 16)][H W][16] bytes.
"""

from __future__ import annotations

from enum import IntEnum, auto


class ByteField(IntEnum):
    """Columns of a row of Kind.BYTES."""

    KIND = 0
    UNITS = auto()
    KERNEL = auto()  # address
    # maps
    SOURCE = auto()  # offset
    SOURCE_BLOCK = auto()  # bytes from block to block
    SOURCE_HEIGHT = auto()
    SOURCE_WIDTH = auto()
    TARGET = auto()  # offset
    TARGET_BLOCK = auto()
    HEIGHT = auto()
    WIDTH = auto()
    PIXELS = auto()  # of the output
    BLOCKS = auto()  # of 16 channels of the output
    # weights and requantization
    WEIGHTS = auto()  # address
    PANEL_BYTES = auto()  # bytes of one whole panel, or of one block's filters
    RECORDS = auto()  # address
    LIMITS = auto()  # address of zero point, least and largest byte
    TABLE = auto()  # address of 256 bytes that replace the output's, or 0
    SUMS = auto()  # offset of an int32 for every pixel, added to all its accumulators, or -1
    # products
    SEGMENTS = auto()  # whole segments of 16 values
    TAIL = auto()  # groups of four values in one more
    PARTS = auto()  # units that the pixels of a panel are divided into
    PARTS_FIRST = auto()  # whether consecutive units are the parts of one panel, or the panels of one part
    OFFSETS = auto()  # address of the offset of every segment, int64
    # windows
    STRIDE = auto()  # rows from output row to output row
    STRIDE_ACROSS = auto()
    TOP = auto()  # rows of padding above
    LEFT = auto()
    FILTER = auto()  # K_h
    FILTER_ACROSS = auto()
    DILATION = auto()
    DILATION_ACROSS = auto()
    PADDING = auto()  # address of a row of zero points
    MULTIPLIER = auto()  # depthwise outputs per input channel
    # two inputs
    OTHER = auto()  # offset of the second input
    OTHER_BLOCK = auto()
    OTHER_PITCH = auto()  # bytes from pixel to pixel of it: 16, or 0 for one pixel that all see
    CONSTANTS = auto()  # address of the numbers that a kernel of its own kind takes
    CHANNELS = auto()  # of the input
    COUNT = auto()  # numbers to be averaged
