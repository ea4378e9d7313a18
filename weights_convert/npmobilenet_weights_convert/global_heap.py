"""The part of an HDF5 file on which HDF5 itself can hang: global heaps, which hold strings of any length.

    GCOL, version 1, 0 0 0, size of the collection, then objects one after the other:
    index (2 bytes), references (2), 0 0 0 0, size of the object, its bytes; each part filled up to a multiple of 8

An object of index 0 is free space, and its size contains its own header. Where an object takes no room, HDF5 reads it
again for ever, and no signal reaches Python.

Source: HDF5 File Format Specification 3.0, section III.E.
"""

from npmobilenet.errors import WeightsError

SIGNATURE = b"GCOL\x01\x00\x00\x00"
WRAP = 1 << 64  # where HDF5's own sum of sizes begins again at 0
SIZES_AT = {0: 14, 1: 14, 2: 10, 3: 10}  # where the superblock says how many bytes a size has, by its version


def check_global_heaps(where: str, data: bytes) -> None:
    """See that every global heap in a file comes to an end.

    Args:
        where: the file, for messages.
        data: HDF5, from its signature on.

    Raises:
        WeightsError: an object of one takes no room.
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
                f"{where}: damaged: the global heap at byte {heap} does not end; save or download the file again"
            )
        place += step


def _filled(size: int) -> int:
    return -(-size // 8) * 8
