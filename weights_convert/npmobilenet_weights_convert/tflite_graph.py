"""A network of TensorFlow Lite's operators to a graph of layers, and its parameters.

Of a quantized network it is the float twin: the same layers, with the real numbers that the integers stand for. Costs
and memory plans read it, and so does the question how far integers and real numbers are apart.

Weights are (out, H, W, in) in the file, and (H, W, in, out) here; those of a depthwise convolution are (1, H, W, C m),
and (H, W, C, m) here.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from npmobilenet.architectures.builder import Builder
from npmobilenet.errors import ShapeError, WeightsError
from npmobilenet.quantized.consistency import check_image_input
from npmobilenet.quantized.parts import network_to, without_post_processing
from npmobilenet.quantized.running import compute
from npmobilenet.quantized.tensors import Network, Operator, Options, Tensor
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
    Activation,
    Add,
    AveragePooling2D,
    ChannelRescaling,
    Concatenate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
    Multiply,
    Rescaling,
    Reshape,
    Subtract,
    ZeroPadding2D,
)
from npmobilenet.types import Array, Shape

PASSES_ON = ("QUANTIZE", "DEQUANTIZE")
ACTIVATIONS = {
    "RELU": "relu", "RELU6": "relu6", "HARD_SWISH": "hard_swish", "LOGISTIC": "sigmoid", "SOFTMAX": "softmax",
}  # fmt: skip
MAP_AXES = {1, 2}  # rows and columns
FOLDED = (
    "QUANTIZE", "DEQUANTIZE", "SHAPE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "STRIDED_SLICE", "PACK",
    "CONCATENATION",
)  # fmt: skip
FOLDED_AT_MOST = 8  # values made of constants, for each value of the file's
WITHOUT_NAME = re.compile(r"(StatefulPartitionedCall|PartitionedCall|Identity)[\w:]*")  # outputs, by TensorFlow
SCOPE = re.compile(r"^(StatefulPartitionedCall/|model/)+")
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_./-]+")


def network_graph(network: Network) -> tuple[Graph, dict[str, Array]]:
    """The graph of a network, and its parameters in float32; of a detector up to its heads.

    Raises:
        WeightsError: an operator is not supported, or is used in a way that is not; the message names it.
    """
    check_image_input(network)
    network = network_to(network, without_post_processing(network).outputs)
    layers = _Layers(network)
    for operator in network.operators:
        try:
            layers.add(operator)
        except WeightsError:
            raise
        except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:  # ShapeError is one
            raise layers.refusal(operator, f"does not fit its tensors: {error}") from error
    try:
        graph = layers.graph()
    except ShapeError as error:
        raise WeightsError(f"{network.name}: {error}") from error
    return graph, {name: np.ascontiguousarray(layers.params[name], np.float32) for name in graph.param_shapes}


class _Layers:
    """The graph while it is built."""

    def __init__(self, network: Network) -> None:
        _, H, W, C = network.input.shape
        self.network = network
        self.builder = Builder(network.name, (H, W, C))
        self.params: dict[str, Array] = {}
        self.constants = {number: tensor for number, tensor in enumerate(network.tensors) if tensor.data is not None}
        self.foldable = FOLDED_AT_MOST * sum(tensor.data.size for tensor in network.tensors if tensor.data is not None)
        self.layers = {network.inputs[0]: self.builder.last}
        self.names = {self.builder.last}
        self.operations: dict[str, Callable[[Operator, str], str]] = {
            "CONV_2D": self._conv, "DEPTHWISE_CONV_2D": self._depthwise, "FULLY_CONNECTED": self._dense,
            "AVERAGE_POOL_2D": self._pool, "MAX_POOL_2D": self._pool, "MEAN": self._mean, "PAD": self._pad,
            "ADD": self._arithmetic, "SUB": self._arithmetic, "MUL": self._arithmetic, "CONCATENATION": self._concat,
            "RESHAPE": self._reshape, "SQUEEZE": self._reshape, "EXPAND_DIMS": self._reshape,
            **dict.fromkeys(ACTIVATIONS, self._activation),
        }  # fmt: skip

    def add(self, operator: Operator) -> None:
        """Append the layers of one operator, or compute its output, if all its inputs are constants."""
        number = operator.outputs[0]
        inputs = [index for index in operator.inputs if index >= 0]
        variables = [index for index in inputs if index not in self.constants]
        if operator.code == "SHAPE" and variables:
            shape = np.array((1, *self._shape(variables[0])), self.network.tensors[number].dtype)
            self.constants[number] = replace(self.network.tensors[number], data=shape)
        elif not variables:
            self.constants[number] = self._folded(operator, [self.constants[index] for index in inputs])
        elif operator.code in PASSES_ON:
            self.layers[number] = self.layers[variables[0]]
        elif operator.code in self.operations:
            self.layers[number] = self.operations[operator.code](operator, self._name(number, operator.code))
        else:
            raise self.refusal(operator, "is not supported")

    def _folded(self, operator: Operator, inputs: Sequence[Tensor]) -> Tensor:
        """The constant that an operator makes of constants: it has no more values than they have."""
        if operator.code not in FOLDED:
            raise self.refusal(operator, "of constants is not supported")
        self.foldable -= sum(tensor.data.size for tensor in inputs if tensor.data is not None)
        if self.foldable < 0:
            raise self.refusal(operator, f"and others make of each constant more than {FOLDED_AT_MOST}")
        output = self.network.tensors[operator.outputs[0]]
        return replace(output, data=compute(operator, inputs, output))

    def graph(self) -> Graph:
        """The layers so far, with the outputs of the network."""
        outputs = [self.layers[number] for number in self.network.outputs if number in self.layers]
        if len(outputs) < len(self.network.outputs):
            raise WeightsError(f"{self.network.name}: an output is a constant")
        needed = set(outputs)
        for layer in reversed(self.builder.layers):
            needed.update(layer.inputs if layer.name in needed else ())
        first, *others = self.builder.layers  # of some layers only the shape is read
        kept = (first, *(layer for layer in others if layer.name in needed))
        return Graph(self.builder.name, kept, tuple((layer, layer) for layer in outputs))

    def _name(self, number: int, code: str) -> str:
        """A name for the layer that makes a tensor: the first of those in the tensor's name, in plain characters.

        The others may be of other layers, with which the layer shares a constant.
        """
        first = SCOPE.sub("", self.network.tensors[number].name.partition(";")[0])
        if WITHOUT_NAME.fullmatch(first):
            first = code.lower()
        name = NOT_IN_NAMES.sub("_", first).strip("_/.") or f"tensor_{number}"
        if name in self.names:
            name = f"{name}_{number}"
        self.names.add(name)
        return name

    def refusal(self, operator: Operator, what: str) -> WeightsError:
        """The error for an operator that has no place in a graph."""
        return WeightsError(f"{self.network.label(operator)}: operator {operator.code} {what}")

    def _shape(self, number: int) -> Shape:
        return self.builder.shape_of(self.layers[number])

    def _real(self, number: int) -> Array:
        """A constant as real numbers."""
        tensor = self.constants[number]
        assert tensor.data is not None
        return tensor.dequantize(tensor.data)

    def _integers(self, number: int) -> list[int]:
        """A constant of shapes, axes or amounts."""
        return [int(value) for value in self.constants[number].integers.ravel()]

    def _layer(self, kind: type[Layer], name: str, *inputs: int, **fields: object) -> str:
        return self.builder.add(kind, name, inputs=tuple(self.layers[number] for number in inputs), **fields)

    def _activated(self, layer: str, activation: str) -> str:
        """A layer without an activation of its own, followed by one if the operator has one."""
        if activation == "linear":
            return layer
        return self.builder.add(Activation, f"{layer}/{activation}", inputs=(layer,), activation=activation)

    def _clip(self, operator: Operator) -> str:
        """The activation of an operator: the one that it names or, of a quantized one, that its output's type implies.

        Integers cannot stand for less than 0 where the least one does; older files leave the activation to that.
        """
        y = self.network.tensors[operator.outputs[0]]
        if operator.options.activation != "linear" or y.quantization is None or y.zero_point != y.range[0]:
            return operator.options.activation
        step, (_, largest) = float(y.scale[0]), y.range
        return "relu6" if abs(step * (largest - y.zero_point) - 6) <= step else "relu"

    def _square(self, operator: Operator) -> tuple[int, int]:
        """Stride and dilation, which are the same along both axes."""
        (down, right), (rows, columns) = operator.options.stride, operator.options.dilation
        if down != right or rows != columns:
            raise self.refusal(
                operator, "with another stride or dilation along rows than along columns is not supported"
            )
        return down, rows

    def _weights(self, operator: Operator, name: str, kernel: Array) -> bool:
        """Set the parameters of a layer; whether it has a bias."""
        self.params[f"{name}/kernel"] = kernel
        biased = len(operator.inputs) > 2 and operator.inputs[2] >= 0
        if biased:
            self.params[f"{name}/bias"] = self._real(operator.inputs[2])
        return biased

    def _conv(self, operator: Operator, name: str) -> str:
        kernel = self._real(operator.inputs[1]).transpose(1, 2, 3, 0)  # (H, W, in, out)
        stride, dilation = self._square(operator)
        return self._layer(
            Conv2D, name, operator.inputs[0], filters=kernel.shape[3], kernel_size=kernel.shape[:2], stride=stride,
            padding=operator.options.padding, use_bias=self._weights(operator, name, kernel), dilation=dilation,
            activation=self._clip(operator), groups=self._shape(operator.inputs[0])[-1] // kernel.shape[2],
        )  # fmt: skip

    def _depthwise(self, operator: Operator, name: str) -> str:
        weights, C = self._real(operator.inputs[1]), self._shape(operator.inputs[0])[-1]
        kernel = weights.reshape(*weights.shape[1:3], C, -1)  # (H, W, C, m)
        stride, dilation = self._square(operator)
        return self._layer(
            DepthwiseConv2D, name, operator.inputs[0], kernel_size=kernel.shape[:2], stride=stride,
            padding=operator.options.padding, depth_multiplier=kernel.shape[3], dilation=dilation,
            use_bias=self._weights(operator, name, kernel), activation=self._clip(operator),
        )  # fmt: skip

    def _dense(self, operator: Operator, name: str) -> str:
        kernel = self._real(operator.inputs[1]).T  # (in, out)
        source = self.layers[operator.inputs[0]]
        if len(self.builder.shape_of(source)) > 1 and not operator.options.keep_dims:
            source = self.builder.add(Flatten, f"{name}/flatten", inputs=(source,))
        return self.builder.add(
            Dense, name, inputs=(source,), units=kernel.shape[1], use_bias=self._weights(operator, name, kernel),
            activation=self._clip(operator),
        )  # fmt: skip

    def _pool(self, operator: Operator, name: str) -> str:
        kind = AveragePooling2D if operator.code == "AVERAGE_POOL_2D" else MaxPooling2D
        options = operator.options
        pooled = self._layer(
            kind, name, operator.inputs[0], kernel_size=options.filter, stride=self._square(operator)[0],
            padding=options.padding,
        )  # fmt: skip
        return self._activated(pooled, options.activation)

    def _mean(self, operator: Operator, name: str) -> str:
        rank = len(self._shape(operator.inputs[0])) + 1
        if {axis % rank for axis in self._integers(operator.inputs[1])} != MAP_AXES or rank != 4:
            raise self.refusal(operator, "over other axes than rows and columns is not supported")
        return self._layer(GlobalAveragePooling2D, name, operator.inputs[0], keepdims=operator.options.keep_dims)

    def _pad(self, operator: Operator, name: str) -> str:
        amounts = np.reshape(self._integers(operator.inputs[1]), (-1, 2)).tolist()
        if len(amounts) != 4 or any(amounts[0]) or any(amounts[3]):
            raise self.refusal(operator, "of other axes than rows and columns is not supported")
        return self._layer(ZeroPadding2D, name, operator.inputs[0], padding=tuple(map(tuple, amounts[1:3])))

    def _activation(self, operator: Operator, name: str) -> str:
        if operator.code == "SOFTMAX" and operator.options.beta != 1:
            raise self.refusal(operator, f"with beta {operator.options.beta:g} is not supported")
        return self._layer(Activation, name, operator.inputs[0], activation=ACTIVATIONS[operator.code])

    def _arithmetic(self, operator: Operator, name: str) -> str:
        """Sum, difference or product of two maps, or of a map and a constant: one number, or one per channel."""
        kinds: dict[str, type[Layer]] = {"ADD": Add, "SUB": Subtract, "MUL": Multiply}
        constant = [number for number in operator.inputs if number in self.constants]
        if not constant:
            return self._activated(
                self._layer(kinds[operator.code], name, *operator.inputs), operator.options.activation
            )
        (variable,) = (number for number in operator.inputs if number not in self.constants)
        value, C = self._real(constant[0]), self._shape(variable)[-1]
        if value.size not in (1, C) or value.size != prod(value.shape[-1:]):
            raise self.refusal(operator, f"with a constant of shape {value.shape} is not supported")
        scale, offset = np.ones_like(value), np.zeros_like(value)
        if operator.code == "MUL":
            scale = value
        elif operator.code == "ADD":
            offset = value
        else:
            reverse = operator.inputs[0] == constant[0]
            scale, offset = (-scale, value) if reverse else (scale, -value)
        return self._activated(self._rescaled(name, variable, scale, offset), self._clip(operator))

    def _rescaled(self, name: str, number: int, scale: Array, offset: Array) -> str:
        """x * scale + offset, with one number each or one per channel."""
        if scale.size == 1:
            return self._layer(Rescaling, name, number, scale=float(scale.item()), offset=float(offset.item()))
        fields = {"scale": tuple(scale.ravel().tolist()), "offset": tuple(offset.ravel().tolist())}
        return self._layer(ChannelRescaling, name, number, **fields)

    def _concat(self, operator: Operator, name: str) -> str:
        if any(number in self.constants for number in operator.inputs):
            raise self.refusal(operator, "with a constant is not supported")
        joined = self._layer(Concatenate, name, *operator.inputs, axis=operator.options.axis)
        return self._activated(joined, operator.options.activation)

    def _reshape(self, operator: Operator, name: str) -> str:
        """The same values in another shape, without the batch axis."""
        shape = (1, *self._shape(operator.inputs[0]))
        target = self._target(operator, shape)
        if not target or target[0] not in (1, -1):
            raise self.refusal(operator, f"of shape {shape} to {target} is not supported")
        if len(target) == 2:
            return self._layer(Flatten, name, operator.inputs[0])
        return self._layer(Reshape, name, operator.inputs[0], target_shape=target[1:])

    def _target(self, operator: Operator, shape: Shape) -> Shape:
        """Shape with the batch axis after an operator on a tensor of `shape`."""
        options: Options = operator.options
        if operator.code == "SQUEEZE":
            dropped = {axis % len(shape) for axis in options.shape} or {i for i, side in enumerate(shape) if side == 1}
            return tuple(side for axis, side in enumerate(shape) if axis not in dropped)
        given: Sequence[int] = self._integers(operator.inputs[1]) if len(operator.inputs) > 1 else options.shape
        if operator.code == "EXPAND_DIMS":
            axis = given[0] % (len(shape) + 1)
            return (*shape[:axis], 1, *shape[axis:])
        return tuple(given)
