"""Export of the fused network to TensorFlow Lite, for LiteRT: float32, NHWC, without TensorFlow.

A .tflite is a FlatBuffer: tables of tensors, their bytes, and operators that refer to tensors by number. The file is
like that of TensorFlow's converter: activations fused into convolutions if the format allows it, hard swish as one
operator, padding as SAME where it equals SAME.
"""

from math import prod
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ActivationFunctionType, BuiltinOperator, BuiltinOptions

from npmobilenet.compiler.ir import (
    NO_PADDING,
    NO_SCALING,
    Add,
    Alias,
    Conv,
    Dense,
    Depthwise,
    GlobalAverage,
    Joined,
    LayerOperation,
    Multiply,
    Operation,
    Operations,
    Output,
    Softmax,
    Weighted,
    outputs_of,
)
from npmobilenet.errors import NpMobileNetError
from npmobilenet.reference.layers import Concatenate, Flatten, Reshape
from npmobilenet.reference.shapes import resolve_padding
from npmobilenet.types import Array, Shape

VERSION = 3  # of the format
IDENTIFIER = b"TFL3"
ALIGNMENT = 16  # bytes, of every tensor's values
FUSED = {
    "linear": ActivationFunctionType.NONE,
    "relu": ActivationFunctionType.RELU,
    "relu6": ActivationFunctionType.RELU6,
}
TYPES = {np.dtype(np.float32): schema.TensorType.FLOAT32, np.dtype(np.int32): schema.TensorType.INT32}


def write_tflite(ops: Operations, batch: int, path: Path) -> None:
    """Write a network as TensorFlow Lite: images (batch, H, W, C) in, outputs (batch, ...).

    Raises:
        NpMobileNetError: an operation is not supported.
    """
    writer = _TfliteWriter(batch, ops)
    for op in ops[1:]:
        writer.operation(op)
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.name = writer.tensors, writer.operators, "network"
    graph.inputs, graph.outputs = [writer.values[ops[0].name]], [writer.values[op.name] for op in outputs_of(ops)]
    model = schema.ModelT()
    model.version, model.subgraphs, model.buffers = VERSION, [graph], writer.buffers
    model.operatorCodes, model.description = writer.codes, "npmobilenet"
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), IDENTIFIER)
    path.write_bytes(builder.Output())


class _Buffer(schema.BufferT):  # type: ignore[misc]
    """Bytes of a tensor, aligned as the format requires; the generated class does not align them."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802
        if self.data is not None:
            builder.Prep(ALIGNMENT, len(self.data))
        return int(super().Pack(builder))


class _TfliteWriter:
    """Tensors and operators; `values` maps every operation to the number of its output tensor."""

    def __init__(self, batch: int, ops: Operations) -> None:
        self.batch = batch
        self.buffers = [_Buffer()]  # the first is empty, and that of every tensor without values of its own
        self.tensors: list[schema.TensorT] = []
        self.operators: list[schema.OperatorT] = []
        self.codes: list[schema.OperatorCodeT] = []
        self._shapes = {op.name: op.shape for op in ops}
        self.values = {ops[0].name: self._tensor(ops[0].name, (batch, *ops[0].shape))}

    def operation(self, op: Operation) -> None:
        """Add the operators of one operation."""
        self.values[op.name] = self._operation(op)

    def _operation(self, op: Operation) -> int:
        inputs = [self.values[name] for name in op.inputs]
        match op:
            case Conv() | Depthwise():
                return self._convolution(op)
            case Dense():
                options = schema.FullyConnectedOptionsT()
                weights = [self._constant(f"{op.name}/w", op.kernel.T), self._constant(f"{op.name}/b", op.bias)]
                return self._activated(op, "FULLY_CONNECTED", [*inputs, *weights], options)
            case GlobalAverage():
                averaging = schema.ReducerOptionsT()
                averaging.keepDims = len(op.shape) == 3
                return self._operator("MEAN", [*inputs, self._integers(f"{op.name}/axes", (1, 2))], op, averaging)
            case Joined():
                return self._joined(op, inputs)
            case Output():
                return inputs[0]
            case Alias():
                return self._reshaped(op, inputs)
            case Add(inputs=(_, _)):
                return self._operator("ADD", inputs, op, schema.AddOptionsT())
            case Multiply(inputs=(_, _)):
                return self._operator("MUL", inputs, op, schema.MulOptionsT())
            case LayerOperation(layer=Concatenate(axis=axis)):
                joined = schema.ConcatenationOptionsT()
                joined.axis = axis
                return self._operator("CONCATENATION", inputs, op, joined)
            case LayerOperation(layer=Reshape() | Flatten()):
                return self._reshaped(op, inputs)
            case Softmax():
                softmax = schema.SoftmaxOptionsT()
                softmax.beta = 1.0
                return self._operator("SOFTMAX", inputs, op, softmax)
        layer = op.layer.type if isinstance(op, LayerOperation) else op.label
        raise NpMobileNetError(f"{op.name}: {layer} has no TensorFlow Lite export")

    def _reshaped(self, op: Operation, inputs: list[int]) -> int:
        shape = self._integers(f"{op.name}/shape", (self.batch, *op.shape))
        return self._operator("RESHAPE", [*inputs, shape], op, schema.ReshapeOptionsT())

    def _joined(self, op: Joined, inputs: list[int]) -> int:
        """Rows of every map, one after another."""
        values, rows = op.shape[-1], []
        for name, x in zip(op.inputs, inputs, strict=True):
            shape = prod(self._shapes[name]) // values, values
            sides = self._integers(f"{name}/rows", (self.batch, *shape))
            rows.append(self._operator("RESHAPE", [x, sides], op, schema.ReshapeOptionsT(), f"{name}/rows", shape))
        joined = schema.ConcatenationOptionsT()
        joined.axis = 1
        return self._operator("CONCATENATION", rows, op, joined)

    def _convolution(self, op: Conv | Depthwise) -> int:
        x, shape = self.values[op.inputs[0]], self._shapes[op.inputs[0]]
        if isinstance(op, Conv):
            x = self._conv_input(op, x, shape)
            code, options, kernel = "CONV_2D", schema.Conv2DOptionsT(), op.kernel.transpose(3, 0, 1, 2)
        else:
            code, options, kernel = "DEPTHWISE_CONV_2D", schema.DepthwiseConv2DOptionsT(), op.kernel[None]
            options.depthMultiplier = 1
        options.strideH = options.strideW = op.stride
        options.dilationHFactor = options.dilationWFactor = op.dilation
        options.padding = schema.Padding.SAME
        if op.padding != resolve_padding("same", shape[:2], op.extent, op.stride):
            options.padding = schema.Padding.VALID
            x = self._padded(op, x, shape)
        # kernel: (c_out, K, K, c_in), of a depthwise layer (1, K, K, C)
        weights = [self._constant(f"{op.name}/w", kernel), self._constant(f"{op.name}/b", op.bias)]
        y = self._activated(op, code, [x, *weights], options)
        if isinstance(op, Conv) and op.residual:
            return self._operator("ADD", [y, self.values[op.residual]], op, schema.AddOptionsT())
        return y

    def _conv_input(self, op: Conv, x: int, shape: Shape) -> int:
        """Number of the input, scaled and gated."""
        if op.scaling != NO_SCALING:
            x = self._rescaled(op, x, shape)
        if op.gate:
            x = self._operator("MUL", [x, self.values[op.gate]], op, schema.MulOptionsT(), "gated", shape)
        return x

    def _rescaled(self, op: Conv, x: int, shape: Shape) -> int:
        scale, offset = (self._constant(f"{op.name}/rescale{i}", np.array(value)) for i, value in enumerate(op.scaling))
        x = self._operator("MUL", [x, scale], op, schema.MulOptionsT(), "scaled", shape)
        return self._operator("ADD", [x, offset], op, schema.AddOptionsT(), "rescaled", shape)

    def _padded(self, op: Conv | Depthwise, x: int, shape: Shape) -> int:
        (H, W, C), (rows, columns) = shape, op.padding
        if op.padding == NO_PADDING:
            return x
        amounts = self._integers(f"{op.name}/padding", ((0, 0), rows, columns, (0, 0)))
        padded = H + sum(rows), W + sum(columns), C
        return self._operator("PAD", [x, amounts], op, schema.PadOptionsT(), "padded", padded)

    def _activated(self, op: Weighted, code: str, inputs: list[int], options: Any) -> int:
        """An operator and its activation: fused if the format has it, otherwise as operators after it."""
        if op.activation in FUSED:
            options.fusedActivationFunction = FUSED[op.activation]
            return self._operator(code, inputs, op, options, "sums")
        y = self._operator(code, inputs, op, options, "sums")
        if op.activation == "hard_swish":
            return self._operator("HARD_SWISH", [y], op, schema.HardSwishOptionsT())
        shift = schema.AddOptionsT()  # hard sigmoid: relu6(y + 3) / 6
        shift.fusedActivationFunction = ActivationFunctionType.RELU6
        y = self._operator("ADD", [y, self._constant(f"{op.name}/3", np.array(3.0))], op, shift, "shifted")
        return self._operator("MUL", [y, self._constant(f"{op.name}/6", np.array(1 / 6))], op, schema.MulOptionsT())

    def _operator(
        self, code: str, inputs: list[int], op: Operation, options: object, part: str = "", shape: Shape | None = None
    ) -> int:
        """Add an operator and return the number of its output, of op's shape unless another is given."""
        output = self._tensor(f"{op.name}/{part}", (self.batch, *(op.shape if shape is None else shape)))
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(getattr(BuiltinOperator, code))
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptions = options
        operator.builtinOptionsType = getattr(BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.operators.append(operator)
        return output

    def _code(self, builtin: int) -> int:
        """Index of an operator code in the file's list of codes."""
        for number, known in enumerate(self.codes):
            if known.builtinCode == builtin:
                return number
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        self.codes.append(code)
        return len(self.codes) - 1

    def _constant(self, name: str, values: Array) -> int:
        return self._stored(name, np.ascontiguousarray(values, np.float32).reshape(values.shape))

    def _integers(self, name: str, values: tuple[object, ...]) -> int:
        return self._stored(name, np.array(values, np.int32))

    def _stored(self, name: str, values: Array) -> int:
        buffer = _Buffer()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.buffers.append(buffer)
        return self._tensor(name, values.shape, TYPES[values.dtype], len(self.buffers) - 1)

    def _tensor(self, name: str, shape: Shape, dtype: int = schema.TensorType.FLOAT32, buffer: int = 0) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), dtype, buffer
        self.tensors.append(tensor)
        return len(self.tensors) - 1
