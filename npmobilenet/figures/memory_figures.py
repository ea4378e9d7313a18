"""Memory of feature maps: along a network, by policy, and by map size as in the V2 paper."""

from typing import Any

from npmobilenet.analysis.linear_bottlenecks import materialized_channels, next_stage_channels
from npmobilenet.analysis.memory_plan import memory_table
from npmobilenet.analysis.published import V2, figures
from npmobilenet.analysis.recounts import recount
from npmobilenet.architectures import ARCHITECTURES, mobilenet_v1, mobilenet_v2
from npmobilenet.reference.graph import Graph

V2_ITEMSIZE = 2  # bytes per value in the V2 paper's table 3


def memory_data(arch: str = "mobilenet_v2", itemsize: int = 4) -> dict[str, Any]:
    """Bytes in use at every step of a network, under every policy of `memory_plan`."""
    graph = ARCHITECTURES[arch]()
    position = {layer.name: index for index, layer in enumerate(graph.layers)}
    plans = [
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
