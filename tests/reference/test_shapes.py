"""The integers of a convolution: by hand, by counting places, and against Keras."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet.errors import ShapeError
from npmobilenet.reference.shapes import (
    downsampling_padding,
    make_divisible,
    output_size,
    resolve_padding,
    same_padding,
    window_output,
)
from npmobilenet.types import Padding
from tests.oracles import naive

SIZES = st.integers(1, 300)
KERNELS = st.integers(1, 11)
STRIDES = st.integers(1, 5)


@pytest.mark.parametrize(
    ("size", "K", "stride", "zeros"),
    [
        (224, 3, 2, (0, 1)),  # the stem of every MobileNet: PyTorch's padding=1 would be (1, 1)
        (225, 3, 2, (1, 1)),
        (112, 3, 1, (1, 1)),
        (28, 5, 2, (1, 2)),
        (7, 5, 2, (2, 2)),
        (5, 2, 1, (0, 1)),
        (1, 3, 2, (1, 1)),
        (2, 5, 1, (2, 2)),
        (4, 1, 2, (0, 0)),  # the window jumps over the last pixel: no zeros, and none taken away
    ],
)
def test_same_padding_by_hand(size: int, K: int, stride: int, zeros: tuple[int, int]) -> None:
    assert same_padding(size, K, stride) == zeros


@given(SIZES, KERNELS, STRIDES)
def test_same_padding_gives_the_ceiling_of_size_over_stride(size: int, K: int, stride: int) -> None:
    assert output_size(size, K, stride, same_padding(size, K, stride)) == math.ceil(size / stride)


@given(SIZES, KERNELS, STRIDES)
def test_same_padding_is_the_smallest_that_does(size: int, K: int, stride: int) -> None:
    assert same_padding(size, K, stride) == naive.same_padding(size, K, stride)


@given(SIZES, KERNELS, STRIDES)
def test_same_padding_puts_the_odd_zero_at_the_end(size: int, K: int, stride: int) -> None:
    before, after = same_padding(size, K, stride)
    assert after - before in (0, 1)


@given(SIZES, KERNELS, STRIDES, st.integers(0, 5), st.integers(0, 5))
def test_output_size_counts_the_places_of_the_window(size: int, K: int, stride: int, before: int, after: int) -> None:
    assert output_size(size, K, stride, (before, after)) == len(naive.places(size, K, stride, (before, after)))


@given(SIZES, SIZES, st.sampled_from([3, 5]))
def test_downsampling_padding_equals_same(H: int, W: int, K: int) -> None:
    assert downsampling_padding((H, W), K) == (same_padding(H, K, 2), same_padding(W, K, 2))


@pytest.mark.parametrize("K", [3, 5])
@pytest.mark.parametrize("size", [(224, 224), (7, 12), (33, 96), (1, 2)])
def test_downsampling_padding_equals_keras(keras: Any, size: tuple[int, int], K: int) -> None:
    from keras.src.applications import imagenet_utils

    image = keras.KerasTensor((1, *size, 3))
    assert downsampling_padding(size, K) == imagenet_utils.correct_pad(image, K)


def test_resolve_padding_takes_names_and_numbers() -> None:
    assert resolve_padding("same", (4, 5), (3, 3), 2) == ((0, 1), (1, 1))
    assert resolve_padding("valid", (4, 5), (3, 3), 2) == ((0, 0), (0, 0))
    assert resolve_padding(((1, 2), (3, 4)), (4, 5), (3, 3), 2) == ((1, 2), (3, 4))


def test_a_rectangular_window_is_padded_on_each_axis_by_itself() -> None:
    assert resolve_padding("same", (6, 6), (5, 1), 1) == ((2, 2), (0, 0))
    assert window_output((6, 9), (5, 2), 2, "valid") == (1, 4)


@pytest.mark.parametrize("padding", ["SAME", "full", ""])
def test_an_unknown_padding_is_refused_by_name(padding: str) -> None:
    with pytest.raises(ShapeError, match=repr(padding)):
        resolve_padding(padding, (4, 4), (3, 3), 1)


@pytest.mark.parametrize("padding", [((-1, 0), (0, 0)), ((0, 0), (0, -2))])
def test_negative_zeros_are_refused(padding: Padding) -> None:
    with pytest.raises(ShapeError, match="negative"):
        resolve_padding(padding, (4, 4), (3, 3), 1)


@pytest.mark.parametrize(("size", "padding"), [((2, 9), "valid"), ((9, 2), "valid"), ((1, 9), ((1, 0), (0, 0)))])
def test_a_window_that_does_not_fit_is_refused_with_the_numbers(size: tuple[int, int], padding: Padding) -> None:
    with pytest.raises(ShapeError, match=r"window of \(3, 3\).*larger input"):
        window_output(size, (3, 3), 1, padding)


@pytest.mark.parametrize(
    ("channels", "rounded"),
    [
        (3, 8),
        (8, 8),
        (11.2, 16),
        (11.9, 16),
        (12, 16),
        (18, 24),
        (20, 24),
        (33, 32),
        (35, 32),
        (36, 40),
        (88 * 0.75, 64),
    ],
)
def test_make_divisible_by_hand(channels: float, rounded: int) -> None:
    """11.2 lies nearer to 8, which would be less than nine tenths of it; 18 lies midway between 16 and 24."""
    assert make_divisible(channels) == rounded


@given(st.floats(0.1, 5000), st.sampled_from([4, 8, 16]))
def test_make_divisible_never_loses_more_than_a_tenth(channels: float, divisor: int) -> None:
    rounded = make_divisible(channels, divisor)
    assert rounded % divisor == 0
    assert rounded >= max(divisor, 0.9 * channels)
    assert rounded <= max(divisor, channels + divisor)


@given(st.floats(0.1, 5000))
def test_make_divisible_equals_keras(keras: Any, channels: float) -> None:
    from keras.src.applications import mobilenet_v2, mobilenet_v3

    assert make_divisible(channels) == mobilenet_v2._make_divisible(channels, 8) == mobilenet_v3._depth(channels)


def test_sizes_of_numpy_integers_are_as_good_as_ints() -> None:
    assert same_padding(int(np.int64(224)), 3, 2) == (0, 1)
