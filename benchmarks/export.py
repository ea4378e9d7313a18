"""The same network for other engines: ONNX written node by node, TensorFlow Lite through Keras's layers.

Both come from the fused operations of `npmobilenet.fusion`, so batch normalisation is folded for every engine alike,
and hard swish, hard sigmoid and squeeze-and-excite are the engines' own nodes.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from npmobilenet.fusion import Op, fuse
from npmobilenet.graph import Activation, Graph
from npmobilenet.ops import Array


def write_onnx(graph: Graph, params: dict[str, Array], path: Path) -> None:
    """Write the network as ONNX, NCHW, opset 17; input and output are called x and y."""
    ops = fuse(graph, params)
    H, W, C = graph.input_shape
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    ranks = {ops[0].name: 4}
    nodes.append(helper.make_node("Identity", ["x"], [ops[0].name]))

    def constant(name: str, values: Array, kind: type = np.float32) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(values, kind), name))
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def activated(op: Op, name: str, target: str) -> None:
        if op.activation == "relu":
            node("Relu", [name], target)
        elif op.activation == "relu6":
            node("Clip", [name, constant(f"{target}/0", 0.0), constant(f"{target}/6", 6.0)], target)
        elif op.activation == "hard_swish":
            node("HardSwish", [name], target)
        elif op.activation == "hard_sigmoid":
            node("HardSigmoid", [name], target, alpha=1 / 6, beta=0.5)
        else:
            node("Identity", [name], target)

    for op in ops[1:]:
        x = op.inputs[0]
        ranks[op.name] = len(op.shape) + 1
        if op.kind in ("conv", "depthwise"):
            if op.rescale != (1.0, 0.0):
                scaled = node("Mul", [x, constant(f"{op.name}/scale", op.rescale[0])], f"{op.name}/mul")
                x = node("Add", [scaled, constant(f"{op.name}/offset", op.rescale[1])], f"{op.name}/rescaled")
            if op.gate:
                x = node("Mul", [x, op.gate], f"{op.name}/gated")
            kernel = op.kernel if op.kind == "conv" else op.kernel[:, :, None, :]
            w = constant(f"{op.name}/w", kernel.transpose(3, 2, 0, 1))
            b = constant(f"{op.name}/b", op.bias)
            (top, bottom), (left, right) = op.zeros
            y = node(
                "Conv", [x, w, b], f"{op.name}/conv", kernel_shape=kernel.shape[:2], strides=[op.stride] * 2,
                pads=[top, left, bottom, right], group=op.shape[-1] if op.kind == "depthwise" else 1,
            )  # fmt: skip
            if op.residual:
                activated(op, y, f"{op.name}/act")
                node("Add", [f"{op.name}/act", op.residual], op.name)
            else:
                activated(op, y, op.name)
        elif op.kind == "dense":
            w, b = constant(f"{op.name}/w", op.kernel), constant(f"{op.name}/b", op.bias)
            node("Gemm", [x, w, b], f"{op.name}/gemm")
            activated(op, f"{op.name}/gemm", op.name)
        elif op.kind == "pool":
            pooled = node("GlobalAveragePool", [x], f"{op.name}/pool")
            node("Identity" if ranks[op.name] == 4 else "Flatten", [pooled], op.name)
        elif op.kind == "view":
            shape = [1, op.shape[-1], 1, 1] if len(op.shape) == 3 else [1, *op.shape]
            node("Reshape", [x, constant(f"{op.name}/shape", np.array(shape), np.int64)], op.name)
        elif op.kind == "add":
            node("Add", list(op.inputs), op.name)
        elif isinstance(op.layer, Activation) and op.layer.activation == "softmax":
            node("Softmax", [x], op.name, axis=1)
        else:
            raise NotImplementedError(f"{op.name}: {op.kind} has no ONNX node here")
    node("Identity", [ops[-1].name], "y")
    model = helper.make_model(
        helper.make_graph(
            nodes, graph.name, [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, C, H, W])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], weights,
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    path.write_bytes(model.SerializeToString())


def write_tflite(graph: Graph, params: dict[str, Array], path: Path) -> None:
    """Write the network as a float32 TensorFlow Lite file, NHWC, by TensorFlow's own converter."""
    import tensorflow as tf

    ops = fuse(graph, params)
    activations = {
        "linear": lambda x: x,
        "relu": tf.nn.relu,
        "relu6": tf.nn.relu6,
        "hard_sigmoid": lambda x: tf.nn.relu6(x + 3.0) * (1 / 6),
        "hard_swish": lambda x: x * (tf.nn.relu6(x + 3.0) * (1 / 6)),
    }

    @tf.function(input_signature=[tf.TensorSpec((1, *graph.input_shape), tf.float32)])
    def network(x):  # type: ignore[no-untyped-def]
        values = {ops[0].name: x}
        for op in ops[1:]:
            x = values[op.inputs[0]]
            if op.rescale != (1.0, 0.0):
                x = x * op.rescale[0] + op.rescale[1]
            if op.gate:
                x = x * values[op.gate]
            if op.kind in ("conv", "depthwise"):
                kernel = np.float32(op.kernel)
                same = _is_same(op, x.shape)
                padding = "SAME" if same else "VALID"
                if not same and op.zeros != ((0, 0), (0, 0)):
                    x = tf.pad(x, ((0, 0), *op.zeros, (0, 0)))
                if op.kind == "conv":
                    y = tf.nn.conv2d(x, kernel, op.stride, padding)
                else:
                    y = tf.nn.depthwise_conv2d(x, kernel[..., None], [1, op.stride, op.stride, 1], padding)
                y = activations[op.activation](y + np.float32(op.bias))
                values[op.name] = y + values[op.residual] if op.residual else y
            elif op.kind == "dense":
                values[op.name] = activations[op.activation](x @ np.float32(op.kernel) + np.float32(op.bias))
            elif op.kind == "pool":
                values[op.name] = tf.reshape(tf.reduce_mean(x, (1, 2), keepdims=True), (1, *op.shape))
            elif op.kind == "view":
                values[op.name] = tf.reshape(x, (1, *op.shape))
            elif op.kind == "add":
                values[op.name] = x + values[op.inputs[1]]
            elif isinstance(op.layer, Activation) and op.layer.activation == "softmax":
                values[op.name] = tf.nn.softmax(x)
            else:
                raise NotImplementedError(f"{op.name}: {op.kind} is not exported")
        return values[ops[-1].name]

    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()])
    path.write_bytes(converter.convert())


def _is_same(op: Op, shape: tuple[int, ...]) -> bool:
    """Whether the operation's zeros are TensorFlow's SAME, which spares a padding node."""
    from npmobilenet.shapes import resolve_padding

    assert op.kernel is not None
    return op.zeros == resolve_padding("same", shape[1:3], op.kernel.shape[:2], op.stride)
