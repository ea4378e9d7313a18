"""Memory: offsets for values that live for a while, packed weights, and the buffers of one image.

All activations of an image are in one block, the arena; values whose lives do not overlap share its bytes.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import numpy as np
from npmobilenet_kernels.runtime import packing
from npmobilenet_kernels.runtime.thread_pool import new_job
from numpy.typing import ArrayLike

from npmobilenet.compiler.blocking import round_up
from npmobilenet.types import Array, Pair, Shape

FLOAT_BYTES = 4
FLOAT32 = np.dtype(np.float32)
ALIGNMENT = 64  # bytes: a cache line, and the widest vector

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Place:
    """The place of a value in the arena, [blocks][pixels][width of a vector].

    Attributes:
        offset: bytes from the arena's start.
        blocks: blocks of channels, a vector each; the last is filled up.
        shape: of the value, without the batch axis.
    """

    offset: int
    blocks: int
    shape: Shape

    @property
    def pixels(self) -> int:
        """H * W; of any other value the product of all axes but the last, 1 for a vector."""
        return prod(self.shape[:-1])


@dataclass(frozen=True)
class Memory:
    """The arena of a plan.

    Attributes:
        places: the place of every stored value.
        size: bytes in total.
        width: values per vector.
        stored: {name of a value: name under which it is stored}.
        dtype: of the values.
    """

    places: Mapping[str, Place]
    size: int
    width: int
    stored: Mapping[str, str]
    dtype: np.dtype[Any] = FLOAT32

    def __getitem__(self, name: str) -> Place:
        return self.places[self.stored[name]]


def allocate(sizes: Mapping[Name, int], lives: Mapping[Name, Pair], align: int = 1) -> tuple[dict[Name, int], int]:
    """Offsets for values that live from one step to another, so that two which live at once never overlap.

    Each value gets the lowest offset that is free for its whole life. The order in which they are placed decides how
    well they fit; the best of three is taken: the largest first, of equal ones the earlier or the later, and by time.

    Args:
        sizes: bytes of each value.
        lives: first and last step of each value, both included.
        align: divides every offset, in bytes.

    Returns:
        (offset of each value, bytes in total).

    Source: Pisarchyk & Lee 2020 (arXiv:2001.03288), section 5, "greedy by size".
    """
    orders = (
        sorted(sizes, key=lambda name: (-sizes[name], lives[name][0])),
        sorted(sizes, key=lambda name: (-sizes[name], -lives[name][0])),
        sorted(sizes, key=lambda name: (lives[name][0], -sizes[name])),
    )
    return min((_placed(order, sizes, lives, align) for order in orders), key=lambda placed: placed[1])


def _placed(
    order: Sequence[Name], sizes: Mapping[Name, int], lives: Mapping[Name, Pair], align: int
) -> tuple[dict[Name, int], int]:
    offsets: dict[Name, int] = {}
    for name in order:
        first, last = lives[name]
        occupied = sorted(
            (offset, offset + sizes[other])
            for other, offset in offsets.items()
            if lives[other][0] <= last and first <= lives[other][1]
        )
        offset = 0
        for begin, end in occupied:
            if offset + sizes[name] <= begin:
                break
            offset = max(offset, round_up(end, align))
        offsets[name] = offset
    return offsets, max((offset + sizes[name] for name, offset in offsets.items()), default=0)


class PackedWeights:
    """Packed arrays, one after another in one aligned block of memory.

    Args:
        capacity: bytes that will probably do; the block grows where they do not. Unused bytes cost nothing, since the
            operating system provides memory when it is first written.
    """

    def __init__(self, capacity: int) -> None:
        self._floats = aligned_floats(capacity)
        self._used = 0

    def add(self, values: ArrayLike) -> int:
        """Append the values; returns their offset in bytes."""
        array = np.asarray(values, np.float32)
        offset, floats = self._take(array.size)
        floats[:] = array.ravel()
        return offset

    def add_bytes(self, values: Array) -> int:
        """Append the values in their own type; returns their offset in bytes."""
        offset, floats = self._take(-(-values.nbytes // FLOAT_BYTES))
        floats.view(np.uint8)[: values.nbytes] = np.ascontiguousarray(values).view(np.uint8).ravel()
        return offset

    def add_matrix(self, kernel: Array, lanes: int, panel: int = 1) -> int:
        """Append a (K, N) matrix, packed in place; returns its offset in bytes."""
        offset, floats = self._take(packing.packed_size(kernel.shape, lanes))
        packing.pack_matrix(kernel, lanes, panel, out=floats)
        return offset

    def _take(self, count: int) -> tuple[int, packing.Floats]:
        """The next `count` floats, zeros: their offset in bytes, and the array."""
        begin, end = self._used, self._used + round_up(count * FLOAT_BYTES, ALIGNMENT) // FLOAT_BYTES
        if end > self._floats.size:
            packed = self.packed
            self._floats = aligned_floats(2 * end * FLOAT_BYTES)
            self._floats[:begin] = packed
        self._used = end
        return begin * FLOAT_BYTES, self._floats[begin : begin + count]

    @property
    def packed(self) -> packing.Floats:
        """All values in one array, each at the offset that `add` returned."""
        return self._floats[: self._used]


class Workspace:
    """The memory of one image on its way through the network: activations, and scratch for every thread.

    Args:
        memory: the plan's arena.
        scratch_bytes: bytes of scratch per thread.
    """

    def __init__(self, memory: Memory, scratch_bytes: int) -> None:
        self._memory = memory
        self.activations = aligned_floats(memory.size)
        self.address = self.activations.ctypes.data
        self._scratch_bytes = scratch_bytes
        self.scratch = aligned_floats(scratch_bytes)
        self.job = new_job()
        self.others: dict[str, Array] = {}  # values that are not in the arena

    def make_room(self, threads: int) -> None:
        """Have scratch for that many threads, one after another."""
        if self.scratch.nbytes < threads * self._scratch_bytes:
            self.scratch = aligned_floats(threads * self._scratch_bytes)

    def blocks(self, name: str) -> Array:
        """The stored value, [blocks][pixels][width of a vector], not copied."""
        place, memory = self._memory[name], self._memory
        values = self.activations.view(memory.dtype)
        begin = place.offset // memory.dtype.itemsize
        size = place.blocks * place.pixels * memory.width
        return values[begin : begin + size].reshape(place.blocks, place.pixels, memory.width)

    def value(self, name: str, shape: Shape) -> Array:
        """A copy of the value as an array of `shape`."""
        return packing.from_blocks(self.blocks(name), shape)


def aligned_floats(size: int) -> packing.Floats:
    """Zeros, `size` bytes from an address that ALIGNMENT divides."""
    floats = np.zeros(size // FLOAT_BYTES + ALIGNMENT // FLOAT_BYTES, np.float32)
    skip = -floats.ctypes.data % ALIGNMENT // FLOAT_BYTES
    return floats[skip : skip + size // FLOAT_BYTES]
