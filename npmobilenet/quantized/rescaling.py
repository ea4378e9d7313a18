"""From an accumulator to the output's steps: acc M, rounded as a rule says."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npmobilenet.quantized.numbers import (
    Multiplier,
    multiplier,
    round_away,
    rounded_once,
    rounded_twice,
    rounded_up_twice,
)
from npmobilenet.quantized.rules import Rounding
from npmobilenet.quantized.tensors import Ints, Tensor

FIXED_POINT: dict[Rounding, Callable[[Ints, Multiplier], Ints]] = {
    "twice": rounded_twice,
    "once": rounded_once,
    "up_twice": rounded_up_twice,
}


@dataclass(frozen=True, eq=False)
class Rescaling:
    """acc M, one M or one per output channel.

    Args:
        M: float64, as precise as the rule has it.
        rounding: see `Rounding`.
    """

    M: NDArray[np.float64]
    rounding: Rounding

    @property
    def multiplier(self) -> Multiplier:
        """M as an integer and a power of two."""
        return multiplier(self.M)

    def __call__(self, acc: Ints) -> Ints:
        """The nearest steps (..., C) to acc M of accumulators (..., C), without zero point and limits."""
        match self.rounding:
            case "float64":
                return round_away(acc.astype(np.float64) * self.M)
            case "float32":
                return np.rint(acc.astype(np.float32) * self.M.astype(np.float32)).astype(np.int64)
            case "mantissa":
                return _by_mantissa(acc, self.M)
            case fixed:
                return FIXED_POINT[fixed](acc, self.multiplier)


def mantissa(M: NDArray[np.float64]) -> tuple[Ints, Ints]:
    """The 24 bits m of M as float32, and t: M = m 2^-t."""
    f, e = np.frexp(M.astype(np.float32).astype(np.float64))
    return (f * 2.0**24).astype(np.int64), 24 - e.astype(np.int64)


def _by_mantissa(acc: Ints, M: NDArray[np.float64]) -> Ints:
    """(acc m + 2^(t-1)) >> t: halves up."""
    m, t = mantissa(M)
    y: Ints = (acc * m + np.left_shift(1, t - 1)) >> t
    return y


def convolution_rescaling(x: Tensor, w: Tensor, y: Tensor, rounding: Rounding) -> Rescaling:
    """M = sx sw / sy of a convolution.

    The product of the scales is float64 for int8, but float32 for uint8. XNNPACK computes all of M in float32.

    Source: TensorFlow Lite's `GetQuantizedConvolutionMultipler` and `kernel_util.cc`.
    """
    if rounding in ("float32", "mantissa"):
        return Rescaling(((x.scale * w.scale) / y.scale).astype(np.float64), rounding)
    if y.dtype == np.uint8:
        return Rescaling((x.scale * w.scale).astype(np.float64) / y.scale, rounding)
    return Rescaling(x.scale.astype(np.float64) * w.scale / y.scale, rounding)


def dense_rescaling(x: Tensor, w: Tensor, y: Tensor, rounding: Rounding) -> Rescaling:
    """M = sx sw / sy of a dense layer: float64 in `tflite`; else the product of the scales of a tensor is float32.

    Source: TensorFlow Lite's `fully_connected.cc`.
    """
    if rounding == "float64" or (w.scale.size > 1 and rounding != "float32"):
        return Rescaling(x.scale.astype(np.float64) * w.scale / y.scale, rounding)
    if rounding in ("float32", "mantissa"):
        return convolution_rescaling(x, w, y, rounding)
    return Rescaling((x.scale * w.scale).astype(np.float64) / y.scale, rounding)


def change_of_scale(M: NDArray[np.float64], rounding: Rounding) -> Rescaling:
    """A factor of a tensor's own, such as sx / sy."""
    return Rescaling(np.asarray(M, np.float64), rounding)
