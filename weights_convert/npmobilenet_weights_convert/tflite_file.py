"""A TensorFlow Lite file as operators and tensors.

A `.tflite` is a FlatBuffer: buffers with the constants' bytes, tensors that describe them, and operators that refer to
tensors by number. `read_tflite` refuses what leads outside the file, or has no meaning here; whether what it returns is
a network is for `quantized.consistency` to say.

Source: TensorFlow Lite's `schema.fbs`, version 3.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeVar

import numpy as np

from npmobilenet.errors import WeightsError
from npmobilenet.quantized.tensors import Network, Operator, Options, Quantization, Tensor
from npmobilenet.types import Array
from npmobilenet_weights_convert.flatbuffer import Table, root
from npmobilenet_weights_convert.flexbuffer import read_map
from npmobilenet_weights_convert.tflite_names import operator_name, type_name

Item = TypeVar("Item")
IDENTIFIER = b"TFL3"
TYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8", 10: "float64",
}  # fmt: skip
PADDINGS = ("same", "valid")
ACTIVATIONS = {0: "linear", 1: "relu", 2: "relu_n1_to_1", 3: "relu6"}
CODES = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 6: "DEQUANTIZE",
    9: "FULLY_CONNECTED", 14: "LOGISTIC", 17: "MAX_POOL_2D", 18: "MUL", 19: "RELU", 21: "RELU6", 22: "RESHAPE",
    25: "SOFTMAX", 32: "CUSTOM", 34: "PAD", 39: "TRANSPOSE", 40: "MEAN", 41: "SUB", 43: "SQUEEZE", 45: "STRIDED_SLICE",
    70: "EXPAND_DIMS", 77: "SHAPE", 83: "PACK", 114: "QUANTIZE", 117: "HARD_SWISH",
}  # fmt: skip
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
MOST_AXES = 8
IN_THE_FLATBUFFER = 1  # offsets up to this mean that a buffer's bytes do not follow the FlatBuffer


def read_tflite(data: bytes, name: str = "network") -> Network:
    """The network in a TensorFlow Lite file.

    Raises:
        WeightsError: the file is damaged, or has something that is not supported.
    """
    if data[4:8] != IDENTIFIER:
        raise WeightsError(
            f"expected a TensorFlow Lite file, which has {IDENTIFIER!r} from byte 4 on, got {data[:8]!r}"
        )
    model = root(data)
    graphs = model.tables(2)
    if len(graphs) != 1:
        raise WeightsError(
            f"expected one subgraph, got {len(graphs)}: networks with conditions or loops are not supported"
        )
    if model.tables(9):
        raise WeightsError("constants in other files (external buffers) are not supported; export a file of its own")
    buffers = model.tables(4)
    tensors = tuple(_tensor(tensor, buffers) for tensor in graphs[0].tables(0))
    codes = model.tables(1)
    operators = tuple(_operator(operator, codes, tensors) for operator in graphs[0].tables(3))
    inputs, outputs = (tuple(map(int, graphs[0].numbers(slot, "i4"))) for slot in (1, 2))
    return Network(graphs[0].string(4) or name, tensors, operators, inputs, outputs)


def _content(buffer: Table) -> bytes:
    """A constant's bytes: in the FlatBuffer, or after it in a file of more than 2 GB."""
    offset, size = buffer.number(1, "Q"), buffer.number(2, "Q")
    if offset <= IN_THE_FLATBUFFER:
        return buffer.numbers(0, "u1").tobytes()
    if offset + size > len(buffer.data):
        raise WeightsError(f"{size} bytes of a constant at {offset}, in a file of {len(buffer.data)}: it is cut off")
    buffer.allowance.take(size)
    return buffer.data[offset : offset + size]


def _chosen(items: Sequence[Item], number: int, what: str) -> Item:
    """The item of this number.

    Raises:
        WeightsError: there is none.
    """
    if not 0 <= number < len(items):
        raise WeightsError(f"there is no {what} {number}, only {len(items)}: the file is damaged")
    return items[number]


def _code(code: Table, tensor: str) -> str:
    """Name of an operator."""
    number = max(code.number(0, "b"), code.number(3, "i"))
    if number not in CODES:
        supported = ", ".join(CODES.values())
        raise WeightsError(f"{tensor}: operator {operator_name(number)} is not supported; supported are {supported}")
    return CODES[number] if CODES[number] != "CUSTOM" else f"CUSTOM:{code.string(1)}"


def _tensor(tensor: Table, buffers: Sequence[Table]) -> Tensor:
    name, sides, number = tensor.string(3), tensor.numbers(0, "i4"), tensor.number(1, "b")
    if number not in TYPES:
        raise WeightsError(f"tensor {name}: values of type {type_name(number)} are not supported")
    if tensor.table(6) is not None:
        raise WeightsError(f"tensor {name}: sparse weights are not supported; export the model without sparsity")
    if sides.size > MOST_AXES:
        raise WeightsError(f"tensor {name}: {sides.size} axes; expected at most {MOST_AXES}")
    shape = tuple(map(int, sides))
    if min(shape, default=0) < 0:
        raise WeightsError(f"tensor {name}: shape {shape}; expected sides that are not negative")
    dtype = np.dtype(TYPES[number])
    content = _content(_chosen(buffers, tensor.number(2, "I"), "buffer"))
    quantization = _quantization(tensor.table(4)) if dtype.kind in "iu" else None
    return Tensor(name, shape, dtype, quantization, _values(name, content, dtype, shape))


def _values(name: str, content: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array | None:
    if not content:
        return None
    if len(content) != prod(shape) * dtype.itemsize:
        raise WeightsError(f"tensor {name}: expected {prod(shape)} values of {dtype}, got {len(content)} bytes")
    return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)


def _quantization(table: Table | None) -> Quantization | None:
    """Scales and zero points, which are 0 if the file leaves them out; None for plain integers."""
    if table is None or not (scale := table.numbers(2, "f4")).size:
        return None
    zero = table.numbers(3, "i8")
    return Quantization(
        scale.astype(np.float32), zero.astype(np.int64) if zero.size else np.zeros(scale.size, np.int64),
        table.number(6, "i"),
    )  # fmt: skip


def _operator(operator: Table, codes: Sequence[Table], tensors: Sequence[Tensor]) -> Operator:
    inputs, outputs = (tuple(map(int, operator.numbers(slot, "i4"))) for slot in (1, 2))
    names = _chosen(tensors, outputs[0], "tensor").name if outputs else "an operator without output"
    made = names.partition(";")[0]  # of several layers that became one operator
    code = _code(_chosen(codes, operator.number(0, "I"), "operator code"), made)
    for number in inputs:
        if number != -1:
            _chosen(tensors, number, "tensor")
    if code in WEIGHTED and len(inputs) > 1 and tensors[inputs[0]].dtype.kind == "f":
        _check_weights(tensors[inputs[1]], made)
    if code.startswith("CUSTOM:"):
        return Operator(code, inputs, outputs, Options(custom=read_map(operator.numbers(5, "u1").tobytes())))
    table, read = operator.table(4), OPTIONS.get(code)
    return Operator(code, inputs, outputs, read(table) if read and table else Options())


def _check_weights(w: Tensor, layer: str) -> None:
    """Refuse weights of bytes in a layer of floats."""
    if w.dtype.kind in "iu":
        raise WeightsError(
            f"{layer}: {w.dtype} weights on float activations (dynamic-range quantization) are not supported; convert "
            "the model to float, or with a representative dataset to full integers"
        )


def _padding(table: Table) -> str:
    return _chosen(PADDINGS, table.number(0, "b"), "padding")


def _activation(table: Table, slot: int) -> str:
    number = table.number(slot, "b")
    if number not in ACTIVATIONS:
        raise WeightsError(f"fused activation {number} is not supported")
    return ACTIVATIONS[number]


def _conv(table: Table) -> Options:
    return Options(
        padding=_padding(table),
        stride=(table.number(2, "i"), table.number(1, "i")),
        activation=_activation(table, 3),
        dilation=(table.number(5, "i", 1), table.number(4, "i", 1)),
    )


def _depthwise(table: Table) -> Options:
    return Options(
        padding=_padding(table),
        stride=(table.number(2, "i"), table.number(1, "i")),
        multiplier=table.number(3, "i"),
        activation=_activation(table, 4),
        dilation=(table.number(6, "i", 1), table.number(5, "i", 1)),
    )


def _pool(table: Table) -> Options:
    return Options(
        padding=_padding(table),
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
