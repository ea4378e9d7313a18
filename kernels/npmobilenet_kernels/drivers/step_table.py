"""The step table: what the compiled drivers read, one row of int64 per step.

A compiler writes the rows, and `work_stealing.run` computes them. Addresses of activations are byte offsets into the
arena of the call, so that one table serves every caller; addresses of weights and micro-kernels are absolute. A feature
map is [ceil(C / L)][H W][L], L lanes of a vector.
"""

from __future__ import annotations

from enum import IntEnum, auto

FIELDS = 96  # int64 values per row; `Field` names them
SCRATCH_HEADER = 64  # bytes at the start of a thread's scratch: addresses of the input rows of a depthwise output row


class Kind(IntEnum):
    """Kind of step."""

    STRIP = 0  # [product, then] depthwise [, then product], by bands of a few rows
    DEPTHWISE = auto()  # [product, then] depthwise [, then pooling], by panels of channels
    POINTWISE = auto()  # product [, then pooling], by panels of output channels and parts of the pixels
    DENSE = auto()  # one row of a matrix product
    POOL = auto()  # global average or maximum
    ADD = auto()  # sum of two feature maps
    STEM = auto()  # direct convolution of an interleaved image, by rows
    SOFTMAX = auto()  # over the channels, by pixels
    SIGMOID = auto()
    CONV = auto()  # any convolution: im2col, then product, by parts of the pixels
    IMAGE = auto()  # interleaved input to a feature map in blocks of channels
    BYTES = auto()  # a kernel on bytes, whose columns are in `byte_table`


class Product(IntEnum):
    """Columns of one matrix product C (M, N) = A (M, K) @ B (K, N), relative to its first column in the row."""

    TILE = 0  # address of the micro-kernel for whole panels, and its MR
    ROWS = auto()
    LAST_TILE = auto()  # the same for the last panel, which may have fewer channels
    LAST_ROWS = auto()
    BLOCKS = auto()  # ceil(N / L)
    PITCH = auto()  # bytes from pixel to pixel of A
    SEGMENTS = auto()  # K = SEGMENTS * LENGTH + TAIL: whole segments of A, and one shorter one
    LENGTH = auto()
    TAIL = auto()
    WEIGHTS = auto()  # address of B, [ceil(N / NR)][K][NR]
    PANEL_BYTES = auto()  # of one whole panel
    FETCHED = auto()  # bytes of the next panel that one tile prefetches
    BIAS = auto()  # address, (N,)
    ACTIVATION = auto()  # an Activation


class Field(IntEnum):
    """Columns of the table."""

    KIND = 0  # a Kind
    UNITS = auto()  # units of work, shared among the threads
    VECTOR = auto()  # bytes of a vector, 4 L
    PANEL = auto()  # vectors per panel, NR / L
    ZEROS = auto()  # address of a row of zeros
    ONE_OVER_PIXELS = auto()  # address of the float 1 / (H W)
    # input feature map
    SOURCE = auto()  # offset
    SOURCE_BLOCK = auto()  # bytes from block to block
    SOURCE_HEIGHT = auto()  # H_in, W_in
    SOURCE_WIDTH = auto()
    # output
    TARGET = auto()  # offset
    TARGET_BLOCK = auto()  # bytes from block to block
    HEIGHT = auto()  # H, W
    WIDTH = auto()
    AVERAGE = auto()  # offset of its average or maximum over all pixels, or -1
    RESIDUAL = auto()  # offset of a feature map added to it, or -1
    # direct convolution: its input, interleaved (H_in, W_in, c_in)
    IMAGE_HEIGHT = auto()
    IMAGE_WIDTH = auto()
    IMAGE_CHANNELS = auto()
    IMAGE_TOP = auto()  # rows of padding above, columns of padding on the left and right
    IMAGE_LEFT = auto()
    IMAGE_RIGHT = auto()
    IMAGE_SCALE = auto()  # address of four floats: scale, offset, 1, 0
    FILTER = auto()  # K_h
    FILTER_STRIDE = auto()
    COPY_TILE = auto()  # address of scale_and_copy
    # depthwise, and any convolution
    DEPTHWISE_TILE = auto()  # address of the micro-kernel
    BLOCKS = auto()  # ceil(C / L)
    SIZE = auto()  # K_h, K_w
    SIZE_ACROSS = auto()
    STRIDE = auto()
    DILATION = auto()  # pixels from tap to tap
    TOP = auto()  # rows of padding above, columns of padding on the left
    LEFT = auto()
    WEIGHTS = auto()  # address, [ceil(C / L)][1 + K_h K_w][L]: bias and taps
    ACTIVATION = auto()  # an Activation
    STRIP_ROWS = auto()  # output rows per band
    RING = auto()  # slots of the ring buffer, rows of the producer's output
    LINES = auto()  # bytes of scratch for the input rows of a direct convolution; the ring follows
    FILTERED = auto()  # offset of the depthwise output in scratch
    # pointwise, dense and any convolution
    PANEL_GROUPS = auto()  # units that the panels are divided into
    CHUNK = auto()  # segments that im2col copies at a time
    SUMS = auto()  # offset of the partial sums in scratch, two copies of SUMS_BYTES
    SUMS_BYTES = auto()
    FINISH_TILE = auto()  # address of the epilogue
    PIXEL_PARTS = auto()  # units that the pixels, of a panel or of all, are divided into
    PARTS_FIRST = auto()  # whether consecutive units are the parts of one panel, or the panels of one part
    GATE = auto()  # offset of a factor of every input channel, or -1
    SCALE_TILE = auto()  # address of scale_weights
    GEMV_TILE = auto()  # address of the micro-kernel
    GEMV_PANELS = auto()  # its streams: vectors of output
    POOL_TILE = auto()  # address of pool or largest
    ADD_TILE = auto()  # address of add_pixels
    CURVE_TILE = auto()  # address of softmax or sigmoid
    CHANNELS = auto()  # channels that the softmax runs over, or that a convolution reads
    GATHER_TILE = auto()  # address of im2col_row, image_pixels or repeat_channels
    MULTIPLIER = auto()  # depthwise outputs per input channel
    PRODUCER_KIND = auto()  # a Producer
    INNER = auto()  # address of the row of the band step that makes the input, for Producer.STRIP
    INNER_SCRATCH = auto()  # offset of that step's scratch in scratch
    # products
    PRODUCER = 64  # Product columns of what makes the depthwise layer's input
    MATRIX = PRODUCER + len(Product)  # Product columns of the pointwise layer


class Producer(IntEnum):
    """What makes the input of a depthwise layer."""

    NONE = 0
    POINTWISE = auto()
    STEM = auto()
    STRIP = auto()  # another band step
    REPEAT = auto()  # the source itself, with every channel repeated


class Activation(IntEnum):
    """Activation of a sum."""

    LINEAR = 0
    RELU = auto()
    RELU6 = auto()
    HARD_SWISH = auto()
    HARD_SIGMOID = auto()
