"""Elementwise micro-kernels and reductions, for every vector width."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from npmobilenet_kernels.microkernels.symbols import simple_name
from npmobilenet_kernels.runtime.cpu import host_target

from npmobilenet.reference import rounding
from tests.helpers.kernel_calls import STRANGE, WIDTHS, call, normal, readable, writable
from tests.helpers.strategies import SEEDS
from tests.helpers.within import assert_within


@given(WIDTHS, st.integers(1, 60), SEEDS)
def test_the_pool_averages_and_the_sum_adds(width: int, pixels: int, seed: int) -> None:
    target, rng = host_target(width), np.random.default_rng(seed)
    x, other = normal(rng, 1, pixels, width), normal(rng, 1, pixels, width)
    a, b, average, total = readable(x), readable(other), writable(width), writable((pixels, width))

    call(simple_name("pool", target), a, pixels, readable([1 / pixels]), average)
    call(simple_name("add_pixels", target), a, b, pixels, total)

    exact = x[0].astype(np.float64).mean(axis=0)
    assert_within(rounding.global_average_pool_bound(x[None])[0], average.values, exact, "pool")
    np.testing.assert_array_equal(total.values, x[0] + other[0])
    average.assert_margins_untouched()
    total.assert_margins_untouched()


@given(WIDTHS, st.integers(0, 70), SEEDS)
def test_copying_scales_every_value_and_touches_no_other(width: int, count: int, seed: int) -> None:
    x, y = readable(normal(np.random.default_rng(seed), count)), writable(count)

    call(simple_name("scale_and_copy", host_target(width)), x, count, readable([0.5, -1]), y)

    np.testing.assert_array_equal(y.values, x.values * np.float32(0.5) - 1)
    y.assert_margins_untouched()


@given(WIDTHS, st.integers(1, 30), SEEDS)
def test_a_gate_scales_the_rows_of_a_panel_of_weights(width: int, K: int, seed: int) -> None:
    target, rng = host_target(width), np.random.default_rng(seed)
    panel = int(rng.integers(1, 3))
    w, gate, y = readable(normal(rng, K, panel * width)), readable(normal(rng, K)), writable((K, panel * width))

    call(simple_name("scale_weights", target), w, gate, K, panel, y)

    np.testing.assert_array_equal(y.values, w.values * gate.values[:, None])
    y.assert_margins_untouched()


@given(WIDTHS, st.integers(1, 60), st.integers(0, 3), SEEDS)
def test_the_global_maximum_is_that_of_the_reference_to_the_bit_nan_included(
    width: int, pixels: int, strange: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = normal(rng, pixels, width)
    x[rng.integers(0, pixels, strange), rng.integers(0, width, strange)] = rng.choice(STRANGE, strange)
    a, y = readable(x), writable(width)

    call(simple_name("largest", host_target(width)), a, pixels, 0, y)

    np.testing.assert_array_equal(y.values, x.max(axis=0))
    y.assert_margins_untouched()
