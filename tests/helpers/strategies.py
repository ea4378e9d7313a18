"""Hypothesis strategies: shapes and a seed are drawn, `default_rng(seed)` fills; every case drawn is a valid one."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from npmobilenet.types import Array, Padding, Pair

KERNELS = st.sampled_from([1, 2, 3, 4, 5])
STRIDES = st.sampled_from([1, 2, 3])
DILATIONS = st.sampled_from([1, 1, 2, 3, 4])
SEEDS = st.integers(0, 2**32 - 1)
DTYPES = st.sampled_from([np.float16, np.float32, np.float64])
KERAS_DTYPES = st.sampled_from([np.float32, np.float64])
LAYOUTS = st.sampled_from(["contiguous", "read-only", "every second", "backwards", "fortran"])


def laid_out(x: Array, layout: str) -> Array:
    """The same values in another memory layout."""
    if layout == "read-only":
        x.flags.writeable = False
    elif layout == "every second":
        wide = np.full([2 * side for side in x.shape], -77, x.dtype)
        wide[tuple(slice(None, None, 2) for _ in x.shape)] = x
        x = wide[tuple(slice(None, None, 2) for _ in x.shape)]
    elif layout == "backwards":
        flip = tuple(slice(None, None, -1) for _ in x.shape)
        x = x[flip].copy()[flip]
    elif layout == "fortran":
        x = np.asfortranarray(x)
    return x


@dataclass(frozen=True)
class WindowCase:
    """An image batch, a kernel and a bias for `conv2d` or `depthwise_conv2d`, in float64 that float16 can hold."""

    x: Array
    w: Array
    b: Array | None
    stride: int
    padding: Padding
    layout: str
    dilation: int = 1

    @property
    def window(self) -> dict[str, Any]:
        """Keyword arguments of the operations and their bounds."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    def __repr__(self) -> str:
        return (
            f"WindowCase(x {self.x.shape}, w {self.w.shape}, bias={self.b is not None}, stride={self.stride}, "
            f"padding={self.padding!r}, dilation={self.dilation}, layout={self.layout!r})"
        )

    def arrays(self, dtype: Any) -> tuple[Array, Array, Array | None]:
        """x, w, b in a dtype, x laid out in memory as drawn."""
        b = None if self.b is None else self.b.astype(dtype)
        return laid_out(self.x.astype(dtype), self.layout), self.w.astype(dtype), b


@st.composite
def axes(draw: st.DrawFn, kind: str, dilation: int) -> tuple[int, int, Pair]:
    """(size, K, zeros before and after) of one axis: any size for "same", one that the window fits into otherwise."""
    K = draw(KERNELS)
    if kind == "same":
        return draw(st.integers(1, 9)), K, (0, 0)
    zeros = (0, 0) if kind == "valid" else (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    reach = dilation * (K - 1) + 1
    return max(1, reach - sum(zeros)) + draw(st.integers(0, 5)), K, zeros


@st.composite
def window_cases(
    draw: st.DrawFn, *, depthwise: bool, max_batch: int = 2, min_batch: int = 1, as_keras: bool = False
) -> WindowCase:
    """A convolution that is valid; `depthwise` gives w the shape (K_h, K_w, C, M).

    as_keras: with a stride or a dilation, not both, which Keras refuses.
    """
    kind = draw(st.sampled_from(["same", "same", "valid", "explicit"]))
    dilation = draw(DILATIONS)
    stride = 1 if as_keras and dilation > 1 else draw(STRIDES)
    H, K_h, rows = draw(axes(kind, dilation))
    W, K_w, cols = draw(axes(kind, dilation))
    N, c_in, c_last = draw(st.integers(min_batch, max_batch)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(SEEDS))
    c_out = c_in * c_last if depthwise else c_last
    return WindowCase(
        x=halves(rng, (N, H, W, c_in)),
        w=halves(rng, (K_h, K_w, c_in, c_last)),
        b=halves(rng, (c_out,)) if draw(st.booleans()) else None,
        stride=stride,
        padding=kind if kind != "explicit" else (rows, cols),
        layout=draw(LAYOUTS),
        dilation=dilation,
    )


@st.composite
def maps(draw: st.DrawFn, max_side: int = 7, max_channels: int = 5) -> Array:
    """(N, H, W, C) feature maps in float64 that float16 can hold."""
    shape = draw(st.tuples(*(st.integers(1, n) for n in (3, max_side, max_side, max_channels))))
    return halves(np.random.default_rng(draw(SEEDS)), shape)


def halves(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Normal random numbers that float16 can hold, as float64, so that one case serves all dtypes exactly."""
    return rng.normal(size=shape).astype(np.float16).astype(np.float64)


def fractions(x: Array) -> Array:
    """The same values as `Fraction` objects."""
    exact: Callable[[Array], Array] = np.vectorize(Fraction, otypes=[object])
    return exact(x)
