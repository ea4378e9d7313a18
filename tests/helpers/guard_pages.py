"""Buffers between guard pages: one byte too far ends the process."""

import ctypes
import mmap
from functools import cache

import numpy as np

BESIDE = 4 * 2**20  # bytes on either side that must not be accessed; more than any map of a published network
NO_ACCESS, READ_ONLY = 0, 1  # PROT_NONE, PROT_READ
PAGE = mmap.PAGESIZE


class GuardedBuffer:
    """`size` bytes, filled with NaN, between guard pages.

    Pages cannot be cut, so only one side is exact: beyond the other may lie a few bytes, less than a page, that are
    free.

    Args:
        size: in bytes, a multiple of 4.
        at_end: the guard page begins exactly after the buffer; else they end exactly before it.
    """

    def __init__(self, size: int, at_end: bool = True) -> None:
        whole = -(-size // PAGE) * PAGE
        self._map = mmap.mmap(-1, whole + 2 * BESIDE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._pages = ctypes.addressof(ctypes.c_char.from_buffer(self._map)) + BESIDE, whole
        skip = whole - size if at_end else 0
        self.floats = np.frombuffer(self._map, np.float32, size // 4, BESIDE + skip)
        self.floats[:] = np.nan
        self.address = self._pages[0] + skip
        _protect(self._pages[0] - BESIDE, BESIDE, NO_ACCESS)
        _protect(self._pages[0] + whole, BESIDE, NO_ACCESS)

    def forbid_writing(self) -> None:
        """From now on a write to the buffer ends the process too."""
        _protect(*self._pages, READ_ONLY)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _protect(address: int, size: int, access: int) -> None:
    if _libc().mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), access):
        raise OSError(ctypes.get_errno(), "mprotect")
