"""From operations to the operators that TensorFlow Lite has, on real numbers.

Where the format has no single operator, several stand for one operation: a hard sigmoid is ADD with relu6 and MUL, a
padding other than SAME is PAD before the convolution. The file written of it is like that of TensorFlow's converter:
activations fused into convolutions if the format allows it, hard swish as one operator.
"""

from dataclasses import replace
from math import prod

import numpy as np

from npmobilenet.compiler import ir
from npmobilenet.compiler.passes import scale_and_shift
from npmobilenet.errors import NpMobileNetError
from npmobilenet.quantized.tensors import Network, Operator, Options, Tensor
from npmobilenet.reference import layers
from npmobilenet.reference.shapes import resolve_padding
from npmobilenet.types import Array, Shape

FUSED = ("linear", "relu", "relu6")  # activations that convolutions and sums have of their own
OPERATORS_OF_ACTIVATIONS = {"relu": "RELU", "relu6": "RELU6", "hard_swish": "HARD_SWISH", "sigmoid": "LOGISTIC"}


def operator_network(ops: ir.Operations, batch: int = 1, name: str = "network") -> Network:
    """A network of float32 operators: images (batch, H, W, C) in, outputs (batch, ...).

    Args:
        ops: what `passes.fuse` makes of a graph.
        batch: number of images.
        name: of the network.

    Raises:
        NpMobileNetError: an operation is not supported.
    """
    builder = _Builder(batch, ops)
    for op in ops[1:]:
        builder.values[op.name] = builder.operation(op)
    outputs = tuple(builder.values[op.name] for op in ir.outputs_of(ops))
    return Network(name, tuple(builder.tensors), tuple(builder.operators), (builder.values[ops[0].name],), outputs)


class _Builder:
    """Tensors and operators; `values` maps every operation to the number of its output tensor."""

    def __init__(self, batch: int, ops: ir.Operations) -> None:
        self.batch = batch
        self.tensors: list[Tensor] = []
        self.operators: list[Operator] = []
        self.values = {ops[0].name: self._tensor(ops[0].name, ops[0].shape)}

    def operation(self, op: ir.Operation) -> int:
        """Number of the tensor that holds an operation's output."""
        inputs = [self.values[name] for name in op.inputs]
        match op:
            case ir.Joined():
                return self._joined(op, inputs)
            case ir.Output():
                return inputs[0]
            case ir.Conv():
                return self._convolution(op)
            case ir.Depthwise():
                multiplier = op.shape[-1] // self._shape(inputs[0])[-1]
                return self._window(op, inputs[0], "DEPTHWISE_CONV_2D", op.kernel[None], multiplier)
            case ir.Dense():
                weights = self._weights(op, np.ascontiguousarray(op.kernel.T))  # (c_out, c_in)
                return self._activated(op, "FULLY_CONNECTED", [*inputs, *weights], Options())
            case ir.Alias():
                return self._reshaped(op, inputs[0])
            case ir.GlobalAverage():
                axes = self._constant(f"{op.name}/axes", np.array((1, 2), np.int32))
                return self._add("MEAN", [*inputs, axes], op, Options(keep_dims=len(op.shape) == 3))
            case ir.LayerOperation():
                return self._layer(op, inputs)
        raise NpMobileNetError(f"{op.name}: {op.label} has no TensorFlow Lite export")

    def _layer(self, op: ir.LayerOperation, inputs: list[int]) -> int:
        match op.layer:
            case layers.Activation(activation=activation):
                return self._activation(op, activation, inputs[0])
            case layers.Add():
                return self._folded("ADD", inputs, op)
            case layers.Multiply():
                return self._folded("MUL", inputs, op)
            case layers.Subtract():
                return self._add("SUB", inputs, op)
            case layers.Concatenate(axis=axis):
                return self._add("CONCATENATION", inputs, op, Options(axis=axis % (len(op.shape) + 1)))
            case layers.ZeroPadding2D(padding=(rows, columns)):
                return self._padded(op, inputs[0], (rows, columns), "")
            case layers.Rescaling(scale=scale, offset=offset):
                return self._affine(op, inputs[0], np.array(scale), np.array(offset), "")
            case layers.BatchNormalization(epsilon=epsilon):
                return self._affine(op, inputs[0], *scale_and_shift(op.params, epsilon), "")
            case layers.AveragePooling2D() | layers.MaxPooling2D():
                return self._pool(op, op.layer, inputs[0])
            case layers.GlobalMaxPooling2D():
                window = Options(filter=self._sides(inputs[0]))
                y = self._add("MAX_POOL_2D", inputs, op, window, "maximum", (1, 1, op.shape[-1]))
                return self._reshaped(op, y) if len(op.shape) == 1 else y
            case layers.Flatten() | layers.Reshape():
                return self._reshaped(op, inputs[0])
            case layers.Dense() if len(op.shape) == 3:
                return self._pixelwise(op, op.layer)
        raise NpMobileNetError(f"{op.name}: {op.layer.type} has no TensorFlow Lite export")

    def _convolution(self, op: ir.Conv) -> int:
        x = self.values[op.inputs[0]]
        if op.scaling != ir.NO_SCALING:
            scale, offset = (np.array(value) for value in op.scaling)
            x = self._affine(op, x, scale, offset, "rescaled")
        if op.gate:
            x = self._add("MUL", [x, self.values[op.gate]], op, Options(), "gated", self._shape(x))
        sums = replace(op, name=f"{op.name}/sums") if op.residual else op
        y = self._window(sums, x, "CONV_2D", op.kernel.transpose(3, 0, 1, 2))
        return self._add("ADD", [y, self.values[op.residual]], op) if op.residual else y

    def _pixelwise(self, op: ir.LayerOperation, layer: layers.Dense) -> int:
        """A dense layer on the pixels of a map."""
        bias = op.params.get("bias", np.zeros(layer.units)).astype(np.float64)
        conv = ir.Conv(
            name=op.name, layers=op.layers, inputs=op.inputs, shape=op.shape, activation=layer.activation,
            kernel=op.params["kernel"][None, None], bias=bias, stride=1, padding=ir.NO_PADDING,
        )  # fmt: skip
        return self._convolution(conv)  # kernel (1, 1, c_in, c_out)

    def _window(self, op: ir.Window, x: int, code: str, kernel: Array, multiplier: int = 1) -> int:
        """A convolution; kernel (c_out, K_h, K_w, c_in), or (1, K_h, K_w, C M) of a depthwise one."""
        same = op.padding == resolve_padding("same", self._sides(x), op.extent, op.stride)
        if not same and op.padding != ir.NO_PADDING:
            x = self._padded(op, x, op.padding, "padded")
        options = Options(
            padding="same" if same else "valid",
            stride=(op.stride, op.stride),
            dilation=(op.dilation, op.dilation),
            multiplier=multiplier,
        )
        return self._activated(op, code, [x, *self._weights(op, kernel)], options)

    def _weights(self, op: ir.Weighted, kernel: Array) -> list[int]:
        return [self._real(f"{op.name}/w", kernel), self._real(f"{op.name}/b", op.bias)]

    def _pool(self, op: ir.Operation, layer: layers.AveragePooling2D | layers.MaxPooling2D, x: int) -> int:
        code = "AVERAGE_POOL_2D" if isinstance(layer, layers.AveragePooling2D) else "MAX_POOL_2D"
        padding = layer.zeros(self._shape(x))
        same = padding == resolve_padding("same", self._sides(x), layer.kernel_size, layer.stride)
        if not same and padding != ir.NO_PADDING:
            raise NpMobileNetError(f"{op.name}: TensorFlow Lite pools with SAME or VALID padding, not {padding}")
        stride = layer.stride, layer.stride
        options = Options(padding="same" if same else "valid", stride=stride, filter=layer.kernel_size)
        return self._add(code, [x], op, options)

    def _activated(self, op: ir.Weighted, code: str, inputs: list[int], options: Options) -> int:
        """An operator and its activation: fused if the format has it, otherwise as operators after it."""
        if op.activation in FUSED:
            return self._add(code, inputs, op, replace(options, activation=op.activation))
        y = self._add(code, inputs, op, options, "linear")
        return self._activation(op, op.activation, y)

    def _activation(self, op: ir.Operation, activation: str, x: int) -> int:
        if activation in OPERATORS_OF_ACTIVATIONS:
            return self._add(OPERATORS_OF_ACTIVATIONS[activation], [x], op)
        if activation == "softmax":
            return self._add("SOFTMAX", [x], op)
        if activation == "hard_sigmoid":  # relu6(x + 3) / 6
            three, sixth = (self._real(f"{op.name}/{n}", np.array(v)) for n, v in (("3", 3), ("1_6", 1 / 6)))
            shifted = self._add("ADD", [x, three], op, Options(activation="relu6"), "shifted")
            return self._add("MUL", [shifted, sixth], op)
        if activation == "silu":  # x sigmoid(x)
            return self._add("MUL", [x, self._add("LOGISTIC", [x], op, Options(), "sigmoid")], op)
        raise NpMobileNetError(f"{op.name}: activation {activation} has no TensorFlow Lite export")

    def _affine(self, op: ir.Operation, x: int, scale: Array, offset: Array, part: str) -> int:
        """x * scale + offset."""
        factor, term = self._real(f"{op.name}/scale", scale), self._real(f"{op.name}/offset", offset)
        product = self._add("MUL", [x, factor], op, Options(), "scaled", self._shape(x))
        return self._add("ADD", [product, term], op, Options(), part, self._shape(x))

    def _padded(self, op: ir.Operation, x: int, padding: tuple[tuple[int, int], tuple[int, int]], part: str) -> int:
        (H, W, C), (rows, columns) = self._shape(x), padding
        amounts = self._constant(f"{op.name}/padding", np.array(((0, 0), rows, columns, (0, 0)), np.int32))
        return self._add("PAD", [x, amounts], op, Options(), part, (H + sum(rows), W + sum(columns), C))

    def _joined(self, op: ir.Joined, inputs: list[int]) -> int:
        """Rows of every map, one after another."""
        values, rows = op.shape[-1], []
        for name, x in zip(op.inputs, inputs, strict=True):
            shape = prod(self._shape(x)) // values, values
            sides = self._constant(f"{name}/sides", np.array((self.batch, *shape), np.int32))
            rows.append(self._add("RESHAPE", [x, sides], op, Options(), f"{name}/rows", shape))
        return self._add("CONCATENATION", rows, op, Options(axis=1))

    def _reshaped(self, op: ir.Operation, x: int) -> int:
        shape = self._constant(f"{op.name}/shape", np.array((self.batch, *op.shape), np.int32))
        return self._add("RESHAPE", [x, shape], op)

    def _folded(self, code: str, inputs: list[int], op: ir.Operation) -> int:
        """An operator of two inputs on two or more, from left to right."""
        y = inputs[0]
        for count, x in enumerate(inputs[1:], 2):
            y = self._add(code, [y, x], op, Options(), "" if count == len(inputs) else f"first {count}")
        return y

    def _add(
        self,
        code: str,
        inputs: list[int],
        op: ir.Operation,
        options: Options = Options(),  # noqa: B008  frozen
        part: str = "",
        shape: Shape | None = None,
    ) -> int:
        """Add an operator and return the number of its output, of op's name and shape unless others are given."""
        output = self._tensor(f"{op.name}/{part}" if part else op.name, op.shape if shape is None else shape)
        self.operators.append(Operator(code, tuple(inputs), (output,), options))
        return output

    def _real(self, name: str, values: Array) -> int:
        return self._constant(name, np.asarray(values, np.float32, order="C"))

    def _constant(self, name: str, values: Array) -> int:
        self.tensors.append(Tensor(name, values.shape, values.dtype, None, values))
        return len(self.tensors) - 1

    def _tensor(self, name: str, shape: Shape) -> int:
        self.tensors.append(Tensor(name, (self.batch, *shape), np.dtype(np.float32)))
        return len(self.tensors) - 1

    def _shape(self, number: int) -> Shape:
        """Shape of a tensor without the batch axis."""
        return self.tensors[number].shape[1:]

    def _sides(self, number: int) -> tuple[int, int]:
        H, W, _ = self._shape(number)
        return H, W
