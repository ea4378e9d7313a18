"""Resizing against loops, against Keras, and by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet.errors import ArgumentError, ShapeError
from npmobilenet.reference import rounding
from npmobilenet.reference.interpolation import resize
from npmobilenet.reference.layers import Resizing, UpSampling2D
from npmobilenet.types import Array
from tests.helpers.strategies import maps
from tests.helpers.within import assert_within
from tests.oracles import naive

SIDES = st.integers(1, 12)
INTERPOLATIONS = st.sampled_from(["nearest", "bilinear"])


@given(maps(), SIDES, SIDES, INTERPOLATIONS, st.sampled_from([np.float16, np.float32]))  # the loops are in float64
def test_resizing_equals_the_loops(x: Array, H: int, W: int, interpolation: str, dtype: Any) -> None:
    y = resize(x.astype(dtype), (H, W), interpolation)
    assert y.dtype == dtype
    bound = rounding.resize_bound(x, (H, W), interpolation, dtype=dtype)
    assert_within(bound, y, naive.resize(x, H, W, interpolation))


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_resizing_equals_keras(request: pytest.FixtureRequest, library: str, interpolation: str) -> None:
    """Keras computes positions in float32: a weight is off by 4 roundings of a position of at most 17 pixels."""
    keras = request.getfixturevalue(library)
    x = np.random.default_rng(0).normal(0, 1, (2, 11, 17, 3)).astype(np.float32)
    weights = 2 * 17 * rounding.gamma(4) * np.abs(x).max() if interpolation == "bilinear" else 0
    for H, W in ((5, 9), (11, 17), (23, 8), (22, 34), (1, 1), (64, 50)):
        theirs = np.asarray(keras.layers.Resizing(H, W, interpolation=interpolation)(x))
        bound = 2 * rounding.resize_bound(x, (H, W), interpolation) + 2 * weights
        assert_within(bound, resize(x, (H, W), interpolation), theirs, f"{H} x {W}")


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_upsampling_equals_keras(request: pytest.FixtureRequest, library: str, interpolation: str) -> None:
    keras = request.getfixturevalue(library)
    x = np.random.default_rng(0).normal(0, 1, (2, 5, 7, 3)).astype(np.float32)
    theirs = np.asarray(keras.layers.UpSampling2D((2, 3), interpolation=interpolation)(x))
    y = UpSampling2D(name="y", size=(2, 3), interpolation=interpolation).apply({}, x)
    weights = 2 * 7 * rounding.gamma(4) * np.abs(x).max() if interpolation == "bilinear" else 0
    assert_within(2 * rounding.resize_bound(x, (10, 21), interpolation) + 2 * weights, y, theirs)


def test_resizing_by_hand() -> None:
    """Two pixels to four: centers at -1/4, 1/4, 3/4 and 5/4 of the two; four to two: halfway between neighbors."""
    x = np.array([0.0, 8.0]).reshape(1, 1, 2, 1)
    assert resize(x, (1, 4), "bilinear").ravel().tolist() == [0, 2, 6, 8]
    assert resize(x, (1, 4), "nearest").ravel().tolist() == [0, 0, 8, 8]
    assert resize(np.arange(4.0).reshape(1, 4, 1, 1), (2, 1), "bilinear").ravel().tolist() == [0.5, 2.5]
    assert resize(np.arange(4.0).reshape(1, 4, 1, 1), (2, 1), "nearest").ravel().tolist() == [1, 3]


def test_what_cannot_be_resized_is_refused() -> None:
    with pytest.raises(ArgumentError, match="y: expected interpolation nearest or bilinear, got 'bicubic'"):
        Resizing(name="y", height=2, width=2, interpolation="bicubic").check()
    with pytest.raises(ShapeError, match="y: Resizing expects a feature map"):
        Resizing(name="y", height=2, width=2).output_shape((3,))
