"""Checks of the document in a model file: a right hash says that it is what was written, not that it makes sense."""

from collections.abc import Callable, Collection, Mapping
from math import isfinite
from typing import Any, cast

from npmobilenet.errors import WeightsError
from npmobilenet.reference.graph import Graph


def check_fields(document: Mapping[str, Any]) -> None:
    """Check the fields that float and quantized models share.

    Raises:
        WeightsError: a field has another type or range.
    """
    for name, (expected, fits) in FIELDS.items():
        if not fits(document.get(name)):
            raise WeightsError(f"{name} in the header: expected {expected}, got {_shown(document.get(name))}")


def check_digests(check: Any, graph: Graph) -> None:
    """Check a float network's self-check, which may be None.

    Raises:
        WeightsError: it is none, or that of another network.
    """
    if check is None:
        return
    if not (isinstance(check, dict) and isinstance(check.get("layers"), dict) and "output" in check):
        raise WeightsError(f'self_check in the header: expected {{"output", "layers"}} or null, got {_shown(check)}')
    names = {layer.name for layer in graph.layers}
    for name, digest in check["layers"].items():
        if name not in names:
            raise WeightsError(f"self_check in the header: the network has no layer {_shown(name)}")
        if not (isinstance(digest, list) and len(digest) == 3 and all(map(_is_real, digest))):
            raise WeightsError(f"self_check in the header, {name}: expected three numbers, got {_shown(digest)}")


def check_hashes(check: Any, names: Collection[str]) -> None:
    """Check a quantized network's self-check, which may be None.

    Raises:
        WeightsError: it is none, or that of another network.
    """
    if check is None:
        return
    if not (isinstance(check, dict) and isinstance(check.get("tensors"), dict)):
        raise WeightsError(f'self_check in the header: expected {{"tensors"}} or null, got {_shown(check)}')
    for name, digest in check["tensors"].items():
        if name not in names:
            raise WeightsError(f"self_check in the header: the network has no tensor {_shown(name)}")
        if not isinstance(digest, str):
            raise WeightsError(f"self_check in the header, {name}: expected a text, got {_shown(digest)}")


def _is_real(value: object) -> bool:
    """Whether a value is a number, which a network with such weights may make infinite or NaN; not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    return _is_real(value) and isfinite(cast("float", value))


def _is_scaling(value: object) -> bool:
    return isinstance(value, dict) and set(value) == {"scale", "offset"} and all(map(_is_per_channel, value.values()))


def _is_per_channel(value: object) -> bool:
    return _is_finite(value) or (isinstance(value, list) and bool(value) and all(map(_is_finite, value)))


def _is_labels(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in value
    )


def _is_source(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


FIELDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "scaling": ('{"scale", "offset"}, finite numbers or lists of them', _is_scaling),
    "labels": ("a list of pairs of texts", _is_labels),
    "background": ("true or false", lambda value: isinstance(value, bool)),
    "resize": ("a text or null", lambda value: value is None or isinstance(value, str)),
    "source": ("texts by name", _is_source),
}


def _shown(value: object, length: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]}..."
