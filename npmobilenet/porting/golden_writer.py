"""Writing golden data: an image is traced through a network, and every tensor is stored with its tolerance."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from math import isfinite
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npmobilenet.analysis.rounding_growth import TracedLayer, traced_layers
from npmobilenet.errors import NpMobileNetError, ShapeError
from npmobilenet.files import folder_written_atomically
from npmobilenet.models.model import Model
from npmobilenet.porting.channels_first import AXES, to_channels_first
from npmobilenet.porting.golden import GoldenData
from npmobilenet.porting.golden_folder import check_choices, check_free, entry_of, name_of, write_tensors
from npmobilenet.porting.golden_formats import DTYPES, Tensor
from npmobilenet.porting.golden_manifest import PACK_FORMAT, matching_names
from npmobilenet.porting.progress import Progress, no_progress
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Convolution, Layer, Window
from npmobilenet.reference.layers import Conv2D, Dense, DepthwiseConv2D
from npmobilenet.reference.rounding import rescale_bound
from npmobilenet.types import Array

if TYPE_CHECKING:
    from npmobilenet.models.image_file import Source


@dataclass(frozen=True)
class _Described:
    """A tensor, and what the manifest states about it besides shape, dtype and place."""

    tensor: Tensor
    facts: Mapping[str, Any]


def write_golden_data(
    model: Model,
    image: "Array | Source",
    folder: str | PathLike[str],
    *,
    formats: Sequence[str] = ("npz",),
    layers: Sequence[str] | None = None,
    layout: str = "NHWC",
    resize: str | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> GoldenData:
    """Trace an image through a network and write every tensor that is computed.

    Args:
        model: the network.
        image: a path, the bytes of a file, a Pillow image, or pixels (H, W, C) uint8; or scaled images (N, H, W, C)
            of any float dtype, converted to float32.
        folder: output directory; it appears once it is complete.
        formats: names in `golden_formats.FORMATS`.
        layers: names, or patterns with * and ?, of the layers to include; None for all. The layers that they read are
            included too, so that each can be computed from the data alone; weights are those of the chosen layers.
        layout: "NHWC", or "NCHW" for maps and kernels channels first.
        resize: a name in `resizing.RESIZES`; None for the model's own.
        overwrite: replace existing golden data.
        progress: reports the progress of tracing and writing, such as `output.progress_bar`.

    Raises:
        NpMobileNetError: a format, layout or layer is unknown, or the folder already exists.
        ImageError: the image cannot be read.
        ShapeError: the array has the wrong shape.
        OSError: the folder cannot be written.
    """
    path = Path(folder)
    check_choices(formats, layout)
    _check_names(model.graph)
    check_free(path, overwrite)
    chosen = chosen_layers(model.graph, layers)
    stages = _stages(model, image, resize := model.resize_rule(resize))
    graph = _graph_for(model.graph, stages["scaled"])
    described = [
        *_described_stages(model, stages),
        *_described_layers(model, graph, chosen, stages["scaled"], progress),
        *_described_weights(model, graph, chosen),
    ]
    stored = [_as_stored(entry.tensor, layout) for entry in described]
    manifest = {
        "pack_format": PACK_FORMAT,
        "version": version("npmobilenet"),
        "model": {"name": graph.name, "source": dict(model.source), "scaling": asdict(model.scaling)},
        "image": {"source": name_of(image), "resize": resize if "resized" in stages else None},
        "layout": layout,
        "formats": list(formats),
        "chosen": chosen,
        "graph": graph.to_json(),
        "tensors": [entry_of(tensor) | dict(entry.facts) for tensor, entry in zip(stored, described, strict=True)],
    }
    with folder_written_atomically(path) as new:
        write_tensors(new, manifest, stored, _index, progress)
    return GoldenData.open(path)


def chosen_layers(graph: Graph, patterns: Sequence[str] | None) -> list[str]:
    """Names of the layers that match a pattern, in the order of the graph; arguments and errors as `matching_names`."""
    return matching_names([layer.name for layer in graph.layers], patterns, graph.name)


def _check_names(graph: Graph) -> None:
    unprintable = [layer.name for layer in graph.layers if not layer.name.isprintable()]
    if unprintable:
        raise NpMobileNetError(f"{graph.name}: layer names with tabs or line breaks are not supported: {unprintable}")


def _stages(model: Model, image: "Array | Source", resize: str) -> dict[str, Array]:
    """The image at each stage: "decoded", "resized" and "scaled", or only the last if it was scaled already."""
    from npmobilenet.models.preprocessing import Reading, decode, network_pixels

    H, W, C = model.graph.input_shape
    if isinstance(image, np.ndarray) and image.dtype != np.uint8:
        if image.ndim != 4 or image.dtype.kind != "f" or len(image) == 0:
            raise ShapeError(
                f"{model.graph.name}: expected pixels (H, W, {C}) uint8, or scaled images (N, {H}, {W}, {C}) float; "
                f"got {image.shape} {image.dtype}"
            )
        return {"scaled": np.ascontiguousarray(image, np.float32)}
    how = Reading(resize)
    how.check()
    if C not in (1, 3) and not isinstance(image, np.ndarray):
        raise ShapeError(f"{model.graph.name} takes {C} channels, an image file has 3; pass arrays")
    decoded = image if isinstance(image, np.ndarray) else decode(image, channels=C)
    resized = network_pixels(decoded, model.graph, how)
    return {"decoded": decoded, "resized": resized, "scaled": model.scale(resized[None])}


def _graph_for(graph: Graph, x: Array) -> Graph:
    """The network for images x (N, H, W, C) of any size."""
    H, W = x.shape[1:3]
    return graph if graph.input_shape[:2] == (H, W) else graph.with_input(H, W)


def _described_stages(model: Model, stages: Mapping[str, Array]) -> list[_Described]:
    described = []
    for name, values in stages.items():
        facts = {"tolerance": _tolerance(2 * _scaling_bound(model, stages), values)} if name == "scaled" else {}
        described.append(_Described(Tensor("image", name, "NHWC"[4 - values.ndim :], values), facts))
    return described


def _scaling_bound(model: Model, stages: Mapping[str, Array]) -> Array:
    if "resized" not in stages:
        return np.zeros(1)
    return rescale_bound(stages["resized"][None], model.scaling.scale, model.scaling.offset)


def _described_layers(
    model: Model, graph: Graph, chosen: Sequence[str], x: Array, progress: Progress
) -> list[_Described]:
    """Outputs of the chosen layers and of their inputs, first all in float32, then all in float64."""
    included = {source for name in chosen for source in (name, *graph[name].inputs)}
    outputs, references = [], []
    for traced in progress(traced_layers(graph, model.params, x), len(graph.layers), "tracing"):
        name = traced.layer.name
        if name in included:
            output = Tensor("outputs", name, _axes(traced.computed), traced.computed)
            outputs.append(_Described(output, _layer_facts(graph, traced)))
            references.append(_Described(Tensor("truth", name, _axes(traced.exact), traced.exact), {}))
    return outputs + references


def _described_weights(model: Model, graph: Graph, chosen: Sequence[str]) -> list[_Described]:
    tensors = (
        Tensor("weights", f"{name}/{array}", _weight_axes(graph[name], array), model.params[f"{name}/{array}"])
        for name in chosen
        for array in graph.param_shapes_of(graph[name])
    )
    return [_Described(tensor, {}) for tensor in tensors]


def _layer_facts(graph: Graph, traced: TracedLayer) -> dict[str, Any]:
    layer = traced.layer
    facts: dict[str, Any] = {"type": layer.type, "inputs": list(layer.inputs)}
    if isinstance(layer, Window):
        facts |= {"stride": layer.stride, "padding": layer.zeros(graph.input_shapes(layer)[0])}
    if isinstance(layer, Convolution):
        facts["dilation"] = layer.dilation
    tolerance = _tolerance(2 * traced.own_bound, traced.exact)
    from_image = _tolerance(2 * traced.bound, traced.exact, "given_image")
    measured = float(np.abs(traced.computed - traced.exact).max(initial=0))
    return facts | {"tolerance": tolerance | from_image, "measured_error": _finite(measured)}


def _tolerance(allowed: Array, values: Array, name: str = "given_inputs") -> dict[str, float | None]:
    """The largest allowed difference, absolute and relative to the largest value."""
    absolute = float(allowed.max(initial=0))
    largest = float(np.abs(values).max(initial=0))
    relative = absolute / largest if largest else 0.0
    return {name: _finite(absolute), f"{name}_relative": _finite(relative)}


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def _axes(values: Array) -> str:
    return {4: "NHWC", 2: "NC"}.get(values.ndim, "N" + "X" * (values.ndim - 1))


def _weight_axes(layer: Layer, array: str) -> str:
    if array != "kernel":
        return "C"
    return {Conv2D: "HWIO", DepthwiseConv2D: "HWCM", Dense: "IO"}[type(layer)]


def _as_stored(tensor: Tensor, layout: str) -> Tensor:
    """The tensor in the stored layout: contiguous, little-endian, with one kind of NaN, as text has no other."""
    axes, values = tensor.axes, tensor.values
    if layout == "NCHW":
        axes, values = AXES.get(axes, axes), to_channels_first(values, axes)
    values = np.ascontiguousarray(values, DTYPES[values.dtype.name])
    if values.dtype.kind == "f" and np.isnan(values).any():
        values = np.where(np.isnan(values), values.dtype.type(np.nan), values)
    return Tensor(tensor.kind, tensor.name, axes, values)


def _index(manifest: Mapping[str, Any]) -> str:
    """The essence of the manifest as tab-separated lines, for programs without a JSON parser.

    tensor  kind/name  dtype  axes  shape  given_inputs  file
    window  layer  type  stride  top  bottom  left  right  input
    """
    lines = []
    for entry in manifest["tensors"]:
        tolerance = entry.get("tolerance", {}).get("given_inputs")
        shape = ",".join(map(str, entry["shape"]))
        columns = ("tensor", f"{entry['kind']}/{entry['name']}", entry["dtype"], entry["axes"], shape,
                   "-" if tolerance is None else f"{tolerance:.9g}", entry["stored"]["raw"]["file"])  # fmt: skip
        lines.append("\t".join(columns))
        if "padding" in entry:
            zeros = [str(side) for pair in entry["padding"] for side in pair]
            columns = ("window", entry["name"], entry["type"], str(entry["stride"]), *zeros, entry["inputs"][0])
            lines.append("\t".join(columns))
    return "\n".join(lines) + "\n"
