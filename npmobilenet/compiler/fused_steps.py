"""Steps of several operations, which pass their values on in cache.

BandStep         [convolution, then] depthwise [, then projection], a band of a few rows at a time
DepthwiseStep    [pointwise, then] depthwise [, then global pool], a panel of channels at a time
PointwiseStep    pointwise [, then global pool], a panel of output channels at a time
"""

from dataclasses import dataclass
from math import prod

from npmobilenet_kernels.drivers.step_table import SCRATCH_HEADER, Field, Kind, Producer
from npmobilenet_kernels.runtime.cpu import tile_rows

from npmobilenet.compiler.arena import FLOAT_BYTES
from npmobilenet.compiler.blocking import ceil_div
from npmobilenet.compiler.columns import Columns, Encoder, Record
from npmobilenet.compiler.ir import Conv, Depthwise, GlobalPool, Operation
from npmobilenet.compiler.step_types import KernelStep


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
        (H, W, C), (_, W_in, c_in) = op.shape, e.shapes[op.inputs[0]]
        producer, lines, inner = self._encode_producer(e, W_in)
        ring_row = e.blocks(C) * W_in * e.vector if self.producer or c_in != C else 0  # bytes of a row of its input
        out_row = e.blocks(C) * W * e.vector if self.projection else 0

        def ring(rows: int) -> int:
            """Input rows under a number of output rows."""
            return (rows - 1) * op.stride + op.extent[0]

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
