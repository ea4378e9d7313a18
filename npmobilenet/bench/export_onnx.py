"""The fused network as an ONNX file, node by node, for ONNX Runtime and OpenVINO.

Keras's own export leaves V3 full of transposes and would be an easy win. Here batch normalisation is folded for every
engine alike, and hard swish, hard sigmoid and squeeze-and-excite are the format's own nodes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from npmobilenet.compiler.ir import (
    NO_SCALING,
    Add,
    Alias,
    Conv,
    Dense,
    Depthwise,
    GlobalAverage,
    LayerOperation,
    Multiply,
    Operation,
    Operations,
    Softmax,
    Weighted,
)
from npmobilenet.errors import NpMobileNetError

OPSET = 17
IR_VERSION = 8  # of the time of that opset, so that older engines read it too


def write_onnx(ops: Operations, batch: int, path: Path) -> None:
    """Write a network as ONNX: images x (batch, C, H, W), result y.

    Raises:
        NpMobileNetError: an operation has no node here.
    """
    writer = _Writer(batch)
    writer.node("Identity", ["x"], ops[0].name)
    for op in ops[1:]:
        writer.operation(op)
    writer.node("Identity", [ops[-1].name], "y")
    H, W, C = ops[0].shape
    graph = helper.make_graph(
        writer.nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, C, H, W])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        writer.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    path.write_bytes(model.SerializeToString())


class _Writer:
    """Nodes and constants; a value is known by the name of the operation that makes it."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node; the name of its output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, values: ArrayLike, dtype: type = np.float32) -> str:
        """Add a constant; its name."""
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype), name))
        return name

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
            case Alias(inputs=(x,)):
                shape = [self.batch, op.shape[-1], *([1, 1] if len(op.shape) == 3 else [])]
                self.node("Reshape", [x, self.constant(f"{name}/shape", np.array(shape), np.int64)], name)
            case Add(inputs=(_, _)):
                self.node("Add", list(op.inputs), name)
            case Multiply(inputs=(_, _)):
                self.node("Mul", list(op.inputs), name)
            case Softmax(inputs=(x,)):
                self.node("Softmax", [x], name, axis=1)
            case _:
                layer = op.layer.type if isinstance(op, LayerOperation) else op.label
                raise NpMobileNetError(f"{name}: {layer} is not exported to ONNX")

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
