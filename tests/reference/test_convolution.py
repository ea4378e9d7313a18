"""Convolutions against the naive loops, against Keras, and by hand; and the laws that connect them."""

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet import reference
from npmobilenet.reference import rounding
from npmobilenet.reference.shapes import same_padding
from npmobilenet.types import Array
from tests.helpers.in_keras import in_keras, window_in_keras
from tests.helpers.strategies import (
    DTYPES,
    KERAS_DTYPES,
    LAYOUTS,
    SEEDS,
    WindowCase,
    fractions,
    halves,
    laid_out,
    maps,
    window_cases,
)
from tests.helpers.within import assert_within
from tests.oracles import naive


def window_bound(case: WindowCase, dtype: Any, *, depthwise: bool) -> Array:
    bound = rounding.depthwise_conv2d_bound if depthwise else rounding.conv2d_bound
    return bound(case.x, case.w, case.b, **case.window, dtype=dtype)


@given(window_cases(depthwise=False), DTYPES)
def test_conv2d_equals_the_loops(case: WindowCase, dtype: Any) -> None:
    x, w, b = case.arrays(dtype)
    y = reference.conv2d(x, w, b, **case.window)
    exact = naive.conv2d(case.x, case.w, case.b, **case.window)
    assert y.dtype == dtype
    assert_within(window_bound(case, dtype, depthwise=False), y, exact)


@given(window_cases(depthwise=True), DTYPES)
def test_depthwise_conv2d_equals_the_loops(case: WindowCase, dtype: Any) -> None:
    x, w, b = case.arrays(dtype)
    y = reference.depthwise_conv2d(x, w, b, **case.window)
    exact = naive.depthwise_conv2d(case.x, case.w, case.b, **case.window)
    assert y.dtype == dtype
    assert_within(window_bound(case, dtype, depthwise=True), y, exact)


@given(window_cases(depthwise=False, max_batch=3, as_keras=True), KERAS_DTYPES)
def test_conv2d_equals_keras(keras: Any, case: WindowCase, dtype: Any) -> None:
    x, w, b = case.arrays(dtype)
    theirs = window_in_keras(keras, keras.layers.Conv2D, case, x, w, b, filters=w.shape[3])
    y = reference.conv2d(x, w, b, **case.window)
    assert_within(2 * window_bound(case, dtype, depthwise=False), y, theirs)


@given(window_cases(depthwise=True, max_batch=3, as_keras=True), KERAS_DTYPES)
def test_depthwise_conv2d_equals_keras(keras: Any, case: WindowCase, dtype: Any) -> None:
    x, w, b = case.arrays(dtype)
    theirs = window_in_keras(keras, keras.layers.DepthwiseConv2D, case, x, w, b, depth_multiplier=w.shape[3])
    y = reference.depthwise_conv2d(x, w, b, **case.window)
    assert_within(2 * window_bound(case, dtype, depthwise=True), y, theirs)


@given(maps(), st.integers(1, 5), SEEDS, DTYPES, LAYOUTS, st.booleans())
def test_pointwise_conv2d_equals_the_loops(
    x: Array, c_out: int, seed: int, dtype: Any, layout: str, as_keras: bool
) -> None:
    rng = np.random.default_rng(seed)
    w, b = halves(rng, (x.shape[3], c_out)), halves(rng, (c_out,))
    stored = w[None, None] if as_keras else w
    y = reference.pointwise_conv2d(laid_out(x.astype(dtype), layout), stored.astype(dtype), b.astype(dtype))
    assert y.dtype == dtype
    assert_within(rounding.pointwise_conv2d_bound(x, stored, b, dtype=dtype), y, naive.dense(x, w, b))


@given(st.lists(st.integers(1, 4), max_size=3), st.integers(1, 40), st.integers(1, 6), SEEDS, DTYPES)
def test_dense_equals_the_loops(leading: list[int], c_in: int, c_out: int, seed: int, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    x, w, b = halves(rng, (*leading, c_in)), halves(rng, (c_in, c_out)), halves(rng, (c_out,))
    y = reference.dense(x.astype(dtype), w.astype(dtype), b.astype(dtype))
    assert y.dtype == dtype
    assert_within(rounding.dense_bound(x, w, b, dtype=dtype), y, naive.dense(x, w, b))


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 6), SEEDS)
def test_dense_equals_keras(keras: Any, N: int, c_in: int, c_out: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w, b = (halves(rng, shape).astype(np.float32) for shape in ((N, c_in), (c_in, c_out), (c_out,)))
    assert_within(
        2 * rounding.dense_bound(x, w, b), reference.dense(x, w, b), in_keras(keras, keras.layers.Dense(c_out), x, w, b)
    )


def test_conv2d_by_hand() -> None:
    """Keeping the window upright: a flipped one would give 2 in the middle of the first row, not 8."""
    x = np.array([[1, 2, 3],
                  [4, 5, 6],
                  [7, 8, 9]])[None, :, :, None]  # fmt: skip
    w = np.array([[0, 0, 0],
                  [1, 0, -1],
                  [0, 2, 0]])[:, :, None, None]  # fmt: skip
    y = [[-2 + 8, 1 - 3 + 10, 2 + 12],
         [-5 + 14, 4 - 6 + 16, 5 + 18],
         [-8, 7 - 9, 8]]  # fmt: skip
    np.testing.assert_array_equal(reference.conv2d(x, w)[0, :, :, 0], y)


def test_same_padding_of_an_even_side_with_stride_2_starts_at_the_first_pixel() -> None:
    """4 pixels, K 3, stride 2: no zero before, one after; symmetric padding would see 1 + 2 and 2 + 3 + 4."""
    x = np.array([1, 2, 3, 4])[None, None, :, None]
    y = reference.conv2d(x, np.ones((1, 3, 1, 1), int), stride=2)
    np.testing.assert_array_equal(y[0, 0, :, 0], [1 + 2 + 3, 3 + 4 + 0])


def test_same_padding_of_an_odd_side_with_stride_2_is_symmetric() -> None:
    x = np.array([1, 2, 3, 4, 5])[None, :, None, None]
    y = reference.depthwise_conv2d(x, np.ones((3, 1, 1, 1), int), stride=2)
    np.testing.assert_array_equal(y[0, :, 0, 0], [0 + 1 + 2, 2 + 3 + 4, 4 + 5 + 0])


def test_a_window_larger_than_the_image_sees_zeros_around_it() -> None:
    x = np.array([[5]])[None, :, :, None]
    w = np.arange(25).reshape(5, 5, 1, 1)
    assert reference.conv2d(x, w).tolist() == [[[[5 * 12]]]]


def test_depthwise_by_hand_keeps_the_channels_apart() -> None:
    """Two channels, two filters each: outputs lie as c0m0, c0m1, c1m0, c1m1."""
    x = np.array([[[1, 10],
                   [2, 20]]])[None]  # fmt: skip  # one row of two pixels
    w = np.array([[[1, 2],
                   [3, 4]],
                  [[0, 0],
                   [1, 1]]])[None]  # fmt: skip  # (1, 2, C, M)
    y = reference.depthwise_conv2d(x, w, padding="valid")
    assert y.tolist() == [[[[1 * 1 + 2 * 0, 1 * 2 + 2 * 0, 10 * 3 + 20 * 1, 10 * 4 + 20 * 1]]]]


def test_pointwise_by_hand_mixes_the_channels_of_one_pixel() -> None:
    x = np.array([[[1, 2], [3, 4]]])[None]
    w = np.array([[1, 0, 5],
                  [0, 1, -1]])  # fmt: skip
    y = reference.pointwise_conv2d(x, w, np.array([0, 100, 0]))
    assert y.tolist() == [[[[1, 102, 3], [3, 104, 11]]]]


@given(maps(), st.integers(1, 4), SEEDS)
def test_pointwise_is_conv2d_with_a_kernel_of_one(x: Array, c_out: int, seed: int) -> None:
    w = halves(np.random.default_rng(seed), (1, 1, x.shape[3], c_out))
    bound = rounding.pointwise_conv2d_bound(x, w, dtype=np.float64)
    assert_within(2 * bound, reference.pointwise_conv2d(x, w), reference.conv2d(x, w))


@given(window_cases(depthwise=True))
def test_depthwise_is_conv2d_with_a_block_diagonal_kernel(case: WindowCase) -> None:
    K_h, K_w, C, M = case.w.shape
    w = np.zeros((K_h, K_w, C, C * M))
    for c in range(C):
        w[:, :, c, c * M : (c + 1) * M] = case.w[:, :, c]
    separate = reference.depthwise_conv2d(case.x, case.w, case.b, **case.window)
    together = reference.conv2d(case.x, w, case.b, **case.window)
    bound = rounding.conv2d_bound(case.x, w, case.b, **case.window, dtype=np.float64)
    assert_within(2 * bound, separate, together)


@given(maps(), st.sampled_from([1, 3, 5]))
def test_a_delta_filter_is_the_identity(x: Array, K: int) -> None:
    delta = np.zeros((K, K, x.shape[3], 1))
    delta[K // 2, K // 2] = 1
    np.testing.assert_array_equal(reference.depthwise_conv2d(x, delta), x)
    np.testing.assert_array_equal(reference.conv2d(x, delta * np.eye(x.shape[3])), x)


@given(window_cases(depthwise=False), SEEDS)
def test_conv2d_is_linear_in_x(case: WindowCase, seed: int) -> None:
    def y(x: Array) -> Array:
        return reference.conv2d(x, case.w, **case.window)

    def bound(x: Array) -> Array:
        return rounding.conv2d_bound(x, case.w, **case.window, dtype=np.float64)

    other = halves(np.random.default_rng(seed), case.x.shape)
    both = case.x + 2 * other  # exact: both have 11 bits
    assert_within(bound(both) + bound(case.x) + 3 * bound(other), y(case.x) + 2 * y(other), y(both))


@given(window_cases(depthwise=True, min_batch=2, max_batch=3))
def test_one_image_of_a_batch_does_not_see_another(case: WindowCase) -> None:
    C = case.w.shape[2]
    for op, w in ((reference.depthwise_conv2d, case.w), (reference.conv2d, case.w[..., :1] * np.eye(C))):
        whole = op(case.x, w, **case.window)
        for n in range(len(case.x)):
            spoiled = np.full_like(case.x, np.nan)
            spoiled[n] = case.x[n]
            alone = op(spoiled, w, **case.window)
            np.testing.assert_array_equal(alone[n], whole[n])


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 3, 5, 7]), st.integers(1, 3))
def test_same_gives_the_ceiling_of_side_over_stride(H: int, W: int, K: int, stride: int) -> None:
    x, w = np.zeros((1, H, W, 1)), np.zeros((K, K, 1, 1))
    expected = (1, math.ceil(H / stride), math.ceil(W / stride), 1)
    assert reference.conv2d(x, w, stride=stride).shape == expected
    assert reference.depthwise_conv2d(x, w, stride=stride).shape == expected
    assert reference.average_pool(x, size=(K, K), stride=stride, padding="same").shape == expected


@given(window_cases(depthwise=True), SEEDS)
def test_nan_and_infinity_reach_exactly_the_outputs_whose_window_holds_them(case: WindowCase, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = case.x.copy()
    spots = [tuple(int(rng.integers(side)) for side in x.shape) for _ in range(3)]
    for spot, value in zip(spots, (np.nan, np.inf, -np.inf), strict=True):
        x[spot] = value
    w = np.where(case.w == 0, 1, case.w)
    with np.errstate(invalid="ignore"):
        y = reference.depthwise_conv2d(x, w, **case.window)
        exact = naive.depthwise_conv2d(x, w, **case.window)
    calm = np.where(np.isfinite(x), x, 0)
    bound = rounding.depthwise_conv2d_bound(calm, w, **case.window, dtype=np.float64)
    assert_within(2 * bound, y, exact)


@given(window_cases(depthwise=False, min_batch=0, max_batch=0))
def test_a_batch_of_no_images_gives_no_outputs_of_the_right_shape(case: WindowCase) -> None:
    y = reference.conv2d(case.x, case.w, case.b, **case.window)
    exact = naive.conv2d(case.x, case.w, case.b, **case.window)
    assert y.shape == exact.shape
    assert reference.depthwise_conv2d(case.x, case.w, **case.window).shape[0] == 0
    assert reference.pointwise_conv2d(case.x, case.w[0, 0], case.b).shape == (0, *case.x.shape[1:3], case.w.shape[3])


@given(window_cases(depthwise=False), st.booleans())
def test_convolutions_of_fractions_are_exact(case: WindowCase, depthwise: bool) -> None:
    x, w = fractions(case.x), fractions(case.w)
    b = None if case.b is None or depthwise else fractions(case.b)
    op, loops = (reference.depthwise_conv2d, naive.depthwise_conv2d) if depthwise else (reference.conv2d, naive.conv2d)
    y = op(x, w, b, **case.window)
    assert y.dtype == object
    np.testing.assert_array_equal(y, loops(x, w, b, **case.window))


@given(maps(), st.tuples(*[st.integers(0, 3)] * 4))
def test_zero_pad_puts_zeros_around_and_nothing_else(x: Array, sides: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = sides
    y = reference.zero_pad(x, ((top, bottom), (left, right)))
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0))))
    assert y.dtype == x.dtype


@given(st.integers(1, 30), st.sampled_from([1, 2, 3]))
def test_the_reference_pads_where_the_integers_say(size: int, stride: int) -> None:
    """A filter of powers of two reads its own zeros back."""
    K = 3
    x, w = np.ones((1, size, 1, 1), int), np.array([1, 2, 4]).reshape(K, 1, 1, 1)
    first = reference.conv2d(x, w, stride=stride)[0, 0, 0, 0]
    before, _ = same_padding(size, K, stride)
    seen = [before <= u < before + size for u in range(K)]
    assert first == sum(2**u for u in range(K) if seen[u])
