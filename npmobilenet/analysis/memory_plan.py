"""Memory plans: how much memory the activations of a network take on a device.

A plan is the network as a list of steps, and a buffer in one block of memory (the arena) for every tensor that a step
writes. Its size depends on the policy; each has a name in `POLICIES`, and allows what the previous one does:

    keep                every layer's output has a buffer of its own to the end
    free                a buffer is reused after its last use
    in_place            elementwise layers write over their input; zero padding is part of the convolution
    depthwise_in_place  so does a depthwise convolution, with a ring buffer of K rows of its input
    split               the inside of an inverted residual is computed some channels at a time, so that it never
                        exists as a whole (Sandler et al. 2018, arXiv:1801.04381, section 5.1)
    stripes             the first layers are computed a stripe (band of rows) at a time, from the image to a layer
                        with small feature maps; rows that two stripes depend on are computed twice

Weights are not counted: they can stay in flash, or are read once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from npmobilenet.analysis.memory_steps import (
    InPlace,
    MemoryStep,
    layer_by_layer,
    split,
    stripe_ends,
    striped,
    take_over,
)
from npmobilenet.compiler.arena import allocate
from npmobilenet.errors import ArgumentError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.transforms import fold_padding
from npmobilenet.types import Shape


@dataclass(frozen=True)
class Buffer:
    """A range of the arena, in bytes, and the first and last step that use it; tensors may occupy it in turn."""

    tensors: tuple[str, ...]
    bytes: int
    first: int
    last: int
    offset: int = 0

    def meets(self, other: "Buffer") -> bool:
        """Whether both are in use at the same step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class MemoryPlan:
    """A network as steps in an arena.

    Attributes:
        graph: the network.
        policy: its name in `POLICIES`.
        itemsize: bytes per value.
        align: every offset is a multiple of it, in bytes.
        steps: in order.
        shapes: of every tensor, without the batch axis.
        keep: no buffer is reused.
    """

    graph: Graph
    policy: str
    itemsize: int
    align: int
    steps: tuple[MemoryStep, ...]
    shapes: Mapping[str, Shape]
    keep: bool = False

    @cached_property
    def lifetimes(self) -> tuple[Buffer, ...]:
        """All buffers with their sizes and lifetimes, without offsets."""
        uses: dict[str, list[int]] = {}
        for number, step in enumerate(self.steps):
            for tensor in step.tensors:
                uses.setdefault(tensor, []).append(number)
        home: dict[str, str] = {}
        for step in self.steps:
            home.setdefault(step.writes.tensor, step.writes.tensor if step.over is None else home[step.over])
        together: dict[str, list[str]] = {}
        for tensor in uses:
            together.setdefault(home.get(tensor, tensor), []).append(tensor)
        end = len(self.steps) - 1
        outputs = set(self.graph.output_layers)
        return tuple(
            Buffer(
                tensors=tuple(tensors),
                bytes=self.itemsize * max(prod(self.shapes[tensor]) for tensor in tensors),
                first=min(uses[tensor][0] for tensor in tensors),
                last=end if self.keep or outputs.intersection(tensors) else max(uses[tensor][-1] for tensor in tensors),
            )
            for tensors in together.values()
        )

    @cached_property
    def live_bytes(self) -> tuple[int, ...]:
        """Bytes in use at each step."""
        change = [0] * (len(self.steps) + 1)
        for buffer in self.lifetimes:
            change[buffer.first] += buffer.bytes
            change[buffer.last + 1] -= buffer.bytes
        return tuple(int(live) for live in np.cumsum(change[:-1]))

    @property
    def peak_bytes(self) -> int:
        """Maximum of `live_bytes`: no arena can be smaller under this policy."""
        return max(self.live_bytes)

    @cached_property
    def buffers(self) -> tuple[Buffer, ...]:
        """All buffers with their offsets, assigned by `compiler.arena.allocate`, as the engine does."""
        buffers = dict(enumerate(self.lifetimes))
        sizes = {number: buffer.bytes for number, buffer in buffers.items()}
        lives = {number: (buffer.first, buffer.last) for number, buffer in buffers.items()}
        offsets, _ = allocate(sizes, lives, self.align)
        placed = (replace(buffer, offset=offsets[number]) for number, buffer in buffers.items())
        return tuple(sorted(placed, key=lambda buffer: (buffer.first, buffer.offset)))

    @property
    def arena_bytes(self) -> int:
        """Size of the arena."""
        return max(buffer.offset + buffer.bytes for buffer in self.buffers)

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Offset of every tensor, in bytes."""
        return {tensor: buffer.offset for buffer in self.buffers for tensor in buffer.tensors}

    @property
    def macs(self) -> int:
        """Multiply-adds of all steps: more than the graph's if stripes compute rows twice."""
        return sum(
            step.layer.macs(*(piece.shape(self.shapes[piece.tensor]) for piece in step.reads)) for step in self.steps
        )


POLICIES: Mapping[str, str] = {
    "keep": "every output has its own buffer to the end",
    "free": "buffers are reused after their last use",
    "in_place": "and elementwise layers write over their input",
    "depthwise_in_place": "and depthwise convolutions write over their input",
    "split": "and inverted residuals are computed in parts",
    "stripes": "and the first layers are computed in stripes of rows",
}


def plan(
    graph: Graph, policy: str = "in_place", *, itemsize: int = 4, parts: int = 4, stripes: int = 4, align: int = 16
) -> MemoryPlan:
    """Activation memory of a network, per image.

    Args:
        graph: the network.
        policy: a name in `POLICIES`.
        itemsize: bytes per value: 4 for float32, 2 for float16, 1 for int8.
        parts: number of parts of an inverted residual under "split" and "stripes", the t of section 5.1.
        stripes: number of stripes of the first layers under "stripes".
        align: every offset is a multiple of it, in bytes.

    Returns:
        The plan with the lowest peak that the policy allows.

    Raises:
        ArgumentError: the policy is unknown, or a number is not positive.
    """
    if policy not in POLICIES:
        raise ArgumentError(f"memory: unknown policy {policy!r}; choose from {', '.join(POLICIES)}")
    if min(itemsize, parts, stripes, align) < 1 or align % itemsize:
        raise ArgumentError(
            "memory: itemsize, parts, stripes and align must be positive, and align a multiple of itemsize, "
            f"got {itemsize}, {parts}, {stripes} and {align}"
        )

    def planned(steps: list[MemoryStep], shapes: dict[str, Shape], in_place: InPlace) -> MemoryPlan:
        steps = list(take_over(steps, shapes, in_place, graph.output_layers))
        return MemoryPlan(graph, policy, itemsize, align, tuple(steps), shapes, keep=policy == "keep")

    if policy in ("keep", "free"):
        return planned(*layer_by_layer(graph), InPlace.NOTHING)
    folded = fold_padding(graph)
    candidates = [planned(*layer_by_layer(folded), InPlace.ELEMENTWISE)]
    for in_place in (InPlace.DEPTHWISE, InPlace.STRIDED) if policy != "in_place" else ():
        candidates.append(planned(*layer_by_layer(folded), in_place))
        if policy in ("split", "stripes"):
            candidates.append(planned(*split(folded, parts), in_place))
        if policy == "stripes":
            candidates += [planned(*striped(folded, end, stripes, parts), in_place) for end in stripe_ends(folded)]
    return min(candidates, key=lambda candidate: (candidate.peak_bytes, candidate.macs, len(candidate.steps)))


def memory_table(graph: Graph, *, itemsize: int = 4, parts: int = 4, stripes: int = 4) -> tuple[MemoryPlan, ...]:
    """The plan under every policy, in the order of `POLICIES`; arguments and errors as `plan`."""
    return tuple(plan(graph, policy, itemsize=itemsize, parts=parts, stripes=stripes) for policy in POLICIES)
