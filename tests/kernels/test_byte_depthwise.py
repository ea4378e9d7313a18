"""Depthwise convolutions of bytes against the sum of products as it is written down, on every target of this host."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from npmobilenet_kernels.microkernels.byte_depthwise import ByteDepthwise, depthwise_any
from npmobilenet_kernels.runtime.byte_filters import pack_byte_depthwise, pack_byte_taps, pack_window_masks
from npmobilenet_kernels.runtime.byte_packing import Requantization
from npmobilenet_kernels.runtime.cpu import host_byte_target

from npmobilenet.types import Pair
from tests.helpers.byte_steps import KINDS, TARGETS, Bytes, Drawn, Step, runnable_targets
from tests.helpers.strategies import SEEDS

SIDES = st.tuples(st.integers(1, 4), st.integers(1, 4))
STRIDES = st.tuples(st.integers(1, 3), st.integers(1, 3))


@dataclass(frozen=True)
class Window:
    """A filter's rows and columns, the step from output to output, and from tap to tap."""

    size: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)

    @property
    def extent(self) -> list[int]:
        """Rows and columns of the input under it."""
        return [(K - 1) * gap + 1 for K, gap in zip(self.size, self.dilation, strict=True)]


class Layer:
    """A drawn layer on a small map: weights between limits, any padding.

    Attributes:
        w: weights less their zero point, (K_h, K_w, C).
        y: the output, by the formula.
        step: the row of the table, but for its weights.
        left: columns of padding on the left.
    """

    def __init__(self, seed: int, window: Window, multiples: int, weights: Pair, kind: Requantization, target: str):
        rng = np.random.default_rng(seed)
        before, after = rng.integers(0, window.extent), rng.integers(0, window.extent)
        sides = [
            max(1, int(size + rng.integers(0, 18) - b - a))
            for size, b, a in zip(window.extent, before, after, strict=True)
        ]
        C_in, zero = int(rng.integers(1, 40)), int(rng.integers(0, 256))
        self.x: Bytes = rng.integers(0, 256, (*sides, C_in)).astype(np.uint8)
        wide = rng.integers(weights[0], weights[1] + 1, (*window.size, C_in * multiples))
        self.w = np.where(rng.random(C_in * multiples) < 0.1, wide, wide // 2)  # few channels need a second term
        bias = rng.integers(-5000, 5000, C_in * multiples)
        drawn = Drawn(rng, C_in * multiples, kind, target, bias - zero * self.w.sum((0, 1)))
        centered = np.repeat(self.x.astype(np.int64) - zero, multiples, axis=2)
        centered = np.pad(centered, (*zip(before, after, strict=True), (0, 0)))
        self.y = drawn(_sums(centered, self.w, window) + bias)
        self.left = int(before[1])
        self.step = Step(
            **drawn.columns, PADDING=np.full(16 * max(sides[1], 4), zero, np.uint8), STRIDE=window.stride[0],
            STRIDE_ACROSS=window.stride[1], TOP=before[0], LEFT=before[1], FILTER=window.size[0],
            FILTER_ACROSS=window.size[1], DILATION=window.dilation[0], DILATION_ACROSS=window.dilation[1],
            MULTIPLIER=multiples,
        )  # fmt: skip
        self.step.source(self.x)

    def run_windows(self, window: Window, target: str, parts: int) -> Bytes:
        """The output of the kernel that reads windows of four pixels."""
        (K_h, K_w), stride, W = window.size, window.stride[1], self.y.shape[1]
        outputs = min(4, W)
        packed, terms = pack_byte_depthwise(self.w, stride, outputs)
        masks = pack_window_masks(self.x.shape[1], W, self.left, K_w, stride, outputs)
        self.step.set(CONSTANTS=masks, WEIGHTS=packed, PANEL_BYTES=packed.size // -(-self.y.shape[2] // 16))
        return self.step.run(ByteDepthwise(K_h, K_w, stride, outputs, terms), target, self.y.shape, parts)


def _sums(x: np.ndarray, w: np.ndarray, window: Window) -> np.ndarray:
    """Sums of products of a padded map, (H, W, C)."""
    (K_h, K_w), (down, right), (rows, columns) = window.size, window.dilation, window.stride
    H, W = (1 + (side - size) // step for side, size, step in zip(x.shape, window.extent, window.stride, strict=False))
    acc = np.zeros((H, W, x.shape[2]), np.int64)
    for u in range(K_h):
        for v in range(K_w):
            acc += x[u * down :: rows, v * right :: columns][:H, :W] * w[u, v]
    return acc


@pytest.mark.parametrize(
    ("target", "size", "stride"),
    [(name, 3, 1) for name in runnable_targets()]
    + [(host_byte_target().name, *pair) for pair in [(3, 2), (5, 1), (5, 2)]],
)
def test_the_filters_of_mobilenets_give_the_sums_of_products(target: str, size: int, stride: int) -> None:
    window = Window((size, size), (stride, stride))
    for seed, kind in enumerate(Requantization):
        if kind != Requantization.DOUBLE:
            layer = Layer(seed, window, 1, (-128, 127), kind, target)
            np.testing.assert_array_equal(layer.run_windows(window, target, 1), layer.y)


@settings(max_examples=8)
@given(TARGETS, SEEDS, KINDS, st.sampled_from([(1, 2, 1), (2, 4, 3), (3, 3, 2), (3, 7, 2)]), st.integers(1, 3))
def test_windows_of_four_pixels_give_the_sums_of_products(
    target: str, seed: int, kind: Requantization, filters: tuple[int, int, int], parts: int
) -> None:
    window = Window(filters[:2], (filters[2], filters[2]))
    layer = Layer(seed, window, 1, (-255, 255), kind, target)
    np.testing.assert_array_equal(layer.run_windows(window, target, parts), layer.y)


@settings(max_examples=12)
@given(TARGETS, SEEDS, KINDS, st.builds(Window, SIDES, STRIDES, STRIDES), st.integers(1, 3), st.integers(1, 3))
def test_any_depthwise_filter_gives_the_sums_of_products(
    target: str, seed: int, kind: Requantization, window: Window, multiples: int, parts: int
) -> None:
    layer = Layer(seed, window, multiples, (-255, 255), kind, target)
    taps = pack_byte_taps(layer.w)
    layer.step.set(WEIGHTS=taps, PANEL_BYTES=window.size[0] * window.size[1] * 32)
    np.testing.assert_array_equal(layer.step.run(depthwise_any, target, layer.y.shape, parts), layer.y)
