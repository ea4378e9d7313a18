"""TensorFlow.js layers models, written as its converter writes them: model.json, and the weights in shards."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from npmobilenet.types import Array

INTEGERS = {"uint8": 255, "uint16": 65535}


def write_tfjs(model: Any, folder: Path, *, stored: str = "float32", shard: int = 1 << 22) -> Path:
    """Write a Keras 2 model.

    Args:
        model: of tf_keras; layers of nested models are named without their model.
        folder: is created.
        stored: "float32", "float16", "uint8" or "uint16".
        shard: bytes per shard.
    """
    folder.mkdir()
    entries, data = [], b""
    for layer in all_layers(model):
        for variable, values in zip(layer.weights, layer.get_weights(), strict=True):
            name = f"{layer.name}/{variable.name.rpartition('/')[2].partition(':')[0]}"
            entry, stored_bytes = _entry(name, values, stored)
            entries.append(entry)
            data += stored_bytes
    paths = [f"group1-shard{number + 1}.bin" for number in range(-(-len(data) // shard))]
    for number, path in enumerate(paths):
        (folder / path).write_bytes(data[number * shard : (number + 1) * shard])
    topology = {"keras_version": "tfjs-layers 1.3.1", "backend": "tensor_flow.js", **json.loads(model.to_json())}
    document = {"modelTopology": topology, "weightsManifest": [{"paths": paths, "weights": entries}]}
    (folder / "model.json").write_text(json.dumps(document))
    return folder


def all_layers(model: Any) -> list[Any]:
    """Layers with those of nested models in place."""
    return [inner for layer in model.layers for inner in (all_layers(layer) if hasattr(layer, "layers") else [layer])]


def _entry(name: str, values: Array, stored: str) -> tuple[dict[str, Any], bytes]:
    """An array in the manifest, and its bytes."""
    entry: dict[str, Any] = {"name": name, "shape": list(values.shape), "dtype": "float32"}
    if stored == "float32":
        return entry, values.astype("<f4").tobytes()
    if stored == "float16":
        return entry | {"quantization": {"dtype": "float16", "original_dtype": "float32"}}, values.astype(
            "<f2"
        ).tobytes()
    low, high = float(values.min()), float(values.max())
    scale = (high - low) / INTEGERS[stored] or 1.0
    quantized = (
        np.round((values.astype(np.float64) - low) / scale).astype(stored).astype(np.dtype(stored).newbyteorder("<"))
    )
    return entry | {"quantization": {"dtype": stored, "min": low, "scale": scale}}, quantized.tobytes()
