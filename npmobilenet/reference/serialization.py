"""Layers as JSON documents."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from math import isfinite
from types import UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

from npmobilenet.errors import ShapeError
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import LAYER_TYPES


def layer_to_json(layer: Layer) -> dict[str, Any]:
    """A layer's type and fields."""
    return {"type": layer.type} | {field.name: getattr(layer, field.name) for field in fields(layer)}


def layer_from_json(document: Mapping[str, Any]) -> Layer:
    """The layer of a document of `layer_to_json`.

    Raises:
        ShapeError: the type is unknown, or a field has a value of another type.
        LookupError, TypeError, ValueError, AttributeError: the document does not have the form of a layer.
    """
    document = dict(document)
    kind = document.pop("type")
    if kind not in LAYER_TYPES:
        raise ShapeError(f"{document.get('name')}: unknown layer type {kind!r}; known types: {', '.join(LAYER_TYPES)}")
    layer = LAYER_TYPES[kind](**{name: _tuples(value) for name, value in document.items()})
    for name, hint in _hints(kind).items():
        if get_origin(hint) is not ClassVar and not _fits(getattr(layer, name), hint):
            raise ShapeError(
                f"{document.get('name')}: expected {name} of {kind} as {hint}, got {getattr(layer, name)!r}"
            )
    return layer


@cache
def _hints(kind: str) -> dict[str, Any]:
    return get_type_hints(LAYER_TYPES[kind])


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has the type of a field; a number is no bool."""
    kinds = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, kind) for kind in kinds)
    if get_origin(hint) is tuple:
        kinds = kinds[:1] * len(value) if isinstance(value, tuple) and kinds[-1] is ... else kinds
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if hint is float:
        return type(value) in (int, float) and isfinite(value)
    return type(value) is hint


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
