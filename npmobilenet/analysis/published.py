"""Published costs of the MobileNet family, each recounted from a graph and compared at its printed digits.

The figures are facts, kept in `data/published-costs.csv` with their source; nothing here is computed from them. Every
figure whose layout is public has a network and a convention of `cost.CONVENTIONS`; the others are quoted.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib.resources import files

from npmobilenet.analysis import linear_bottlenecks
from npmobilenet.analysis.conventions import CONVENTIONS
from npmobilenet.analysis.cost import cost_table
from npmobilenet.analysis.separable_cost import SeparableCost
from npmobilenet.architectures import baselines, mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.architectures.ssd import COCO_80, COCO_90, backbone, ssd
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Activation, Conv2D, DepthwiseConv2D, GlobalAveragePooling2D
from npmobilenet.reference.transforms import fold_padding, with_filters

V1, V2, V3 = "arXiv:1704.04861v1", "arXiv:1801.04381", "arXiv:1905.02244"

UNITS = {
    "count": Fraction(1),
    "kilobyte": Fraction(10**3),
    "million": Fraction(10**6),
    "billion": Fraction(10**9),
    "percent": Fraction(1),
    "MB": Fraction(2**20),  # Keras's table: bytes / 2**20
}


@dataclass(frozen=True)
class Figure:
    """One published number, as printed.

    Attributes:
        source, table: where it stands.
        model: the network, as the source calls it.
        alpha, resolution: None where the source gives none.
        metric: "mult_adds", "params", "share_params", "max_channels", ...
        printed: the digits.
        unit: what they count, a key of `UNITS`.
    """

    source: str
    table: str
    model: str
    alpha: float | None
    resolution: int | None
    metric: str
    printed: str
    unit: str

    @property
    def value(self) -> Fraction:
        """The printed number, in ones."""
        return Fraction(self.printed) * UNITS[self.unit]

    @property
    def step(self) -> Fraction:
        """The worth of one unit of its last printed digit."""
        decimals = len(self.printed.partition(".")[2])
        return UNITS[self.unit] / Fraction(10**decimals)

    @property
    def coarse_step(self) -> Fraction:
        """The same if zeros behind the second digit of a whole number only hold a place, as in 15300 million."""
        zeros = 0 if "." in self.printed else len(self.printed) - len(self.printed.rstrip("0"))
        return self.step * Fraction(10 ** max(0, min(zeros, len(self.printed) - 2)))


@dataclass(frozen=True)
class Recount:
    """A figure beside our count of the same thing.

    Attributes:
        figure: what is published.
        counted: our count in ones, or None where there is no layout to count.
        convention: what was counted, a key of `cost.CONVENTIONS` or a name that the tables explain.
        verdict: "rounded" or "truncated" where the count gives the printed digits, "coarse" where it does once the
            zeros behind the second digit of a whole number are no digits, "differs", or "quoted".
    """

    figure: Figure
    counted: Fraction | None
    convention: str
    verdict: str

    @property
    def reproduces(self) -> bool:
        """Whether our count gives what is printed."""
        return self.verdict in ("rounded", "truncated", "coarse")

    @property
    def in_unit(self) -> str:
        """Our count in the figure's unit, with two digits more than are printed."""
        if self.counted is None:
            return ""
        decimals = len(self.figure.printed.partition(".")[2])
        extra = 0 if self.figure.unit == "count" else 2
        return f"{float(self.counted / UNITS[self.figure.unit]):.{decimals + extra}f}"


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper, ours beside the printed; rows are strings as `header` names them."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@cache
def figures() -> tuple[Figure, ...]:
    """All published costs, in the order of the file."""
    text = files("npmobilenet").joinpath("data/published-costs.csv").read_text(encoding="utf-8")
    return tuple(
        Figure(
            source=row["source"],
            table=row["table"],
            model=row["model"],
            alpha=float(row["alpha"]) if row["alpha"] else None,
            resolution=int(row["resolution"]) if row["resolution"] else None,
            metric=row["metric"],
            printed=row["printed"],
            unit=row["unit"],
        )
        for row in csv.DictReader(text.splitlines())
    )


def recount(figure: Figure) -> Recount:
    """Count what a figure says from the network's graph and compare at the printed digits."""
    counts = list(_counts(figure))
    recounts = [Recount(figure, counted, name, verdict(figure, counted)) for name, counted in counts]
    agreeing = [entry for entry in recounts if entry.reproduces]
    return (agreeing or recounts or [Recount(figure, None, "", "quoted")])[0]


def verdict(figure: Figure, counted: Fraction) -> str:
    """How a count and a printed number agree: see `Recount.verdict`."""
    if abs(counted - figure.value) <= figure.step / 2:
        return "rounded"
    if 0 <= counted - figure.value < figure.step:
        return "truncated"
    return "coarse" if _is_coarse(figure) and abs(counted - figure.value) <= figure.coarse_step / 2 else "differs"


def paper_tables() -> tuple[PaperTable, ...]:
    """The cost tables of the three papers: V1's 1 to 10, 12 and 13, V2's 3 to 6, V3's 3 and 6."""
    titles = {
        (V1, "2"): "V1 paper, table 2: shares by kind of layer",
        (V1, "3"): "V1 paper, table 3: one layer, 512 -> 512 channels at 14 x 14",
        (V1, "4"): "V1 paper, table 4: separable against full convolution",
        (V1, "5"): "V1 paper, table 5: narrow against shallow",
        (V1, "6"): "V1 paper, table 6: width multiplier",
        (V1, "7"): "V1 paper, table 7: resolution multiplier",
        (V1, "8"): "V1 paper, table 8: rivals",
        (V1, "9"): "V1 paper, table 9: smaller rivals",
        (V1, "10"): "V1 paper, table 10: Stanford Dogs",
        (V1, "12"): "V1 paper, table 12: face attributes",
        (V1, "13"): "V1 paper, table 13: detection",
        (V2, "3"): "V2 paper, table 3: most channels and memory at each size of map",
        (V2, "4"): "V2 paper, table 4: ImageNet",
        (V2, "5"): "V2 paper, table 5: SSD against SSDLite",
        (V2, "6"): "V2 paper, table 6: detection",
        (V3, "3"): "V3 paper, table 3: ImageNet",
        (V3, "6"): "V3 paper, table 6: detection",
    }
    header = ("model", "alpha", "size", "what", "printed", "ours", "unit", "convention", "verdict")
    tables = [_body_architecture()]
    for (paper, table), title in titles.items():
        chosen = (figure for figure in figures() if (figure.source.split(" (")[0], figure.table) == (paper, table))
        tables.append(PaperTable(title, header, tuple(_row(recount(figure)) for figure in chosen)))
    return tuple(tables)


V1_TABLE_1 = (
    # type / stride, filter shape, input size, as printed; the five 14 x 14 blocks are one printed pair
    ("Conv / s2", "3x3x3x32", "224x224x3"),
    ("Conv dw / s1", "3x3x32", "112x112x32"),
    ("Conv / s1", "1x1x32x64", "112x112x32"),
    ("Conv dw / s2", "3x3x64", "112x112x64"),
    ("Conv / s1", "1x1x64x128", "56x56x64"),
    ("Conv dw / s1", "3x3x128", "56x56x128"),
    ("Conv / s1", "1x1x128x128", "56x56x128"),
    ("Conv dw / s2", "3x3x128", "56x56x128"),
    ("Conv / s1", "1x1x128x256", "28x28x128"),
    ("Conv dw / s1", "3x3x256", "28x28x256"),
    ("Conv / s1", "1x1x256x256", "28x28x256"),
    ("Conv dw / s2", "3x3x256", "28x28x256"),
    ("Conv / s1", "1x1x256x512", "14x14x256"),
    *(("Conv dw / s1", "3x3x512", "14x14x512"), ("Conv / s1", "1x1x512x512", "14x14x512")) * 5,
    ("Conv dw / s2", "3x3x512", "14x14x512"),
    ("Conv / s1", "1x1x512x1024", "7x7x512"),
    ("Conv dw / s2", "3x3x1024", "7x7x1024"),
    ("Conv / s1", "1x1x1024x1024", "7x7x1024"),
    ("Avg Pool / s1", "7x7", "7x7x1024"),
    ("FC / s1", "1024x1000", "1x1x1024"),
    ("Softmax / s1", "Classifier", "1x1x1000"),
)


def _body_architecture() -> PaperTable:
    graph = fold_padding(mobilenet_v1())
    kinds = (Conv2D, DepthwiseConv2D, GlobalAveragePooling2D)
    layers = [layer for layer in graph.layers if isinstance(layer, kinds)] + [graph.layers[-1]]
    rows = []
    for printed, layer in zip(V1_TABLE_1, layers, strict=True):
        ours = _architecture_row(graph, layer)
        rows.append((layer.name, *printed, *ours, "same" if printed == ours else "differs"))
    columns = ("type / stride", "filter shape", "input size")
    header = ("layer", *(f"{column}, printed" for column in columns), *columns, "verdict")
    return PaperTable("V1 paper, table 1: body architecture", header, tuple(rows))


def _architecture_row(graph: Graph, layer: Layer) -> tuple[str, str, str]:
    x = graph.input_shapes(layer)[0]
    size = _times(x if len(x) == 3 else (1, 1, *x))
    if isinstance(layer, GlobalAveragePooling2D):
        return "Avg Pool / s1", _times(x[:2]), size
    if isinstance(layer, Activation):
        return "Softmax / s1", "Classifier", size
    kernel = graph.param_shapes_of(layer)["kernel"]
    if layer.kind(x) == "Fully connected":
        return "FC / s1", _times(kernel[2:]), size
    if isinstance(layer, DepthwiseConv2D):
        return f"Conv dw / s{layer.stride}", _times(kernel[:3]), size
    return f"Conv / s{layer.stride}", _times(kernel), size  # type: ignore[attr-defined]


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _row(entry: Recount) -> tuple[str, ...]:
    figure = entry.figure
    alpha = "" if figure.alpha is None else f"{figure.alpha:g}"
    size = "" if figure.resolution is None else str(figure.resolution)
    what = figure.metric.replace("_", " ")
    return (
        figure.model, alpha, size, what, figure.printed, entry.in_unit, figure.unit, entry.convention, entry.verdict
    )  # fmt: skip


def _counts(figure: Figure) -> Iterator[tuple[str, Fraction]]:
    """What the figure can mean: (convention, count), the one that its source states or implies first."""
    if figure.metric.startswith("share_"):
        yield _share(figure)
    elif figure.model.startswith("layer:"):
        yield _one_layer(figure)
    elif figure.metric in ("max_channels", "max_activation_memory"):
        yield from _materialised(figure)
    elif figure.model in HEADS:
        lite = HEADS[figure.model]
        convention = _convention(figure)
        whole = _count(convention, ssd("mobilenet_v2", lite=lite, slots=COCO_80))
        yield convention, whole - _count(convention, backbone("mobilenet_v2", 1.0, 320))
    elif figure.model in NETWORKS and figure.metric != "file_size":
        convention = _convention(figure)
        yield convention, _count(convention, NETWORKS[figure.model](figure))


def _count(convention: str, graph: Graph) -> Fraction:
    return Fraction(CONVENTIONS[convention].count(graph))


def _share(figure: Figure) -> tuple[str, Fraction]:
    """Per cent of the multiply-adds or weights that one kind of layer has (V1 paper, table 2)."""
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
    """The inner layer of the V1 paper's table 3: standard, separable, then alpha 0.75, then rho 0.714 on top."""
    rows = {
        "layer:conv3x3 512->512 @14": ("standard", SeparableCost(14, 14, 512, 512)),
        "layer:depthwise separable": ("separable", SeparableCost(14, 14, 512, 512)),
        "layer:+ alpha 0.75": ("separable", SeparableCost(14, 14, 384, 384)),
        "layer:+ rho 0.714": ("separable", SeparableCost(10, 10, 384, 384)),
    }
    kind, layer = rows[figure.model]
    convention = _convention(figure)
    return convention, Fraction((layer.macs if convention == "macs" else layer.weights)[kind])


def _materialised(figure: Figure) -> Iterator[tuple[str, Fraction]]:
    """Most channels, or bytes of 16 bits a value, at one size of map or, in the row of maxima, at any."""
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


def _is_coarse(figure: Figure) -> bool:
    """Whether zeros at its end hold a place: the rivals of V1's tables 8 and 9, and V2's table 3."""
    rival = figure.source == V1 and figure.table in ("8", "9") and not figure.model.startswith("MobileNet")
    return rival or figure.metric == "max_activation_memory"


def _classes(figure: Figure) -> int:
    """Table 10 has 120 classes, but its multiply-adds keep the 1000-class layer."""
    return 120 if figure.metric == "params" else 1000


def _v1(figure: Figure) -> Graph:
    return mobilenet_v1(_alpha(figure), _resolution(figure))


def _v2(figure: Figure) -> Graph:
    return mobilenet_v2(_alpha(figure), _resolution(figure))


def _large(figure: Figure) -> Graph:
    return mobilenet_v3_large(_alpha(figure), _resolution(figure))


def _small(figure: Figure) -> Graph:
    return mobilenet_v3_small(_alpha(figure), _resolution(figure))


def _small_1280(figure: Figure) -> Graph:
    """V3-Small with the head of the paper's table 2; all released code and weights have 1024."""
    return with_filters(_small(figure), {"conv_2": 1280})


def _large_minimal(figure: Figure) -> Graph:
    return mobilenet_v3_large(_alpha(figure), _resolution(figure), minimalistic=True)


def _small_minimal(figure: Figure) -> Graph:
    return mobilenet_v3_small(_alpha(figure), _resolution(figure), minimalistic=True)


def _lite(arch: str, *, reduced_tail: bool = False) -> Callable[[Figure], Graph]:
    """SSDLite; V1 and V2 at full width come from the V2 paper, with 80 classes, all others have 90."""

    def build(figure: Figure) -> Graph:
        older = arch in ("mobilenet_v1", "mobilenet_v2") and figure.alpha == 1.0
        return ssd(arch, _alpha(figure), reduced_tail=reduced_tail, slots=COCO_80 if older else COCO_90)

    return build


def _alpha(figure: Figure) -> float:
    return 1.0 if figure.alpha is None else figure.alpha


def _resolution(figure: Figure) -> int:
    """The image's side; table 3 of V2 gives the map's, and parameters do not depend on it."""
    by_map = figure.metric in ("max_channels", "max_activation_memory")
    return 224 if by_map or figure.resolution is None else figure.resolution


HEADS = {
    "SSD head + extras on MobileNetV2 (80 classes)": False,
    "SSDLite head + extras on MobileNetV2 (80 classes)": True,
}

NETWORKS: dict[str, Callable[[Figure], Graph]] = {
    "MobileNetV1": _v1,
    "MobileNet": _v1,
    "mobilenetv1_100": _v1,
    "Conv MobileNet": lambda figure: mobilenet_v1(full_convolution=True),
    "Shallow MobileNet": lambda figure: mobilenet_v1(shallow=True),
    "MobileNetV1 Stanford Dogs (120 classes)": lambda figure: mobilenet_v1(
        _alpha(figure), _resolution(figure), classes=_classes(figure)
    ),
    "MobileNetV1 face attributes (no 1000-class FC)": lambda figure: mobilenet_v1(
        _alpha(figure), _resolution(figure), include_top=False
    ),
    "MobileNetV2": _v2,
    "MobileNetV2 range": _v2,
    "mobilenet_v2": _v2,
    "mobilenetv2_100": _v2,
    "MobileNetV3-Large": _large,
    "MobileNetV3Large": _large,
    "mobilenet_v3_large": _large,
    "mobilenetv3_large_100": _large,
    "tf_mobilenetv3_large_075": _large,
    "MobileNetV3-Small": _small_1280,
    "MobileNetV3Small": _small,
    "mobilenet_v3_small": _small,
    "mobilenetv3_small_100": _small,
    "tf_mobilenetv3_small_075": _small,
    "MobileNetV3-Large minimalistic": _large_minimal,
    "tf_mobilenetv3_large_minimal_100": _large_minimal,
    "MobileNetV3-Small minimalistic": _small_minimal,
    "tf_mobilenetv3_small_minimal_100": _small_minimal,
    "VGG 16": lambda figure: baselines.vgg16(),
    "GoogleNet": lambda figure: baselines.googlenet(),
    "AlexNet": lambda figure: baselines.alexnet(),
    "Squeezenet": lambda figure: baselines.squeezenet(),
    "SSD300 MobileNetV1": lambda figure: ssd("mobilenet_v1", resolution=300, lite=False, predictor_kernel=1),
    "MobileNetV1 SSDLite": _lite("mobilenet_v1"),
    "MobileNetV2 SSDLite": _lite("mobilenet_v2"),
    "MobileNetV3-Large SSDLite": _lite("mobilenet_v3_large"),
    "MobileNetV3-Large SSDLite reduced tail": _lite("mobilenet_v3_large", reduced_tail=True),
    "MobileNetV3-Small SSDLite": _lite("mobilenet_v3_small"),
    "MobileNetV3-Small SSDLite reduced tail": _lite("mobilenet_v3_small", reduced_tail=True),
    "ssdlite320_mobilenet_v3_large COCO_V1": lambda figure: ssd(
        "mobilenet_v3_large", reduced_tail=True, first_anchors=6
    ),
}  # fmt: skip


def _convention(figure: Figure) -> str:
    """What the figure's source counts; `docs/cost.md` gives the evidence."""
    fixed = {
        "params_trainable": "trainable",
        "params_non_trainable": "non_trainable",
        "flops": "flops",
        "activations": "activations",
        "depth": "keras_depth",
        "size": "keras_bytes",
    }
    if figure.metric in fixed:
        return fixed[figure.metric]
    return _params_convention(figure) if figure.metric == "params" else _macs_convention(figure)


def _macs_convention(figure: Figure) -> str:
    for source, convention in (
        ("huggingface", "timm"),
        ("Lyken17/pytorch-OpCounter README", "thop"),
        ("Lyken17/pytorch-OpCounter issue", "timm"),
        ("sovrasov", "ptflops"),
    ):
        if figure.source.startswith(source):
            return convention
    if figure.model == "Conv MobileNet" or figure.model == "AlexNet":
        return "macs_no_classifier"
    if figure.model == "VGG 16":
        return "macs_convolutions"
    if figure.model == "Squeezenet":
        return "flops"
    if figure.source.endswith("mobilenet_v1.md") and figure.alpha == 0.75:
        return "macs_no_stem"
    return "macs"


def _params_convention(figure: Figure) -> str:
    if figure.source.startswith(("keras.io", "older keras-docs", "Keras model.summary")):
        return "keras_total"
    if figure.source.startswith(("pytorch/vision", "huggingface")):
        return "trainable"
    if figure.source.endswith("mobilenet_v1.md"):
        return "slim_v1"
    if figure.model == "Squeezenet":
        return "weights_bias"
    if (figure.source, figure.table) == (V3, "6") or figure.source.endswith(".config"):
        return "weights_bias"
    trained = figure.model.startswith(("SSD", "MobileNetV3-Small")) or figure.model.endswith("SSDLite")
    return "trainable" if trained or figure.model == "Conv MobileNet" else "weights"
