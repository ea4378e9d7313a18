"""Whole networks: their maps, and where the work is, layer by layer or part by part."""

from typing import TYPE_CHECKING, Any

from npmobilenet.analysis.conventions import CONVENTIONS, conventions_table
from npmobilenet.analysis.cost import cost_table
from npmobilenet.analysis.published import V1, V2, figures
from npmobilenet.analysis.recounts import Recount, recount
from npmobilenet.architectures import ARCHITECTURES, mobilenet_v1
from npmobilenet.architectures.ssd import COCO_80, ssd
from npmobilenet.figures.shapes_in_perspective import blank_axes, cuboid, label, value_above
from npmobilenet.figures.style import INK, LIGHT, LOOKS, PALE, SMALL, Look
from npmobilenet.figures.words import Words
from npmobilenet.reference.layer import KernelLayer
from npmobilenet.reference.layers import DepthwiseConv2D
from npmobilenet.reference.transforms import fold_padding

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

MILLION = 1e6
SHARE_NAMES = {
    "Conv 1x1": "conv1x1",
    "Conv DW 3x3": "depthwise3x3",
    "Conv 3x3": "conv3x3",
    "Fully connected": "fully_connected",
}
KIND_LOOKS = dict(zip(SHARE_NAMES, (LOOKS[0], LOOKS[1], LOOKS[2], LOOKS[3]), strict=True))


def v1_body_data(alpha: float = 1.0, resolution: int = 224) -> dict[str, Any]:
    """The maps of V1 from the image to the classifier, one per block, with the cost of the block that makes it."""
    graph = fold_padding(mobilenet_v1(alpha, resolution))
    maps = [{"layer": graph.layers[0].name, "shape": list(graph.input_shape), "macs": 0}]
    macs = 0
    for layer in graph.layers:
        macs += graph.macs_of(layer)
        if isinstance(layer, KernelLayer) and not isinstance(layer, DepthwiseConv2D):
            maps.append({"layer": layer.name, "shape": list(graph.shapes[layer.name]), "macs": macs})
            macs = 0
    kernels = [layer for layer in graph.layers if isinstance(layer, KernelLayer)]
    return {
        "maps": maps,
        "macs": graph.macs,
        "weights": CONVENTIONS["weights"].count(graph),
        "layers": len(kernels),
        "without_classifier": len(kernels) - 1,
        "depthwise": sum(isinstance(layer, DepthwiseConv2D) for layer in kernels),
    }


def draw_v1_body(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    axes = blank_axes(canvas)
    x, scale = 0.0, 16.0
    for place, entry in enumerate(data["maps"]):
        H, W, C = entry["shape"]
        width = max(C / scale, 0.8)
        cuboid(axes, x, -H / 2, width, H, W * 0.4, color=PALE if place == 0 else LIGHT)
        text = f"{H}×{W}×{C}" + (f", {entry['macs'] / MILLION:.1f} M" if entry["macs"] else "")
        axes.text(x + width / 2 + 2, -124, text, ha="center", va="top", rotation=90, fontsize=SMALL)
        x += width + 17 + 0.14 * H
    axes.set(xlim=(-4, x), ylim=(-262, 160))
    label(axes, x * 0.74, 120, words("v1-body.legend"))


def v1_shares_data() -> dict[str, Any]:
    """Multiply-adds and weights of V1 by kind of layer, counted, and as the paper's table 2 prints them."""
    graph = mobilenet_v1()
    rows = []
    for share in cost_table(graph).shares():
        printed = {metric: _printed_share(share.kind, metric) for metric in ("share_mult_adds", "share_params")}
        rows.append({
            "kind": share.kind,
            "macs": share.macs,
            "macs_share": share.macs_share,
            "weights": share.weights,
            "weights_share": share.weights_share,
            "printed_macs": printed["share_mult_adds"].figure.printed,
            "verdict_macs": printed["share_mult_adds"].verdict,
            "printed_weights": printed["share_params"].figure.printed,
            "verdict_weights": printed["share_params"].verdict,
        })  # fmt: skip
    by_kind = {row["kind"]: row for row in rows}
    pointwise, stem = by_kind["Conv 1x1"], by_kind["Conv 3x3"]
    return {
        "rows": rows,
        "pointwise": pointwise["macs_share"],
        "pointwise_printed": pointwise["printed_macs"],
        "pointwise_verdict": pointwise["verdict_macs"],
        "stem": stem["macs_share"],
        "stem_printed": stem["printed_macs"],
        "stem_verdict": stem["verdict_macs"],
    }


def _printed_share(kind: str, metric: str) -> Recount:
    model = f"MobileNetV1:{SHARE_NAMES[kind]}"
    (entry,) = (figure for figure in figures() if (figure.source, figure.model, figure.metric) == (V1, model, metric))
    return recount(entry)


def draw_v1_shares(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    for axes, what in zip(canvas.subplots(1, 2, sharey=True), ("macs", "weights"), strict=True):
        for place, row in enumerate(data["rows"]):
            look = KIND_LOOKS[row["kind"]]
            share = row[f"{what}_share"]
            axes.barh(place, share, color=look.color, hatch=look.hatch, edgecolor=INK, height=0.55)
            verdict = words.of("verdict", row[f"verdict_{what}"])
            text = words("v1-shares.value", share=share, printed=row[f"printed_{what}"], verdict=verdict)
            axes.text(max(share, 0) + 1.5, place, text, va="center", fontsize=SMALL)
        axes.set(xlim=(0, 175), xticks=range(0, 101, 20), title=words(f"v1-shares.{what}"), xlabel="%")
        axes.set_yticks(range(len(data["rows"])), [words.of("kind", row["kind"]) for row in data["rows"]])
    axes.invert_yaxis()


def ssd_heads_data() -> dict[str, Any]:
    """SSD and SSDLite on MobileNetV2 at 320 x 320, by part: backbone, extra maps, predictors (V2, table 5)."""
    detectors = [_detector(name, lite=name == "SSDLite") for name in ("SSD", "SSDLite")]
    head = {
        f"{entry['name'].lower()}_head_{key}": entry["head"][key] for entry in detectors for key in ("macs", "params")
    }
    return {
        "detectors": detectors,
        **head,
        "macs_ratio": head["ssd_head_macs"] / head["ssdlite_head_macs"],
        "params_ratio": head["ssd_head_params"] / head["ssdlite_head_params"],
        "lite_printed": detectors[1]["printed_macs"],
        "lite_verdict": detectors[1]["verdict_macs"],
    }


def _detector(name: str, *, lite: bool) -> dict[str, Any]:
    graph = ssd("mobilenet_v2", lite=lite, slots=COCO_80)
    parts: dict[str, dict[str, int]] = {
        part: {"macs": 0, "params": 0} for part in ("backbone", "extra", "box", "class")
    }
    trained = {row.name: row for row in cost_table(graph).rows}
    for layer in graph.layers:
        stem = layer.name.partition("_")[0]
        part = parts[stem if stem in parts else "backbone"]
        part["macs"] += graph.macs_of(layer)
        part["params"] += trained[layer.name].trainable_params
    head = {key: sum(parts[part][key] for part in ("extra", "box", "class")) for key in ("macs", "params")}
    printed = {
        entry.metric: recount(entry)
        for entry in figures()
        if entry.source == V2 and entry.table == "5" and entry.model.startswith(f"{name} head")
    }
    return {
        "name": name,
        "parts": parts,
        "head": head,
        "printed_macs": printed["mult_adds"].figure.printed,
        "verdict_macs": printed["mult_adds"].verdict,
        "printed_params": printed["params"].figure.printed,
        "verdict_params": printed["params"].verdict,
    }


def draw_ssd_heads(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    looks = dict(zip(("backbone", "extra", "box", "class"), (Look(PALE, "", "", ""), *LOOKS[:3]), strict=True))
    for axes, what in zip(canvas.subplots(1, 2), ("macs", "params"), strict=True):
        for place, entry in enumerate(data["detectors"]):
            bottom = 0.0
            for part, look in looks.items():
                value = entry["parts"][part][what] / MILLION
                text = words(f"ssd-heads.{part}") if place == 0 else None
                axes.bar(place, value, 0.55, bottom, color=look.color, hatch=look.hatch, edgecolor=INK, label=text)
                bottom += value
            value_above(axes, place, bottom, f"{bottom:,.2f}")
        highest = max(sum(part[what] for part in entry["parts"].values()) for entry in data["detectors"]) / MILLION
        axes.set(title=words(f"ssd-heads.{what}"), ylim=(0, 1.12 * highest), xlim=(-0.6, 1.6))
        axes.set_xticks([0, 1], [entry["name"] for entry in data["detectors"]])
    axes.legend(loc="upper right")


def conventions_data() -> dict[str, Any]:
    """V1 counted under every convention in use."""
    rows: list[dict[str, Any]] = [
        {"name": name, "value": value, "unit": unit, "counts": counts, "users": users}
        for name, value, unit, counts, users in conventions_table(mobilenet_v1())
    ]
    macs = [row["value"] for row in rows if row["unit"] == "multiply-adds"]
    params = [row["value"] for row in rows if row["unit"] == "parameters" and row["name"] != "non_trainable"]
    return {
        "rows": rows,
        "conventions": len(rows),
        "lowest_macs": min(macs),
        "highest_macs": max(macs),
        "lowest_params": min(params),
        "highest_params": max(params),
    }


def draw_conventions(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    axes = canvas.subplots()
    units = dict.fromkeys(row["unit"] for row in data["rows"])
    looks = dict(zip(units, LOOKS, strict=False))
    for place, row in enumerate(data["rows"]):
        look = looks[row["unit"]]
        axes.barh(place, row["value"], color=look.color, hatch=look.hatch, edgecolor=INK, height=0.7)
        text = f"{row['value']:,}  {words.of('unit', row['unit'])}"
        axes.text(row["value"] * 1.15, place, text, va="center", fontsize=SMALL)
    axes.set(xscale="log", xlim=(10, 3e12), xlabel=words("conventions.x"), ylim=(len(data["rows"]) - 0.4, -0.6))
    axes.set_yticks(range(len(data["rows"])), [row["name"] for row in data["rows"]])
    axes.set_xticks([1e2, 1e4, 1e6, 1e8, 1e10], ["100", "10,000", "1 M", "100 M", "10 G"])
    axes.minorticks_off()


def intensity_data(arch: str = "mobilenet_v1", itemsize: int = 4) -> dict[str, Any]:
    """Multiply-adds per byte of every layer with a kernel: inputs, weights and outputs read or written once each."""
    graph = ARCHITECTURES[arch]()
    rows: list[dict[str, Any]] = [
        {
            "layer": row.name,
            "kind": row.kind,
            "macs": row.macs,
            "bytes": row.bytes_read + row.bytes_written,
            "macs_per_byte": row.macs / (row.bytes_read + row.bytes_written),
        }
        for row in cost_table(graph, itemsize=itemsize).rows
        if row.macs
    ]
    by_kind: dict[str, list[float]] = {}
    for entry in rows:
        by_kind.setdefault(entry["kind"], []).append(entry["macs_per_byte"])
    medians = {kind: sorted(values)[len(values) // 2] for kind, values in by_kind.items()}
    return {
        "model": graph.name,
        "itemsize": itemsize,
        "rows": rows,
        "medians": medians,
        "depthwise": medians["Conv DW 3x3"],
        "pointwise": medians["Conv 1x1"],
        "bytes": sum(entry["bytes"] for entry in rows),
    }


def draw_intensity(data: dict[str, Any], canvas: "Canvas", words: Words) -> None:
    axes = canvas.subplots()
    _bars_by_kind(axes, data, words)
    axes.set(yscale="log", ylabel=words("intensity.y"), xlabel=words("intensity.x"), xlim=(-1, len(data["rows"])))
    axes.set_yticks([0.2, 0.5, 1, 2, 5, 10, 20, 50], ["0.2", "0.5", "1", "2", "5", "10", "20", "50"])
    axes.minorticks_off()
    axes.grid(axis="y")
    axes.legend(loc="upper center", ncols=4)


def _bars_by_kind(axes: "Axes", data: dict[str, Any], words: Words) -> None:
    for kind in dict.fromkeys(row["kind"] for row in data["rows"]):
        look = KIND_LOOKS.get(kind, LOOKS[4])
        places = [place for place, row in enumerate(data["rows"]) if row["kind"] == kind]
        values = [data["rows"][place]["macs_per_byte"] for place in places]
        text = words.of("kind", kind)
        axes.bar(places, values, color=look.color, hatch=look.hatch, edgecolor=INK, linewidth=0.5, label=text)
    highest = max(row["macs_per_byte"] for row in data["rows"])
    axes.set_ylim(0.15, highest * 3)
