"""An 8-bit network compiled: operators to operations, steps, an arena of bytes, and a table for the kernels.

    Network --lower--> operations --select--> steps --place--> arena --encode--> table for the kernels

Bits are those of the NumPy operators under the same rule, on every CPU and for any number of threads.
"""

from collections.abc import Sequence

import numpy as np
from npmobilenet_kernels.runtime.byte_packing import LANES, to_byte_blocks
from npmobilenet_kernels.runtime.cpu import ByteTarget, host_byte_target

from npmobilenet.compiler.arena import Memory, Workspace
from npmobilenet.compiler.byte_encoding import encode_bytes
from npmobilenet.compiler.byte_lowering import lower_bytes
from npmobilenet.compiler.byte_operations import SIGN_BIT, as_stored, in_own_type, is_stored_as_bytes
from npmobilenet.compiler.byte_selection import select_byte_kernels
from npmobilenet.compiler.encoding import Table
from npmobilenet.compiler.ir import Operations
from npmobilenet.compiler.native_plan import NativePlan
from npmobilenet.compiler.placement import place
from npmobilenet.compiler.step_types import Step
from npmobilenet.errors import ShapeError
from npmobilenet.quantized.rules import TFLITE, Rule
from npmobilenet.quantized.tensors import Network
from npmobilenet.types import Array

MARGIN = 256  # bytes before and after all maps that kernels may read
BYTE = np.dtype(np.uint8)


def compile_network(network: Network, rule: Rule = TFLITE, target: ByteTarget | None = None) -> "BytePlan":
    """The plan of a quantized network; its kernels are compiled when they are first needed.

    Args:
        network: operators of TensorFlow Lite's own.
        rule: how results are rounded.
        target: the CPU; None for this one.

    Raises:
        ImportError: there are no kernels for this architecture.
        WeightsError: an operator is not supported.
    """
    target = target or host_byte_target()
    ops, steps = select_byte_kernels(lower_bytes(network, rule), target)
    memory = place(ops, steps, LANES, BYTE, MARGIN)
    flip = SIGN_BIT if network.input.dtype == np.int8 else 0
    return BytePlan(network, target, ops, steps, memory, encode_bytes(ops, steps, memory, target, flip))


class BytePlan(NativePlan):
    """A quantized network compiled under one rule.

    Attributes:
        network: the network.
        target: the CPU.
    """

    def __init__(
        self,
        network: Network,
        target: ByteTarget,
        ops: Operations,
        steps: Sequence[Step],
        memory: Memory,
        table: Table,
    ) -> None:
        super().__init__(ops, steps, memory, table)
        self.network = network
        self.target = target

    def outputs(self, x: Array, threads: int | None = None) -> list[Array]:
        """Compute the network.

        Args:
            x: (N, H, W, C) in the input tensor's type.
            threads: as of `Plan.outputs`.

        Returns:
            (N, ...) of each output, in the network's order and the tensors' own types.

        Raises:
            ShapeError: x does not have the input's shape or type.
            NpMobileNetError: NPMOBILENET_THREADS is not a number of threads.
            KernelError: the kernels cannot be compiled.
        """
        image = self.network.input
        if x.shape[1:] != image.shape[1:] or x.ndim != 4 or x.dtype != image.dtype:
            expected = ", ".join(map(str, image.shape[1:]))
            raise ShapeError(
                f"{self.network.name}: expected {image.dtype} of shape (N, {expected}), got {x.dtype} {x.shape}"
            )
        tensors = [self.network.tensors[number] for number in self.network.outputs]
        ys = [
            np.empty((len(x), *output.shape), BYTE if is_stored_as_bytes(tensor) else tensor.dtype)
            for output, tensor in zip(self._outputs, tensors, strict=True)
        ]
        self.compute(self._as_read(x), ys, threads)
        return [in_own_type(y, tensor) for y, tensor in zip(ys, tensors, strict=True)]

    def value(self, name: str, workspace: Workspace) -> Array:
        found = workspace.others.get(self.memory.stored[name])
        return super().value(name, workspace) if found is None else found.reshape(self._shapes[name])

    def _run_reference(self, step: Step, workspace: Workspace, x: Array) -> None:
        (op,) = step.ops
        image = self.ops[0].name
        stored = self.memory.stored
        values = [self._image(x, name) if stored[name] == image else self.value(name, workspace) for name in op.reads]
        y = op.evaluate(*(value[None] for value in values))[0]
        if step.makes:
            blocks = workspace.blocks(op.name)
            blocks[...] = to_byte_blocks(y.reshape(-1, 1, y.shape[-1]), len(blocks))
        else:
            workspace.others[op.name] = y

    def _image(self, x: Array, name: str) -> Array:
        """The image as it is stored under one of its names."""
        return as_stored(x).reshape(self._shapes[name])

    def _as_read(self, x: Array) -> Array:
        return np.ascontiguousarray(x)
