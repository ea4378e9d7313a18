"""Blocks: what V1 and V2 are made of, layer by layer, with shapes, costs and memory."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from npmobilenet.analysis.conventions import CONVENTIONS
from npmobilenet.analysis.memory_plan import plan
from npmobilenet.architectures import mobilenet_v1, mobilenet_v2
from npmobilenet.architectures.builder import Builder
from npmobilenet.figures.shapes_in_perspective import arrow, box, clear, cuboid, label
from npmobilenet.figures.style import DARK, LIGHT, LOOKS, MIDDLE, NORMAL, PALE, PAPER, SMALL
from npmobilenet.figures.words import Words
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Activation, Add, BatchNormalization, Conv2D, DepthwiseConv2D
from npmobilenet.reference.transforms import fold_padding

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

COLORS = {"depthwise": LIGHT, "pointwise": PALE, "standard": MIDDLE}
ACTIVATION_NAMES = {"relu6": "ReLU6", "relu": "ReLU", "hard_swish": "h-swish"}


def v1_block_data(block: int = 7) -> dict[str, Any]:
    """A block of V1 with a standard convolution, and with the separable pair, as layers of the two graphs."""
    separable, full = fold_padding(mobilenet_v1()), fold_padding(mobilenet_v1(full_convolution=True))
    pair = _stack(separable, (f"conv_dw_{block}", f"conv_pw_{block}"))
    alone = _stack(full, (f"conv_{block}",))
    macs = {"full_macs": sum(row["macs"] for row in alone), "separable_macs": sum(row["macs"] for row in pair)}
    stacks: list[dict[str, Any]] = [{"name": "full", "layers": alone}, {"name": "separable", "layers": pair}]
    return {"stacks": stacks, "block": block, **macs, "times": macs["full_macs"] / macs["separable_macs"]}


def draw_v1_block(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    _draw_stacks(data["stacks"], canvas, words, "v1-block")


def v2_blocks_data() -> dict[str, Any]:
    """V1's block, and V2's with stride 1 and with stride 2, as layers of the graphs (V2, figure 4)."""
    v1, v2 = fold_padding(mobilenet_v1()), fold_padding(mobilenet_v2())
    stacks: list[dict[str, Any]] = [
        {"name": "v1", "layers": _merged(_stack(v1, ("conv_dw_3", "conv_pw_3")))},
        {"name": "v2_stride_1", "layers": _merged(_stack(v2, ("block_2",)))},
        {"name": "v2_stride_2", "layers": _merged(_stack(v2, ("block_1",)))},
    ]
    sums = {f"{stack['name']}_macs": sum(row["macs"] for row in stack["layers"]) for stack in stacks}
    residuals = sum(isinstance(layer, Add) for layer in v2.layers)
    blocks = sum(isinstance(layer, DepthwiseConv2D) for layer in v2.layers)
    return {"stacks": stacks, **sums, "residuals": residuals, "blocks": blocks}


def draw_v2_blocks(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    _draw_stacks(data["stacks"], canvas, words, "v2-blocks")


def _stack(graph: Graph, stems: Iterable[str]) -> list[dict[str, Any]]:
    """The layers that are named after one of the stems, as conv_dw_1_bn is after conv_dw_1, in order."""
    beginnings = tuple(f"{stem}_" for stem in stems)
    return [_row(graph, layer) for layer in graph.layers if f"{layer.name}_".startswith(beginnings)]


def _row(graph: Graph, layer: Layer) -> dict[str, Any]:
    kind = "depthwise" if isinstance(layer, DepthwiseConv2D) else "pointwise" if _is_pointwise(layer) else ""
    kind = kind or ("standard" if isinstance(layer, Conv2D) else "")
    return {
        "name": layer.name,
        "kind": kind,
        "label": _label(layer),
        "input": list(graph.input_shapes(layer)[0]),
        "output": list(graph.shapes[layer.name]),
        "macs": graph.macs_of(layer),
        "is_add": isinstance(layer, Add),
    }


def _is_pointwise(layer: Layer) -> bool:
    return isinstance(layer, Conv2D) and layer.is_pointwise


def _label(layer: Layer) -> str:
    if isinstance(layer, DepthwiseConv2D | Conv2D):
        rows, cols = layer.kernel_size
        stride = f", /{layer.stride}" if layer.stride > 1 else ""
        return f"{'DW' if isinstance(layer, DepthwiseConv2D) else 'Conv'} {rows}×{cols}{stride}"
    if isinstance(layer, BatchNormalization):
        return "BN"
    return ACTIVATION_NAMES[layer.activation] if isinstance(layer, Activation) else layer.type


def _merged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Convolutions with the normalization and the activation after them in one row."""
    merged: list[dict[str, Any]] = []
    for row in rows:
        if row["kind"] or row["is_add"]:
            merged.append(dict(row))
        else:
            joint = ", " if "\n" in merged[-1]["label"] else "\n"
            merged[-1] |= {"label": f"{merged[-1]['label']}{joint}{row['label']}", "output": row["output"]}
    return merged


def _draw_stacks(stacks: list[dict[str, Any]], canvas: "Canvas", words: Words, figure: str) -> None:
    highest = max(len(stack["layers"]) for stack in stacks)
    for axes, stack in zip(canvas.subplots(1, len(stacks)), stacks, strict=True):
        clear(axes, equal=False)
        axes.set_title(words(f"{figure}.{stack['name']}"), fontsize=NORMAL)
        first = stack["layers"][0]
        label(axes, 0, -0.35, words("figures.input", shape=_times(first["input"])))
        for place, row in enumerate(stack["layers"]):
            y = place + 0.5
            arrow(axes, (0, place - 0.15 if place == 0 else place - 0.12), (0, y - 0.29))
            box(axes, 0, y, 1.5, 0.54, row["label"], color=COLORS.get(row["kind"], PAPER))
            label(axes, 0.85, y, _times(row["output"]), ha="left")
            if row["macs"]:
                label(axes, -0.85, y, f"{row['macs']:,}", ha="right")
        if stack["layers"][-1]["is_add"]:
            _bypass(axes, len(stack["layers"]) - 0.5)
        axes.set(xlim=(-1.9, 1.9), ylim=(-0.6, highest + 0.1))


def _bypass(axes: "Axes", top: float) -> None:
    """The line around a block that its input takes to the sum."""
    axes.plot([0, -1.75, -1.75, -0.8], [-0.13, -0.13, top, top], color=DARK, linewidth=1.6)
    arrow(axes, (-0.9, top), (-0.75, top))


def v2_evolution_data(side: int = 56, channels: int = 24, expansion: int = 6) -> dict[str, Any]:
    """From the regular convolution to the inverted residual, input and output of one shape (V2, figure 2)."""
    wide = expansion * channels
    kinds = {
        "regular": [("standard", channels, "relu6")],
        "separable": [("depthwise", channels, "relu6"), ("pointwise", channels, "relu6")],
        "linear": [("depthwise", channels, "relu6"), ("pointwise", channels, "")],
        "expansion": [("pointwise", wide, "relu6"), ("depthwise", wide, "relu6"), ("pointwise", channels, "")],
    }
    blocks = [{"name": name, **_evolved(side, channels, layers)} for name, layers in kinds.items()]
    return {
        "side": side,
        "channels": channels,
        "expansion": expansion,
        "blocks": blocks,
        **{f"{block['name']}_macs": block["macs"] for block in blocks},
    }


def _evolved(side: int, channels: int, layers: list[tuple[str, int, str]]) -> dict[str, Any]:
    net = Builder("block", (side, side, channels))
    steps = []
    for number, (kind, c_out, activation) in enumerate(layers):
        name = f"{kind}_{number}"
        if kind == "depthwise":
            net.depthwise(name, K=3, stride=1, padding="same")
        else:
            net.conv(name, c_out, K=3 if kind == "standard" else 1)
        steps.append({"kind": kind, "output": list(net.shape), "linear": not activation})
        net.bn(f"{name}_bn")
        if activation:
            net.activation(activation, f"{name}_relu6")
    graph = net.graph()
    return {"steps": steps, "macs": graph.macs, "weights": CONVENTIONS["weights"].count(graph)}


def draw_v2_evolution(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    rows = canvas.subplots(2, 2)
    for axes, block in zip(rows.ravel(), data["blocks"], strict=True):
        clear(axes)
        maps = [
            {"output": [0, 0, data["channels"]], "linear": block["name"] in ("linear", "expansion")},
            *block["steps"],
        ]
        x = 0.0
        for place, step in enumerate(maps):
            width = step["output"][2] / 24 * 2.2
            if place:
                arrow(axes, (x - 8.7, 4.5), (x - 1, 4.5))
                label(axes, x - 4.8, 2.9, words(f"v2-evolution.{step['kind']}"))
            cuboid(axes, x, 0, width, 8, 4, color=LIGHT, hatch="///" if step["linear"] else "")
            label(axes, x + width / 2, -1.1, f"{step['output'][2]}")
            x += width + 11.5
        title = words(f"v2-evolution.{block['name']}", macs=block["macs"], weights=block["weights"])
        axes.set_title(title, fontsize=NORMAL)
        middle = (x - 11.5) / 2
        axes.set(xlim=(middle - 34.5, middle + 35.5), ylim=(-2.2, 10.6))


def residuals_data(side: int = 56, narrow: int = 24, wide: int = 144) -> dict[str, Any]:
    """A residual block (wide, narrow, wide) and an inverted one (narrow, wide, narrow) of the same channel counts.

    Memory is in bytes of float32: the peak of the block alone, its input included, by policy of `memory_plan`.
    """
    shapes = {"residual": (wide, narrow), "inverted": (narrow, wide)}
    blocks = [{"name": name, **_residual(side, outer, inner, name)} for name, (outer, inner) in shapes.items()]
    return {
        "side": side,
        "narrow": narrow,
        "wide": wide,
        "blocks": blocks,
        **{f"{block['name']}_{key}": block[key] for block in blocks for key in ("macs", "free", "in_place", "split")},
    }


def residual_graph(side: int, outer: int, inner: int, *, depthwise: bool) -> Graph:
    """1 x 1 to `inner` channels, 3 x 3 (standard or depthwise), 1 x 1 back to `outer`, and the input added."""
    net = Builder("block", (side, side, outer))
    net.conv("enter", inner, K=1)
    net.bn("enter_bn")
    net.activation("relu6", "enter_relu")
    if depthwise:
        net.depthwise("middle", K=3, stride=1, padding="same")
    else:
        net.conv("middle", inner, K=3)
    net.bn("middle_bn")
    net.activation("relu6", "middle_relu")
    net.conv("leave", outer, K=1)
    net.bn("leave_bn")
    net.add(Add, "add", inputs=("input_layer", net.last))
    return net.graph()


def _residual(side: int, outer: int, inner: int, name: str) -> dict[str, Any]:
    graph = residual_graph(side, outer, inner, depthwise=name == "inverted")
    plans = {policy: plan(graph, policy) for policy in ("free", "in_place", "split")}
    live = [
        {"layer": step.layer.name, "bytes": used}
        for step, used in zip(plans["in_place"].steps, plans["in_place"].live_bytes, strict=True)
    ]
    peaks = {policy: planned.peak_bytes for policy, planned in plans.items()}
    return {"outer": outer, "inner": inner, "macs": graph.macs, "live": live, **peaks}


def draw_residuals(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    grid = canvas.subplots(2, 2, height_ratios=(1.25, 1))
    limit = max(step["bytes"] for block in data["blocks"] for step in block["live"]) / 1024
    for (shapes, chart), block in zip(grid.T, data["blocks"], strict=True):
        clear(shapes)
        x = 0.0
        for place, channels in enumerate((block["outer"], block["inner"], block["inner"], block["outer"])):
            width = channels / 24 * 2
            if place:
                arrow(shapes, (x - 3.6, 4), (x - 0.6, 4))
            linear = block["name"] == "inverted" and place in (0, 3)
            cuboid(shapes, x, 0, width, 8, 4, color=LIGHT, hatch="///" if linear else "")
            label(shapes, x + width / 2, -1.3, f"{channels}")
            x += width + 6
        arrow(shapes, (2, 11), (x - 8, 11), bend=-0.18)
        shapes.set_title(words(f"residuals.{block['name']}", macs=block["macs"]), fontsize=NORMAL)
        shapes.set(xlim=(-1, 53), ylim=(-2.5, 17))
        look = LOOKS[0 if block["name"] == "residual" else 1]
        used = [step["bytes"] / 1024 for step in block["live"]]
        chart.bar(
            range(len(used)), used, color=look.color, hatch=look.hatch, edgecolor="white", label=words("residuals.live")
        )
        for policy, line in (("in_place", "--"), ("split", ":")):
            chart.axhline(
                block[policy] / 1024, color="black", linestyle=line, linewidth=1.2, label=words(f"residuals.{policy}")
            )
        chart.set(ylim=(0, 1.45 * limit), xticks=[], xlabel=words("residuals.x"))
        chart.legend(loc="upper center", ncols=3, fontsize=SMALL)
    grid[1, 0].set_ylabel("KiB")


def _times(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape))
