"""What plans of all kinds of network share: their kernels, the memory of an image, and the native calls.

A plan is a list of steps, a table of them for the kernels, and an arena. Runs of steps that have kernels are one native
call; a step without one is computed in its place by NumPy.
"""

from collections.abc import Iterator, Sequence
from math import prod
from time import perf_counter

from npmobilenet_kernels.runtime import packing
from npmobilenet_kernels.runtime.job import Job
from npmobilenet_kernels.runtime.native import Native
from npmobilenet_kernels.runtime.thread_pool import ThreadPool, shared_pool

from npmobilenet.compiler.arena import Memory, Workspace
from npmobilenet.compiler.compilation import begin_to_compile, compiled_kernels, kernels_if_ready
from npmobilenet.compiler.encoding import Table
from npmobilenet.compiler.ir import Joined, Operations, outputs_of
from npmobilenet.compiler.step_types import ReferenceStep, Step
from npmobilenet.compiler.thread_count import default_threads
from npmobilenet.types import Array

NOT_COMPILED = Native(lambda *_: 0, {})


class NativePlan:
    """A network compiled for one input shape.

    Attributes:
        ops: the fused operations; the first is the network's input.
        steps: what is computed in which order.
        memory: the place of every value in the arena.
        table: the steps as the kernels read them.
    """

    def __init__(self, ops: Operations, steps: Sequence[Step], memory: Memory, table: Table) -> None:
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

    def compute(self, x: Array, ys: Sequence[Array], threads: int | None) -> None:
        """Compute images x (N, H, W, C), as the kernels read them, into ys (N, ...), one array per output.

        Raises:
            NpMobileNetError: NPMOBILENET_THREADS is not a number of threads.
            KernelError: the kernels cannot be compiled.
        """
        self.compile_kernels()
        with shared_pool(default_threads() if threads is None else threads, self._native.run) as members:
            if members is not None and len(x) >= members.size:
                members.for_each(lambda image: self._run_image(x[image], [y[image] for y in ys], None), len(x))
            else:
                for image in range(len(x)):
                    self._run_image(x[image], [y[image] for y in ys], members)

    def _run_image(self, x: Array, ys: Sequence[Array], members: ThreadPool | None) -> None:
        workspace = self._workspace()
        workspace.make_room(members.size if members else 1)
        for begin, end in self._segments:
            if begin == end:
                self._run_reference(self.steps[begin], workspace, x)
            else:
                self._run_native(begin, end, workspace, x, members)
        for output, y in zip(self._outputs, ys, strict=True):
            if self.memory.stored[output.name] == self.ops[0].name:
                y[...] = x.reshape(y.shape)
            elif isinstance(output, Joined):
                self._join(output, y, workspace)
            else:
                y[...] = self.value(output.name, workspace)
        self._free_workspaces.append(workspace)

    def _join(self, output: Joined, y: Array, workspace: Workspace) -> None:
        """Copy the maps that an output (rows, values) joins, one after another, out of the workspace."""
        start = 0
        for name in output.inputs:
            shape = self._shapes[name]
            count = prod(shape) // y.shape[1]
            part = y[start : start + count].reshape(-1, shape[-1])  # (H * W, C) of the map
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
        """Compute one step of one image x (H, W, C), as the kernels read it, on this thread, in the workspace.

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
            x: (H, W, C) image, as `outputs` takes it.

        Yields:
            What each step has made, one array or two by name, without a batch axis. A name is that of the last layer
            covered; that of a layer's sums, before an activation with a kernel of its own, is no layer's.

        Raises:
            KernelError: the kernels cannot be compiled.
        """
        x = self._as_read(x)
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
        """Compute a step without a kernel."""
        raise NotImplementedError

    def _as_read(self, x: Array) -> Array:
        """An image, or images, as the kernels read them."""
        raise NotImplementedError

    def time_steps(self, x: Array, threads: int) -> tuple[list[float], float]:
        """Compute one image with a native call per step, and time the calls.

        The steps follow one another as in `run`, so that each finds its input and its weights in the same caches.

        Args:
            x: (1, H, W, C) image, as `outputs` takes it.
            threads: as `run`.

        Returns:
            Seconds of each step; and of the shortest call without a step, one of which precedes each: that much of the
            others is the call itself. The time in which several threads meet is the step's.

        Raises:
            KernelError: the kernels cannot be compiled.
        """
        self.compile_kernels()
        image = self._as_read(x[0])
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
