"""What the CPU offers: the vector width, the tiles that fit its registers, and what LLVM is told of it.

LLVM is never told the host's name. What it makes of a tile depends on its model of the CPU: for some names it moves
loads up until the sums no longer fit the registers, at half the speed. So each kind of vector has one fixed model and
one fixed list of instructions, those it needs, and the machine code is the same wherever it is made.
"""

from __future__ import annotations

import functools
import platform
import struct
import sys
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Lanes:
    """Vectors and register tiles for one kind of CPU.

    Attributes:
        width: W, floats in a vector.
        panel: vectors of output channels in a tile of the matrix product; 2, so that every pixel loaded is used twice.
        rows: pixels of the tiles, largest first; the last is 1.
        narrow_rows: the same for the last panel of an odd number of vectors, which is one vector wide, or half of one.
        stem_rows: pixels of the first convolution's tiles, for whole and for narrow panels.
        streams: vectors of a dense layer's output computed at once, each from its own stream of weights, largest first,
            so that many lines are on their way at once. The last is 1.
        needs: features of the CPU, by LLVM's names, without which its code does not run.
        cpu: the model by which LLVM orders instructions; features: what it adds to the model's instructions or leaves
            out of them.
        by_lane: whether a multiply-add can take one lane of a register for all: the values of a pixel are then loaded
            as vectors instead of one by one.
        halves: whether half a vector is worth a tile of its own, for output channels that leave the other half empty:
            some CPUs do a wide multiply-add in two halves, and in half the time if there is one.
        unroll: values of k in a round of the product's sum, a divisor of `width`. Each round fetches a line of the next
            panel, so that four tiles fetch it all.
    """

    width: int
    panel: int
    rows: tuple[int, ...]
    narrow_rows: tuple[int, ...]
    stem_rows: tuple[int, int]
    streams: tuple[int, ...]
    needs: frozenset[str] = frozenset()
    cpu: str = "generic"
    features: str = ""
    by_lane: bool = False
    halves: bool = False
    unroll: int = 4


UNUSED = "-bmi,-bmi2,-lzcnt,-movbe,-xsave"  # of x86-64-v3 and v4; a virtual machine may hide them
AVX512_NEEDS = frozenset({"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})

# 32 registers with AVX-512: 14 x 2 accumulators, 2 weights, 1 pixel. That is 16 loads for 28 multiply-adds, where 28 x
# 1 has 29, and the CPU two of each in a cycle. 10 rows for 7 x 7, where five tiles of 10 waste one pixel.
AVX512 = Lanes(
    16, 2, (14, 13, 12, 10, 8, 4, 1), (28, 25, 16, 8, 1), (14, 16), (8, 1), AVX512_NEEDS, "x86-64-v4", UNUSED,
    halves=True, unroll=2,
)  # fmt: skip
# 16 registers: 6 x 2 accumulators, 2 weights, 1 pixel.
AVX2 = Lanes(
    8, 2, (6, 5, 4, 2, 1), (10, 8, 4, 1), (6, 10), (8, 1), frozenset({"avx2", "fma", "f16c"}), "x86-64-v3", UNUSED
)
# 16 registers, one of which holds each product before it is added.
SSE2 = Lanes(4, 2, (5, 4, 2, 1), (8, 4, 1), (4, 8), (8, 1), cpu="x86-64")
# 32 registers: 8 x 2 accumulators, 2 weights, and four values of each of 8 pixels.
NEON = Lanes(4, 2, (8, 7, 6, 4, 2, 1), (12, 8, 4, 1), (8, 12), (8, 1), by_lane=True)

FAMILIES = {"x86_64": (AVX512, AVX2, SSE2), "aarch64": (NEON,)}  # by architecture, widest first
OTHER_NAMES = {"amd64": "x86_64", "arm64": "aarch64"}


def family() -> tuple[Lanes, ...]:
    """The kinds of vector of this machine's architecture, widest first.

    Raises:
        ImportError: there are no kernels for this architecture.
    """
    machine = platform.machine().lower()
    name = OTHER_NAMES.get(machine, machine)
    if name not in FAMILIES or struct.calcsize("P") != 8 or sys.byteorder != "little":
        raise ImportError(
            f"there are compiled kernels for 64-bit x86 and ARM, not for {machine} with {8 * struct.calcsize('P')}-bit "
            f"addresses, {sys.byteorder}-endian; the NumPy reference computes here"
        )
    return FAMILIES[name]


def usable(kinds: Collection[Lanes], features: Collection[str]) -> dict[int, Lanes]:
    """Those of `kinds` that a CPU with these features can run, by width."""
    return {kind.width: kind for kind in kinds if kind.needs.issubset(features)}


@functools.cache
def host_lanes() -> dict[int, Lanes]:
    """Vectors that this CPU and operating system handle, by width, widest first."""
    kinds = family()
    if len(kinds) == 1:
        return usable(kinds, ())
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return usable(kinds, {name for name, has in features.items() if has})


def lanes(width: int | None = None) -> Lanes:
    """Vectors for this CPU, at most `width` floats wide (None: as wide as it has)."""
    return next(kind for kind in host_lanes().values() if width is None or kind.width <= width)


def tile_rows(pixels: int, choice: tuple[int, ...]) -> int:
    """The tile height for a map of so many pixels: least work, counting the pixels that the last tile computes again.

    A round of a tile costs its rows, plus about one more for the loads of weights.
    """
    fitting = [rows for rows in choice if rows <= pixels]
    return min(fitting, key=lambda rows: -(-pixels // rows) * (rows + 1))
