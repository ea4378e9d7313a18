"""Layer types that public networks put around a MobileNet: first layers, heads and decoders."""

from math import prod
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.errors import ArgumentError, ShapeError
from npmobilenet.reference import rounding
from npmobilenet.reference.activation_bounds import elu_bound, leaky_relu_bound
from npmobilenet.reference.activations import elu, leaky_relu
from npmobilenet.reference.interpolation import resize
from npmobilenet.reference.layer import Layer, feature_map, layer_type
from npmobilenet.reference.normalization import layer_norm, normalize, rescale
from npmobilenet.types import Array, Pair, Params, Shape


@layer_type
class LeakyReLU(Layer):
    """x where it is not negative, else negative_slope * x."""

    negative_slope: float = 0.3

    elementwise: ClassVar[bool] = True
    rowwise: ClassVar[bool] = True

    @property
    def channelwise(self) -> bool:
        return True

    def flops(self, *inputs: Shape) -> int:
        return 2 * prod(inputs[0])  # compare, multiply

    def apply(self, params: Params, *inputs: Array) -> Array:
        return leaky_relu(inputs[0], self.negative_slope)

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        return leaky_relu_bound(xs[0], self.negative_slope, errors[0], dtype=dtype)


@layer_type
class ELU(Layer):
    """x where it is positive, else alpha * (exp(x) - 1)."""

    alpha: float = 1.0

    elementwise: ClassVar[bool] = True
    rowwise: ClassVar[bool] = True

    @property
    def channelwise(self) -> bool:
        return True

    def flops(self, *inputs: Shape) -> int:
        return 4 * prod(inputs[0])  # compare, exp, subtract, multiply

    def apply(self, params: Params, *inputs: Array) -> Array:
        return elu(inputs[0], self.alpha)

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        return elu_bound(xs[0], self.alpha, errors[0], dtype=dtype)


@layer_type
class PReLU(Layer):
    """x where it is not negative, else alpha * x with a learned slope per value.

    Attributes:
        shared_axes: axes along which all values share a slope, counted as in Keras: 1 and 2 are rows and columns.
    """

    shared_axes: tuple[int, ...] = ()

    elementwise: ClassVar[bool] = True

    def param_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"alpha": tuple(1 if axis in self.shared_axes else side for axis, side in enumerate(inputs[0], 1))}

    def flops(self, *inputs: Shape) -> int:
        return 2 * prod(inputs[0])  # compare, multiply

    def apply(self, params: Params, *inputs: Array) -> Array:
        return leaky_relu(inputs[0], params["alpha"])

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        return leaky_relu_bound(xs[0], params["alpha"], errors[0], dtype=dtype)


@layer_type
class LayerNormalization(Layer):
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta with the statistics of the last axis."""

    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True

    rowwise: ClassVar[bool] = True

    def param_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        C = inputs[0][-1:]
        return ({"gamma": C} if self.scale else {}) | ({"beta": C} if self.center else {})

    def flops(self, *inputs: Shape) -> int:
        """Mean and variance, 4 per value; subtract and divide; gamma and beta."""
        return prod(inputs[0]) * (6 + self.scale + self.center)

    def apply(self, params: Params, *inputs: Array) -> Array:
        return layer_norm(inputs[0], params.get("gamma"), params.get("beta"), epsilon=self.epsilon)

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        gamma, beta = params.get("gamma"), params.get("beta")
        return rounding.layer_norm_bound(xs[0], gamma, beta, errors[0], epsilon=self.epsilon, dtype=dtype)


@layer_type
class Normalization(Layer):
    """y = (x - mean) / sqrt(variance) with the statistics of the training images."""

    non_trainable: ClassVar[frozenset[str]] = frozenset({"mean", "variance"})
    elementwise: ClassVar[bool] = True
    rowwise: ClassVar[bool] = True

    @property
    def channelwise(self) -> bool:
        return True

    def param_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"mean": inputs[0][-1:], "variance": inputs[0][-1:]}

    def flops(self, *inputs: Shape) -> int:
        return 2 * prod(inputs[0])

    def apply(self, params: Params, *inputs: Array) -> Array:
        return normalize(inputs[0], params["mean"], params["variance"])

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        return rounding.normalize_bound(xs[0], params["mean"], params["variance"], errors[0], dtype=dtype)


@layer_type
class ChannelRescaling(Layer):
    """y = x * scale + offset with two constants per channel: Keras's Rescaling with lists."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]

    elementwise: ClassVar[bool] = True
    rowwise: ClassVar[bool] = True

    @property
    def channelwise(self) -> bool:
        return True

    def output_shape(self, *inputs: Shape) -> Shape:
        if not len(self.scale) == len(self.offset) == inputs[0][-1]:
            raise ShapeError(
                f"{self.name}: expected a scale and an offset for each of {inputs[0][-1]} channels, got "
                f"{len(self.scale)} and {len(self.offset)}"
            )
        return inputs[0]

    def flops(self, *inputs: Shape) -> int:
        return 2 * prod(inputs[0])

    def apply(self, params: Params, *inputs: Array) -> Array:
        dtype = inputs[0].dtype
        return rescale(inputs[0], np.asarray(self.scale, dtype), np.asarray(self.offset, dtype))

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        scale, offset = np.asarray(self.scale, np.float64), np.asarray(self.offset, np.float64)
        return rounding.rescale_bound(xs[0], scale, offset, errors[0], dtype=dtype)


class Resampling(Layer):
    """A layer that gives a feature map other numbers of rows and columns; a base class without fields of its own."""

    interpolation: str

    def check(self) -> None:
        if self.interpolation not in ("nearest", "bilinear"):
            raise ArgumentError(f"{self.name}: expected interpolation nearest or bilinear, got {self.interpolation!r}")

    def flops(self, *inputs: Shape) -> int:
        """Bilinear: two products and a sum along each axis."""
        H, W, C = self.output_shape(*inputs)
        return 0 if self.interpolation == "nearest" else 3 * (H * inputs[0][1] + H * W) * C

    def apply(self, params: Params, *inputs: Array) -> Array:
        H, W, _ = self.output_shape(inputs[0].shape[1:])
        return resize(inputs[0], (H, W), self.interpolation)

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        H, W, _ = self.output_shape(xs[0].shape[1:])
        return rounding.resize_bound(xs[0], (H, W), self.interpolation, errors[0], dtype=dtype)


@layer_type
class Resizing(Resampling):
    """The feature map with `height` rows and `width` columns."""

    height: int
    width: int
    interpolation: str = "bilinear"

    def output_shape(self, *inputs: Shape) -> Shape:
        return self.height, self.width, feature_map(self, inputs[0])[2]


@layer_type
class UpSampling2D(Resampling):
    """The feature map with size[0] times the rows and size[1] times the columns."""

    size: Pair
    interpolation: str = "nearest"

    def output_shape(self, *inputs: Shape) -> Shape:
        H, W, C = feature_map(self, inputs[0])
        return self.size[0] * H, self.size[1] * W, C


@layer_type
class Cropping2D(Layer):
    """The feature map without its borders, ((top, bottom), (left, right)) pixels wide."""

    cropping: tuple[Pair, Pair]

    moves_only: ClassVar[bool] = True

    def check(self) -> None:
        if min(map(min, self.cropping)) < 0:
            raise ArgumentError(f"{self.name}: expected a cropping of at least 0, got {self.cropping}")

    def output_shape(self, *inputs: Shape) -> Shape:
        H, W, C = feature_map(self, inputs[0])
        return H - sum(self.cropping[0]), W - sum(self.cropping[1]), C

    def apply(self, params: Params, *inputs: Array) -> Array:
        (top, _), (left, _) = self.cropping
        H, W, _ = self.output_shape(inputs[0].shape[1:])
        return inputs[0][:, top : top + H, left : left + W].copy()


@layer_type
class Broadcast(Layer):
    """Sides of 1 repeated, as NumPy broadcasts: what a sum of a map and a vector per channel needs first."""

    target_shape: Shape

    moves_only: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        sides = zip(inputs[0], self.target_shape, strict=False)
        if len(inputs[0]) != len(self.target_shape) or any(side not in (1, target) for side, target in sides):
            raise ShapeError(f"{self.name}: {inputs[0]} cannot be broadcast to {self.target_shape}")
        return self.target_shape

    def apply(self, params: Params, *inputs: Array) -> Array:
        return np.broadcast_to(inputs[0], (len(inputs[0]), *self.target_shape)).copy()
