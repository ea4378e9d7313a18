"""Steps: what the kernels compute in one go. Every kind of step is a dataclass with only its own fields.

    fused_steps     several operations in one go, while what they pass on is in cache
    single_steps    one operation
    ReferenceStep   an operation without a kernel

`record` is what the kernels are told about a step: the columns that it uses, named in
`npmobilenet_kernels.drivers.step_table`.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from npmobilenet_kernels.drivers.step_table import Kind

from npmobilenet.compiler.columns import Columns, Encoder, Record
from npmobilenet.compiler.ir import Operation


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
