"""Depthwise convolutions of bytes against the sum of products as it is written down, on every target of this host."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from npmobilenet_kernels.drivers.byte_table import ByteField
from npmobilenet_kernels.microkernels.byte_depthwise import ByteDepthwise, depthwise_any
from npmobilenet_kernels.runtime.byte_filters import pack_byte_depthwise, pack_byte_taps, pack_window_masks
from npmobilenet_kernels.runtime.byte_packing import Requantization, exact_parts, pack_limits, pack_records

from npmobilenet.quantized.numbers import multiplier, rounded_twice
from tests.helpers.byte_steps import TARGETS, Bytes, Step
from tests.helpers.strategies import SEEDS


@dataclass(frozen=True)
class Case:
    """A layer with its output, by the formula."""

    x: Bytes
    w: np.ndarray
    y: Bytes
    step: Step


def drawn(seed: int, filters: tuple[int, int], strides: tuple[int, int], gaps: tuple[int, int], multiples: int, least: int, largest: int) -> Case:
    """A layer whose weights are drawn between the limits, on a small map."""
    rng = np.random.default_rng(seed)
    extent = [(K - 1) * gap + 1 for K, gap in zip(filters, gaps, strict=True)]
    before, after = rng.integers(0, extent), rng.integers(0, extent)
    sides = [max(1, int(size + rng.integers(0, 18) - b - a)) for size, b, a in zip(extent, before, after, strict=True)]
    C_in, zero, out_zero = int(rng.integers(1, 40)), int(rng.integers(0, 256)), int(rng.integers(0, 256))
    C = C_in * multiples
    x = rng.integers(0, 256, (*sides, C_in)).astype(np.uint8)
    w = rng.integers(least, largest + 1, (*filters, C))
    low, high = sorted(rng.integers(0, 256, 2))
    bias = rng.integers(-5000, 5000, C)
    padded = np.pad(x.astype(np.int64), (*zip(before, after, strict=True), (0, 0)), constant_values=zero)
    padded = np.repeat(padded - zero, multiples, axis=2)
    H, W = (1 + (side - size) // stride for side, size, stride in zip(padded.shape, extent, strides, strict=False))
    acc = np.zeros((H, W, C), np.int64) + bias
    for u in range(filters[0]):
        for v in range(filters[1]):
            top, left = u * gaps[0], v * gaps[1]
            acc += padded[top:, left:][: strides[0] * H : strides[0], : strides[1] * W : strides[1]][:H, :W] * w[u, v]
    m = multiplier(np.exp(rng.uniform(-9, -3, C)))
    y = np.clip(rounded_twice(acc, m) + out_zero, low, high).astype(np.uint8)
    parts = exact_parts(bias - zero * w.sum((0, 1)), m.q, m.e, "twice")
    step = Step(
        RECORDS=pack_records(np.full(-(-C // 16), Requantization.EXACT), parts),
        LIMITS=pack_limits(out_zero, low, high), PADDING=np.full(16 * max(sides[1], 4), zero, np.uint8),
        STRIDE=strides[0], STRIDE_ACROSS=strides[1], TOP=before[0], LEFT=before[1], FILTER=filters[0],
        FILTER_ACROSS=filters[1], DILATION=gaps[0], DILATION_ACROSS=gaps[1], MULTIPLIER=multiples,
    )  # fmt: skip
    step.source(x)
    return Case(x, w, y, step)


@settings(max_examples=12)
@given(
    TARGETS, SEEDS, st.sampled_from([(3, 3, 1), (3, 3, 2), (5, 5, 1), (5, 5, 2), (1, 2, 1), (2, 4, 3), (3, 7, 2)]),
    st.integers(1, 3), st.booleans(), st.integers(1, 3),
)  # fmt: skip
def test_windows_of_four_pixels_give_the_sums_of_products(
    target: str, seed: int, filters: tuple[int, int, int], rows: int, wide: bool, parts: int
) -> None:
    K_h, K_w, across = filters
    case = drawn(seed, (K_h, K_w), (rows, across), (1, 1), 1, *((-255, 255) if wide else (-128, 127)))
    outputs = min(4, case.y.shape[1])
    packed, terms = pack_byte_depthwise(case.w, across, outputs)
    masks = pack_window_masks(case.x.shape[1], case.y.shape[1], int(case.step.row[ByteField.LEFT]), K_w, across, outputs)
    case.step.set(CONSTANTS=masks, WEIGHTS=packed, PANEL_BYTES=packed.size // -(-case.y.shape[2] // 16))
    y = case.step.run(ByteDepthwise(K_h, K_w, across, outputs, terms), target, case.y.shape, parts)
    np.testing.assert_array_equal(y, case.y)


@settings(max_examples=12)
@given(
    TARGETS, SEEDS, *[st.tuples(st.integers(1, 4), st.integers(1, 4))] * 2,
    st.tuples(st.integers(1, 3), st.integers(1, 3)), st.integers(1, 3), st.integers(1, 3),
)  # fmt: skip
def test_any_depthwise_filter_gives_the_sums_of_products(
    target: str, seed: int, filters: tuple[int, int], strides: tuple[int, int], gaps: tuple[int, int],
    multiples: int, parts: int,
) -> None:  # fmt: skip
    case = drawn(seed, filters, strides, gaps, multiples, -255, 255)
    taps = pack_byte_taps(case.w)
    case.step.set(WEIGHTS=taps, PANEL_BYTES=filters[0] * filters[1] * 32)
    np.testing.assert_array_equal(case.step.run(depthwise_any, target, case.y.shape, parts), case.y)
