"""FlatBuffers written: tables, vectors and strings laid out so that every reference leads forward.

A node appends its own bytes and lists the references in it; what they refer to is appended later, and its distance
from the reference is filled in then. The other direction is `flatbuffer`.

Source: the FlatBuffers binary format (flatbuffers.dev, "Internals").
"""

import struct
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from npmobilenet.errors import WeightsError
from npmobilenet.types import Array

WORD = 4  # bytes of a reference and of a length
LARGEST = 2**31 - 1  # bytes: references are 32 bits, and readers take them for signed


@dataclass(frozen=True)
class Number:
    """A number of at most four bytes in a table; `code` is its type as in `struct`."""

    code: str
    value: float


@dataclass(frozen=True)
class Text:
    """A string."""

    text: str

    def append(self, out: bytearray) -> "Placed":
        encoded = self.text.encode()
        _align(out, WORD)
        start = len(out)
        out += struct.pack("<I", len(encoded)) + encoded + b"\0"
        return start, []


@dataclass(frozen=True, eq=False)
class Numbers:
    """A vector of numbers, whose first byte is at a multiple of `alignment`."""

    values: Array
    alignment: int = 8

    def append(self, out: bytearray) -> "Placed":
        values = np.ascontiguousarray(self.values, self.values.dtype.newbyteorder("<")).reshape(-1)
        _align(out, self.alignment, WORD)
        start = len(out)
        out += struct.pack("<I", len(values)) + values.tobytes()
        return start, []


@dataclass(frozen=True)
class Nodes:
    """A vector of tables."""

    nodes: Sequence["Fields"]

    def append(self, out: bytearray) -> "Placed":
        _align(out, WORD)
        start = len(out)
        out += struct.pack("<I", len(self.nodes)) + bytes(WORD * len(self.nodes))
        return start, [(start + WORD * (number + 1), node) for number, node in enumerate(self.nodes)]


@dataclass(frozen=True)
class Fields:
    """A table: fields by slot. Larger ones come first, so that each is aligned."""

    fields: Mapping[int, "Number | Node"]

    def append(self, out: bytearray) -> "Placed":
        entries = 1 + max(self.fields, default=-1)
        size = 2 * (2 + entries)
        _align(out, WORD, size)  # so that the table, which follows its vtable at once, is aligned
        start = len(out) + size
        places, end = {}, start + WORD
        for slot, field in sorted(self.fields.items(), key=lambda item: -_size(item[1])):
            places[slot], end = end, end + _size(field)
        offsets = [places[slot] - start if slot in places else 0 for slot in range(entries)]
        out += struct.pack(f"<HH{entries}Hi", size, end - start, *offsets, size)
        out += bytes(end - len(out))
        references = []
        for slot, field in self.fields.items():
            if isinstance(field, Number):
                struct.pack_into(f"<{field.code}", out, places[slot], field.value)
            else:
                references.append((places[slot], field))
        return start, references


Node = Text | Numbers | Nodes | Fields
Placed = tuple[int, Sequence[tuple[int, Node]]]
"""Where a node begins, and its references: where each is, and to what."""


def flatbuffer(root: Fields, identifier: bytes) -> bytes:
    """The bytes of a file.

    Args:
        root: the table that it begins with.
        identifier: four bytes that name the format.

    Raises:
        WeightsError: it has more than 2 GB.
    """
    out = bytearray(WORD) + identifier
    pending: deque[tuple[int, Node]] = deque([(0, root)])
    while pending:
        place, node = pending.popleft()
        start, references = node.append(out)
        if len(out) > LARGEST:
            raise WeightsError("the network has more than 2 GB, which the format does not hold")
        struct.pack_into("<I", out, place, start - place)
        pending.extend(references)
    return bytes(out)


def _size(field: "Number | Node") -> int:
    return struct.calcsize(field.code) if isinstance(field, Number) else WORD


def _align(out: bytearray, alignment: int, before: int = 0) -> None:
    """Zeros, so that what comes `before` bytes later is at a multiple of `alignment`."""
    out += bytes(-(len(out) + before) % alignment)
