"""Checks of what makes the HDF5 library hang or take gigabytes: global heaps, and the references to their texts.

    GCOL, version 1, 0 0 0, size of the collection, then objects:
    index (2 bytes), references (2), 0 0 0 0, size of the object, its bytes; each part padded to a multiple of 8

An object of index 0 is free space, and its size includes its header. If an object has size zero, the library reads it
again forever, and no signal reaches Python.

An attribute of texts holds, after its type and its dataspace, a reference to each: length (4 bytes), address of the
collection, index (4 bytes). The library allocates the length before it looks for the collection.

Source: HDF5 File Format Specification 3.0, sections III.E, IV.A.2.b, IV.A.2.d, IV.A.2.m.
"""

import re
from math import prod

from npmobilenet.errors import WeightsError
from npmobilenet.limits import check_inflated

SIGNATURE = b"GCOL\x01\x00\x00\x00"
WRAP = 1 << 64  # sums of sizes are unsigned 64-bit integers
SIZES_AT = {0: 14, 1: 14, 2: 10, 3: 10}  # offset of the width of a size, by version of the superblock
VARIABLE_LENGTH = re.compile(rb"[\x19\x29\x39\x49]...[\x0c\x10]\x00\x00\x00", re.DOTALL)  # class 9, size of a reference
SPACES = {1: 8, 2: 4}  # bytes of a dataspace up to its sides, by version
PROPERTIES = {0: 4, 3: 0}  # bytes that follow the 8 of a type, by class: integers and texts
MAX_RANK = 4  # of an array of texts


def check_global_heaps(where: str, data: bytes) -> None:
    """Check that every global heap in a file ends.

    Args:
        where: the file, for messages.
        data: contents of an HDF5 file.

    Raises:
        WeightsError: an object has size zero.
    """
    at = SIZES_AT.get(int.from_bytes(data[8:9], "little"))
    width = data[at] if at is not None and at < len(data) else 8  # bytes of a size
    heap = data.find(SIGNATURE)
    while heap >= 0:
        _check_heap(where, data, heap, width)
        heap = data.find(SIGNATURE, heap + len(SIGNATURE))


def _check_heap(where: str, data: bytes, heap: int, width: int) -> None:
    header = _padded(8 + width)
    collection = int.from_bytes(data[heap + 8 : heap + 8 + width], "little")
    end = min(heap + collection, len(data))
    offset = heap + header
    while offset + header <= end:
        index = int.from_bytes(data[offset : offset + 2], "little")
        size = int.from_bytes(data[offset + 8 : offset + 8 + width], "little")
        step = (size if index == 0 else header + _padded(size)) % WRAP
        if step == 0:
            raise WeightsError(
                f"{where}: corrupt: the global heap at byte {heap} does not end; save or download the file again"
            )
        offset += step


def _padded(size: int) -> int:
    return -(-size // 8) * 8


def check_lengths(where: str, data: bytes) -> None:
    """Check the lengths of all texts of variable length in attributes.

    Args:
        where: the file, for messages.
        data: contents of an HDF5 file.

    Raises:
        NpMobileNetError: the texts of one attribute are beyond the limit.
    """
    for match in VARIABLE_LENGTH.finditer(data):
        width = data[match.start() + 4] - 8  # bytes of an address
        first, count = _references(data, match.end())
        places = range(first, min(first + count * (8 + width), len(data) - 3), 8 + width)
        lengths = sum(int.from_bytes(data[place : place + 4], "little") for place in places)
        check_inflated("the texts of an attribute", lengths, len(data))


def _references(data: bytes, base: int) -> tuple[int, int]:
    """Place and number of the references of an attribute, given the place of the type of one character.

    In attributes of version 1 the type is padded with zeros.
    """
    kind = data[base] & 15 if base < len(data) else -1
    end = 8 + PROPERTIES.get(kind, 0)
    for space in (base + end, base - 8 + _padded(end + 8)):
        version, rank, flags = data[space : space + 3].ljust(3, b"\0")
        if version not in SPACES or rank > MAX_RANK or (version == 1 and any(data[space + 3 : space + 8])):
            continue
        first = space + SPACES[version]
        sides = [int.from_bytes(data[place : place + 8], "little") for place in range(first, first + 8 * rank, 8)]
        return first + 8 * rank * (1 + (flags & 1)), prod(sides)
    return 0, 0
