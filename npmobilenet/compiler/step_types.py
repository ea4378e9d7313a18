"""Steps: what the kernels compute in one go, a dataclass per kind with only its own fields.

    BandStep         [convolution, then] depthwise [, then projection], a band of a few rows at a time
    DepthwiseStep    [pointwise, then] depthwise [, then global pool], a panel of channels at a time
    PointwiseStep    pointwise [, then global pool], a panel of output channels at a time
    StemStep         the first convolution by itself, row by row
    ConvStep         any convolution: im2col, then matrix product
    DenseStep, PoolStep, AddStep, SoftmaxStep, SigmoidStep
    ImageStep        the network's input [, scaled], turned into a map in blocks of channels
    ReferenceStep    an operation without a kernel

`record` is what the kernels are told about a step: the columns that it uses of `npmobilenet_kernels.steps`.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

import numpy as np
from npmobilenet_kernels import layout
from npmobilenet_kernels.lanes import tile_rows
from npmobilenet_kernels.steps import SCRATCH_HEADER, Field, Kind, Producer, Product
from npmobilenet_kernels.tiles import gemv_name

from npmobilenet.compiler.arena import FLOAT_BYTES
from npmobilenet.compiler.blocking import ceil_div, round_up
from npmobilenet.compiler.columns import Columns, Encoder, Record, Tile, activation, from_column, part_pixels
from npmobilenet.compiler.ir import (
    NO_SCALING,
    Add,
    Conv,
    Dense,
    Depthwise,
    GlobalPool,
    Image,
    Operation,
    Rescale,
    Sigmoid,
    Softmax,
)
from npmobilenet.types import Shape


@dataclass(frozen=True, eq=False)
class Step:
    """One or more operations, computed in one go."""

    @property
    def ops(self) -> tuple[Operation, ...]:
        """The operations covered, in order."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """Name of the kernel, for people."""
        raise NotImplementedError

    @property
    def source(self) -> str:
        """Name of the map read first."""
        return self.ops[0].inputs[0]

    @property
    def target(self) -> str:
        """Name of the value made."""
        return self.ops[-1].name

    @property
    def makes(self) -> tuple[str, ...]:
        """Names of all values made: the target, and its global pool if that is taken along."""
        return (self.target,)

    @property
    def reads(self) -> set[str]:
        """Names of all values read."""
        inside = {op.name for op in self.ops}
        return {name for op in self.ops for name in op.reads} - inside

    @property
    def layers(self) -> list[str]:
        """Names of the layers covered; of a step without any, the name of what it makes."""
        return [name for op in self.ops for name in op.layers] or [self.target]

    @property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        return sum(op.macs for op in self.ops)

    @property
    def weight_count(self) -> int:
        """Number of values in kernels and biases."""
        return sum(op.weight_count for op in self.ops)


@dataclass(frozen=True, eq=False)
class ReferenceStep(Step):
    """An operation without a kernel, computed by its `evaluate`."""

    op: Operation

    @property
    def ops(self) -> tuple[Operation, ...]:
        return (self.op,)

    @property
    def label(self) -> str:
        return "ops (reference)"


@dataclass(frozen=True, eq=False)
class KernelStep(Step):
    """A step with a kernel, which `kind` names."""

    kind: ClassVar[Kind]

    @property
    def label(self) -> str:
        return self.kind.name.lower()

    @property
    def reads_image(self) -> bool:
        """Whether its source is the network's input as it comes, not a map in blocks of channels."""
        return False

    def encode(self, e: Encoder) -> Record:
        """The columns of this kind of step."""
        raise NotImplementedError

    def record(self, e: Encoder) -> Record:
        """All columns."""
        return self.framed(self.encode(e), e, e.made(self.target))

    def framed(self, record: Record, e: Encoder, made: Columns) -> Record:
        """The record with the columns that all kinds of step have."""
        source: Columns = {} if self.reads_image else e.source(self.source)
        frame = {**e.frame(self.kind, e.shapes[self.target]), **source, **made}
        return replace(record, columns={**frame, **record.columns})


@dataclass(frozen=True, eq=False)
class BandStep(KernelStep):
    """A depthwise layer in bands of a few rows; what makes its input and what reads its output are done with it.

    Attributes:
        depthwise: the layer.
        producer: makes the rows that the depthwise filter reads: a pointwise or first convolution, another band step,
            which makes them one at a time, or None: they are read from the arena.
        projection: a pointwise convolution that reads the depthwise output, or None.
    """

    depthwise: Depthwise
    producer: "Conv | BandStep | None" = None
    projection: Conv | None = None

    kind = Kind.STRIP

    @property
    def ops(self) -> tuple[Operation, ...]:
        match self.producer:
            case None:
                before: tuple[Operation, ...] = ()
            case Conv():
                before = (self.producer,)
            case BandStep():
                before = self.producer.ops
        return (*before, self.depthwise, *([self.projection] if self.projection else []))

    @property
    def reads_image(self) -> bool:
        if isinstance(self.producer, BandStep):
            return self.producer.reads_image
        return self.producer is not None and self.producer.is_stem

    def encode(self, e: Encoder) -> Record:
        return self._encode(e, self.depthwise.shape[0])

    def encode_inner(self, e: Encoder) -> Record:
        """All columns of a step that makes its rows for another one, one at a time."""
        return self.framed(self._encode(e, 1), e, {})

    def _encode(self, e: Encoder, most_rows: int) -> Record:
        op, filter_columns = self.depthwise, e.filter(self.depthwise)
        (H, W, C), (_, W_in, c_in), K = op.shape, e.shapes[op.inputs[0]], len(op.kernel)
        producer, lines, inner = self._encode_producer(e, W_in)
        ring_row = e.blocks(C) * W_in * e.vector if self.producer or c_in != C else 0  # bytes of a row of its input
        out_row = e.blocks(C) * W * e.vector if self.projection else 0

        def ring(rows: int) -> int:
            """Input rows under a number of output rows."""
            return (rows - 1) * op.stride + K

        def fits(rows: int) -> bool:
            return ring(rows) * ring_row + rows * out_row <= e.blocking.cache

        rows = 1
        while rows < most_rows and rows * W < e.blocking.band_pixels and fits(rows + 1):
            rows += 1
        filtered = lines + ring(rows) * ring_row
        scratch = SCRATCH_HEADER + filtered + rows * out_row
        band: Columns = {
            Field.STRIP_ROWS: rows,
            Field.UNITS: ceil_div(H, rows),
            Field.RING: ring(rows),
            Field.LINES: lines,
            Field.FILTERED: filtered,
        }
        last_rows = H - (H - 1) // rows * rows  # of the last band
        projection = self._encode_projection(e, last_rows * W)
        columns = {**filter_columns, **producer, **band, **projection}
        if inner is None:
            return Record(columns, scratch)
        return Record({**columns, Field.INNER_SCRATCH: scratch}, scratch + inner.scratch, inner)

    def _encode_producer(self, e: Encoder, W_in: int) -> tuple[Columns, int, Record | None]:
        """Columns of the producer, bytes of scratch for the image rows it reads, and its record if it is a step."""
        match self.producer:
            case None:
                return {}, 0, None
            case BandStep():
                return {Field.PRODUCER_KIND: Producer.STRIP}, 0, self.producer.encode_inner(e)
            case Conv() if self.producer.is_stem:
                return e.stem(self.producer), e.stem_lines(self.producer), None
            case Conv():
                product = e.product(Field.PRODUCER, self.producer, W_in)
                return {Field.PRODUCER_KIND: Producer.POINTWISE, **product}, 0, None

    def _encode_projection(self, e: Encoder, pixels: int) -> Columns:
        if self.projection is None:
            return {}
        return {**e.product(Field.MATRIX, self.projection, pixels), **e.extras(self.projection)}


@dataclass(frozen=True, eq=False)
class DepthwiseStep(KernelStep):
    """A depthwise layer, panel by panel of its channels.

    Attributes:
        depthwise: the layer.
        producer: a pointwise convolution that makes its input, or None.
        pool: a global pool over its output, or None.
    """

    depthwise: Depthwise
    producer: Conv | None = None
    pool: GlobalPool | None = None

    kind = Kind.DEPTHWISE

    @property
    def ops(self) -> tuple[Operation, ...]:
        return tuple(op for op in (self.producer, self.depthwise, self.pool) if op)

    @property
    def target(self) -> str:
        return self.depthwise.name

    @property
    def makes(self) -> tuple[str, ...]:
        return (self.target, self.pool.name) if self.pool else (self.target,)

    def encode(self, e: Encoder) -> Record:
        op = self.depthwise
        H_in, W_in, c_in = e.shapes[op.inputs[0]]
        C = op.shape[-1]
        producer: Columns = {}
        if self.producer:
            product = e.product(Field.PRODUCER, self.producer, H_in * W_in)
            producer = {Field.PRODUCER_KIND: Producer.POINTWISE, **product}
        panel = e.target.panel * H_in * W_in * e.vector if self.producer or c_in != C else 0
        units: Columns = {Field.UNITS: e.panels(C)}
        return Record(
            {**e.filter(op), **producer, **units, **e.pool_in_place(self.pool, op.shape)}, SCRATCH_HEADER + panel
        )


@dataclass(frozen=True, eq=False)
class PointwiseStep(KernelStep):
    """A pointwise convolution, panel by panel of its output channels.

    Attributes:
        conv: the convolution.
        pool: a global pool over its output, or None.
    """

    conv: Conv
    pool: GlobalPool | None = None

    kind = Kind.POINTWISE

    @property
    def ops(self) -> tuple[Operation, ...]:
        return (self.conv, self.pool) if self.pool else (self.conv,)

    @property
    def target(self) -> str:
        return self.conv.name

    @property
    def makes(self) -> tuple[str, ...]:
        return (self.target, self.pool.name) if self.pool else (self.target,)

    def encode(self, e: Encoder) -> Record:
        (H, W, C), c_in = self.conv.shape, self.conv.kernel.shape[-2]
        panels, in_cache = e.panels(C), ceil_div(H * W * c_in * FLOAT_BYTES, e.blocking.cache)
        parts = self._parts(e, panels, in_cache)
        own: Columns = {
            Field.PIXEL_PARTS: parts,
            Field.UNITS: parts * panels,
            Field.PARTS_FIRST: int(in_cache == 1),
        }
        product, extras = e.product(Field.MATRIX, self.conv, H * W, parts), e.extras(self.conv)
        scaled_panel = c_in * e.target.panel * e.vector if self.conv.gate else 0
        return Record({**product, **extras, **own, **e.pool_in_place(self.pool, self.conv.shape)}, scaled_panel)

    def _parts(self, e: Encoder, panels: int, in_cache: int) -> int:
        """Number of parts into which the pixels are split: enough for all threads, and each fits the cache."""
        if self.pool:
            return 1
        pixels = prod(self.conv.shape[:2])
        tiles = ceil_div(pixels, tile_rows(pixels, e.target.rows))
        return max(1, min(max(ceil_div(e.blocking.units, panels), in_cache), tiles // e.blocking.part_tiles))


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
            Field.TOP: op.padding[0][0],
            Field.LEFT: op.padding[1][0],
            Field.GATHER_TILE: e.tile("gather_pixels"),
            Field.UNITS: parts * groups,
            Field.PIXEL_PARTS: parts,
            Field.PANEL_GROUPS: groups,
            Field.CHUNK: chunk,
            Field.SUMS: chunk * segment,
            Field.SUMS_BYTES: sums,
            Field.FINISH_TILE: e.tile("finish_pixels"),
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
            Product.WEIGHTS: e.pack(layout.pack_matrix(matrix, e.target.width)),
            Product.BIAS: e.pack(layout.pack_vector(self.op.bias, e.target.width)),
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
        shape: Shape = e.shapes[self.source]
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
