"""The table of an 8-bit plan."""

from collections.abc import Sequence

from npmobilenet_kernels.drivers.byte_table import ByteField
from npmobilenet_kernels.runtime.cpu import ByteTarget

from npmobilenet.compiler.arena import Memory, PackedWeights
from npmobilenet.compiler.encoding import Table, tabulate
from npmobilenet.compiler.ir import Operations
from npmobilenet.compiler.step_types import Step


def encode_bytes(ops: Operations, steps: Sequence[Step], memory: Memory, target: ByteTarget) -> Table:
    """The table of a plan, with its weights packed."""
    weights = PackedWeights(64)
    records = tuple(None for step in steps)
    return tabulate(records, weights.packed, (ByteField.SUMS,))
