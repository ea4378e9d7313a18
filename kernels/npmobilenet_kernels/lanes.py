"""What the CPU offers: the vector width, and the tiles that fit its registers."""

from __future__ import annotations

import functools
from dataclasses import dataclass

WIDTHS = {"avx512f": 16, "avx2": 8}  # floats in a vector, by CPU feature; 4 without either


@dataclass(frozen=True)
class Lanes:
    """Vectors and register tiles for one kind of CPU.

    Attributes:
        width: W, floats in a vector.
        panel: vectors of output channels in a tile of the matrix product; 2, so that every pixel loaded is used twice.
        rows: pixels of the tiles, largest first; the last is 1.
        narrow_rows: the same for the last panel of an odd number of vectors, which is one vector wide.
        stem_rows: pixels of the first convolution's tiles, for whole and for narrow panels.
        streams: vectors of a dense layer's output computed at once, each from its own stream of weights, largest first,
            so that many lines are on their way at once. The last is 1.
    """

    width: int
    panel: int
    rows: tuple[int, ...]
    narrow_rows: tuple[int, ...]
    stem_rows: tuple[int, int]
    streams: tuple[int, ...]


# 32 registers with AVX-512: 14 x 2 accumulators, 2 weights, 1 pixel. That is 16 loads for 28 multiply-adds, where 28 x
# 1 has 29, and the CPU two of each in a cycle. 10 rows for 7 x 7, where five tiles of 10 waste one pixel.
# 16 registers otherwise: 6 x 2 accumulators, 2 weights, 1 pixel.
LANES = {
    16: Lanes(16, 2, (14, 13, 12, 10, 8, 4, 1), (28, 25, 16, 8, 1), (14, 16), (16, 8, 1)),
    8: Lanes(8, 2, (6, 5, 4, 2, 1), (12, 8, 4, 1), (6, 12), (8, 1)),
    4: Lanes(4, 2, (6, 5, 4, 2, 1), (12, 8, 4, 1), (6, 12), (8, 1)),
}


@functools.cache
def host_width() -> int:
    """Floats in the widest vector that this CPU and operating system handle."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return next((width for feature, width in WIDTHS.items() if features.get(feature)), 4)


def lanes(width: int | None = None) -> Lanes:
    """Vectors for this CPU, at most `width` floats wide (None: as wide as it has)."""
    widest = host_width()
    return LANES[widest if width is None else min(width, widest)]


def features(chosen: Lanes) -> str:
    """LLVM's feature string for this CPU, without the features of wider vectors than chosen."""
    from llvmlite import binding

    have = binding.get_host_cpu_features()
    above = [prefix for prefix, width in (("avx512", 16), ("avx", 8), ("fma", 8), ("f16c", 8)) if width > chosen.width]
    for name in have:
        have[name] = have[name] and not any(name.startswith(prefix) for prefix in above)
    return str(have.flatten())


def tile_rows(pixels: int, choice: tuple[int, ...]) -> int:
    """The tile height for a map of so many pixels: least work, counting the pixels that the last tile computes again.

    A round of a tile costs its rows, plus about one more for the loads of weights.
    """
    fitting = [rows for rows in choice if rows <= pixels]
    return min(fitting, key=lambda rows: -(-pixels // rows) * (rows + 1))
