"""Writing golden data of a quantized network: an image is traced, and every integer is stored with what makes it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npmobilenet.errors import NpMobileNetError, ShapeError
from npmobilenet.files import folder_written_atomically
from npmobilenet.models.preprocessing import Reading, decode
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.porting.golden_folder import check_choices, check_free, entry_of, name_of, write_tensors
from npmobilenet.porting.golden_formats import DTYPES
from npmobilenet.porting.golden_formats import Tensor as StoredTensor
from npmobilenet.porting.golden_manifest import INTEGER_PACK_FORMAT, matching_names
from npmobilenet.porting.integer_pack import IntegerPack
from npmobilenet.porting.integer_pack_index import POOLS, WINDOWS, index_text, write_headers
from npmobilenet.porting.operator_factors import factors_of, table_of
from npmobilenet.porting.progress import Progress, no_progress
from npmobilenet.quantized.network_json import network_to_json
from npmobilenet.quantized.running import trace
from npmobilenet.quantized.tensors import Network, Operator, Tensor
from npmobilenet.quantized.weighted_sums import SUMS, accumulators, limits
from npmobilenet.quantized.windows import paddings
from npmobilenet.types import Array

if TYPE_CHECKING:
    from npmobilenet.models.image_file import Source

Described = tuple[StoredTensor, Mapping[str, Any]]
"""A tensor, and what the manifest states about it besides shape, dtype and place."""


def write_integer_pack(
    model: QuantizedModel,
    image: "Array | Source",
    folder: str | PathLike[str],
    *,
    formats: Sequence[str] = ("npz",),
    layers: Sequence[str] | None = None,
    resize: str | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> IntegerPack:
    """Trace an image through a quantized network under the model's rule, and write every integer.

    Args:
        model: the network.
        image: a path, the bytes of a file, a Pillow image, or pixels (H, W, C) uint8; or (1, H, W, C) integers of the
            network's input, as `QuantizedModel.scale` makes them.
        folder: output directory; it appears once it is complete.
        formats: names in `golden_formats.FORMATS`.
        layers: names, or patterns with * and ?, of the tensors to include; None for all. Those that they are computed
            from are included too. Constants are always those of the whole network.
        resize: a name in `resizing.RESIZES`; None for the model's own.
        overwrite: replace existing golden data.
        progress: reports the progress of tracing and writing.

    Raises:
        NpMobileNetError: a format or layer is unknown, a type cannot be stored, or the folder already exists.
        ImageError: the image cannot be read.
        ShapeError: the array has the wrong shape.
        OSError: the folder cannot be written.
    """
    path = Path(folder)
    check_choices(formats, "NHWC")
    check_free(path, overwrite)
    chosen = matching_names(model.layer_names, layers, model.network.name)
    stages = _stages(model, image, resize := model.resize_rule(resize))
    described = [*_images(stages), *_made(model, chosen, stages["input"], progress), *_constants(model)]
    described = sorted(described, key=lambda one: KINDS.index(one[0].kind))
    manifest = {
        "pack_format": INTEGER_PACK_FORMAT,
        "version": version("npmobilenet"),
        "model": {"name": model.network.name, "source": dict(model.source), "scaling": asdict(model.scaling)},
        "image": {"source": name_of(image), "resize": resize if "resized" in stages else None},
        "layout": "NHWC",
        "formats": list(formats),
        "rule": model.rule,
        "chosen": chosen,
        "network": network_to_json(model.network),
        "quantization": _quantization(model.network),
        "tensors": [entry_of(tensor) | dict(facts) for tensor, facts in described],
    }
    with folder_written_atomically(path) as new:
        write_tensors(new, manifest, [tensor for tensor, _ in described], index_text, progress)
        if "readmemh" in formats:
            write_headers(new / "readmemh", manifest)
    return IntegerPack.open(path)


KINDS = ("image", "outputs", "accumulators", "multipliers", "shifts", "factors", "tables", "weights")


def _stages(model: QuantizedModel, image: "Array | Source", resize: str) -> dict[str, Array]:
    """The image as decoded, as resized, and as integers; or only the last."""
    shape, dtype = model.network.input.shape, model.network.input.dtype
    if isinstance(image, np.ndarray) and image.ndim == 4:
        if image.shape != shape or image.dtype != dtype:
            raise ShapeError(f"{model.network.name}: expected {dtype} {shape}, got {image.dtype} {image.shape}")
        return {"input": np.ascontiguousarray(image)}
    Reading(resize).check()
    decoded = image if isinstance(image, np.ndarray) else decode(image, channels=shape[-1])
    resized = model.pixels(decoded, resize)
    return {"decoded": decoded, "resized": resized, "input": model.scale(resized[None])}


def _images(stages: Mapping[str, Array]) -> Iterator[Described]:
    for name, values in stages.items():
        yield StoredTensor("image", name, "NHWC"[4 - values.ndim :], np.ascontiguousarray(values)), {}


def _made(model: QuantizedModel, chosen: Sequence[str], x: Array, progress: Progress) -> Iterator[Described]:
    """What the chosen operators make, and the tensors that they read."""
    network, names = model.computed, model.names
    tensors = {number: tensor for number, tensor in enumerate(network.tensors) if tensor.data is not None}
    tensors[network.inputs[0]] = replace(network.input, data=x)
    makers = {names[operator.outputs[0]]: operator for operator in network.operators}
    included = {names[i] for name in chosen for i in (*makers[name].inputs, makers[name].outputs[0]) if i >= 0}
    steps = progress(trace(network, x, model.rounding), len(network.operators), "tracing")
    for place, (operator, values) in enumerate(steps):
        number = operator.outputs[0]
        y = tensors[number] = replace(network.tensors[number], data=values)
        inputs = [tensors[i] for i in operator.inputs if i >= 0]
        if names[number] not in included:
            continue
        facts = {"operator": place, "tensor": number} | _facts(operator, inputs, y, names)
        yield _stored("outputs", names[number], values), facts
        if names[number] in chosen and y.quantization is not None:
            yield from _parts(model, operator, inputs, y)


def _parts(model: QuantizedModel, operator: Operator, inputs: Sequence[Tensor], y: Tensor) -> Iterator[Described]:
    """Accumulators, multipliers and shifts, factors, tables of an operator."""
    name, rule = model.names[operator.outputs[0]], model.rounding
    if operator.code in SUMS:
        acc = accumulators(operator.code, inputs, operator.options)
        yield _stored("accumulators", name, acc.astype(np.int32)), {}
    factors = factors_of(operator, inputs, y, rule)
    if factors is not None and factors.multiplier is not None:
        yield _stored("multipliers", name, factors.multiplier.q.astype(np.int32)), {}
        yield _stored("shifts", name, -factors.multiplier.e.astype(np.int32)), {}
    elif factors is not None:
        yield _stored("factors", name, factors.M), {}
    table = table_of(operator, inputs, y, rule)
    if table is not None:
        yield _stored("tables", name, table), {}


def _facts(operator: Operator, inputs: Sequence[Tensor], y: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """What a port must know about an operator, resolved for this network."""
    options = operator.options
    facts: dict[str, Any] = {
        "type": operator.code,
        "inputs": [names[i] for i in operator.inputs if i >= 0],
        "tolerance": 0,
    }
    if y.quantization is not None:
        facts |= {"scale": float(y.scale[0]), "zero_point": y.zero_point, "limits": limits(y, options)}
    if operator.code in (*WINDOWS, *POOLS):
        window = options.filter if operator.code in POOLS else inputs[1].shape[1:3]
        padding = paddings(inputs[0].integers.shape, (window[0], window[1]), options)
        facts |= {"stride": options.stride, "dilation": options.dilation, "window": window, "padding": padding}
    return facts


def _constants(model: QuantizedModel) -> Iterator[Described]:
    for number, tensor in enumerate(model.network.tensors):
        if tensor.data is not None:
            stored = _stored("weights", model.names[number], tensor.data)
            how = (
                {} if tensor.quantization is None else {"zero_point": tensor.zero_point, "scale": _plain(tensor.scale)}
            )
            yield stored, {"tensor": number} | how


def _quantization(network: Network) -> dict[str, Any]:
    """Scales and zero points by the tensor's number: float32 as the decimals that round to it."""
    return {
        str(number): {"scale": _plain(how.scale), "zero_point": how.zero_point.tolist()}
        for number, tensor in enumerate(network.tensors)
        if (how := tensor.quantization) is not None
    }


def _plain(scale: Array) -> list[float]:
    return [float(each) for each in scale]


def _stored(kind: str, name: str, values: Array) -> StoredTensor:
    if values.dtype.name not in DTYPES:
        raise NpMobileNetError(f"{name}: values of type {values.dtype} cannot be stored in golden data")
    axes = {4: "NHWC", 2: "NC", 1: "C"}.get(values.ndim, "X" * values.ndim)
    if kind == "weights":
        axes = {4: "OHWI", 2: "OI", 1: "C"}.get(values.ndim, "X" * values.ndim)
    return StoredTensor(kind, name, axes, np.asarray(values, DTYPES[values.dtype.name], order="C"))
