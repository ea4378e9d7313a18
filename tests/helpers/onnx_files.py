"""A network as an unfused ONNX file, as a framework's exporter would write it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from npmobilenet.models.model import Model
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Multiply,
    Rescaling,
    Reshape,
    ZeroPadding2D,
)
from npmobilenet.types import Params

BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")  # in the order of ONNX's inputs


def onnx_file(
    path: Path, model: Model, *, epsilon: float | None = None, names: Callable[[str], str] = lambda name: name
) -> Path:
    """Write the network channels first, with batch norms of their own and tensors named by `names`."""
    pytest.importorskip("onnx", reason="requires onnx: pip install npmobilenet[test]")
    pytest.importorskip("onnxruntime", reason="requires onnxruntime: pip install npmobilenet[test]")
    from npmobilenet.bench.onnx_builder import OnnxBuilder

    graph, builder = model.graph, OnnxBuilder()

    def add(layer: Layer, params: Params) -> None:
        name, inputs, output = layer.name, [names(source) for source in layer.inputs], names(layer.name)
        constants = {array: f"{array}/{name}" for array in params}
        match layer:
            case Conv2D() | DepthwiseConv2D():
                (top, bottom), (left, right) = layer.zeros(graph.input_shapes(layer)[0])
                is_depthwise = isinstance(layer, DepthwiseConv2D)
                w = params["kernel"].transpose((2, 3, 0, 1) if is_depthwise else (3, 2, 0, 1))
                inputs.append(builder.constant(constants["kernel"], w))
                if "bias" in params:
                    inputs.append(builder.constant(constants["bias"], params["bias"]))
                builder.node(
                    "Conv", inputs, output, group=graph.input_shapes(layer)[0][2] if is_depthwise else 1,
                    pads=[top, left, bottom, right], strides=[layer.stride] * 2,
                )  # fmt: skip
            case BatchNormalization():
                inputs += [builder.constant(constants[array], params[array]) for array in BATCH_NORM]
                used = layer.epsilon if epsilon is None else epsilon
                builder.node("BatchNormalization", inputs, output, epsilon=used)
            case ZeroPadding2D():
                (top, bottom), (left, right) = layer.padding
                pads = builder.constant(f"pads/{name}", [0, 0, top, left, 0, 0, bottom, right], np.int64)
                builder.node("Pad", [*inputs, pads], output)
            case Activation(activation="relu6"):
                limits = [builder.constant(f"low/{name}", 0), builder.constant(f"high/{name}", 6)]
                builder.node("Clip", inputs + limits, output)
            case Activation(activation="relu"):
                builder.node("Relu", inputs, output)
            case Activation(activation="hard_swish"):
                builder.node("HardSwish", inputs, output)
            case Rescaling(scale=scale, offset=offset):
                product = builder.node("Mul", [*inputs, builder.constant(f"scale/{name}", scale)], f"{output}/product")
                builder.node("Add", [product, builder.constant(f"offset/{name}", offset)], output)
            case GlobalAveragePooling2D(keepdims=True):
                builder.node("GlobalAveragePool", inputs, output)
            case GlobalAveragePooling2D():
                builder.node("Flatten", [builder.node("GlobalAveragePool", inputs, f"{output}/map")], output)
            case Dropout():
                builder.node("Identity", inputs, output)
            case Flatten():
                builder.node("Flatten", inputs, output)
            case Reshape(target_shape=target):
                H, W, C = target if len(target) == 3 else (0, 0, target[0])
                sides = [-1, C, H, W] if len(target) == 3 else [-1, C]
                builder.node("Reshape", [*inputs, builder.constant(f"shape/{name}", sides, np.int64)], output)
            case Multiply():
                builder.node("Mul", inputs, output)
            case Activation(activation="softmax"):
                builder.node("Softmax", inputs, output)
            case Dense():
                inputs += [builder.constant(constants[array], params[array]) for array in ("kernel", "bias")]
                builder.node("Softmax", [builder.node("Gemm", inputs, f"{output}/logits")], output)
            case Add():
                builder.node("Add", inputs, output)
            case other:
                raise AssertionError(other)

    for layer in graph.layers[1:]:
        add(layer, graph.arrays_of(layer, model.params))
    H, W, C = graph.input_shape
    builder.save(path, x=names(graph.layers[0].name), shape=(1, C, H, W), ys=list(map(names, graph.output_layers)))
    return path
