"""Which operations are done in one go, in which order, and where their results lie.

group      operations -> steps: as much as possible of what follows on each other while it is in cache
allocate   values with a size and a life -> offsets in one piece of memory
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod

from npmobilenet_kernels.steps import SCRATCH_HEADER, Kind
from npmobilenet_kernels.vector import ADDRESS_BYTES

from npmobilenet.compiler.passes import SINGLE_ACTIVATIONS, Op, Ops
from npmobilenet.reference.layers import Rescaling
from npmobilenet.types import Shape

FLOAT_BYTES = 4
CACHE = 384 * 1024  # bytes of second-level cache that a strip and its weights may fill
STRIP_WIDTH = 28  # maps at least so wide are worked on in strips of rows, narrower ones panel by panel


@dataclass(frozen=True, eq=False)
class Step:
    """What is done in one go.

    Attributes:
        kind: a kernel's Kind, or None for an operation run by `ops`.
        ops: the operations covered, in order.
        source: name of the map that it reads.
        target: name of the value that it makes; average: name of a second one, the target's average or maximum over all
            pixels.
        producer, depthwise, pointwise: the parts that are there.
        inner: a step that makes the source, row by row as this one needs it; the source is never in memory as a whole.
    """

    kind: Kind | None
    ops: Ops
    source: str
    target: str
    average: str | None = None
    producer: Op | None = None
    depthwise: Op | None = None
    pointwise: Op | None = None
    inner: "Step | None" = None

    @property
    def reads(self) -> set[str]:
        """Names of all values that it needs."""
        if not self.ops:  # the image itself, turned into a map
            return {self.source}
        made = {op.name for op in self.ops}
        return {name for op in self.ops for name in op.reads} - made

    @property
    def reads_image(self) -> bool:
        """Whether its source is the network's input as it comes, not a map in blocks of channels."""
        if self.inner is not None:
            return self.inner.reads_image
        return self.kind in (Kind.STEM, Kind.IMAGE) or (self.producer is not None and self.producer.is_stem)

    @property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        return sum(op.macs for op in self.ops)

    @property
    def weights(self) -> int:
        """Values of its kernels and biases."""
        return sum(op.kernel.size + op.bias.size for op in self.ops if op.kernel is not None and op.bias is not None)


def group(ops: Ops) -> list[Step]:
    """Operations -> steps: a depthwise layer takes along what makes its input and, in strips, what reads its output."""
    by_name = {op.name: op for op in ops}
    readers: dict[str, list[Op]] = {op.name: [] for op in ops}
    for op in ops:
        for name in op.reads:
            readers[name].append(op)
    output = ops[-1].name
    taken: set[str] = set()
    steps: dict[str, Step] = {}  # by the place of their last operation

    def alone(name: str) -> bool:
        return len(readers[name]) == 1 and name != output

    for op in ops[1:]:
        before, chain = by_name[op.inputs[0]], [op]
        if op.kind != "depthwise" or not _has_depthwise_kernel(op):
            continue
        wide = before.shape[1] >= STRIP_WIDTH and op.shape[1] >= STRIP_WIDTH // 2
        producer = follower = None
        plain = before.is_pointwise and not before.gate and not before.residual and before.name not in taken
        repeats = op.shape[2] != before.shape[2]  # a depth multiplier
        if (
            alone(before.name)
            and not repeats
            and ((plain and before.shape[:2] != (1, 1)) or (wide and _has_stem_kernel(before, by_name)))
        ):
            producer, chain = before, [before, op]
        if wide and alone(op.name):
            (reader,) = readers[op.name]
            if reader.is_pointwise and not reader.gate and reader.inputs == (op.name,):
                follower, chain = reader, [*chain, reader]
        taken |= {member.name for member in chain}
        steps[chain[-1].name] = Step(
            Kind.STRIP if wide else Kind.DEPTHWISE, chain, chain[0].inputs[0], chain[-1].name,
            producer=producer, depthwise=op, pointwise=follower,
        )  # fmt: skip
    for op in ops:
        if op.name not in taken and op.kind not in ("input", "view"):
            steps[op.name] = _single_step(op, by_name)
    ordered = [steps[op.name] for op in ops if op.name in steps]
    return _place_image(_chain(_fuse_average(ordered, by_name), by_name, alone), by_name)


def _single_step(op: Op, by_name: Mapping[str, Op]) -> Step:
    kind = None
    if _has_stem_kernel(op, by_name):
        kind = Kind.STEM
    elif isinstance(op.layer, Rescaling) and by_name[op.inputs[0]].kind == "input":
        kind = Kind.IMAGE
    elif op.kind == "dense" or (op.is_pointwise and op.shape[:2] == (1, 1) and not op.gate and not op.residual):
        kind = Kind.DENSE
    elif op.is_pointwise:
        kind = Kind.POINTWISE
    elif op.kind == "conv":
        kind = Kind.CONV
    elif op.kind in ("pool", "maximum"):
        kind = Kind.POOL
    elif op.kind in SINGLE_ACTIVATIONS:
        kind = Kind[op.kind.upper()]
    elif op.kind == "add" and len(op.inputs) == 2:
        kind = Kind.ADD
    return Step(kind, [op], op.inputs[0], op.name, pointwise=op)


def _fuse_average(steps: list[Step], by_name: Mapping[str, Op]) -> list[Step]:
    """A global average is taken panel by panel by the step that makes the map, while the panel is in cache."""
    makers = {step.target: place for place, step in enumerate(steps)}
    result: list[Step | None] = list(steps)
    for place, step in enumerate(steps):
        maker = makers.get(step.source)
        if step.kind != Kind.POOL or maker is None:
            continue
        made = result[maker]
        if made is not None and made.kind in (Kind.DEPTHWISE, Kind.POINTWISE) and made.average is None:
            result[maker] = replace(made, ops=[*made.ops, *step.ops], average=step.target)
            result[place] = None
    return [step for step in result if step is not None]


def _chain(steps: list[Step], by_name: Mapping[str, Op], alone: Callable[[str], bool]) -> list[Step]:
    """Two strip steps become one where the map between them is large: its rows are used as soon as they are made."""
    result: list[Step] = []
    for step in steps:
        before = result[-1] if result else None
        if (
            before is not None
            and before.kind == step.kind == Kind.STRIP
            and before.target == step.source
            and alone(step.source)
            and step.producer is None
            and step.depthwise is not None
            and step.depthwise.shape[-1] == by_name[step.source].shape[-1]
            and before.inner is None
            and before.pointwise is not None
            and before.pointwise.residual is None
            and FLOAT_BYTES * prod(by_name[step.source].shape) > CACHE
            and _weight_bytes(before) + _weight_bytes(step) <= CACHE
        ):
            step = replace(step, ops=[*before.ops, *step.ops], source=before.source, inner=before)
            result.pop()
        result.append(step)
    return result


def _weight_bytes(step: Step) -> int:
    return FLOAT_BYTES * sum(op.kernel.size for op in step.ops if op.kernel is not None)


def _place_image(steps: list[Step], by_name: Mapping[str, Op]) -> list[Step]:
    """A first step that turns the image into a map, where a kernel other than a first convolution's reads it."""
    image = next(iter(by_name.values()))
    roots = {image.name}
    for op in by_name.values():
        roots |= {op.name} if op.kind == "view" and op.inputs[0] in roots else set()

    def needs_map(step: Step) -> bool:
        reads = {name for op in step.ops[step.reads_image :] for name in op.reads}
        return bool(reads & roots) if step.kind is not None else bool(reads & roots - {image.name})

    if any(map(needs_map, steps)):
        return [Step(Kind.IMAGE, [], image.name, image.name), *steps]
    return steps


def _has_depthwise_kernel(op: Op) -> bool:
    assert op.kernel is not None
    return len(op.kernel) * ADDRESS_BYTES <= SCRATCH_HEADER


def _has_stem_kernel(op: Op, by_name: Mapping[str, Op]) -> bool:
    return op.is_stem and by_name[op.inputs[0]].kind == "input" and not op.residual


@dataclass
class Place:
    """Where a value lies in the arena.

    Attributes:
        offset: bytes from the arena's start. blocks: blocks of lanes, room for whole panels. shape: without the batch
            axis.
    """

    offset: int
    blocks: int
    shape: Shape

    @property
    def pixels(self) -> int:
        """H * W; of any other value the product of all axes but the last, 1 for a vector."""
        return prod(self.shape[:-1])


def allocate(sizes: Mapping[str, int], lives: Mapping[str, tuple[int, int]]) -> tuple[dict[str, int], int]:
    """Offsets for values that live from one step to another, so that two which live at once never overlap.

    Greedy by size: the largest value first, each at the lowest offset that is free for its whole life.

    Args:
        sizes: bytes of each value.
        lives: first and last step of each value, both included.

    Returns:
        (offsets, bytes in all).

    Source: Pisarchyk & Lee 2020 (arXiv:2001.03288), "greedy by size".
    """
    offsets: dict[str, int] = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], lives[name])):
        first, last = lives[name]
        beside = sorted(
            (offsets[other], offsets[other] + sizes[other])
            for other in offsets
            if lives[other][0] <= last and first <= lives[other][1]
        )
        offset = 0
        for begin, end in beside:
            if offset + sizes[name] <= begin:
                break
            offset = max(offset, end)
        offsets[name] = offset
    return offsets, max((offsets[name] + sizes[name] for name in sizes), default=0)
