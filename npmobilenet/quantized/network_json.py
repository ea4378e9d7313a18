"""A network as a JSON document, and the arrays that belong to it: constants, scales, zero points.

document   {"name", "inputs", "outputs",
            "tensors": [{"name", "shape", "dtype"} and, of a quantized one, "axis"],
            "operators": [{"code", "inputs", "outputs"} and "options", those that differ from the default]}
arrays     by the number of the tensor: "17/values" of a constant, "17/scale" and "17/zero_point"
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from npmobilenet.errors import WeightsError
from npmobilenet.quantized.consistency import check_network
from npmobilenet.quantized.tensors import Network, Operator, Options, Quantization, Tensor
from npmobilenet.types import Array

DTYPES = ("uint8", "int8", "int16", "int32", "int64", "bool", "float16", "float32", "float64")
VALUES, SCALE, ZERO_POINT = "values", "scale", "zero_point"


def network_to_json(network: Network) -> dict[str, Any]:
    """The document of a network."""
    return {
        "name": network.name,
        "inputs": network.inputs,
        "outputs": network.outputs,
        "tensors": [_tensor_to_json(tensor) for tensor in network.tensors],
        "operators": [_operator_to_json(operator) for operator in network.operators],
    }


def network_arrays(network: Network) -> dict[str, Array]:
    """The arrays of a network, as the module describes them."""
    arrays: dict[str, Array] = {}
    for number, tensor in enumerate(network.tensors):
        if tensor.data is not None:
            arrays[f"{number}/{VALUES}"] = tensor.data
        if tensor.quantization is not None:
            arrays[f"{number}/{SCALE}"] = tensor.quantization.scale
            arrays[f"{number}/{ZERO_POINT}"] = tensor.quantization.zero_point
    return arrays


def network_from_json(document: Mapping[str, Any], arrays: Mapping[str, Array]) -> Network:
    """The network of a document and its arrays.

    Raises:
        WeightsError: something does not fit.
        LookupError, TypeError, ValueError: the document does not have the form of a network.
    """
    tensors = [_tensor_from_json(number, tensor, arrays) for number, tensor in enumerate(document["tensors"])]
    network = Network(
        _text(document["name"]),
        tuple(tensors),
        tuple(_operator_from_json(operator) for operator in document["operators"]),
        _integers(document["inputs"]),
        _integers(document["outputs"]),
    )
    if unused := arrays.keys() - network_arrays(network).keys():
        raise WeightsError(f"{network.name}: array {min(unused)} belongs to no tensor")
    check_network(network)
    return network


def _tensor_to_json(tensor: Tensor) -> dict[str, Any]:
    described = {"name": tensor.name, "shape": tensor.shape, "dtype": tensor.dtype.name}
    return described | ({} if tensor.quantization is None else {"axis": tensor.quantization.axis})


def _tensor_from_json(number: int, document: Mapping[str, Any], arrays: Mapping[str, Array]) -> Tensor:
    if document["dtype"] not in DTYPES:
        raise WeightsError(f"tensor {number}: unknown type {document['dtype']!r}")
    quantization = None
    if "axis" in document:
        scale, zero = (arrays[f"{number}/{part}"] for part in (SCALE, ZERO_POINT))
        if scale.dtype != np.float32 or zero.dtype != np.int64:
            raise WeightsError(f"tensor {number}: expected float32 scales and int64 zero points")
        quantization = Quantization(scale, zero, _integer(document["axis"]))
    return Tensor(
        _text(document["name"]),
        _integers(document["shape"]),
        np.dtype(document["dtype"]),
        quantization,
        arrays.get(f"{number}/{VALUES}"),
    )


def _operator_to_json(operator: Operator) -> dict[str, Any]:
    default = Options()
    named = ((field.name, getattr(operator.options, field.name)) for field in fields(Options))
    options = {name: value for name, value in named if value != getattr(default, name)}
    described = {"code": operator.code, "inputs": operator.inputs, "outputs": operator.outputs}
    return described | ({"options": options} if options else {})


def _operator_from_json(document: Mapping[str, Any]) -> Operator:
    default = Options()
    options = {name: _like(getattr(default, name), value) for name, value in document.get("options", {}).items()}
    return Operator(
        _text(document["code"]), _integers(document["inputs"]), _integers(document["outputs"]), Options(**options)
    )


def _like(default: Any, value: Any) -> Any:
    """An option's value, of the type of its default.

    Raises:
        TypeError: it has another type.
    """
    if isinstance(default, tuple):
        return _integers(value)
    expected = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, expected) or isinstance(value, bool) != isinstance(default, bool):
        raise TypeError(f"expected {type(default).__name__}, got {value!r}")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"expected an integer, got {value!r}")
    return value


def _integers(values: Any) -> tuple[int, ...]:
    return tuple(map(_integer, values))


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"expected a text, got {value!r}")
    return value
