"""The sizes by which work is cut into pieces that fit the cache and keep all threads busy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Blocking:
    """How work is cut; no result depends on it.

    Attributes:
        cache: bytes of second-level cache that a band and its weights may fill.
        band_width: maps of at least that many columns are computed in bands of rows, narrower ones panel by panel.
        band_pixels: output pixels of a band, where they fit into the cache.
        units: a pointwise step with fewer panels than this splits its pixels as well, so that threads share evenly.
        part_tiles: but into parts of at least that many tiles: the last one may overlap the one before.
        conv_pixels: output pixels of a general convolution for which its weights are read once.
        group_panels: panels that share the pixels gathered for a general convolution, if there are enough panels.
    """

    cache: int = 384 * 1024
    band_width: int = 28
    band_pixels: int = 56
    units: int = 8
    part_tiles: int = 2
    conv_pixels: int = 196
    group_panels: int = 4


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def round_up(a: int, multiple: int) -> int:
    """The least multiple of `multiple` that is at least a."""
    return ceil_div(a, multiple) * multiple
