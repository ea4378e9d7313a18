"""A TensorFlow Lite file as operators and tensors.

A `.tflite` is a FlatBuffer: buffers with the constants' bytes, tensors that describe them, and operators that refer to
tensors by number. `read_tflite` checks every index and every size; it computes nothing.

Source: TensorFlow Lite's `schema.fbs`, version 3.
"""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from npmobilenet.errors import WeightsError
from npmobilenet.quantized.tensors import Network, Operator, Options, Quantization, Tensor
from npmobilenet.types import Array
from npmobilenet_weights_convert.flatbuffer import Table, root

IDENTIFIER = b"TFL3"
TYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8", 10: "float64",
}  # fmt: skip
UNREAD_TYPES = {5: "string", 8: "complex64", 11: "complex128", 15: "uint32", 16: "uint16", 17: "int4", 18: "bfloat16"}
PADDINGS = ("same", "valid")
ACTIVATIONS = {0: "linear", 1: "relu", 2: "relu_n1_to_1", 3: "relu6"}
CODES = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 6: "DEQUANTIZE",
    9: "FULLY_CONNECTED", 14: "LOGISTIC", 17: "MAX_POOL_2D", 18: "MUL", 19: "RELU", 21: "RELU6", 22: "RESHAPE",
    25: "SOFTMAX", 32: "CUSTOM", 34: "PAD", 39: "TRANSPOSE", 40: "MEAN", 41: "SUB", 43: "SQUEEZE", 45: "STRIDED_SLICE",
    70: "EXPAND_DIMS", 77: "SHAPE", 83: "PACK", 114: "QUANTIZE", 117: "HARD_SWISH",
}  # fmt: skip


def read_tflite(data: bytes, name: str = "network") -> Network:
    """The network in a TensorFlow Lite file.

    Raises:
        WeightsError: the file is damaged, or has something that is not supported.
    """
    model = root(data)
    buffers = [_buffer(data, buffer) for buffer in model.tables(4)]
    codes = [_code(code) for code in model.tables(1)]
    graphs = model.tables(2)
    if len(graphs) != 1:
        raise WeightsError(f"expected one subgraph, got {len(graphs)}")
    graph = graphs[0]
    tensors = tuple(_tensor(tensor, buffers) for tensor in graph.tables(0))
    operators = tuple(_operator(operator, codes) for operator in graph.tables(3))
    inputs, outputs = (tuple(map(int, graph.numbers(slot, "i4"))) for slot in (1, 2))
    return Network(graph.string(4) or name, tensors, operators, inputs, outputs)


def _buffer(data: bytes, buffer: Table) -> bytes:
    offset, size = buffer.number(1, "Q"), buffer.number(2, "Q")
    return data[offset : offset + size] if offset > 1 else buffer.numbers(0, "u1").tobytes()


def _code(code: Table) -> str:
    number = max(code.number(0, "b"), code.number(3, "i"))
    if number not in CODES:
        raise WeightsError(f"operator {number} of TensorFlow Lite is not supported")
    return CODES[number] if CODES[number] != "CUSTOM" else f"CUSTOM:{code.string(1)}"


def _tensor(tensor: Table, buffers: Sequence[bytes]) -> Tensor:
    name, shape, number = tensor.string(3), tuple(map(int, tensor.numbers(0, "i4"))), tensor.number(1, "b")
    if number not in TYPES:
        raise WeightsError(f"tensor {name}: values of type {UNREAD_TYPES.get(number, number)} are not supported")
    dtype = np.dtype(TYPES[number])
    content = buffers[tensor.number(2, "I")]
    return Tensor(name, shape, dtype, _quantization(tensor.table(4)), _values(name, content, dtype, shape))


def _values(name: str, content: bytes, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Array | None:
    if not content:
        return None
    if len(content) != prod(shape) * dtype.itemsize:
        raise WeightsError(f"tensor {name}: expected {prod(shape)} values of {dtype}, got {len(content)} bytes")
    return np.frombuffer(content, dtype).reshape(shape)


def _quantization(table: Table | None) -> Quantization | None:
    if table is None or not (scale := table.numbers(2, "f4")).size:
        return None
    return Quantization(scale, table.numbers(3, "i8").astype(np.int64), table.number(6, "i"))


def _operator(operator: Table, codes: Sequence[str]) -> Operator:
    code = codes[operator.number(0, "I")]
    inputs, outputs = (tuple(map(int, operator.numbers(slot, "i4"))) for slot in (1, 2))
    table = operator.table(4)
    read = OPTIONS.get(code)
    return Operator(code, inputs, outputs, read(table) if read and table else Options())


def _activation(table: Table, slot: int) -> str:
    number = table.number(slot, "b")
    if number not in ACTIVATIONS:
        raise WeightsError(f"fused activation {number} is not supported")
    return ACTIVATIONS[number]


def _conv(table: Table) -> Options:
    return Options(
        padding=PADDINGS[table.number(0, "b")],
        stride=(table.number(2, "i"), table.number(1, "i")),
        activation=_activation(table, 3),
        dilation=(table.number(5, "i", 1), table.number(4, "i", 1)),
    )


def _depthwise(table: Table) -> Options:
    return Options(
        padding=PADDINGS[table.number(0, "b")],
        stride=(table.number(2, "i"), table.number(1, "i")),
        multiplier=table.number(3, "i"),
        activation=_activation(table, 4),
        dilation=(table.number(6, "i", 1), table.number(5, "i", 1)),
    )


def _pool(table: Table) -> Options:
    return Options(
        padding=PADDINGS[table.number(0, "b")],
        stride=(table.number(2, "i"), table.number(1, "i")),
        filter=(table.number(4, "i"), table.number(3, "i")),
        activation=_activation(table, 5),
    )


def _masks(table: Table) -> Options:
    begin, end, ellipsis, new, shrunk = (table.number(slot, "i") for slot in range(5))
    return Options(masks=(begin, end, ellipsis, new, shrunk))


OPTIONS: dict[str, Callable[[Table], Options]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "FULLY_CONNECTED": lambda table: Options(activation=_activation(table, 0), keep_dims=bool(table.number(2, "b"))),
    "SOFTMAX": lambda table: Options(beta=table.number(0, "f")),
    "CONCATENATION": lambda table: Options(axis=table.number(0, "i"), activation=_activation(table, 1)),
    "ADD": lambda table: Options(activation=_activation(table, 0)),
    "SUB": lambda table: Options(activation=_activation(table, 0)),
    "MUL": lambda table: Options(activation=_activation(table, 0)),
    "MEAN": lambda table: Options(keep_dims=bool(table.number(0, "b"))),
    "RESHAPE": lambda table: Options(shape=tuple(map(int, table.numbers(0, "i4")))),
    "SQUEEZE": lambda table: Options(shape=tuple(map(int, table.numbers(0, "i4")))),
    "STRIDED_SLICE": _masks,
    "PACK": lambda table: Options(axis=table.number(1, "i")),
}
