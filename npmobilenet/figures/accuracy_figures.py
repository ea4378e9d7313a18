"""Accuracy against cost: the networks of the papers, counted, with the accuracies that were published."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from npmobilenet.analysis.published import V1, V2, V3, Figure
from npmobilenet.figures.published_points import SLIM, SLIM_V1, pareto, points

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
