"""TensorFlow Lite files by LiteRT's generated classes: a `Network` written, every tensor of a file made an output."""

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ActivationFunctionType as Fused
from ai_edge_litert.schema_py_generated import BuiltinOperator, BuiltinOptions, Padding

from npmobilenet.quantized.tensors import Network, Operator, Options, Tensor

TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9}
FUSED = {"linear": Fused.NONE, "relu": Fused.RELU, "relu6": Fused.RELU6, "relu_n1_to_1": Fused.RELU_N1_TO_1}
PADDINGS = {"same": Padding.SAME, "valid": Padding.VALID}
VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 5, "HARD_SWISH": 1}  # of operators; others have 2


def tflite_bytes(network: Network) -> bytes:
    """A network as a file."""
    graph, model = schema.SubGraphT(), schema.ModelT()
    model.version, model.buffers, model.operatorCodes = 3, [schema.BufferT()], []
    graph.tensors = [_tensor(tensor, model) for tensor in network.tensors]
    graph.operators = [_operator(operator, model) for operator in network.operators]
    graph.inputs, graph.outputs = np.array(network.inputs, np.int32), np.array(network.outputs, np.int32)
    model.subgraphs = [graph]
    return _packed(model)


def with_all_outputs(data: bytes) -> bytes:
    """A file in which every tensor that an operator makes is an output, without operators that are not builtin.

    A bias whose scales are said to lie along axis 3 is said to have them along axis 0, since LiteRT refuses the former.
    """
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    graph.operators = [
        operator for operator in graph.operators if _builtin(model, operator.opcodeIndex) != BuiltinOperator.CUSTOM
    ]
    for tensor in graph.tensors:
        if tensor.quantization is not None and tensor.shape is not None and len(tensor.shape) == 1:
            tensor.quantization.quantizedDimension = 0
    graph.outputs = np.array([number for operator in graph.operators for number in operator.outputs], np.int32)
    model.metadata = model.signatureDefs = None
    return _packed(model)


def output_numbers(data: bytes) -> list[int]:
    """Numbers of a file's outputs."""
    return [int(number) for number in schema.ModelT.InitFromPackedBuf(data, 0).subgraphs[0].outputs]


def _builtin(model: Any, index: int) -> int:
    code = model.operatorCodes[index]
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def _packed(model: Any) -> bytes:
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(tensor: Tensor, model: Any) -> Any:
    found = schema.TensorT()
    found.name, found.shape, found.type, found.buffer = tensor.name, list(tensor.shape), TYPES[tensor.dtype.name], 0
    if tensor.data is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(tensor.data).tobytes(), np.uint8)
        model.buffers.append(buffer)
        found.buffer = len(model.buffers) - 1
    if tensor.quantization is not None:
        how = schema.QuantizationParametersT()
        how.scale, how.zeroPoint = tensor.quantization.scale, tensor.quantization.zero_point
        how.quantizedDimension = tensor.quantization.axis
        found.quantization = how
    return found


def _operator(operator: Operator, model: Any) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(BuiltinOperator, operator.code)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = VERSIONS.get(operator.code, 2)
    model.operatorCodes.append(code)
    found = schema.OperatorT()
    found.opcodeIndex = len(model.operatorCodes) - 1
    found.inputs, found.outputs = np.array(operator.inputs, np.int32), np.array(operator.outputs, np.int32)
    if operator.code in OPTIONS:
        found.builtinOptions = OPTIONS[operator.code](operator.options)
        name = type(found.builtinOptions).__name__.removesuffix("T")
        found.builtinOptionsType = getattr(BuiltinOptions, name)
    return found


def _window(table: Any, options: Options) -> Any:
    table.padding, (table.strideH, table.strideW) = PADDINGS[options.padding], options.stride
    table.fusedActivationFunction = FUSED[options.activation]
    return table


def _convolution(table: Any, options: Options) -> Any:
    table.dilationHFactor, table.dilationWFactor = options.dilation
    if isinstance(table, schema.DepthwiseConv2DOptionsT):
        table.depthMultiplier = options.multiplier
    return _window(table, options)


def _pool(options: Options) -> Any:
    table = schema.Pool2DOptionsT()
    table.filterHeight, table.filterWidth = options.filter
    return _window(table, options)


def _fused(kind: Callable[[], Any]) -> Callable[[Options], Any]:
    def filled(options: Options) -> Any:
        table = kind()
        table.fusedActivationFunction = FUSED[options.activation]
        for name, value in (("axis", options.axis), ("keepNumDims", options.keep_dims)):
            if hasattr(table, name):
                setattr(table, name, value)
        return table

    return filled


def _softmax(options: Options) -> Any:
    table = schema.SoftmaxOptionsT()
    table.beta = options.beta
    return table


def _reducer(options: Options) -> Any:
    table = schema.ReducerOptionsT()
    table.keepDims = options.keep_dims
    return table


OPTIONS: dict[str, Callable[[Options], Any]] = {
    "CONV_2D": lambda options: _convolution(schema.Conv2DOptionsT(), options),
    "DEPTHWISE_CONV_2D": lambda options: _convolution(schema.DepthwiseConv2DOptionsT(), options),
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "FULLY_CONNECTED": _fused(schema.FullyConnectedOptionsT),
    "ADD": _fused(schema.AddOptionsT),
    "SUB": _fused(schema.SubOptionsT),
    "MUL": _fused(schema.MulOptionsT),
    "CONCATENATION": _fused(schema.ConcatenationOptionsT),
    "SOFTMAX": _softmax,
    "MEAN": _reducer,
    "PAD": lambda options: schema.PadOptionsT(),
    "RESHAPE": lambda options: schema.ReshapeOptionsT(),
}
