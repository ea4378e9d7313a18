"""From pixels to the input of a quantized network.

    pixel p in 0..255  --scaling-->  real number  --scale and zero point of the input-->  integer

In most files the two cancel, so that the integer is the pixel: p, or p - 128 of type int8.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from npmobilenet.models.preprocessing import RAW, Scaling
from npmobilenet.quantized.numbers import round_away
from npmobilenet.quantized.tensors import Tensor
from npmobilenet.types import Array


def implied_scaling(image: Tensor) -> Scaling:
    """The scaling for which the integers of an input are the pixels; 0..255 unchanged if it is not quantized."""
    if image.quantization is None:
        return RAW
    scale = float(image.scale[0])
    return Scaling(scale, scale * (image.range[0] - image.zero_point))


@dataclass(frozen=True, eq=False)
class PixelQuantization:
    """How pixels become the input.

    Args:
        image: the input tensor.
        scaling: from pixels in 0..255 to the real numbers that its integers stand for.
    """

    image: Tensor
    scaling: Scaling

    def apply(self, pixels: Array) -> Array:
        """Pixels (N, H, W, C) in 0..255, whole or not, as values of the input's type."""
        if self.image.quantization is None:
            return self._scaled(pixels)
        if pixels.dtype == np.uint8:
            return self._of_bytes(pixels)
        if self._is_identity:
            return self._of_bytes(np.clip(round_away(pixels), 0, 255).astype(np.uint8))
        return self.image.quantize(self._scaled(pixels))

    def _of_bytes(self, pixels: Array) -> Array:
        if self._is_identity:
            return pixels.view(self.image.dtype) if self.image.dtype == np.uint8 else (pixels ^ 0x80).view(np.int8)
        return np.asarray(self._table[pixels, np.arange(pixels.shape[-1])])

    @cached_property
    def _table(self) -> Array:
        """(256, C): the integer of every pixel, by channel."""
        C = self.image.shape[-1]
        return self.image.quantize(self._scaled(np.repeat(np.arange(256)[:, None], C, axis=1)))

    @cached_property
    def _is_identity(self) -> bool:
        """Whether every integer is its pixel, 128 less for int8."""
        return bool((self._table - self.image.range[0] == np.arange(256)[:, None]).all())

    def _scaled(self, pixels: Array) -> Array:
        return self.scaling.apply(pixels.astype(np.float32))
