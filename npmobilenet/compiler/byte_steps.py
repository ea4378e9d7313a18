"""Steps of 8-bit networks: which kernel computes which operation, and what it is told."""

from dataclasses import dataclass

from npmobilenet.compiler.byte_operations import ByteOperation, is_stored_as_bytes
from npmobilenet.compiler.ir import Alias, Image, Operation, Operations
from npmobilenet.compiler.step_types import ReferenceStep, Step


@dataclass(frozen=True, eq=False)
class ByteReferenceStep(ReferenceStep):
    """An operation without a kernel; what is not bytes in blocks of channels is kept outside the arena."""

    op: ByteOperation

    @property
    def makes(self) -> tuple[str, ...]:
        return (self.op.name,) if is_stored_as_bytes(self.op.result) else ()


def select_byte_steps(ops: Operations) -> tuple[Step, ...]:
    """One step per operation, by the kernel that computes it; the image and names have none."""
    return tuple(_step(op) for op in ops if not isinstance(op, Image | Alias))


def _step(op: Operation) -> Step:
    assert isinstance(op, ByteOperation)
    return ByteReferenceStep(op)
