"""The part of JSON Schema that the manifests' schemas use, so that opening golden data needs no other package.

Source: JSON Schema draft 2020-12, core and validation.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


@cache
def schema_named(name: str) -> dict[str, Any]:
    """A schema of this package."""
    document: dict[str, Any] = json.loads((files("npmobilenet") / "data" / name).read_text(encoding="utf-8"))
    return document


def violations(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """What in a document does not fit a schema: the place, what was expected, and what it is.

    Args:
        value: the document, or a part of it.
        schema: its schema, or that of the part.
        root: the whole schema, to which references lead.
        where: path of the part.
    """
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        yield from violations(value, target, root, where)
    yield from (f"{where or 'the document'}: {problem}" for problem in _own(value, schema))
    if isinstance(value, dict):
        yield from _of_object(value, schema, root, where)
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from violations(item, schema["items"], root, f"{where}[{number}]")
    if "anyOf" in schema and all(any(violations(value, one, root, where)) for one in schema["anyOf"]):
        yield f"{where}: fits none of {len(schema['anyOf'])} kinds"
    if "if" in schema and not any(violations(value, schema["if"], root, where)):
        yield from violations(value, schema["then"], root, where)


def _own(value: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    """Problems of a value apart from its parts."""
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(TYPES[kind](value) for kind in kinds):
        yield f"expected {' or '.join(kinds)}, got {_shown(value)}"
        return
    if "const" in schema and not _same(value, schema["const"]):
        yield f"expected {schema['const']!r}, got {_shown(value)}"
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        yield f"expected one of {schema['enum']}, got {_shown(value)}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"expected {schema['pattern']}, got {_shown(value)}"
    if TYPES["number"](value) and not value >= schema.get("minimum", value):  # NaN is below everything
        yield f"expected at least {schema.get('minimum', 'a number')}, got {value}"
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"got {len(value)} items"
        if schema.get("uniqueItems") and len({json.dumps(item) for item in value}) < len(value):
            yield "the same item twice"


def _of_object(value: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], where: str) -> Iterator[str]:
    """Problems of an object's members."""
    own = schema.get("properties", {})
    if missing := [name for name in schema.get("required", ()) if name not in value]:
        yield f"{where or 'the document'}: {', '.join(missing)} is missing"
    if len(value) < schema.get("minProperties", 0):
        yield f"{where}: empty"
    for name, item in value.items():
        place = f"{where}.{name}" if where else name
        if "propertyNames" in schema:
            yield from violations(name, schema["propertyNames"], root, place)
        others = schema.get("additionalProperties", True)
        if name in own:
            yield from violations(item, own[name], root, place)
        elif others is False:
            yield f"{place}: unknown"
        elif isinstance(others, dict):
            yield from violations(item, others, root, place)


def _same(value: Any, other: Any) -> bool:
    """Whether two values are equal, where true is not 1."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def _shown(value: Any, length: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]}..."
