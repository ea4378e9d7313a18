"""Check of the one part of an HDF5 file on which the library can hang: global heaps, which hold variable-length data.

    GCOL, version 1, 0 0 0, size of the collection, then objects:
    index (2 bytes), references (2), 0 0 0 0, size of the object, its bytes; each part padded to a multiple of 8

An object of index 0 is free space, and its size includes its header. If an object has size zero, the library reads it
again forever, and no signal reaches Python.

Source: HDF5 File Format Specification 3.0, section III.E.
"""

from npmobilenet.errors import WeightsError

SIGNATURE = b"GCOL\x01\x00\x00\x00"
WRAP = 1 << 64  # sums of sizes are unsigned 64-bit integers
SIZES_AT = {0: 14, 1: 14, 2: 10, 3: 10}  # offset of the width of a size, by version of the superblock


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
