"""What views J and K of the page carry ready-made: accuracies as published, costs as counted, times as measured."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from npmobilenet.analysis.cost import cost_table
from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.errors import NpMobileNetError
from npmobilenet.figures.accuracy_figures import v2_accuracy_data
from npmobilenet.figures.ladder_figure import RECORDED
from npmobilenet.figures.published_points import pareto

SHOWN = ("model", "alpha", "resolution", "top1", "source", "table", "macs", "weights", "counted")
FAMILIES = {"MobileNetV1": "v1", "MobileNetV2": "v2", "MobileNetV3": "v3"}
NETWORKS = (mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small)
LADDER_ENTRIES = ("cpu", "layer", "macs", "next_to", "peak_flops", "rungs", "standard_macs", "threads")


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


def ladder_facts(document: Mapping[str, Any] | None) -> dict[str, Any]:
    """The ladder that view K shows, and whether it is of the reader's machine.

    Args:
        document: of `npmobilenet ladder --json`; None for the run that is recorded in the package.

    Returns:
        {"recorded": whether it is that run, and the entries of the document}.

    Raises:
        NpMobileNetError: an entry is missing.
    """
    ladder = json.loads(RECORDED.read_text(encoding="utf-8")) if document is None else document
    missing = [entry for entry in LADDER_ENTRIES if entry not in ladder]
    if missing:
        raise NpMobileNetError(f"expected the output of npmobilenet ladder --json; it has no {', no '.join(missing)}")
    return {"recorded": document is None} | {entry: ladder[entry] for entry in LADDER_ENTRIES}
