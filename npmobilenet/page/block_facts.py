"""What view H carries ready-made: the blocks of the published MobileNets, V3's tail and the head of V1, counted."""

import re
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

from npmobilenet.analysis.memory_plan import plan
from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.figures.tail_figures import gap_or_flatten_data, v3_tail_data
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Activation, Add, DepthwiseConv2D, Input, Multiply

NETWORKS: dict[str, tuple[str, Callable[[], Graph]]] = {
    "MobileNetV1": ("v1", mobilenet_v1),
    "MobileNetV2": ("v2", mobilenet_v2),
    "MobileNetV3-Large": ("v3", mobilenet_v3_large),
    "MobileNetV3-Small": ("v3", mobilenet_v3_small),
}
BLOCK_NAME = re.compile(r"(?:conv_(?:pad|dw|pw)_|block_|expanded_conv_)(\d*)")
"""What layers of a block begin with; V2 and V3 give the first no number."""


def block_facts() -> dict[str, Any]:
    """Counts of view H.

    Returns:
        real (every block of the networks: shape, weights, multiply-adds, peak bytes by policy), tail and pooling (data
        of the figures v3-tail and gap-or-flatten).
    """
    real = [
        {"network": name, **facts} for name, (kind, network) in NETWORKS.items() for facts in _blocks(network(), kind)
    ]
    return {"real": real, "tail": v3_tail_data(), "pooling": gap_or_flatten_data()}


def _blocks(graph: Graph, kind: str) -> Iterator[dict[str, Any]]:
    for number, block in block_graphs(graph):
        depthwise = next(layer for layer in block.layers if isinstance(layer, DepthwiseConv2D))
        acts = [layer.activation for layer in block.layers if isinstance(layer, Activation)]
        (H, _, c_in), (_, _, c_out) = block.input_shape, block.output_shape
        yield {
            "number": number,
            "kind": kind,
            "H": H, "c_in": c_in, "c_out": c_out, "inner": block.shapes[depthwise.name][2],
            "K": depthwise.kernel_size[0], "stride": depthwise.stride,
            "se": any(isinstance(layer, Multiply) for layer in block.layers), "activation": acts[0],
            "add": any(isinstance(layer, Add) for layer in block.layers),
            "macs": block.macs, "weights": kernel_weights(block),
            "free": plan(block, "free").peak_bytes, "split": plan(block, "split").peak_bytes,
        }  # fmt: skip


def block_graphs(graph: Graph) -> Iterator[tuple[int, Graph]]:
    """(number, the block alone) for every block of a MobileNet, its input in place of the layers before it."""
    places: dict[int, list[int]] = {}
    for place, layer in enumerate(graph.layers):
        if name := BLOCK_NAME.match(layer.name):
            places.setdefault(int(name[1] or 0), []).append(place)
    for number, (first, *_, last) in places.items():
        entry = graph.layers[first].inputs[0]
        layers = (Input(name=entry, shape=graph.shapes[entry]), *graph.layers[first : last + 1])
        yield number, Graph(f"{graph.name}_{number}", layers)


def kernel_weights(graph: Graph) -> int:
    """Number of values of all kernels."""
    return sum(prod(shape) for name, shape in graph.param_shapes.items() if name.endswith("/kernel"))
