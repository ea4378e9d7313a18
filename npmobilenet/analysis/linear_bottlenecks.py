"""Linear bottlenecks: stretches of a network whose inside never has to exist as a whole.

The inside of an inverted residual treats every channel for itself, so it can be computed some channels at a time, and
its parts add up in the projection (Sandler et al. 2018, arXiv:1801.04381, section 5.1).
"""

from dataclasses import dataclass, replace

from npmobilenet.reference.graph import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
    Graph,
    Layer,
    Window,
    ZeroPadding2D,
)

CHANNELWISE = (BatchNormalization, Activation, DepthwiseConv2D)


def fold_padding(graph: Graph) -> Graph:
    """The same network with its zero padding made a part of the windows that read it; nothing else changes.

    A padding that anything but a window without padding of its own reads stays a layer.
    """
    readers: dict[str, list[Layer]] = {}
    for layer in graph.layers:
        for name in layer.inputs:
            readers.setdefault(name, []).append(layer)
    folds = {
        layer.name: layer
        for layer in graph.layers
        if isinstance(layer, ZeroPadding2D)
        and all(isinstance(reader, Window) and _is_valid(reader) for reader in readers[layer.name])
    }
    layers: list[Layer] = []
    for layer in graph.layers:
        if isinstance(layer, Window) and layer.inputs[0] in folds:
            zeros = folds[layer.inputs[0]]
            layer = replace(layer, inputs=zeros.inputs, padding=zeros.padding)
        if layer.name not in folds:
            layers.append(layer)
    return Graph(graph.name, tuple(layers))


@dataclass(frozen=True)
class Bottleneck:
    """A stretch of layers whose inside can be computed some channels at a time.

    Attributes:
        opens: the convolution that makes the inner channels.
        inside: layers that treat every channel for itself.
        closes: the pointwise convolution that sums the inner channels, or the pooling that hands them on.
    """

    opens: Conv2D
    inside: tuple[Layer, ...]
    closes: Conv2D | GlobalAveragePooling2D

    @property
    def inner(self) -> frozenset[str]:
        """Names of the layers whose outputs never exist as a whole."""
        return frozenset({self.opens.name, *(layer.name for layer in self.inside)})


def linear_bottlenecks(graph: Graph) -> tuple[Bottleneck, ...]:
    """The inverted residuals of V2 and V3, as far as no squeeze-and-excite needs their inside as a whole.

    Each goes from the expansion through the depthwise convolution to a projection without activation behind it. V2's
    first convolution and first block are one too, and so are its last convolution and the pooling behind it.

    Source: Sandler et al. 2018 (arXiv:1801.04381), section 5.1.
    """
    reads = [name for layer in graph.layers for name in layer.inputs]
    behind = {name: layer for layer in graph.layers for name in layer.inputs}
    found = []
    for closes in graph.layers:
        if isinstance(closes, Conv2D):
            follower = behind.get(behind[closes.name].name) if closes.name in behind else None
            linear = closes.activation == "linear" and isinstance(behind.get(closes.name), BatchNormalization)
            if not (linear and closes.is_pointwise) or isinstance(follower, Activation):
                continue
        elif not isinstance(closes, GlobalAveragePooling2D):
            continue
        inside: list[Layer] = []
        layer = graph[closes.inputs[0]]
        while isinstance(layer, CHANNELWISE) and reads.count(layer.name) == 1 and _one_to_one(layer):
            inside.insert(0, layer)
            layer = graph[layer.inputs[0]]
        if not isinstance(layer, Conv2D) or reads.count(layer.name) > 1 or not _one_to_one(layer) or not inside:
            continue
        depthwise = any(isinstance(middle, DepthwiseConv2D) for middle in inside)
        linear_entry = isinstance(graph[layer.inputs[0]], BatchNormalization | Add)
        if depthwise if isinstance(closes, Conv2D) else linear_entry:
            found.append(Bottleneck(layer, tuple(inside), closes))
    return tuple(found)


def materialised_channels(graph: Graph) -> dict[int, int]:
    """The most channels that exist as a whole map, by the side of the map in pixels, as in the V2 paper's table 3.

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
    """The most channels that a bottleneck hands on, by the side of the map that it works on, in pixels.

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


def _one_to_one(layer: Layer) -> bool:
    """Whether every channel of the output needs one channel of the input and nothing else."""
    return getattr(layer, "depth_multiplier", 1) == 1 and getattr(layer, "activation", "") != "softmax"


def _is_valid(window: Window) -> bool:
    return window.padding in ("valid", ((0, 0), (0, 0)))
