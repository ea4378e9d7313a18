"""The intermediate representation: typed operations on named values.

A network is a list of operations in an order in which they can be computed; the first is the `Image`, and the last are
its outputs, an `Output` each. Each operation is a frozen dataclass with only its own fields, and `evaluate` is its
meaning in NumPy: what the kernel that computes it must equal. Exporters, schedulers and tests match on the type.

    Image                               the network's input
    Alias                               the values of another operation, under another shape
    Output                              the values of another operation, read from outside the network
    Joined                              an output made of several values, one after another
    Conv, Depthwise, Dense              sums of products with an epilogue: bias, activation, residual
    GlobalAverage                       mean of every channel over its map
    LayerOperation                      one layer of the graph, computed as the reference computes it; of it:
        BatchNorm, Pad, Rescale,        those that a pass or a kernel looks for,
        Activate, Softmax, Sigmoid,
        Add, Multiply, GlobalMax
        Reference                       and all others
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npmobilenet import reference
from npmobilenet.reference import layers
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.shapes import dilated
from npmobilenet.types import Array, Pair, Params, Shape

FUSED_ACTIVATIONS = ("linear", "relu", "relu6", "hard_swish", "hard_sigmoid")  # that an epilogue computes
NO_PADDING: tuple[Pair, Pair] = ((0, 0), (0, 0))
NO_SCALING = (1.0, 0.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Operation:
    """Properties common to all operations.

    Attributes:
        name: name of the last layer covered, and of the output.
        layers: names of all layers covered, in order.
        inputs: names of the values read; a gate and a residual are fields of their own.
        shape: shape of the output, without the batch axis.
        macs: multiply-adds for one image.
    """

    name: str
    layers: tuple[str, ...]
    inputs: tuple[str, ...]
    shape: Shape
    macs: int = 0

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of all values read, gate and residual included."""
        return self.inputs

    @property
    def label(self) -> str:
        """Type in lower-case words, for people."""
        return "".join(f" {c.lower()}" if c.isupper() else c for c in type(self).__name__).strip()

    @property
    def weight_count(self) -> int:
        """Number of values in kernel and bias."""
        return 0

    def evaluate(self, *inputs: Array) -> Array:
        """The output (N, *shape) in the dtype of the first input.

        Args:
            inputs: (N, ...) arrays, one per name in `reads`.
        """
        raise NotImplementedError


Operations = list[Operation]


@dataclass(frozen=True, eq=False, kw_only=True)
class Image(Operation):
    """The network's input: (H, W, C)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Alias(Operation):
    """The values of its input in the same order, under its own name and shape; it is never stored."""

    def evaluate(self, *inputs: Array) -> Array:
        return inputs[0].reshape(len(inputs[0]), *self.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class Output(Alias):
    """An output of the network: its input, which nothing may replace or overwrite."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Joined(Output):
    """An output (rows, values) of the rows of several maps, one after another: the heads of a detector."""

    def evaluate(self, *inputs: Array) -> Array:
        return np.concatenate([x.reshape(len(x), -1, self.shape[-1]) for x in inputs], axis=1)


@dataclass(frozen=True, eq=False, kw_only=True)
class Weighted(Operation):
    """Sums of products: y = activation(kernel * x + bias).

    Attributes:
        kernel: in the dtype of the parameters.
        bias: (c_out,), float64.
        activation: one of FUSED_ACTIVATIONS.
    """

    kernel: Array
    bias: Array
    activation: str = "linear"

    @property
    def weight_count(self) -> int:
        return self.kernel.size + self.bias.size

    def sums(self, *inputs: Array) -> Array:
        """The output before the activation and the residual."""
        raise NotImplementedError

    def evaluate(self, *inputs: Array) -> Array:
        return reference.ACTIVATIONS[self.activation](self.sums(*inputs))


@dataclass(frozen=True, eq=False, kw_only=True)
class Window(Weighted):
    """A sum over a sliding window.

    Attributes:
        stride: of both axes.
        padding: zeros at ((top, bottom), (left, right)).
        dilation: pixels from tap to tap, of both axes.
    """

    stride: int
    padding: tuple[Pair, Pair]
    dilation: int = 1

    @property
    def extent(self) -> Pair:
        """Rows and columns that the window covers."""
        return dilated(self.kernel.shape[:2], self.dilation)

    @property
    def window(self) -> dict[str, Any]:
        """Its keyword arguments of `conv2d` and `depthwise_conv2d`."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(Window):
    """Convolution: y = activation(conv(scaled x * gate) + bias) + residual, kernel (K_h, K_w, c_in, c_out).

    Attributes:
        scaling: (scale, offset) applied to the input, before zeros are added.
        gate: name of a (1, 1, c_in) value that multiplies the input's channels, or "".
        residual: name of a map added to the output, after the activation, or "".
    """

    scaling: tuple[float, float] = NO_SCALING
    gate: str = ""
    residual: str = ""

    @property
    def reads(self) -> tuple[str, ...]:
        return (*self.inputs, *filter(None, (self.gate, self.residual)))

    @property
    def is_pointwise(self) -> bool:
        """Whether it mixes the channels of single pixels and nothing else."""
        return self.kernel.shape[:2] == (1, 1) and self.stride == 1 and self.padding == NO_PADDING

    @property
    def is_stem(self) -> bool:
        """Whether it has the form of a published network's first convolution: K x K, stride 2, 3 channels in."""
        K = len(self.kernel)
        return self.stride == 2 and self.dilation == 1 and self.kernel.shape[:3] == (K, K, 3)

    def sums(self, *inputs: Array) -> Array:
        x = inputs[0]
        if self.scaling != NO_SCALING:
            x = reference.rescale(x, *self.scaling)
        if self.gate:
            x = x * inputs[1]
        kernel, bias = self.kernel.astype(x.dtype), self.bias.astype(x.dtype)
        return reference.conv2d(x, kernel, bias, **self.window)

    def evaluate(self, *inputs: Array) -> Array:
        y = super().evaluate(*inputs)
        return y + inputs[-1] if self.residual else y


@dataclass(frozen=True, eq=False, kw_only=True)
class Depthwise(Window):
    """Depthwise convolution, kernel (K_h, K_w, C * M) for C input channels and depth multiplier M."""

    def filters(self, C: int) -> Array:
        """The kernel in Keras's layout, (K_h, K_w, C, M)."""
        return self.kernel.reshape(*self.kernel.shape[:2], C, -1)

    def sums(self, *inputs: Array) -> Array:
        x = inputs[0]
        filters, bias = self.filters(x.shape[-1]).astype(x.dtype), self.bias.astype(x.dtype)
        return reference.depthwise_conv2d(x, filters, bias, **self.window)


@dataclass(frozen=True, eq=False, kw_only=True)
class Dense(Weighted):
    """Fully connected layer on a vector, kernel (c_in, c_out)."""

    def sums(self, *inputs: Array) -> Array:
        x = inputs[0]
        return reference.dense(x, self.kernel.astype(x.dtype), self.bias.astype(x.dtype))


@dataclass(frozen=True, eq=False, kw_only=True)
class GlobalAverage(Operation):
    """Mean of every channel over its map: (H, W, C) -> (C,) or (1, 1, C)."""

    def evaluate(self, *inputs: Array) -> Array:
        return np.asarray(inputs[0].mean(axis=(1, 2))).reshape(len(inputs[0]), *self.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerOperation(Operation):
    """One layer of the graph.

    Attributes:
        layer: the layer.
        params: its parameters by Keras's names.
    """

    layer: Layer
    params: Params

    def evaluate(self, *inputs: Array) -> Array:
        dtype = inputs[0].dtype
        return self.layer.apply({name: array.astype(dtype) for name, array in self.params.items()}, *inputs)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reference(LayerOperation):
    """A layer that no pass and no kernel knows."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BatchNorm(LayerOperation):
    """Batch normalization by the moving statistics."""

    layer: layers.BatchNormalization


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(LayerOperation):
    """Zeros around a map."""

    layer: layers.ZeroPadding2D


@dataclass(frozen=True, eq=False, kw_only=True)
class Rescale(LayerOperation):
    """y = x * scale + offset, with two constants."""

    layer: layers.Rescaling


@dataclass(frozen=True, eq=False, kw_only=True)
class Activate(LayerOperation):
    """An activation function by itself."""

    layer: layers.Activation


@dataclass(frozen=True, eq=False, kw_only=True)
class Softmax(Activate):
    """Softmax over the last axis."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Sigmoid(Activate):
    """The logistic function."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(LayerOperation):
    """Sum of its inputs."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Multiply(LayerOperation):
    """Product of its inputs."""


@dataclass(frozen=True, eq=False, kw_only=True)
class GlobalMax(LayerOperation):
    """Largest value of every channel over its map."""


GlobalPool = GlobalAverage | GlobalMax


def consumer_counts(ops: Sequence[Operation]) -> Counter[str]:
    """How often each value is read."""
    return Counter(name for op in ops for name in op.reads)


def outputs_of(ops: Sequence[Operation]) -> list[Output]:
    """The outputs, in the order of the graph's."""
    return [op for op in ops if isinstance(op, Output)]


def stored_names(ops: Sequence[Operation]) -> dict[str, str]:
    """{name of a value: name under which it is stored}: an alias is stored under the name of its input."""
    names: dict[str, str] = {}
    for op in ops:
        names[op.name] = names[op.inputs[0]] if isinstance(op, Alias) else op.name
    return names
