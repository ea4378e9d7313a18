"""A network compiled for one input shape: a few dozen steps in one arena, run by one native call.

    Graph --fuse--> operations --schedule--> steps --place--> arena --encode--> table for the kernels

A step is what the kernels compute in one go, often several operations: a few rows of an expanded map go through the
depthwise filter and the projection while they are still in cache. `print(plan)` shows the steps. Operations without a
kernel are computed by their `evaluate`, in their place, and the plan shows which.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
from npmobilenet_kernels.runtime import packing
from npmobilenet_kernels.runtime.cpu import CpuTarget, host_target

from npmobilenet.compiler.arena import FLOAT_BYTES, Memory, Workspace
from npmobilenet.compiler.blocking import Blocking
from npmobilenet.compiler.encoding import Table, encode
from npmobilenet.compiler.ir import Operations
from npmobilenet.compiler.native_plan import NativePlan
from npmobilenet.compiler.passes import fuse
from npmobilenet.compiler.placement import place
from npmobilenet.compiler.scheduling import schedule
from npmobilenet.compiler.step_types import Step
from npmobilenet.errors import ShapeError
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array, Outputs, Params

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
    memory = place(ops, steps, target.width)
    return Plan(graph, target, ops, steps, memory, encode(ops, steps, memory, target, blocking))


class Plan(NativePlan):
    """A network compiled for one input shape.

    Attributes:
        graph: the network; its input shape is the plan's.
        target: the CPU.
    """

    def __init__(
        self, graph: Graph, target: CpuTarget, ops: Operations, steps: Sequence[Step], memory: Memory, table: Table
    ) -> None:
        super().__init__(ops, steps, memory, table)
        self.graph = graph
        self.target = target

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
        if x.shape[1:] != self.graph.input_shape or x.ndim != 4:
            expected = ", ".join(map(str, self.graph.input_shape))
            raise ShapeError(f"plan: expected x of shape (N, {expected}), got {x.shape}")
        ys = [np.empty((len(x), *output.shape), np.float32) for output in self._outputs]
        self.compute(self._as_read(x), ys, threads)
        return ys

    def _run_reference(self, step: Step, workspace: Workspace, x: Array) -> None:
        (op,) = step.ops
        values = [x if name == self.ops[0].name else self.value(name, workspace) for name in op.reads]
        y = op.evaluate(*(value[None] for value in values))[0]
        blocks = workspace.blocks(op.name)
        blocks[...] = packing.to_blocks(y.reshape(-1, 1, y.shape[-1]), self.target.width, len(blocks))

    def _as_read(self, x: Array) -> Array:
        return np.ascontiguousarray(x, np.float32)

    def map_bytes(self, step: Step) -> int:
        """Bytes of the maps that a step reads and makes for one image, each once."""
        values = {self.memory.stored[name] for name in step.reads} | {*step.makes}
        return FLOAT_BYTES * sum(prod(self._shapes[name]) for name in values)

    def __str__(self) -> str:
        """The steps as a table."""
        from npmobilenet.compiler.plan_report import report

        return report(self)
