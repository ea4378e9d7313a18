"""Nested lists of numbers, in CPython and in MicroPython alike."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


def filled(shape: tuple, value: "Callable[..., Any]") -> list:
    """Nested lists with value(i, j, ...) at every index."""
    if len(shape) == 1:
        return [value(i) for i in range(shape[0])]
    return [filled(shape[1:], lambda *rest, i=i: value(i, *rest)) for i in range(shape[0])]


def shape_of(value: "Any") -> "tuple | None":
    """Shape of nested lists, () of a number, None if rows differ in length."""
    if not isinstance(value, list):
        return ()
    shapes = [shape_of(item) for item in value]
    if not shapes:
        return (0,)
    if shapes[0] is None or any(shape != shapes[0] for shape in shapes):
        return None
    return (len(value),) + shapes[0]


def places(value: "Any", index: tuple = ()) -> "Iterator[tuple[tuple, Any]]":
    """(index, number) of every number in nested lists, in order."""
    if isinstance(value, list):
        for k in range(len(value)):
            yield from places(value[k], index + (k,))
    else:
        yield index, value


def at(value: "Any", index: tuple) -> "Any":
    """The value at an index; None if there is none."""
    for k in index:
        if not isinstance(value, list) or k >= len(value):
            return None
        value = value[k]
    return value


def plain(value: "Any") -> "Any":
    """Arrays and tuples as nested lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def is_number(value: "Any") -> bool:
    return isinstance(value, (int, float))


def number(value: "Any", digits: int = 6) -> str:
    """A value as it is printed, the same in every Python."""
    if value is None:
        return "missing"
    if not is_number(value):
        return f"a list of shape {shape_of(value)}" if isinstance(value, list) else repr(value)
    return str(int(value)) if abs(value) < 1e15 and value == int(value) else f"{value:.{digits}g}"


def subscript(name: str, index: tuple) -> str:
    return name + "".join(f"[{k}]" for k in index)
