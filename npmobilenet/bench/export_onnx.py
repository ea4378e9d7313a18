"""Export of the fused network to ONNX, for ONNX Runtime and OpenVINO.

Keras's own export leaves many transposes in V3 and would be easy to beat. Here batch normalization is folded for every
runtime alike, and hard swish, hard sigmoid and squeeze-and-excite are native ONNX nodes.
"""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from npmobilenet.bench.onnx_builder import OnnxBuilder
from npmobilenet.compiler.passes import Op, Ops
from npmobilenet.errors import NpMobileNetError
from npmobilenet.reference.layers import Activation


def write_onnx(ops: Ops, batch: int, path: Path) -> None:
    """Write a network as ONNX: images x (batch, C, H, W), output y.

    Raises:
        NpMobileNetError: an operation is not supported.
    """
    writer = _OnnxWriter(batch)
    writer.node("Identity", ["x"], ops[0].name)
    for op in ops[1:]:
        writer.operation(op)
    writer.node("Identity", [ops[-1].name], "y")
    H, W, C = ops[0].shape
    writer.save(path, x="x", shape=(batch, C, H, W), y="y")


class _OnnxWriter(OnnxBuilder):
    """The nodes of every operation; a value has the name of the operation that computes it."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch

    def operation(self, op: Op) -> None:
        """Add the nodes of one operation."""
        name, x = op.name, op.inputs[0]
        if op.kind in ("conv", "depthwise"):
            self._convolution(op)
        elif op.kind == "dense":
            assert op.kernel is not None
            w, b = self.constant(f"{name}/w", op.kernel), self.constant(f"{name}/b", _bias(op))
            self._activated(op, self.node("Gemm", [x, w, b], f"{name}/gemm"), name)
        elif op.kind == "pool":
            pooled = self.node("GlobalAveragePool", [x], f"{name}/pool")
            self.node("Identity" if len(op.shape) == 3 else "Flatten", [pooled], name)
        elif op.kind == "view":
            shape = [self.batch, op.shape[-1], *([1, 1] if len(op.shape) == 3 else [])]
            self.node("Reshape", [x, self.constant(f"{name}/shape", np.array(shape), np.int64)], name)
        elif op.kind in ("add", "multiply") and len(op.inputs) == 2:
            self.node("Add" if op.kind == "add" else "Mul", list(op.inputs), name)
        elif isinstance(op.layer, Activation) and op.layer.activation == "softmax":
            self.node("Softmax", [x], name, axis=1)
        else:
            raise NpMobileNetError(f"{name}: {op.layer.type if op.layer else op.kind} has no ONNX export")

    def _convolution(self, op: Op) -> None:
        assert op.kernel is not None
        name, x = op.name, op.inputs[0]
        if op.rescale != (1.0, 0.0):
            scaled = self.node("Mul", [x, self.constant(f"{name}/scale", op.rescale[0])], f"{name}/scaled")
            x = self.node("Add", [scaled, self.constant(f"{name}/offset", op.rescale[1])], f"{name}/rescaled")
        if op.gate:
            x = self.node("Mul", [x, op.gate], f"{name}/gated")
        kernel = op.kernel if op.kind == "conv" else op.kernel[:, :, None, :]
        w = self.constant(f"{name}/w", kernel.transpose(3, 2, 0, 1))  # (c_out, c_in or 1, K, K)
        (top, bottom), (left, right) = op.zeros
        y = self.node(
            "Conv", [x, w, self.constant(f"{name}/b", _bias(op))], f"{name}/conv", kernel_shape=kernel.shape[:2],
            strides=[op.stride] * 2, pads=[top, left, bottom, right],
            group=op.shape[-1] if op.kind == "depthwise" else 1,
        )  # fmt: skip
        if op.residual:
            self._activated(op, y, f"{name}/act")
            self.node("Add", [f"{name}/act", op.residual], name)
        else:
            self._activated(op, y, name)

    def _activated(self, op: Op, x: str, y: str) -> None:
        if op.activation == "relu6":
            self.node("Clip", [x, self.constant(f"{y}/0", 0.0), self.constant(f"{y}/6", 6.0)], y)
        elif op.activation == "hard_sigmoid":
            self.node("HardSigmoid", [x], y, alpha=1 / 6, beta=0.5)
        else:
            self.node({"linear": "Identity", "relu": "Relu", "hard_swish": "HardSwish"}[op.activation], [x], y)


def _bias(op: Op) -> ArrayLike:
    assert op.bias is not None
    return op.bias
