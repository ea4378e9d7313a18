"""A standard convolution and the separable one that replaces it: filters, maps, costs, and the rank of filters."""

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from npmobilenet.analysis.separable_cost import SeparableCost
from npmobilenet.architectures import mobilenet_v1
from npmobilenet.figures.shapes_in_perspective import arrow, blank_axes, cuboid, label
from npmobilenet.figures.style import DARK, GRID, INK, LIGHT, LOOKS, MIDDLE, NORMAL, PALE, SMALL
from npmobilenet.figures.words import Words
from npmobilenet.hub.load import DIGITS, load
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Conv2D, DepthwiseConv2D
from npmobilenet.reference.transforms import fold_padding
from npmobilenet.types import Array, Shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

KERNEL_SIDES = (1, 3, 5, 7)
GAUSS = ((1, 2, 1), (2, 4, 2), (1, 2, 1))
SOBEL = ((1, 0, -1), (2, 0, -2), (1, 0, -1))
LAPLACE = ((0, 1, 0), (1, -4, 1), (0, 1, 0))


def filters_data(c_in: int = 4, c_out: int = 6, K: int = 3) -> dict[str, Any]:
    """Filters of a standard, a depthwise and a pointwise convolution, and their weights."""
    cost = SeparableCost(1, 1, c_in, c_out, K)
    banks = {name: _bank(layer, x) for name, (layer, x) in cost.layers.items()}
    return {"c_in": c_in, "c_out": c_out, "K": K, "banks": banks, **cost.weights}


def _bank(layer: Layer, x: Shape) -> dict[str, Any]:
    """Number and shape of a layer's filters: the kernel (K, K, c_in, c_out) column by column."""
    rows, cols, c_in, c_out = layer.param_shapes(x)["kernel"]
    if isinstance(layer, DepthwiseConv2D):
        return {"filters": c_in * c_out, "shape": [rows, cols, 1], "weights": rows * cols * c_in * c_out}
    return {"filters": c_out, "shape": [rows, cols, c_in], "weights": rows * cols * c_in * c_out}


def draw_filters(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    axes = blank_axes(canvas)
    colors = {"standard": (MIDDLE, ""), "depthwise": (LIGHT, ""), "pointwise": (PALE, "")}
    y = 0.0
    for name, bank in reversed(data["banks"].items()):
        rows, cols, depth = bank["shape"]
        color, hatch = colors[name]
        for index in range(bank["filters"]):
            cuboid(axes, 6.4 * index, y, cols, rows, depth, color=color, hatch=hatch)
        height = rows + 0.45 * depth
        label(axes, -9.6, y + height / 2, words(f"filters.{name}"), size=NORMAL)
        text = words("filters.count", filters=bank["filters"], rows=rows, cols=cols, depth=depth, total=bank["weights"])
        label(axes, 6.4 * data["c_out"] + 6, y + height / 2, text)
        y += height + 2.4
    axes.set(xlim=(-15.5, 6.4 * data["c_out"] + 13), ylim=(-1, y))


def both_ways_data(side: int = 12, c_in: int = 3, c_out: int = 256, K: int = 5) -> dict[str, Any]:
    """A map of side x side x c_in to c_out channels without padding, in one step and in two."""
    standard = Conv2D(name="standard", filters=c_out, kernel_size=(K, K), padding="valid", use_bias=False)
    depthwise = DepthwiseConv2D(name="depthwise", kernel_size=(K, K), padding="valid", use_bias=False)
    pointwise = Conv2D(name="pointwise", filters=c_out, kernel_size=(1, 1), use_bias=False)
    x = (side, side, c_in)
    filtered = depthwise.output_shape(x)
    macs = {"standard": standard.macs(x), "depthwise": depthwise.macs(x), "pointwise": pointwise.macs(filtered)}
    separable = macs["depthwise"] + macs["pointwise"]
    return {
        "input": list(x),
        "filtered": list(filtered),
        "output": list(standard.output_shape(x)),
        "K": K,
        **macs,
        "separable": separable,
        "ratio": separable / macs["standard"],
        "times": macs["standard"] / separable,
        "c_out": c_out,
    }


def draw_both_ways(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    axes = blank_axes(canvas)
    K, filtered = data["K"], data["filtered"]
    for y, maps in ((24.0, [data["input"], data["output"]]), (0.0, [data["input"], filtered, data["output"]])):
        places = (0, 62) if len(maps) == 2 else (0, 30, 62)
        for x, (H, W, C) in zip(places, maps, strict=True):
            depth = max(C, 1) if C < 16 else 16 + C / 24
            cuboid(axes, x, y, W, H, depth, color=LIGHT if C < 16 else DARK)
            label(axes, x + W / 2, y - 1.8, f"{H} × {W} × {C}", size=NORMAL)
    _step(axes, (15, 30), (60, 30), words("both-ways.standard", K=K, macs=data["standard"], **_channels(data)))
    _step(axes, (14.5, 6), (28.5, 6), words("both-ways.depthwise", K=K, macs=data["depthwise"], **_channels(data)))
    _step(axes, (41, 4), (60, 4), words("both-ways.pointwise", macs=data["pointwise"], **_channels(data)))
    axes.set(xlim=(-3, 88), ylim=(-4, 46))


def _channels(data: dict[str, Any]) -> dict[str, int]:
    return {"c_in": data["input"][2], "c_out": data["output"][2]}


def _step(axes: "Axes", start: tuple[float, float], end: tuple[float, float], text: str) -> None:
    arrow(axes, start, end)
    axes.text((start[0] + end[0]) / 2, start[1] + 1.2, text, ha="center", va="bottom", fontsize=SMALL, linespacing=1.3)


def ratio_data(limit: int = 2048) -> dict[str, Any]:
    """Cost of the separable convolution over that of the standard one, by output channels N and K; V1's pairs."""
    channels = sorted({round(2 ** (step / 4)) for step in range(4 * limit.bit_length())} | {256})
    channels = [c_out for c_out in channels if c_out <= limit]
    curves = {str(K): [float(SeparableCost(14, 14, 8, c_out, K).ratio) for c_out in channels] for K in KERNEL_SIDES}
    layers = list(v1_pairs())
    by_shape = {(row["H"], row["c_in"], row["c_out"]): row["ratio"] for row in layers}
    return {
        "c_out": channels,
        "curves": curves,
        "layers": layers,
        "at_256": float(SeparableCost(1, 1, 1, 256).ratio),
        "smallest": min(row["ratio"] for row in layers),
        "largest": max(row["ratio"] for row in layers),
        "repeated": by_shape[14, 512, 512],
        "break_even": 1 / (1 - 1 / 9),
    }


def v1_pairs() -> list[dict[str, Any]]:
    """The thirteen separable pairs of V1, each with its ratio from the counts of the graph's own layers."""
    graph = fold_padding(mobilenet_v1())
    pairs = []
    for depthwise in graph.layers:
        if isinstance(depthwise, DepthwiseConv2D):
            pointwise = graph[depthwise.name.replace("dw", "pw")]
            (H, W, c_in), c_out = graph.input_shapes(depthwise)[0], graph.shapes[pointwise.name][2]
            separable = graph.macs_of(depthwise) + graph.macs_of(pointwise)
            standard = prod(graph.shapes[depthwise.name][:2]) * prod(depthwise.kernel_size) * c_in * c_out
            row = {"layer": depthwise.name, "H": H, "W": W, "c_in": c_in, "c_out": c_out, "stride": depthwise.stride}
            pairs.append(row | {"separable": separable, "standard": standard, "ratio": separable / standard})
    return pairs


def draw_ratio(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    axes = canvas.subplots()
    for (K, ratios), look in zip(data["curves"].items(), LOOKS, strict=False):
        axes.plot(data["c_out"], ratios, color=look.color, linestyle=look.line, label=words("ratio.curve", K=K))
        axes.annotate(f"K = {K}", (data["c_out"][-1], ratios[-1]), (6, 0), textcoords="offset points", va="center")
    x, y = ([row[key] for row in data["layers"]] for key in ("c_out", "ratio"))
    axes.plot(x, y, "o", color=INK, markersize=7, markerfacecolor="none", label=words("ratio.layers"))
    axes.axhline(1, color=GRID, linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel=words("ratio.x"), ylabel=words("ratio.y"), xlim=(1, 3600))
    axes.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1024"])
    axes.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5, 1, 2], ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"])
    axes.minorticks_off()
    axes.grid()
    axes.legend(loc="lower left")


def separability_data(layer: str = "conv_dw_1", channel: int | None = None) -> dict[str, Any]:
    """3 x 3 filters and their singular values; a filter of rank 1 is a column times a row.

    Args:
        layer: depthwise layer of the digits network, whose filter of highest rank is the last one.
        channel: of it; None for the one with the largest smallest singular value.
    """
    kernels = load(DIGITS).params[f"{layer}/kernel"][:, :, :, 0].astype(np.float64)  # (3, 3, C)
    values = np.linalg.svd(np.moveaxis(kernels, 2, 0), compute_uv=False)  # (C, 3)
    chosen = int((values[:, 2] / values[:, 0]).argmax()) if channel is None else channel
    learned = kernels[:, :, chosen]
    known = {"gauss": GAUSS, "sobel": SOBEL, "laplace": LAPLACE, "learned": learned / np.abs(learned).max()}
    return {
        "filters": [{"name": name, **_rank(np.asarray(kernel, np.float64))} for name, kernel in known.items()],
        "layer": layer,
        "channel": chosen,
        "spatial": 9,
        "column_and_row": 6,
    }


def _rank(kernel: Array) -> dict[str, Any]:
    values = np.linalg.svd(kernel, compute_uv=False)
    rank = int(np.linalg.matrix_rank(kernel))
    energy = float((values[:1] ** 2).sum() / (values**2).sum())
    return {"kernel": kernel.tolist(), "singular_values": values.tolist(), "rank": rank, "rank_1_energy": energy}


def draw_separability(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    maps, bars = canvas.subplots(2, len(data["filters"]), height_ratios=(1.3, 1))
    for image, chart, entry in zip(maps, bars, data["filters"], strict=True):
        kernel = np.array(entry["kernel"])
        limit = np.abs(kernel).max()
        image.imshow(kernel, cmap="Blues", vmin=-limit, vmax=2 * limit)
        for (row, col), value in np.ndenumerate(kernel):
            ink = "white" if value > 0.9 * limit else INK
            image.text(
                col, row, f"{value:g}" if value == round(value) else f"{value:.2f}", ha="center", va="center", color=ink
            )
        image.set(xticks=[], yticks=[], title=words(f"separability.{entry['name']}", **_place(data)))
        relative = np.array(entry["singular_values"]) / entry["singular_values"][0]
        places = np.arange(len(relative))
        chart.bar(places, relative, color=LIGHT, edgecolor=INK, width=0.6)
        for place, value in zip(places, relative, strict=True):
            chart.text(
                place, value + 0.04, "0" if value < 1e-9 else f"{value:.2f}", ha="center", va="bottom", fontsize=SMALL
            )
        chart.set(ylim=(0, 1.3), yticks=[0, 0.5, 1], xticks=places, xticklabels=[f"σ{place + 1}" for place in places])
        chart.set_xlabel(words("separability.rank", rank=entry["rank"], energy=100 * entry["rank_1_energy"]))
        if chart is not bars[0]:
            chart.set_yticklabels([])
    bars[0].set_ylabel(words("separability.y"))


def _place(data: dict[str, Any]) -> dict[str, Any]:
    return {"layer": data["layer"], "channel": data["channel"]}
