"""The layer types, one class each, with Keras's names and fields; those with a kernel are in `kernel_layers`,
those with several inputs in `merge_layers`, those of other networks than the papers' in `extra_layers`.

A new type is a class here, a row in `LAYER_TYPES`, and its tests; see `layer` for what a class may define.
"""

from math import prod
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.errors import ShapeError
from npmobilenet.reference import rounding
from npmobilenet.reference.activations import ACTIVATIONS, FLOPS_PER_VALUE
from npmobilenet.reference.convolution import zero_pad
from npmobilenet.reference.extra_layers import ELU as ELU
from npmobilenet.reference.extra_layers import Broadcast as Broadcast
from npmobilenet.reference.extra_layers import ChannelRescaling as ChannelRescaling
from npmobilenet.reference.extra_layers import Cropping2D as Cropping2D
from npmobilenet.reference.extra_layers import LayerNormalization as LayerNormalization
from npmobilenet.reference.extra_layers import LeakyReLU as LeakyReLU
from npmobilenet.reference.extra_layers import Normalization as Normalization
from npmobilenet.reference.extra_layers import PReLU as PReLU
from npmobilenet.reference.extra_layers import Resizing as Resizing
from npmobilenet.reference.extra_layers import UpSampling2D as UpSampling2D
from npmobilenet.reference.kernel_layers import Conv2D as Conv2D
from npmobilenet.reference.kernel_layers import Conv2DTranspose as Conv2DTranspose
from npmobilenet.reference.kernel_layers import Dense as Dense
from npmobilenet.reference.kernel_layers import DepthwiseConv2D as DepthwiseConv2D
from npmobilenet.reference.layer import Layer, Window, check_activation, feature_map, layer_type
from npmobilenet.reference.merge_layers import Add as Add
from npmobilenet.reference.merge_layers import Average as Average
from npmobilenet.reference.merge_layers import Concatenate as Concatenate
from npmobilenet.reference.merge_layers import Maximum as Maximum
from npmobilenet.reference.merge_layers import Minimum as Minimum
from npmobilenet.reference.merge_layers import Multiply as Multiply
from npmobilenet.reference.merge_layers import Subtract as Subtract
from npmobilenet.reference.normalization import batch_norm, rescale
from npmobilenet.reference.pooling import average_pool, global_average_pool, global_max_pool, max_pool
from npmobilenet.types import Array, Pair, Params, Shape


@layer_type
class Input(Layer):
    """The input tensor, (H, W, C)."""

    shape: Shape

    arity: ClassVar[int | None] = 0
    is_view: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        return self.shape


@layer_type
class Rescaling(Layer):
    """y = x * scale + offset, with two constants."""

    scale: float = 1.0
    offset: float = 0.0

    elementwise: ClassVar[bool] = True
    rowwise: ClassVar[bool] = True

    def flops(self, *inputs: Shape) -> int:
        return 2 * prod(inputs[0])

    def apply(self, params: Params, *inputs: Array) -> Array:
        return rescale(inputs[0], self.scale, self.offset)

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        return rounding.rescale_bound(xs[0], self.scale, self.offset, errors[0], dtype=dtype)


@layer_type
class ZeroPadding2D(Layer):
    """Zeros around the feature map at ((top, bottom), (left, right))."""

    padding: tuple[Pair, Pair]

    moves_only: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        H, W, C = feature_map(self, inputs[0])
        return H + sum(self.padding[0]), W + sum(self.padding[1]), C

    def apply(self, params: Params, *inputs: Array) -> Array:
        return zero_pad(inputs[0], self.padding)


@layer_type
class BatchNormalization(Layer):
    """y = gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta."""

    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True

    non_trainable: ClassVar[frozenset[str]] = frozenset({"moving_mean", "moving_variance"})
    elementwise: ClassVar[bool] = True
    rowwise: ClassVar[bool] = True

    @property
    def channelwise(self) -> bool:
        return True

    def param_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        C = inputs[0][-1:]
        learned = ({"gamma": C} if self.scale else {}) | ({"beta": C} if self.center else {})
        return learned | {"moving_mean": C, "moving_variance": C}

    def flops(self, *inputs: Shape) -> int:
        return 2 * prod(inputs[0])  # its four vectors make one factor and one term

    def apply(self, params: Params, *inputs: Array) -> Array:
        return batch_norm(inputs[0], *_statistics(params), epsilon=self.epsilon)

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        return rounding.batch_norm_bound(xs[0], *_statistics(params), errors[0], epsilon=self.epsilon, dtype=dtype)


@layer_type
class Activation(Layer):
    """An elementwise function (softmax: along the last axis), by its name in `ACTIVATIONS`."""

    activation: str

    elementwise: ClassVar[bool] = True
    rowwise: ClassVar[bool] = True

    @property
    def channelwise(self) -> bool:
        return self.activation != "softmax"

    def check(self) -> None:
        check_activation(self.name, self.activation)

    def flops(self, *inputs: Shape) -> int:
        return prod(inputs[0]) * FLOPS_PER_VALUE[self.activation]

    def apply(self, params: Params, *inputs: Array) -> Array:
        return ACTIVATIONS[self.activation](inputs[0])

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        return rounding.activation_bound(self.activation, xs[0], errors[0], dtype=dtype)


@layer_type
class GlobalAveragePooling2D(Layer):
    """Mean of every channel over its feature map."""

    keepdims: bool = False

    sums: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        C = feature_map(self, inputs[0])[2]
        return (1, 1, C) if self.keepdims else (C,)

    def flops(self, *inputs: Shape) -> int:
        return prod(inputs[0])  # H*W - 1 additions and a division, or comparisons, per channel

    def terms(self, params: Params, x: Array) -> int:
        return prod(x.shape[1:3])

    def gives_vector(self, *inputs: Shape) -> bool:
        return True

    def apply(self, params: Params, *inputs: Array) -> Array:
        return global_average_pool(inputs[0], keepdims=self.keepdims)

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        return rounding.global_average_pool_bound(xs[0], errors[0], keepdims=self.keepdims, dtype=dtype)


@layer_type
class GlobalMaxPooling2D(GlobalAveragePooling2D):
    """Maximum of every channel over its feature map."""

    sums: ClassVar[bool] = False

    def apply(self, params: Params, *inputs: Array) -> Array:
        return global_max_pool(inputs[0], keepdims=self.keepdims)

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        return self.apply(params, errors[0])


@layer_type
class AveragePooling2D(Window):
    """Mean over a sliding window; padding is not counted."""

    sums: ClassVar[bool] = True

    def flops(self, *inputs: Shape) -> int:
        return prod(self.output_shape(*inputs)) * prod(self.kernel_size)

    def gives_vector(self, *inputs: Shape) -> bool:
        return _collapses(inputs[0], self.output_shape(*inputs))

    def apply(self, params: Params, *inputs: Array) -> Array:
        return average_pool(inputs[0], size=self.kernel_size, stride=self.stride, padding=self.padding)

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        return rounding.average_pool_bound(
            xs[0], errors[0], size=self.kernel_size, stride=self.stride, padding=self.padding, dtype=dtype
        )


@layer_type
class MaxPooling2D(Window):
    """Maximum over a sliding window; padding is ignored."""

    def flops(self, *inputs: Shape) -> int:
        return prod(self.output_shape(*inputs)) * prod(self.kernel_size)

    def apply(self, params: Params, *inputs: Array) -> Array:
        return max_pool(inputs[0], size=self.kernel_size, stride=self.stride, padding=self.padding)

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        return np.maximum(self.apply(params, errors[0]), 0)  # 0 where a window holds padding only


@layer_type
class Reshape(Layer):
    """Same values in another shape; one side may be -1."""

    target_shape: Shape

    moves_only: ClassVar[bool] = True
    is_view: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        size, known = prod(inputs[0]), prod(side for side in self.target_shape if side != -1)
        shape = tuple(size // max(known, 1) if side == -1 else side for side in self.target_shape)
        if prod(shape) != size:
            raise ShapeError(f"{self.name}: {inputs[0]} has {size} values and cannot become {self.target_shape}")
        return shape

    def apply(self, params: Params, *inputs: Array) -> Array:
        x = inputs[0]
        return x.reshape(len(x), *self.output_shape(x.shape[1:]))


@layer_type
class Flatten(Layer):
    """All values of an image as one vector."""

    moves_only: ClassVar[bool] = True
    is_view: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        return (prod(inputs[0]),)

    def gives_vector(self, *inputs: Shape) -> bool:
        return _collapses(inputs[0], self.output_shape(*inputs))

    def apply(self, params: Params, *inputs: Array) -> Array:
        return inputs[0].reshape(len(inputs[0]), prod(inputs[0].shape[1:]))


@layer_type
class Dropout(Layer):
    """No-op at inference."""

    rate: float = 0.0

    moves_only: ClassVar[bool] = True
    is_view: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    def apply(self, params: Params, *inputs: Array) -> Array:
        return inputs[0]


LAYER_TYPES: dict[str, type[Layer]] = {
    cls.__name__: cls
    for cls in (
        Input, Rescaling, ZeroPadding2D, Conv2D, DepthwiseConv2D, BatchNormalization, Activation,
        GlobalAveragePooling2D, GlobalMaxPooling2D, AveragePooling2D, MaxPooling2D, Dense, Add, Multiply, Concatenate,
        Reshape, Flatten, Dropout, Average, Maximum, Minimum, Subtract, Broadcast, ChannelRescaling, LayerNormalization,
        LeakyReLU, Normalization, PReLU, Resizing, UpSampling2D, Conv2DTranspose, ELU, Cropping2D,
    )
}  # fmt: skip
"""The layer types by name; file formats use these names."""


def _statistics(params: Params) -> tuple[Array | None, Array | None, Array, Array]:
    return params.get("gamma"), params.get("beta"), params["moving_mean"], params["moving_variance"]


def _collapses(before: Shape, after: Shape) -> bool:
    """Whether all pixels of a map are gone, or gone into the channels."""
    return prod(after[:-1]) == 1 < prod(before[:-1])
