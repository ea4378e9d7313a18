"""FlatBuffers: tables of fields, strings and vectors in one block of bytes, read where they stand.

A table is at an offset; in front of it, a signed distance leads to its vtable, which has the place of every field, 0
for one that is left out. Strings, vectors and other tables are unsigned distances from the field that refers to them,
so that references only lead forward.

Source: the FlatBuffers binary format (flatbuffers.dev, "Internals").
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npmobilenet.errors import WeightsError
from npmobilenet.types import Array

SHARING = 8  # times that the bytes of a file may be taken out; writers let tables share a few
SMALL = 1 << 16  # bytes that may always be taken out
LARGEST_COUNT = 100_000  # tables in one vector


class DamagedFileError(WeightsError):
    """An offset or a length that leads out of the file, or tables that share their bytes without end."""


@dataclass
class Allowance:
    """Bytes that may still be taken out of a file: were all of many tables to share one vector, they would
    fill the memory.

    Args:
        left: number of bytes.
    """

    left: int

    def take(self, size: int) -> None:
        """Take out some bytes.

        Raises:
            DamagedFileError: fewer are left.
        """
        self.left -= size
        if self.left < 0:
            raise DamagedFileError(
                f"its tables share bytes, with more than {SHARING} times the size of the file in all: it is damaged"
            )


@dataclass(frozen=True)
class Table:
    """A table in `data` at `place`."""

    data: bytes
    place: int
    allowance: Allowance = field(repr=False)

    def number(self, slot: int, code: str, default: float = 0) -> Any:
        """A number; `code` is its type as in `struct`."""
        place = self._field(slot)
        return default if place is None else read(self.data, code, place)

    def string(self, slot: int) -> str:
        """A string; empty if it is left out."""
        start, count = self._vector(slot)
        return self._bytes(start, count).decode("utf-8", "replace")

    def numbers(self, slot: int, dtype: str) -> Array:
        """A vector of numbers, by NumPy's name of the type; empty if it is left out."""
        start, count = self._vector(slot)
        size = count * np.dtype(dtype).itemsize
        return np.frombuffer(self._bytes(start, size), np.dtype(dtype).newbyteorder("<"))

    def table(self, slot: int) -> "Table | None":
        """Another table; None if it is left out."""
        place = self._field(slot)
        return None if place is None else self._referred(place)

    def tables(self, slot: int) -> Sequence["Table"]:
        """A vector of tables; empty if it is left out."""
        start, count = self._vector(slot)
        if count > LARGEST_COUNT:
            raise DamagedFileError(f"{count} tables at {start}, expected at most {LARGEST_COUNT}: it is damaged")
        return [self._referred(place) for place in range(start, start + 4 * count, 4)]

    def _referred(self, place: int) -> "Table":
        return Table(self.data, place + read(self.data, "I", place), self.allowance)

    def _field(self, slot: int) -> int | None:
        vtable = self.place - read(self.data, "i", self.place)
        entry = 4 + 2 * slot
        if entry >= read(self.data, "H", vtable):
            return None
        offset = read(self.data, "H", vtable + entry)
        return self.place + offset if offset else None

    def _vector(self, slot: int) -> tuple[int, int]:
        """First byte and number of elements."""
        place = self._field(slot)
        if place is None:
            return 0, 0
        start = place + read(self.data, "I", place)
        return start + 4, read(self.data, "I", start)

    def _bytes(self, start: int, size: int) -> bytes:
        if start + size > len(self.data):
            raise DamagedFileError(f"{size} bytes at {start} of a file of {len(self.data)}: it is damaged or cut off")
        self.allowance.take(size)
        return self.data[start : start + size]


def root(data: bytes) -> Table:
    """The table that a file begins with."""
    return Table(data, read(data, "I", 0), Allowance(SHARING * len(data) + SMALL))


def read(data: bytes, code: str, place: int) -> Any:
    """One number.

    Raises:
        DamagedFileError: it is outside the file.
    """
    size = struct.calcsize(code)
    if not 0 <= place <= len(data) - size:
        raise DamagedFileError(f"an offset leads to byte {place} of a file of {len(data)}: it is damaged or cut off")
    return struct.unpack_from("<" + code, data, place)[0]
