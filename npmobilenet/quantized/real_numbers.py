"""The same operators on real numbers: what a quantized network approximates."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from npmobilenet import reference
from npmobilenet.errors import WeightsError
from npmobilenet.quantized.tensors import Network, Operator, Options
from npmobilenet.reference.shapes import dilated, resolve_padding
from npmobilenet.types import Array

Function = Callable[[Sequence[Array], Options], Array]


def real_trace(network: Network, x: Array) -> Iterator[tuple[Operator, Array]]:
    """Compute images operator by operator.

    Args:
        network: of operators on real numbers.
        x: (N, H, W, C) of any floating-point type, in which all is computed.

    Yields:
        (operator, its output), in order.

    Raises:
        WeightsError: an operator is not supported.
    """
    values = {
        number: tensor.data.astype(x.dtype, copy=False) if tensor.data.dtype.kind == "f" else tensor.data
        for number, tensor in enumerate(network.tensors)
        if tensor.data is not None
    }
    values[network.inputs[0]] = x
    for operator in network.operators:
        if operator.code not in OPERATORS:
            raise WeightsError(f"{network.label(operator)}: operator {operator.code} is not supported")
        y = OPERATORS[operator.code]([values[number] for number in operator.inputs if number >= 0], operator.options)
        values[operator.outputs[0]] = y = reference.ACTIVATIONS[operator.options.activation](y)
        yield operator, y


def _convolution(inputs: Sequence[Array], options: Options) -> Array:
    x, w, *bias = inputs
    kernel = w.transpose(1, 2, 3, 0)  # (K_h, K_w, c_in, c_out)
    return reference.conv2d(x, kernel, bias[0] if bias else None, **_window(x, w, options))


def _depthwise(inputs: Sequence[Array], options: Options) -> Array:
    x, w, *bias = inputs
    kernel = w.reshape(*w.shape[1:3], x.shape[-1], -1)  # (K_h, K_w, C, M)
    return reference.depthwise_conv2d(x, kernel, bias[0] if bias else None, **_window(x, w, options))


def _window(x: Array, w: Array, options: Options) -> dict[str, Any]:
    """Keyword arguments of a convolution."""
    stride, dilation = options.stride[0], options.dilation[0]
    extent = dilated(w.shape[1:3], dilation)
    padding = resolve_padding(options.padding, x.shape[1:3], extent, stride)
    return {"stride": stride, "padding": padding, "dilation": dilation}


def _dense(inputs: Sequence[Array], options: Options) -> Array:
    x, w, *bias = inputs
    return reference.dense(x.reshape(-1, w.shape[1]), w.T, bias[0] if bias else None)


def _pool(function: Callable[..., Array]) -> Function:
    return lambda inputs, options: function(
        inputs[0], size=options.filter, stride=options.stride[0], padding=options.padding
    )


def _mean(inputs: Sequence[Array], options: Options) -> Array:
    x, axes = inputs
    return np.asarray(x.mean(tuple(map(int, axes.ravel())), keepdims=options.keep_dims))


def _reshape(inputs: Sequence[Array], options: Options) -> Array:
    x, shape = inputs
    return x.reshape(len(x), *map(int, shape[1:]))


OPERATORS: Mapping[str, Function] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "ADD": lambda inputs, options: np.add(*inputs),
    "SUB": lambda inputs, options: np.subtract(*inputs),
    "MUL": lambda inputs, options: np.multiply(*inputs),
    "CONCATENATION": lambda inputs, options: np.concatenate(inputs, options.axis),
    "AVERAGE_POOL_2D": _pool(reference.average_pool),
    "MAX_POOL_2D": _pool(reference.max_pool),
    "MEAN": _mean,
    "HARD_SWISH": lambda inputs, options: reference.hard_swish(inputs[0]),
    "LOGISTIC": lambda inputs, options: reference.sigmoid(inputs[0]),
    "SOFTMAX": lambda inputs, options: reference.softmax(inputs[0]),
    "RELU": lambda inputs, options: reference.relu(inputs[0]),
    "RELU6": lambda inputs, options: reference.relu6(inputs[0]),
    "PAD": lambda inputs, options: np.pad(inputs[0], [tuple(map(int, pair)) for pair in inputs[1]]),
    "RESHAPE": _reshape,
}
