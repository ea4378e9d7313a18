"""Micro-kernels that rearrange pixels: im2col, interleaved images, repeated channels."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from npmobilenet_kernels.microkernels.symbols import simple_name
from npmobilenet_kernels.runtime.cpu import host_target
from npmobilenet_kernels.runtime.packing import from_blocks, to_blocks

from tests.helpers.kernel_calls import WIDTHS, call, normal, readable, writable
from tests.helpers.strategies import SEEDS


@given(WIDTHS, st.integers(1, 20), st.integers(-4, 25), st.integers(1, 4), st.integers(1, 20), st.integers(1, 9), SEEDS)
def test_im2col_takes_every_stride_th_pixel_and_zeros_outside(
    width: int, columns: int, first: int, stride: int, channels: int, count: int, seed: int
) -> None:
    x = normal(np.random.default_rng(seed), 1, columns, channels)
    blocks = to_blocks(x, width)
    blocks[-1, :, (channels - 1) % width + 1 :] = np.nan  # the lanes after the last channel are arbitrary
    row, zero, y = readable(blocks), readable(np.zeros(width)), writable((len(blocks), count, width))

    for c in range(len(blocks)):
        here, there = row.values[c].ctypes.data, y.values[c].ctypes.data
        rest = channels - c * width
        call(simple_name("im2col_row", host_target(width)), here, columns, first, stride, rest, zero, count, there)

    expected = np.zeros((1, count, channels), np.float32)
    for j in range(count):
        if 0 <= first + j * stride < columns:
            expected[0, j] = x[0, first + j * stride]
    np.testing.assert_array_equal(y.values, to_blocks(expected, width))
    y.assert_margins_untouched()


@given(WIDTHS, st.integers(1, 20), st.integers(1, 20), SEEDS)
def test_an_image_becomes_scaled_blocks_of_channels(width: int, count: int, channels: int, seed: int) -> None:
    x = readable(normal(np.random.default_rng(seed), count, channels))
    blocks = -(-channels // width)
    y = writable((blocks, count, width))

    for c in range(blocks):
        here, there = x.address + 4 * c * width, y.values[c].ctypes.data
        rest = min(width, channels - c * width)
        call(
            simple_name("image_pixels", host_target(width)), here, 4 * channels, rest, readable([0.5, -1]), count, there
        )

    np.testing.assert_array_equal(y.values, to_blocks((x.values * np.float32(0.5) - 1)[None], width))
    y.assert_margins_untouched()


@given(WIDTHS, st.integers(1, 12), st.integers(1, 40), st.integers(2, 5), SEEDS)
def test_every_channel_is_repeated_in_the_order_of_the_depth_multiplier(
    width: int, pixels: int, channels: int, multiplier: int, seed: int
) -> None:
    x = normal(np.random.default_rng(seed), 1, pixels, channels)
    source = readable(to_blocks(x, width))
    blocks = -(-channels * multiplier // width)
    y = writable((blocks, pixels, width))

    for c in range(blocks):
        there = y.values[c].ctypes.data
        call(
            simple_name("repeat_channels", host_target(width)), source, pixels * width * 4, pixels, c * width,
            multiplier, channels, there,
        )  # fmt: skip

    expected = np.repeat(x, multiplier, axis=2)
    np.testing.assert_array_equal(from_blocks(y.values, expected.shape), expected)
    y.assert_margins_untouched()
