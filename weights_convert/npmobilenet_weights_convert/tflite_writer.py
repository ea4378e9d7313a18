"""A network of operators as a TensorFlow Lite file, without TensorFlow: what `tflite_file` reads.

Source: TensorFlow Lite's `schema.fbs`, version 3; versions of operators as its converter writes them.
"""

from collections.abc import Callable, Mapping

import numpy as np

from npmobilenet.errors import WeightsError
from npmobilenet.quantized.tensors import Network, Operator, Options, Quantization, Tensor
from npmobilenet_weights_convert.flatbuffer_writer import Fields, Node, Nodes, Number, Numbers, Text, flatbuffer
from npmobilenet_weights_convert.tflite_file import ACTIVATIONS, CODES, IDENTIFIER, PADDINGS, TYPES

VERSION = 3  # of the format
ALIGNMENT = 16  # bytes, of every constant's values
WRITER = "npmobilenet"
METADATA = "TFLITE_METADATA"
OPERATOR_NUMBERS = {name: number for number, name in CODES.items()}
TYPE_NUMBERS = {name: number for number, name in TYPES.items()}
ACTIVATION_NUMBERS = {name: number for number, name in ACTIVATIONS.items()}
LAST_OLD_CODE = 127  # greater ones do not fit the field that came first

Slots = Mapping[int, Number | Node]


def tflite_bytes(network: Network, metadata: bytes = b"") -> bytes:
    """A network as the contents of a `.tflite` file.

    Args:
        network: the network.
        metadata: what describes its input and output, in a buffer of its own; see `tflite_metadata_writer`.

    Raises:
        WeightsError: it has an operator or a type that is not written, or more than 2 GB.
    """
    codes = sorted({(operator.code, _version(operator, network)) for operator in network.operators})
    constants = [tensor.data for tensor in network.tensors if tensor.data is not None]
    numbers = iter(range(1, len(constants) + 1))
    tensors = [_tensor(tensor, 0 if tensor.data is None else next(numbers)) for tensor in network.tensors]
    operators = [
        _operator(operator, codes.index((operator.code, _version(operator, network)))) for operator in network.operators
    ]
    graph: Slots = {0: Nodes(tensors), 1: _ints(network.inputs), 2: _ints(network.outputs), 3: Nodes(operators)}
    empty = Fields({})  # the first buffer: of every tensor without values
    values = [Fields({0: Numbers(np.frombuffer(data.tobytes(), np.uint8), ALIGNMENT)}) for data in constants]
    described: Slots = {}
    if metadata:
        described = {6: Nodes([Fields({0: Text(METADATA), 1: Number("I", len(values) + 1)})])}
        values.append(Fields({0: Numbers(np.frombuffer(metadata, np.uint8), ALIGNMENT)}))
    model = Fields({
        0: Number("I", VERSION),
        1: Nodes([_code(*code) for code in codes]),
        2: Nodes([Fields({**graph, 4: Text(network.name)})]),
        3: Text(WRITER),
        4: Nodes([empty, *values]),
        **described,
    })  # fmt: skip
    return flatbuffer(model, IDENTIFIER)


def _tensor(tensor: Tensor, buffer: int) -> Fields:
    if tensor.dtype.name not in TYPE_NUMBERS:
        raise WeightsError(f"tensor {tensor.name}: values of type {tensor.dtype} cannot be written")
    how = {} if tensor.quantization is None else {4: _quantization(tensor.quantization)}
    kind = Number("b", TYPE_NUMBERS[tensor.dtype.name])
    return Fields({0: _ints(tensor.shape), 1: kind, 2: Number("I", buffer), 3: Text(tensor.name), **how})


def _quantization(how: Quantization) -> Fields:
    zeros = Numbers(how.zero_point.astype(np.int64))
    return Fields({2: Numbers(how.scale.astype(np.float32)), 3: zeros, 6: Number("i", how.axis)})


def _code(name: str, version: int) -> Fields:
    number = OPERATOR_NUMBERS[name]
    return Fields({0: Number("b", min(number, LAST_OLD_CODE)), 2: Number("i", version), 3: Number("i", number)})


def _operator(operator: Operator, code: int) -> Fields:
    options: Slots = {}
    if operator.code in OPTIONS:
        number, slots = OPTIONS[operator.code]
        options = {3: Number("B", number), 4: Fields(slots(operator.options))}
    return Fields({0: Number("I", code), 1: _ints(operator.inputs), 2: _ints(operator.outputs), **options})


def _version(operator: Operator, network: Network) -> int:
    """The first version of an operator that has what this one does."""
    if operator.code not in OPERATOR_NUMBERS or operator.code == "CUSTOM":
        raise WeightsError(f"{network.label(operator)}: operator {operator.code} cannot be written")
    tensors = [network.tensors[number] for number in (*operator.inputs, *operator.outputs) if number >= 0]
    if operator.code == "FULLY_CONNECTED":
        return 5 if operator.options.keep_dims else 4 if _is_int8(tensors) else 1
    version = VERSIONS_FOR_INT8.get(operator.code, 1) if _is_int8(tensors) else 1
    if operator.code in DILATED_SINCE and operator.options.dilation != (1, 1):
        return max(version, DILATED_SINCE[operator.code])
    return version


VERSIONS_FOR_INT8 = {
    "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "AVERAGE_POOL_2D": 2, "MAX_POOL_2D": 2, "ADD": 2, "SUB": 2, "MUL": 2,
    "MEAN": 2, "SOFTMAX": 2, "LOGISTIC": 2, "PAD": 2, "CONCATENATION": 2, "RELU": 2, "RELU6": 2, "DEQUANTIZE": 2,
    "TRANSPOSE": 2, "STRIDED_SLICE": 2,
}  # fmt: skip
DILATED_SINCE = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2}


def _is_int8(tensors: list[Tensor]) -> bool:
    return any(tensor.dtype == np.int8 for tensor in tensors)


def _ints(values: tuple[int, ...]) -> Numbers:
    return Numbers(np.array(values, np.int32))


def _int(value: int) -> Number:
    return Number("i", value)


def _activation(options: Options) -> Number:
    return Number("b", ACTIVATION_NUMBERS[options.activation])


def _window(options: Options) -> Slots:
    rows, columns = options.stride
    return {0: Number("b", PADDINGS.index(options.padding)), 1: _int(columns), 2: _int(rows)}


def _convolution(options: Options) -> Slots:
    rows, columns = options.dilation
    return {**_window(options), 3: _activation(options), 4: _int(columns), 5: _int(rows)}


def _depthwise(options: Options) -> Slots:
    rows, columns = options.dilation
    own = {3: _int(options.multiplier), 4: _activation(options), 5: _int(columns), 6: _int(rows)}
    return {**_window(options), **own}


def _pool(options: Options) -> Slots:
    rows, columns = options.filter
    return {**_window(options), 3: _int(columns), 4: _int(rows), 5: _activation(options)}


def _arithmetic(options: Options) -> Slots:
    return {0: _activation(options)}


def _shape(options: Options) -> Slots:
    return {0: _ints(options.shape)} if options.shape else {}


def _nothing(options: Options) -> Slots:
    return {}


OPTIONS: Mapping[str, tuple[int, Callable[[Options], Slots]]] = {
    "CONV_2D": (1, _convolution),
    "DEPTHWISE_CONV_2D": (2, _depthwise),
    "AVERAGE_POOL_2D": (5, _pool),
    "MAX_POOL_2D": (5, _pool),
    "FULLY_CONNECTED": (8, lambda options: {0: _activation(options), 2: Number("b", options.keep_dims)}),
    "SOFTMAX": (9, lambda options: {0: Number("f", options.beta)}),
    "CONCATENATION": (10, lambda options: {0: _int(options.axis), 1: _activation(options)}),
    "ADD": (11, _arithmetic),
    "RESHAPE": (17, _shape),
    "MUL": (21, _arithmetic),
    "PAD": (22, _nothing),
    "TRANSPOSE": (26, _nothing),
    "MEAN": (27, lambda options: {0: Number("b", options.keep_dims)}),
    "SUB": (28, _arithmetic),
    "SQUEEZE": (30, _shape),
    "STRIDED_SLICE": (32, lambda options: {slot: _int(mask) for slot, mask in enumerate(options.masks)}),
    "DEQUANTIZE": (38, _nothing),
    "EXPAND_DIMS": (52, _nothing),
    "SHAPE": (55, _nothing),
    "PACK": (59, lambda options: {1: _int(options.axis)}),
    "QUANTIZE": (89, _nothing),
    "HARD_SWISH": (91, _nothing),
}
"""Number of the options' type in the format, and its fields by slot."""
