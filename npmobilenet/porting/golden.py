"""Golden packs: everything that a network computes from one picture, in a folder, for whoever ports it.

A pack holds the picture at each stage, the output of every layer as the reference computes it in float32, the same in
float64 (the truth), the weights, and how far another engine may be off:

    manifest.json   what is here, as data/pack.schema.json describes it: the graph, and for every tensor its shape,
                    axes, dtype, SHA-256, tolerance, and where each format keeps it
    npz/ raw/ ...   the tensors, in one or several of the `pack_formats.FORMATS`

Tensors are called `kind/name`:

    image/decoded, image/resized      uint8 pixels, where the pack was made from a picture
    image/scaled                      float32, what the network takes
    outputs/LAYER                     float32
    truth/LAYER                       float64
    weights/LAYER/ARRAY               float32

With layout NCHW maps are (N, C, H, W), pictures (C, H, W), and kernels as frameworks of that layout have them: (c_out,
c_in, K_h, K_w), depthwise (C * M, 1, K_h, K_w), dense (c_out, c_in). A Flatten keeps the order of NHWC in both. Reading
a pack with `Pack` gives the layouts of this package again, whatever is stored.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from math import isfinite, prod
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from npmobilenet.analysis.rounding_growth import TracedLayer, traced_layers
from npmobilenet.errors import ImageError, NpMobileNetError, ShapeError, WeightsError
from npmobilenet.files import folder_written_atomically
from npmobilenet.models.model import Model, Scaling
from npmobilenet.porting.golden_formats import DTYPES, FORMATS, Tensor
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer, Window
from npmobilenet.reference.layers import Conv2D, Dense, DepthwiseConv2D
from npmobilenet.reference.rounding import rescale_bound
from npmobilenet.types import Array, Shape

if TYPE_CHECKING:
    from npmobilenet.models.preprocessing import Source

PACK_FORMAT = 1
LAYOUTS = ("NHWC", "NCHW")
MANIFEST = "manifest.json"

Item = TypeVar("Item")


class Watch(Protocol):
    """Hands items on while it shows how many of them have come: `terminal.progress_bar`."""

    def __call__(self, items: Iterable[Item], total: int, label: str, /) -> Iterable[Item]: ...


def _unwatched(items: Iterable[Item], total: int, label: str, /) -> Iterable[Item]:
    return items


@dataclass(frozen=True, eq=False)
class Pack:
    """A golden pack on disk. Tensors are read, and held against their SHA-256, when they are asked for.

    Args:
        folder: where it is.
        manifest: the content of its manifest.json.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @staticmethod
    def open(folder: str | PathLike[str]) -> "Pack":
        """Read a pack's manifest.

        Raises:
            WeightsError: there is no such folder, or it holds no manifest, or a damaged one.
        """
        path = Path(folder)
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise WeightsError(f"{path}: no golden pack: there is no {MANIFEST}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise WeightsError(f"{path / MANIFEST}: cannot be read: {error}") from error
        if not isinstance(manifest, dict) or manifest.get("pack_format") != PACK_FORMAT:
            came = manifest.get("pack_format") if isinstance(manifest, dict) else None
            raise WeightsError(f"{path / MANIFEST}: pack_format {came} is not known; this version reads {PACK_FORMAT}")
        pack = Pack(path, manifest)
        if manifest.get("sha256") != _manifest_hash(manifest):
            raise WeightsError(f"{path / MANIFEST}: is not as it was written; the file is damaged or was edited")
        try:
            _ = pack.graph, pack.layers, pack.scaling, manifest["layout"], manifest["formats"][0], manifest["chosen"]
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise WeightsError(f"{path / MANIFEST}: is damaged ({error!r})") from error
        return pack

    def __repr__(self) -> str:
        return f"<Pack {self.folder}, {self.graph.name}, {len(self.layers)} of {len(self.graph.layers)} layers>"

    @cached_property
    def graph(self) -> Graph:
        """The whole network, whatever part of it the pack holds."""
        return Graph.from_json(self.manifest["graph"])

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers whose outputs are here, in the order of the graph."""
        held = {name for kind, name in self._tensors if kind == "outputs"}
        return tuple(layer.name for layer in self.graph.layers if layer.name in held)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of the picture that are here: decoded, resized, scaled, or only the last."""
        return tuple(name for kind, name in self._tensors if kind == "image")

    def input(self, stage: str = "scaled") -> Array:
        """The picture at a stage.

        Args:
            stage: "decoded" (H', W', 3) uint8 as the file has it, "resized" (H, W, 3) uint8, or "scaled" (N, H, W, C)
                float32, what the network takes.

        Raises:
            WeightsError: the pack has no such stage, or it is damaged.
        """
        return self._read("image", stage)

    def output(self, name: str) -> Array:
        """A layer's output, (N, ...), as the reference computes it in float32.

        Raises:
            WeightsError: the pack has no such layer, or it is damaged.
        """
        return self._read("outputs", name)

    def truth(self, name: str) -> Array:
        """A layer's output, (N, ...), in float64; errors as `output`."""
        return self._read("truth", name)

    @cached_property
    def weights(self) -> Mapping[str, Array]:
        """Parameters of the chosen layers by `layer/array`, in Keras's layouts.

        Raises:
            WeightsError: one of them is damaged.
        """
        return {name: self._read("weights", name) for kind, name in self._tensors if kind == "weights"}

    @property
    def scaling(self) -> Scaling:
        """From pixels in 0..255 to the network's input."""
        return Scaling(**self.manifest["model"]["scaling"])

    def model(self) -> Model:
        """The network with its weights, ready to compute.

        Raises:
            WeightsError: the pack holds a part of the network only.
        """
        return Model(self.graph, self.weights, self.scaling, source=self.manifest["model"]["source"])

    def tolerance(self, name: str) -> Array:
        """How far a float32 engine may be from `output(name)` at each value, given the layer's inputs from this pack.

        Both are within `Layer.error_bound` of the exact answer to these inputs, so within twice that of each other.

        Returns:
            Shape of the output, float64. Its maximum is `given_inputs` of the manifest.

        Raises:
            WeightsError: the layer was not among the chosen ones, or something is damaged.
        """
        if name not in self.manifest["chosen"]:
            raise WeightsError(f"{self.folder}: {name} was not among the chosen layers, so its weights are not here")
        layer = self.graph[name]
        if not layer.inputs:
            return np.zeros(self.output(name).shape)
        params = {array: self._read("weights", f"{name}/{array}") for array in self.graph.param_shapes_of(layer)}
        return 2 * layer.error_bound(params, *map(self.output, layer.inputs))

    def damaged(self) -> list[str]:
        """Read every tensor in every format and return what is wrong, one message each; none if all is well."""
        problems = []
        for kind, name in self._tensors:
            for form in self.manifest["formats"]:
                try:
                    self._stored(kind, name, form)
                except WeightsError as error:
                    problems.append(str(error))
        return problems

    @cached_property
    def _tensors(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        return {(entry["kind"], entry["name"]): entry for entry in self.manifest["tensors"]}

    def _read(self, kind: str, name: str) -> Array:
        """A tensor in this package's layout."""
        if (kind, name) not in self._tensors:
            known = [other for of, other in self._tensors if of == kind]
            raise WeightsError(f"{self.folder}: has no {kind}/{name}{_instead(name, known)}")
        values = self._stored(kind, name, self.manifest["formats"][0])
        if self.manifest["layout"] == "NHWC":
            return values
        if kind == "weights":
            return _from_nchw_weight(values, self._shape_of_weight(name))
        return _channels_last(kind, values)

    def _shape_of_weight(self, name: str) -> Shape:
        try:
            return self.graph.param_shapes[name]
        except KeyError:
            raise WeightsError(f"{self.folder}: the network has no array {name}") from None

    def _stored(self, kind: str, name: str, form: str) -> Array:
        """A tensor as it is stored, held against the manifest.

        Every Exception is meant: the readers of five formats raise many kinds on damaged files.
        """
        where = f"{self.folder}: {kind}/{name} ({form})"
        try:
            entry = self._tensors[kind, name]
            dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
            location = entry["stored"][form]
            file = (self.folder / form / location["file"]).resolve()
            if not file.is_relative_to(self.folder.resolve()):
                raise WeightsError(f"{where}: {location['file']} lies outside the pack")
            values = FORMATS[form].read(file, location.get("key", ""), dtype, shape)
            intact = values.dtype == dtype and values.shape == shape and _sha256(values) == entry["sha256"]
        except WeightsError:
            raise
        except Exception as error:
            raise WeightsError(f"{where}: cannot be read: {type(error).__name__}: {error}") from error
        if not intact:
            raise WeightsError(f"{where}: is not what was written; the file is damaged")
        return values


def write_pack(
    model: Model,
    image: "Array | Source",
    folder: str | PathLike[str],
    *,
    formats: Sequence[str] = ("npz",),
    layers: Sequence[str] | None = None,
    layout: str = "NHWC",
    resize: str = "crop",
    overwrite: bool = False,
    watch: Watch = _unwatched,
) -> Pack:
    """Trace a picture through a network and write everything that is computed on the way.

    Args:
        model: the network.
        image: a path, the bytes of a file, a Pillow image, or pixels (H, W, 3) uint8; or (N, H, W, C) float, scaled
            already, which is taken as float32.
        folder: the pack, which appears when all of it is written.
        formats: names in `pack_formats.FORMATS`.
        layers: names, or patterns with * and ?, of the layers wanted; None for all. The layers that they read come
            along, so that each can be computed from the pack alone; weights come of the chosen ones.
        layout: "NHWC", or "NCHW" for maps and kernels as other frameworks have them.
        resize: a name in `images.RESIZES`.
        overwrite: replace a pack that is there already.
        watch: shows how far tracing and writing are: a place for `terminal.progress_bar`.

    Raises:
        NpMobileNetError: a format, layout or layer is not known, or something is there already.
        ImageError: the picture cannot be read.
        ShapeError: the array does not fit.
        OSError: the folder cannot be written.
    """
    path = Path(folder)
    _check_choices(formats, layout)
    _check_names(model.graph)
    _check_free(path, overwrite)
    chosen = chosen_layers(model.graph, layers)
    stages = _stages(model, image, resize)
    graph = model.graph if stages["scaled"].shape[1:] == model.graph.input_shape else _resized(model.graph, stages)
    wanted = {source for name in chosen for source in (name, *graph[name].inputs)}

    entries: list[dict[str, Any]] = [
        {"tolerance": _tolerance(2 * _scaling_bound(model, stages), values)} if name == "scaled" else {}
        for name, values in stages.items()
    ]
    tensors = [Tensor("image", name, "NHWC"[4 - values.ndim :], values) for name, values in stages.items()]
    traced = traced_layers(graph, model.params, stages["scaled"])
    truths = []
    for layer in watch(traced, len(graph.layers), "tracing"):
        if layer.layer.name in wanted:
            entries.append(_layer_entry(graph, layer))
            tensors.append(Tensor("outputs", layer.layer.name, _axes(layer.computed), layer.computed))
            truths.append(Tensor("truth", layer.layer.name, _axes(layer.exact), layer.exact))
    tensors += truths
    tensors += [
        Tensor("weights", f"{name}/{array}", _weight_axes(graph[name], array), model.params[f"{name}/{array}"])
        for name in chosen
        for array in graph.param_shapes_of(graph[name])
    ]
    entries += [{} for _ in range(len(tensors) - len(entries))]
    stored = [_as_stored(tensor, graph, layout) for tensor in tensors]

    manifest: dict[str, Any] = {
        "pack_format": PACK_FORMAT,
        "version": version("npmobilenet"),
        "model": {"name": graph.name, "source": dict(model.source), "scaling": asdict(model.scaling)},
        "image": {"source": _name_of(image), "resize": resize if "resized" in stages else None},
        "layout": layout,
        "formats": list(formats),
        "chosen": chosen,
        "graph": graph.to_json(),
        "tensors": [_entry(tensor) | entry for tensor, entry in zip(stored, entries, strict=True)],
    }
    with folder_written_atomically(path) as new:
        for form in formats:
            (new / form).mkdir()
            written = watch(FORMATS[form].write(new / form, stored), len(stored), f"writing {form}")
            for entry, location in zip(manifest["tensors"], written, strict=True):
                entry["stored"][form] = location
        if "raw" in formats:
            (new / "raw" / "index.tsv").write_text(_index(manifest), encoding="utf-8")
        manifest["sha256"] = _manifest_hash(manifest)
        (new / MANIFEST).write_text(json.dumps(manifest, indent=1, allow_nan=False), encoding="utf-8")
    return Pack.open(path)


def chosen_layers(graph: Graph, patterns: Sequence[str] | None) -> list[str]:
    """Names of the layers that one of the patterns fits, in the order of the graph.

    Args:
        graph: the network.
        patterns: names, or patterns with *, ? and [...]; None for all layers.

    Raises:
        NpMobileNetError: a pattern fits no layer; all such patterns are named.
    """
    names = [layer.name for layer in graph.layers]
    if patterns is None:
        return names
    idle = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)]
    if idle or not patterns:
        advice = "; ".join(f"{pattern!r}{_instead(pattern, names)}" for pattern in idle) or "no pattern was given"
        raise NpMobileNetError(f"{graph.name}: no layer is called {advice}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _check_choices(formats: Sequence[str], layout: str) -> None:
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats or len(set(formats)) < len(formats):
        raise NpMobileNetError(f"formats are some of {', '.join(FORMATS)}, each once; got {', '.join(formats)}")
    if layout not in LAYOUTS:
        raise NpMobileNetError(f"layout is one of {', '.join(LAYOUTS)}; got {layout!r}")


def _check_names(graph: Graph) -> None:
    odd = [layer.name for layer in graph.layers if not layer.name.isprintable()]
    if odd:
        raise NpMobileNetError(f"{graph.name}: layer names with tabs or line breaks cannot be packed: {odd}")


def _check_free(path: Path, overwrite: bool) -> None:
    if not path.exists():
        return
    if not overwrite:
        raise NpMobileNetError(f"{path} is there already; overwrite=True (--force) replaces it")
    if not path.is_dir() or (any(path.iterdir()) and not (path / MANIFEST).is_file()):
        raise NpMobileNetError(f"{path} is there already, and no golden pack, so it is not overwritten")


def _stages(model: Model, image: "Array | Source", resize: str) -> dict[str, Array]:
    """The picture at each stage, or what was scaled already."""
    from npmobilenet.models.preprocessing import RESIZES, decode

    H, W, C = model.graph.input_shape
    if isinstance(image, np.ndarray) and image.dtype != np.uint8:
        if image.ndim != 4 or image.dtype.kind != "f" or len(image) == 0:
            raise ShapeError(
                f"{model.graph.name}: pixels (H, W, 3) uint8, or scaled images (N, {H}, {W}, {C}) float are needed; "
                f"got {image.shape} {image.dtype}"
            )
        return {"scaled": np.ascontiguousarray(image, np.float32)}
    if C != 3:
        raise ShapeError(f"{model.graph.name} takes {C} channels, a picture has 3; give it scaled arrays")
    if resize not in RESIZES:
        raise ImageError(f"resize is {resize!r}; needed is one of {', '.join(RESIZES)}")
    decoded = image if isinstance(image, np.ndarray) else decode(image)
    resized = decoded if decoded.shape == (H, W, C) else RESIZES[resize](decoded, H, W)
    return {"decoded": decoded, "resized": resized, "scaled": model.scale(resized[None])}


def _resized(graph: Graph, stages: Mapping[str, Array]) -> Graph:
    return graph.with_input(*stages["scaled"].shape[1:3])


def _scaling_bound(model: Model, stages: Mapping[str, Array]) -> Array:
    if "resized" not in stages:
        return np.zeros(1)
    return rescale_bound(stages["resized"][None], model.scaling.scale, model.scaling.offset)


def _layer_entry(graph: Graph, traced: TracedLayer) -> dict[str, Any]:
    """What the manifest says of a layer's output, beside what it says of any tensor."""
    layer = traced.layer
    entry: dict[str, Any] = {"type": layer.type, "inputs": list(layer.inputs)}
    if isinstance(layer, Window):
        entry |= {"stride": layer.stride, "padding": layer.zeros(graph.input_shapes(layer)[0])}
    tolerance = _tolerance(2 * traced.own_bound, traced.exact)
    from_image = _tolerance(2 * traced.bound, traced.exact, "given_image")
    return entry | {
        "tolerance": tolerance | from_image,
        "measured_error": _number(float(np.abs(traced.computed - traced.exact).max(initial=0))),
    }


def _tolerance(allowed: Array, values: Array, name: str = "given_inputs") -> dict[str, float | None]:
    """The largest allowed difference, absolute and relative to the largest value."""
    absolute = float(allowed.max(initial=0))
    largest = float(np.abs(values).max(initial=0))
    relative = absolute / largest if largest else 0.0
    return {name: _number(absolute), f"{name}_relative": _number(relative)}


def _number(value: float) -> float | None:
    return value if isfinite(value) else None


def _axes(values: Array) -> str:
    return {4: "NHWC", 2: "NC"}.get(values.ndim, "N" + "X" * (values.ndim - 1))


def _weight_axes(layer: Layer, array: str) -> str:
    if array != "kernel":
        return "C"
    return {Conv2D: "HWIO", DepthwiseConv2D: "HWCM", Dense: "IO"}[type(layer)]


def _as_stored(tensor: Tensor, graph: Graph, layout: str) -> Tensor:
    """In the layout of the pack, contiguous, little-endian, with one kind of NaN: text has no other."""
    axes, values = tensor.axes, tensor.values
    if layout == "NCHW":
        axes = {
            "NHWC": "NCHW", "HWC": "CHW", "HWIO": "OIHW", "HWCM": "OIHW", "IO": "OI",
        }.get(axes, axes)  # fmt: skip
        values = _to_nchw_weight(values, tensor.axes) if tensor.kind == "weights" else _channels_first(values, axes)
    values = np.ascontiguousarray(values, DTYPES[values.dtype.name])
    if values.dtype.kind == "f" and np.isnan(values).any():
        values = np.where(np.isnan(values), values.dtype.type(np.nan), values)
    return Tensor(tensor.kind, tensor.name, axes, values)


def _channels_first(values: Array, axes: str) -> Array:
    return np.moveaxis(values, -1, -3) if axes in ("NCHW", "CHW") else values


def _channels_last(kind: str, values: Array) -> Array:
    is_map = values.ndim == 4 or (kind == "image" and values.ndim == 3)
    return np.ascontiguousarray(np.moveaxis(values, -3, -1)) if is_map else values


def _to_nchw_weight(w: Array, axes: str) -> Array:
    if axes == "HWIO":
        return w.transpose(3, 2, 0, 1)  # (c_out, c_in, K_h, K_w)
    if axes == "HWCM":
        K_h, K_w, C, M = w.shape
        return w.transpose(2, 3, 0, 1).reshape(C * M, 1, K_h, K_w)
    return w.T


def _from_nchw_weight(w: Array, shape: Shape) -> Array:
    """Back to Keras's layout, whose shape the graph knows."""
    if w.ndim == 4 and w.shape[1] == 1 and prod(shape[2:]) == w.shape[0]:  # depthwise, or a convolution of one channel
        return np.ascontiguousarray(w.reshape(shape[2], shape[3], *shape[:2]).transpose(2, 3, 0, 1))
    return np.ascontiguousarray(w.transpose(2, 3, 1, 0) if w.ndim == 4 else w.T)


def _entry(tensor: Tensor) -> dict[str, Any]:
    return {
        "kind": tensor.kind,
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": list(tensor.values.shape),
        "axes": tensor.axes,
        "sha256": _sha256(tensor.values),
        "stored": {},
    }


def _index(manifest: Mapping[str, Any]) -> str:
    """The manifest's essence as lines of columns between tabs, for programs that have no JSON parser.

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


def _name_of(image: object) -> str | None:
    """The file's name, without the folders of the machine where the pack was made."""
    return Path(fspath(image)).name if isinstance(image, str | PathLike) else None


def _sha256(values: Array) -> str:
    return sha256(values.tobytes()).hexdigest()


def _manifest_hash(manifest: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    return sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _instead(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f"; close are {', '.join(close)}" if close else ""
