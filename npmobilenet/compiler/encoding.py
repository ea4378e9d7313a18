"""A plan's steps as the table that the kernels read: one row of int64 per step.

`npmobilenet_kernels.drivers.step_table` names the columns; each kind of step writes those it uses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from npmobilenet_kernels.drivers.step_table import FIELDS, Field
from npmobilenet_kernels.runtime.cpu import CpuTarget
from npmobilenet_kernels.runtime.packing import Floats
from numpy.typing import NDArray

from npmobilenet.compiler.arena import Memory
from npmobilenet.compiler.blocking import Blocking
from npmobilenet.compiler.columns import Encoder, Packed, Record, Tile
from npmobilenet.compiler.ir import Operations
from npmobilenet.compiler.step_types import KernelStep, Step

ABSENT = -1  # an offset in the arena, where a step has no such value
OPTIONAL_FIELDS = (Field.AVERAGE, Field.RESIDUAL, Field.GATE)


@dataclass(frozen=True, eq=False)
class Table:
    """The steps of one plan as the kernels read them.

    Attributes:
        records: of each step; None for one without a kernel.
        values: (rows, FIELDS) of int64, a row per step and after them one per inner step; addresses of tiles are
            missing until `link`.
        weights: packed weights.
        tiles: {(row, column): symbol} of all tiles.
        scratch_bytes: working memory of one thread.
    """

    records: tuple[Record | None, ...]
    values: NDArray[np.int64]
    weights: Floats
    tiles: Mapping[tuple[int, int], str]
    scratch_bytes: int

    @property
    def symbols(self) -> list[str]:
        """The tiles that the steps run, each once."""
        return list(dict.fromkeys(self.tiles.values()))

    def link(self, addresses: Mapping[str, int]) -> None:
        """Fill in the addresses of the compiled tiles, by symbol."""
        for place, symbol in self.tiles.items():
            self.values[place] = addresses[symbol]


def encode(ops: Operations, steps: Sequence[Step], memory: Memory, target: CpuTarget, blocking: Blocking) -> Table:
    """The table of a plan, with its weights packed.

    Args:
        ops: the fused operations; the first is the network's input.
        steps: the steps, in order.
        memory: the place of every value in the arena.
        target: the CPU.
        blocking: how work is cut.
    """
    encoder = Encoder(ops, memory, target, blocking)
    records = tuple(step.record(encoder) if isinstance(step, KernelStep) else None for step in steps)
    return tabulate(records, encoder.weights.packed, OPTIONAL_FIELDS)


def tabulate(records: tuple[Record | None, ...], weights: Floats, optional: tuple[int, ...]) -> Table:
    """The table of the records.

    Args:
        records: of each step.
        weights: packed weights.
        optional: columns that are ABSENT where a record has no value for them; all others are 0 there.
    """
    inner = [(number, record.inner) for number, record in enumerate(records) if record and record.inner]
    values = np.zeros((len(records) + len(inner), FIELDS), np.int64)
    values[:, optional] = ABSENT
    tiles: dict[tuple[int, int], str] = {}
    for row, record in enumerate([*records, *(record for _, record in inner)]):
        for column, value in record.columns.items() if record else ():
            match value:
                case Packed():
                    values[row, column] = weights.ctypes.data + value.offset
                case Tile():
                    tiles[row, column] = value.symbol
                case _:
                    values[row, column] = value
    for row, (outer, _) in enumerate(inner, len(records)):
        values[outer, Field.INNER] = values[row].ctypes.data
    scratch = max((record.scratch for record in records if record), default=0)
    return Table(records, values, weights, tiles, scratch)
