"""The columns that several kinds of step on bytes share, and what they pack."""

from collections.abc import Mapping
from math import prod

import numpy as np
from npmobilenet_kernels.drivers.byte_table import ByteField
from npmobilenet_kernels.drivers.step_table import Kind
from npmobilenet_kernels.microkernels.byte_catalog import byte_name
from npmobilenet_kernels.runtime.byte_packing import LANES
from npmobilenet_kernels.runtime.cpu import ByteTarget

from npmobilenet.compiler.arena import Memory, PackedWeights
from npmobilenet.compiler.blocking import ceil_div
from npmobilenet.compiler.byte_operations import ByteOperation
from npmobilenet.compiler.byte_requantization import Requantized
from npmobilenet.compiler.columns import Columns, Packed, Tile
from npmobilenet.compiler.ir import Operations
from npmobilenet.types import Array, Shape

UNITS = 8  # of work that a step should have at least, so that threads share it evenly


class ByteEncoder:
    """The context in which steps on bytes are encoded.

    Args:
        ops: the operations; the first is the network's input.
        memory: the place of every value in the arena.
        target: the CPU.
        flip: bits in which bytes of the image differ from those that are stored.

    Attributes:
        shapes: of every value, without the batch axis.
        weights: packed weights, records and tables.
    """

    def __init__(self, ops: Operations, memory: Memory, target: ByteTarget, flip: int) -> None:
        self.shapes: Mapping[str, Shape] = {op.name: op.shape for op in ops}
        self.memory = memory
        self.target = target
        self.flip = flip
        self.weights = PackedWeights(2 * sum(op.weight_count for op in ops) + 64 * len(ops))

    def pack(self, values: Array) -> Packed:
        """Append values, in their own type, to what is packed."""
        return Packed(self.weights.add_bytes(values), values.size)

    def frame(self, kernel: str, source: str, target: str, units: int) -> Columns:
        """The columns of every step: the maps read and made, and the kernel."""
        return {
            ByteField.KIND: Kind.BYTES,
            ByteField.KERNEL: Tile(byte_name(kernel, self.target)),
            ByteField.UNITS: units,
            ByteField.PARTS: 1,
            **self._map(source, ByteField.SOURCE, ByteField.SOURCE_HEIGHT, ByteField.SOURCE_WIDTH),
            **self._map(target, ByteField.TARGET, ByteField.HEIGHT, ByteField.WIDTH),
            ByteField.PIXELS: pixels_of(self.shapes[target]),
            ByteField.BLOCKS: self.blocks(target),
        }

    def _map(self, name: str, offset: ByteField, height: ByteField, width: ByteField) -> Columns:
        H, W = sides_of(self.shapes[name])
        columns: Columns = {height: H, width: W}
        if self.memory.stored[name] not in self.memory.places:  # the image, as it comes
            return columns
        place = self.memory[name]
        return {**columns, offset: place.offset, offset + 1: place.pixels * LANES}

    def parts(self, name: str, count: int) -> tuple[int, int]:
        """Parts of the `count` rows or pixels of each block, and units in all."""
        blocks = self.blocks(name)
        parts = max(1, min(count, ceil_div(UNITS, blocks)))
        return parts, parts * blocks

    def blocks(self, name: str) -> int:
        """Blocks of 16 channels of a value."""
        return ceil_div(self.shapes[name][-1], LANES)

    def requantization(self, op: ByteOperation, requantized: Requantized) -> Columns:
        """Records, limits and table of what an operation makes."""
        return {
            ByteField.RECORDS: self.pack(requantized.records),
            ByteField.LIMITS: self.pack(requantized.limits),
            **self.table(op),
        }

    def table(self, op: ByteOperation) -> Columns:
        """The table after what an operation makes, if it has one."""
        return {} if op.table is None else {ByteField.TABLE: self.pack(op.table)}

    def other(self, name: str, repeated: bool = False) -> Columns:
        """The second input; repeated: one pixel that all pixels of the first see."""
        place = self.memory[name]
        return {
            ByteField.OTHER: place.offset,
            ByteField.OTHER_BLOCK: place.pixels * LANES,
            ByteField.OTHER_PITCH: 0 if repeated else LANES,
        }

    def row_of(self, byte: int, pixels: int) -> Packed:
        """A row of pixels whose bytes are all the same."""
        return self.pack(np.full(pixels * LANES, byte, np.uint8))


def sides_of(shape: Shape) -> tuple[int, int]:
    """Rows and columns of a map; any other value is one row of pixels."""
    *sides, _ = shape
    return (sides[0], sides[1]) if len(sides) == 2 else (1, prod(sides))


def pixels_of(shape: Shape) -> int:
    """Product of all axes but the last."""
    return prod(shape[:-1])
