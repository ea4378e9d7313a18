"""Steps of 8-bit networks: what kernels compute in one go, and what they are told.

byte_steps           the common part, and operations without a kernel
byte_product_steps   sums of products: convolutions, dense layers, and what they need beforehand
byte_simple_steps    averages, sums and products of two maps, tables, paddings, maxima
"""

from dataclasses import dataclass

from npmobilenet.compiler.byte_columns import ByteEncoder
from npmobilenet.compiler.byte_operations import ByteOperation, is_stored_as_bytes
from npmobilenet.compiler.columns import Record
from npmobilenet.compiler.step_types import ReferenceStep, Step


@dataclass(frozen=True, eq=False)
class ByteReferenceStep(ReferenceStep):
    """An operation without a kernel; what is not bytes in blocks of channels is kept outside the arena."""

    op: ByteOperation

    @property
    def makes(self) -> tuple[str, ...]:
        return (self.op.name,) if is_stored_as_bytes(self.op.result) else ()


@dataclass(frozen=True, eq=False)
class ByteStep(Step):
    """One operation that a kernel computes."""

    op: ByteOperation

    @property
    def ops(self) -> tuple[ByteOperation, ...]:
        return (self.op,)

    @property
    def label(self) -> str:
        return type(self).__name__.removesuffix("Step").removesuffix("Bytes").lower()

    def record(self, e: ByteEncoder) -> Record:
        """What the kernel is told."""
        raise NotImplementedError
