"""Steps of one operation.

StemStep         the first convolution, row by row
ConvStep         any convolution: im2col, then matrix product
DenseStep, PoolStep, AddStep, SoftmaxStep, SigmoidStep
ImageStep        the network's input [, scaled], turned into a map in blocks of channels
"""

from dataclasses import dataclass

import numpy as np
from npmobilenet_kernels.drivers.step_table import SCRATCH_HEADER, Field, Kind, Product
from npmobilenet_kernels.microkernels.symbols import gemv_name
from npmobilenet_kernels.runtime import packing
from npmobilenet_kernels.runtime.cpu import tile_rows

from npmobilenet.compiler.blocking import ceil_div, round_up
from npmobilenet.compiler.columns import Columns, Encoder, Record, Tile, activation, from_column, part_pixels
from npmobilenet.compiler.ir import (
    NO_SCALING,
    Add,
    Conv,
    Dense,
    GlobalPool,
    Image,
    Operation,
    Rescale,
    Sigmoid,
    Softmax,
)
from npmobilenet.compiler.step_types import KernelStep


@dataclass(frozen=True, eq=False)
class OneOperationStep(KernelStep):
    """Properties common to steps that are one operation."""

    op: Operation

    @property
    def ops(self) -> tuple[Operation, ...]:
        return (self.op,)


@dataclass(frozen=True, eq=False)
class StemStep(OneOperationStep):
    """The first convolution, row by row."""

    op: Conv

    kind = Kind.STEM

    @property
    def reads_image(self) -> bool:
        return True

    def encode(self, e: Encoder) -> Record:
        H, W, _ = self.op.shape
        own: Columns = {Field.SOURCE_WIDTH: W, Field.UNITS: H}
        return Record({**e.stem(self.op), **own}, SCRATCH_HEADER + e.stem_lines(self.op))


@dataclass(frozen=True, eq=False)
class ConvStep(OneOperationStep):
    """Any convolution: the pixels under the window are gathered (im2col), then multiplied with panels of weights."""

    op: Conv

    kind = Kind.CONV

    def encode(self, e: Encoder) -> Record:
        op, target = self.op, e.target
        (H, W, _), (H_in, W_in, c_in), (K_h, K_w, _, c_out) = op.shape, e.shapes[op.inputs[0]], op.kernel.shape
        # values of a tap and block
        length = target.width if c_in > target.width else round_up(c_in, target.unroll)
        segments = K_h * K_w * e.blocks(c_in)
        padded = np.zeros((K_h, K_w, e.blocks(c_in) * length, c_out))
        padded[:, :, :c_in] = op.kernel
        rows = tile_rows(H * W, target.rows)
        parts, groups, least, most = self._cuts(e, rows)
        segment = most * e.vector
        rounds = ceil_div(segments, max(1, e.blocking.cache // segment))
        chunk = ceil_div(segments, rounds)
        sums = ceil_div(e.panels(c_out), groups) * target.panel * segment
        product: Columns = {
            Product.PITCH: e.vector,
            Product.SEGMENTS: segments,
            Product.LENGTH: length,
            Product.TAIL: 0,
            **e.matrix(op, padded, (rows, tile_rows(least, target.narrow_rows))),
        }
        own: Columns = {
            Field.SOURCE_HEIGHT: H_in,
            Field.SOURCE_WIDTH: W_in,
            Field.BLOCKS: e.blocks(c_in),
            Field.CHANNELS: c_in,
            Field.SIZE: K_h,
            Field.SIZE_ACROSS: K_w,
            Field.STRIDE: op.stride,
            Field.DILATION: op.dilation,
            Field.TOP: op.padding[0][0],
            Field.LEFT: op.padding[1][0],
            Field.GATHER_TILE: e.tile("im2col_row"),
            Field.UNITS: parts * groups,
            Field.PIXEL_PARTS: parts,
            Field.PANEL_GROUPS: groups,
            Field.CHUNK: chunk,
            Field.SUMS: chunk * segment,
            Field.SUMS_BYTES: sums,
            Field.FINISH_TILE: e.tile("epilogue"),
        }
        return Record({**from_column(Field.MATRIX, product), **e.extras(op), **own}, chunk * segment + 2 * sums)

    def _cuts(self, e: Encoder, rows: int) -> tuple[int, int, int, int]:
        """Parts of the pixels, groups of panels; the least and the most pixels of a part. rows: pixels of a tile."""
        H, W, c_out = self.op.shape
        tiles = ceil_div(H * W, rows)
        groups = max(1, min(e.blocking.units, e.panels(c_out) // e.blocking.group_panels))
        parts = max(ceil_div(H * W, e.blocking.conv_pixels), ceil_div(e.blocking.units, groups))
        parts = max(1, min(parts, tiles // 2))  # two whole tiles at least
        pixels = part_pixels(H * W, rows, parts)
        return parts, groups, min(pixels), max(pixels)


@dataclass(frozen=True, eq=False)
class DenseStep(OneOperationStep):
    """A matrix times a vector: a dense layer, or a pointwise convolution of a single pixel."""

    op: Dense | Conv

    kind = Kind.DENSE

    def encode(self, e: Encoder) -> Record:
        matrix = self.op.kernel.reshape(self.op.kernel.shape[-2:])  # (c_in, c_out)
        blocks = e.blocks(self.op.shape[-1])
        streams = next(streams for streams in e.target.streams if streams <= blocks)
        product: Columns = {
            Product.BLOCKS: blocks,
            Product.LENGTH: len(matrix),
            Product.WEIGHTS: e.pack_matrix(matrix),
            Product.BIAS: e.pack(packing.pack_vector(self.op.bias, e.target.width)),
            Product.ACTIVATION: activation(self.op),
        }
        own: Columns = {
            Field.UNITS: ceil_div(blocks, streams),
            Field.GEMV_PANELS: streams,
            Field.GEMV_TILE: Tile(gemv_name(streams, e.target)),
        }
        return Record({**from_column(Field.MATRIX, product), **own})


@dataclass(frozen=True, eq=False)
class PoolStep(OneOperationStep):
    """A global pool, a vector of channels at a time."""

    op: GlobalPool

    kind = Kind.POOL

    def encode(self, e: Encoder) -> Record:
        shape = e.shapes[self.source]
        own: Columns = {Field.UNITS: e.blocks(shape[-1])}
        return Record({**own, **e.grid(shape), **e.pool(self.op, shape)})


@dataclass(frozen=True, eq=False)
class AddStep(OneOperationStep):
    """The sum of two values, a vector of channels at a time."""

    op: Add

    kind = Kind.ADD

    def encode(self, e: Encoder) -> Record:
        _, other = self.op.inputs
        return Record(
            {
                Field.UNITS: e.blocks(self.op.shape[-1]),
                Field.RESIDUAL: e.memory[other].offset,
                Field.ADD_TILE: e.tile("add_pixels"),
            }
        )


@dataclass(frozen=True, eq=False)
class SoftmaxStep(OneOperationStep):
    """Softmax, a pixel at a time."""

    op: Softmax

    kind = Kind.SOFTMAX

    def encode(self, e: Encoder) -> Record:
        return Record(
            {
                Field.UNITS: e.memory[self.target].pixels,
                Field.CHANNELS: self.op.shape[-1],
                Field.CURVE_TILE: e.tile("softmax"),
            }
        )


@dataclass(frozen=True, eq=False)
class SigmoidStep(OneOperationStep):
    """Sigmoid, a vector of channels at a time."""

    op: Sigmoid

    kind = Kind.SIGMOID

    def encode(self, e: Encoder) -> Record:
        return Record({Field.UNITS: e.blocks(self.op.shape[-1]), Field.CURVE_TILE: e.tile("sigmoid")})


@dataclass(frozen=True, eq=False)
class ImageStep(KernelStep):
    """The network's input, turned into a map in blocks of channels.

    Attributes:
        image: the input.
        rescale: the layer that scales it, or None.
    """

    image: Image
    rescale: Rescale | None = None

    kind = Kind.IMAGE

    @property
    def ops(self) -> tuple[Operation, ...]:
        return (self.rescale,) if self.rescale else ()

    @property
    def source(self) -> str:
        return self.image.name

    @property
    def target(self) -> str:
        return self.rescale.name if self.rescale else self.image.name

    @property
    def reads(self) -> set[str]:
        return {self.image.name}

    @property
    def reads_image(self) -> bool:
        return True

    def encode(self, e: Encoder) -> Record:
        H, _, C = self.image.shape
        scaling = (self.rescale.layer.scale, self.rescale.layer.offset) if self.rescale else NO_SCALING
        return Record(
            {
                Field.UNITS: H,
                Field.CHANNELS: C,
                Field.BLOCKS: e.blocks(C),
                Field.IMAGE_SCALE: e.pack(scaling),
                Field.GATHER_TILE: e.tile("image_pixels"),
            }
        )
