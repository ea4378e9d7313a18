"""Scheduling: which operations are computed in one go, so that what they pass on is still in cache.

Each pass is one function from a `Schedule` to a shorter one, and each can be run, printed and tested by itself:

    select_kernels   one step per operation, by the kernel that computes it
    take_projection  a band step takes along the pointwise convolution that reads its output
    take_producer    a depthwise or band step takes along the convolution that makes its input
    pool_in_place    a global pool is taken by the step that makes the map, while the panel is in cache
    chain_bands      two band steps become one where the map between them is large: its rows are used at once
    read_image       the image is turned into a map where a kernel other than a first convolution's reads it
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import prod

from npmobilenet_kernels.drivers.step_table import SCRATCH_HEADER
from npmobilenet_kernels.microkernels.emitter import ADDRESS_BYTES

from npmobilenet.compiler.arena import FLOAT_BYTES
from npmobilenet.compiler.blocking import Blocking
from npmobilenet.compiler.fused_steps import BandStep, DepthwiseStep, PointwiseStep
from npmobilenet.compiler.ir import (
    Add,
    Alias,
    Conv,
    Dense,
    Depthwise,
    GlobalAverage,
    GlobalMax,
    Image,
    Operation,
    Operations,
    Rescale,
    Sigmoid,
    Softmax,
    consumer_counts,
    stored_names,
)
from npmobilenet.compiler.single_steps import (
    AddStep,
    ConvStep,
    DenseStep,
    ImageStep,
    PoolStep,
    SigmoidStep,
    SoftmaxStep,
    StemStep,
)
from npmobilenet.compiler.step_types import KernelStep, ReferenceStep, Step
from npmobilenet.types import Shape

Steps = tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class Schedule:
    """The steps of a network, in order.

    Attributes:
        image: the network's input.
        ops: all operations.
        steps: what computes them.
        blocking: how work is cut.
    """

    image: Image
    ops: Operations
    steps: Steps
    blocking: Blocking

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every value."""
        return {op.name: op.shape for op in self.ops}

    @cached_property
    def _consumers(self) -> Counter[str]:
        return consumer_counts(self.ops)

    def has_one_consumer(self, name: str) -> bool:
        """Whether a single operation reads the value, and nothing outside the network: an `Output` reads it too."""
        return self._consumers[name] == 1

    def maker(self, name: str) -> Step | None:
        """The step whose target is the value."""
        return self._makers.get(name)

    @cached_property
    def _makers(self) -> dict[str, Step]:
        return {step.target: step for step in self.steps}

    def merged(self, taken: Iterable[Step], changed: dict[Step, Step]) -> "Schedule":
        """The schedule without the steps `taken`, and with others in place of those in `changed`."""
        dropped = set(taken)
        return replace(self, steps=tuple(changed.get(step, step) for step in self.steps if step not in dropped))


Pass = Callable[[Schedule], Schedule]


def select_kernels(ops: Operations, blocking: Blocking) -> Schedule:
    """One step per operation, by the kernel that computes it; the image and aliases have none."""
    image = ops[0]
    if not isinstance(image, Image):
        raise TypeError(f"expected the network's Image as first operation, got {type(image).__name__}")
    shapes = {op.name: op.shape for op in ops}
    steps = (_step(op, image, shapes, blocking) for op in ops if not isinstance(op, Image | Alias))
    return Schedule(image, ops, tuple(steps), blocking)


def _step(op: Operation, image: Image, shapes: dict[str, Shape], blocking: Blocking) -> Step:
    match op:
        case Depthwise() if len(op.kernel) * ADDRESS_BYTES <= SCRATCH_HEADER:
            return BandStep(op) if _is_wide(op, shapes[op.inputs[0]], blocking) else DepthwiseStep(op)
        case Conv():
            return _convolution_step(op, image)
        case Rescale() if op.inputs == (image.name,):
            return ImageStep(image, op)
        case Dense():
            return DenseStep(op)
        case GlobalAverage() | GlobalMax():
            return PoolStep(op)
        case Softmax():
            return SoftmaxStep(op)
        case Sigmoid():
            return SigmoidStep(op)
        case Add(inputs=(_, _)):
            return AddStep(op)
    return ReferenceStep(op)


def _is_wide(op: Depthwise, source: Shape, blocking: Blocking) -> bool:
    return source[1] >= blocking.band_width and 2 * op.shape[1] >= blocking.band_width


def _convolution_step(op: Conv, image: Image) -> Step:
    if op.is_stem and op.inputs == (image.name,) and not op.residual:
        return StemStep(op)
    if not op.is_pointwise:
        return ConvStep(op)
    if op.shape[:2] == (1, 1) and not op.gate and not op.residual:
        return DenseStep(op)
    return PointwiseStep(op)


def take_projection(schedule: Schedule) -> Schedule:
    """depthwise > pointwise, in bands: the projection reads the rows of a band from scratch.

    A gate would have to be known before the first row.
    """
    taken: list[Step] = []
    changed: dict[Step, Step] = {}
    for step in schedule.steps:
        if not isinstance(step, PointwiseStep) or step.conv.gate:
            continue
        band = schedule.maker(step.source)
        if isinstance(band, BandStep) and schedule.has_one_consumer(step.source):
            taken.append(band)
            changed[step] = replace(band, projection=step.conv)
    return schedule.merged(taken, changed)


def take_producer(schedule: Schedule) -> Schedule:
    """pointwise > depthwise: the expanded map exists panel by panel, or a few rows at a time; so does a first
    convolution's, in bands.
    """
    taken: list[Step] = []
    changed: dict[Step, Step] = {}
    for step in schedule.steps:
        if not isinstance(step, BandStep | DepthwiseStep):
            continue
        source = step.depthwise.inputs[0]
        has_multiplier = step.depthwise.shape[-1] != schedule.shapes[source][-1]
        if has_multiplier or not schedule.has_one_consumer(source):
            continue
        match schedule.maker(source):
            case PointwiseStep(conv=Conv(gate="", residual="") as conv) as maker:
                taken.append(maker)
                changed[step] = replace(step, producer=conv)
            case StemStep() as maker if isinstance(step, BandStep):
                taken.append(maker)
                changed[step] = replace(step, producer=maker.op)
    return schedule.merged(taken, changed)


def pool_in_place(schedule: Schedule) -> Schedule:
    """depthwise or pointwise > global pool: taken panel by panel by the step that makes the map."""
    taken: list[Step] = []
    changed: dict[Step, Step] = {}
    for step in schedule.steps:
        if not isinstance(step, PoolStep):
            continue
        maker = schedule.maker(step.source)
        if isinstance(maker, DepthwiseStep | PointwiseStep) and maker not in changed:
            taken.append(step)
            changed[maker] = replace(maker, pool=step.op)
    return schedule.merged(taken, changed)


def chain_bands(schedule: Schedule) -> Schedule:
    """depthwise > projection > depthwise [> projection]: the second step has the first make its rows, one at a time.

    That repays where the map between them does not fit the cache and the weights of both do.
    """
    taken: list[Step] = []
    changed: dict[Step, Step] = {}
    for before, step in pairwise(schedule.steps):
        if (
            isinstance(before, BandStep)
            and isinstance(step, BandStep)
            and before not in changed
            and before.target == step.source
            and _can_make_rows(before, step, schedule)
        ):
            taken.append(before)
            changed[step] = replace(step, producer=before)
    return schedule.merged(taken, changed)


def _can_make_rows(before: BandStep, step: BandStep, schedule: Schedule) -> bool:
    if step.producer or isinstance(before.producer, BandStep) or not before.projection or before.projection.residual:
        return False
    between = schedule.shapes[step.source]
    kernels = [op.kernel for op in (*before.ops, *step.ops) if isinstance(op, Conv | Depthwise)]
    return (
        schedule.has_one_consumer(step.source)
        and step.depthwise.shape[-1] == between[-1]
        and FLOAT_BYTES * prod(between) > schedule.blocking.cache
        and FLOAT_BYTES * sum(kernel.size for kernel in kernels) <= schedule.blocking.cache
    )


def read_image(schedule: Schedule) -> Schedule:
    """A first step that turns the image into a map, where a kernel other than a first convolution's reads it."""
    stored = stored_names(schedule.ops)
    image = schedule.image

    def needs_map(step: Step) -> bool:
        if not isinstance(step, KernelStep):
            return any(stored[name] == image.name for name in step.reads - {image.name})
        reading = step.ops[step.reads_image :]
        return any(stored[name] == image.name for op in reading for name in op.reads)

    if not any(map(needs_map, schedule.steps)):
        return schedule
    return replace(schedule, steps=(ImageStep(image), *schedule.steps))


PASSES: tuple[Pass, ...] = (take_projection, take_producer, pool_in_place, chain_bands, read_image)


def schedule(ops: Operations, blocking: Blocking) -> Steps:
    """The steps of a network: all passes, in order.

    Args:
        ops: the fused operations; the first is the network's input.
        blocking: how work is cut.
    """
    result = select_kernels(ops, blocking)
    for run in PASSES:
        result = run(result)
    return result.steps
