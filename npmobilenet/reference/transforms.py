"""Graph to graph: the same network cut off, folded, or with other fields."""

from collections.abc import Mapping
from dataclasses import replace

from npmobilenet.errors import ArgumentError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import KernelLayer, Layer, Window
from npmobilenet.reference.layers import BatchNormalization, Conv2D, DepthwiseConv2D, ZeroPadding2D
from npmobilenet.types import Array, Padding, Params


def subgraph_to(graph: Graph, name: str) -> Graph:
    """The layers on paths from the input to one layer; the graph itself if that is its only output.

    Raises:
        ArgumentError: the graph has no layer of this name.
    """
    if graph.output_layers == (name,):
        return graph
    if name not in graph.shapes:
        raise ArgumentError(f"{graph.name}: unknown layer {name!r}")
    read = {name}
    for layer in reversed(graph.layers):
        if layer.name in read:
            read.update(layer.inputs)
    return Graph(graph.name, tuple(layer for layer in graph.layers if layer.name in read))


def fold_padding(graph: Graph, padding: Padding | None = None) -> Graph:
    """The same network with its zero padding as the padding of the convolutions that read it.

    A ZeroPadding2D stays if anything but a convolution without padding of its own reads it: a pooling ignores its
    padding, and would ignore the zeros. It stays as well if it is an output.

    Args:
        graph: the network.
        padding: what the convolutions get in place of the zeros: "same", for example, which differs on odd sides.
    """
    readers: dict[str, list[Layer]] = {}
    for layer in graph.layers:
        for name in layer.inputs:
            readers.setdefault(name, []).append(layer)
    folds = {
        layer.name: layer
        for layer in graph.layers
        if isinstance(layer, ZeroPadding2D)
        and layer.name not in graph.output_layers
        and all(map(_can_pad, readers[layer.name]))
    }
    layers: list[Layer] = []
    for layer in graph.layers:
        if isinstance(layer, Window) and layer.inputs[0] in folds:
            zeros = folds[layer.inputs[0]]
            layer = replace(layer, inputs=zeros.inputs, padding=padding or zeros.padding)
        if layer.name not in folds:
            layers.append(layer)
    return replace(graph, layers=tuple(layers))


def with_filters(graph: Graph, filters: Mapping[str, int]) -> Graph:
    """The same network with other channel counts in some of its convolutions.

    Args:
        graph: any graph.
        filters: new number of filters by the name of the convolution.

    Raises:
        ShapeError: later layers do not fit any more.
    """
    layers = (
        replace(layer, filters=filters[layer.name]) if isinstance(layer, Conv2D) and layer.name in filters else layer
        for layer in graph.layers
    )
    return replace(graph, layers=tuple(layers))


def with_epsilon(graph: Graph, epsilon: float) -> Graph:
    """The same network with another epsilon in every batch normalization."""
    layers = (
        replace(layer, epsilon=epsilon) if isinstance(layer, BatchNormalization) else layer for layer in graph.layers
    )
    return replace(graph, layers=tuple(layers))


def _can_pad(layer: Layer) -> bool:
    return isinstance(layer, Window) and isinstance(layer, KernelLayer) and layer.is_unpadded


def with_depthwise(graph: Graph, params: Params) -> tuple[Graph, dict[str, Array]]:
    """The same network, with each convolution of one group per channel as a depthwise one.

    Its kernel (K_h, K_w, 1, C * M) becomes (K_h, K_w, C, M): filter c * M + m reads channel c in both.

    Args:
        graph: the network.
        params: its arrays by `layer/array`.
    """
    layers: list[Layer] = []
    arrays = dict(params)
    for layer in graph.layers:
        if isinstance(layer, Conv2D) and 1 < layer.groups == graph.input_shapes(layer)[0][2]:
            name = f"{layer.name}/kernel"
            arrays[name] = arrays[name].reshape(*layer.kernel_size, layer.groups, -1)
            fields = {key: value for key, value in vars(layer).items() if key not in ("filters", "groups")}
            layer = DepthwiseConv2D(depth_multiplier=layer.filters // layer.groups, **fields)
        layers.append(layer)
    return replace(graph, layers=tuple(layers)), arrays
