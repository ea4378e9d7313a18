"""Published figures, each recounted from a graph and compared at its printed digits.

Every figure whose layout is public has a network and a convention of `cost.CONVENTIONS`; the others are quoted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from npmobilenet.analysis import linear_bottlenecks
from npmobilenet.analysis.conventions import CONVENTIONS
from npmobilenet.analysis.cost import cost_table
from npmobilenet.analysis.published import UNITS, V1, Figure
from npmobilenet.analysis.published_networks import HEADS, NETWORKS, convention_of
from npmobilenet.analysis.separable_cost import SeparableCost
from npmobilenet.architectures import mobilenet_v1
from npmobilenet.architectures.ssd import COCO_80, backbone, ssd
from npmobilenet.reference.graph import Graph


@dataclass(frozen=True)
class Recount:
    """A published figure and the count of the same quantity.

    Attributes:
        figure: the published figure.
        counted: the count in units of 1, None without a public layout.
        convention: a key of `cost.CONVENTIONS`, or a name that the tables explain.
        verdict: "rounded" or "truncated" if the count gives the printed digits, "coarse" if it does so with trailing
            zeros after the second digit of an integer as placeholders, "differs", or "quoted".
    """

    figure: Figure
    counted: Fraction | None
    convention: str
    verdict: str

    @property
    def reproduces(self) -> bool:
        """Whether the count gives the printed digits."""
        return self.verdict in ("rounded", "truncated", "coarse")

    @property
    def in_unit(self) -> str:
        """The count in the figure's unit, with two more digits than printed."""
        if self.counted is None:
            return ""
        decimals = len(self.figure.printed.partition(".")[2])
        extra = 0 if self.figure.unit == "count" else 2
        return f"{float(self.counted / UNITS[self.figure.unit]):.{decimals + extra}f}"


def recount(figure: Figure) -> Recount:
    """The figure counted from the network's graph and compared at the printed digits."""
    recounts = [Recount(figure, counted, name, verdict(figure, counted)) for name, counted in _counts(figure)]
    agreeing = [entry for entry in recounts if entry.reproduces]
    return (agreeing or recounts or [Recount(figure, None, "", "quoted")])[0]


def verdict(figure: Figure, counted: Fraction) -> str:
    """Agreement of a count with a printed number, as `Recount.verdict`."""
    if abs(counted - figure.value) <= figure.step / 2:
        return "rounded"
    if 0 <= counted - figure.value < figure.step:
        return "truncated"
    return "coarse" if _is_coarse(figure) and abs(counted - figure.value) <= figure.coarse_step / 2 else "differs"


def _is_coarse(figure: Figure) -> bool:
    """Whether trailing zeros are placeholders: the baselines of V1's tables 8 and 9, and V2's table 3."""
    is_baseline = figure.source == V1 and figure.table in ("8", "9") and not figure.model.startswith("MobileNet")
    return is_baseline or figure.metric == "max_activation_memory"


def _counts(figure: Figure) -> Iterator[tuple[str, Fraction]]:
    """Possible meanings of a figure: (convention, count), the one that its source states or implies first."""
    if figure.metric.startswith("share_"):
        yield _share(figure)
    elif figure.model.startswith("layer:"):
        yield _one_layer(figure)
    elif figure.metric in ("max_channels", "max_activation_memory"):
        yield from _materialised(figure)
    elif figure.model in HEADS:
        lite = HEADS[figure.model]
        convention = convention_of(figure)
        whole = _count(convention, ssd("mobilenet_v2", lite=lite, slots=COCO_80))
        yield convention, whole - _count(convention, backbone("mobilenet_v2", 1.0, 320))
    elif figure.model in NETWORKS and figure.metric != "file_size":
        convention = convention_of(figure)
        yield convention, _count(convention, NETWORKS[figure.model](figure))


def _count(convention: str, graph: Graph) -> Fraction:
    return Fraction(CONVENTIONS[convention].count(graph))


def _share(figure: Figure) -> tuple[str, Fraction]:
    """Percentage of the multiply-adds or weights in one kind of layer (V1 paper, table 2)."""
    kind = {
        "conv1x1": "Conv 1x1",
        "depthwise3x3": "Conv DW 3x3",
        "conv3x3": "Conv 3x3",
        "fully_connected": "Fully connected",
    }[figure.model.partition(":")[2]]
    (share,) = (share for share in cost_table(mobilenet_v1()).shares() if share.kind == kind)
    if figure.metric == "share_mult_adds":
        return "macs", Fraction(share.macs_share)
    return "weights", Fraction(share.weights_share)


def _one_layer(figure: Figure) -> tuple[str, Fraction]:
    """The layer of the V1 paper's table 3: standard, separable, then with alpha 0.75, then also with rho 0.714."""
    rows = {
        "layer:conv3x3 512->512 @14": ("standard", SeparableCost(14, 14, 512, 512)),
        "layer:depthwise separable": ("separable", SeparableCost(14, 14, 512, 512)),
        "layer:+ alpha 0.75": ("separable", SeparableCost(14, 14, 384, 384)),
        "layer:+ rho 0.714": ("separable", SeparableCost(10, 10, 384, 384)),
    }
    kind, layer = rows[figure.model]
    convention = convention_of(figure)
    return convention, Fraction((layer.macs if convention == "macs" else layer.weights)[kind])


def _materialised(figure: Figure) -> Iterator[tuple[str, Fraction]]:
    """Maximum channels, or bytes with 16 bits per value, at one map size or, in the row of maxima, at any."""
    if figure.model not in ("MobileNetV1", "MobileNetV2"):
        return
    graph = NETWORKS[figure.model](figure)
    conventions = {"materialised": linear_bottlenecks.materialized_channels(graph)}
    if figure.model == "MobileNetV2":
        conventions["next_stage"] = linear_bottlenecks.next_stage_channels(graph)
    for name, channels in conventions.items():
        sides = {side: count for side, count in channels.items() if not (figure.source.endswith("B)") and side == 112)}
        if figure.resolution == 224:
            yield name, Fraction(max(2 * side * side * count for side, count in sides.items()))
        elif figure.resolution in sides:
            side, count = figure.resolution, sides[figure.resolution]
            yield name, Fraction(count if figure.metric == "max_channels" else 2 * side * side * count)
