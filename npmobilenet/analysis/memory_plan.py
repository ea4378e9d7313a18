"""How much memory the activations of a network need, before it is deployed.

A plan is the network as a list of steps, and a place in one block of memory (the arena) for every tensor that a step
writes. How much that takes depends on what one is ready to do; each way has a name in `POLICIES`:

    keep                every layer's output has a place of its own to the end
    free                a place is free again after the last layer that reads it
    in_place            and layers that work value by value write over their input; padding is part of the window
    depthwise_in_place  and a depthwise convolution does too, holding back K rows of its input
    split               and the inside of an inverted residual is computed some channels at a time, so that it never
                        exists as a whole (Sandler et al. 2018, arXiv:1801.04381, section 5.1)
    stripes             and the first layers are computed a stripe of rows at a time, from the image to a layer where
                        the maps have become small; rows that two stripes need are computed twice

Weights are not counted: they can stay in flash, or are read once.
"""

from bisect import insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.analysis.linear_bottlenecks import Bottleneck, fold_padding, inner_layers, linear_bottlenecks
from npmobilenet.errors import ShapeError
from npmobilenet.reference.graph import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    Graph,
    Input,
    Layer,
    Multiply,
    Rescaling,
    Reshape,
    Window,
)
from npmobilenet.types import Array, Pair, Params, Shape

ELEMENTWISE = (BatchNormalization, Activation, Rescaling, Add, Multiply, Reshape, Flatten, Dropout)
ROWWISE = (Window, BatchNormalization, Activation, Rescaling, Add)


@dataclass(frozen=True)
class Piece:
    """A tensor, or some of its rows or channels, each from a up to but not including b."""

    tensor: str
    rows: Pair | None = None
    channels: Pair | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the tensor."""
        return self.rows is None and self.channels is None

    def shape(self, tensor: Shape) -> Shape:
        """Its shape, given the tensor's."""
        if self.rows is not None:
            tensor = (self.rows[1] - self.rows[0], *tensor[1:])
        return tensor if self.channels is None else (*tensor[:-1], self.channels[1] - self.channels[0])

    def of(self, array: Array) -> Array:
        """The view of (1, *tensor) that it names."""
        if self.rows is not None:
            array = array[:, slice(*self.rows)]
        return array if self.channels is None else array[..., slice(*self.channels)]


@dataclass(frozen=True)
class Step:
    """One layer, or a part of it, computed from pieces of tensors into a piece of a tensor.

    Attributes:
        layer: as it is computed here: with fewer filters, or other padding, where the step is a part.
        reads, writes: where its inputs are and its output goes.
        part: channels of its kernel that it uses, where it is a part.
        sums: `part` counts input channels, so the results of the parts add up.
        over: the tensor whose place its output takes.
        scratch: a tensor of K rows that a depthwise convolution in place holds back.
    """

    layer: Layer
    reads: tuple[Piece, ...]
    writes: Piece
    part: Pair | None = None
    sums: bool = False
    over: str | None = None
    scratch: str | None = None

    @property
    def tensors(self) -> tuple[str, ...]:
        """Everything that must be in memory while it runs."""
        scratch = () if self.scratch is None else (self.scratch,)
        return (*(piece.tensor for piece in self.reads), self.writes.tensor, *scratch)


@dataclass(frozen=True)
class Buffer:
    """A place in the arena, in bytes, held from one step to another, both included; several tensors may follow one
    another in it."""

    tensors: tuple[str, ...]
    bytes: int
    first: int
    last: int
    offset: int = 0

    def meets(self, other: "Buffer") -> bool:
        """Whether both are in use at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Plan:
    """A network as steps in an arena.

    Attributes:
        graph: the network.
        policy: how the plan was made.
        itemsize: bytes of one value.
        align: every offset is a multiple of it, in bytes.
        steps: in order.
        shapes: of every tensor, without the batch axis.
        keep: no place is used twice.
    """

    graph: Graph
    policy: str
    itemsize: int
    align: int
    steps: tuple[Step, ...]
    shapes: Mapping[str, Shape]
    keep: bool = False

    @cached_property
    def lifetimes(self) -> tuple[Buffer, ...]:
        """Every place that is needed and when, not yet anywhere."""
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
        output = self.steps[-1].writes.tensor
        return tuple(
            Buffer(
                tensors=tuple(tensors),
                bytes=self.itemsize * max(prod(self.shapes[tensor]) for tensor in tensors),
                first=min(uses[tensor][0] for tensor in tensors),
                last=end if self.keep or output in tensors else max(uses[tensor][-1] for tensor in tensors),
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
        """Bytes in use at the worst step: no arena can be smaller under this policy."""
        return max(self.live_bytes)

    @cached_property
    def buffers(self) -> tuple[Buffer, ...]:
        """Every place with its offset: each at the lowest offset that is free all its life.

        The order in which they are placed decides how well they fit; the best of three is taken: the largest first,
        of equal ones the earlier or the later, and by time.

        Source: the greedy-by-size planner of Pisarchyk & Lee 2020 (arXiv:2001.03288), section 5.
        """
        orders = (
            sorted(self.lifetimes, key=lambda buffer: (-buffer.bytes, buffer.first)),
            sorted(self.lifetimes, key=lambda buffer: (-buffer.bytes, -buffer.first)),
            sorted(self.lifetimes, key=lambda buffer: (buffer.first, -buffer.bytes)),
        )
        return min((_place(order, self.align) for order in orders), key=_end)

    @property
    def arena_bytes(self) -> int:
        """Size of the one block that holds every place."""
        return _end(self.buffers)

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Offset of every tensor, in bytes."""
        return {tensor: buffer.offset for buffer in self.buffers for tensor in buffer.tensors}

    @property
    def macs(self) -> int:
        """Multiply-adds of all steps: more than the graph's where stripes compute rows twice."""
        return sum(
            step.layer.macs(*(piece.shape(self.shapes[piece.tensor]) for piece in step.reads)) for step in self.steps
        )


class InPlace(Enum):
    """Which layers take the place of their input.

    A depthwise convolution with a stride needs less than that place: while it runs this is a gain, but the whole
    place stays taken as long as its output lives, so that it pays in some networks and not in others.
    """

    NOTHING = auto()
    ELEMENTWISE = auto()
    DEPTHWISE = auto()
    STRIDED = auto()


POLICIES: Mapping[str, str] = {
    "keep": "every output has its own place to the end",
    "free": "places are used again after the last reader",
    "in_place": "and value-by-value layers write over their input",
    "depthwise_in_place": "and depthwise convolutions write over their input",
    "split": "and inverted residuals are computed in parts",
    "stripes": "and the first layers are computed in stripes of rows",
}


def plan(
    graph: Graph, policy: str = "in_place", *, itemsize: int = 4, parts: int = 4, stripes: int = 4, align: int = 16
) -> Plan:
    """Plan the activation memory of a network for one image.

    Args:
        graph: the network.
        policy: a name in `POLICIES`.
        itemsize: bytes of one value: 4 for float32, 2 for float16, 1 for int8.
        parts: into how many parts "split" and "stripes" cut an inverted residual, the t of section 5.1.
        stripes: into how many stripes "stripes" cuts the first layers.
        align: every offset is a multiple of it, in bytes.

    Returns:
        The plan with the lowest peak of those that the policy allows; a policy allows what the one before it does.

    Raises:
        ShapeError: the policy is not known, or a number is not positive.
    """
    if policy not in POLICIES:
        raise ShapeError(f"memory: policy {policy!r} is not known; known are {', '.join(POLICIES)}")
    if min(itemsize, parts, stripes, align) < 1 or align % itemsize:
        raise ShapeError(
            "memory: itemsize, parts, stripes and align are positive, and align a multiple of itemsize; "
            f"got {itemsize}, {parts}, {stripes} and {align}"
        )

    def planned(steps: list[Step], shapes: dict[str, Shape], in_place: InPlace) -> Plan:
        steps = list(_take_over(steps, shapes, in_place))
        return Plan(graph, policy, itemsize, align, tuple(steps), shapes, keep=policy == "keep")

    if policy in ("keep", "free"):
        return planned(*_layer_by_layer(graph), InPlace.NOTHING)
    folded = fold_padding(graph)
    candidates = [planned(*_layer_by_layer(folded), InPlace.ELEMENTWISE)]
    for in_place in (InPlace.DEPTHWISE, InPlace.STRIDED) if policy != "in_place" else ():
        candidates.append(planned(*_layer_by_layer(folded), in_place))
        if policy in ("split", "stripes"):
            candidates.append(planned(*_split(folded, parts), in_place))
        if policy == "stripes":
            candidates += [planned(*_striped(folded, end, stripes, parts), in_place) for end in _stripe_ends(folded)]
    return min(candidates, key=lambda candidate: (candidate.peak_bytes, candidate.macs, len(candidate.steps)))


def memory_table(graph: Graph, *, itemsize: int = 4, parts: int = 4, stripes: int = 4) -> tuple[Plan, ...]:
    """The plan under every policy, in the order of `POLICIES`; arguments and errors as `plan`."""
    return tuple(plan(graph, policy, itemsize=itemsize, parts=parts, stripes=stripes) for policy in POLICIES)


def run_in_arena(plan: Plan, params: Params, x: Array) -> Array:
    """Compute the network in one block of `arena_bytes`, every tensor a view at its offset.

    The block is filled with NaN before, so that reading a place that was never written shows.

    Args:
        plan: made with an `itemsize` that divides every offset in the dtype of x.
        params: arrays by `layer/array`, of the dtype of x.
        x: (1, H, W, C), one scaled image.

    Returns:
        (1, *output_shape), a copy.

    Raises:
        ShapeError: x is not one image of the planned size, or its dtype not of the planned width.
    """
    if x.shape != (1, *plan.graph.input_shape) or x.dtype.itemsize != plan.itemsize:
        raise ShapeError(
            f"memory: the plan is for one image {plan.graph.input_shape} of {plan.itemsize} bytes a value; "
            f"x {x.shape} has {x.dtype.itemsize}"
        )
    views = _views(plan, x.dtype)
    for step in plan.steps:
        if isinstance(step.layer, Input):
            step.writes.of(views[step.writes.tensor])[...] = x
        else:
            _run_step(step, params, views)
    return views[plan.steps[-1].writes.tensor].copy()


def _place(order: list[Buffer], align: int) -> tuple[Buffer, ...]:
    """Give each its offset, in the order given, and return them by time."""
    placed: list[Buffer] = []  # by offset
    for buffer in order:
        offset = 0
        for other in placed:
            if other.meets(buffer):
                if offset + buffer.bytes <= other.offset:
                    break
                offset = max(offset, -(-(other.offset + other.bytes) // align) * align)
        insort(placed, replace(buffer, offset=offset), key=lambda other: other.offset)
    return tuple(sorted(placed, key=lambda buffer: (buffer.first, buffer.offset)))


def _end(buffers: tuple[Buffer, ...]) -> int:
    return max(buffer.offset + buffer.bytes for buffer in buffers)


def _layer_by_layer(graph: Graph) -> tuple[list[Step], dict[str, Shape]]:
    steps = [Step(layer, tuple(map(Piece, layer.inputs)), Piece(layer.name)) for layer in graph.layers]
    return steps, dict(graph.shapes)


def _split(graph: Graph, parts: int) -> tuple[list[Step], dict[str, Shape]]:
    """Layer by layer, but every linear bottleneck in parts of its inner channels."""
    blocks = {block.closes.name: block for block in linear_bottlenecks(graph)}
    inner = inner_layers(graph)
    steps, shapes = _layer_by_layer(graph)
    split: list[Step] = []
    for step in steps:
        if step.layer.name in blocks:
            split += _bottleneck_steps(graph, blocks[step.layer.name], parts, shapes)
        elif step.layer.name not in inner:
            split.append(step)
    return split, shapes


def _bottleneck_steps(graph: Graph, block: Bottleneck, parts: int, shapes: dict[str, Shape]) -> Iterator[Step]:
    """For every part of the inner channels: expand, filter, and add to the output what the part gives."""
    width = -(-block.opens.filters // parts)
    for a in range(0, block.opens.filters, width):
        part = (a, min(a + width, block.opens.filters))
        x = Piece(block.opens.inputs[0])
        for layer in (block.opens, *block.inside):
            y = Piece(f"{layer.name}[channels {part[0]}:{part[1]}]")
            shapes[y.tensor] = (*graph.shapes[layer.name][:2], part[1] - part[0])
            narrow = replace(layer, filters=part[1] - part[0]) if isinstance(layer, Conv2D) else layer
            yield Step(narrow, (x,), y, part=part)
            x = y
        if isinstance(block.closes, Conv2D):
            closes = replace(block.closes, use_bias=block.closes.use_bias and a == 0)
            yield Step(closes, (x,), Piece(block.closes.name), part=part, sums=True)
        else:
            yield Step(block.closes, (x,), Piece(block.closes.name, channels=part), part=part)


def _stripe_ends(graph: Graph) -> Iterator[str]:
    """Layers through which everything passes and before which all works by rows; none inside a bottleneck."""
    inner = inner_layers(graph)
    alive: set[str] = set()
    for layer in graph.layers:
        if not isinstance(layer, (Input, *ROWWISE)):
            return
        alive = {name for name in alive if graph.last_reader[name] != layer.name} | {layer.name}
        if alive == {layer.name} and not isinstance(layer, Input) and layer.name not in inner:
            yield layer.name


def _striped(graph: Graph, last: str, stripes: int, parts: int) -> tuple[list[Step], dict[str, Shape]]:
    """From the image to the layer `last` in stripes of rows; behind it as `_split`."""
    names = [layer.name for layer in graph.layers]
    front = graph.layers[: names.index(last) + 1]
    steps, shapes = _split(graph, parts)
    inside = {layer.name for layer in front}
    H_out = graph.shapes[last][0]
    height = -(-H_out // stripes)
    striped = [step for step in steps if isinstance(step.layer, Input)]
    for a in range(0, H_out, height):
        striped += _stripe_steps(graph, front, (a, min(a + height, H_out)), shapes)
    return striped + [step for step in steps if step.layer.name not in inside], shapes


def _stripe_steps(graph: Graph, front: tuple[Layer, ...], rows: Pair, shapes: dict[str, Shape]) -> Iterator[Step]:
    """Rows a to b of the last layer of `front`, and of every layer before it as many as that takes."""
    needed = {front[-1].name: rows}
    for layer in reversed(front[1:]):
        for name in layer.inputs:
            taken = _rows_read(layer, needed[layer.name], graph.shapes[name])[0]
            have = needed.get(name, taken)
            needed[name] = min(have[0], taken[0]), max(have[1], taken[1])
    stripe = {front[0].name: front[0].name}
    for layer in front[1:]:
        reads = []
        for name in layer.inputs:
            taken, zeros = _rows_read(layer, needed[layer.name], graph.shapes[name])
            start = 0 if stripe[name] == front[0].name else needed[name][0]
            piece = Piece(stripe[name], rows=(taken[0] - start, taken[1] - start))
            reads.append(
                replace(piece, rows=None) if piece.shape(shapes[piece.tensor]) == shapes[piece.tensor] else piece
            )
            if isinstance(layer, Window):
                layer = replace(layer, padding=(zeros, layer.zeros(graph.shapes[name])[1]))
        a, b = needed[layer.name]
        if layer.name == front[-1].name:
            yield Step(layer, tuple(reads), Piece(layer.name, rows=(a, b)))
            return
        stripe[layer.name] = f"{layer.name}[rows {a}:{b}]"
        if stripe[layer.name] in shapes:  # two stripes of a small map can need the very same rows
            stripe[layer.name] += f" for {rows[0]}:{rows[1]}"
        shapes[stripe[layer.name]] = (b - a, *graph.shapes[layer.name][1:])
        yield Step(layer, tuple(reads), Piece(stripe[layer.name]))


def _rows_read(layer: Layer, rows: Pair, shape: Shape) -> tuple[Pair, Pair]:
    """The rows of an input of `shape` that rows a to b of the output need, and the rows of zeros before and after."""
    if not isinstance(layer, Window):
        return rows, (0, 0)
    top = layer.zeros(shape)[0][0]
    first = rows[0] * layer.stride - top
    last = (rows[1] - 1) * layer.stride - top + layer.kernel_size[0]
    return (max(first, 0), min(last, shape[0])), (max(-first, 0), max(last - shape[0], 0))


def _take_over(steps: list[Step], shapes: dict[str, Shape], in_place: InPlace) -> Iterator[Step]:
    """Let steps take the place of an input that no later step reads, where they never write what they still read."""
    last_use = {tensor: number for number, step in enumerate(steps) for tensor in step.tensors}
    for number, step in enumerate(steps):
        free = [
            piece.tensor
            for piece in step.reads
            if piece.is_whole and step.writes.is_whole and last_use[piece.tensor] == number and not step.sums
        ]
        size = prod(shapes[step.writes.tensor])
        if isinstance(step.layer, ELEMENTWISE) and in_place is not InPlace.NOTHING:
            fitting = [tensor for tensor in free if prod(shapes[tensor]) == size]
            step = replace(step, over=fitting[0]) if fitting else step
        elif isinstance(step.layer, DepthwiseConv2D) and free and in_place in (InPlace.DEPTHWISE, InPlace.STRIDED):
            held = (step.layer.kernel_size[0], *shapes[free[0]][1:])
            fits = size == prod(shapes[free[0]]) or in_place is InPlace.STRIDED
            if fits and prod(held) < size and _rows_follow(step.layer, shapes[free[0]]):
                scratch = f"{step.writes.tensor} (rows held back)"
                shapes[scratch] = held
                step = replace(step, over=free[0], scratch=scratch)
        yield step


def _rows_follow(layer: DepthwiseConv2D, shape: Shape) -> bool:
    """Whether every output row lies in memory before the first input row that is not held back yet."""
    H_out, W_out, C_out = layer.output_shape(shape)
    H, W, C = shape
    K, top = layer.kernel_size[0], layer.zeros(shape)[0][0]
    read = (min(i * layer.stride - top + K, H) for i in range(H_out))
    return all((i + 1) * W_out * C_out <= max(rows, 0) * W * C for i, rows in enumerate(read))


def _run_step(step: Step, params: Params, views: Mapping[str, Array]) -> None:
    layer = step.layer
    inputs = [piece.of(views[piece.tensor]) for piece in step.reads]
    y = step.writes.of(views[step.writes.tensor])
    arrays = {
        name: _part(step, name, params[f"{layer.name}/{name}"])
        for name in layer.param_shapes(*(x.shape[1:] for x in inputs))
    }
    if step.scratch is not None:
        _depthwise_over_its_input(layer, arrays, inputs[0], y, views[step.scratch][0])  # type: ignore[arg-type]
    elif step.sums and step.part is not None and step.part[0] > 0:
        y += layer.apply(arrays, *inputs)
    else:
        y[...] = layer.apply(arrays, *inputs)


def _part(step: Step, name: str, array: Array) -> Array:
    """The channels of a parameter that a step uses."""
    if step.part is None:
        return array
    channels = slice(*step.part)
    if step.sums or isinstance(step.layer, DepthwiseConv2D):
        return array[:, :, channels] if name == "kernel" else array[channels] if not step.sums else array
    return array[..., channels]


def _depthwise_over_its_input(layer: DepthwiseConv2D, params: Params, x: Array, y: Array, held: Array) -> None:
    """Row by row into memory that x and y share; `held` (K, W, C) keeps the rows of x that are still needed."""
    H, W, C = x.shape[1:]
    K, stride = layer.kernel_size[0], layer.stride
    zeros = layer.zeros((H, W, C))
    read = 0
    for i in range(y.shape[1]):
        (first, last), rows = _rows_read(layer, (i, i + 1), (H, W, C))
        while read < last:
            held[read % K] = x[0, read]
            read += 1
        window = np.stack([held[row % K] for row in range(first, last)])[None]  # (1, <= K, W, C)
        y[:, i : i + 1] = replace(layer, padding=(rows, zeros[1]), stride=stride).apply(params, window)


def _views(plan: Plan, dtype: DTypeLike) -> dict[str, Array]:
    arena = np.full(-(-plan.arena_bytes // plan.itemsize), np.nan, dtype)
    views = {}
    for tensor, offset in plan.offsets.items():
        start, size = offset // plan.itemsize, prod(plan.shapes[tensor])
        views[tensor] = arena[start : start + size].reshape(1, *plan.shapes[tensor])
    return views
