"""Accuracy against cost: the networks of the papers, counted, with the accuracies that were published."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from npmobilenet.analysis.published import V1, V2, V3, Figure
from npmobilenet.figures.published_points import SLIM, SLIM_V1, pareto, points
from npmobilenet.figures.shapes_in_perspective import value_above
from npmobilenet.figures.style import GRID, INK, LOOKS, QUIET, SMALL, Look
from npmobilenet.figures.words import Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

MILLION = 1e6

SERIES: Mapping[str, Callable[[Figure], bool]] = {  # of `v2-accuracy`
    "MobileNetV1, TF-Slim": lambda row: row.source == SLIM_V1,
    "MobileNetV1, paper": lambda row: row.source == V1 and row.table in ("6", "7") and row.alpha is not None,
    "MobileNetV2, TF-Slim": lambda row: row.source == SLIM and row.model == "MobileNetV2",
    "MobileNetV2, paper": lambda row: row.source == V2 and row.model == "MobileNetV2",
    "MobileNetV3, TF-Slim": lambda row: row.source == SLIM and row.table.startswith("V3") and "int8" not in row.model,
    "MobileNetV3, paper": lambda row: row.source == V3 and row.table == "3" and row.model.startswith("MobileNetV3"),
    "V1 paper's variants": lambda row: row.source == V1 and row.model in ("Conv MobileNet", "Shallow MobileNet"),
    "V1 paper's baselines": lambda row: row.source == V1 and row.table in ("8", "9") and "Mobile" not in row.model,
    "V2 paper's baselines": lambda row: row.source == V2 and "MobileNet" not in row.model,
}
"""Rows of published accuracies by series: two accuracies of one network are in two series."""


def v1_accuracy_data() -> dict[str, Any]:
    """V1's sixteen networks: multiply-adds and weights counted, accuracy of TF-Slim's page; the paper's own in a second
    series."""
    slim = points(SERIES["MobileNetV1, TF-Slim"])
    paper = points(SERIES["MobileNetV1, paper"])
    by_network = {(row["alpha"], row["resolution"]): row for row in slim}
    distances = [row["top1"] - by_network[row["alpha"], row["resolution"]]["top1"] for row in paper]
    return {
        "points": slim,
        "paper": paper,
        "front_macs": pareto(slim, "macs"),
        "front_weights": pareto(slim, "weights"),
        "networks": len(slim),
        "largest_distance": round(max(map(abs, distances)), 6),
        "doubling": _gain_of_doubling(slim),
        "verdicts": _verdicts(slim, "macs"),
    }


def v2_accuracy_data() -> dict[str, Any]:
    """V1, V2 and V3 by series, and the networks that the papers compare with; the Pareto front over all that are
    counted."""
    series = {name: points(chosen) for name, chosen in SERIES.items()}
    every = [row | {"series": name} for name, rows in series.items() for row in rows if row["counted"]]
    front = [every[index] for index in pareto(every, "macs")]
    short = [{key: row[key] for key in ("series", "model", "alpha", "resolution", "macs", "top1")} for row in front]
    counts = {"v1": len(series["MobileNetV1, TF-Slim"]), "v2": len(series["MobileNetV2, TF-Slim"])}
    return {"series": series, "front": short, **counts, "v3": len(series["MobileNetV3, TF-Slim"])}


def rivals_data() -> dict[str, Any]:
    """VGG 16, GoogLeNet, SqueezeNet and AlexNet next to two MobileNets, as V1's tables 8 and 9 compare them."""
    rows = points(lambda row: row.source == V1 and row.table in ("8", "9"))
    by_model = {row["model"]: row for row in rows if "MobileNet" not in row["model"]}
    large, small = (row for row in rows if row["model"] == "MobileNetV1")
    vgg, squeezenet = by_model["VGG 16"], by_model["Squeezenet"]
    return {
        "points": rows,
        "vgg_macs": vgg["macs"] / large["macs"],
        "vgg_weights": vgg["weights"] / large["weights"],
        "squeezenet_macs": squeezenet["macs"] / small["macs"],
        "squeezenet_printed": squeezenet["printed"]["macs"]["printed_value"]
        / small["printed"]["macs"]["printed_value"],
        "squeezenet_weights": squeezenet["weights"] / small["weights"],
        "squeezenet_percent": 100 * abs(1 - squeezenet["weights"] / small["weights"]),
    }


def v1_full_or_separable_data() -> dict[str, Any]:
    """MobileNet with full convolutions against the separable one (V1 paper, table 4)."""
    full, separable = points(lambda row: row.source == V1 and row.table == "4")
    return _pair(full, separable)


def v1_thin_or_shallow_data() -> dict[str, Any]:
    """Width 0.75 against five layers fewer, at about the same cost (V1 paper, table 5)."""
    thin, shallow = points(lambda row: row.source == V1 and row.table == "5")
    return _pair(thin, shallow)


def _pair(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {
        "points": [first, second],
        "macs_ratio": first["macs"] / second["macs"],
        "weights_ratio": first["weights"] / second["weights"],
        "top1_distance": round(first["top1"] - second["top1"], 6),
        "verdicts": ", ".join(row["printed"]["macs"]["verdict"] for row in (first, second)),
    }


def _gain_of_doubling(rows: list[dict[str, Any]]) -> float:
    """Percentage points of accuracy per doubling of the multiply-adds, by least squares."""
    macs, top1 = np.log2([row["macs"] for row in rows]), [row["top1"] for row in rows]
    return float(np.polyfit(macs, top1, 1)[0])


def _verdicts(rows: list[dict[str, Any]], cost: str) -> dict[str, int]:
    found = [row["printed"][cost]["verdict"] for row in rows]
    return {verdict: found.count(verdict) for verdict in dict.fromkeys(found)}


def draw_v1_accuracy_macs(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    axes = canvas.subplots()
    _draw_v1(axes, data, words, "macs")
    axes.set(xscale="log", xlabel=words("accuracy.macs"))
    axes.set_xticks([20, 50, 100, 200, 500], ["20", "50", "100", "200", "500"])
    axes.minorticks_off()


def draw_v1_accuracy_params(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    axes = canvas.subplots()
    _draw_v1(axes, data, words, "weights")
    axes.set(xlabel=words("accuracy.weights"), xlim=(0, 4.6))


def _draw_v1(axes: "Axes", data: dict[str, Any], words: Words, cost: str) -> None:
    for alpha, look in zip((1.0, 0.75, 0.5, 0.25), LOOKS, strict=False):
        rows = [row for row in data["points"] if row["alpha"] == alpha]
        x, y = [row[cost] / MILLION for row in rows], [row["top1"] for row in rows]
        axes.plot(x, y, look.marker, color=look.color, linestyle=look.line, markersize=8, markeredgecolor=INK,
                  label=words("accuracy.alpha", alpha=alpha))  # fmt: skip
        for row in rows:
            left = row["resolution"] in (192, 128) if cost == "weights" else alpha == 0.75
            offset = (-8 if left else 8, -3 if cost == "weights" else 5 if left else -12)
            place = (row[cost] / MILLION, row["top1"])
            axes.annotate(f"{row['resolution']}", place, offset, textcoords="offset points",
                          ha="right" if left else "left", fontsize=SMALL)  # fmt: skip
    x, y = ([row[key] for row in data["paper"]] for key in (cost, "top1"))
    style: dict[str, Any] = {"color": QUIET, "markersize": 7, "markeredgewidth": 1.5, "linestyle": "none"}
    axes.plot([value / MILLION for value in x], y, "x", label=words("accuracy.paper"), **style)
    axes.set(ylabel=words("accuracy.top1"), ylim=(38, 74))
    axes.grid()
    axes.legend(loc="lower right")


def draw_v2_accuracy(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    axes = canvas.subplots()
    families = {"MobileNetV1": LOOKS[0], "MobileNetV2": LOOKS[1], "MobileNetV3": LOOKS[2]}
    others = Look(QUIET, "none", "D", "")
    front = data["front"]
    axes.plot([row["macs"] / MILLION for row in front], [row["top1"] for row in front], color=GRID, linewidth=6,
              label=words("v2-accuracy.front"))  # fmt: skip
    for name, rows in data["series"].items():
        family, _, kind = name.partition(", ")
        look, filled = families.get(family, others), kind == "TF-Slim"
        x, y = [row["macs"] / MILLION for row in rows], [row["top1"] for row in rows]
        axes.plot(x, y, look.marker, color=look.color, markersize=7, markerfacecolor=look.color if filled else "none",
                  markeredgecolor=INK if filled else look.color,
                  label=words.of("series", name) if family in families else None)  # fmt: skip
        if family not in families:
            _name_points(axes, rows, words)
    axes.set(xscale="log", xlabel=words("accuracy.macs"), ylabel=words("accuracy.top1"), ylim=(38, 80), xlim=(9, 30000))
    axes.set_xticks([10, 30, 100, 300, 1000, 3000, 10000], ["10", "30", "100", "300", "1,000", "3,000", "10,000"])
    axes.minorticks_off()
    axes.grid()
    axes.legend(loc="lower right")


NAME_PLACES = {  # offset in points and horizontal alignment
    "Conv MobileNet": (8, -3, "left"),
    "Shallow MobileNet": (8, -9, "left"),
    "GoogleNet": (8, -3, "left"),
    "VGG 16": (0, 9, "center"),
    "Squeezenet": (8, -3, "left"),
    "AlexNet": (-8, -12, "center"),
    "ShuffleNet (1.5)": (-4, 40, "center"),
    "ShuffleNet (x2)": (9, -16, "left"),
    "NasNet-A": (10, -2, "left"),
}


def _name_points(axes: "Axes", rows: list[dict[str, Any]], words: Words) -> None:
    line = {"arrowstyle": "-", "color": QUIET, "linewidth": 0.6}
    for row in rows:
        x, y, side = NAME_PLACES[row["model"]]
        axes.annotate(words.of("network", row["model"]), (row["macs"] / MILLION, row["top1"]), (x, y),
                      textcoords="offset points", ha=side, fontsize=SMALL, arrowprops=line)  # fmt: skip


def draw_rivals(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    for axes, cost in zip(canvas.subplots(1, 2), ("macs", "weights"), strict=True):
        rows = sorted(data["points"], key=lambda row: row["macs"])
        for place, row in enumerate(rows):
            look = LOOKS[0] if row["model"] == "MobileNetV1" else LOOKS[1]
            printed = row["printed"][cost]
            value = row[cost] / MILLION
            axes.barh(place, value, color=look.color, hatch=look.hatch, edgecolor=INK, height=0.6)
            verdict = words.of("verdict", printed["verdict"])
            text = words("rivals.value", value=value, printed=printed["printed"], verdict=verdict)
            axes.text(value * 1.15, place, text, va="center", fontsize=SMALL)
        names = [_name(row, words) for row in rows]
        axes.set_yticks(range(len(rows)), names if cost == "macs" else [""] * len(rows))
        highest = max(row[cost] for row in rows) / MILLION
        axes.set(
            xscale="log",
            title=words(f"rivals.{cost}"),
            xlim=(min(row[cost] for row in rows) / MILLION / 3, highest * 400),
        )
        axes.minorticks_off()
        axes.set_xticks([ten for ten in (1, 10, 100, 1000, 10000) if ten < 2 * highest], minor=False)
        axes.set_xticklabels([f"{ten:,}" for ten in (1, 10, 100, 1000, 10000) if ten < 2 * highest])


def _name(row: dict[str, Any], words: Words) -> str:
    name = words.of("network", row["model"])
    if row["model"] == "MobileNetV1":
        name = words("rivals.mobilenet", alpha=row["alpha"], resolution=row["resolution"])
    return words("rivals.name", name=name, top1=row["top1"])


def draw_pair(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    """Two networks in three panels: multiply-adds, weights, accuracy."""
    for axes, what in zip(canvas.subplots(1, 3), ("macs", "weights", "top1"), strict=True):
        scale = 1 if what == "top1" else MILLION
        values = [row[what] / scale for row in data["points"]]
        for place, (value, look) in enumerate(zip(values, LOOKS, strict=False)):
            axes.bar(place, value, color=look.color, hatch=look.hatch, edgecolor=INK, width=0.6)
            text = f"{value:,.1f}" if what != "weights" else f"{value:,.2f}"
            value_above(axes, place, value, text)
            if what != "top1":
                inside = value > 0.4 * max(values)
                y = value / 2 if inside else value + 0.17 * max(values)
                _write_printed(axes, place, y, data["points"][place]["printed"][what], words)
        axes.set_xticks([0, 1], [words.of("pair", _pair_name(row)) for row in data["points"]])
        axes.set(title=words(f"pair.{what}"), ylim=(0, 1.15 * max(values)), xlim=(-0.6, 1.6))


def _write_printed(axes: "Axes", x: float, y: float, printed: dict[str, Any], words: Words) -> None:
    text = words("pair.printed", printed=printed["printed"], verdict=words.of("verdict", printed["verdict"]))
    box = {"facecolor": "white", "edgecolor": "none", "pad": 2}
    axes.text(x, y, text, ha="center", va="center", fontsize=SMALL, bbox=box)


def _pair_name(row: dict[str, Any]) -> str:
    return f"{row['model']} {row['alpha']:g}"
