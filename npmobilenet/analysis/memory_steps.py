"""The steps of a memory plan: which layers, or parts of them, are computed in which order, and into which tensors.

A step sequence is a list of steps and the shapes of the tensors that they write; `memory_plan` places these tensors.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from math import prod

from npmobilenet.analysis.linear_bottlenecks import LinearBottleneck, inner_layers, linear_bottlenecks
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Conv2D, DepthwiseConv2D, Input
from npmobilenet.types import Array, Pair, Shape


@dataclass(frozen=True)
class Piece:
    """A tensor, or a range [a, b) of its rows or channels."""

    tensor: str
    rows: Pair | None = None
    channels: Pair | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is the complete tensor."""
        return self.rows is None and self.channels is None

    def shape(self, tensor: Shape) -> Shape:
        """Shape of the piece, given the tensor's."""
        if self.rows is not None:
            tensor = (self.rows[1] - self.rows[0], *tensor[1:])
        return tensor if self.channels is None else (*tensor[:-1], self.channels[1] - self.channels[0])

    def of(self, array: Array) -> Array:
        """The piece as a view of an array (1, *tensor)."""
        if self.rows is not None:
            array = array[:, slice(*self.rows)]
        return array if self.channels is None else array[..., slice(*self.channels)]


@dataclass(frozen=True)
class MemoryStep:
    """One layer, or a part of it, computed from pieces of tensors into a piece of a tensor.

    Attributes:
        layer: as computed here: with fewer filters or other padding if the step is a part.
        reads, writes: its inputs and its output.
        part: channels of its kernel that it uses, if it is a part.
        sums: `part` counts input channels, so the results of the parts add up.
        over: the tensor that its output overwrites.
        scratch: a ring buffer of K input rows, for a depthwise convolution in place.
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
        """All tensors that must be in memory while it runs."""
        scratch = () if self.scratch is None else (self.scratch,)
        return (*(piece.tensor for piece in self.reads), self.writes.tensor, *scratch)


class InPlace(Enum):
    """Which layers write over their input.

    The output of a depthwise convolution with a stride is smaller than its input: in place it saves memory while it
    runs, but occupies the whole buffer as long as its output lives, so it pays in some networks and not in others.
    """

    NOTHING = auto()
    ELEMENTWISE = auto()
    DEPTHWISE = auto()
    STRIDED = auto()


def layer_by_layer(graph: Graph) -> tuple[list[MemoryStep], dict[str, Shape]]:
    """One step per layer, and the shape of every tensor."""
    steps = [MemoryStep(layer, tuple(map(Piece, layer.inputs)), Piece(layer.name)) for layer in graph.layers]
    return steps, dict(graph.shapes)


def split(graph: Graph, parts: int) -> tuple[list[MemoryStep], dict[str, Shape]]:
    """Layer by layer, but every linear bottleneck in parts of its inner channels."""
    blocks = {block.closes.name: block for block in linear_bottlenecks(graph)}
    inner = inner_layers(graph)
    steps, shapes = layer_by_layer(graph)
    split: list[MemoryStep] = []
    for step in steps:
        if step.layer.name in blocks:
            split += _bottleneck_steps(graph, blocks[step.layer.name], parts, shapes)
        elif step.layer.name not in inner:
            split.append(step)
    return split, shapes


def _bottleneck_steps(
    graph: Graph, block: LinearBottleneck, parts: int, shapes: dict[str, Shape]
) -> Iterator[MemoryStep]:
    """For every part of the inner channels: expand, filter, project, and add to the output."""
    width = -(-block.opens.filters // parts)
    for a in range(0, block.opens.filters, width):
        part = (a, min(a + width, block.opens.filters))
        x = Piece(block.opens.inputs[0])
        for layer in (block.opens, *block.inside):
            y = Piece(f"{layer.name}[channels {part[0]}:{part[1]}]")
            shapes[y.tensor] = (*graph.shapes[layer.name][:2], part[1] - part[0])
            narrow = replace(layer, filters=part[1] - part[0]) if isinstance(layer, Conv2D) else layer
            yield MemoryStep(narrow, (x,), y, part=part)
            x = y
        if isinstance(block.closes, Conv2D):
            closes = replace(block.closes, use_bias=block.closes.use_bias and a == 0)
            yield MemoryStep(closes, (x,), Piece(block.closes.name), part=part, sums=True)
        else:
            yield MemoryStep(block.closes, (x,), Piece(block.closes.name, channels=part), part=part)


def stripe_ends(graph: Graph) -> Iterator[str]:
    """Layers that every path goes through and before which all layers are rowwise; none inside a bottleneck."""
    ends = {layer.name for layer in graph.cut_points} - inner_layers(graph)
    for layer in graph.layers[1:]:
        if not layer.rowwise:
            return
        if layer.name in ends:
            yield layer.name


def striped(graph: Graph, last: str, stripes: int, parts: int) -> tuple[list[MemoryStep], dict[str, Shape]]:
    """From the image to the layer `last` in stripes of rows; after it as `split`."""
    names = [layer.name for layer in graph.layers]
    front = graph.layers[: names.index(last) + 1]
    steps, shapes = split(graph, parts)
    inside = {layer.name for layer in front}
    H_out = graph.shapes[last][0]
    height = -(-H_out // stripes)
    striped = [step for step in steps if isinstance(step.layer, Input)]
    for a in range(0, H_out, height):
        striped += _stripe_steps(graph, front, (a, min(a + height, H_out)), shapes)
    return striped + [step for step in steps if step.layer.name not in inside], shapes


def _stripe_steps(graph: Graph, front: tuple[Layer, ...], rows: Pair, shapes: dict[str, Shape]) -> Iterator[MemoryStep]:
    """Rows a to b of the last layer of `front`, and of every layer before it the rows that these depend on."""
    needed = {front[-1].name: rows}
    for layer in reversed(front[1:]):
        for name in layer.inputs:
            taken = layer.rows_read(needed[layer.name], graph.shapes[name])[0]
            have = needed.get(name, taken)
            needed[name] = min(have[0], taken[0]), max(have[1], taken[1])
    stripe = {front[0].name: front[0].name}
    for layer in front[1:]:
        reads = []
        for name in layer.inputs:
            taken, zeros = layer.rows_read(needed[layer.name], graph.shapes[name])
            start = 0 if stripe[name] == front[0].name else needed[name][0]
            piece = Piece(stripe[name], rows=(taken[0] - start, taken[1] - start))
            reads.append(
                replace(piece, rows=None) if piece.shape(shapes[piece.tensor]) == shapes[piece.tensor] else piece
            )
            layer = layer.on_rows(zeros, graph.shapes[name])
        a, b = needed[layer.name]
        if layer.name == front[-1].name:
            yield MemoryStep(layer, tuple(reads), Piece(layer.name, rows=(a, b)))
            return
        stripe[layer.name] = f"{layer.name}[rows {a}:{b}]"
        if stripe[layer.name] in shapes:  # two stripes of a small map can need the very same rows
            stripe[layer.name] += f" for {rows[0]}:{rows[1]}"
        shapes[stripe[layer.name]] = (b - a, *graph.shapes[layer.name][1:])
        yield MemoryStep(layer, tuple(reads), Piece(stripe[layer.name]))


def take_over(
    steps: list[MemoryStep], shapes: dict[str, Shape], in_place: InPlace, outputs: Collection[str] = ()
) -> Iterator[MemoryStep]:
    """Let steps write over an input that no later step reads, if they never overwrite what they still have to read.

    An input that is among `outputs` is read at the end.

    A depthwise convolution is the one layer type with a schedule for that (`arena_run`), hence the check of its type.
    """
    last_use = {tensor: number for number, step in enumerate(steps) for tensor in step.tensors}
    for number, step in enumerate(steps):
        free = [
            piece.tensor
            for piece in step.reads
            if piece.is_whole and step.writes.is_whole and last_use[piece.tensor] == number and not step.sums
            if piece.tensor not in outputs
        ]
        size = prod(shapes[step.writes.tensor])
        if step.layer.elementwise and in_place is not InPlace.NOTHING:
            fitting = [tensor for tensor in free if prod(shapes[tensor]) == size]
            step = replace(step, over=fitting[0]) if fitting else step
        elif isinstance(step.layer, DepthwiseConv2D) and free and in_place in (InPlace.DEPTHWISE, InPlace.STRIDED):
            held = (step.layer.extent[0], *shapes[free[0]][1:])
            fits = size == prod(shapes[free[0]]) or in_place is InPlace.STRIDED
            if fits and prod(held) < size and _rows_follow(step.layer, shapes[free[0]]):
                scratch = f"{step.writes.tensor} (rows held back)"
                shapes[scratch] = held
                step = replace(step, over=free[0], scratch=scratch)
        yield step


def _rows_follow(layer: DepthwiseConv2D, shape: Shape) -> bool:
    """Whether every output row is stored before the first input row that has not been read yet."""
    H_out, W_out, C_out = layer.output_shape(shape)
    H, W, C = shape
    rows, top = layer.extent[0], layer.zeros(shape)[0][0]
    read = (min(i * layer.stride - top + rows, H) for i in range(H_out))
    return all((i + 1) * W_out * C_out <= max(end, 0) * W * C for i, end in enumerate(read))
