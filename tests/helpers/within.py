"""The one comparison of floating-point results: within a derived bound, NaN for NaN and infinity for infinity."""

import numpy as np
from numpy.typing import ArrayLike


def assert_within(bound: ArrayLike, computed: ArrayLike, exact: ArrayLike, what: str = "") -> None:
    """|computed - exact| <= bound at every place where `exact` is finite; elsewhere the same NaN or infinity."""
    computed, exact = np.asarray(computed), np.asarray(exact)
    assert computed.shape == exact.shape, f"{what}: shape {computed.shape}, expected {exact.shape}"
    bound = np.broadcast_to(bound, exact.shape)
    finite = np.isfinite(exact)
    assert np.isfinite(bound[finite]).all(), f"{what}: a bound is not finite, so it would accept anything"
    np.testing.assert_array_equal(computed[~finite], exact[~finite], err_msg=what)
    error = np.where(finite, np.abs(computed.astype(np.float64) - np.where(finite, exact, 0)), 0)
    outside = ~(error <= np.where(finite, bound, 0))
    if outside.any():
        excess = np.where(outside, error / np.maximum(np.where(finite, bound, 1), 1e-300), -1)
        worst = np.unravel_index(np.argmax(np.where(np.isnan(excess), np.inf, excess)), error.shape)
        raise AssertionError(
            f"{what}: {outside.sum()} of {error.size} values are out of bounds; worst at {tuple(map(int, worst))}: "
            f"{computed[worst]!r}, exact {exact[worst]!r}, error {error[worst]:.3g}, bound {bound[worst]:.3g}"
        )
