"""A standard convolution compared with the depthwise separable one that replaces it: by the paper's formula, by the
counts of the layers, and by counting while they compute."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Conv2D, DepthwiseConv2D
from npmobilenet.types import Shape


@dataclass(frozen=True)
class SeparableCost:
    """A standard convolution and the depthwise separable one that replaces it, in multiply-adds and weights.

    Attributes:
        H, W: size of the input, in pixels.
        c_in, c_out, K, stride: of the convolution; padding is SAME.
    """

    H: int
    W: int
    c_in: int
    c_out: int
    K: int = 3
    stride: int = 1

    @cached_property
    def layers(self) -> dict[str, tuple[Layer, Shape]]:
        """The three convolutions, each with its input shape."""
        K, x = (self.K, self.K), (self.H, self.W, self.c_in)
        standard = Conv2D(
            name="standard", filters=self.c_out, kernel_size=K, stride=self.stride, padding="same", use_bias=False
        )
        depthwise = DepthwiseConv2D(name="depthwise", kernel_size=K, stride=self.stride, padding="same", use_bias=False)
        pointwise = Conv2D(name="pointwise", filters=self.c_out, kernel_size=(1, 1), use_bias=False)
        return {
            "standard": (standard, x),
            "depthwise": (depthwise, x),
            "pointwise": (pointwise, depthwise.output_shape(x)),
        }

    @property
    def weights(self) -> dict[str, int]:
        """Weights of the standard, the depthwise and the pointwise kernel, and of the separable pair."""
        return self._each(lambda layer, x: prod(layer.param_shapes(x)["kernel"]))

    @property
    def macs(self) -> dict[str, int]:
        """The same in multiply-adds per image: every weight meets every output pixel of its channel once."""
        return self._each(lambda layer, x: layer.macs(x))

    def multiplications(self) -> dict[str, int]:
        """The same as `macs`, measured on numbers that count their own multiplications."""
        return self._each(count_multiplications)

    @property
    def ratio(self) -> Fraction:
        """Separable to standard, from the counts."""
        return Fraction(self.macs["separable"], self.macs["standard"])

    @property
    def formula(self) -> Fraction:
        """Separable to standard by the paper: 1/c_out + 1/K**2."""
        return Fraction(1, self.c_out) + Fraction(1, self.K**2)

    def _each(self, count: Callable[[Layer, Shape], int]) -> dict[str, int]:
        counts = {name: count(layer, x) for name, (layer, x) in self.layers.items()}
        return counts | {"separable": counts["depthwise"] + counts["pointwise"]}


def count_multiplications(layer: Layer, *inputs: Shape) -> int:
    """Number of multiplications of a layer per image, measured on numbers that count them.

    Products with the zeros of the padding are counted too, as `Layer.macs` does.

    Args:
        layer: any layer.
        inputs: shapes of its inputs, without the batch axis.
    """
    tally = _Tally()
    params = {name: tally.array(shape) for name, shape in layer.param_shapes(*inputs).items()}
    layer.apply(params, *(tally.array((1, *shape)) for shape in inputs))
    return tally.multiplications


class _Tally:
    """Counter of the multiplications of all numbers made by it."""

    def __init__(self) -> None:
        self.multiplications = 0

    def array(self, shape: Shape) -> Any:
        ones = np.empty(prod(shape), object)
        ones[:] = [_Counting(self) for _ in ones]
        return ones.reshape(shape)


class _Counting:
    """A number without a value: + and * return it unchanged, and each * is counted."""

    __slots__ = ("tally",)

    def __init__(self, tally: _Tally) -> None:
        self.tally = tally

    def __mul__(self, other: object) -> "_Counting":
        self.tally.multiplications += 1
        return self

    def __add__(self, other: object) -> "_Counting":
        return self

    __rmul__ = __mul__
    __radd__ = __add__
