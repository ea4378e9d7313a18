"""The fast way through a network: a `Plan` of a few dozen steps, run by one native call.

    Graph --fusion.fuse--> fewer operations --group--> steps --allocate--> one arena --write--> a table for the kernels

A step is what the kernels do in one go, often several operations: a few rows of an expanded map go through the
depthwise filter and the projection while they are still in cache. `print(plan)` shows the steps. Operations that no
kernel covers are run by the functions of `ops`, in their place, and the plan says so.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from time import perf_counter

import numpy as np
from npmobilenet_kernels import layout
from npmobilenet_kernels.lanes import Lanes, lanes
from npmobilenet_kernels.native import Native
from npmobilenet_kernels.steps import Field, Job, Product
from npmobilenet_kernels.threads import MOST, Team, available_cores, new_job, team

from npmobilenet.compiler.compilation import begin_to_compile, compiled_kernels, kernels_if_ready
from npmobilenet.compiler.encoding import ALIGNMENT, Table, aligned_floats
from npmobilenet.compiler.passes import apply, fuse
from npmobilenet.compiler.scheduling import FLOAT_BYTES, Place, Step, allocate, group
from npmobilenet.errors import NpMobileNetError, ShapeError
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array

NOT_COMPILED = Native(lambda *_: 0, {})
PLANS = 4  # image sizes whose plans an engine keeps: each holds a packed copy of the weights


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


class Engine:
    """A network that makes a plan for every image size it meets, and keeps the last few.

    Args:
        graph: the network.
        params: arrays by `layer/array`.

    Raises:
        ImportError: there are no kernels for this architecture.
    """

    def __init__(self, graph: Graph, params: Mapping[str, Array]) -> None:
        lanes()
        self.graph = graph
        self._params = params
        self._plans: dict[tuple[int, int], Plan] = {}

    def plan(self, H: int, W: int) -> "Plan":
        """The plan for images of H x W pixels, ready to run: kernels that are missing are compiled now.

        Raises:
            ShapeError: the network fixes another size, or the images are too small for it.
            KernelError: the kernels cannot be compiled.
        """
        plan = self._plan(H, W)
        plan.compile()
        return plan

    def is_ready(self, H: int, W: int) -> bool:
        """Whether images of H x W pixels can be computed without compiling anything; errors as `plan`."""
        return self._plan(H, W).is_ready()

    def begin_to_compile(self, H: int, W: int) -> None:
        """Have another process compile what images of H x W pixels need; errors as `plan`."""
        self._plan(H, W).begin_to_compile()

    def run(self, x: Array, threads: int | None = None) -> Array:
        """Compute the network on scaled images (N, H, W, C); arguments, result and errors as `plan` and `Plan.run`."""
        return self.plan(*self.size(x)).run(x, threads)

    def threads(self, asked: int | None) -> int:
        """How many threads compute, at most; arguments and errors as `Plan.run`."""
        return default_threads() if asked is None else asked

    def size(self, x: Array) -> tuple[int, int]:
        """(H, W) of images (N, H, W, C).

        Raises:
            ShapeError: they are not such images.
        """
        if x.ndim != 4 or x.shape[3] != self.graph.input_shape[2]:
            wanted = ", ".join(map(str, self.graph.input_shape))
            raise ShapeError(f"{self.graph.name}: x (N, {wanted}) is needed; x {x.shape}")
        return x.shape[1], x.shape[2]

    def _plan(self, H: int, W: int) -> "Plan":
        plan = self._plans.get((H, W))
        if plan is None:
            graph = self.graph if self.graph.input_shape[:2] == (H, W) else self.graph.with_input(H, W)
            plan = Plan(graph, self._params, compiled=False)
            while len(self._plans) >= PLANS:
                self._plans.pop(next(iter(self._plans)), None)
            self._plans[H, W] = plan
        return plan


class Plan:
    """A network compiled for one input shape.

    Args:
        graph: the network; its input shape is the plan's.
        params: arrays by `layer/array`.
        width: floats in a vector, at most; None for what the CPU has. For tests.
        compiled: compile the kernels that are missing now, and not when `compile` or `run` is called.

    Raises:
        KernelError: the kernels cannot be compiled.

    Attributes:
        ops: the fused operations. steps: what is done in which order.
        arena_bytes: activations of one image. scratch_bytes: working memory of one thread. weight_bytes: packed
            weights.
    """

    def __init__(
        self, graph: Graph, params: Mapping[str, Array], *, width: int | None = None, compiled: bool = True
    ) -> None:
        self.graph = graph
        self.lanes: Lanes = lanes(width)
        self.ops = fuse(graph, params)
        self.steps = group(self.ops)
        self._shapes = {op.name: op.shape for op in self.ops}
        self._views = {op.name: op.inputs[0] for op in self.ops if op.kind == "view"}
        self._places, self.arena_bytes = self._place_values()
        self._native = NOT_COMPILED
        self._table = Table(self.ops, self.steps, self._place, self.lanes)
        self.scratch_bytes = self._table.scratch_bytes
        self.weight_bytes = self._table.weights.nbytes
        self._segments = _segments(self.steps)
        self._arenas: list[_Arena] = []
        if compiled:
            self.compile()

    def is_ready(self) -> bool:
        """Whether the kernels are here, kept, or just compiled.

        Raises:
            KernelError: they could not be compiled.
        """
        if self._native is NOT_COMPILED and (found := kernels_if_ready(self._table.symbols)):
            self._link(found)
        return self._native is not NOT_COMPILED

    def begin_to_compile(self) -> None:
        """Have another process compile what is missing; one at a time does.

        Raises:
            KernelError: no process can be started.
        """
        begin_to_compile(self._table.symbols)

    def compile(self) -> None:
        """Have the kernels at the end, whatever it takes.

        Raises:
            KernelError: they cannot be compiled.
        """
        if self._native is NOT_COMPILED:
            self._link(compiled_kernels(self._table.symbols))

    def _link(self, found: Native) -> None:
        self._table.link(found.tiles)
        self._native = found

    def run(self, x: Array, threads: int | None = None) -> Array:
        """Compute the network.

        Args:
            x: (N, H, W, C) scaled images.
            threads: at most so many, and never more than the cores that this process may use; None for
                NPMOBILENET_THREADS or all of those. The result does not depend on it.

        Returns:
            (N, *output_shape), float32.

        Raises:
            ShapeError: x does not have the plan's shape.
            NpMobileNetError: NPMOBILENET_THREADS is not a number of threads.
            KernelError: the kernels cannot be compiled.
        """
        self.compile()
        if x.shape[1:] != self.graph.input_shape or x.ndim != 4:
            raise ShapeError(f"plan: x (N, {', '.join(map(str, self.graph.input_shape))}) is needed; x {x.shape}")
        x = np.ascontiguousarray(x, np.float32)
        y = np.empty((len(x), *self.graph.output_shape), np.float32)
        with team(default_threads() if threads is None else threads, self._native.run) as members:
            if members is not None and len(x) >= members.size:
                members.share(lambda image: self._run_image(x[image], y[image], None), len(x))
            else:
                for image in range(len(x)):
                    self._run_image(x[image], y[image], members)
        return y

    def _run_image(self, x: Array, y: Array, members: Team | None) -> None:
        arena = self._free_arena()
        arena.make_room(members.size if members else 1)
        for begin, end in self._segments:
            if begin == end:
                self._run_reference(self.steps[begin], arena, x)
            else:
                self._run_native(begin, end, arena, x, members)
        output = self.ops[-1].name
        y[...] = x.reshape(y.shape) if self._root(output) == self.ops[0].name else self._value(output, arena)
        self._arenas.append(arena)

    def step_outputs(self, x: Array) -> Iterator[dict[str, Array]]:
        """Compute one image step by step, on this thread alone.

        Args:
            x: (H, W, C) scaled image.

        Yields:
            For each step what it has made, one array or two by name, without a batch axis. A name is that of the last
            layer covered; that of a layer's sums, before an activation with a kernel of its own, is no layer's.
        """
        x = np.ascontiguousarray(x, np.float32)
        arena = _Arena(self.arena_bytes, self.scratch_bytes)
        for number, step in enumerate(self.steps):
            if step.kind is None:
                self._run_reference(step, arena, x)
            else:
                self._run_native(number, number + 1, arena, x, None)
            yield {name: self._value(name, arena) for name in (step.target, step.average) if name}

    def _free_arena(self) -> "_Arena":
        try:
            return self._arenas.pop()
        except IndexError:
            return _Arena(self.arena_bytes, self.scratch_bytes)

    def _run_native(self, begin: int, end: int, arena: "_Arena", x: Array, members: Team | None) -> None:
        """Steps begin ... end - 1 in one native call."""
        table, image = self._table.values[begin:].ctypes.data, x.ctypes.data
        columns = (table, end - begin, arena.address, arena.scratch, self.scratch_bytes, image)
        if members:
            members.together(*columns, in_use=(self, arena, x))
        else:
            arena.job[: Job.THREADS + 1] = (*columns, 1)
            self._native.run(arena.job.ctypes.data, 0, 0, 0)

    def map_bytes(self, step: Step) -> int:
        """Bytes of the maps that a step reads and makes for one image, each once."""
        values = {*map(self._root, step.reads), step.target, *([step.average] if step.average else [])}
        return FLOAT_BYTES * sum(prod(self._shapes[name]) for name in values)

    def time_steps(self, x: Array, threads: int) -> tuple[list[float], float]:
        """Compute one image with a native call for every step, and time the calls.

        The steps follow on each other as in `run`, so that each finds its input and its weights in the same caches.

        Args:
            x: (1, H, W, C) scaled image.
            threads: as `run`.

        Returns:
            Seconds of each step; and of the shortest call without a step, of which there is one before each: so much of
            the others is the call itself. What it takes several threads to meet is the step's.
        """
        image = np.ascontiguousarray(x[0], np.float32)
        arena = self._free_arena()
        ticks: list[tuple[float, float, float]] = []
        with team(threads, self._native.run) as members:
            arena.make_room(members.size if members else 1)
            for number, step in enumerate(self.steps):
                start = perf_counter()
                self._run_native(number, number, arena, image, None)
                ready = perf_counter()
                if step.kind is None:
                    self._run_reference(step, arena, image)
                else:
                    self._run_native(number, number + 1, arena, image, members)
                ticks.append((start, ready, perf_counter()))
        self._arenas.append(arena)
        return [done - ready for _, ready, done in ticks], min(ready - start for start, ready, _ in ticks)

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
        row = self._table.rows[number] or {}
        rows = (row.get(start + Product.ROWS) for start in (Field.PRODUCER, Field.MATRIX))
        tile = " ".join(f"{n}x{self.lanes.panel}" for n in rows if n)
        return (
            str(number), "ops (reference)" if step.kind is None else step.kind.name.lower(), str(len(names)),
            "x".join(map(str, shapes[step.source])), "x".join(map(str, shapes[step.target])), tile,
            f"{step.macs:,}", f"{FLOAT_BYTES * step.weights:,}", f"{names[0]} ... {names[-1]}: {' > '.join(parts)}",
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
        return -(-channels // self.lanes.width)

    def _root(self, name: str) -> str:
        """The value that a view shows."""
        while name in self._views:
            name = self._views[name]
        return name

    def _place(self, name: str) -> Place:
        return self._places[self._root(name)]

    def _value(self, name: str, arena: "_Arena") -> Array:
        """A value as (*shape,) array, copied out of the arena."""
        shape = self._shapes[name]
        place = self._place(name)
        floats = arena.floats(place.offset, place.blocks * place.pixels * self.lanes.width)
        return layout.from_blocks(floats.reshape(place.blocks, place.pixels, self.lanes.width), shape)

    def _run_reference(self, step: Step, arena: "_Arena", x: Array) -> None:
        (op,) = step.ops
        values = [x if name == self.ops[0].name else self._value(name, arena) for name in op.reads]
        y = apply(op, *(value[None] for value in values))[0]
        place = self._places[op.name]
        blocks = layout.to_blocks(y.reshape(-1, 1, y.shape[-1]), self.lanes.width, place.blocks)
        arena.floats(place.offset, blocks.size)[:] = blocks.ravel()


class _Arena:
    """Memory of one image on its way through the network: activations, and scratch for every thread."""

    def __init__(self, size: int, scratch: int) -> None:
        self._floats = aligned_floats(size)
        self.address = self._floats.ctypes.data
        self._scratch_bytes = scratch
        self._scratch = aligned_floats(scratch)
        self.job = new_job()

    def make_room(self, threads: int) -> None:
        """Have scratch for so many threads, one after the other."""
        if self._scratch.nbytes < threads * self._scratch_bytes:
            self._scratch = aligned_floats(threads * self._scratch_bytes)

    @property
    def scratch(self) -> int:
        """Address of the first thread's scratch."""
        return self._scratch.ctypes.data

    def floats(self, offset: int, count: int) -> layout.Floats:
        """`count` floats from `offset` bytes on, not copied."""
        begin = offset // FLOAT_BYTES
        return self._floats[begin : begin + count]


def default_threads() -> int:
    """NPMOBILENET_THREADS, or the cores that this process may use.

    Raises:
        NpMobileNetError: NPMOBILENET_THREADS is set to something else than a number of threads.
    """
    asked = os.environ.get("NPMOBILENET_THREADS", "").strip()
    if asked and not (asked.isdecimal() and 0 < int(asked) <= MOST):
        raise NpMobileNetError(f"NPMOBILENET_THREADS is {asked!r}; expected a whole number from 1 to {MOST}")
    return int(asked) if asked else available_cores()
