"""From a graph's layers to operations: one per layer, two where the layer's activation has no place in an epilogue."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import TypedDict

import numpy as np

from npmobilenet.compiler import ir
from npmobilenet.reference import layers
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.types import Array, Params, Shape

LAYER_OPERATIONS: Mapping[type[Layer], type[ir.LayerOperation]] = {
    layers.BatchNormalization: ir.BatchNorm,
    layers.ZeroPadding2D: ir.Pad,
    layers.Rescaling: ir.Rescale,
    layers.Add: ir.Add,
    layers.Multiply: ir.Multiply,
    layers.GlobalMaxPooling2D: ir.GlobalMax,
}
ACTIVATION_OPERATIONS: Mapping[str, type[ir.Activate]] = {"softmax": ir.Softmax, "sigmoid": ir.Sigmoid}


class Common(TypedDict):
    """The fields of every operation."""

    name: str
    layers: tuple[str, ...]
    inputs: tuple[str, ...]
    shape: Shape
    macs: int


def lower(graph: Graph, params: Params) -> ir.Operations:
    """The operations of a graph, in its order, and its outputs.

    Args:
        graph: the network.
        params: arrays by `layer/array`.
    """
    outputs = [
        ir.Output(name=f"{name} (output)", layers=(), inputs=(layer,), shape=graph.shapes[layer])
        for name, layer in graph.outputs
    ]
    return [*(op for layer in graph.layers for op in _lowered(graph, layer, params)), *outputs]


def _lowered(graph: Graph, layer: Layer, params: Params) -> ir.Operations:
    before, shape = graph.input_shapes(layer), graph.shapes[layer.name]
    arrays = {name: np.asarray(array) for name, array in graph.arrays_of(layer, params).items()}
    common = Common(name=layer.name, layers=(layer.name,), inputs=layer.inputs, shape=shape, macs=graph.macs_of(layer))
    match layer:
        case layers.Input():
            return [ir.Image(**common)]
        case layers.Conv2D() | layers.DepthwiseConv2D() | layers.Dense() if _has_kernel(layer, before):
            return _weighted(layer, before[0], arrays, common)
        case layers.Activation() if layer.activation != "linear":
            return [_activation(layer, common)]
    if _renames(layer, before, shape):
        return [ir.Alias(**common)]
    if _averages_whole_map(layer, before):
        return [ir.GlobalAverage(**common)]
    return [LAYER_OPERATIONS.get(type(layer), ir.Reference)(layer=layer, params=arrays, **common)]


def _weighted(
    layer: layers.Conv2D | layers.DepthwiseConv2D | layers.Dense,
    before: Shape,
    arrays: Mapping[str, Array],
    common: Common,
) -> ir.Operations:
    kernel, bias = arrays["kernel"], arrays.get("bias", np.zeros(common["shape"][-1])).astype(np.float64)
    op: ir.Weighted
    if isinstance(layer, layers.Dense):
        op = ir.Dense(kernel=kernel, bias=bias, **common)
    else:
        window = layer.window | {"padding": layer.zeros(before)}
        if isinstance(layer, layers.Conv2D):
            op = ir.Conv(kernel=kernel, bias=bias, **window, **common)
        else:
            kernel = kernel.reshape(*kernel.shape[:2], common["shape"][-1])  # (K_h, K_w, C * M)
            op = ir.Depthwise(kernel=kernel, bias=bias, **window, **common)
    if layer.activation in ir.FUSED_ACTIVATIONS:
        return [replace(op, activation=layer.activation)]
    sums = f"{layer.name} (sums)"
    after = Common(name=layer.name, layers=(), inputs=(sums,), shape=common["shape"], macs=0)
    activation = layers.Activation(name=layer.name, activation=layer.activation, inputs=(sums,))
    return [replace(op, name=sums), _activation(activation, after)]


def _activation(layer: layers.Activation, common: Common) -> ir.Activate:
    return ACTIVATION_OPERATIONS.get(layer.activation, ir.Activate)(layer=layer, params={}, **common)


def _has_kernel(layer: Layer, before: tuple[Shape, ...]) -> bool:
    """Whether a layer with weights is an operation of its own: no dense layer on a map, no grouped convolution."""
    if isinstance(layer, layers.Dense):
        return len(before[0]) == 1
    return not (isinstance(layer, layers.Conv2D) and layer.groups > 1)


def _renames(layer: Layer, before: tuple[Shape, ...], shape: Shape) -> bool:
    """Whether the output is the input, or one pixel's channels in another shape."""
    if isinstance(layer, layers.Reshape | layers.Flatten):
        return prod(before[0]) == before[0][-1] == shape[-1]
    return isinstance(layer, layers.Dropout | layers.Activation)


def _averages_whole_map(layer: Layer, before: tuple[Shape, ...]) -> bool:
    if isinstance(layer, layers.AveragePooling2D):
        return layer.kernel_size == before[0][:2] and layer.zeros(before[0]) == ir.NO_PADDING
    return type(layer) is layers.GlobalAveragePooling2D  # of which the maximum is a subclass
