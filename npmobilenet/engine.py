"""The fast way through a network: a `Plan` of a few dozen steps, run by one native call.

    Graph --fusion.fuse--> fewer operations --group--> steps --allocate--> one arena --write--> a table for the kernels

A step is what the kernels do in one go, often several operations: a few rows of an expanded map go through the
depthwise filter and the projection while they are still in cache. `print(plan)` shows the steps. Operations that no
kernel covers are run by the functions of `ops`, in their place, and the plan says so.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
import platformdirs
from npmobilenet_kernels import layout
from npmobilenet_kernels.lanes import Lanes, lanes, tile_rows
from npmobilenet_kernels.native import network
from npmobilenet_kernels.steps import FIELDS, GEMV_PANELS, SCRATCH_HEADER, Activation, Field, Kind, Producer
from npmobilenet_kernels.threads import Team, available_cores, team
from numpy.typing import ArrayLike, NDArray

from npmobilenet.errors import ShapeError
from npmobilenet.fusion import Op, Ops, apply, fuse
from npmobilenet.graph import Graph
from npmobilenet.ops import Array
from npmobilenet.shapes import Shape

FLOAT_BYTES = 4
ALIGNMENT = 64  # bytes: a cache line, and the widest vector
STRIP_WIDTH = 28  # maps at least so wide are worked on in strips of rows, narrower ones panel by panel
CACHE = 384 * 1024  # bytes of second-level cache that a strip may fill
STRIP_PIXELS = 56  # output pixels of a strip, where they fit into CACHE
PARTS = 8  # a pointwise step with fewer panels than this splits its pixels as well, so that threads share evenly


@dataclass(frozen=True, eq=False)
class Step:
    """What is done in one go.

    Attributes:
        kind: a kernel's Kind, or None for an operation run by `ops`.
        ops: the operations covered, in order.
        source: name of the map that it reads.
        target: name of the value that it makes; average: name of a second one, the target's average over all pixels.
        producer, depthwise, pointwise: the parts that are there.
    """

    kind: Kind | None
    ops: Ops
    source: str
    target: str
    average: str | None = None
    producer: Op | None = None
    depthwise: Op | None = None
    pointwise: Op | None = None

    @property
    def reads(self) -> set[str]:
        """Names of all values that it needs."""
        made = {op.name for op in self.ops}
        return {name for op in self.ops for name in op.reads} - made

    @property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        return sum(op.macs for op in self.ops)


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
        if op.kind != "depthwise" or not _has_depthwise_kernel(op) or before.kind == "input":
            continue
        wide = before.shape[1] >= STRIP_WIDTH and op.shape[1] >= STRIP_WIDTH // 2
        producer = follower = None
        plain = before.is_pointwise and not before.gate and not before.residual and before.name not in taken
        if alone(before.name) and (
            (plain and before.shape[:2] != (1, 1)) or (wide and _has_stem_kernel(before, by_name))
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
    return _fuse_average(ordered, by_name)


def _single_step(op: Op, by_name: Mapping[str, Op]) -> Step:
    kind = None
    if _has_stem_kernel(op, by_name):
        kind = Kind.STEM
    elif any(by_name[name].kind == "input" for name in op.reads):
        kind = None  # the image does not lie in the arena, nor in blocks of channels
    elif op.kind == "dense" or (op.is_pointwise and op.shape[:2] == (1, 1) and not op.gate and not op.residual):
        kind = Kind.DENSE
    elif op.is_pointwise:
        kind = Kind.POINTWISE
    elif op.kind == "pool":
        kind = Kind.POOL
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


def _has_depthwise_kernel(op: Op) -> bool:
    assert op.kernel is not None
    return op.kernel.shape[:2] in ((3, 3), (5, 5)) and op.stride in (1, 2)


def _has_stem_kernel(op: Op, by_name: Mapping[str, Op]) -> bool:
    if op.kind != "conv" or op.kernel is None or by_name[op.inputs[0]].kind != "input":
        return False
    return op.kernel.shape[0] == op.kernel.shape[1] and op.kernel.shape[2] == 3 and op.stride == 2


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
        """H * W; 1 for a vector."""
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


def _segments(steps: Sequence[Step]) -> list[tuple[int, int]]:
    """Runs of steps that one native call does, as (first, last + 1); a step run by `ops` is (number, number)."""
    segments: list[tuple[int, int]] = []
    for number, step in enumerate(steps):
        if step.kind is None:
            segments.append((number, number))
        elif segments and segments[-1][0] < segments[-1][1] == number:
            segments[-1] = (segments[-1][0], number + 1)
        else:
            segments.append((number, number + 1))
    return segments


class Plan:
    """A network compiled for one input shape.

    Args:
        graph: the network; its input shape is the plan's.
        params: arrays by `layer/array`.
        width: floats in a vector, at most; None for what the CPU has. For tests.

    Attributes:
        ops: the fused operations. steps: what is done in which order.
        arena_bytes: activations of one image. scratch_bytes: working memory of one thread. weight_bytes: packed
            weights.
    """

    def __init__(self, graph: Graph, params: Mapping[str, Array], *, width: int | None = None) -> None:
        self.graph = graph
        self.lanes: Lanes = lanes(width)
        self.ops = fuse(graph, params)
        self.steps = group(self.ops)
        self._shapes = {op.name: op.shape for op in self.ops}
        self._views = {op.name: op.inputs[0] for op in self.ops if op.kind == "view"}
        self._places, self.arena_bytes = self._place_values()
        self._weights = _Weights()
        self._zeros = self._weights.add(np.zeros(self._longest_row()))
        self._rows = [None if step.kind is None else self._row(step) for step in self.steps]
        self.scratch_bytes = max((row.pop(Field.SCRATCH, 0) for row in self._rows if row), default=0)
        self.weight_bytes = self._weights.bytes
        self._packed = self._weights.pack()
        self._table = self._write_table()
        self._segments = _segments(self.steps)
        self._network = network(self.lanes.width, kernel_folder())
        self._arenas: list[_Arena] = []

    def run(self, x: Array, threads: int | None = None) -> Array:
        """Compute the network.

        Args:
            x: (N, H, W, C) scaled images.
            threads: at most so many; None for NPMOBILENET_THREADS or all cores that this process may use. The result
                does not depend on it.

        Returns:
            (N, *output_shape), float32.

        Raises:
            ShapeError: x does not have the plan's shape.
        """
        if x.shape[1:] != self.graph.input_shape or x.ndim != 4:
            raise ShapeError(f"plan: x (N, {', '.join(map(str, self.graph.input_shape))}) is needed; x {x.shape}")
        x = np.ascontiguousarray(x, np.float32)
        y = np.empty((len(x), *self.graph.output_shape), np.float32)
        with team(default_threads() if threads is None else threads) as members:
            if members is not None and len(x) >= members.size:
                members.share(lambda image: self._run_image(x[image], y[image], None), len(x))
            else:
                for image in range(len(x)):
                    self._run_image(x[image], y[image], members)
        return y

    def _run_image(self, x: Array, y: Array, members: Team | None) -> None:
        arena = self._arenas.pop() if self._arenas else _Arena(self.arena_bytes, self.scratch_bytes)
        arena.make_room(members.size if members else 1)
        for begin, end in self._segments:
            if begin == end:
                self._run_reference(self.steps[begin], arena, x)
            else:
                self._run_native(begin, end, arena, x, members)
        y[...] = self._value(self.ops[-1].name, arena)
        self._arenas.append(arena)

    def _run_native(self, begin: int, end: int, arena: "_Arena", x: Array, members: Team | None) -> None:
        """Steps begin ... end - 1 in one call, or in one call a member."""
        table, steps = self._table.ctypes.data + begin * self._table.strides[0], end - begin
        image, size = x.ctypes.data, members.size if members else 1
        barrier, arrived = (members.barrier.ctypes.data, int(members.barrier[0])) if members else (0, 0)

        def member(number: int) -> None:
            scratch = arena.scratch(number)
            self._network(table, steps, arena.address, scratch, image, number, size, barrier, arrived)

        if members:
            members.together(member)
        else:
            member(0)

    def __str__(self) -> str:
        """The steps as a table."""
        head = ("step", "kernel", "layers", "input", "output", "tile", "mult-adds", "weights", "what it covers")
        lines = [head, *(self._described(number, step) for number, step in enumerate(self.steps))]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        left = {1, 2, 8}
        text = [
            "  ".join(
                cell.ljust(width) if column in left else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        total = (
            f"{self.graph.name}: {len(self.graph.layers)} layers in {len(self.steps)} steps, {self.graph.macs:,} "
            f"multiply-adds; {self.lanes.width} floats a vector; activations {self.arena_bytes:,} bytes, "
            f"scratch {self.scratch_bytes:,} a thread, weights {self.weight_bytes:,}"
        )
        return "\n".join([total, "", *text])

    def _described(self, number: int, step: Step) -> tuple[str, ...]:
        shapes = self._shapes
        names = [name for op in step.ops for name in op.layers] or [step.target]
        parts = [f"{op.kind} {'x'.join(map(str, op.shape))}" for op in step.ops]
        weights = sum(op.kernel.size + op.bias.size for op in step.ops if op.kernel is not None and op.bias is not None)
        row = self._rows[number]
        tile = "" if row is None else str(row.get(Field.MATRIX_ROWS) or row.get(Field.PRODUCER_ROWS) or "")
        return (
            str(number), "ops (reference)" if step.kind is None else step.kind.name.lower(), str(len(names)),
            "x".join(map(str, shapes[step.source])), "x".join(map(str, shapes[step.target])), tile,
            f"{step.macs:,}", f"{FLOAT_BYTES * weights:,}", f"{names[0]} ... {names[-1]}: {' > '.join(parts)}",
        )  # fmt: skip

    # Memory

    def _place_values(self) -> tuple[dict[str, Place], int]:
        """A place in the arena for every value, and the arena's size in bytes."""
        shapes = self._shapes
        block = self.lanes.width * FLOAT_BYTES
        made: dict[str, int] = {}
        for number, step in enumerate(self.steps):
            made |= {name: number for name in (step.target, step.average) if name}
        last = dict(made)
        for number, step in enumerate(self.steps):
            last |= {name: number for name in map(self._root, step.reads) if name in made}
        last[self._root(self.ops[-1].name)] = len(self.steps)
        places = {name: Place(0, self._blocks(shapes[name][-1]), shapes[name]) for name in made}
        sizes = {
            name: -(-place.blocks * place.pixels * block // ALIGNMENT) * ALIGNMENT for name, place in places.items()
        }
        offsets, size = allocate(sizes, {name: (made[name], last[name]) for name in made})
        return {name: replace(place, offset=offsets[name]) for name, place in places.items()}, size

    def _blocks(self, channels: int) -> int:
        panel = self.lanes.width * self.lanes.panels
        return -(-channels // panel) * self.lanes.panels

    def _root(self, name: str) -> str:
        """The value that a view shows."""
        while name in self._views:
            name = self._views[name]
        return name

    def _value(self, name: str, arena: "_Arena") -> Array:
        """A value as (*shape,) array, copied out of the arena."""
        shape = self._shapes[name]
        place = self._places[self._root(name)]
        floats = arena.floats(place.offset, place.blocks * place.pixels * self.lanes.width)
        return layout.from_blocks(floats.reshape(place.blocks, place.pixels, self.lanes.width), shape)

    def _run_reference(self, step: Step, arena: "_Arena", x: Array) -> None:
        (op,) = step.ops
        values = [x if name == self.ops[0].name else self._value(name, arena) for name in op.reads]
        y = apply(op, *(value[None] for value in values))[0]
        place = self._places[op.name]
        blocks = layout.to_blocks(y.reshape(-1, 1, y.shape[-1]), self.lanes.width, place.blocks)
        arena.floats(place.offset, blocks.size)[:] = blocks.ravel()

    # The kernels' table

    def _longest_row(self) -> int:
        """Floats in the longest row of a map or of the image: so many zeros stand for a row outside."""
        sides = [
            op.shape[1] + 2 * max(op.kernel.shape) for op in self.ops if len(op.shape) == 3 and op.kernel is not None
        ]
        _, W, C = self.graph.input_shape
        return max(self.lanes.width * max(sides, default=0), self.lanes.width * W, (W + 16) * C)

    def _write_table(self) -> NDArray[np.int64]:
        table = np.zeros((len(self.steps), FIELDS), np.int64)
        base = self._packed.ctypes.data
        for values, row in zip(table, self._rows, strict=True):
            for name, value in (row or {}).items():
                values[name] = value + (base if name in WEIGHT_FIELDS else 0)
        return table

    def _row(self, step: Step) -> "Row":
        """One row of the table, and the scratch that the step needs as Field.SCRATCH."""
        row: Row = {Field.AVERAGE: -1, Field.GATE: -1, Field.RESIDUAL: -1}
        row[Field.KIND] = int(step.kind or 0)
        row[Field.ZEROS] = self._zeros
        row |= self._map_fields(Field.TARGET, Field.TARGET_BLOCK, step.target)
        if step.average:
            row[Field.AVERAGE] = self._place(step.average).offset
        if step.source != self.ops[0].name:
            row |= self._map_fields(Field.SOURCE, Field.SOURCE_BLOCK, step.source)
        write = {
            Kind.STRIP: self._strip_row, Kind.DEPTHWISE: self._depthwise_row, Kind.POINTWISE: self._pointwise_row,
            Kind.DENSE: self._dense_row, Kind.POOL: self._pool_row, Kind.ADD: self._add_row, Kind.STEM: self._stem_row,
        }[Kind(row[Field.KIND])]  # fmt: skip
        return row | write(step)

    def _strip_row(self, step: Step) -> "Row":
        assert step.depthwise is not None
        op, lanes = step.depthwise, self.lanes
        row = self._filter_fields(step)
        (H, W, C), K = op.shape, row[Field.SIZE]
        vector, blocks = lanes.width * FLOAT_BYTES, self._blocks(C)
        lines = 0
        if step.producer is not None and step.producer.is_pointwise:
            row |= self._producer_fields(step.producer, pixels=row[Field.SOURCE_WIDTH])
        elif step.producer is not None:
            row |= self._stem_fields(step.producer)
            lines = row.pop(Field.SCRATCH)

        def ring_rows(rows: int) -> int:
            return (rows - 1) * op.stride + K if step.producer is not None else 0

        def bytes_for(rows: int) -> int:
            ring = blocks * ring_rows(rows) * row[Field.SOURCE_WIDTH] * vector
            return ring + (blocks * rows * W * vector if step.pointwise is not None else 0)

        rows = 1
        while rows < H and rows * W < STRIP_PIXELS and bytes_for(rows + 1) <= CACHE:
            rows += 1
        ring = blocks * ring_rows(rows) * row[Field.SOURCE_WIDTH] * vector
        row |= {
            Field.STRIP_ROWS: rows, Field.UNITS: -(-H // rows), Field.RING: max(ring_rows(rows), 1), Field.LINES: lines,
            Field.FILTERED: lines + ring, Field.SCRATCH: SCRATCH_HEADER + lines + bytes_for(rows),
        }  # fmt: skip
        if step.pointwise is not None:
            last = H - (H - 1) // rows * rows
            row |= self._matrix_fields(step.pointwise, pixels=min(rows, last) * W)
        return row

    def _depthwise_row(self, step: Step) -> "Row":
        row = self._filter_fields(step)
        pixels = row[Field.SOURCE_HEIGHT] * row[Field.SOURCE_WIDTH]
        scratch = SCRATCH_HEADER
        if step.producer is not None:
            row |= self._producer_fields(step.producer, pixels)
            scratch += self.lanes.panels * pixels * self.lanes.width * FLOAT_BYTES
        return row | {Field.UNITS: -(-row[Field.BLOCKS] // self.lanes.panels), Field.SCRATCH: scratch}

    def _pointwise_row(self, step: Step) -> "Row":
        op = step.pointwise
        assert op is not None
        H, W, _ = op.shape
        row = self._matrix_fields(op, H * W)
        panels, depth, rows = row[Field.PANELS], row[Field.DEPTH], row[Field.MATRIX_ROWS]
        parts = max(-(-PARTS // panels), -(-H * W * depth * FLOAT_BYTES // CACHE))
        parts = 1 if step.average else min(parts, -(-H * W // rows))
        return row | {
            Field.HEIGHT: H, Field.WIDTH: W, Field.PIXEL_PARTS: parts, Field.UNITS: parts * panels,
            Field.SCRATCH: depth * self.lanes.panels * self.lanes.width * FLOAT_BYTES if op.gate else 0,
            Field.ONE_OVER_PIXELS: self._weights.add(1 / (H * W)),
        }  # fmt: skip

    def _dense_row(self, step: Step) -> "Row":
        op = step.pointwise
        assert op is not None
        assert op.kernel is not None
        assert op.bias is not None
        matrix = op.kernel.reshape(op.kernel.shape[-2:])
        blocks = -(-op.shape[-1] // self.lanes.width)
        return {
            Field.BLOCKS: blocks, Field.UNITS: -(-blocks // GEMV_PANELS) if blocks >= GEMV_PANELS else blocks,
            Field.DEPTH: len(matrix), Field.MATRIX: self._weights.add(layout.pack_matrix(matrix, self.lanes.width)),
            Field.MATRIX_BIAS: self._weights.add(layout.pack_vector(op.bias, self.lanes.width)),
            Field.MATRIX_ACTIVATION: Activation[op.activation.upper()],
        }  # fmt: skip

    def _pool_row(self, step: Step) -> "Row":
        H, W, C = self._shapes[step.source]
        return {
            Field.HEIGHT: H, Field.WIDTH: W, Field.UNITS: -(-C // self.lanes.width),
            Field.ONE_OVER_PIXELS: self._weights.add(1 / (H * W)),
        }  # fmt: skip

    def _add_row(self, step: Step) -> "Row":
        *sides, C = self._shapes[step.target]
        other = self._place(step.ops[0].inputs[1]).offset
        return {
            Field.HEIGHT: prod(sides),
            Field.WIDTH: 1,
            Field.UNITS: -(-C // self.lanes.width),
            Field.RESIDUAL: other,
        }

    def _stem_row(self, step: Step) -> "Row":
        assert step.pointwise is not None
        row = self._stem_fields(step.pointwise)
        return row | {Field.SOURCE_WIDTH: step.pointwise.shape[1], Field.UNITS: step.pointwise.shape[0]}

    def _filter_fields(self, step: Step) -> "Row":
        """The depthwise layer itself."""
        op = step.depthwise
        assert op is not None
        assert op.kernel is not None
        assert op.bias is not None
        H_in, W_in, _ = self._shapes[op.inputs[0]]
        H, W, C = op.shape
        return {
            Field.SOURCE_HEIGHT: H_in, Field.SOURCE_WIDTH: W_in, Field.HEIGHT: H, Field.WIDTH: W,
            Field.BLOCKS: -(-C // self.lanes.width), Field.SIZE: len(op.kernel), Field.STRIDE: op.stride,
            Field.TOP: op.zeros[0][0], Field.LEFT: op.zeros[1][0], Field.ACTIVATION: Activation[op.activation.upper()],
            Field.WEIGHTS: self._weights.add(layout.pack_depthwise(op.kernel, op.bias, self.lanes.width)),
            Field.ONE_OVER_PIXELS: self._weights.add(1 / (H * W)),
        }  # fmt: skip

    def _producer_fields(self, op: Op, pixels: int) -> "Row":
        """The pointwise layer that makes a depthwise layer's input, `pixels` pixels at a time."""
        fields = self._matrix_fields(op, pixels)
        return {
            Field.PRODUCER: Producer.POINTWISE, Field.PRODUCER_PANELS: fields[Field.PANELS],
            Field.PRODUCER_DEPTH: fields[Field.DEPTH], Field.PRODUCER_WEIGHTS: fields[Field.MATRIX],
            Field.PRODUCER_BIAS: fields[Field.MATRIX_BIAS], Field.PRODUCER_ACTIVATION: fields[Field.MATRIX_ACTIVATION],
            Field.PRODUCER_ROWS: fields[Field.MATRIX_ROWS],
        }  # fmt: skip

    def _matrix_fields(self, op: Op, pixels: int) -> "Row":
        """A pointwise layer, `pixels` pixels at a time."""
        assert op.kernel is not None
        assert op.bias is not None
        matrix = op.kernel.reshape(op.kernel.shape[-2:])
        panel = self.lanes.width * self.lanes.panels
        return {
            Field.PANELS: -(-op.shape[-1] // panel), Field.DEPTH: len(matrix), Field.MATRIX_ROWS: tile_rows(pixels,
            self.lanes), Field.MATRIX: self._weights.add(layout.pack_matrix(matrix, panel)),
            Field.MATRIX_BIAS: self._weights.add(layout.pack_vector(op.bias, panel)),
            Field.MATRIX_ACTIVATION: Activation[op.activation.upper()],
            Field.RESIDUAL: self._place(op.residual).offset if op.residual else -1,
            Field.GATE: self._place(op.gate).offset if op.gate else -1,
        }  # fmt: skip

    def _stem_fields(self, op: Op) -> "Row":
        """The first convolution; its input rows are copied, with the zeros at their ends, into Field.SCRATCH bytes."""
        assert op.kernel is not None
        assert op.bias is not None
        H, W, channels = self.graph.input_shape
        K, panel = len(op.kernel), self.lanes.width * self.lanes.panels
        (top, _), (left, _) = op.zeros
        right = max((op.shape[1] - 1) * op.stride + K - left - W, 0)
        line = (left + W + right) * channels * FLOAT_BYTES
        matrix = op.kernel.reshape(-1, op.shape[-1])  # (K * K * c_in, c_out)
        return {
            Field.PRODUCER: Producer.STEM, Field.PRODUCER_PANELS: -(-op.shape[-1] // panel),
            Field.PRODUCER_WEIGHTS: self._weights.add(layout.pack_matrix(matrix, panel)),
            Field.PRODUCER_BIAS: self._weights.add(layout.pack_vector(op.bias, panel)),
            Field.PRODUCER_ACTIVATION: Activation[op.activation.upper()],
            Field.IMAGE_HEIGHT: H, Field.IMAGE_WIDTH: W, Field.IMAGE_CHANNELS: channels, Field.IMAGE_TOP: top,
            Field.IMAGE_LEFT: left, Field.IMAGE_RIGHT: right, Field.FILTER: K, Field.FILTER_STRIDE: op.stride,
            Field.IMAGE_SCALE: self._weights.add((*op.rescale, 1.0, 0.0)),
            Field.SCRATCH: -(-(SCRATCH_HEADER + K * line) // ALIGNMENT) * ALIGNMENT,
        }  # fmt: skip

    def _map_fields(self, offset: Field, block: Field, name: str) -> "Row":
        place = self._place(name)
        return {offset: place.offset, block: place.pixels * self.lanes.width * FLOAT_BYTES}

    def _place(self, name: str) -> Place:
        return self._places[self._root(name)]


Row = dict[Field, int]


class _Weights:
    """Packed arrays, one after the other in one aligned piece of memory.

    `add` returns the offset; `write` turns the offsets in a table into addresses once everything has been added.
    """

    def __init__(self) -> None:
        self._arrays: list[layout.Floats] = []
        self.bytes = 0

    def add(self, values: ArrayLike) -> int:
        """Append the values, and return where they will lie."""
        array = np.ascontiguousarray(values, np.float32)
        offset = self.bytes
        self._arrays.append(array)
        self.bytes += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        return offset

    def pack(self) -> layout.Floats:
        """All values in one array, each where `add` said."""
        packed = aligned_floats(self.bytes)
        offset = 0
        for array in self._arrays:
            packed[offset : offset + array.size] = array.ravel()
            offset += -(-array.nbytes // ALIGNMENT) * ALIGNMENT // FLOAT_BYTES
        self._arrays.clear()
        return packed


WEIGHT_FIELDS = (
    Field.ZEROS, Field.PRODUCER_WEIGHTS, Field.PRODUCER_BIAS, Field.IMAGE_SCALE, Field.WEIGHTS, Field.MATRIX,
    Field.MATRIX_BIAS, Field.ONE_OVER_PIXELS,
)  # fmt: skip


class _Arena:
    """Memory of one image on its way through the network: activations, and scratch for every thread."""

    def __init__(self, size: int, scratch: int) -> None:
        self._floats = aligned_floats(size)
        self.address = self._floats.ctypes.data
        self._scratch_bytes = scratch
        self._scratch: list[layout.Floats] = []

    def make_room(self, threads: int) -> None:
        """Have scratch for so many threads."""
        while len(self._scratch) < threads:
            self._scratch.append(aligned_floats(self._scratch_bytes))

    def scratch(self, thread: int) -> int:
        """Address of a thread's scratch."""
        return self._scratch[thread].ctypes.data

    def floats(self, offset: int, count: int) -> layout.Floats:
        """`count` floats from `offset` bytes on, not copied."""
        begin = offset // FLOAT_BYTES
        return self._floats[begin : begin + count]


def aligned_floats(size: int) -> layout.Floats:
    """Zeros, `size` bytes from an address that ALIGNMENT divides."""
    room = np.zeros(size // FLOAT_BYTES + ALIGNMENT // FLOAT_BYTES, np.float32)
    skip = -room.ctypes.data % ALIGNMENT // FLOAT_BYTES
    return room[skip : skip + size // FLOAT_BYTES]


def kernel_folder() -> Path:
    """Where compiled kernels are kept: below NPMOBILENET_CACHE, or below the system's cache folder for this user."""
    named = os.environ.get("NPMOBILENET_CACHE")
    return (Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("npmobilenet"))) / "kernels"


def default_threads() -> int:
    """NPMOBILENET_THREADS, or the cores that this process may use."""
    asked = os.environ.get("NPMOBILENET_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else available_cores()
