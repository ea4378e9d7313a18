"""Export of the fused network to ONNX, for ONNX Runtime and OpenVINO.

Keras's own export leaves many transposes in V3 and would be easy to beat. Here batch normalization is folded for every
runtime alike, and hard swish, hard sigmoid and squeeze-and-excite are native ONNX nodes.
"""

from pathlib import Path

import numpy as np

from npmobilenet.bench.onnx_builder import OnnxBuilder
from npmobilenet.compiler.ir import (
    NO_SCALING,
    Add,
    Alias,
    Conv,
    Dense,
    Depthwise,
    GlobalAverage,
    Joined,
    LayerOperation,
    Multiply,
    Operation,
    Operations,
    Output,
    Softmax,
    Weighted,
    outputs_of,
)
from npmobilenet.errors import NpMobileNetError
from npmobilenet.reference.layers import Concatenate, Flatten, Reshape

AXES = {1: 2, 2: 3, 3: 1, -1: 1, -2: 3, -3: 2}  # of maps (N, H, W, C) in ONNX's (N, C, H, W)


def write_onnx(ops: Operations, batch: int, path: Path) -> None:
    """Write a network as ONNX: images x (batch, C, H, W), outputs y, y1, y2, ...

    Raises:
        NpMobileNetError: an operation is not supported.
    """
    writer = _OnnxWriter(batch, ops)
    writer.node("Identity", ["x"], ops[0].name)
    for op in ops[1:]:
        writer.operation(op)
    ys = [writer.node("Identity", [op.name], f"y{number or ''}") for number, op in enumerate(outputs_of(ops))]
    H, W, C = ops[0].shape
    writer.save(path, x="x", shape=(batch, C, H, W), ys=ys)


class _OnnxWriter(OnnxBuilder):
    """The nodes of every operation; a value has the name of the operation that computes it."""

    def __init__(self, batch: int, ops: Operations) -> None:
        super().__init__()
        self.batch = batch
        self._shapes = {op.name: op.shape for op in ops}

    def operation(self, op: Operation) -> None:
        """Add the nodes of one operation."""
        name = op.name
        match op:
            case Conv() | Depthwise():
                self._convolution(op)
            case Dense(inputs=(x,)):
                w, b = self.constant(f"{name}/w", op.kernel), self.constant(f"{name}/b", op.bias)
                self._activated(op, self.node("Gemm", [x, w, b], f"{name}/gemm"), name)
            case GlobalAverage(inputs=(x,)):
                pooled = self.node("GlobalAveragePool", [x], f"{name}/pool")
                self.node("Identity" if len(op.shape) == 3 else "Flatten", [pooled], name)
            case Joined():
                rows = [self._rows(op, x) for x in op.inputs]
                self.node("Concat", rows, name, axis=1)
            case Output():
                self.node("Identity", list(op.inputs), name)
            case Alias(inputs=(x,)):
                shape = [self.batch, op.shape[-1], *([1, 1] if len(op.shape) == 3 else [])]
                self.node("Reshape", [x, self.constant(f"{name}/shape", np.array(shape), np.int64)], name)
            case Add(inputs=(_, _)):
                self.node("Add", list(op.inputs), name)
            case Multiply(inputs=(_, _)):
                self.node("Mul", list(op.inputs), name)
            case LayerOperation(layer=Concatenate(axis=axis)):
                self.node("Concat", list(op.inputs), name, axis=AXES[axis] if len(op.shape) == 3 else axis)
            case LayerOperation(layer=Reshape() | Flatten(), inputs=(x,)) if len(op.shape) < 3:
                if len(self._shapes[x]) == 3:
                    x = self.node("Transpose", [x], f"{name}/channels_last", perm=[0, 2, 3, 1])
                sides = self.constant(f"{name}/shape", np.array([self.batch, *op.shape]), np.int64)
                self.node("Reshape", [x, sides], name)
            case Softmax(inputs=(x,)):
                self.node("Softmax", [x], name, axis=1)
            case _:
                layer = op.layer.type if isinstance(op, LayerOperation) else op.label
                raise NpMobileNetError(f"{name}: {layer} has no ONNX export")

    def _rows(self, op: Joined, x: str) -> str:
        """A map (N, C, H, W) as rows of the joined output's values, channels last."""
        sides = self.constant(f"{x}/sides", np.array([self.batch, -1, op.shape[-1]]), np.int64)
        last = self.node("Transpose", [x], f"{x}/channels_last", perm=[0, 2, 3, 1])
        return self.node("Reshape", [last, sides], f"{x}/rows")

    def _convolution(self, op: Conv | Depthwise) -> None:
        name, x = op.name, op.inputs[0]
        if isinstance(op, Conv):
            x, kernel, groups, residual = self._conv_input(op), op.kernel, 1, op.residual
        else:
            kernel, groups, residual = op.kernel[:, :, None, :], op.shape[-1], ""
        w = self.constant(f"{name}/w", kernel.transpose(3, 2, 0, 1))  # (c_out, c_in or 1, K, K)
        (top, bottom), (left, right) = op.padding
        y = self.node(
            "Conv",
            [x, w, self.constant(f"{name}/b", op.bias)],
            f"{name}/conv",
            kernel_shape=kernel.shape[:2],
            strides=[op.stride] * 2,
            dilations=[op.dilation] * 2,
            pads=[top, left, bottom, right],
            group=groups,
        )
        if residual:
            self._activated(op, y, f"{name}/act")
            self.node("Add", [f"{name}/act", residual], name)
        else:
            self._activated(op, y, name)

    def _conv_input(self, op: Conv) -> str:
        """Name of the input, scaled and gated."""
        name, x = op.name, op.inputs[0]
        if op.scaling != NO_SCALING:
            scaled = self.node("Mul", [x, self.constant(f"{name}/scale", op.scaling[0])], f"{name}/scaled")
            x = self.node("Add", [scaled, self.constant(f"{name}/offset", op.scaling[1])], f"{name}/rescaled")
        return self.node("Mul", [x, op.gate], f"{name}/gated") if op.gate else x

    def _activated(self, op: Weighted, x: str, y: str) -> None:
        if op.activation == "relu6":
            self.node("Clip", [x, self.constant(f"{y}/0", 0.0), self.constant(f"{y}/6", 6.0)], y)
        elif op.activation == "hard_sigmoid":
            self.node("HardSigmoid", [x], y, alpha=1 / 6, beta=0.5)
        else:
            self.node({"linear": "Identity", "relu": "Relu", "hard_swish": "HardSwish"}[op.activation], [x], y)
