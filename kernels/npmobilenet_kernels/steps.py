"""The plan's table: what the compiled network reads, one row of int64 a step.

The engine writes these rows, `network.py` works through them. Addresses of activations are byte offsets into the arena
of the call, so that one table serves every caller; addresses of weights and tiles are absolute. A map is
[blocks][H * W_map][W], W the vector's width.
"""

from __future__ import annotations

from enum import IntEnum, auto

FIELDS = 96  # int64 values a row; `Field` names them
SCRATCH_HEADER = 64  # bytes at the start of a thread's scratch: addresses of the filter's rows
LINE = 64  # bytes of a cache line
CALLED_OFF = -(1 << 62)  # what Job.BARRIER becomes when all threads shall leave


class Job(IntEnum):
    """What the threads of a team read to compute one image; int64, each group on cache lines of its own."""

    TABLE = 0  # address of the first step's row
    STEPS = auto()  # 0: nothing to compute
    ARENA = auto()
    SCRATCH = auto()  # of the first thread, SCRATCH_BYTES to the next one's
    SCRATCH_BYTES = auto()
    IMAGE = auto()
    THREADS = auto()
    ARRIVED = auto()  # value of BARRIER before the first step
    CALLS = 16  # jobs so far
    BARRIER = 32  # arrivals so far, at the ends of all steps of all jobs, or CALLED_OFF
    SHARES = 48  # of every thread, in this step and in the next one; a cache line each


class Kind(IntEnum):
    """What a step does."""

    STRIP = 0  # [product, then] depthwise [, then product], a few rows of the map at a time
    DEPTHWISE = auto()  # [product, then] depthwise [, then average], one panel of channels at a time
    POINTWISE = auto()  # product [, then average], one panel of output channels at a time
    DENSE = auto()  # one row of a matrix product
    POOL = auto()  # global average or maximum
    ADD = auto()  # sum of two maps
    STEM = auto()  # first convolution alone, row by row
    SOFTMAX = auto()  # one pixel at a time
    SIGMOID = auto()
    CONV = auto()  # any convolution: pixels gathered, then product, some output pixels at a time
    IMAGE = auto()  # the network's input, as it comes, to a map in blocks of channels


class Product(IntEnum):
    """Columns of one matrix product (pointwise or first convolution), counted from where it begins in the row."""

    TILE = 0  # address of the tile for whole panels of output channels, and its pixels
    ROWS = auto()
    LAST_TILE = auto()  # the same for the last panel, which may have fewer channels
    LAST_ROWS = auto()
    BLOCKS = auto()  # output channels, in vectors
    PITCH = auto()  # bytes from pixel to pixel of the input
    SEGMENTS = auto()  # the sum runs over so many whole segments of the input, of LENGTH values each, then TAIL more
    LENGTH = auto()
    TAIL = auto()
    WEIGHTS = auto()  # [panels][depth][panel]
    PANEL_BYTES = auto()  # of one whole panel
    FETCHED = auto()  # bytes of the next panel that one tile fetches
    BIAS = auto()
    ACTIVATION = auto()


class Field(IntEnum):
    """Columns of the table."""

    KIND = 0
    UNITS = auto()  # pieces of work, shared out among the threads
    VECTOR = auto()  # bytes of a vector
    PANEL = auto()  # vectors in a panel
    ZEROS = auto()  # address of a row of zeros
    ONE_OVER_PIXELS = auto()  # address of the float 1 / (H W)
    # the map that comes in
    SOURCE = auto()
    SOURCE_BLOCK = auto()  # bytes from block to block
    SOURCE_HEIGHT = auto()
    SOURCE_WIDTH = auto()
    # the value that goes out
    TARGET = auto()
    TARGET_BLOCK = auto()
    HEIGHT = auto()  # rows and columns
    WIDTH = auto()
    AVERAGE = auto()  # where its average or maximum over all pixels goes, or -1
    RESIDUAL = auto()  # map added to it, or -1
    # first convolution: its input, (H, W, c_in) as it comes
    IMAGE_HEIGHT = auto()
    IMAGE_WIDTH = auto()
    IMAGE_CHANNELS = auto()
    IMAGE_TOP = auto()  # rows of zeros above, columns of zeros on the left and right
    IMAGE_LEFT = auto()
    IMAGE_RIGHT = auto()
    IMAGE_SCALE = auto()  # address of four floats: scale, offset, 1, 0
    FILTER = auto()  # K
    FILTER_STRIDE = auto()
    COPY_TILE = auto()
    # depthwise, and any convolution
    DEPTHWISE_TILE = auto()
    BLOCKS = auto()  # blocks of channels
    SIZE = auto()  # rows of the filter, and columns
    SIZE_ACROSS = auto()
    STRIDE = auto()
    TOP = auto()  # rows of zeros above, columns of zeros on the left
    LEFT = auto()
    WEIGHTS = auto()  # per block: bias, then K * K vectors
    ACTIVATION = auto()
    STRIP_ROWS = auto()  # output rows of one strip
    RING = auto()  # rows of the producer's output that are kept
    LINES = auto()  # bytes of scratch for the first convolution's input rows; the ring follows
    FILTERED = auto()  # where in the scratch the depthwise output goes
    # pointwise, dense and any convolution
    PANEL_GROUPS = auto()  # the panels are shared out among so many units
    CHUNK = auto()  # segments that are gathered at once
    SUMS = auto()  # where in the scratch the sums so far are, two copies of SUMS_BYTES
    SUMS_BYTES = auto()
    FINISH_TILE = auto()
    PIXEL_PARTS = auto()  # the pixels, of a panel or of all, are cut into so many units
    PARTS_FIRST = auto()  # whether the units of a panel follow on each other, or those of a part
    GATE = auto()  # squeeze-and-excite: factor of every input channel, or -1
    SCALE_TILE = auto()
    GEMV_TILE = auto()
    GEMV_PANELS = auto()  # vectors of output that the tile computes
    POOL_TILE = auto()
    ADD_TILE = auto()
    CURVE_TILE = auto()  # softmax or sigmoid
    CHANNELS = auto()  # that the softmax runs over, or that a convolution reads
    GATHER_TILE = auto()  # brings pixels into another order
    MULTIPLIER = auto()  # depthwise outputs of one input channel
    PRODUCER_KIND = auto()  # a Producer
    INNER = auto()  # address of the row of the step that makes the input, for Producer.STRIP
    INNER_SCRATCH = auto()  # where in the scratch that step's scratch begins
    SCRATCH = auto()  # bytes of scratch that the step needs; the kernels do not read it
    # products
    PRODUCER = 64  # Product columns of what makes the depthwise layer's input
    MATRIX = PRODUCER + len(Product)  # Product columns of the pointwise layer


class Producer(IntEnum):
    """What makes the input of a depthwise layer."""

    NONE = 0
    POINTWISE = auto()
    STEM = auto()
    STRIP = auto()
    REPEAT = auto()  # the source itself, each channel several times


class Activation(IntEnum):
    """What is applied to a finished sum."""

    LINEAR = 0
    RELU = auto()
    RELU6 = auto()
    HARD_SWISH = auto()
    HARD_SIGMOID = auto()
