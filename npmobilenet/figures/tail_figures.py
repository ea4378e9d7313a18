"""The last layers of a network: V3's tail before and after, and pooling against flattening."""

from typing import TYPE_CHECKING, Any

from npmobilenet.analysis.conventions import CONVENTIONS
from npmobilenet.architectures import mobilenet_v1, mobilenet_v3_large
from npmobilenet.architectures.builder import Builder
from npmobilenet.figures.shapes_in_perspective import arrow, clear, cuboid, label, value_above
from npmobilenet.figures.style import DARK, INK, LIGHT, LOOKS, MIDDLE, NORMAL, SMALL
from npmobilenet.figures.words import Words
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import KernelLayer
from npmobilenet.reference.layers import Dense, Flatten

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

PRINTED_SAVING = 30_000_000
"""Multiply-adds that the V3 paper, section 5.1, says the new tail saves."""


def v3_tail_data() -> dict[str, Any]:
    """V3-Large's last stage as V2's would be, and as it is: pooled before the last convolutions (V3, figure 5)."""
    before, after = original_tail(), efficient_tail()
    changed = {name: sum(layer["macs"] for layer in tail if layer["differs"]) for name, tail in _both(before, after)}
    return {
        "before": _layers(before, after),
        "after": _layers(after, before),
        "before_macs": changed["before"],
        "after_macs": changed["after"],
        "saved_macs": changed["before"] - changed["after"],
        "printed_saving": PRINTED_SAVING,
        "whole_macs": mobilenet_v3_large().macs,
    }


def draw_v3_tail(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    for axes, name in zip(canvas.subplots(2, 1), ("before", "after"), strict=True):
        clear(axes)
        layers = data[name]
        maps = [layers[0]["input"], *(layer["output"] for layer in layers)]
        x = 0.0
        for place, (H, _, C) in enumerate(maps):
            width = C / 160
            if place:
                layer = layers[place - 1]
                arrow(axes, (x - 11.2, 3.5), (x - 1, 3.5))
                text = words(f"v3-tail.{layer['name']}", macs=layer["macs"])
                axes.text(x - 6.1, 4.2, text, ha="center", va="bottom", fontsize=SMALL, linespacing=1.3)
            color = MIDDLE if place and layers[place - 1]["differs"] else LIGHT
            cuboid(axes, x, 3.5 - H / 2, width, H, H * 0.5, color=color)
            label(axes, x + width / 2, -1.6, f"{H}×{H}×{C}")
            x += width + 13
        axes.set_title(words(f"v3-tail.title_{name}", macs=data[f"{name}_macs"]), fontsize=NORMAL)
        axes.set(xlim=(-2, 127), ylim=(-2.5, 11))


def original_tail() -> Graph:
    """From 7 x 7 x 160: expand, filter, project to 320, widen to 1280, and only then pool (V2's order)."""
    net = Builder("original_tail", (7, 7, 160))
    _conv(net, "expand", 960)
    net.depthwise("depthwise", K=3, stride=1, padding="same")
    _activated(net, "depthwise")
    net.conv("project", 320, K=1)
    net.bn("project_bn")
    _conv(net, "widen", 1280)
    net.global_pool(keepdims=True, name="pool")
    net.conv("logits", 1000, K=1, use_bias=True)
    return net.graph()


def efficient_tail() -> Graph:
    """From 7 x 7 x 160: expand, pool, widen a map of one pixel to 1280."""
    net = Builder("efficient_tail", (7, 7, 160))
    _conv(net, "expand", 960)
    net.global_pool(keepdims=True, name="pool")
    net.conv("widen", 1280, K=1, use_bias=True)
    net.activation("hard_swish", "widen_activation")
    net.conv("logits", 1000, K=1, use_bias=True)
    return net.graph()


def gap_or_flatten_data(alpha: float = 1.0, classes: int = 1000) -> dict[str, Any]:
    """A classifier on V1's last map: pooled to one value per channel, or flattened (V1's 7 x 7 x 1024)."""
    body = mobilenet_v1(alpha, include_top=False)
    H, W, C = body.output_shape
    pooled, flat = Builder("pooled", (H, W, C)), Builder("flat", (H, W, C))
    pooled.global_pool()
    pooled.add(Dense, "predictions", units=classes, use_bias=False)
    flat.add(Flatten, "flatten")
    flat.add(Dense, "predictions", units=classes, use_bias=False)
    weights = {name: net.graph().total_params for name, net in (("pooled", pooled), ("flat", flat))}
    return {
        "map": [H, W, C],
        "classes": classes,
        "pooled_weights": weights["pooled"],
        "flat_weights": weights["flat"],
        "ratio": weights["flat"] / weights["pooled"],
        "body_weights": CONVENTIONS["weights"].count(body),
    }


def draw_gap_or_flatten(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    scheme, chart = canvas.subplots(1, 2, width_ratios=(1.2, 1))
    clear(scheme)
    (H, W, C), classes = data["map"], data["classes"]
    for y, name, length in ((14, "pooled", 4), (0, "flat", 8)):
        cuboid(scheme, 0, y, 5, 7, 3, color=LIGHT)
        label(scheme, 2.5, y - 1.4, f"{H}×{W}×{C}")
        arrow(scheme, (7.5, y + 3.5), (14.5, y + 3.5))
        label(scheme, 11, y + 5.2, words(f"gap-or-flatten.{name}_step"))
        cuboid(scheme, 16, y + 3.5 - length / 2, 0.9, length, 0.6, color=MIDDLE)
        label(scheme, 16.5, y - 1.4, f"{C:,}" if name == "pooled" else f"{H * W * C:,}")
        arrow(scheme, (19, y + 3.5), (26, y + 3.5))
        label(scheme, 22.5, y + 5.2, "Dense")
        cuboid(scheme, 27.5, y + 1.5, 0.9, 4, 0.6, color=DARK)
        label(scheme, 28, y - 1.4, f"{classes:,}")
    scheme.set(xlim=(-1, 31), ylim=(-3, 24))
    for place, (name, look) in enumerate(zip(("pooled", "flat"), LOOKS, strict=False)):
        value = data[f"{name}_weights"]
        chart.bar(place, value / 1e6, color=look.color, hatch=look.hatch, edgecolor=INK, width=0.6)
        value_above(chart, place, value / 1e6, f"{value:,}")
    chart.set_xticks([0, 1], [words("gap-or-flatten.pooled"), words("gap-or-flatten.flat")])
    chart.set(ylabel=words("gap-or-flatten.y"), ylim=(0, 1.15 * data["flat_weights"] / 1e6), xlim=(-0.6, 1.6))


def _conv(net: Builder, name: str, filters: int) -> None:
    net.conv(name, filters, K=1)
    _activated(net, name)


def _activated(net: Builder, name: str) -> None:
    net.bn(f"{name}_bn")
    net.activation("hard_swish", f"{name}_activation")


def _both(before: Graph, after: Graph) -> tuple[tuple[str, list[dict[str, Any]]], ...]:
    return ("before", _layers(before, after)), ("after", _layers(after, before))


def _layers(graph: Graph, other: Graph) -> list[dict[str, Any]]:
    """Convolutions and the pooling of a tail; `differs` where the other tail has no layer of this cost and name."""
    costs = {(layer.name, other.macs_of(layer)) for layer in other.layers}
    return [
        {
            "name": layer.name,
            "input": list(graph.input_shapes(layer)[0]),
            "output": list(graph.shapes[layer.name]),
            "kernel": list(layer.kernel_size) if hasattr(layer, "kernel_size") else None,
            "macs": graph.macs_of(layer),
            "differs": (layer.name, graph.macs_of(layer)) not in costs,
        }
        for layer in graph.layers
        if isinstance(layer, KernelLayer) or layer.name == "pool"
    ]
