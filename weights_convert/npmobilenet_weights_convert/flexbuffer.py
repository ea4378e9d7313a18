"""FlexBuffers: values that carry their types, as the options of operators that are not TensorFlow Lite's own.

A value is found from the end: the last byte is the width of the root, the one before it its type. A map is a vector of
values with a vector of keys; in front of its values stand the distance to the keys, their width, and their number, and
after them a byte of type for each.

Source: the FlexBuffers binary format (flatbuffers.dev, "FlexBuffers").
"""

from typing import Any

from npmobilenet_weights_convert.flatbuffer import DamagedFileError, read

SIGNED, UNSIGNED, FLOAT, BOOL, MAP = 1, 2, 3, 26, 9
INDIRECT = {6: SIGNED, 7: UNSIGNED, 8: FLOAT}
WIDTHS = {
    (SIGNED, 1): "b", (SIGNED, 2): "h", (SIGNED, 4): "i", (SIGNED, 8): "q",
    (UNSIGNED, 1): "B", (UNSIGNED, 2): "H", (UNSIGNED, 4): "I", (UNSIGNED, 8): "Q",
    (BOOL, 1): "B", (BOOL, 2): "H", (BOOL, 4): "I", (BOOL, 8): "Q", (FLOAT, 4): "f", (FLOAT, 8): "d",
}  # fmt: skip
MOST_VALUES, LONGEST_NAME = 256, 256


def read_map(data: bytes) -> dict[str, Any]:
    """The numbers of a map by name; empty for no bytes. Values of other types are left out.

    Raises:
        DamagedFileError: the bytes are not a map, or lead outside themselves.
    """
    if not data:
        return {}
    if len(data) < 3 or data[-2] >> 2 != MAP:
        raise DamagedFileError("options of an operator: expected a FlexBuffers map")
    place, width = _follow(data, len(data) - 2 - data[-1], data[-1]), 1 << (data[-2] & 3)
    keys, key_width = _follow(data, place - 3 * width, width), _unsigned(data, place - 2 * width, width)
    count = _unsigned(data, place - width, width)
    if count > MOST_VALUES:
        raise DamagedFileError(f"options of an operator: {count} values, expected at most {MOST_VALUES}")
    found = {}
    for number in range(count):
        key = _text(data, _follow(data, keys + number * key_width, key_width))
        kind = read(data, "B", place + count * width + number)
        value = _value(data, place + number * width, width, kind)
        if value is not None:
            found[key] = value
    return found


def _value(data: bytes, place: int, width: int, packed: int) -> Any:
    kind = packed >> 2
    if kind in INDIRECT:
        place, width, kind = _follow(data, place, width), 1 << (packed & 3), INDIRECT[kind]
    if (kind, width) not in WIDTHS:
        return None
    value = read(data, WIDTHS[kind, width], place)
    return bool(value) if kind == BOOL else value


def _follow(data: bytes, place: int, width: int) -> int:
    """Where a reference leads: backward."""
    return place - _unsigned(data, place, width)


def _unsigned(data: bytes, place: int, width: int) -> int:
    if (UNSIGNED, width) not in WIDTHS:
        raise DamagedFileError(f"options of an operator: a width of {width} bytes")
    return int(read(data, WIDTHS[UNSIGNED, width], place))


def _text(data: bytes, start: int) -> str:
    end = data.find(b"\0", start, start + LONGEST_NAME) if 0 <= start < len(data) else -1
    if end < 0:
        raise DamagedFileError("options of an operator: a name leads outside, or has no end")
    return data[start:end].decode("utf-8", "replace")
