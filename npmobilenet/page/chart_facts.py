"""What views J and K of the page carry ready-made: accuracies as published, costs as counted, times as measured."""

from collections.abc import Iterator, Mapping
from typing import Any

from npmobilenet.analysis.cost import cost_table
from npmobilenet.analysis.separable_cost import SeparableCost
from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.errors import NpMobileNetError
from npmobilenet.figures.accuracy_figures import v2_accuracy_data
from npmobilenet.figures.published_points import pareto

SHOWN = ("model", "alpha", "resolution", "top1", "source", "table", "macs", "weights", "counted")
FAMILIES = {"MobileNetV1": "v1", "MobileNetV2": "v2", "MobileNetV3": "v3"}
NETWORKS = (mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small)
LADDER_ENTRIES = ("cpu", "threads", "peak_flops", "rungs")

ROOF: dict[str, Any] = {
    "cpu": "Intel(R) Xeon(R) Processor @ 2.50GHz",
    "threads": 1,
    "peak_flops": 148.8e9,
    "bytes_per_second": 10.4e9,
}
"""Rates of docs/bench.md: FMA peak, and reading 15 MB (all weights and activations of V2) over and over."""

TIMES = {  # milliseconds: depthwise + pointwise, standard convolution, whether a part was timed and multiplied
    "python": (6246.0, 47611.0, True),
    "compiled": (8.2, 105.0, False),
    "numpy": (2.55, 34.0, False),
    "engine": (1.84, 36.0, False),
}
"""Times of V1's layer 14 x 14 x 512, K 3, by program: one thread of a shared machine with two cores."""
PEAK_OF_TIMES = 110e9
"""FMA peak of that thread, FLOP/s, measured in the same rounds."""


def accuracy_facts() -> dict[str, Any]:
    """Points of view J, of the same data as the figure `v2-accuracy`.

    Returns:
        {"points": one per published accuracy: `SHOWN`, "family" ("v1", "v2", "v3", "other") and "checkpoint" (TF-Slim's
        file, not a paper's table), "fronts": {"macs", "weights"}: indices of the counted points that none beats}.
    """
    points = list(_points(v2_accuracy_data()["series"]))
    counted = [index for index, point in enumerate(points) if point["counted"]]
    rows = [points[index] for index in counted]
    fronts = {cost: [counted[place] for place in pareto(rows, cost)] for cost in ("macs", "weights")}
    return {"points": points, "fronts": fronts}


def _points(series: Mapping[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for name, rows in series.items():
        family, _, kind = name.partition(", ")
        for row in rows:
            shown = {key: row[key] for key in SHOWN}
            yield shown | {"family": FAMILIES.get(family, "other"), "checkpoint": kind == "TF-Slim"}


def roofline_facts() -> list[dict[str, Any]]:
    """Layers with a kernel of four networks, float32.

    Returns:
        {"name", "layers": [[name, kind, multiply-adds, bytes]], "shares": [[kind, percent of the multiply-adds, percent
        of the weights]]} each; bytes are inputs, weights and outputs, each read or written once.
    """
    tables = [cost_table(build()) for build in NETWORKS]
    return [
        {
            "name": table.model,
            "layers": [
                [row.name, row.kind, row.macs, row.bytes_read + row.bytes_written] for row in table.rows if row.macs
            ],
            "shares": [[share.kind, share.macs_share, share.weights_share] for share in table.shares()],
        }
        for table in tables
    ]


def measured_times() -> dict[str, Any]:
    """`TIMES` with the multiply-adds that they took: {"peak_flops", "macs": {"standard", "separable", ...}, "rows":
    [{"name", "separable", "standard", "sampled"}]}."""
    rows = [
        {"name": name, "separable": separable, "standard": standard, "sampled": sampled}
        for name, (separable, standard, sampled) in TIMES.items()
    ]
    return {"peak_flops": PEAK_OF_TIMES, "macs": SeparableCost(14, 14, 512, 512).macs, "rows": rows}


def checked_ladder(document: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The document of `npmobilenet ladder --json`, if it has what view K shows.

    Raises:
        NpMobileNetError: an entry is missing.
    """
    missing = [] if document is None else [entry for entry in LADDER_ENTRIES if entry not in document]
    if missing:
        raise NpMobileNetError(f"expected the output of npmobilenet ladder --json; it has no {', no '.join(missing)}")
    return document
