"""One layer from seven loops to all cores: times of a machine, as `npmobilenet ladder --json` prints them."""

import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npmobilenet.errors import NpMobileNetError
from npmobilenet.figures.style import LOOKS, PAPER, QUIET, SMALL, Look
from npmobilenet.figures.words import Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

RECORDED = files("npmobilenet").joinpath("data", "ladder-times.json")
ENTRY = ("number", "name", "gflops", "share_of_peak", "ms")
ROOM = 30.0  # factor by which the axis goes on to the right of the peak
SEPARABLE, STANDARD = LOOKS[2], LOOKS[1]
PERCENT, HUNDRED, GIGA = 100, 100, 1e9


def ladder_data(ladder: str | None = None) -> dict[str, Any]:
    """Speed of every rung, and of the standard convolution next to some of them, in GFLOP/s.

    Args:
        ladder: a file that `npmobilenet ladder --json` has written; None for the times that come with the package.

    Raises:
        NpMobileNetError: the file is no such document.
        OSError: it cannot be read.
    """
    text = RECORDED.read_text(encoding="utf-8") if ladder is None else Path(ladder).read_text(encoding="utf-8")
    try:
        document = json.loads(text)
        rungs = [
            {key: entry[key] for key in ENTRY} | {"sampled": bool(entry["sampled"])} for entry in document["rungs"]
        ]
        standard = [{key: entry[key] for key in ENTRY} for entry in document["next_to"] if entry["name"] == "standard"]
        H, W, C = document["input"]
        return {
            "cpu": document["cpu"],
            "network": document["model"],
            "layer": document["layer"],
            "threads": document["threads"],
            "input": f"{H}×{W}×{C}",
            "macs": document["macs"],
            "standard_macs": document["standard_macs"],
            "fewer": document["standard_macs"] / document["macs"],
            "peak": document["peak_flops"] / GIGA,
            "rungs": rungs,
            "standard": standard,
            "gain": rungs[0]["ms"] / rungs[-1]["ms"],
        }
    except (ValueError, LookupError, TypeError) as error:
        raise NpMobileNetError(
            f"{ladder}: expected the output of npmobilenet ladder --json: {type(error).__name__}: {error}"
        ) from None


def draw_ladder(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    axes = canvas.subplots()
    side = {entry["number"]: entry for entry in data["standard"]}
    axes.axvline(data["peak"], color=QUIET, linestyle="--", linewidth=1, zorder=0)
    for entry in data["rungs"]:
        other = side.get(entry["number"])
        _bar(
            axes, entry, entry["number"] - (0.2 if other else 0), STANDARD if entry["number"] == 0 else SEPARABLE, words
        )
        if other:
            _bar(axes, other, entry["number"] + 0.2, STANDARD, words)
    names = [f"{entry['number']} {words.of('ladder.rung', entry['name'])}" for entry in data["rungs"]]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    lowest = min(entry["gflops"] for entry in data["rungs"])
    axes.set(xscale="log", xlim=(lowest / 2, ROOM * data["peak"]), xlabel=words("ladder.x", peak=data["peak"]))


def _bar(axes: "Axes", entry: dict[str, Any], place: float, look: Look, words: Words) -> None:
    """A bar with its time and share of the peak."""
    axes.barh(place, entry["gflops"], 0.4, color=look.color, hatch=look.hatch, edgecolor=PAPER)
    ms, share = entry["ms"], PERCENT * entry["share_of_peak"]
    text = words(
        "ladder.value",
        ms=f"{ms:,.0f}" if ms >= HUNDRED else f"{ms:.2f}",
        share=f"{share:.0f}" if share >= 1 else f"{share:.2f}",
    )
    mark = " *" if entry.get("sampled") else ""
    box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.5}
    axes.text(entry["gflops"] * 1.1, place, text + mark, va="center", fontsize=SMALL, bbox=box)
