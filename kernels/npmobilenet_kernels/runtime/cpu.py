"""CPU targets: the vector width, the tiles that fit the registers, and the model that LLVM schedules for.

LLVM never gets the host's name. Its code for a tile depends on its model of the CPU: for some names it hoists loads
until the sums no longer fit the registers, at half the speed. So each target has one fixed model and one fixed list of
instructions, those it uses, and the machine code is the same wherever it is generated.
"""

from __future__ import annotations

import functools
import platform
import struct
import sys
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class CpuTarget:
    """Vectors and register tiles of one family of CPUs.

    Attributes:
        width: L, lanes of a vector (floats).
        panel: NR / L, vectors of output channels in a tile of the matrix product; 2, so that every pixel loaded is
            used twice.
        rows: MR of the tiles, largest first; the last is 1.
        narrow_rows: the same for the last panel of an odd number of vectors, which is one vector wide, or half of one.
        stem_rows: MR of the direct convolution's tiles, for whole and for narrow panels.
        streams: vectors of a dense layer's output computed at once, each from its own stream of weights, largest first,
            so that many cache lines are in flight. The last is 1.
        needs: features of the CPU, by LLVM's names, without which its code does not run.
        cpu: LLVM's model for instruction scheduling; features: instructions added to or removed from the model's.
        by_lane: whether a multiply-add can broadcast one lane of a register: the values of a pixel are then loaded as
            vectors instead of one by one.
        halves: whether half a vector is worth a tile of its own, for output channels that leave the other half empty:
            some CPUs split a wide multiply-add into two halves, and take half the time for one.
        unroll: values of k per round of the product's sum, a divisor of `width`. Each round prefetches a cache line of
            the next panel, so that four tiles prefetch it all.
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
AVX512 = CpuTarget(
    16, 2, (14, 13, 12, 10, 8, 4, 1), (28, 25, 16, 8, 1), (14, 16), (8, 1), AVX512_NEEDS, "x86-64-v4", UNUSED,
    halves=True, unroll=2,
)  # fmt: skip
# 16 registers: 6 x 2 accumulators, 2 weights, 1 pixel.
AVX2 = CpuTarget(
    8, 2, (6, 5, 4, 2, 1), (10, 8, 4, 1), (6, 10), (8, 1), frozenset({"avx2", "fma", "f16c"}), "x86-64-v3", UNUSED
)
# 16 registers, one of which holds each product before it is added.
SSE2 = CpuTarget(4, 2, (5, 4, 2, 1), (8, 4, 1), (4, 8), (8, 1), cpu="x86-64")
# 32 registers: 8 x 2 accumulators, 2 weights, and four values of each of 8 pixels.
NEON = CpuTarget(4, 2, (8, 7, 6, 4, 2, 1), (12, 8, 4, 1), (8, 12), (8, 1), by_lane=True)


@dataclass(frozen=True)
class ByteTarget:
    """Instructions for products of bytes, in one family of CPUs; a vector is 16 channels on all of them.

    Attributes:
        name: ends the symbols of its micro-kernels.
        dot: how products of bytes are summed: "vnni512" and "vnni256" are vpdpbusd on 16 and 8 sums at a time, "maddwd"
            is vpmaddwd, "widened" ordinary multiplications.
        rows: MR of the tiles with two vectors of output channels, or with one if `panel` is 1, largest first.
        panel: vectors of output channels in a tile of the matrix product.
        needs, cpu, features: as of a `CpuTarget`.
        fused: whether a * b + c of floats is rounded once.
    """

    name: str
    dot: str
    rows: tuple[int, ...]
    panel: int
    needs: frozenset[str] = frozenset()
    cpu: str = "generic"
    features: str = ""
    fused: bool = True


BYTE_NEEDS = AVX512_NEEDS | {"avx512vnni", "avx512vbmi"}
BYTE_AVX512 = ByteTarget(
    "vnni512", "vnni512", (14, 12, 8, 7, 4, 2, 1), 2, BYTE_NEEDS, "x86-64-v4", f"{UNUSED},+avx512vnni,+avx512vbmi"
)
BYTE_AVXVNNI = ByteTarget(
    "vnni256", "vnni256", (4, 2, 1), 1, AVX2.needs | {"avxvnni"}, "x86-64-v3", f"{UNUSED},+avxvnni"
)
BYTE_AVX2 = ByteTarget("avx2", "maddwd", (2, 1), 1, AVX2.needs, "x86-64-v3", UNUSED)
BYTE_SSE2 = ByteTarget("sse2", "maddwd", (1,), 1, cpu="x86-64", fused=False)
BYTE_NEON = ByteTarget("neon", "widened", (2, 1), 1)
BYTE_FAMILIES = {"x86_64": (BYTE_AVX512, BYTE_AVXVNNI, BYTE_AVX2, BYTE_SSE2), "aarch64": (BYTE_NEON,)}  # fastest first

FAMILIES = {"x86_64": (AVX512, AVX2, SSE2), "aarch64": (NEON,)}  # by architecture, widest first
OTHER_NAMES = {"amd64": "x86_64", "arm64": "aarch64"}


def family() -> tuple[CpuTarget, ...]:
    """The targets of this machine's architecture, widest vectors first.

    Raises:
        ImportError: this architecture is not supported.
    """
    name = architecture()
    if name not in FAMILIES or struct.calcsize("P") != 8 or sys.byteorder != "little":
        raise ImportError(
            f"compiled kernels support little-endian 64-bit x86 and ARM, not {platform.machine().lower()} with "
            f"{8 * struct.calcsize('P')}-bit addresses, {sys.byteorder}-endian; use the NumPy reference, "
            "backend='reference'"
        )
    return FAMILIES[name]


def architecture() -> str:
    """Name of this machine's architecture, as LLVM has it."""
    machine = platform.machine().lower()
    return OTHER_NAMES.get(machine, machine)


def usable(targets: Collection[CpuTarget], features: Collection[str]) -> dict[int, CpuTarget]:
    """The targets that a CPU with these features can run, by width."""
    return {target.width: target for target in targets if target.needs.issubset(features)}


@functools.cache
def host_targets() -> dict[int, CpuTarget]:
    """The targets that this CPU and operating system support, by width, widest first."""
    targets = family()
    return usable(targets, host_features() if len(targets) > 1 else ())


@functools.cache
def host_features() -> frozenset[str]:
    """Features of this CPU that its operating system supports, by LLVM's names."""
    from llvmlite import binding

    return frozenset(name for name, has in binding.get_host_cpu_features().items() if has)


def host_target(width: int | None = None) -> CpuTarget:
    """The target for this CPU with vectors of at most `width` lanes (None: the widest)."""
    return next(target for target in host_targets().values() if width is None or target.width <= width)


@functools.cache
def host_byte_targets() -> dict[str, ByteTarget]:
    """The byte targets that this CPU and operating system support, by name, fastest first."""
    family()  # or an ImportError
    targets = BYTE_FAMILIES[architecture()]
    features = host_features() if len(targets) > 1 else frozenset[str]()
    return {target.name: target for target in targets if target.needs.issubset(features)}


def host_byte_target() -> ByteTarget:
    """The fastest byte target for this CPU."""
    return next(iter(host_byte_targets().values()))


def tile_rows(pixels: int, choice: tuple[int, ...]) -> int:
    """MR for a feature map of `pixels` pixels: least work, including the pixels that the last tile recomputes.

    Args:
        pixels: M. choice: the values of MR that have a tile, largest first.
    """
    fitting = [rows for rows in choice if rows <= pixels]
    # a round of a tile costs MR, plus about one for the loads of weights
    return min(fitting, key=lambda rows: -(-pixels // rows) * (rows + 1))
