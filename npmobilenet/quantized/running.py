"""A quantized network computed operator by operator, under any rule."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from npmobilenet.errors import NpMobileNetError, ShapeError, WeightsError
from npmobilenet.quantized import averages, conversions, curves, merges, rearrangements
from npmobilenet.quantized.rules import TFLITE, Rule
from npmobilenet.quantized.tensors import Network, Operator, Options, Tensor
from npmobilenet.quantized.weighted_sums import SUMS, weighted_sum
from npmobilenet.types import Array

Function = Callable[[Sequence[Tensor], Tensor, Options, Rule], Array]
OPERATORS: Mapping[str, Function] = {
    **{code: partial(weighted_sum, code) for code in SUMS},
    "ADD": merges.add,
    "SUB": merges.subtract,
    "MUL": merges.multiply,
    "CONCATENATION": merges.concatenate,
    "AVERAGE_POOL_2D": averages.average_pool,
    "MAX_POOL_2D": averages.max_pool,
    "MEAN": averages.mean,
    "HARD_SWISH": curves.hard_swish,
    "LOGISTIC": curves.logistic,
    "SOFTMAX": curves.softmax,
    "QUANTIZE": conversions.quantize,
    "DEQUANTIZE": conversions.dequantize,
    "RELU": conversions.relu,
    "RELU6": conversions.relu6,
    "PAD": conversions.pad,
    "RESHAPE": rearrangements.reshape,
    "SQUEEZE": rearrangements.squeeze,
    "TRANSPOSE": rearrangements.transpose,
    "EXPAND_DIMS": rearrangements.expand,
    "SHAPE": rearrangements.shape_of,
    "PACK": rearrangements.pack,
    "STRIDED_SLICE": rearrangements.strided_slice,
}


def compute(operator: Operator, inputs: Sequence[Tensor], output: Tensor, rule: Rule = TFLITE) -> Array:
    """The output of one operator.

    Args:
        operator: its code and options.
        inputs: its inputs, with their values; those that are left out at the end are missing.
        output: its output's description.
        rule: how results are rounded.

    Returns:
        The values, of the output's type.

    Raises:
        WeightsError: the operator is not supported, or does not fit its tensors.
    """
    function = OPERATORS.get(operator.code)
    if function is None:
        raise WeightsError(f"{output.name}: operator {operator.code} is not supported")
    try:
        return function(inputs, output, operator.options, rule).astype(output.dtype)
    except NpMobileNetError:
        raise
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        raise WeightsError(f"{output.name}: {operator.code} does not fit its tensors: {error}") from error


def trace(network: Network, x: Array, rule: Rule = TFLITE) -> Iterator[tuple[Operator, Array]]:
    """Compute one image operator by operator.

    Args:
        network: a quantized network.
        x: (1, H, W, C) integers of the input tensor's type, or real numbers if it is not quantized.
        rule: how results are rounded.

    Yields:
        (operator, its output), in order.

    Raises:
        ShapeError: x does not have the input's shape or type.
        WeightsError: an operator is not supported, or does not fit its tensors.
    """
    image = network.input
    if x.shape != image.shape or x.dtype != image.dtype:
        raise ShapeError(f"{network.name}: expected {image.dtype} of shape {image.shape}, got {x.dtype} {x.shape}")
    values = {number: tensor for number, tensor in enumerate(network.tensors) if tensor.data is not None}
    values[network.inputs[0]] = replace(image, data=x)
    for operator in network.operators:
        number = operator.outputs[0]
        inputs = [values[index] for index in operator.inputs if index >= 0]
        output = network.tensors[number]
        y = compute(operator, inputs, output, rule)
        if output.shape and y.shape != output.shape:
            raise WeightsError(f"{output.name}: {operator.code} gives shape {y.shape}, the tensor has {output.shape}")
        values[number] = replace(output, data=y)
        yield operator, y


def run(network: Network, x: Array, rule: Rule = TFLITE) -> list[Array]:
    """The outputs of a network, in its order; arguments and errors as `trace`."""
    made = {operator.outputs[0]: y for operator, y in trace(network, x, rule)}
    return [np.asarray(made[number]) for number in network.outputs]
