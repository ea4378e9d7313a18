"""Linear bottlenecks: sequences of layers whose inner feature maps need not exist as a whole.

The inside of an inverted residual is channelwise, so it can be computed some channels at a time, and the projection
sums the parts (Sandler et al. 2018, arXiv:1801.04381, section 5.1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
)
from npmobilenet.reference.transforms import fold_padding


@dataclass(frozen=True)
class LinearBottleneck:
    """A sequence of layers whose inside can be computed some channels at a time.

    Attributes:
        opens: the convolution that computes the inner channels.
        inside: channelwise layers.
        closes: the pointwise convolution that sums the inner channels, or the pooling that reduces each.
    """

    opens: Conv2D
    inside: tuple[Layer, ...]
    closes: Conv2D | GlobalAveragePooling2D

    @property
    def inner(self) -> frozenset[str]:
        """Names of the layers whose outputs need not exist as a whole."""
        return frozenset({self.opens.name, *(layer.name for layer in self.inside)})


def linear_bottlenecks(graph: Graph) -> tuple[LinearBottleneck, ...]:
    """The inverted residuals of V2 and V3 without squeeze-and-excitation, which reads their inside as a whole.

    Each goes from the expansion through the depthwise convolution to a projection without an activation after it. V2's
    first convolution and first block are one too, and so are its last convolution and the pooling after it.

    Source: Sandler et al. 2018 (arXiv:1801.04381), section 5.1.
    """
    reads = [*(name for layer in graph.layers for name in layer.inputs), *graph.output_layers]
    consumer = {name: layer for layer in graph.layers for name in layer.inputs}
    found = []
    for closes in graph.layers:  # layer types are compared because the paper's block is a pattern of types
        if not (isinstance(closes, GlobalAveragePooling2D) or _projects(closes, consumer)):
            continue
        inside: list[Layer] = []
        layer = graph[closes.inputs[0]]
        while layer.channelwise and reads.count(layer.name) == 1:
            inside.insert(0, layer)
            layer = graph[layer.inputs[0]]
        if not isinstance(layer, Conv2D) or layer.activation == "softmax" or layer.groups > 1:
            continue
        if reads.count(layer.name) > 1 or not inside:
            continue
        depthwise = any(isinstance(middle, DepthwiseConv2D) for middle in inside)
        linear_entry = isinstance(graph[layer.inputs[0]], BatchNormalization | Add)
        if depthwise if isinstance(closes, Conv2D) else linear_entry:
            found.append(LinearBottleneck(layer, tuple(inside), closes))
    return tuple(found)


def _projects(layer: Layer, consumer: Mapping[str, Layer]) -> TypeGuard[Conv2D]:
    """Whether it is a pointwise convolution with a batch normalization and no activation after it."""
    if not (isinstance(layer, Conv2D) and layer.is_pointwise and layer.activation == "linear"):
        return False
    norm = consumer.get(layer.name)
    return isinstance(norm, BatchNormalization) and not isinstance(consumer.get(norm.name), Activation)


def materialized_channels(graph: Graph) -> dict[int, int]:
    """Maximum number of channels of a whole feature map, by its side in pixels, as in the V2 paper's table 3.

    Everything but the inside of `linear_bottlenecks` exists as a whole.
    """
    folded = fold_padding(graph)
    inner = inner_layers(folded)
    channels: dict[int, int] = {}
    for name, shape in folded.shapes.items():
        if name not in inner and isinstance(folded[name], Conv2D | DepthwiseConv2D | Add | GlobalAveragePooling2D):
            side = shape[0] if len(shape) == 3 else 1
            channels[side] = max(channels.get(side, 0), shape[-1])
    return channels


def next_stage_channels(graph: Graph) -> dict[int, int]:
    """Maximum number of channels that a bottleneck outputs, by the side of its input in pixels.

    At the end of a stage these are the channels of the next stage; three rows of the V2 paper's table 3 print them.
    """
    folded = fold_padding(graph)
    channels: dict[int, int] = {}
    for block in linear_bottlenecks(folded):
        if not isinstance(block.closes, Conv2D):
            continue
        side = folded.shapes[block.opens.name][0]
        channels[side] = max(channels.get(side, 0), folded.shapes[block.closes.name][-1])
    return channels


def inner_layers(graph: Graph) -> frozenset[str]:
    """Names of all layers inside a linear bottleneck."""
    return frozenset(name for block in linear_bottlenecks(graph) for name in block.inner)
