"""Ranges: what is kept of the values of a tensor that come batch by batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet.errors import ArgumentError
from npmobilenet.quantized.calibration import BINS, Calibration, Range
from npmobilenet.types import Array

PERCENTILES = (90.0, 99.0, 99.9, 100.0)


def range_of(batches: list[Array], *, histogram: bool = True) -> Range:
    """The range of batches."""
    seen = Range()
    for batch in batches:
        seen.add(batch, histogram=histogram)
    return seen


@given(st.integers(0, 999), st.floats(-20, 20), st.integers(1, 5))
def test_all_values_are_within_minmax(seed: int, exponent: float, batches: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.normal(rng.uniform(-2, 2), 1, (batches, 50)) * 2.0**exponent).astype(np.float32)
    assert range_of(list(x), histogram=False).limits(Calibration()) == (x.min(), x.max())


@given(st.integers(0, 999), st.floats(-20, 20), st.sampled_from(PERCENTILES))
def test_percentiles_are_those_of_all_values_within_a_bin(seed: int, exponent: float, percentile: float) -> None:
    """Batches of ever larger values, so that the histogram widens again and again."""
    rng = np.random.default_rng(seed)
    x = rng.normal(rng.uniform(-2, 2), 1, (4, 500)) * 2.0 ** (exponent + np.arange(4)[:, None])
    low, high = range_of(list(x)).limits(Calibration("percentile", percentile))
    ends = np.array([100 - percentile, 100 + percentile]) / 2
    bin_width = 2 * 2 * np.abs(x).max() / BINS
    below, above = np.percentile(x, ends, method="lower"), np.percentile(x, ends, method="higher")
    assert below[0] - bin_width <= low <= above[0] + bin_width
    assert below[1] - bin_width <= high <= above[1] + bin_width
    assert x.min() <= low <= high <= x.max()


@given(st.integers(0, 999), st.permutations(range(6)))
def test_the_order_of_the_batches_is_without_influence(seed: int, order: list[int]) -> None:
    x = np.random.default_rng(seed).normal(0, 2.0 ** np.arange(6)[:, None], (6, 30))
    for calibration in (Calibration(), Calibration("percentile", 95)):
        assert range_of(list(x)).limits(calibration) == range_of(list(x[order])).limits(calibration)


def test_a_far_value_is_left_out() -> None:
    x = np.append(np.linspace(0, 1, 100_000), 1000.0)
    assert range_of([x]).limits(Calibration()) == (0, 1000)
    low, high = range_of([x]).limits(Calibration("percentile"))
    assert (low, high) == (0, 1)  # the far end of a bin, which is 1/2 wide
    low, high = range_of([np.linspace(0, 1, 100_000), np.array([3.0])]).limits(Calibration("percentile"))
    assert low == 0
    assert high == pytest.approx(1, abs=2 * 4 / BINS)


def test_zeros_have_an_empty_range() -> None:
    for calibration in (Calibration(), Calibration("percentile")):
        assert range_of([np.zeros(7)]).limits(calibration) == (0, 0)


@pytest.mark.parametrize(("method", "percentile"), [("median", 99.0), ("percentile", 50.0), ("percentile", 100.1)])
def test_other_methods_and_percentiles_are_refused(method: str, percentile: float) -> None:
    with pytest.raises(
        ArgumentError, match=r"unknown calibration 'median'; expected minmax or|percentile: expected more"
    ):
        Calibration(method, percentile)
