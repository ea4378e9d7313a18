"""Sums, products, tables, averages, maxima and padding of bytes, on every target of this host."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from npmobilenet_kernels.microkernels.byte_elementwise import byte_add, byte_multiply, byte_pad, byte_pairs, byte_table
from npmobilenet_kernels.microkernels.byte_pooling import byte_max_pool, byte_mean
from npmobilenet_kernels.runtime.byte_packing import Requantization, pack_limits

from tests.helpers.byte_steps import KINDS, TARGETS, Bytes, Drawn, Step, runnable_targets
from tests.helpers.strategies import SEEDS

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 40))
Shape3 = tuple[int, int, int]


def drawn_bytes(rng: np.random.Generator, *shape: int) -> Bytes:
    """Any bytes."""
    return rng.integers(0, 256, shape).astype(np.uint8)


@settings(max_examples=15)
@given(TARGETS, SEEDS, SHAPES, st.integers(1, 3), st.booleans())
def test_sums_of_maps_are_rounded_once(target: str, seed: int, shape: Shape3, parts: int, is_one_pixel: bool) -> None:
    rng = np.random.default_rng(seed)
    x1 = drawn_bytes(rng, *shape)
    x2 = drawn_bytes(rng, 1, 1, shape[2]) if is_one_pixel else drawn_bytes(rng, *shape)
    constants = rng.uniform(-1, 1, 3).astype(np.float32)
    if not runnable_targets()[target].fused:
        constants = np.round(constants * 64) / np.float32(64)  # exact with one rounding and with two
    low, high = sorted(rng.integers(0, 256, 2))
    table = rng.permutation(256).astype(np.uint8)
    step = Step(CONSTANTS=constants, LIMITS=pack_limits(100, low, high), TABLE=table)
    step.source(x1)
    step.source(x2, "OTHER")
    step.set(OTHER_PITCH=0 if is_one_pixel else 16)
    a, b, o = constants
    inner = (x2.astype(np.longdouble) * b + o).astype(np.float32)
    steps = np.rint((x1.astype(np.longdouble) * a + inner).astype(np.float32)).astype(np.int64)
    expected = table[np.clip(steps + 100, low, high)]
    np.testing.assert_array_equal(step.run(byte_add, target, shape, parts), expected)


@settings(max_examples=15)
@given(TARGETS, SEEDS, KINDS, SHAPES, st.integers(1, 3), st.booleans())
def test_products_of_maps_are_those_of_their_steps(
    target: str, seed: int, kind: Requantization, shape: Shape3, parts: int, is_one_pixel: bool
) -> None:
    rng = np.random.default_rng(seed)
    x1 = drawn_bytes(rng, *shape)
    x2 = drawn_bytes(rng, 1, 1, shape[2]) if is_one_pixel else drawn_bytes(rng, *shape)
    zeros = rng.integers(0, 256, 2)
    drawn = Drawn(rng, shape[2], kind, target, np.zeros(shape[2], np.int64))
    step = Step(**drawn.columns, CONSTANTS=zeros.astype(np.int32), OTHER_PITCH=0 if is_one_pixel else 16)
    step.source(x1)
    step.source(x2, "OTHER")
    expected = drawn((x1.astype(np.int64) - zeros[0]) * (x2.astype(np.int64) - zeros[1]))
    np.testing.assert_array_equal(step.run(byte_multiply, target, shape, parts), expected)


@settings(max_examples=8)
@given(TARGETS, SEEDS, SHAPES, st.integers(1, 3))
def test_tables_replace_every_byte(target: str, seed: int, shape: Shape3, parts: int) -> None:
    rng = np.random.default_rng(seed)
    x, table = drawn_bytes(rng, *shape), drawn_bytes(rng, 256)
    step = Step(TABLE=table)
    step.source(x)
    np.testing.assert_array_equal(step.run(byte_table, target, shape, parts), table[x])


@settings(max_examples=8)
@given(TARGETS, SEEDS, SHAPES, st.integers(1, 3))
def test_a_table_of_pairs_is_any_function_of_two_maps(target: str, seed: int, shape: Shape3, parts: int) -> None:
    rng = np.random.default_rng(seed)
    x1, x2, table = drawn_bytes(rng, *shape), drawn_bytes(rng, *shape), drawn_bytes(rng, 256, 256)
    step = Step(CONSTANTS=table.ravel(), OTHER_PITCH=16)
    step.source(x1)
    step.source(x2, "OTHER")
    np.testing.assert_array_equal(step.run(byte_pairs, target, shape, parts), table[x1, x2])


@settings(max_examples=12)
@given(TARGETS, SEEDS, KINDS, SHAPES)
def test_averages_are_requantized_sums(target: str, seed: int, kind: Requantization, shape: Shape3) -> None:
    rng = np.random.default_rng(seed)
    x, bias = drawn_bytes(rng, *shape), rng.integers(-5000, 5000, shape[2])
    drawn = Drawn(rng, shape[2], kind, target, bias)
    step = Step(**drawn.columns)
    step.source(x)
    y = step.run(byte_mean, target, (1, 1, shape[2]), units=-(-shape[2] // 16))
    np.testing.assert_array_equal(y, drawn(x.astype(np.int64).sum((0, 1), keepdims=True) + bias))


@settings(max_examples=12)
@given(TARGETS, SEEDS, SHAPES, st.tuples(st.integers(1, 3), st.integers(1, 3)), st.integers(1, 3), st.integers(1, 2))
def test_the_largest_byte_under_every_window(
    target: str, seed: int, shape: Shape3, size: tuple[int, int], stride: int, parts: int
) -> None:
    rng = np.random.default_rng(seed)
    x = drawn_bytes(rng, *shape)
    before = rng.integers(0, size)
    padded = np.pad(x, ((before[0], size[0] - 1 - before[0]), (before[1], size[1] - 1 - before[1]), (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(padded, size, (0, 1))[::stride, ::stride]
    low, high = sorted(rng.integers(0, 256, 2))
    step = Step(
        LIMITS=pack_limits(0, low, high), PADDING=np.zeros(16 * shape[1], np.uint8), STRIDE=stride, DILATION=1,
        STRIDE_ACROSS=stride, DILATION_ACROSS=1, TOP=before[0], LEFT=before[1], FILTER=size[0], FILTER_ACROSS=size[1],
    )  # fmt: skip
    step.source(x)
    expected = np.clip(views.max((-2, -1)), low, high)
    np.testing.assert_array_equal(step.run(byte_max_pool, target, expected.shape, parts), expected)


@settings(max_examples=8)
@given(TARGETS, SEEDS, SHAPES, st.tuples(*[st.integers(0, 3)] * 4), st.integers(1, 3))
def test_padding_puts_pixels_around_a_map(
    target: str, seed: int, shape: Shape3, sides: tuple[int, int, int, int], parts: int
) -> None:
    rng = np.random.default_rng(seed)
    x, zero = drawn_bytes(rng, *shape), int(rng.integers(0, 256))
    top, bottom, left, right = sides
    expected = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=zero)
    step = Step(TOP=top, LEFT=left, PADDING=np.full(16, zero, np.uint8))
    step.source(x)
    np.testing.assert_array_equal(step.run(byte_pad, target, expected.shape, parts), expected)


@pytest.mark.parametrize("target", runnable_targets())
def test_a_table_of_a_map_that_fills_its_pages(target: str) -> None:
    x = np.arange(4096, dtype=np.int64).reshape(16, 16, 16).astype(np.uint8)
    step = Step(TABLE=np.arange(255, -1, -1).astype(np.uint8))
    step.source(x)
    np.testing.assert_array_equal(step.run(byte_table, target, x.shape), 255 - x)
