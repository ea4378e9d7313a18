"""The cost tables of the three MobileNet papers, printed and recounted."""

from dataclasses import dataclass

from npmobilenet.analysis.published import V1, V2, V3, figures
from npmobilenet.analysis.recounts import Recount, recount
from npmobilenet.architectures import mobilenet_v1
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Activation, Conv2D, DepthwiseConv2D, GlobalAveragePooling2D
from npmobilenet.reference.transforms import fold_padding

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


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper with printed and counted values; rows are strings as `header` names them."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def paper_tables() -> tuple[PaperTable, ...]:
    """The cost tables of the three papers: V1's 1 to 10, 12 and 13, V2's 3 to 6, V3's 3 and 6."""
    titles = {
        (V1, "2"): "V1 paper, table 2: shares by kind of layer",
        (V1, "3"): "V1 paper, table 3: one layer, 512 -> 512 channels at 14 x 14",
        (V1, "4"): "V1 paper, table 4: separable against full convolution",
        (V1, "5"): "V1 paper, table 5: narrow against shallow",
        (V1, "6"): "V1 paper, table 6: width multiplier",
        (V1, "7"): "V1 paper, table 7: resolution multiplier",
        (V1, "8"): "V1 paper, table 8: other networks",
        (V1, "9"): "V1 paper, table 9: smaller networks",
        (V1, "10"): "V1 paper, table 10: Stanford Dogs",
        (V1, "12"): "V1 paper, table 12: face attributes",
        (V1, "13"): "V1 paper, table 13: detection",
        (V2, "3"): "V2 paper, table 3: maximum channels and memory at each map size",
        (V2, "4"): "V2 paper, table 4: ImageNet",
        (V2, "5"): "V2 paper, table 5: SSD against SSDLite",
        (V2, "6"): "V2 paper, table 6: detection",
        (V3, "3"): "V3 paper, table 3: ImageNet",
        (V3, "6"): "V3 paper, table 6: detection",
    }
    header = ("model", "alpha", "size", "what", "printed", "counted", "unit", "convention", "verdict")
    tables = [_body_architecture()]
    for (paper, table), title in titles.items():
        chosen = (figure for figure in figures() if (figure.source.split(" (")[0], figure.table) == (paper, table))
        tables.append(PaperTable(title, header, tuple(_row(recount(figure)) for figure in chosen)))
    return tuple(tables)


def _body_architecture() -> PaperTable:
    graph = fold_padding(mobilenet_v1())
    kinds = (Conv2D, DepthwiseConv2D, GlobalAveragePooling2D)
    layers = [layer for layer in graph.layers if isinstance(layer, kinds)] + [graph.layers[-1]]
    rows = []
    for printed, layer in zip(V1_TABLE_1, layers, strict=True):
        counted = _architecture_row(graph, layer)
        rows.append((layer.name, *printed, *counted, "same" if printed == counted else "differs"))
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
    assert isinstance(layer, Conv2D)
    return f"Conv / s{layer.stride}", _times(kernel), size


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
