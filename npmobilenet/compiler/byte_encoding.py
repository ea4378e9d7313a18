"""The table of an 8-bit plan."""

from collections.abc import Sequence

from npmobilenet_kernels.drivers.byte_table import ByteField
from npmobilenet_kernels.runtime.cpu import ByteTarget

from npmobilenet.compiler.arena import Memory
from npmobilenet.compiler.byte_columns import ByteEncoder
from npmobilenet.compiler.byte_steps import ByteStep
from npmobilenet.compiler.encoding import Table, tabulate
from npmobilenet.compiler.ir import Operations
from npmobilenet.compiler.step_types import Step

OPTIONAL_FIELDS = (ByteField.SUMS,)


def encode_bytes(ops: Operations, steps: Sequence[Step], memory: Memory, target: ByteTarget, flip: int) -> Table:
    """The table of a plan, with its weights packed.

    Args:
        ops: the operations; the first is the network's input.
        steps: the steps, in order.
        memory: the place of every value in the arena.
        target: the CPU.
        flip: bits in which bytes of the image differ from those that are stored.
    """
    encoder = ByteEncoder(ops, memory, target, flip)
    records = tuple(step.record(encoder) if isinstance(step, ByteStep) else None for step in steps)
    return tabulate(records, encoder.weights.packed, OPTIONAL_FIELDS)
