"""The shape of every operator's output, from the shapes of its inputs: kernels rely on what a file says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from npmobilenet.errors import NpMobileNetError, WeightsError
from npmobilenet.quantized.rules import TFLITE
from npmobilenet.quantized.running import OPERATORS
from npmobilenet.quantized.tensors import Network, Operator, Options, Tensor
from npmobilenet.quantized.weighted_sums import SUMS
from npmobilenet.reference.shapes import output_size, same_padding
from npmobilenet.types import Pair, Shape

OF_SHAPES = ("SHAPE", "STRIDED_SLICE", "PACK")  # computed, since a reshape may need their values
BYTES = ("uint8", "int8")


def with_shapes(network: Network) -> Network:
    """A network that says the shape of everything that is computed; files may leave a shape out, as ().

    Raises:
        WeightsError: an operator does not make what its output's description says; the message names it.
    """
    made = shapes_made(network)
    if all(network.tensors[number].shape == shape for number, shape in made.items()):
        return network
    tensors = (replace(tensor, shape=made.get(number, tensor.shape)) for number, tensor in enumerate(network.tensors))
    return replace(network, tensors=tuple(tensors))


def shapes_made(network: Network) -> dict[int, Shape]:
    """The shape of every operator's output, by the tensor's number; errors as `with_shapes`."""
    known = {number: tensor for number, tensor in enumerate(network.tensors) if tensor.data is not None}
    known |= {number: network.tensors[number] for number in network.inputs}
    for operator in network.operators:
        if operator.code not in OPERATORS:  # a detector's post-processing, which is not computed here
            continue
        output = network.tensors[operator.outputs[0]]
        inputs = [known[number] for number in operator.inputs if number in known]
        made = _made(operator, inputs, output, network.is_quantized)
        if output.shape and made.shape != output.shape:
            raise WeightsError(f"{output.name}: {operator.code} gives shape {made.shape}, the file says {output.shape}")
        known[operator.outputs[0]] = made
    numbers = (number for operator in network.operators for number in operator.outputs)
    return {number: known[number].shape for number in numbers if number in known}


def _made(operator: Operator, inputs: Sequence[Tensor], output: Tensor, quantized: bool) -> Tensor:
    """The output with its shape, and with its values if they are known."""
    try:
        if operator.code in SUMS and quantized:
            _check_sum(operator.code, inputs, output)
        if operator.code in OF_SHAPES and (operator.code == "SHAPE" or all(x.data is not None for x in inputs)):
            y = OPERATORS[operator.code]([_with_values(x) for x in inputs], output, operator.options, TFLITE)
            return Tensor(output.name, y.shape, output.dtype, output.quantization, y.astype(output.dtype))
        shape = SHAPES.get(operator.code, _same)(inputs, operator.options)
    except NpMobileNetError:
        raise
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        raise WeightsError(f"{output.name}: {operator.code} does not fit its tensors: {error}") from error
    return _placeholder(output, tuple(map(int, shape)))


def _placeholder(tensor: Tensor, shape: Shape) -> Tensor:
    """A tensor of a shape, without values."""
    return Tensor(tensor.name, shape, tensor.dtype, tensor.quantization)


def _with_values(x: Tensor) -> Tensor:
    """A tensor with values, zeros where they are not known; they take no memory."""
    data = np.broadcast_to(np.zeros((), x.dtype), x.shape) if x.data is None else x.data
    return Tensor(x.name, x.shape, x.dtype, x.quantization, data)


def _check_sum(code: str, inputs: Sequence[Tensor], output: Tensor) -> None:
    """Types and sizes of the arrays that kernels read without looking."""
    x, w, *bias = inputs
    for tensor in (x, w, output):
        if tensor.dtype.name not in BYTES or tensor.quantization is None:
            raise ValueError(f"expected 8-bit integers with a scale, got {tensor.dtype} {tensor.name}")
    for tensor in (w, *bias):
        if tensor.data is None:
            raise ValueError(f"{tensor.name} is not a constant")
    channels = w.shape[3] if code == "DEPTHWISE_CONV_2D" else w.shape[0]
    if w.scale.size not in (1, channels):
        raise ValueError(f"expected 1 or {channels} scales of weights, got {w.scale.size}")
    if bias and (bias[0].dtype != np.int32 or bias[0].shape != (channels,)):
        raise ValueError(f"expected int32 bias of shape ({channels},), got {bias[0].dtype} {bias[0].shape}")


def _window(shape: Shape, size: Pair, options: Options) -> Pair:
    """Rows and columns of a window's outputs."""
    sides = []
    for pixels, K, stride, dilation in zip(shape[1:3], size, options.stride, options.dilation, strict=True):
        extent = (K - 1) * dilation + 1
        around = same_padding(pixels, extent, stride) if options.padding == "same" else (0, 0)
        sides.append(output_size(pixels, extent, stride, around))
    return sides[0], sides[1]


def _convolution(inputs: Sequence[Tensor], options: Options) -> Shape:
    (N, H, W, C), (filters, K_h, K_w, depth) = inputs[0].shape, inputs[1].shape
    if depth < 1 or C % depth or filters % (C // depth):
        raise ValueError(f"weights of shape {inputs[1].shape} for {C} channels")
    return (N, *_window((N, H, W, C), (K_h, K_w), options), filters)


def _depthwise(inputs: Sequence[Tensor], options: Options) -> Shape:
    (N, H, W, C), (one, K_h, K_w, channels) = inputs[0].shape, inputs[1].shape
    if one != 1 or channels % C:
        raise ValueError(f"weights of shape {inputs[1].shape} for {C} channels")
    return (N, *_window((N, H, W, C), (K_h, K_w), options), channels)


def _dense(inputs: Sequence[Tensor], options: Options) -> Shape:
    x, (units, depth) = inputs[0].shape, inputs[1].shape
    if prod(x) % depth or (options.keep_dims and x[-1] != depth):
        raise ValueError(f"weights of shape {inputs[1].shape} for an input of shape {x}")
    return (*x[:-1], units) if options.keep_dims else (prod(x) // depth, units)


def _pool(inputs: Sequence[Tensor], options: Options) -> Shape:
    N, H, W, C = inputs[0].shape
    return (N, *_window((N, H, W, C), options.filter, options), C)


def _mean(inputs: Sequence[Tensor], options: Options) -> Shape:
    shape = inputs[0].shape
    axes = {range(len(shape))[axis] for axis in inputs[1].integers.ravel()}
    sides = [1 if axis in axes else side for axis, side in enumerate(shape)]
    return tuple(side for axis, side in enumerate(sides) if options.keep_dims or axis not in axes)


def _concatenate(inputs: Sequence[Tensor], options: Options) -> Shape:
    axis = range(len(inputs[0].shape))[options.axis]
    rest = {x.shape[:axis] + x.shape[axis + 1 :] for x in inputs}
    if len(rest) > 1:
        raise ValueError(f"shapes {', '.join(str(x.shape) for x in inputs)} along axis {axis}")
    shape = inputs[0].shape
    return (*shape[:axis], sum(x.shape[axis] for x in inputs), *shape[axis + 1 :])


def _pad(inputs: Sequence[Tensor], options: Options) -> Shape:
    amounts = inputs[1].integers
    if amounts.shape != (len(inputs[0].shape), 2) or (amounts < 0).any():
        raise ValueError(f"amounts {amounts.tolist()} for shape {inputs[0].shape}")
    return tuple(side + int(before + after) for side, (before, after) in zip(inputs[0].shape, amounts, strict=True))


def _reshape(inputs: Sequence[Tensor], options: Options) -> Shape:
    target = tuple(map(int, inputs[1].integers.ravel())) if len(inputs) > 1 else options.shape
    size, known = prod(inputs[0].shape), prod(side for side in target if side != -1)
    shape = tuple(size // max(known, 1) if side == -1 else side for side in target)
    if target.count(-1) > 1 or prod(shape) != size or min(shape, default=1) < 0:
        raise ValueError(f"{inputs[0].shape} as {target}")
    return shape


def _squeeze(inputs: Sequence[Tensor], options: Options) -> Shape:
    return np.squeeze(np.broadcast_to(0, inputs[0].shape), options.shape or None).shape


def _transpose(inputs: Sequence[Tensor], options: Options) -> Shape:
    return np.broadcast_to(0, inputs[0].shape).transpose(*map(int, inputs[1].integers)).shape


def _expand(inputs: Sequence[Tensor], options: Options) -> Shape:
    return np.expand_dims(np.broadcast_to(0, inputs[0].shape), int(inputs[1].integers.ravel()[0])).shape


def _broadcast(inputs: Sequence[Tensor], options: Options) -> Shape:
    if len(inputs) != 2:
        raise ValueError(f"expected two inputs, got {len(inputs)}")
    return np.broadcast_shapes(inputs[0].shape, inputs[1].shape)


def _same(inputs: Sequence[Tensor], options: Options) -> Shape:
    return inputs[0].shape


SHAPES: Mapping[str, Callable[[Sequence[Tensor], Options], Shape]] = {
    "CONV_2D": _convolution, "DEPTHWISE_CONV_2D": _depthwise, "FULLY_CONNECTED": _dense, "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool, "MEAN": _mean, "CONCATENATION": _concatenate, "PAD": _pad, "RESHAPE": _reshape,
    "SQUEEZE": _squeeze, "TRANSPOSE": _transpose, "EXPAND_DIMS": _expand, "ADD": _broadcast, "SUB": _broadcast,
    "MUL": _broadcast,
}  # fmt: skip
"""Shape of an operator's output; of those that are not here, that of the input."""
