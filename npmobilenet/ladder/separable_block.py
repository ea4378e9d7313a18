"""A separable block of a network, with random weights, and the standard convolution that it replaces.

separable   [zeros] depthwise [batch norm] [activation] pointwise [batch norm] [activation]
standard    [zeros] convolution                                   [batch norm] [activation]
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from npmobilenet.bench.random_weights import random_params
from npmobilenet.compiler.ir import FUSED_ACTIVATIONS
from npmobilenet.errors import ArgumentError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Activation, BatchNormalization, Conv2D, DepthwiseConv2D, Input, ZeroPadding2D
from npmobilenet.types import Array, Pair, Shape

SEED = 0
SHOWN = 8  # blocks that an error message names


@dataclass(frozen=True, eq=False)
class Work:
    """Layers to be computed, with their weights.

    Attributes:
        graph: an input and a chain of layers.
        params: arrays by `layer/array`, float32.
    """

    graph: Graph
    params: dict[str, Array]

    def part(self, layers: tuple[Layer, ...]) -> "Work":
        """Some consecutive layers, from an input of their own."""
        source = layers[0].inputs[0]
        entry = Input(name=source, shape=self.graph.shapes[source])
        return Work(Graph(layers[-1].name, (entry, *layers)), self.params)


@dataclass(frozen=True, eq=False)
class SeparableBlock:
    """A depthwise and a pointwise convolution, what follows each, and the standard convolution that they replace.

    Attributes:
        separable, standard: the two ways.
        depthwise, pointwise, convolution: names of the layers with a kernel; the last is of `standard`.
        x: (1, H, W, C) input, float32.
    """

    separable: Work
    standard: Work
    depthwise: str
    pointwise: str
    convolution: str
    x: Array

    @property
    def filter(self) -> DepthwiseConv2D:
        """The depthwise layer."""
        layer = self.separable.graph[self.depthwise]
        assert isinstance(layer, DepthwiseConv2D)
        return layer

    @property
    def stride(self) -> int:
        """Stride of the depthwise convolution."""
        return self.filter.stride

    @property
    def output_shape(self) -> Shape:
        """(H_out, W_out, c_out)."""
        return self.separable.graph.output_shape

    @cached_property
    def zeros(self) -> tuple[Pair, Pair]:
        """Zeros around x at ((top, bottom), (left, right)), those of a ZeroPadding2D included."""
        graph = self.separable.graph
        pad = graph[self.filter.inputs[0]]
        outer = pad.padding if isinstance(pad, ZeroPadding2D) else ((0, 0), (0, 0))
        inner = self.filter.zeros(graph.shapes[pad.name])
        rows, columns = ((a[0] + b[0], a[1] + b[1]) for a, b in zip(outer, inner, strict=True))
        return rows, columns


def find_block(graph: Graph, layer: str | None = None) -> SeparableBlock:
    """A separable block of a network, with random weights and a random input.

    Args:
        graph: the network.
        layer: name of one of the block's layers; None for the first block of the shape that occurs most often.

    Raises:
        ArgumentError: the network has no separable block, or none with this layer.
    """
    blocks = list(_blocks(graph))
    if not blocks:
        raise ArgumentError(f"{graph.name}: expected a depthwise convolution followed by a pointwise one, found none")
    if layer is None:
        counts = Counter(_size(graph, block) for block in blocks)
        return _with_weights(graph, max(blocks, key=lambda block: counts[_size(graph, block)]))
    for block in blocks:
        if layer in [member.name for member in block]:
            return _with_weights(graph, block)
    names = [" + ".join(each.name for each in block if isinstance(each, DepthwiseConv2D | Conv2D)) for block in blocks]
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    raise ArgumentError(
        f"{graph.name}: expected a layer of a separable block, got {layer!r}; its blocks are "
        f"{', '.join(names[:SHOWN])}{more}"
    )


def _blocks(graph: Graph) -> Iterator[tuple[Layer, ...]]:
    """The layers of every separable block of a network."""
    readers = {name: [layer for layer in graph.layers if name in layer.inputs] for name in graph.shapes}
    for layer in graph.layers:
        if not isinstance(layer, DepthwiseConv2D) or not _is_plain(layer):
            continue
        before = graph[layer.inputs[0]]
        first = (before,) if isinstance(before, ZeroPadding2D) and len(readers[before.name]) == 1 else ()
        filtering = _with_followers(layer, readers)
        after = readers[filtering[-1].name]
        if len(after) == 1 and isinstance(after[0], Conv2D) and after[0].is_pointwise and _foldable(layer, filtering):
            mixing = _with_followers(after[0], readers)
            if _foldable(after[0], mixing):
                yield (*first, *filtering, *mixing)


def _is_plain(layer: DepthwiseConv2D) -> bool:
    """Whether the loops of all rungs can compute it: a square kernel, a filter per channel, no dilation."""
    K_h, K_w = layer.kernel_size
    return K_h == K_w and layer.depth_multiplier == 1 and layer.dilation == 1


def _with_followers(layer: Layer, readers: dict[str, list[Layer]]) -> tuple[Layer, ...]:
    """A layer, and the batch normalization and the activation that read it and nothing else."""
    chain = [layer]
    for kind in (BatchNormalization, Activation):
        after = readers[chain[-1].name]
        if len(after) == 1 and isinstance(after[0], kind):
            chain.append(after[0])
    return tuple(chain)


def _foldable(layer: DepthwiseConv2D | Conv2D, chain: tuple[Layer, ...]) -> bool:
    """Whether kernel, bias and one activation can say all that a chain computes."""
    activations = [layer.activation, *(after.activation for after in chain if isinstance(after, Activation))]
    return set(activations) <= set(FUSED_ACTIVATIONS) and (len(chain) == 1 or layer.activation == "linear")


def _size(graph: Graph, block: tuple[Layer, ...]) -> tuple[Shape, Shape]:
    return graph.shapes[block[0].inputs[0]], graph.shapes[block[-1].name]


def _with_weights(network: Graph, block: tuple[Layer, ...]) -> SeparableBlock:
    depthwise = next(layer for layer in block if isinstance(layer, DepthwiseConv2D))
    pointwise = next(layer for layer in block if isinstance(layer, Conv2D))
    source = block[0].inputs[0]
    entry = Input(name=source, shape=network.shapes[source])
    convolution = Conv2D(
        name=pointwise.name, inputs=depthwise.inputs, filters=pointwise.filters, kernel_size=depthwise.kernel_size,
        stride=depthwise.stride, padding=depthwise.padding, use_bias=pointwise.use_bias,
        activation=pointwise.activation,
    )  # fmt: skip
    mixing = block[block.index(pointwise) + 1 :]
    zeros = block[: block.index(depthwise)]
    x = np.random.default_rng(SEED).normal(0, 2, (1, *entry.shape)).clip(0, 6).astype(np.float32)  # as after a ReLU6
    separable = Graph(f"{depthwise.name} + {pointwise.name}", (entry, *block))
    standard = Graph("standard convolution", (entry, *zeros, convolution, *mixing))
    one, other = (Work(graph, random_params(graph, SEED, x)) for graph in (separable, standard))
    return SeparableBlock(one, other, depthwise.name, pointwise.name, convolution.name, x)
