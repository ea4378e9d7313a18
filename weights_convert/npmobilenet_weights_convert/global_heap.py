"""Global heaps of an HDF5 file, which hold variable-length strings and on which the HDF5 library can hang.

    GCOL, version 1, 0 0 0, size of the collection, then consecutive objects:
    index (2 bytes), references (2), 0 0 0 0, size of the object, its bytes; each part filled up to a multiple of 8

An object of index 0 is free space, and its size includes its own header. HDF5 reads an object of size 0 in an endless
loop, and no signal reaches Python.

Source: HDF5 File Format Specification 3.0, section III.E.
"""

from npmobilenet.errors import WeightsError

SIGNATURE = b"GCOL\x01\x00\x00\x00"
WRAP = 1 << 64  # HDF5's sum of sizes wraps around to 0
SIZES_AT = {0: 14, 1: 14, 2: 10, 3: 10}  # offset of the width of a size in the superblock, by its version


def check_global_heaps(where: str, data: bytes) -> None:
    """Check that every global heap in a file ends.

    Args:
        where: the file, for messages.
        data: HDF5, from its signature on.

    Raises:
        WeightsError: an object has size 0.
    """
    at = SIZES_AT.get(int.from_bytes(data[8:9], "little"))
    width = data[at] if at is not None and at < len(data) else 8  # bytes of a size
    heap = data.find(SIGNATURE)
    while heap >= 0:
        _check_heap(where, data, heap, width)
        heap = data.find(SIGNATURE, heap + len(SIGNATURE))


def _check_heap(where: str, data: bytes, heap: int, width: int) -> None:
    header = _filled(8 + width)
    size = int.from_bytes(data[heap + 8 : heap + 8 + width], "little")
    end = min(heap + size, len(data))
    place = heap + header
    while place + header <= end:
        index = int.from_bytes(data[place : place + 2], "little")
        room = int.from_bytes(data[place + 8 : place + 8 + width], "little")
        step = (room if index == 0 else header + _filled(room)) % WRAP
        if step == 0:
            raise WeightsError(
                f"{where}: corrupt: the global heap at byte {heap} does not end; save or download the file again"
            )
        place += step


def _filled(size: int) -> int:
    return -(-size // 8) * 8
