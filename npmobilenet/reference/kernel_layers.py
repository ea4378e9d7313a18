"""The layer types with a kernel: Conv2D, DepthwiseConv2D, Conv2DTranspose, Dense."""

from functools import partial
from math import prod

from numpy.typing import DTypeLike

from npmobilenet.errors import ArgumentError, ShapeError
from npmobilenet.reference import rounding
from npmobilenet.reference.convolution import (
    conv2d,
    dense,
    depthwise_conv2d,
    grouped,
    pointwise_conv2d,
    spread_pixels,
    transposed_conv2d,
    transposed_size,
)
from npmobilenet.reference.layer import Convolution, KernelLayer, feature_map, layer_type
from npmobilenet.types import Array, Pair, Params, Shape


@layer_type
class Conv2D(Convolution):
    """Standard convolution; pointwise if the kernel is 1 x 1.

    Attributes:
        groups: number of groups into which input channels and filters are divided; a filter reads its own group only.
    """

    filters: int
    use_bias: bool = True
    activation: str = "linear"
    dilation: int = 1
    groups: int = 1

    @property
    def is_pointwise(self) -> bool:
        """Whether it mixes the channels of single pixels and nothing else."""
        return self.kernel_size == (1, 1) and self.stride == 1 and self.groups == 1

    def check(self) -> None:
        super().check()
        if self.groups < 1 or self.filters % self.groups:
            raise ArgumentError(
                f"{self.name}: expected groups that divide {self.filters} filters, got groups={self.groups}"
            )

    def kind(self, *inputs: Shape) -> str:
        """On a map of 1 x 1 pixel it is fully connected: V1's and V3's classifier, and squeeze-and-excitation."""
        return "Fully connected" if inputs[0][:2] == (1, 1) else f"Conv {self.kernel_size[0]}x{self.kernel_size[1]}"

    def output_shape(self, *inputs: Shape) -> Shape:
        return *self.output_map(inputs[0]), self.filters

    def param_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        c_in = feature_map(self, inputs[0])[2]
        if c_in % self.groups:
            raise ShapeError(f"{self.name}: expected groups that divide {c_in} channels, got groups={self.groups}")
        kernel = {"kernel": (*self.kernel_size, c_in // self.groups, self.filters)}
        return kernel | _bias(self.use_bias, self.filters)

    def linear(self, params: Params, x: Array) -> Array:
        if self.is_pointwise and (self.is_unpadded or self.padding == "same"):
            return pointwise_conv2d(x, params["kernel"], params.get("bias"))
        return grouped(conv2d, self.groups, x, params["kernel"], params.get("bias"), **self.window)

    def linear_bound(self, params: Params, x: Array, error: Array, dtype: DTypeLike) -> Array:
        bound = partial(rounding.conv2d_bound, dtype=dtype, **self.window)
        return grouped(bound, self.groups, x, params["kernel"], params.get("bias"), error)


@layer_type
class DepthwiseConv2D(Convolution):
    """One filter (or `depth_multiplier` filters) per channel; channels are not mixed."""

    depth_multiplier: int = 1
    use_bias: bool = True
    activation: str = "linear"
    dilation: int = 1

    @property
    def channelwise(self) -> bool:
        return self.depth_multiplier == 1 and self.activation != "softmax"

    def kind(self, *inputs: Shape) -> str:
        return f"Conv DW {self.kernel_size[0]}x{self.kernel_size[1]}"

    def output_shape(self, *inputs: Shape) -> Shape:
        return *self.output_map(inputs[0]), inputs[0][2] * self.depth_multiplier

    def param_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        C = feature_map(self, inputs[0])[2]
        kernel = {"kernel": (*self.kernel_size, C, self.depth_multiplier)}
        return kernel | _bias(self.use_bias, C * self.depth_multiplier)

    def terms(self, params: Params, x: Array) -> int:
        return prod(params["kernel"].shape[:2])

    def linear(self, params: Params, x: Array) -> Array:
        return depthwise_conv2d(x, params["kernel"], params.get("bias"), **self.window)

    def linear_bound(self, params: Params, x: Array, error: Array, dtype: DTypeLike) -> Array:
        return rounding.depthwise_conv2d_bound(
            x, params["kernel"], params.get("bias"), error, dtype=dtype, **self.window
        )


@layer_type
class Conv2DTranspose(KernelLayer):
    """Transposed convolution, kernel (K_h, K_w, c_out, c_in): the upsampling of U-Nets."""

    filters: int
    kernel_size: Pair
    stride: int = 1
    padding: str = "valid"
    use_bias: bool = True
    activation: str = "linear"

    def check(self) -> None:
        super().check()
        if min(self.stride, *self.kernel_size) < 1 or self.padding not in ("same", "valid"):
            raise ArgumentError(
                f'{self.name}: expected kernel size and stride of at least 1 and padding "same" or "valid", got {self}'
            )

    def kind(self, *inputs: Shape) -> str:
        return f"Transposed conv {self.kernel_size[0]}x{self.kernel_size[1]}"

    def output_shape(self, *inputs: Shape) -> Shape:
        H, W, _ = feature_map(self, inputs[0])
        rows, cols = self.kernel_size
        return (
            transposed_size(H, rows, self.stride, self.padding),
            transposed_size(W, cols, self.stride, self.padding),
            self.filters,
        )

    def param_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        c_in = feature_map(self, inputs[0])[2]
        return {"kernel": (*self.kernel_size, self.filters, c_in)} | _bias(self.use_bias, self.filters)

    def macs(self, *inputs: Shape) -> int:
        """Every weight meets every pixel of its input channel once: H * W * K_h * K_w * c_in * c_out."""
        return prod(inputs[0][:2]) * prod(self.param_shapes(*inputs)["kernel"])

    def terms(self, params: Params, x: Array) -> int:
        """Only every `stride`-th tap along each axis falls on a pixel."""
        return prod(max(K // self.stride, 1) for K in self.kernel_size) * params["kernel"].shape[3]

    def linear(self, params: Params, x: Array) -> Array:
        return transposed_conv2d(x, params["kernel"], params.get("bias"), stride=self.stride, padding=self.padding)

    def linear_bound(self, params: Params, x: Array, error: Array, dtype: DTypeLike) -> Array:
        spread, spread_error = (spread_pixels(a, self.kernel_size, self.stride, self.padding) for a in (x, error))
        turned = params["kernel"][::-1, ::-1].swapaxes(2, 3)
        return rounding.conv2d_bound(spread, turned, params.get("bias"), spread_error, padding="valid", dtype=dtype)


@layer_type
class Dense(KernelLayer):
    """Fully connected layer on the last axis."""

    units: int
    use_bias: bool = True
    activation: str = "linear"

    def kind(self, *inputs: Shape) -> str:
        return "Fully connected"

    def output_shape(self, *inputs: Shape) -> Shape:
        return *inputs[0][:-1], self.units

    def param_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"kernel": (inputs[0][-1], self.units)} | _bias(self.use_bias, self.units)

    def linear(self, params: Params, x: Array) -> Array:
        return dense(x, params["kernel"], params.get("bias"))

    def linear_bound(self, params: Params, x: Array, error: Array, dtype: DTypeLike) -> Array:
        return rounding.dense_bound(x, params["kernel"], params.get("bias"), error, dtype=dtype)


def _bias(use_bias: bool, channels: int) -> dict[str, Shape]:
    return {"bias": (channels,)} if use_bias else {}
