"""Blocks of the published MobileNets, V3's tail and the head of V1, counted for view H."""

import re
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

from npmobilenet.analysis.memory_plan import plan
from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.architectures.builder import Builder
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Activation, Add, Dense, DepthwiseConv2D, Flatten, Input, Multiply

NETWORKS: dict[str, tuple[str, Callable[[], Graph]]] = {
    "MobileNetV1": ("v1", mobilenet_v1),
    "MobileNetV2": ("v2", mobilenet_v2),
    "MobileNetV3-Large": ("v3", mobilenet_v3_large),
    "MobileNetV3-Small": ("v3", mobilenet_v3_small),
}
BLOCK_NAME = re.compile(r"(?:conv_(?:pad|dw|pw)_|block_|expanded_conv_)(\d*)")
"""What layers of a block begin with; V2 and V3 give the first no number."""
PRINTED_TAIL_SAVING = 30_000_000
"""Multiply-adds that the V3 paper, section 5.1, says the new tail saves."""


def block_facts() -> dict[str, Any]:
    """Counts of view H.

    Returns:
        real (every block of the networks: shape, weights, multiply-adds, peak bytes by policy), tail (V3's last stage
        before and after), pooling (V1's last map to 1000 classes, pooled and flattened).
    """
    real = [
        {"network": name, **facts} for name, (kind, network) in NETWORKS.items() for facts in _blocks(network(), kind)
    ]
    return {"real": real, "tail": v3_tail(), "pooling": pooled_or_flat()}


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


def v3_tail() -> dict[str, Any]:
    """V3-Large's last stage as V2 would have it, and as it is: pooled before the last convolutions (V3, figure 5).

    Returns:
        before, after: the layers with a kernel, and the pool; before_macs, after_macs: of those that the other lacks.
    """
    before, after = original_tail(), efficient_tail()
    facts = {"before": tail_layers(before, after), "after": tail_layers(after, before)}
    macs = {name: sum(layer["macs"] for layer in layers if layer["differs"]) for name, layers in facts.items()}
    return {
        **facts,
        "before_macs": macs["before"],
        "after_macs": macs["after"],
        "saved_macs": macs["before"] - macs["after"],
        "printed_saving": PRINTED_TAIL_SAVING,
    }


def original_tail() -> Graph:
    """From 7 x 7 x 160: expand, filter, project to 320, widen to 1280, and only then pool (V2's order)."""
    net = Builder("original_tail", (7, 7, 160))
    net.conv("expand", 960, K=1)
    net.depthwise("depthwise", K=3, stride=1, padding="same")
    net.conv("project", 320, K=1)
    net.conv("widen", 1280, K=1)
    net.global_pool(keepdims=True, name="pool")
    net.conv("logits", 1000, K=1)
    return net.graph()


def efficient_tail() -> Graph:
    """From 7 x 7 x 160: expand, pool, widen a map of one pixel to 1280."""
    net = Builder("efficient_tail", (7, 7, 160))
    net.conv("expand", 960, K=1)
    net.global_pool(keepdims=True, name="pool")
    net.conv("widen", 1280, K=1)
    net.conv("logits", 1000, K=1)
    return net.graph()


def tail_layers(graph: Graph, other: Graph) -> list[dict[str, Any]]:
    """Name, output shape, multiply-adds of every layer, and whether `other` has no layer that does the same."""
    known = {(layer.name, other.macs_of(layer)) for layer in other.layers}
    return [
        {
            "name": layer.name,
            "shape": list(graph.shapes[layer.name]),
            "macs": graph.macs_of(layer),
            "differs": graph.macs_of(layer) > 0 and (layer.name, graph.macs_of(layer)) not in known,
        }
        for layer in graph.layers
    ]


def pooled_or_flat(classes: int = 1000) -> dict[str, Any]:
    """Weights of a classifier on V1's last map: pooled to one value per channel, or flattened."""
    H, W, C = mobilenet_v1(include_top=False).output_shape
    pooled, flat = Builder("pooled", (H, W, C)), Builder("flat", (H, W, C))
    pooled.global_pool()
    pooled.add(Dense, "predictions", units=classes, use_bias=False)
    flat.add(Flatten, "flatten")
    flat.add(Dense, "predictions", units=classes, use_bias=False)
    return {
        "map": [H, W, C],
        "classes": classes,
        "pooled": kernel_weights(pooled.graph()),
        "flat": kernel_weights(flat.graph()),
        "body": kernel_weights(mobilenet_v1(include_top=False)),
    }
