"""Ranges of real numbers, seen image by image in constant memory: what a tensor's scale and zero point are chosen from.

Everything between the least and the largest value seen is kept by `minmax`. A single far value then makes every step
coarser; `percentile` leaves out the outermost values, half of them at each end, by a histogram of `BINS` bins whose
range doubles when a value falls out of it.
"""

from dataclasses import dataclass

import numpy as np

from npmobilenet.errors import ArgumentError
from npmobilenet.types import Array

METHODS = ("minmax", "percentile")
BINS = 4096  # over -2^k to 2^k; the largest value is in the outer half of it, so 1024 bins or more are in use
NARROWEST = -64  # k, of a tensor of zeros


@dataclass(frozen=True)
class Calibration:
    """How ranges are chosen.

    Args:
        method: "minmax" or "percentile".
        percentile: of the values, in per cent, that a range covers; for "percentile".

    Raises:
        ArgumentError: the method is unknown, or the percentile is not between 50 and 100.
    """

    method: str = "minmax"
    percentile: float = 99.99

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ArgumentError(f"unknown calibration {self.method!r}; expected {' or '.join(METHODS)}")
        if not 50 < self.percentile <= 100:
            raise ArgumentError(f"percentile: expected more than 50 and at most 100, got {self.percentile:g}")


class Range:
    """The values of one tensor.

    Attributes:
        least, largest: of all values.
        least_peak: least of the largest values of each batch.
    """

    def __init__(self) -> None:
        self.least, self.largest, self.least_peak = np.inf, -np.inf, np.inf
        self._k = NARROWEST
        self._counts = np.zeros(BINS, np.int64)

    def add(self, x: Array, *, histogram: bool) -> None:
        """Take in values; for `percentile`, with their histogram."""
        low, high = float(x.min()), float(x.max())
        self.least, self.largest = min(self.least, low), max(self.largest, high)
        self.least_peak = min(self.least_peak, high)
        if histogram:
            self._widen(max(-self.least, self.largest))
            bins = np.floor(x.ravel() * (BINS / 2.0 ** (self._k + 1))).astype(np.int64) + BINS // 2
            self._counts += np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)

    def _widen(self, magnitude: float) -> None:
        """Double the histogram's range, two bins in one, until it holds a magnitude."""
        k = int(np.frexp(magnitude)[1])  # magnitude < 2^k
        while self._k < max(k, NARROWEST):
            merged = np.add.reduceat(self._counts, range(0, BINS, 2))  # (BINS / 2,)
            self._counts = np.pad(merged, BINS // 4)
            self._k += 1

    def limits(self, calibration: Calibration) -> tuple[float, float]:
        """Least and largest value to be represented."""
        if calibration.method == "minmax":
            return self.least, self.largest
        left_out = (100 - calibration.percentile) / 200 * self._counts.sum()
        from_below, from_above = np.cumsum(self._counts), np.cumsum(self._counts[::-1])
        low, high = int((from_below > left_out).argmax()), BINS - int((from_above > left_out).argmax())
        step = 2.0 ** (self._k + 1) / BINS
        return max((low - BINS // 2) * step, self.least), min((high - BINS // 2) * step, self.largest)
