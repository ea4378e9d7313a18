"""The exponential, softmax and sigmoid against exact float64 within derived bounds, for every vector width."""

import ctypes
import functools
from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from npmobilenet_kernels import loops
from npmobilenet_kernels.microkernels.emitter import Emitter, Value
from npmobilenet_kernels.microkernels.exp import EXP_ERROR, LOWEST, exponential
from npmobilenet_kernels.microkernels.symbols import simple_name
from npmobilenet_kernels.runtime import native
from npmobilenet_kernels.runtime.codegen import compile_tiles
from npmobilenet_kernels.runtime.cpu import host_target
from npmobilenet_kernels.runtime.packing import Floats, from_blocks, to_blocks

from npmobilenet import reference as ops
from npmobilenet.reference import rounding
from tests.helpers.kernel_calls import STRANGE, WIDTHS, call, normal, readable, writable
from tests.helpers.strategies import SEEDS
from tests.helpers.within import assert_within

UNIT = 2.0**-24
TINY = float(np.finfo(np.float32).smallest_normal)
SPREADS = st.sampled_from([0.1, 1, 10, 100])  # of the logits: from all alike to one that takes everything


@functools.cache
def compiled_exponential(width: int) -> Callable[[int, int], None]:
    """exp of one vector, as a function of two addresses."""

    def emit(e: Emitter, x: Value, y: Value) -> None:
        e.store(exponential(e, e.load(x)), y)

    (address,) = native.load(compile_tiles({"exponential": emit}, host_target(width)), ["exponential"]).values()
    return ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(address)


def exp(x: Floats, width: int) -> Floats:
    """The micro-kernels' exponential of (n * width,) values."""
    y = np.empty_like(x)
    for i in range(0, len(x), width):
        compiled_exponential(width)(x[i:].ctypes.data, y[i:].ctypes.data)
    return y


@given(WIDTHS, st.sampled_from([0.1, 1, 20, 90]), SEEDS)
def test_the_exponential_keeps_the_error_that_its_docstring_derives(width: int, reach: float, seed: int) -> None:
    x = np.random.default_rng(seed).uniform(-reach, 0, 4096).astype(np.float32)

    y = exp(x, width)

    exact = np.exp(x.astype(np.float64))
    assert_within(EXP_ERROR * UNIT * exact + np.where(exact < TINY, TINY, 0), y, exact, "exp")


@given(WIDTHS)
def test_the_exponential_of_its_ends(width: int) -> None:
    below = np.nextafter(np.float32(LOWEST), np.float32(-100))
    x = np.resize(np.array([0, -0.0, -np.inf, np.nan, -1e30, below, -1e-42, -3e38], np.float32), 16)
    np.testing.assert_array_equal(exp(x, width), np.resize(np.array([1, 1, 0, np.nan, 0, 0, 1, 0], np.float32), 16))


def softmax(x: Floats, width: int) -> Floats:
    """(pixels, C) logits; the lanes after the last channel hold NaN before, and 0 afterwards: 0 / total."""
    pixels, C = x.shape
    blocks = to_blocks(x[None], width)
    blocks[-1, :, (C - 1) % width + 1 :] = np.nan
    a, y = readable(blocks), writable(blocks.shape)
    for pixel in range(pixels):
        here = pixel * width * 4
        call(simple_name("softmax", host_target(width)), a.address + here, pixels * width * 4, C, y.address + here)
    y.assert_margins_untouched()
    regular = np.isfinite(x.max(axis=1))
    np.testing.assert_array_equal(y.values[-1, regular, (C - 1) % width + 1 :], 0)
    return from_blocks(y.values, x.shape)


@given(WIDTHS, st.integers(1, 3), st.integers(1, 70), SPREADS, SEEDS)
def test_softmax_equals_the_exact_one_within_its_rounding(
    width: int, pixels: int, C: int, spread: float, seed: int
) -> None:
    x = spread * normal(np.random.default_rng(seed), pixels, C)

    y = softmax(x, width)

    exact = x.astype(np.float64)
    assert_within(rounding.activation_bound("softmax", exact), y, ops.softmax(exact), f"softmax of {x.shape}")


@given(WIDTHS, st.integers(1, 70), SEEDS)
def test_softmax_equals_its_plain_loop_within_both_roundings(width: int, C: int, seed: int) -> None:
    x = normal(np.random.default_rng(seed), 1, C)
    expected = np.empty(C, np.float32)
    loops.softmax(x[0], expected)

    y = softmax(x, width)

    assert_within(2 * rounding.activation_bound("softmax", x), y, expected[None].astype(np.float64), "softmax")


@given(WIDTHS, st.integers(0, 6), st.floats(-(2.0**100), 2.0**100, width=32))
def test_equal_logits_get_equal_shares_to_the_bit(width: int, power: int, logit: float) -> None:
    x = np.full((1, 2**power), logit, np.float32)
    np.testing.assert_array_equal(softmax(x, width), np.full_like(x, 0.5**power))


@given(WIDTHS, st.integers(1, 40), st.integers(0, 3), SEEDS)
def test_softmax_of_nan_and_infinity_is_that_of_the_reference(width: int, C: int, strange: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = normal(rng, 2, C)
    x[1, rng.integers(0, C, strange)] = rng.choice(STRANGE, strange)

    y = softmax(x, width)

    with np.errstate(over="ignore"):
        expected = ops.softmax(x)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_allclose(
        y, expected, rtol=rounding.gamma(C + 2 * rounding.EXP_ROUNDINGS), atol=4 * rounding.gamma(1)
    )


def pixelwise(operation: str, x: Floats, width: int) -> Floats:
    """sigmoid of (pixels, width)."""
    a, y = readable(x), writable(x.shape)
    call(simple_name(operation, host_target(width)), a, len(x), y)
    y.assert_margins_untouched()
    return y.values


@given(WIDTHS, st.integers(1, 40), SPREADS, SEEDS)
def test_sigmoid_equals_the_exact_one_within_its_rounding(width: int, pixels: int, spread: float, seed: int) -> None:
    x = spread * normal(np.random.default_rng(seed), pixels, width)

    y = pixelwise("sigmoid", x, width)

    exact = x.astype(np.float64)
    assert_within(rounding.activation_bound("sigmoid", exact), y, ops.sigmoid(exact), "sigmoid")


@given(WIDTHS)
def test_sigmoid_of_the_ends_is_that_of_the_reference_to_the_bit(width: int) -> None:
    x = np.resize(STRANGE, (len(STRANGE), width))
    np.testing.assert_array_equal(pixelwise("sigmoid", x, width), ops.sigmoid(x))
