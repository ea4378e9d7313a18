"""Calls of single micro-kernels, on arrays between margins.

What a kernel may read is surrounded by NaN, which would show in the result, and what it may write by a value that must
still be there afterwards.
"""

import ctypes
import functools

import numpy as np
from hypothesis import strategies as st
from npmobilenet_kernels.drivers.step_table import Activation
from npmobilenet_kernels.microkernels.catalog import all_tiles
from npmobilenet_kernels.runtime import codegen, native
from npmobilenet_kernels.runtime.cpu import host_target, host_targets
from npmobilenet_kernels.runtime.packing import Floats
from numpy.typing import ArrayLike

WIDTHS = st.sampled_from(sorted(host_targets()))
ACTIVATION = st.sampled_from(list(Activation))
MARGIN = 512  # floats on either side
UNTOUCHED = np.float32(-12345.678)
STRANGE = np.array([np.nan, np.inf, -np.inf, 1e-42, -1e-42, 3e38, -3e38, 0.0, -0.0], np.float32)


class MarginedArray:
    """An array between margins of one value."""

    def __init__(self, values: ArrayLike, margin: float) -> None:
        values = np.asarray(values, np.float32)
        self._memory = np.full(values.size + 2 * MARGIN, margin, np.float32)
        self.values = self._memory[MARGIN : MARGIN + values.size].reshape(values.shape)
        self.values[...] = values
        self._margin = np.float32(margin)

    @property
    def address(self) -> int:
        return self.values.ctypes.data

    def assert_margins_untouched(self) -> None:
        ends = np.concatenate([self._memory[:MARGIN], self._memory[-MARGIN:]])
        np.testing.assert_array_equal(ends, np.full(2 * MARGIN, self._margin), err_msg="written outside the array")


def readable(values: ArrayLike) -> MarginedArray:
    """An input, between margins of NaN."""
    return MarginedArray(values, np.nan)


def writable(shape: int | tuple[int, ...]) -> MarginedArray:
    """An output, which holds UNTOUCHED like its margins."""
    return MarginedArray(np.full(shape, UNTOUCHED), float(UNTOUCHED))


def call(name: str, *arguments: MarginedArray | int) -> None:
    """Run the micro-kernel with this symbol; arrays are passed by address."""
    width = int(name.rsplit("x", 1)[1])
    values = [a.address if isinstance(a, MarginedArray) else int(a) for a in arguments]
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(values))(_compiled(width)[name])(*values)


@functools.cache
def _compiled(width: int) -> dict[str, int]:
    target = host_target(width)
    tiles = all_tiles(target)
    return native.load(codegen.compile_tiles(tiles, target), tiles)


def normal(rng: np.random.Generator, *shape: int) -> Floats:
    return rng.normal(size=shape).astype(np.float32)


def integers(rng: np.random.Generator, *shape: int) -> Floats:
    """Small integers, whose products float32 sums exactly in any order."""
    return rng.integers(-8, 9, shape).astype(np.float32)


def with_holes(w: Floats, dilation: int) -> Floats:
    """The ordinary kernel that a dilated one is equal to: zeros between its taps, (K_h, K_w, ...)."""
    (K_h, K_w), rest = w.shape[:2], w.shape[2:]
    spread = np.zeros(((K_h - 1) * dilation + 1, (K_w - 1) * dilation + 1, *rest), np.float32)
    spread[::dilation, ::dilation] = w
    return spread


def activation_name(activation: int) -> str:
    return Activation(activation).name.lower()
