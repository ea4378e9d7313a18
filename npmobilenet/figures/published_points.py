"""Networks of the papers as points: costs counted from the graph, accuracy quoted with its source."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from npmobilenet.analysis.conventions import CONVENTIONS
from npmobilenet.analysis.published import Figure, accuracies, figures
from npmobilenet.analysis.published_networks import NETWORKS
from npmobilenet.analysis.recounts import recount

SLIM_V1 = "tensorflow/models research/slim/nets/mobilenet_v1.md"
SLIM = "tensorflow/models research/slim/nets/mobilenet/README.md"

METRICS = {"mult_adds": "macs", "params": "weights"}  # of the published files: of a point


def points(chosen: Callable[[Figure], bool]) -> list[dict[str, Any]]:
    """One point per published top-1 accuracy that is chosen, in the order of the file.

    Returns:
        {"model", "alpha", "resolution", "top1", "source", "table", "macs", "weights", "counted", "printed"} each.
        `macs` and `weights` (kernels alone, as the papers count) are counted from the graph; where `counted` is False
        there is no public layout, and they are as printed. `printed` has the figures of the same row of the source,
        each with the convention of the source, the count by it, and the verdict of `recounts`.
    """
    return list(_points(chosen))


def pareto(chosen: list[dict[str, Any]], cost: str) -> list[int]:
    """Indices of the points that no other point beats at the same or a lower cost, cheapest first."""
    front: list[int] = []
    for index in sorted(range(len(chosen)), key=lambda index: (chosen[index][cost], -chosen[index]["top1"])):
        if not front or chosen[index]["top1"] > chosen[front[-1]]["top1"]:
            front.append(index)
    return front


def _points(chosen: Callable[[Figure], bool]) -> Iterator[dict[str, Any]]:
    for accuracy in accuracies():
        if accuracy.metric != "top1" or not chosen(accuracy):
            continue
        printed = {METRICS[entry.metric]: _printed(entry) for entry in figures() if _is_same_row(entry, accuracy)}
        counted = _counted(accuracy)
        costs = counted or {name: entry["printed_value"] for name, entry in printed.items()}
        yield {
            "model": accuracy.model,
            "alpha": accuracy.alpha,
            "resolution": accuracy.resolution,
            "top1": float(accuracy.value),
            "source": accuracy.source,
            "table": accuracy.table,
            **costs,
            "counted": counted is not None,
            "printed": printed,
        }


def _is_same_row(cost: Figure, accuracy: Figure) -> bool:
    row = ("source", "table", "model", "alpha", "resolution")
    return cost.metric in METRICS and all(getattr(cost, name) == getattr(accuracy, name) for name in row)


def _counted(figure: Figure) -> dict[str, int] | None:
    """Multiply-adds and weights of the network of a row; None without a public layout."""
    if figure.model not in NETWORKS:
        return None
    macs, weights = _costs(figure.model, figure.alpha, figure.resolution)
    return {"macs": macs, "weights": weights}


@cache
def _costs(model: str, alpha: float | None, resolution: int | None) -> tuple[int, int]:
    graph = NETWORKS[model](Figure("", "", model, alpha, resolution, "mult_adds", "0", "count"))
    return CONVENTIONS["macs"].count(graph), CONVENTIONS["weights"].count(graph)


def _printed(figure: Figure) -> dict[str, Any]:
    entry = recount(figure)
    return {
        "printed": figure.printed,
        "printed_value": float(figure.value),
        "unit": figure.unit,
        "counted": None if entry.counted is None else float(entry.counted),
        "convention": entry.convention,
        "verdict": entry.verdict,
    }
