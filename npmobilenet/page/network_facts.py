"""What view I of the page carries ready-made: the layers of all published networks, and the papers' figures."""

from typing import Any

from npmobilenet.analysis.cost import cost_table
from npmobilenet.analysis.published import Figure, figures
from npmobilenet.analysis.recounts import recount
from npmobilenet.hub.load import DIGITS, load
from npmobilenet.hub.published_models import KNOWN_MODELS, KnownModel
from npmobilenet.reference.graph import Graph

Shared = dict[str, list[Any]]
PAPERS = {"mobilenet_v1": "arXiv:1704.04861v1", "mobilenet_v2": "arXiv:1801.04381"}
V3 = "arXiv:1905.02244"
MODELS = {
    "mobilenet_v1": "MobileNetV1",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_large": "MobileNetV3-Large",
    "mobilenet_v3_small": "MobileNetV3-Small",
}
"""Names of the networks in the published figures."""
SHARES = {
    "MobileNetV1:conv1x1": "Conv 1x1",
    "MobileNetV1:depthwise3x3": "Conv DW 3x3",
    "MobileNetV1:conv3x3": "Conv 3x3",
    "MobileNetV1:fully_connected": "Fully connected",
}
"""Rows of the V1 paper's table 2, and the kinds of layers that they are about."""
METRICS = {"mult_adds": "macs", "params": "weights", "share_mult_adds": "macs", "share_params": "weights"}


def network_facts() -> dict[str, Any]:
    """Layers with a kernel of the 44 published networks and of digits, float32.

    Returns:
        "kinds": kinds of layers.
        "layers": what networks of one family share: {"names", "kinds" (indices)}.
        "bodies": what networks share that differ in their resolution alone: {"layers" (index), "weights", "channels"}.
        "networks": {"name", "family", "alpha", "resolution", "body" (index), "macs", "bytes" (inputs, parameters and
            output, each once), "sides" (H_out)} each.
        "figures": what the papers print: {"network", "kind" or null for the whole, "unit", "printed", "counted",
            "verdict", "source"} each.
    """
    shared: Shared = {"kinds": [], "layers": [], "bodies": []}
    networks = [_network(model.graph(), model.name, shared) | _setting(model) for model in KNOWN_MODELS]
    setting = {"family": "digits", "alpha": 0.25, "resolution": 32}
    networks.append(_network(load(DIGITS).graph, DIGITS, shared) | setting)
    return {**shared, "networks": networks, "figures": _figures()}


def _setting(model: KnownModel) -> dict[str, Any]:
    family = f"{model.arch}_minimalistic" if model.minimalistic else model.arch
    return {"family": family, "alpha": model.alpha, "resolution": model.resolution}


def _network(graph: Graph, name: str, shared: Shared) -> dict[str, Any]:
    rows = [row for row in cost_table(graph).rows if row.weights]
    layers = {"names": [row.name for row in rows], "kinds": [_index(row.kind, shared["kinds"]) for row in rows]}
    body = {
        "layers": _index(layers, shared["layers"]),
        "weights": [row.weights for row in rows],
        "channels": [row.output_shape[-1] for row in rows],
    }
    return {
        "name": name,
        "body": _index(body, shared["bodies"]),
        "macs": [row.macs for row in rows],
        "bytes": [row.bytes_read + row.bytes_written for row in rows],
        "sides": [row.output_shape[0] if len(row.output_shape) == 3 else 1 for row in rows],
    }


def _index(value: Any, values: list[Any]) -> int:
    """Index of a value in a list, which gets it if it has it not."""
    if value not in values:
        values.append(value)
    return values.index(value)


def _figures() -> list[dict[str, Any]]:
    """Figures of each network's own paper, each network, kind and unit once."""
    found: dict[tuple[str, str | None, str], dict[str, Any]] = {}
    for model in (model for model in KNOWN_MODELS if not model.minimalistic):
        for figure in figures():
            if _is_of(figure, model):
                kind, unit = SHARES.get(figure.model), METRICS[figure.metric]
                found.setdefault((model.name, kind, unit), _as_json(figure, model.name, kind, unit))
    return list(found.values())


def _is_of(figure: Figure, model: KnownModel) -> bool:
    return (
        figure.source == PAPERS.get(model.arch, V3)
        and (figure.model == MODELS[model.arch] or (figure.model in SHARES and model.arch == "mobilenet_v1"))
        and figure.metric in METRICS
        and (figure.alpha, figure.resolution) == (model.alpha, model.resolution)
    )


def _as_json(figure: Figure, network: str, kind: str | None, unit: str) -> dict[str, Any]:
    counted = recount(figure)
    return {
        "network": network,
        "kind": kind,
        "unit": unit,
        "printed": figure.printed,
        "counted": counted.in_unit,
        "verdict": counted.verdict,
        "source": f"{figure.source}, table {figure.table}",
    }
