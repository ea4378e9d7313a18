"""Export of a quantized network to ONNX in QDQ form, for ONNX Runtime and OpenVINO: the same integers as weights.

Every tensor is quantized where it is made and dequantized where it is read; runtimes turn what lies between into
integer kernels. Activations are unsigned bytes and weights signed ones, which both have their fastest kernels for: an
int8 activation is q + 128 here, and a uint8 weight q - 128.
"""

from pathlib import Path

import numpy as np

from npmobilenet.bench.onnx_builder import OnnxBuilder
from npmobilenet.errors import NpMobileNetError
from npmobilenet.quantized.numbers import CEILINGS
from npmobilenet.quantized.tensors import Network, Operator
from npmobilenet.quantized.weighted_sums import limits
from npmobilenet.reference.shapes import same_padding
from npmobilenet.types import Array, Shape

HALF_RANGE = 128
MERGES = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul"}
CURVES = {
    "HARD_SWISH": "HardSwish",
    "LOGISTIC": "Sigmoid",
    "RELU": "Relu",
    "SOFTMAX": "Softmax",
    "QUANTIZE": "Identity",
}
CHANNELS_FIRST = (0, 3, 1, 2)
CHANNELS_LAST = (0, 2, 3, 1)


def write_qdq(network: Network, path: Path) -> None:
    """Write a network as ONNX: image x (1, C, H, W) and outputs y, y1, ... as unsigned bytes.

    Raises:
        NpMobileNetError: an operator is not supported.
    """
    writer = _QdqWriter(network)
    for operator in network.operators:
        writer.operator(operator)
    writer.finish(path)


class _QdqWriter(OnnxBuilder):
    """The nodes of every operator; maps are (N, C, H, W), all other tensors as in the network."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._network = network
        self._bytes: dict[int, str] = {}  # names of quantized tensors, by number
        self._real: dict[int, str] = {}  # of the numbers that they stand for
        self._bytes[network.inputs[0]] = "x"

    def operator(self, operator: Operator) -> None:
        """Add the nodes of one operator."""
        number = operator.outputs[0]
        y = self._network.tensors[number]
        real = self._computed(operator, f"{number}/real")
        low, high = limits(y, operator.options)
        if operator.options.activation != "linear" and (low, high) != y.range:
            real = self._clipped(operator, real, f"{number}/clipped")
        scale, zero = self._step(number)
        self._bytes[number] = self.node("QuantizeLinear", [real, scale, zero], f"{number}/q")

    def finish(self, path: Path) -> None:
        """Write the file."""
        image = self._network.input
        ys = []
        for position, number in enumerate(self._network.outputs):
            ys.append(self.node("Identity", [self._bytes[number]], f"y{position or ''}"))
        _, H, W, C = image.shape
        self.save(path, x="x", shape=(1, C, H, W), ys=ys, dtype=np.uint8)

    def _computed(self, operator: Operator, y: str) -> str:
        code, options = operator.code, operator.options
        if code in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            return self._convolution(operator, y)
        x, shape = self._value(operator.inputs[0]), self._shape(operator.inputs[0])
        match code:
            case "FULLY_CONNECTED":
                w, bias = self._weights(operator, axis=0, transposed=False), self._bias(operator)
                return self.node("Gemm", [x, w, *bias], y, transB=1)
            case "ADD" | "SUB" | "MUL":
                return self.node(MERGES[code], [x, self._value(operator.inputs[1])], y)
            case "AVERAGE_POOL_2D" | "MAX_POOL_2D":
                return self._pooled(operator, x, shape, y)
            case "MEAN":
                return self._mean(operator, x, shape, y)
            case "RELU6":
                return self.node("Clip", [x, *self._ceiling("relu6", y)], y)
            case "PAD":
                return self._padded(operator, x, y)
            case "RESHAPE" | "SQUEEZE" | "EXPAND_DIMS":
                return self._reshaped(operator, x, shape, y)
            case "CONCATENATION":
                values = [self._value(number) for number in operator.inputs]
                is_map = len(self._shape(operator.outputs[0])) == 4
                axis = CHANNELS_FIRST.index(options.axis % 4) if is_map else options.axis
                return self.node("Concat", values, y, axis=axis)
            case "SOFTMAX" if len(shape) == 2:
                return self.node("Softmax", [x], y, axis=1)
            case _ if code in CURVES:
                return self.node(CURVES[code], [x], y)
        raise NpMobileNetError(f"{self._network.label(operator)}: {code} has no ONNX export")

    def _convolution(self, operator: Operator, y: str) -> str:
        x, options = operator.inputs[0], operator.options
        w = self._network.tensors[operator.inputs[1]]
        is_depthwise = operator.code == "DEPTHWISE_CONV_2D"
        pads = self._pads(self._shape(x)[1:3], w.shape[1:3], operator)
        weights = self._weights(operator, axis=3 if is_depthwise else 0, transposed=True)
        groups = self._shape(x)[3] if is_depthwise else self._shape(x)[3] // w.shape[3]
        return self.node(
            "Conv", [self._value(x), weights, *self._bias(operator)], y, kernel_shape=w.shape[1:3],
            strides=options.stride, dilations=options.dilation, pads=pads, group=groups,
        )  # fmt: skip

    def _pads(self, sides: Shape, window: Shape, operator: Operator) -> list[int]:
        """Padding as ONNX has it: (top, left, bottom, right)."""
        options = operator.options
        if options.padding != "same":
            return [0, 0, 0, 0]
        extents = [(K - 1) * dilation + 1 for K, dilation in zip(window, options.dilation, strict=True)]
        pairs = [same_padding(*axis) for axis in zip(sides, extents, options.stride, strict=True)]
        return [pair[end] for end in range(2) for pair in pairs]

    def _pooled(self, operator: Operator, x: str, shape: Shape, y: str) -> str:
        options = operator.options
        if operator.code == "AVERAGE_POOL_2D" and options.filter == shape[1:3] and options.padding == "valid":
            return self.node("GlobalAveragePool", [x], y)
        kind = "AveragePool" if operator.code == "AVERAGE_POOL_2D" else "MaxPool"
        pads = self._pads(shape[1:3], options.filter, operator)
        return self.node(kind, [x], y, kernel_shape=options.filter, strides=options.stride, pads=pads)

    def _mean(self, operator: Operator, x: str, shape: Shape, y: str) -> str:
        axes = sorted(int(axis) % len(shape) for axis in self._network.tensors[operator.inputs[1]].integers.ravel())
        if len(shape) != 4 or axes != [1, 2]:
            raise NpMobileNetError(f"{self._network.label(operator)}: MEAN of other axes has no ONNX export")
        if operator.options.keep_dims:
            return self.node("GlobalAveragePool", [x], y)
        return self.node("Flatten", [self.node("GlobalAveragePool", [x], f"{y}/pool")], y)

    def _padded(self, operator: Operator, x: str, y: str) -> str:
        amounts = self._network.tensors[operator.inputs[1]].integers
        ordered = amounts[list(CHANNELS_FIRST)] if len(amounts) == 4 else amounts
        return self.node("Pad", [x, self.constant(f"{y}/pads", ordered.T.ravel(), np.int64)], y)

    def _reshaped(self, operator: Operator, x: str, before: Shape, y: str) -> str:
        after = self._shape(operator.outputs[0])
        if len(before) == 4 and before[1:3] != (1, 1):
            x = self.node("Transpose", [x], f"{y}/last", perm=CHANNELS_LAST)
        ordered = after
        if len(after) == 4 and after[1:3] == (1, 1):
            ordered = (after[0], after[3], 1, 1)
        elif len(after) == 4:
            x = self.node("Reshape", [x, self._target(after, f"{y}/sides")], f"{y}/map")
            return self.node("Transpose", [x], y, perm=CHANNELS_FIRST)
        return self.node("Reshape", [x, self._target(ordered, f"{y}/shape")], y)

    def _target(self, shape: Shape, name: str) -> str:
        return self.constant(name, np.array(shape), np.int64)

    def _clipped(self, operator: Operator, x: str, y: str) -> str:
        activation = operator.options.activation
        if activation == "relu":
            return self.node("Relu", [x], y)
        return self.node("Clip", [x, *self._ceiling(activation, y)], y)

    def _ceiling(self, activation: str, y: str) -> list[str]:
        low, high = CEILINGS[activation]
        return [self.constant(f"{y}/low", float(low or 0)), self.constant(f"{y}/high", float(high or 0))]

    def _value(self, number: int) -> str:
        """Name of the real numbers of a tensor."""
        tensor = self._network.tensors[number]
        if number not in self._real:
            if tensor.data is not None:
                self._real[number] = self.constant(
                    f"{number}/constant", _channels_first(tensor.dequantize(tensor.data))
                )
            else:
                scale, zero = self._step(number)
                self._real[number] = self.node("DequantizeLinear", [self._bytes[number], scale, zero], f"{number}/x")
        return self._real[number]

    def _step(self, number: int) -> tuple[str, str]:
        """Names of the scale and zero point of an activation as unsigned bytes."""
        tensor = self._network.tensors[number]
        zero = tensor.zero_point + (HALF_RANGE if tensor.dtype == np.int8 else 0)
        return (
            self.constant(f"{number}/scale/{len(self._constants)}", tensor.scale[0]),
            self.constant(f"{number}/zero/{len(self._constants)}", zero, np.uint8),
        )

    def _weights(self, operator: Operator, axis: int, *, transposed: bool) -> str:
        """Name of the real weights, from signed bytes."""
        number = operator.inputs[1]
        w = self._network.tensors[number]
        shift = HALF_RANGE if w.dtype == np.uint8 else 0
        integers, scale = w.integers - shift, w.scale
        if transposed:
            integers = integers.transpose((3, 0, 1, 2) if axis == 3 else (0, 3, 1, 2))  # (c_out, c_in or 1, K_h, K_w)
        zeros = np.full(scale.shape, w.zero_point - shift)
        if scale.size == 1:
            scale, zeros = scale.reshape(()), zeros.reshape(())
        names = [
            self.constant(f"{number}/w", integers, np.int8),
            self.constant(f"{number}/w/scale", scale),
            self.constant(f"{number}/w/zero", zeros, np.int8),
        ]
        attributes = {} if scale.ndim == 0 else {"axis": 0}
        return self.node("DequantizeLinear", names, f"{number}/w/x", **attributes)

    def _bias(self, operator: Operator) -> list[str]:
        """Name of the real bias, from 32-bit integers in steps of the products."""
        if len(operator.inputs) < 3 or operator.inputs[2] < 0:
            return []
        x, w, b = (self._network.tensors[number] for number in operator.inputs[:3])
        scale: Array = x.scale * w.scale
        scale = scale.reshape(()) if scale.size == 1 else scale
        name = f"{operator.inputs[2]}/b"
        names = [
            self.constant(name, b.integers, np.int32),
            self.constant(f"{name}/scale", scale),
            self.constant(f"{name}/zero", np.zeros(scale.shape), np.int32),
        ]
        return [self.node("DequantizeLinear", names, f"{name}/x", **({"axis": 0} if scale.ndim else {}))]

    def _shape(self, number: int) -> Shape:
        return self._network.tensors[number].shape


def _channels_first(x: Array) -> Array:
    return x.transpose(CHANNELS_FIRST) if x.ndim == 4 else x
