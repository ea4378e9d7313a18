"""Tensors, operators and networks of them, as a TensorFlow Lite file describes them.

Every quantized tensor holds integers q, each of which stands for a real number:

    real = scale * (q - zero_point)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npmobilenet.types import Array, Pair, Shape

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Quantization:
    """What the integers of a tensor stand for.

    Args:
        scale: (1,) or (channels,) float32, real numbers per step.
        zero_point: (1,) or (channels,) int64, the integer that stands for 0.
        axis: of the channels, if there is a scale for each.
    """

    scale: NDArray[np.float32]
    zero_point: Ints
    axis: int = 0


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor: its description, and its values if it is a constant.

    Args:
        name: in the file.
        shape: with the batch axis; () if the file does not specify it.
        dtype: of the values.
        quantization: of integers that stand for real numbers, None for all others.
        data: the values of a constant, else None.
    """

    name: str
    shape: Shape
    dtype: np.dtype[Any]
    quantization: Quantization | None = None
    data: Array | None = None

    @property
    def scale(self) -> NDArray[np.float32]:
        """(1,) or (channels,) float32."""
        return self._quantization.scale

    @property
    def zero_point(self) -> int:
        """The integer that stands for 0, of a tensor with one; all channels of weights have the same."""
        return int(self._quantization.zero_point[0])

    @property
    def _quantization(self) -> Quantization:
        if self.quantization is None:
            raise TypeError(f"{self.name} is not quantized")
        return self.quantization

    @cached_property
    def integers(self) -> Ints:
        """The constant's values as int64."""
        if self.data is None:
            raise TypeError(f"{self.name} is not a constant")
        return self.data.astype(np.int64)

    @property
    def range(self) -> Pair:
        """Least and largest integer of the type."""
        info = np.iinfo(self.dtype)
        return int(info.min), int(info.max)

    def quantize(self, x: Array) -> Array:
        """Real numbers to the nearest integers of this tensor, halves away from zero, clipped to its type."""
        from npmobilenet.quantized.numbers import round_away

        q = round_away(np.asarray(x, np.float32) / self.scale) + self.zero_point
        return np.clip(q, *self.range).astype(self.dtype)

    def dequantize(self, q: Array) -> NDArray[np.float32]:
        """Integers to the real numbers that they stand for, float32; values of any other tensor as they are."""
        if self.quantization is None:
            return q.astype(np.float32)
        scale, zero = self.quantization.scale, self.quantization.zero_point
        if scale.size > 1 and q.ndim > 1:
            along = tuple(-1 if axis == self.quantization.axis else 1 for axis in range(q.ndim))
            scale, zero = scale.reshape(along), zero.reshape(along)
        return (scale.astype(np.float64) * (q.astype(np.int64) - zero)).astype(np.float32)


@dataclass(frozen=True)
class Options:
    """Options of an operator; each operator uses a few of them, and the others have the format's default.

    Args:
        padding: "same" or "valid".
        stride, dilation, filter: in pixels, rows and columns.
        activation: "linear", "relu", "relu6" or "relu_n1_to_1", applied to the result.
        multiplier: output channels per input channel of a depthwise convolution.
        keep_dims: whether axes that are summed over stay, as 1.
        beta: factor in front of a softmax's input.
        axis: of a concatenation or a stack.
        shape: of a reshape that has no second input.
        masks: of a strided slice: begin, end, ellipsis, new axis, shrunk axis.
        custom: name and options of an operator that is not TensorFlow Lite's own.
    """

    padding: str = "valid"
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    filter: Pair = (1, 1)
    activation: str = "linear"
    multiplier: int = 1
    keep_dims: bool = False
    beta: float = 1.0
    axis: int = 0
    shape: Shape = ()
    masks: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    custom: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Operator:
    """One operator.

    Args:
        code: its name in the format: "CONV_2D", "ADD"; "CUSTOM:name" of one that is not TensorFlow Lite's own.
        inputs: numbers of the tensors read; -1 for one that is left out.
        outputs: numbers of the tensors made.
        options: see `Options`.
    """

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Options = Options()


@dataclass(frozen=True, eq=False)
class Network:
    """Operators in the order in which they are computed.

    Args:
        name: of the network.
        tensors: all tensors; operators refer to them by number.
        operators: each reads constants, inputs, and what operators before it made.
        inputs, outputs: numbers of tensors.
    """

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def input(self) -> Tensor:
        """The image, (1, H, W, C)."""
        return self.tensors[self.inputs[0]]

    @property
    def is_quantized(self) -> bool:
        """Whether some operator computes with integers that stand for real numbers."""
        made = (self.tensors[number] for operator in self.operators for number in operator.outputs)
        return any(tensor.quantization is not None for tensor in made)

    def label(self, operator: Operator) -> str:
        """Name of an operator: that of the tensor it makes."""
        return self.tensors[operator.outputs[0]].name
