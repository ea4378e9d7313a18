"""A plan's steps as the table that the kernels read, and the weights packed as they want them.

One row of int64 a step; `npmobilenet_kernels.steps` names the columns.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np
from npmobilenet_kernels import layout
from npmobilenet_kernels.lanes import Lanes, tile_rows
from npmobilenet_kernels.steps import FIELDS, LINE, SCRATCH_HEADER, Activation, Field, Kind, Producer, Product
from npmobilenet_kernels.tiles import (
    STEM_CHANNELS,
    STEM_PITCH,
    depthwise_choice,
    gemm_name,
    gemv_name,
    simple_name,
)
from numpy.typing import ArrayLike, NDArray

from npmobilenet.compiler.passes import Op, Ops
from npmobilenet.compiler.scheduling import CACHE, FLOAT_BYTES, Place, Step
from npmobilenet.reference.layers import Rescaling
from npmobilenet.types import Array, Shape

ALIGNMENT = 64  # bytes: a cache line, and the widest vector
STRIP_PIXELS = 56  # output pixels of a strip, where they fit into CACHE
PARTS = 8  # a pointwise step with fewer panels than this splits its pixels as well, so that threads share evenly
CONV_PIXELS = 196  # output pixels of a general convolution for which its weights are read once
GROUP_PANELS = 4  # panels that use the pixels gathered for a general convolution, where there are so many
PART_TILES = 2  # but into parts of so many tiles at least: the last tile may overlap the one before

Row = dict[int, int]


class Table:
    """Rows for the steps of one plan.

    Args:
        ops: the fused operations; the first is the network's input.
        steps: what is done in which order.
        place: where a value lies in the arena, by its name.
        lanes: what the CPU offers.

    Attributes:
        rows: {column: value} of each step, None for one that has no kernel. Weights are offsets into `weights`, tiles
            are numbers of `symbols`.
        symbols: the tiles that the steps need.
        scratch_bytes: working memory of one thread.
        weights: packed weights.
        values: the table, (steps, FIELDS), with addresses instead of offsets of weights; of tiles once they are linked.
    """

    def __init__(self, ops: Ops, steps: Sequence[Step], place: Callable[[str], Place], lanes: Lanes) -> None:
        self._input = ops[0]
        self._shapes: dict[str, Shape] = {op.name: op.shape for op in ops}
        self._place = place
        self._lanes = lanes
        self.symbols: list[str] = []
        self._vector = lanes.width * FLOAT_BYTES
        self._packing = Weights(2 * FLOAT_BYTES * sum(op.kernel.size for op in ops if op.kernel is not None))
        self._zeros = self._packing.add(np.zeros(self._longest_row(ops)))
        self._inner_rows: list[Row] = []
        self.rows = [None if step.kind is None else self._row(step) for step in steps]
        self.scratch_bytes = max((row.get(Field.SCRATCH, 0) for row in self.rows if row), default=0)
        self.weights = self._packing.packed
        self.values = self._written()

    def link(self, tiles: Mapping[str, int]) -> None:
        """Put in the addresses of the compiled tiles, by symbol."""
        for values, row in zip(self.values, [*self.rows, *self._inner_rows], strict=True):
            for name in TILE_FIELDS & (row or {}).keys():
                values[name] = tiles[self.symbols[(row or {})[name]]]

    def _longest_row(self, ops: Ops) -> int:
        """Floats in the longest row of a map or of the image, with its zeros: so many zeros stand for a row outside."""
        longest = self._lanes.panel * self._lanes.width  # the bias of a sum that goes on
        for op in ops:
            if len(op.shape) == 3:
                _, W, C = op.shape
                longest = max(longest, W * self._lanes.width, (W + 16) * C if op.kind == "input" else 0)
        return longest

    def _written(self) -> NDArray[np.int64]:
        rows = [*self.rows, *self._inner_rows]
        table = np.zeros((len(rows), FIELDS), np.int64)
        base = self.weights.ctypes.data
        for values, row in zip(table, rows, strict=True):
            for name, value in (row or {}).items():
                values[name] = value + (base if name in WEIGHT_FIELDS else 0)
            if row and Field.INNER in row:
                values[Field.INNER] = table[len(self.rows) + row[Field.INNER]].ctypes.data
        return table

    def _row(self, step: Step, *, inner: bool = False) -> Row:
        """One row of the table, and the scratch that the step needs as Field.SCRATCH.

        Args:
            step: what the row is for. inner: whether it makes its rows for another step, one at a time.
        """
        write = {
            Kind.STRIP: self._strip, Kind.DEPTHWISE: self._depthwise, Kind.POINTWISE: self._pointwise,
            Kind.DENSE: self._dense, Kind.POOL: self._pool, Kind.ADD: self._add, Kind.STEM: self._stem,
            Kind.SOFTMAX: self._softmax, Kind.SIGMOID: self._sigmoid, Kind.CONV: self._conv, Kind.IMAGE: self._to_map,
        }  # fmt: skip
        assert step.kind is not None
        *sides, _ = self._shapes[step.ops[0].inputs[0] if step.kind == Kind.POOL else step.target]
        height, width = sides if len(sides) == 2 else (1, prod(sides))  # a value that is no map: one row of its vectors
        row: Row = {
            Field.KIND: step.kind, Field.VECTOR: self._vector, Field.PANEL: self._lanes.panel, Field.ZEROS: self._zeros,
            Field.HEIGHT: height, Field.WIDTH: width, Field.ONE_OVER_PIXELS: self._packing.add(1 / (height * width)),
            Field.AVERAGE: self._place(step.average).offset if step.average else -1, Field.GATE: -1, Field.RESIDUAL: -1,
        }  # fmt: skip
        if step.average or step.kind == Kind.POOL:
            largest = any(op.kind == "maximum" for op in step.ops)
            row[Field.POOL_TILE] = self._simple_tile("largest" if largest else "pool")
        if not inner:
            row |= self._map(Field.TARGET, Field.TARGET_BLOCK, step.target)
        if not step.reads_image:
            row |= self._map(Field.SOURCE, Field.SOURCE_BLOCK, step.source)
        return row | (self._strip(step, inner=True) if inner else write[step.kind](step))

    def _strip(self, step: Step, *, inner: bool = False) -> Row:
        """A step in strips of a few rows; of one row, if another step asks for them."""
        op = _present(step.depthwise)
        row = self._filter(op)
        (H, W, C), K = op.shape, row[Field.SIZE]
        in_row = self._blocks(C) * row[Field.SOURCE_WIDTH] * self._vector  # bytes of one row of the producer's output
        out_row = self._blocks(C) * W * self._vector if step.pointwise is not None else 0
        lines = 0
        if step.inner is not None:
            row |= {Field.PRODUCER_KIND: Producer.STRIP}
        elif step.producer is None:
            in_row = in_row if Field.MULTIPLIER in row else 0
        elif step.producer.is_pointwise:
            row |= {Field.PRODUCER_KIND: Producer.POINTWISE}
            row |= self._product(Field.PRODUCER, step.producer, row[Field.SOURCE_WIDTH])
        else:
            row |= self._image(step.producer)
            lines = row[Field.SCRATCH] - SCRATCH_HEADER

        def ring(rows: int) -> int:
            return (rows - 1) * op.stride + K

        rows = 1
        most = 1 if inner else H
        while rows < most and rows * W < STRIP_PIXELS and ring(rows + 1) * in_row + (rows + 1) * out_row <= CACHE:
            rows += 1
        row |= {
            Field.STRIP_ROWS: rows, Field.UNITS: -(-H // rows), Field.RING: ring(rows), Field.LINES: lines,
            Field.FILTERED: lines + ring(rows) * in_row,
            Field.SCRATCH: SCRATCH_HEADER + lines + ring(rows) * in_row + rows * out_row,
        }  # fmt: skip
        if step.inner is not None:
            source = self._row(step.inner, inner=True)
            row |= {Field.INNER: len(self._inner_rows), Field.INNER_SCRATCH: row[Field.SCRATCH]}
            row[Field.SCRATCH] += source.pop(Field.SCRATCH)
            self._inner_rows.append(source)
        if step.pointwise is not None:
            last = H - (H - 1) // rows * rows  # rows of the last strip
            row |= self._product(Field.MATRIX, step.pointwise, last * W) | self._extras(step.pointwise)
        return row

    def _depthwise(self, step: Step) -> Row:
        row = self._filter(_present(step.depthwise))
        pixels = row[Field.SOURCE_HEIGHT] * row[Field.SOURCE_WIDTH]
        row |= {Field.UNITS: -(-row[Field.BLOCKS] // self._lanes.panel), Field.SCRATCH: SCRATCH_HEADER}
        if step.producer is not None:
            row |= {Field.PRODUCER_KIND: Producer.POINTWISE}
            row |= self._product(Field.PRODUCER, step.producer, pixels)
        if Field.PRODUCER_KIND in row:
            row[Field.SCRATCH] += self._lanes.panel * pixels * self._vector
        return row

    def _pointwise(self, step: Step) -> Row:
        op = _present(step.pointwise)
        H, W, C = op.shape
        c_in = _weights(op)[0].shape[-2]
        panels = -(-self._blocks(C) // self._lanes.panel)
        tiles = -(-H * W // tile_rows(H * W, self._lanes.rows))
        in_cache = -(-H * W * c_in * FLOAT_BYTES // CACHE)
        parts = 1 if step.average else max(1, min(max(-(-PARTS // panels), in_cache), tiles // PART_TILES))
        return self._product(Field.MATRIX, op, H * W, parts) | self._extras(op) | {
            Field.PIXEL_PARTS: parts, Field.UNITS: parts * panels, Field.PARTS_FIRST: int(in_cache == 1),
            Field.SCRATCH: c_in * self._lanes.panel * self._vector if op.gate else 0,
        }  # fmt: skip

    def _conv(self, step: Step) -> Row:
        op = _present(step.pointwise)
        (H, W, _), (H_in, W_in, c_in), lanes = op.shape, self._shapes[op.inputs[0]], self._lanes
        kernel, _ = _weights(op)
        K_h, K_w, _, c_out = kernel.shape
        length = (
            lanes.width if c_in > lanes.width else -(-c_in // lanes.unroll) * lanes.unroll
        )  # values of a tap and block
        segments = K_h * K_w * self._blocks(c_in)
        padded = np.zeros((K_h, K_w, segments // (K_h * K_w) * length, c_out))
        padded[:, :, :c_in] = kernel
        rows, panels = tile_rows(H * W, lanes.rows), -(-self._blocks(c_out) // lanes.panel)
        tiles = -(-H * W // rows)
        groups = max(1, min(PARTS, panels // GROUP_PANELS))
        parts = max(1, min(max(-(-H * W // CONV_PIXELS), -(-PARTS // groups)), tiles // 2))  # two whole tiles at least
        pixels = _parts(H * W, rows, parts)
        segment = int(pixels.max()) * self._vector
        rounds = -(-segments // max(1, CACHE // segment))
        chunk = -(-segments // rounds)
        sums = -(-panels // groups) * lanes.panel * segment
        product = {
            Product.PITCH: self._vector, Product.SEGMENTS: segments, Product.LENGTH: length, Product.TAIL: 0,
        } | self._panels(
            replace(op, kernel=padded), (rows, tile_rows(int(pixels.min()), lanes.narrow_rows)), stem=False
        )  # fmt: skip
        return {Field.MATRIX + column: value for column, value in product.items()} | self._extras(op) | {
            Field.SOURCE_HEIGHT: H_in, Field.SOURCE_WIDTH: W_in, Field.BLOCKS: self._blocks(c_in),
            Field.CHANNELS: c_in, Field.SIZE: K_h, Field.SIZE_ACROSS: K_w, Field.STRIDE: op.stride,
            Field.TOP: op.zeros[0][0], Field.LEFT: op.zeros[1][0],
            Field.GATHER_TILE: self._simple_tile("gather_pixels"),
            Field.UNITS: parts * groups, Field.PIXEL_PARTS: parts, Field.PANEL_GROUPS: groups, Field.CHUNK: chunk,
            Field.SUMS: chunk * segment, Field.SUMS_BYTES: sums, Field.FINISH_TILE: self._simple_tile("finish_pixels"),
            Field.SCRATCH: chunk * segment + 2 * sums,
        }  # fmt: skip

    def _to_map(self, step: Step) -> Row:
        H, _, C = self._input.shape
        layer = step.ops[0].layer if step.ops else None
        scale = (layer.scale, layer.offset) if isinstance(layer, Rescaling) else (1.0, 0.0)
        return {
            Field.UNITS: H, Field.CHANNELS: C, Field.BLOCKS: self._blocks(C),
            Field.IMAGE_SCALE: self._packing.add(scale), Field.GATHER_TILE: self._simple_tile("image_pixels"),
        }  # fmt: skip

    def _dense(self, step: Step) -> Row:
        op = _present(step.pointwise)
        kernel, bias = _weights(op)
        matrix = kernel.reshape(kernel.shape[-2:])
        blocks = self._blocks(op.shape[-1])
        streams = next(streams for streams in self._lanes.streams if streams <= blocks)
        return {
            Field.UNITS: -(-blocks // streams), Field.GEMV_PANELS: streams,
            Field.GEMV_TILE: self._tile(gemv_name(streams, self._lanes)),
            Field.MATRIX + Product.BLOCKS: blocks, Field.MATRIX + Product.LENGTH: len(matrix),
            Field.MATRIX + Product.WEIGHTS: self._packing.add(layout.pack_matrix(matrix, self._lanes.width)),
            Field.MATRIX + Product.BIAS: self._packing.add(layout.pack_vector(bias, self._lanes.width)),
            Field.MATRIX + Product.ACTIVATION: Activation[op.activation.upper()],
        }  # fmt: skip

    def _pool(self, step: Step) -> Row:
        return {Field.UNITS: self._blocks(self._shapes[step.source][-1])}

    def _add(self, step: Step) -> Row:
        other = self._place(step.ops[0].inputs[1]).offset
        units = self._blocks(self._shapes[step.target][-1])
        return {Field.UNITS: units, Field.RESIDUAL: other, Field.ADD_TILE: self._simple_tile("add_pixels")}

    def _softmax(self, step: Step) -> Row:
        return {
            Field.UNITS: self._place(step.target).pixels, Field.CHANNELS: self._shapes[step.target][-1],
            Field.CURVE_TILE: self._simple_tile("softmax"),
        }  # fmt: skip

    def _sigmoid(self, step: Step) -> Row:
        return {
            Field.UNITS: self._blocks(self._shapes[step.target][-1]),
            Field.CURVE_TILE: self._simple_tile("sigmoid"),
        }

    def _stem(self, step: Step) -> Row:
        op = _present(step.pointwise)
        return self._image(op) | {Field.SOURCE_WIDTH: op.shape[1], Field.UNITS: op.shape[0]}

    def _filter(self, op: Op) -> Row:
        """The depthwise layer itself, and the repeating of its input's channels, if there is a depth multiplier."""
        kernel, bias = _weights(op)
        H_in, W_in, c_in = self._shapes[op.inputs[0]]
        (K, across, c_out), left, W = kernel.shape, op.zeros[1][0], op.shape[1]
        right = max((W - 1) * op.stride + across - left - W_in, 0)
        tile = depthwise_choice((K, across), op.stride, left, right, W, self._lanes)
        repeat: Row = {}
        if c_out > c_in:
            repeat = {
                Field.PRODUCER_KIND: Producer.REPEAT, Field.MULTIPLIER: c_out // c_in, Field.CHANNELS: c_in,
                Field.GATHER_TILE: self._simple_tile("repeat_channels"),
            }  # fmt: skip
        return repeat | {
            Field.SOURCE_HEIGHT: H_in, Field.SOURCE_WIDTH: W_in, Field.HEIGHT: op.shape[0], Field.WIDTH: W,
            Field.BLOCKS: self._blocks(c_out), Field.SIZE: K, Field.SIZE_ACROSS: across, Field.STRIDE: op.stride,
            Field.TOP: op.zeros[0][0], Field.LEFT: left, Field.ACTIVATION: Activation[op.activation.upper()],
            Field.WEIGHTS: self._packing.add(layout.pack_depthwise(kernel, bias, self._lanes.width)),
            Field.DEPTHWISE_TILE: self._tile(tile),
        }  # fmt: skip

    def _product(self, start: int, op: Op, pixels: int, parts: int = 1) -> Row:
        """A pointwise layer, in columns from `start` on: at least `pixels` pixels at a time, or `parts` of them."""
        kernel, _ = _weights(op)
        c_in, lanes = kernel.shape[-2], self._lanes
        rows = tile_rows(pixels, lanes.rows)
        choice = rows, tile_rows(int(_parts(pixels, rows, parts).min()), lanes.narrow_rows)
        row = {
            Product.PITCH: self._vector, Product.SEGMENTS: c_in // lanes.width, Product.LENGTH: lanes.width,
            Product.TAIL: c_in % lanes.width,
        }  # fmt: skip
        return {start + column: value for column, value in (row | self._panels(op, choice, stem=False)).items()}

    def _extras(self, op: Op) -> Row:
        """What a pointwise layer does beside its product."""
        row: Row = {Field.RESIDUAL: self._place(op.residual).offset if op.residual else -1}
        if op.gate:
            row |= {Field.GATE: self._place(op.gate).offset, Field.SCALE_TILE: self._simple_tile("scale_weights")}
        return row

    def _image(self, op: Op) -> Row:
        """The first convolution; its input rows are copied to the scratch's beginning, zeros at their ends."""
        kernel, _ = _weights(op)
        H, W, channels = self._input.shape
        K, W_out = len(kernel), op.shape[1]
        (top, _), (left, _) = op.zeros
        right = max((W_out - 1) * op.stride + K - left - W, 0)
        lines = K * (left + W + right) * channels * FLOAT_BYTES
        choice = tuple(rows if W_out >= rows else 1 for rows in self._lanes.stem_rows)
        product = {
            Product.PITCH: STEM_PITCH, Product.SEGMENTS: K, Product.LENGTH: K * STEM_CHANNELS, Product.TAIL: 0,
        } | self._panels(op, (choice[0], choice[1]), stem=True)  # fmt: skip
        return {Field.PRODUCER + column: value for column, value in product.items()} | {
            Field.PRODUCER_KIND: Producer.STEM, Field.IMAGE_HEIGHT: H, Field.IMAGE_WIDTH: W,
            Field.IMAGE_CHANNELS: channels, Field.IMAGE_TOP: top, Field.IMAGE_LEFT: left, Field.IMAGE_RIGHT: right,
            Field.FILTER: K, Field.FILTER_STRIDE: op.stride,
            Field.IMAGE_SCALE: self._packing.add((*op.rescale, 1.0, 0.0)),
            Field.COPY_TILE: self._simple_tile("scale_and_copy"), Field.SCRATCH: SCRATCH_HEADER + _aligned(lines),
        }  # fmt: skip

    def _panels(self, op: Op, rows: tuple[int, int], *, stem: bool) -> Row:
        """Weights, bias, tiles and activation of a product; rows are those of the whole and of the narrow tile."""
        kernel, bias = _weights(op)
        matrix, lanes = kernel.reshape(-1, kernel.shape[-1]), self._lanes
        blocks = self._blocks(matrix.shape[1])
        last = (blocks - 1) % lanes.panel + 1  # vectors of the last panel
        last_rows = rows[0] if last == lanes.panel else rows[1]
        half = lanes.halves and 0 < matrix.shape[1] % lanes.width <= lanes.width // 2
        tiles: Row = {Product.LAST_TILE: self._tile(gemm_name(last_rows, last, lanes, stem=stem, half=half))}
        if blocks > lanes.panel:
            tiles[Product.TILE] = self._tile(gemm_name(rows[0], lanes.panel, lanes, stem=stem))
        return tiles | {
            Product.ROWS: rows[0], Product.LAST_ROWS: last_rows, Product.BLOCKS: blocks,
            Product.WEIGHTS: self._packing.add(layout.pack_matrix(matrix, lanes.width, lanes.panel)),
            Product.PANEL_BYTES: len(matrix) * lanes.panel * self._vector,
            Product.FETCHED: len(matrix) // lanes.width * lanes.width // lanes.unroll * LINE,
            Product.BIAS: self._packing.add(layout.pack_vector(bias, lanes.width)),
            Product.ACTIVATION: Activation[op.activation.upper()],
        }  # fmt: skip

    def _map(self, offset: Field, block: Field, name: str) -> Row:
        place = self._place(name)
        return {offset: place.offset, block: place.pixels * self._vector}

    def _blocks(self, channels: int) -> int:
        return -(-channels // self._lanes.width)

    def _simple_tile(self, operation: str) -> int:
        return self._tile(simple_name(operation, self._lanes))

    def _tile(self, symbol: str) -> int:
        """The tile's number in `symbols`."""
        if symbol not in self.symbols:
            self.symbols.append(symbol)
        return self.symbols.index(symbol)


WEIGHT_FIELDS = {
    Field.ZEROS, Field.ONE_OVER_PIXELS, Field.IMAGE_SCALE, Field.WEIGHTS,
    *(start + column for start in (Field.PRODUCER, Field.MATRIX) for column in (Product.WEIGHTS, Product.BIAS)),
}  # fmt: skip
TILE_FIELDS = {
    Field.COPY_TILE, Field.DEPTHWISE_TILE, Field.FINISH_TILE, Field.SCALE_TILE, Field.GEMV_TILE, Field.POOL_TILE,
    Field.ADD_TILE, Field.CURVE_TILE, Field.GATHER_TILE,
    *(start + column for start in (Field.PRODUCER, Field.MATRIX) for column in (Product.TILE, Product.LAST_TILE)),
}  # fmt: skip


class Weights:
    """Packed arrays, one after the other in one aligned piece of memory.

    Args:
        room: bytes that will do, most likely; more are found where they do not. Those that stay unused cost nothing,
            since the operating system gives memory when it is first written.
    """

    def __init__(self, room: int) -> None:
        self._room = aligned_floats(room)
        self._used = 0

    def add(self, values: ArrayLike) -> int:
        """Append the values; their offset in bytes."""
        array = np.asarray(values, np.float32)
        begin, end = self._used, self._used + _aligned(array.nbytes) // FLOAT_BYTES
        if end > self._room.size:
            packed = self.packed
            self._room = aligned_floats(2 * end * FLOAT_BYTES)
            self._room[:begin] = packed
        self._room[begin : begin + array.size] = array.ravel()
        self._used = end
        return begin * FLOAT_BYTES

    @property
    def packed(self) -> layout.Floats:
        """All values in one array, each where `add` said."""
        return self._room[: self._used]


def aligned_floats(size: int) -> layout.Floats:
    """Zeros, `size` bytes from an address that ALIGNMENT divides."""
    room = np.zeros(size // FLOAT_BYTES + ALIGNMENT // FLOAT_BYTES, np.float32)
    skip = -room.ctypes.data % ALIGNMENT // FLOAT_BYTES
    return room[skip : skip + size // FLOAT_BYTES]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _parts(pixels: int, rows: int, parts: int) -> NDArray[np.int64]:
    """Pixels of each part, cut at whole tiles of so many rows."""
    tiles = -(-pixels // rows)
    return np.diff([min(part * tiles // parts * rows, pixels) for part in range(parts + 1)])


def _present(op: Op | None) -> Op:
    assert op is not None
    return op


def _weights(op: Op) -> tuple[Array, Array]:
    assert op.kernel is not None
    assert op.bias is not None
    return op.kernel, op.bias
