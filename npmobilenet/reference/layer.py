"""What all layers have in common: the interface, sliding windows, kernels.

A layer is a frozen dataclass with the name that Keras gives it, the names of the layers that it reads, and its own
fields. Its methods are everything that is known about its type; costs, memory plans, error bounds, converters and the
compiler read them:

    output_shape(*inputs)    shape of its output
    param_shapes(*inputs)    {"kernel": (3, 3, 3, 32), ...}, in Keras's names and layouts
    macs(*inputs)            multiply-adds of its kernel per image (bias, normalization, activation not counted)
    flops(*inputs)           floating-point operations per image
    apply(params, *arrays)   its output, by the functions of this package
    error_bound(params, *arrays, ...)   how far rounding may take its output from the exact one

where `inputs` are the shapes of what it reads. Shapes are without the batch axis. Its traits say what a planner may do
with it: whether it can write over its input, whether it can be computed band by band or channel by channel.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.errors import ArgumentError, ShapeError
from npmobilenet.reference import rounding
from npmobilenet.reference.activations import ACTIVATIONS, FLOPS_PER_VALUE
from npmobilenet.reference.shapes import dilated, resolve_padding, window_output
from npmobilenet.types import Array, Padding, Pair, Params, Shape

AnyLayer = TypeVar("AnyLayer")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def layer_type(cls: type[AnyLayer]) -> type[AnyLayer]:
    """A frozen dataclass with keyword-only fields, equal and printed as `Layer` says.

    Generating these methods for each of thirty types would take a sixth of the time to import the package.
    """
    return dataclass(frozen=True, kw_only=True, eq=False, repr=False)(cls)


@layer_type
class Layer:
    """Base class of all layers.

    Attributes:
        name: as in Keras.
        inputs: names of the layers that it reads.
    """

    name: str
    inputs: tuple[str, ...] = ()

    arity: ClassVar[int | None] = 1
    """Number of inputs; None for two or more."""
    non_trainable: ClassVar[frozenset[str]] = frozenset()
    """Parameters that training does not change by gradient."""
    moves_only: ClassVar[bool] = False
    """It computes nothing: its output holds values of its inputs, and zeros."""
    is_view: ClassVar[bool] = False
    """Its output is its input in memory: no byte moves."""
    elementwise: ClassVar[bool] = False
    """Its output may overwrite an input of the same size."""
    rowwise: ClassVar[bool] = False
    """A row of the output depends on a few rows of each input (`rows_read`)."""
    sums: ClassVar[bool] = False
    """Each value of the output is a sum of many terms."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        values = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))
        return f"{self.type}({values})"

    @property
    def type(self) -> str:
        """Class name, as in Keras and in the file format."""
        return type(self).__name__

    @property
    def channelwise(self) -> bool:
        """Whether channel c of the output depends on channel c of the input only."""
        return False

    def kind(self, *inputs: Shape) -> str:
        """Group of the layer in the V1 paper's table 2, such as "Conv 1x1" or "Conv DW 3x3"; else its type."""
        return self.type

    def check(self) -> None:
        """Check the fields; raises ArgumentError if one is out of range."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """Shape of the output; by default that of the input."""
        return inputs[0]

    def param_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        """Shape of every parameter, in Keras's names, order and layouts."""
        return {}

    def macs(self, *inputs: Shape) -> int:
        """Multiply-adds of the kernel per image."""
        return 0

    def flops(self, *inputs: Shape) -> int:
        """Floating-point operations per image: two per multiply-add, and everything else that is computed."""
        return 0

    def terms(self, params: Params, x: Array) -> int:
        """Number of terms per sum, for an input x, that a statistical error estimate may rely on; 1 is always safe."""
        return 1

    def gives_vector(self, *inputs: Shape) -> bool:
        """Whether it turns a feature map into one vector per image."""
        return False

    def rows_read(self, rows: Pair, shape: Shape) -> tuple[Pair, Pair]:
        """Rows of an input of `shape` for rows a to b of the output, and the rows of zeros before and after them."""
        return rows, (0, 0)

    def on_rows(self, zeros: Pair, shape: Shape) -> Self:
        """The layer for a band of an input of `shape`, with `zeros` rows of zeros before and after the band."""
        return self

    def apply(self, params: Params, *inputs: Array) -> Array:
        """The output, (N, *output_shape).

        Args:
            params: its arrays, {"kernel": ..., ...}, of the dtype of the inputs.
            inputs: (N, ...) arrays.
        """
        raise NotImplementedError

    def error_bound(
        self,
        params: Params,
        *inputs: Array,
        input_bounds: Sequence[Array] | None = None,
        dtype: DTypeLike = np.float32,
    ) -> Array:
        """Bound on the error of the output; see `rounding`.

        Args:
            params: its arrays, {"kernel": ..., ...}, exact as they are stored.
            inputs: (N, ...) exact inputs.
            input_bounds: bounds on the errors of the inputs, of their shapes; None if the inputs are what the layer
                was really given, and only its own rounding counts.
            dtype: of the arithmetic.

        Returns:
            (N, *output_shape), float64.
        """
        exact = [np.asarray(x, np.float64) for x in inputs]
        errors = [np.zeros(x.shape) for x in exact]
        if input_bounds is not None:
            errors = [np.asarray(error, np.float64) for error in input_bounds]
        params64 = {name: np.asarray(values, np.float64) for name, values in params.items()}
        return np.asarray(self.carried_bound(params64, exact, errors, dtype))

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        """`error_bound` on float64 arrays: what a layer type defines. By default errors move as the values do."""
        if not self.moves_only:
            raise NotImplementedError(f"{self.name}: no error bound is known for {self.type}")
        return self.apply(params, *errors)


@layer_type
class Window(Layer):
    """A layer with a sliding window."""

    kernel_size: Pair
    stride: int = 1
    padding: Padding = "valid"

    rowwise: ClassVar[bool] = True

    @property
    def is_unpadded(self) -> bool:
        """Whether it has no padding of its own."""
        return self.padding in ("valid", ((0, 0), (0, 0)))

    @property
    def extent(self) -> Pair:
        """Rows and columns that the window covers, from the first tap to the last."""
        return self.kernel_size

    def check(self) -> None:
        super().check()
        if min(self.stride, *self.kernel_size) < 1:
            raise ArgumentError(f"{self.name}: expected kernel size and stride of at least 1, got {self}")

    def output_map(self, shape: Shape) -> Pair:
        """(H_out, W_out) for an input of (H, W, C)."""
        try:
            return window_output(feature_map(self, shape)[:2], self.extent, self.stride, self.padding)
        except ShapeError as error:
            raise ShapeError(f"{self.name}: {error}") from None

    def output_shape(self, *inputs: Shape) -> Shape:
        return *self.output_map(inputs[0]), inputs[0][2]

    def zeros(self, shape: Shape) -> tuple[Pair, Pair]:
        """The padding as zeros at ((top, bottom), (left, right)), for an input of (H, W, C)."""
        return resolve_padding(self.padding, shape[:2], self.extent, self.stride)

    def rows_read(self, rows: Pair, shape: Shape) -> tuple[Pair, Pair]:
        top = self.zeros(shape)[0][0]
        first = rows[0] * self.stride - top
        last = (rows[1] - 1) * self.stride - top + self.extent[0]
        return (max(first, 0), min(last, shape[0])), (max(-first, 0), max(last - shape[0], 0))

    def on_rows(self, zeros: Pair, shape: Shape) -> Self:
        return replace(self, padding=(zeros, self.zeros(shape)[1]))


class KernelLayer(Layer):
    """A layer with a kernel, an optional bias and an activation: y = activation(linear(x)).

    It is no dataclass of its own, so that the order of the fields in files stays what it is.
    """

    use_bias: bool
    activation: str

    sums: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        check_activation(self.name, self.activation)

    def linear(self, params: Params, x: Array) -> Array:
        """Sums of products, and the bias if `params` has one: the output before the activation."""
        raise NotImplementedError

    def linear_bound(self, params: Params, x: Array, error: Array, dtype: DTypeLike) -> Array:
        """Bound on the error of `linear`."""
        raise NotImplementedError

    def apply(self, params: Params, *inputs: Array) -> Array:
        return ACTIVATIONS[self.activation](self.linear(params, inputs[0]))

    def macs(self, *inputs: Shape) -> int:
        """Every weight meets every pixel of its output channel once: H_out * W_out * K_h * K_w * c_in * c_out."""
        return prod(self.output_shape(*inputs)[:-1]) * prod(self.param_shapes(*inputs)["kernel"])

    def flops(self, *inputs: Shape) -> int:
        per_value = self.use_bias + FLOPS_PER_VALUE[self.activation]
        return 2 * self.macs(*inputs) + prod(self.output_shape(*inputs)) * per_value

    def terms(self, params: Params, x: Array) -> int:
        return prod(params["kernel"].shape[:-1])

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        error = self.linear_bound(params, xs[0], errors[0], dtype)
        if self.activation == "linear":
            return error
        return rounding.activation_bound(self.activation, self.linear(params, xs[0]), error, dtype=dtype)


class Convolution(Window, KernelLayer):
    """A convolution whose taps are `dilation` pixels apart; a base class without fields of its own."""

    dilation: int

    @property
    def extent(self) -> Pair:
        return dilated(self.kernel_size, self.dilation)

    @property
    def window(self) -> dict[str, Any]:
        """Its keyword arguments of `conv2d` and `depthwise_conv2d`, and of their bounds."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    def check(self) -> None:
        super().check()
        if self.dilation < 1:
            raise ArgumentError(f"{self.name}: expected a dilation of at least 1, got {self.dilation}")


def check_activation(name: str, activation: str) -> None:
    """Raise ArgumentError unless the activation of layer `name` is in `ACTIVATIONS`."""
    if activation not in ACTIVATIONS:
        raise ArgumentError(f"{name}: unknown activation {activation!r}; choose from {', '.join(ACTIVATIONS)}")


def feature_map(layer: Layer, shape: Shape) -> tuple[int, int, int]:
    """(H, W, C), or ShapeError if the layer's input is no feature map."""
    if len(shape) != 3:
        raise ShapeError(f"{layer.name}: {layer.type} expects a feature map (H, W, C), got {shape}")
    H, W, C = shape
    return H, W, C
