"""Whether the tensors of a network have the shapes that its operators give, found without a sum of products.

The kernels of the engine trust shapes, so that those of a file are checked before kernels see them.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from npmobilenet.errors import NpMobileNetError, WeightsError
from npmobilenet.quantized.rearrangements import values
from npmobilenet.quantized.rules import TFLITE, Rule
from npmobilenet.quantized.running import compute
from npmobilenet.quantized.tensors import Network, Operator, Options, Tensor
from npmobilenet.quantized.weighted_sums import SUMS, limits, rescaling
from npmobilenet.quantized.windows import map_size
from npmobilenet.types import Shape


def check_shapes(network: Network, rule: Rule = TFLITE) -> None:
    """Check the shape of every tensor that is computed.

    Raises:
        WeightsError: an operator does not fit its tensors; the message names its output.
    """
    image = network.input
    known = {number: tensor for number, tensor in enumerate(network.tensors) if tensor.data is not None}
    known[network.inputs[0]] = replace(image, data=np.zeros(image.shape, image.dtype))
    for operator in network.operators:
        inputs = [known[index] for index in operator.inputs if index >= 0]
        output = network.tensors[operator.outputs[0]]
        if operator.code in SUMS:
            if any(index >= 0 and network.tensors[index].data is None for index in operator.inputs[1:]):
                raise WeightsError(f"{output.name}: {operator.code} by weights that are no constants is not supported")
            filled = replace(output, data=np.zeros(_of_sum(operator, inputs, output, rule), output.dtype))
        else:
            filled = replace(output, data=compute(operator, inputs, output, rule))
        shape = values(filled).shape
        if output.shape and shape != output.shape:
            raise WeightsError(f"{output.name}: {operator.code} gives shape {shape}, the tensor has {output.shape}")
        known[operator.outputs[0]] = filled


def _of_sum(operator: Operator, inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Shape:
    """Shape of a convolution, depthwise convolution or dense layer."""
    try:
        x, w, *bias = (values(tensor).shape for tensor in inputs)
        shape = _SHAPES[operator.code](x, w, operator.options)
        if bias and bias[0] != shape[-1:]:
            raise ValueError(f"a bias of shape {bias[0]} for {shape[-1]} channels")
        rescaling(operator.code, inputs, y, rule)
        limits(y, operator.options)
    except NpMobileNetError:
        raise
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        raise WeightsError(f"{y.name}: {operator.code} does not fit its tensors: {error}") from error
    return shape


def _convolution(x: Shape, w: Shape, options: Options) -> Shape:
    """(N, H_out, W_out, c_out) of x (N, H, W, c_in) and w (c_out, K_h, K_w, c_in / groups)."""
    (N, _, _, c_in), (c_out, K_h, K_w, part) = x, w
    if c_in % part or c_out % (c_in // part):
        raise ValueError(f"weights of shape {w} for {c_in} channels")
    return (N, *map_size(x, (K_h, K_w), options), c_out)


def _depthwise(x: Shape, w: Shape, options: Options) -> Shape:
    """(N, H_out, W_out, C m) of x (N, H, W, C) and w (1, K_h, K_w, C m)."""
    (N, _, _, C), (one, K_h, K_w, outputs) = x, w
    if one != 1 or outputs % C:
        raise ValueError(f"weights of shape {w} for {C} channels")
    return (N, *map_size(x, (K_h, K_w), options), outputs)


def _dense(x: Shape, w: Shape, options: Options) -> Shape:
    """(N, c_out) of x (N, c_in), whose rows may be spread over several axes, and w (c_out, c_in)."""
    c_out, c_in = w
    if prod(x) % c_in or (options.keep_dims and x[-1] != c_in):
        raise ValueError(f"weights of shape {w} for values of shape {x}")
    return (*x[:-1], c_out) if options.keep_dims else (prod(x) // c_in, c_out)


_SHAPES = {"CONV_2D": _convolution, "DEPTHWISE_CONV_2D": _depthwise, "FULLY_CONNECTED": _dense}
