"""A network compiled for one input shape: a few dozen steps in one arena, run by one native call.

    Graph --fuse--> operations --schedule--> steps --place--> arena --encode--> table for the kernels

A step is what the kernels compute in one go, often several operations: a few rows of an expanded map go through the
depthwise filter and the projection while they are still in cache. `print(plan)` shows the steps. Operations without a
kernel are computed by their `evaluate`, in their place, and the plan shows which.
"""

from collections.abc import Iterator, Sequence
from math import prod
from time import perf_counter

import numpy as np
from npmobilenet_kernels.runtime import packing
from npmobilenet_kernels.runtime.cpu import CpuTarget, host_target
from npmobilenet_kernels.runtime.job import Job
from npmobilenet_kernels.runtime.native import Native
from npmobilenet_kernels.runtime.thread_pool import ThreadPool, shared_pool

from npmobilenet.compiler.arena import FLOAT_BYTES, Memory, Workspace
from npmobilenet.compiler.blocking import Blocking
from npmobilenet.compiler.compilation import begin_to_compile, compiled_kernels, kernels_if_ready
from npmobilenet.compiler.encoding import Table, encode
from npmobilenet.compiler.ir import Operations, Output, outputs_of
from npmobilenet.compiler.passes import fuse
from npmobilenet.compiler.placement import place
from npmobilenet.compiler.scheduling import schedule
from npmobilenet.compiler.step_types import ReferenceStep, Step
from npmobilenet.compiler.thread_count import default_threads
from npmobilenet.errors import ShapeError
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array, Outputs, Params

NOT_COMPILED = Native(lambda *_: 0, {})
BLOCKING = Blocking()


def compile_graph(
    graph: Graph, params: Params, target: CpuTarget | None = None, blocking: Blocking = BLOCKING
) -> "Plan":
    """The plan of a network; its kernels are compiled when they are first needed.

    Args:
        graph: the network; its input shape is the plan's.
        params: arrays by `layer/array`.
        target: the CPU; None for this one.
        blocking: how work is cut.

    Raises:
        ImportError: there are no kernels for this architecture.
    """
    target = target or host_target()
    ops = fuse(graph, params)
    steps = schedule(ops, blocking)
    memory = place(ops, steps, target)
    return Plan(graph, target, ops, steps, memory, encode(ops, steps, memory, target, blocking))


class Plan:
    """A network compiled for one input shape.

    Attributes:
        graph: the network; its input shape is the plan's.
        target: the CPU.
        ops: the fused operations.
        steps: what is computed in which order.
        memory: the place of every value in the arena.
        table: the steps as the kernels read them.
    """

    def __init__(
        self, graph: Graph, target: CpuTarget, ops: Operations, steps: Sequence[Step], memory: Memory, table: Table
    ) -> None:
        self.graph = graph
        self.target = target
        self.ops = ops
        self.steps = steps
        self.memory = memory
        self.table = table
        self._shapes = {op.name: op.shape for op in ops}
        self._outputs = outputs_of(ops)
        self._native = NOT_COMPILED
        self._segments = _segments(steps)
        self._free_workspaces: list[Workspace] = []

    @property
    def arena_bytes(self) -> int:
        """Bytes of the activations of one image."""
        return self.memory.size

    @property
    def scratch_bytes(self) -> int:
        """Bytes of working memory per thread."""
        return self.table.scratch_bytes

    @property
    def weight_bytes(self) -> int:
        """Bytes of packed weights."""
        return self.table.weights.nbytes

    def is_ready(self) -> bool:
        """Whether the kernels are loaded, cached, or just compiled.

        Raises:
            KernelError: they could not be compiled.
        """
        if self._native is NOT_COMPILED and (found := kernels_if_ready(self.table.symbols)):
            self._link(found)
        return self._native is not NOT_COMPILED

    def begin_to_compile(self) -> None:
        """Have another process compile what is missing; one at a time does.

        Raises:
            KernelError: no process can be started.
        """
        begin_to_compile(self.table.symbols)

    def compile_kernels(self) -> None:
        """Load the kernels, and compile those that are missing now.

        Raises:
            KernelError: they cannot be compiled.
        """
        if self._native is NOT_COMPILED:
            self._link(compiled_kernels(self.table.symbols))

    def _link(self, found: Native) -> None:
        self.table.link(found.tiles)
        self._native = found

    def run(self, x: Array, threads: int | None = None) -> Outputs:
        """The network's output (N, *output_shape), float32, or {name: output} of several; otherwise as `outputs`."""
        ys = self.outputs(x, threads)
        return ys[0] if len(ys) == 1 else {name: y for (name, _), y in zip(self.graph.outputs, ys, strict=True)}

    def outputs(self, x: Array, threads: int | None = None) -> list[Array]:
        """Compute the network.

        Args:
            x: (N, H, W, C) scaled images.
            threads: maximum number of threads, and never more than the cores that this process may use; None for
                NPMOBILENET_THREADS or all of those. The result does not depend on it.

        Returns:
            (N, *output_shape), float32, of each output, in the order of the graph's.

        Raises:
            ShapeError: x does not have the plan's shape.
            NpMobileNetError: NPMOBILENET_THREADS is not a number of threads.
            KernelError: the kernels cannot be compiled.
        """
        self.compile_kernels()
        if x.shape[1:] != self.graph.input_shape or x.ndim != 4:
            expected = ", ".join(map(str, self.graph.input_shape))
            raise ShapeError(f"plan: expected x of shape (N, {expected}), got {x.shape}")
        x = np.ascontiguousarray(x, np.float32)
        ys = [np.empty((len(x), *output.shape), np.float32) for output in self._outputs]
        with shared_pool(default_threads() if threads is None else threads, self._native.run) as members:
            if members is not None and len(x) >= members.size:
                members.for_each(lambda image: self._run_image(x[image], [y[image] for y in ys], None), len(x))
            else:
                for image in range(len(x)):
                    self._run_image(x[image], [y[image] for y in ys], members)
        return ys

    def _run_image(self, x: Array, ys: Sequence[Array], members: ThreadPool | None) -> None:
        workspace = self._workspace()
        workspace.make_room(members.size if members else 1)
        for begin, end in self._segments:
            if begin == end:
                self._run_reference(self.steps[begin], workspace, x)
            else:
                self._run_native(begin, end, workspace, x, members)
        for output, y in zip(self._outputs, ys, strict=True):
            stored_image = self.memory.stored[output.name] == self.ops[0].name
            if stored_image:
                y[...] = x.reshape(y.shape)
            else:
                self._write_output(output, y, workspace)
        self._free_workspaces.append(workspace)

    def _write_output(self, output: Output, y: Array, workspace: Workspace) -> None:
        """Copy an output, or the values that it joins, one after another, out of the workspace."""
        rows = y.reshape(-1, y.shape[-1])  # (rows, C)
        start = 0
        for name in output.inputs:
            shape = self._shapes[name]
            count = prod(shape) // rows.shape[-1]
            part = rows[start : start + count].reshape(-1, shape[-1])  # (pixels, C of the value)
            packing.from_blocks(workspace.blocks(name), part.shape, part)
            start += count

    def new_workspace(self) -> Workspace:
        """Memory for one image, computed by one thread."""
        return Workspace(self.memory, self.scratch_bytes)

    def _workspace(self) -> Workspace:
        try:
            return self._free_workspaces.pop()
        except IndexError:
            return self.new_workspace()

    def run_step(self, number: int, workspace: Workspace, x: Array) -> None:
        """Compute one step of one image x (H, W, C), float32, on this thread; reads and writes the workspace.

        Raises:
            KernelError: the kernels cannot be compiled.
        """
        self.compile_kernels()
        self._run_step(number, workspace, x, None)

    def value(self, name: str, workspace: Workspace) -> Array:
        """A value as an array without a batch axis, copied out of the workspace."""
        return workspace.value(name, self._shapes[name])

    def step_outputs(self, x: Array) -> Iterator[dict[str, Array]]:
        """Compute one image step by step, on this thread.

        Args:
            x: (H, W, C) scaled image.

        Yields:
            What each step has made, one array or two by name, without a batch axis. A name is that of the last layer
            covered; that of a layer's sums, before an activation with a kernel of its own, is no layer's.

        Raises:
            KernelError: the kernels cannot be compiled.
        """
        x = np.ascontiguousarray(x, np.float32)
        workspace = self.new_workspace()
        for number, step in enumerate(self.steps):
            self.run_step(number, workspace, x)
            yield {name: self.value(name, workspace) for name in step.makes}

    def _run_step(self, number: int, workspace: Workspace, x: Array, members: ThreadPool | None) -> None:
        step = self.steps[number]
        if isinstance(step, ReferenceStep):
            self._run_reference(step, workspace, x)
        else:
            self._run_native(number, number + 1, workspace, x, members)

    def _run_native(self, begin: int, end: int, workspace: Workspace, x: Array, members: ThreadPool | None) -> None:
        """Steps begin ... end - 1 in one native call."""
        table, image = self.table.values[begin:].ctypes.data, x.ctypes.data
        scratch = workspace.scratch.ctypes.data
        columns = (table, end - begin, workspace.address, scratch, self.scratch_bytes, image)
        if members:
            members.compute(*columns, in_use=(self, workspace, x))
        else:
            workspace.job[: Job.THREADS + 1] = (*columns, 1)
            self._native.run(workspace.job.ctypes.data, 0, 0, 0)

    def _run_reference(self, step: Step, workspace: Workspace, x: Array) -> None:
        (op,) = step.ops
        values = [x if name == self.ops[0].name else self.value(name, workspace) for name in op.reads]
        y = op.evaluate(*(value[None] for value in values))[0]
        blocks = workspace.blocks(op.name)
        blocks[...] = packing.to_blocks(y.reshape(-1, 1, y.shape[-1]), self.target.width, len(blocks))

    def map_bytes(self, step: Step) -> int:
        """Bytes of the maps that a step reads and makes for one image, each once."""
        values = {self.memory.stored[name] for name in step.reads} | {*step.makes}
        return FLOAT_BYTES * sum(prod(self._shapes[name]) for name in values)

    def time_steps(self, x: Array, threads: int) -> tuple[list[float], float]:
        """Compute one image with a native call per step, and time the calls.

        The steps follow one another as in `run`, so that each finds its input and its weights in the same caches.

        Args:
            x: (1, H, W, C) scaled image.
            threads: as `run`.

        Returns:
            Seconds of each step; and of the shortest call without a step, one of which precedes each: that much of the
            others is the call itself. The time in which several threads meet is the step's.

        Raises:
            KernelError: the kernels cannot be compiled.
        """
        self.compile_kernels()
        image = np.ascontiguousarray(x[0], np.float32)
        workspace = self._workspace()
        ticks: list[tuple[float, float, float]] = []
        with shared_pool(threads, self._native.run) as members:
            workspace.make_room(members.size if members else 1)
            for number in range(len(self.steps)):
                start = perf_counter()
                self._run_native(number, number, workspace, image, None)
                ready = perf_counter()
                self._run_step(number, workspace, image, members)
                ticks.append((start, ready, perf_counter()))
        self._free_workspaces.append(workspace)
        return [done - ready for _, ready, done in ticks], min(ready - start for start, ready, _ in ticks)

    def __str__(self) -> str:
        """The steps as a table."""
        from npmobilenet.compiler.plan_report import report

        return report(self)


def _segments(steps: Sequence[Step]) -> list[tuple[int, int]]:
    """Runs of steps that one native call computes, as (first, last + 1); a reference step is (number, number)."""
    segments: list[tuple[int, int]] = []
    for number, step in enumerate(steps):
        if isinstance(step, ReferenceStep):
            segments.append((number, number))
        elif segments and segments[-1][0] < segments[-1][1] == number:
            segments[-1] = (segments[-1][0], number + 1)
        else:
            segments.append((number, number + 1))
    return segments
