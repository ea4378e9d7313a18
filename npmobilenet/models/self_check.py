"""The self-check: a digest of every layer's output on a synthetic image, stored in the file with the weights.

It is computed by the reference in float64, so a later run on any machine must give the same digests to within rounding.
A quantized network's integers must be the same exactly.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from npmobilenet.types import Array, Shape

DIGITS_KEPT = 16
TOLERANCE = 1e-9  # of the root mean square: float64 rounding (1e-16) over some hundred layers, far below a wrong weight


def synthetic_image(shape: Shape) -> Array:
    """Test image of the self-check, (H, W, C) integers in 0..255: (37 i + 57 j + 101 c + i j) mod 256."""
    H, W, C = shape
    i, j, c = np.ogrid[:H, :W, :C]
    return np.asarray((37 * i + 57 * j + 101 * c + i * j) % 256)


def layer_digests(computed: Iterable[tuple[str, Array]], outputs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Digests of the outputs (1, ...) of all layers, by name, in the order of the graph.

    Args:
        computed: every layer's output.
        outputs: of the network, as in its graph.

    Returns:
        {"output": values of the network's output if it is a vector, else None, or of several {name: the same};
        "layers": {name: [mean, root mean square, mean of y[k] * cos(k)]}}. The third number detects values in the
        wrong place.
    """
    layers, kept = {}, {layer for _, layer in outputs}
    values: dict[str, Any] = {}
    for name, y in computed:
        layers[name] = _digest(y)
        if name in kept:
            values[name] = y[0].tolist() if y.ndim == 2 else None
    named = {name: values[layer] for name, layer in outputs}
    return {"output": named if len(named) > 1 else values[outputs[0][1]], "layers": layers}


def changed_layers(stored: Mapping[str, Any], computed: Mapping[str, Any]) -> list[str]:
    """Names of the layers whose digests differ from the stored ones by more than `TOLERANCE`, in order."""
    return [name for name, digest in computed["layers"].items() if not _same(stored["layers"].get(name), digest)]


def tensor_digests(computed: Iterable[tuple[str, Array]]) -> dict[str, Any]:
    """Hashes of the integers (1, ...) of all tensors, by name, in the order in which they are computed.

    Returns:
        {"tensors": {name: the first 16 hexadecimal digits of the SHA-256 of type, shape and bytes, little endian}}.
    """
    return {"tensors": {name: _exact_digest(y) for name, y in computed}}


def changed_tensors(stored: Mapping[str, Any], computed: Mapping[str, Any]) -> list[str]:
    """Names of the tensors whose digests differ from the stored ones, in order."""
    return [name for name, digest in computed["tensors"].items() if stored["tensors"].get(name) != digest]


def _exact_digest(y: Array) -> str:
    values = np.ascontiguousarray(y, y.dtype.newbyteorder("<"))
    return sha256(f"{y.dtype} {y.shape} ".encode() + values.tobytes()).hexdigest()[:DIGITS_KEPT]


def _digest(y: Array) -> list[float]:
    values = y.ravel().astype(np.float64)
    return [
        float(values.mean()),
        float(np.sqrt(np.mean(values * values))),
        float(np.mean(values * np.cos(np.arange(values.size)))),
    ]


def _same(stored: Sequence[float] | None, computed: Sequence[float]) -> bool:
    if stored is None:
        return False
    allowed = TOLERANCE * max(abs(stored[1]), np.finfo(np.float64).tiny)
    return all(abs(a - b) <= allowed for a, b in zip(stored, computed, strict=True))
