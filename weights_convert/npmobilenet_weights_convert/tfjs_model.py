"""TensorFlow.js layers models: the Keras config and the arrays in a model.json and its shards.

    modelTopology      {"model_config": config, "keras_version"}, or the config itself
    weightsManifest    [{"paths": [shard, ...], "weights": [{"name", "shape", "dtype", "quantization"}, ...]}, ...]

The shards of a group, joined, are its arrays one after another, little endian. Quantization: uint8 and uint16 q stand
for q * scale + min, float16 for itself.

Source: TensorFlow.js, tfjs-core/src/io/io_utils.ts, decodeWeights.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from typing import Any

import numpy as np

from npmobilenet.errors import WeightsError
from npmobilenet.types import Array, Shape
from npmobilenet_weights_convert.file_formats import GRAPH_MODEL, is_graph_model
from npmobilenet_weights_convert.keras_file import Contents
from npmobilenet_weights_convert.stored_layers import (
    MAX_BYTES,
    MAX_DEPTH,
    StoredArray,
    StoredLayer,
    check_sizes,
    kind_by_arrays,
)

TYPES = {"float32": "<f4", "float16": "<f2", "uint8": "u1", "uint16": "<u2"}  # as stored
ReadMember = Callable[[str], bytes]


@dataclass(frozen=True)
class _Entry:
    """An array of the manifest with its bytes."""

    name: str
    shape: Shape
    stored: np.dtype[Any]
    scale: float | None  # None: not quantized to integers
    minimum: float
    data: memoryview

    def read(self) -> Array:
        values = np.frombuffer(self.data, self.stored).reshape(self.shape)
        if self.scale is None:
            return values
        return np.asarray(values * np.float64(self.scale) + np.float64(self.minimum), np.float32)


def tfjs_contents(file: str, member: str, read: ReadMember) -> Contents:
    """The config and the arrays of a layers model.

    Args:
        file: for messages.
        member: name of its model.json.
        read: contents of a member of the same folder or archive, by its name.

    Raises:
        WeightsError: it is a graph model, has no layers, or its manifest does not fit its shards.
    """
    text = read(member)
    digest = sha256(text)
    document = json.loads(text)
    if is_graph_model(document):
        raise WeightsError(f"{file}: {GRAPH_MODEL.name}; {GRAPH_MODEL.advice}")
    topology = document["modelTopology"]
    config = topology.get("model_config", topology)
    config = json.loads(config) if isinstance(config, str) else config
    version = topology.get("keras_version") or document.get("generatedBy") or ""
    if not any(group["weights"] for group in document["weightsManifest"]):
        raise WeightsError(f"{file}: a TensorFlow.js model without weights: its weightsManifest lists no arrays")
    entries: list[_Entry] = []
    size = len(text)
    for group in document["weightsManifest"]:
        shards = b"".join(read(_shard(path)) for path in group["paths"])
        digest.update(shards)
        size += len(shards)
        entries += _entries(group["weights"], shards)
    layers = tuple(_layers(config, entries))
    check_sizes(layers, size)
    return Contents(file, digest.hexdigest(), str(version), config, layers, numbered=False)


def _shard(path: Any) -> str:
    """Name of a shard, which must be in the folder of the model.json.

    Raises:
        WeightsError: it is a path or a URL.
    """
    if not isinstance(path, str) or not path or path in (".", "..") or set(path) & set("/\\:"):
        raise WeightsError(f"shard {path!r}: expected the name of a file in the folder of model.json")
    return path


def _entries(weights: list[dict[str, Any]], shards: bytes) -> Iterator[_Entry]:
    """The arrays of one group of the manifest.

    Raises:
        WeightsError: an array of another type, or a group of another size than its shards.
    """
    offset = 0
    for weight in weights:
        name, quantization = str(weight["name"]), weight.get("quantization")
        stored = (quantization or weight).get("dtype")
        if stored not in TYPES or (stored.startswith("uint") and not quantization):
            raise WeightsError(f"{name}: expected float32 weights, or quantized to {', '.join(TYPES)}; got {stored}")
        shape = tuple(int(side) for side in weight["shape"])
        dtype = np.dtype(TYPES[stored])
        size = prod(shape) * dtype.itemsize
        if min(shape, default=1) < 0 or size > MAX_BYTES or offset + size > len(shards):
            raise WeightsError(
                f"{name}: {shape} {stored} needs bytes {offset:,} to {offset + size:,}, but the shards have "
                f"{len(shards):,}; download them again"
            )
        scale, minimum = None, 0.0
        if dtype.kind == "u" and quantization:
            scale, minimum = float(quantization["scale"]), float(quantization["min"])
        yield _Entry(name, shape, dtype, scale, minimum, memoryview(shards)[offset : offset + size])
        offset += size
    if offset != len(shards):
        raise WeightsError(
            f"the shards have {len(shards):,} bytes, the manifest describes {offset:,}; download both again"
        )


def _layers(config: dict[str, Any], entries: list[_Entry]) -> Iterator[StoredLayer]:
    """Layers with their arrays, in the order of the config; those of no layer of it come last.

    A manifest names the layers of nested models without the model's name, or with other scopes in front.
    """
    by_owner: dict[str, list[_Entry]] = {}
    for entry in entries:
        by_owner.setdefault(entry.name.rpartition("/")[0], []).append(entry)
    for full in _full_names(config, "", 0):
        inner = full.rpartition("/")[2]
        owner = full if full in by_owner else inner
        if owner not in by_owner:
            owner = next((name for name in by_owner if name.endswith(f"/{inner}")), "")
        if owner in by_owner:
            yield _layer(full, by_owner.pop(owner))
    for owner, rest in by_owner.items():
        yield _layer(owner, rest)


def _layer(name: str, entries: list[_Entry]) -> StoredLayer:
    arrays = [
        StoredArray(entry.name, entry.name.rpartition("/")[2], entry.shape, np.dtype(np.float32), entry.read)
        for entry in entries
    ]
    return StoredLayer(name, name.partition("/")[0], kind_by_arrays(arrays), name, tuple(arrays))


def _full_names(entry: dict[str, Any], prefix: str, depth: int) -> Iterator[str]:
    """`outer/inner` of every layer of a config that is not a model itself."""
    if depth > MAX_DEPTH:
        raise WeightsError(f"models are nested deeper than {MAX_DEPTH} levels")
    settings = entry["config"]
    for layer in settings if isinstance(settings, list) else settings["layers"]:
        name = prefix + str(layer.get("name") or layer["config"]["name"])
        if isinstance(layer["config"], list) or "layers" in layer["config"]:
            yield from _full_names(layer, f"{name}/", depth + 1)
        else:
            yield name
