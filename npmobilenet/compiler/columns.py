"""The columns that several kinds of step share, and the weights packed as the kernels read them."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
from npmobilenet_kernels.drivers.step_table import Activation, Field, Kind, Producer, Product
from npmobilenet_kernels.microkernels.symbols import STEM_CHANNELS, STEM_PITCH, depthwise_choice, gemm_name, simple_name
from npmobilenet_kernels.runtime import packing
from npmobilenet_kernels.runtime.cpu import CpuTarget, tile_rows
from npmobilenet_kernels.runtime.job import LINE
from numpy.typing import ArrayLike

from npmobilenet.compiler import arena
from npmobilenet.compiler.arena import ALIGNMENT, FLOAT_BYTES, Memory
from npmobilenet.compiler.blocking import Blocking, ceil_div, round_up
from npmobilenet.compiler.ir import Conv, Depthwise, GlobalMax, GlobalPool, Image, Operations, Weighted
from npmobilenet.types import Array, Pair, Shape


@dataclass(frozen=True)
class Packed:
    """The address of packed weights.

    Attributes:
        offset: from the first of all, in bytes.
        count: number of values.
    """

    offset: int
    count: int


@dataclass(frozen=True)
class Tile:
    """The address of a compiled tile, as its symbol."""

    symbol: str


Columns = Mapping[int, int | Packed | Tile]


@dataclass(frozen=True)
class Record:
    """What the kernels are told about a step.

    Attributes:
        columns: {Field, or Field + Product: value}, for the columns that the step uses.
        scratch: bytes of working memory per thread.
        inner: the step that makes this one's input row by row, if there is one.
    """

    columns: Columns
    scratch: int = 0
    inner: "Record | None" = None


class Encoder:
    """The context in which steps are encoded.

    Args:
        ops: the fused operations; the first is the network's input.
        memory: the place of every value in the arena.
        target: the CPU.
        blocking: how work is cut.

    Attributes:
        shapes: of every value, without the batch axis.
        vector: bytes of a vector.
        weights: packed weights.
    """

    def __init__(self, ops: Operations, memory: Memory, target: CpuTarget, blocking: Blocking) -> None:
        self.shapes: Mapping[str, Shape] = {op.name: op.shape for op in ops}
        self.memory = memory
        self.target = target
        self.blocking = blocking
        self.vector = target.width * FLOAT_BYTES
        self.weights = arena.PackedWeights(2 * FLOAT_BYTES * sum(op.weight_count for op in ops))
        self._image = ops[0].shape
        self._zeros = self.pack(np.zeros(self._longest_row(ops)))

    def _longest_row(self, ops: Operations) -> int:
        """Floats in the longest row of a map or of the image, padding included: zeros that stand for a row outside."""
        width = self.target.width
        longest = self.target.panel * width  # the bias of a sum that continues
        for op in ops:
            if len(op.shape) == 3:
                _, W, C = op.shape
                longest = max(longest, W * width, (W + 16) * C if isinstance(op, Image) else 0)
        return longest

    def blocks(self, channels: int) -> int:
        """Number of vectors that hold the channels."""
        return ceil_div(channels, self.target.width)

    def panels(self, channels: int) -> int:
        """Number of panels that hold the channels."""
        return ceil_div(self.blocks(channels), self.target.panel)

    def pack(self, values: ArrayLike) -> Packed:
        """Append values to the packed weights."""
        return Packed(self.weights.add(values), np.size(values))

    def pack_matrix(self, kernel: Array, panel: int = 1) -> Packed:
        """Append a (K, N) matrix to the packed weights, in panels of `panel` vectors."""
        offset = self.weights.add_matrix(kernel, self.target.width, panel)
        return Packed(offset, packing.packed_size(kernel.shape, self.target.width))

    def tile(self, operation: str) -> Tile:
        """The tile of an operation that has only one."""
        return Tile(simple_name(operation, self.target))

    def frame(self, kind: Kind, shape: Shape) -> Columns:
        """The columns of every step; shape is that of the value made."""
        return {
            Field.KIND: kind,
            Field.VECTOR: self.vector,
            Field.PANEL: self.target.panel,
            Field.ZEROS: self._zeros,
            **self.grid(shape),
        }

    def grid(self, shape: Shape) -> Columns:
        """Rows and columns of a map; any other value is one row of its vectors."""
        *sides, _ = shape
        H, W = sides if len(sides) == 2 else (1, prod(sides))
        return {Field.HEIGHT: H, Field.WIDTH: W}

    def source(self, name: str) -> Columns:
        """The map read."""
        place = self.memory[name]
        return {Field.SOURCE: place.offset, Field.SOURCE_BLOCK: place.pixels * self.vector}

    def made(self, name: str) -> Columns:
        """The value made."""
        place = self.memory[name]
        return {Field.TARGET: place.offset, Field.TARGET_BLOCK: place.pixels * self.vector}

    def pool(self, pool: GlobalPool, shape: Shape) -> Columns:
        """A global pool over a map (H, W, C)."""
        return {
            Field.POOL_TILE: self.tile("largest" if isinstance(pool, GlobalMax) else "pool"),
            Field.ONE_OVER_PIXELS: self.pack(1 / prod(shape[:2])),
        }

    def pool_in_place(self, pool: GlobalPool | None, shape: Shape) -> Columns:
        """A global pool taken by the step that makes the map."""
        if pool is None:
            return {}
        return {Field.AVERAGE: self.memory[pool.name].offset, **self.pool(pool, shape)}

    def filter(self, op: Depthwise) -> Columns:
        """A depthwise layer, and the repetition of its input's channels if there is a depth multiplier."""
        H_in, W_in, c_in = self.shapes[op.inputs[0]]
        (K, K_w, c_out), (H, W, _) = op.kernel.shape, op.shape
        (top, _), (left, _) = op.padding
        right = max((W - 1) * op.stride + op.extent[1] - left - W_in, 0)
        columns: Columns = {
            Field.SOURCE_HEIGHT: H_in,
            Field.SOURCE_WIDTH: W_in,
            Field.HEIGHT: H,
            Field.WIDTH: W,
            Field.BLOCKS: self.blocks(c_out),
            Field.SIZE: K,
            Field.SIZE_ACROSS: K_w,
            Field.STRIDE: op.stride,
            Field.DILATION: op.dilation,
            Field.TOP: top,
            Field.LEFT: left,
            Field.ACTIVATION: activation(op),
            Field.WEIGHTS: self.pack(packing.pack_depthwise(op.kernel, op.bias, self.target.width)),
            Field.DEPTHWISE_TILE: Tile(depthwise_choice((K, K_w), op.stride, op.dilation, left, right, W, self.target)),
        }
        if c_out == c_in:
            return columns
        return {
            **columns,
            Field.PRODUCER_KIND: Producer.REPEAT,
            Field.MULTIPLIER: c_out // c_in,
            Field.CHANNELS: c_in,
            Field.GATHER_TILE: self.tile("repeat_channels"),
        }

    def product(self, start: Field, op: Conv, pixels: int, parts: int = 1) -> Columns:
        """A pointwise convolution in the columns from `start` on: at least `pixels` pixels, in that many parts."""
        c_in, target = op.kernel.shape[-2], self.target
        whole_rows = tile_rows(pixels, target.rows)
        rows = whole_rows, tile_rows(min(part_pixels(pixels, whole_rows, parts)), target.narrow_rows)
        product: Columns = {
            Product.PITCH: self.vector,
            Product.SEGMENTS: c_in // target.width,
            Product.LENGTH: target.width,
            Product.TAIL: c_in % target.width,
            **self.matrix(op, op.kernel, rows),
        }
        return from_column(start, product)

    def matrix(self, op: Weighted, kernel: Array, rows: Pair, *, stem: bool = False) -> Columns:
        """Weights, bias, tiles and activation of a matrix product.

        Args:
            op: the operation.
            kernel: its kernel (..., c_out), padded as the tiles read it.
            rows: pixels of the tile for whole panels, and of that for a last panel which is not whole.
            stem: the tiles are those of a first convolution.
        """
        matrix, target = kernel.reshape(-1, kernel.shape[-1]), self.target
        blocks = self.blocks(matrix.shape[1])
        last = (blocks - 1) % target.panel + 1  # vectors of the last panel
        last_rows = rows[0] if last == target.panel else rows[1]
        half = target.halves and 0 < matrix.shape[1] % target.width <= target.width // 2
        tiles: dict[int, Tile] = {Product.LAST_TILE: Tile(gemm_name(last_rows, last, target, stem=stem, half=half))}
        if blocks > target.panel:
            tiles[Product.TILE] = Tile(gemm_name(rows[0], target.panel, target, stem=stem))
        return {
            **tiles,
            Product.ROWS: rows[0],
            Product.LAST_ROWS: last_rows,
            Product.BLOCKS: blocks,
            Product.WEIGHTS: self.pack_matrix(matrix, target.panel),
            Product.PANEL_BYTES: len(matrix) * target.panel * self.vector,
            Product.FETCHED: len(matrix) // target.width * target.width // target.unroll * LINE,
            Product.BIAS: self.pack(packing.pack_vector(op.bias, target.width)),
            Product.ACTIVATION: activation(op),
        }

    def extras(self, op: Conv) -> Columns:
        """Gate and residual of a convolution."""
        residual: Columns = {Field.RESIDUAL: self.memory[op.residual].offset} if op.residual else {}
        if not op.gate:
            return residual
        return {
            **residual,
            Field.GATE: self.memory[op.gate].offset,
            Field.SCALE_TILE: self.tile("scale_weights"),
        }

    def stem(self, op: Conv) -> Columns:
        """A first convolution, which reads the image as it comes, by way of `stem_lines` bytes of scratch."""
        (H, W, channels), K, W_out = self._image, len(op.kernel), op.shape[1]
        (top, _), (left, right) = op.padding[0], self._stem_margins(op)
        rows, narrow_rows = (rows if W_out >= rows else 1 for rows in self.target.stem_rows)
        product: Columns = {
            Product.PITCH: STEM_PITCH,
            Product.SEGMENTS: K,
            Product.LENGTH: K * STEM_CHANNELS,
            Product.TAIL: 0,
            **self.matrix(op, op.kernel, (rows, narrow_rows), stem=True),
        }
        return {
            **from_column(Field.PRODUCER, product),
            Field.PRODUCER_KIND: Producer.STEM,
            Field.IMAGE_HEIGHT: H,
            Field.IMAGE_WIDTH: W,
            Field.IMAGE_CHANNELS: channels,
            Field.IMAGE_TOP: top,
            Field.IMAGE_LEFT: left,
            Field.IMAGE_RIGHT: right,
            Field.FILTER: K,
            Field.FILTER_STRIDE: op.stride,
            Field.IMAGE_SCALE: self.pack((*op.scaling, 1.0, 0.0)),
            Field.COPY_TILE: self.tile("scale_and_copy"),
        }

    def stem_lines(self, op: Conv) -> int:
        """Bytes of the K image rows under a first convolution, with zeros at their ends."""
        _, W, channels = self._image
        return round_up(len(op.kernel) * (W + sum(self._stem_margins(op))) * channels * FLOAT_BYTES, ALIGNMENT)

    def _stem_margins(self, op: Conv) -> Pair:
        """Columns of zeros on the left and right of an image row."""
        left = op.padding[1][0]
        return left, max((op.shape[1] - 1) * op.stride + len(op.kernel) - left - self._image[1], 0)


def part_pixels(pixels: int, rows: int, parts: int) -> list[int]:
    """Pixels of each part, cut at whole tiles of `rows` pixels."""
    tiles = ceil_div(pixels, rows)
    cuts = [min(part * tiles // parts * rows, pixels) for part in range(parts + 1)]
    return [end - begin for begin, end in pairwise(cuts)]


def activation(op: Weighted) -> int:
    """An epilogue's activation as the kernels number it."""
    return Activation[op.activation.upper()]


def from_column(start: Field, product: Columns) -> Columns:
    """The columns of a matrix product, counted from the column where it begins."""
    return {start + column: value for column, value in product.items()}
