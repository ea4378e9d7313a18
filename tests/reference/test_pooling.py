"""Pooling against the naive loops, against Keras, and by hand."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet import reference
from npmobilenet.reference import rounding
from npmobilenet.types import Array
from tests.helpers.strategies import (
    DTYPES,
    LAYOUTS,
    WindowCase,
    laid_out,
    maps,
    window_cases,
)
from tests.helpers.within import assert_within
from tests.oracles import naive


@given(window_cases(depthwise=True), DTYPES)
def test_average_pool_equals_the_loops(case: WindowCase, dtype: Any) -> None:
    size = case.w.shape[:2]
    padding = case.padding if isinstance(case.padding, str) else "same"
    x = case.x
    y = reference.average_pool(laid_out(x.astype(dtype), case.layout), size=size, stride=case.stride, padding=padding)
    assert y.dtype == dtype
    bound = rounding.average_pool_bound(x, size=size, stride=case.stride, padding=padding, dtype=dtype)
    assert_within(bound, y, naive.average_pool(x, size, case.stride, padding))


@given(window_cases(depthwise=True))
def test_average_pool_equals_keras(keras: Any, case: WindowCase) -> None:
    x, w, _ = case.arrays(np.float32)
    padding = case.padding if isinstance(case.padding, str) else "same"
    layer = keras.layers.AveragePooling2D(w.shape[:2], case.stride, padding)
    theirs = keras.ops.convert_to_numpy(layer(np.ascontiguousarray(x)))
    y = reference.average_pool(x, size=w.shape[:2], stride=case.stride, padding=padding)
    assert_within(2 * rounding.average_pool_bound(x, size=w.shape[:2], stride=case.stride, padding=padding), y, theirs)


def test_average_pool_does_not_count_the_zeros_of_the_padding() -> None:
    x = np.array([[6.0, 2], [4, 8]])[None, :, :, None]
    y = reference.average_pool(x, size=(2, 2), stride=1, padding="same")
    assert y[0, :, :, 0].tolist() == [[(6 + 2 + 4 + 8) / 4, (2 + 8) / 2], [(4 + 8) / 2, 8]]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("side", "K", "stride"), [(7, 3, 2), (8, 3, 2), (6, 2, 2), (5, 3, 1), (4, 1, 3)])
def test_max_pool_equals_keras(keras: Any, side: int, K: int, stride: int, padding: str) -> None:
    x = np.random.default_rng(side).standard_normal((2, side, side + 1, 3)).astype("f") - 5  # zeros would win
    theirs = keras.ops.convert_to_numpy(keras.ops.max_pool(x, K, stride, padding))
    ours = reference.max_pool(x, size=(K, K), stride=stride, padding=padding)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, theirs)


def test_max_pool_by_hand() -> None:
    x = np.arange(9.0).reshape(1, 3, 3, 1)
    np.testing.assert_array_equal(reference.max_pool(x, size=(2, 2), stride=1)[0, ..., 0], [[4, 5], [7, 8]])


def test_max_pool_hands_nan_on() -> None:
    x = np.array([1, np.nan, 2, 3.0]).reshape(1, 2, 2, 1)
    assert np.isnan(reference.max_pool(x, size=(2, 2), stride=2)).all()


def test_max_pool_is_exact_on_fractions() -> None:
    x = np.array([Fraction(1, 3), Fraction(1, 2)], object).reshape(1, 1, 2, 1)
    assert reference.max_pool(x, size=(1, 2), stride=1, padding="same").ravel().tolist() == [
        Fraction(1, 2),
        Fraction(1, 2),
    ]


@given(maps(max_side=12), DTYPES, LAYOUTS, st.booleans())
def test_global_pools_equal_the_loops(x: Array, dtype: Any, layout: str, keepdims: bool) -> None:
    given_x = laid_out(x.astype(dtype), layout)
    mean = reference.global_average_pool(given_x, keepdims=keepdims)
    largest = reference.global_max_pool(given_x, keepdims=keepdims)
    assert mean.dtype == largest.dtype == dtype
    place = (len(x), 1, 1, x.shape[3]) if keepdims else (len(x), x.shape[3])
    assert mean.shape == largest.shape == place
    assert_within(
        rounding.global_average_pool_bound(x, keepdims=keepdims, dtype=dtype),
        mean,
        naive.global_average_pool(x).reshape(place),
    )
    np.testing.assert_array_equal(largest, naive.global_max_pool(x).reshape(place))


@given(maps(max_side=12))
def test_global_pools_equal_keras(keras: Any, x: Array) -> None:
    x = x.astype(np.float32)
    mean, largest = keras.layers.GlobalAveragePooling2D()(x), keras.layers.GlobalMaxPooling2D()(x)
    assert_within(
        2 * rounding.global_average_pool_bound(x),
        reference.global_average_pool(x),
        keras.ops.convert_to_numpy(mean),
    )
    np.testing.assert_array_equal(reference.global_max_pool(x), keras.ops.convert_to_numpy(largest))


def test_global_pools_hand_nan_on() -> None:
    x = np.array([1.0, np.nan, 3, 4]).reshape(1, 2, 2, 1)
    assert np.isnan(reference.global_average_pool(x)).all()
    assert np.isnan(reference.global_max_pool(x)).all()


@pytest.mark.parametrize("op", [reference.global_average_pool, reference.global_max_pool])
def test_pooling_no_images_gives_no_rows(op: Callable[..., Array]) -> None:
    assert op(np.zeros((0, 4, 5, 3), np.float32)).shape == (0, 3)
