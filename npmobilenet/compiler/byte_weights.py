"""Weights of 8-bit layers as the kernels multiply them: signed bytes, whatever the file has.

    acc = b + sum (x - zx) (w - zw)                         x, zx unsigned bytes
        = [b - zx sum (w - zw)] + sum x (w - zw)            w - zw is a signed byte, or the sum of several
        = [b - zx sum w' - f K zx] + sum x w' + f sum x     w' = w - 128, f = 128 - zw: one more sum per pixel

What is in brackets is known beforehand: the correction.
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from npmobilenet.compiler.byte_operations import Link, stored_zero
from npmobilenet.compiler.proofs import Reach, reach_of
from npmobilenet.quantized.tensors import Ints
from npmobilenet.quantized.weighted_sums import bias

LEAST, LARGEST = -128, 127  # of a signed byte
HALF_RANGE = 128


class SignedWeights:
    """Weights of one convolution, depthwise convolution or dense layer.

    Args:
        link: the operator.

    Attributes:
        centered: w - zw, (c_out, K_h, K_w, c_in), (1, K_h, K_w, C) or (c_out, c_in).
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        w = link.arguments[1]
        self.centered: Ints = w.integers - w.zero_point
        self._zero = w.zero_point
        self._is_depthwise = link.code == "DEPTHWISE_CONV_2D"

    @property
    def fits(self) -> bool:
        """Whether w - zw is a signed byte."""
        return bool(self.centered.min() >= LEAST and self.centered.max() <= LARGEST)

    @property
    def factor(self) -> int:
        """f, of the sum over the inputs of a pixel that is added where w - zw does not fit; else 0."""
        return 0 if self.fits else HALF_RANGE - self._zero

    @cached_property
    def terms(self) -> list[NDArray[np.int8]]:
        """Signed bytes whose sum is w - zw."""
        rest, terms = self.centered, list[NDArray[np.int8]]()
        while rest.any() or not terms:
            terms.append(np.clip(rest, LEAST, LARGEST).astype(np.int8))
            rest = rest - terms[-1]
        return terms

    @property
    def shifted(self) -> NDArray[np.int8]:
        """w - zw, or w - 128 where that does not fit."""
        return (self.centered - self.factor).astype(np.int8)

    @property
    def bias(self) -> Ints:
        """(c_out,), in the file's steps."""
        channels = self.centered.shape[-1 if self._is_depthwise else 0]
        return np.zeros(channels, np.int64) + bias(self._link.arguments)

    @cached_property
    def correction(self) -> Ints:
        """(c_out,): what makes accumulators of the sums of x (w - zw)."""
        axes = (0, 1, 2) if self._is_depthwise else tuple(range(1, self.centered.ndim))
        sums: Ints = self.bias - stored_zero(self._link.source) * self.centered.sum(axes)
        return sums

    def reach(self) -> Reach:
        """Least and most accumulator of each channel."""
        x, w = self._link.arguments[:2]
        return reach_of(w, self.bias, x)
