"""How many of the mistakes of `careless_port` are found and named."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from zlib import crc32

import numpy as np

from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_small
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import RAW, SYMMETRIC
from npmobilenet.porting.diagnose import diagnose
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array
from tests.helpers import careless_port, port
from tests.helpers.careless_port import BEFORE, Kind
from tests.helpers.careless_port_after import AFTER
from tests.helpers.networks import random_images, random_params

NETWORKS = {
    "V1": (mobilenet_v1(alpha=0.25, resolution=64, classes=12), SYMMETRIC),
    "V2": (mobilenet_v2(alpha=0.35, resolution=64, classes=12), SYMMETRIC),
    "V3": (mobilenet_v3_small(alpha=0.75, resolution=64, classes=12), RAW),
}
VISIBLE = 1e-4
"""Share of a layer's deviation by which a mistake must change its output to be observable."""


@cache
def network(family: str) -> tuple[Model, Array, dict[str, Array]]:
    """(model, its input, the right outputs of the port)."""
    graph, scaling = NETWORKS[family]
    model = Model(graph, random_params(graph, 7), scaling)
    x = random_images(graph, 3)
    return model, x, port.run(graph, model.params, x)


@dataclass
class Row:
    """Counts of one kind: mistakes made, layers and causes named, other layers called wrong."""

    set: str
    made: int = 0
    layers: int = 0
    causes: int = 0
    others: int = 0


def drawn(name: str, kind: Kind, family: str, repeats: int) -> Iterable[tuple[str, dict[str, Array]]]:
    """(layer, dump) of observable mistakes in layers drawn at random."""
    model, x, right = network(family)
    graph = model.graph
    layers = [layer.name for layer in graph.layers if layer.type != "Input" and kind.where(graph, layer)]
    rng = np.random.default_rng(crc32(f"{name} {family}".encode()))
    found = 0
    for place in rng.permutation(len(layers)):
        layer = layers[place]
        dump = careless_port.run(graph, model.params, x, kind, layer, seed=int(place))
        if found < repeats and is_visible(dump[layer], right[layer]):
            found += 1
            yield layer, dump


def is_visible(wrong: Array, right: Array) -> bool:
    return wrong.shape != right.shape or float(np.abs(wrong - right).max()) > VISIBLE * float(right.std() or 1)


def is_dumped(graph: Graph, name: str) -> bool:
    """Whether a deployment tool dumps the layer: it is not fused with the normalization or activation after it."""
    readers = {other.type for other in graph.layers if name in other.inputs}
    inside = ("Input", "ZeroPadding2D", "Dropout", "Rescaling", "Reshape", "Flatten")
    fused = graph[name].type in ("Conv2D", "DepthwiseConv2D", "Dense", "BatchNormalization")
    return graph[name].type not in inside and not (
        fused and readers & {"BatchNormalization", "Activation", "Rescaling"}
    )


def judged(
    family: str, dump: Mapping[str, Array], layer: str, kind: Kind, **options: Any
) -> tuple[bool, bool, int, str]:
    """(layer named, cause named, other layers called wrong, message).

    For a layer that is not dumped, the next dumped one is to be named.
    """
    model, x, _ = network(family)
    diagnosis = diagnose(model, x, dump, **options)
    first = diagnosis.first
    if first is None:
        return False, False, 0, "no difference found"
    best = first.explanations[0] if first.explanations else None
    message = f"{first.layer}: " + (f"{best.cause}, {best.what}, left {best.left:.2g}" if best else "no explanation")
    named = first.layer == layer if layer in dump else layer in first.covers
    here = layer not in dump or bool(best and layer in best.layers)
    return (
        named,
        bool(named and here and best and best.fits and best.cause in kind.causes),
        len(diagnosis.wrong) - 1,
        message,
    )


def measured(
    repeats: int, families: Iterable[str] = tuple(NETWORKS), every: int = 1, fused: bool = False
) -> tuple[dict[str, Row], list[str]]:
    """Counts by kind, and a message for every miss.

    Args:
        repeats: mistakes of each kind in each network.
        families: the networks.
        every: only every so-many-th kind.
        fused: only fused layers are dumped.
    """
    rows: dict[str, Row] = {}
    misses = []
    for which, kinds in (("before", BEFORE), ("after", AFTER)):
        for name, kind in list(kinds.items())[::every]:
            row = rows[name] = Row(which)
            for family in families:
                for layer, everything in drawn(name, kind, family, repeats):
                    graph = network(family)[0].graph
                    dump = {n: y for n, y in everything.items() if not fused or is_dumped(graph, n)}
                    if fused and all(np.array_equal(y, network(family)[2][n]) for n, y in dump.items()):
                        continue
                    found, named, others, message = judged(family, dump, layer, kind)
                    row.made, row.layers, row.causes = row.made + 1, row.layers + found, row.causes + named
                    row.others += others
                    if not named:
                        misses.append(f"{which} | {name} | {family} {layer} | {message}")
    return rows, misses


def table(rows: Mapping[str, Row]) -> str:
    """Markdown: a line per kind, and the sums of both sets."""
    lines = ["| mistake | made | layer named | cause named | other layers called wrong |", "|---|---|---|---|---|"]
    for which in ("before", "after"):
        of_set = {name: row for name, row in rows.items() if row.set == which}
        lines += [
            f"| {name} | {row.made} | {row.layers} | {row.causes} | {row.others} |" for name, row in of_set.items()
        ]
        sums = [sum(getattr(row, field) for row in of_set.values()) for field in ("made", "layers", "causes", "others")]
        lines.append(
            f"| **{len(of_set)} kinds written {which} the explanations** | " + " | ".join(map(str, sums)) + " |"
        )
    return "\n".join(lines)
