"""Memory of feature maps: along a network, by policy, and by map size as in the V2 paper."""

from typing import TYPE_CHECKING, Any

from npmobilenet.analysis.linear_bottlenecks import materialized_channels, next_stage_channels
from npmobilenet.analysis.memory_plan import memory_table
from npmobilenet.analysis.published import V2, figures
from npmobilenet.analysis.recounts import recount
from npmobilenet.architectures import ARCHITECTURES, mobilenet_v1, mobilenet_v2
from npmobilenet.figures.style import INK, LIGHT, LOOKS, QUIET, SMALL
from npmobilenet.figures.words import Words
from npmobilenet.reference.graph import Graph

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

V2_ITEMSIZE = 2  # bytes per value in the V2 paper's table 3


def memory_data(arch: str = "mobilenet_v2", itemsize: int = 4) -> dict[str, Any]:
    """Bytes in use at every step of a network, under every policy of `memory_plan`."""
    graph = ARCHITECTURES[arch]()
    position = {layer.name: index for index, layer in enumerate(graph.layers)}
    plans: list[dict[str, Any]] = [
        {
            "policy": plan.policy,
            "live_bytes": list(plan.live_bytes),
            "layers": [position[step.layer.name] for step in plan.steps],
            "peak_bytes": plan.peak_bytes,
            "peak_step": plan.live_bytes.index(plan.peak_bytes),
            "arena_bytes": plan.arena_bytes,
            "macs": plan.macs,
        }
        for plan in memory_table(graph, itemsize=itemsize)
    ]
    peaks = {f"peak_{plan['policy']}": plan["peak_bytes"] for plan in plans}
    return {
        "model": graph.name,
        "itemsize": itemsize,
        "layer_count": len(graph.layers),
        "macs": graph.macs,
        "policies": plans,
        **peaks,
        "saving": peaks["peak_keep"] / peaks["peak_split"],
    }


def draw_memory(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    for axes, entry in zip(canvas.subplots(2, 3).ravel(), data["policies"], strict=True):
        live = [used / 1024 for used in entry["live_bytes"]]
        axes.stairs(live, fill=True, color=LIGHT)
        axes.stairs(live, color=INK, linewidth=0.7)
        axes.axhline(entry["peak_bytes"] / 1024, color=QUIET, linestyle="--", linewidth=1)
        peak = entry["peak_bytes"] / 1024
        axes.set_title(words(f"memory.{entry['policy']}"), fontsize=SMALL)
        axes.text(0.98 * len(live), 1.04 * peak, f"{peak:,.0f} KiB", ha="right", va="bottom", fontsize=SMALL)
        axes.set(ylim=(0, 1.22 * peak), xlim=(0, len(live)), xlabel=words("memory.x"), ylabel="KiB")


def v2_memory_data() -> dict[str, Any]:
    """Channels and kilobytes of whole feature maps by map size, V1 and V2, as printed and as counted (V2, table 3)."""
    graphs = {"MobileNetV1": mobilenet_v1(), "MobileNetV2": mobilenet_v2()}
    rows = [_size(graphs, side) for side in (112, 56, 28, 14, 7, 1)]
    verdicts = [row[model]["verdict_bytes"] for row in rows for model in graphs]
    return {
        "rows": rows,
        "itemsize": V2_ITEMSIZE,
        "figures": len(verdicts),
        "differs": verdicts.count("differs"),
        **{f"largest_{number}": max(row[model]["bytes"] for row in rows) for number, model in enumerate(graphs, 1)},
    }


def _size(graphs: dict[str, Graph], side: int) -> dict[str, Any]:
    row: dict[str, Any] = {"side": side}
    for model, graph in graphs.items():
        channels = materialized_channels(graph).get(side)
        following = next_stage_channels(graph).get(side)
        printed = {
            entry.metric: recount(entry)
            for entry in figures()
            if entry.source == f"{V2} (text A)" and entry.model == model and entry.resolution == side
        }
        memory = printed["max_activation_memory"]
        row[model] = {
            "channels": channels,
            "next_stage_channels": following,
            "bytes": None if channels is None else V2_ITEMSIZE * side * side * channels,
            "printed_channels": int(printed["max_channels"].figure.value),
            "printed_bytes": int(memory.figure.value),
            "verdict_channels": printed["max_channels"].verdict,
            "verdict_bytes": memory.verdict,
        }
    return row


def draw_v2_memory(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    channels, memory = canvas.subplots(1, 2)
    places = range(len(data["rows"]))
    for shift, (model, look) in zip((-0.2, 0.2), (("MobileNetV1", LOOKS[1]), ("MobileNetV2", LOOKS[0])), strict=True):
        for place, row in enumerate(data["rows"]):
            entry, name = row[model], model if place == 0 else None
            style = {"color": look.color, "hatch": look.hatch, "edgecolor": INK, "height": 0.38, "label": name}
            channels.barh(place + shift, entry["channels"], **style)
            memory.barh(place + shift, entry["bytes"] / 1000, **style)
            printed = words("v2-memory.channels", counted=entry["channels"], printed=entry["printed_channels"])
            channels.text(entry["channels"] * 1.1, place + shift, printed, va="center", fontsize=SMALL)
            verdict = words.of("verdict", entry["verdict_bytes"])
            kilobytes = (entry["bytes"] / 1000, entry["printed_bytes"] / 1000)
            text = words("v2-memory.bytes", counted=kilobytes[0], printed=kilobytes[1], verdict=verdict)
            memory.text(entry["bytes"] / 1000 * 1.2, place + shift, text, va="center", fontsize=SMALL)
    for axes in (channels, memory):
        axes.set_yticks(places, [f"{row['side']}×{row['side']}" for row in data["rows"]])
        axes.set(xscale="log", ylim=(len(data["rows"]) - 0.4, -0.9))
        axes.minorticks_off()
    channels.set(title=words("v2-memory.channels_title"), xlim=(8, 3e4))
    channels.set_xticks([10, 100, 1000], ["10", "100", "1,000"])
    memory.set(title=words("v2-memory.bytes_title"), xlim=(1, 1e6))
    memory.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
    memory.legend(loc="lower right")
