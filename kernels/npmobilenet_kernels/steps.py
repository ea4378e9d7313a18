"""The plan's table: what the compiled network reads, one row of int64 a step.

The engine writes these rows, `network.py` executes them. Addresses of activations are byte offsets into the arena of
the call, so that one table serves every caller; addresses of weights are absolute. A map is [blocks][H * W_map][W], W
the vector's width.
"""

from __future__ import annotations

from enum import IntEnum, auto

FIELDS = 56  # int64 values a row; `Field` names them
GEMV_PANELS = 8  # vectors of a dense layer's output computed at once, each from its own stream of weights
SCRATCH_HEADER = 64  # bytes at the start of a thread's scratch: addresses of the filter's rows


class Kind(IntEnum):
    """What a step does."""

    STRIP = 0  # [convolution 3x3 or pointwise, then] depthwise [, then pointwise], a few rows of the map at a time
    DEPTHWISE = auto()  # [pointwise, then] depthwise [, then average], one panel of channels at a time
    POINTWISE = auto()  # 1x1 convolution, one panel of output channels at a time
    DENSE = auto()  # one row of a matrix product
    POOL = auto()  # global average
    ADD = auto()  # sum of two maps
    STEM = auto()  # first convolution alone, row by row


class Field(IntEnum):
    """Columns of the table."""

    KIND = 0
    UNITS = auto()  # pieces of work, shared out among the threads
    # the map that comes in, and the convolution that makes the depthwise layer's input (producer)
    SOURCE = auto()
    SOURCE_BLOCK = auto()  # bytes from block to block
    SOURCE_HEIGHT = auto()
    SOURCE_WIDTH = auto()
    PRODUCER = auto()  # 0 none, 1 pointwise, 2 first convolution
    PRODUCER_PANELS = auto()
    PRODUCER_DEPTH = auto()  # c_in of a pointwise producer
    PRODUCER_WEIGHTS = auto()
    PRODUCER_BIAS = auto()
    PRODUCER_ACTIVATION = auto()
    PRODUCER_ROWS = auto()  # tile
    IMAGE_HEIGHT = auto()  # first convolution: its input, (H, W, c_in) as it comes
    IMAGE_WIDTH = auto()
    IMAGE_CHANNELS = auto()
    IMAGE_TOP = auto()  # rows of zeros above, columns of zeros on the left
    IMAGE_LEFT = auto()
    IMAGE_RIGHT = auto()
    IMAGE_SCALE = auto()  # address of four floats: scale, offset, 1, 0
    FILTER = auto()  # K of the first convolution
    FILTER_STRIDE = auto()
    # depthwise
    BLOCKS = auto()  # blocks of channels
    HEIGHT = auto()  # output rows and columns
    WIDTH = auto()
    SIZE = auto()  # K
    STRIDE = auto()
    TOP = auto()
    LEFT = auto()
    WEIGHTS = auto()  # per block: bias, then K * K vectors
    ACTIVATION = auto()
    STRIP_ROWS = auto()  # output rows of one strip
    RING = auto()  # rows of the producer's output that are kept
    LINES = auto()  # bytes of scratch for the first convolution's input rows; the ring follows
    FILTERED = auto()  # where in the scratch the depthwise output goes
    AVERAGE = auto()  # where the output's average over all pixels goes, or -1
    # pointwise
    PANELS = auto()
    DEPTH = auto()  # c_in
    MATRIX = auto()  # weights [panels][c_in][panel width]
    MATRIX_BIAS = auto()
    MATRIX_ACTIVATION = auto()
    MATRIX_ROWS = auto()  # tile
    PIXEL_PARTS = auto()  # a panel's pixels are cut into so many units
    GATE = auto()  # squeeze-and-excite: factor of every input channel, or -1
    RESIDUAL = auto()  # map added to the output, or -1
    TARGET = auto()
    TARGET_BLOCK = auto()
    ZEROS = auto()  # address of a row of zeros
    ONE_OVER_PIXELS = auto()  # address of the float 1 / (H W)
    SCRATCH = auto()  # bytes of scratch that the step needs; the kernels do not read it


class Producer(IntEnum):
    """What makes the input of a depthwise layer."""

    NONE = 0
    POINTWISE = auto()
    STEM = auto()


class Activation(IntEnum):
    """What is applied to a finished sum."""

    LINEAR = 0
    RELU = auto()
    RELU6 = auto()
    HARD_SWISH = auto()
    HARD_SIGMOID = auto()
