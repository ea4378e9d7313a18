"""Whether a network is one: every number refers to something, every description fits its values.

Readers of files check with it what they have read, before anything is computed.
"""

from collections.abc import Iterator

import numpy as np

from npmobilenet.errors import WeightsError
from npmobilenet.quantized.expected_shapes import shapes_made
from npmobilenet.quantized.numbers import CEILINGS
from npmobilenet.quantized.parts import POST_PROCESSING
from npmobilenet.quantized.running import OPERATORS
from npmobilenet.quantized.tensors import Network, Operator, Options, Quantization, Tensor
from npmobilenet.types import Shape

QUANTIZED_TYPES = ("uint8", "int8", "int32")
LARGEST = 2**31 - 1  # values of a tensor
LARGEST_DILATION = 64
PADDINGS = ("same", "valid")


def check_network(network: Network, *, takes_image: bool = False) -> None:
    """Check a network.

    Args:
        network: as read from a file.
        takes_image: whether it must take one image.

    Raises:
        WeightsError: something does not fit; the message names the tensor or operator.
    """
    for problem in _problems(network):
        raise WeightsError(f"{network.name}: {problem}")
    if takes_image:
        check_image_input(network)
    shapes_made(network)


def check_image_input(network: Network) -> None:
    """Check that a network takes one image.

    Raises:
        WeightsError: it takes something else.
    """
    shape = network.input.shape
    if len(network.inputs) != 1 or len(shape) != 4 or shape[0] != 1:
        shapes = ", ".join(str(network.tensors[number].shape) for number in network.inputs)
        raise WeightsError(f"{network.name}: expected one input of shape (1, H, W, C), got {shapes}")


def _problems(network: Network) -> Iterator[str]:
    for number, tensor in enumerate(network.tensors):
        yield from (f"tensor {number} {tensor.name}: {problem}" for problem in _tensor_problems(tensor))
    yield from _order_problems(network)
    for number, operator in enumerate(network.operators):
        yield from (f"operator {number} {operator.code}: {problem}" for problem in _operator_problems(operator))


def _tensor_problems(tensor: Tensor) -> Iterator[str]:
    if any(side < 0 for side in tensor.shape) or np.prod(tensor.shape, dtype=np.float64) > LARGEST:
        yield f"shape {tensor.shape}"
    if tensor.data is not None and (tensor.data.shape != tensor.shape or tensor.data.dtype != tensor.dtype):
        yield f"expected {tensor.dtype} of shape {tensor.shape}, got {tensor.data.dtype} {tensor.data.shape}"
    if tensor.quantization is not None:
        yield from _quantization_problems(tensor, tensor.quantization)


def _quantization_problems(tensor: Tensor, quantization: Quantization) -> Iterator[str]:
    scale, zero = quantization.scale, quantization.zero_point
    if tensor.dtype.name not in QUANTIZED_TYPES:
        yield f"quantized {tensor.dtype} is not supported; expected {', '.join(QUANTIZED_TYPES)}"
        return
    if scale.ndim != 1 or scale.shape != zero.shape or not scale.size:
        yield f"expected a zero point for each scale, got {scale.shape} scales and {zero.shape} zero points"
        return
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        yield "a scale is not a positive number"
    least, largest = tensor.range
    if (zero < least).any() or (zero > largest).any():
        yield f"a zero point is not one of {least}..{largest}"
    if scale.size > 1 and not _fits_axis(tensor.shape, quantization):
        yield f"{scale.size} scales along axis {quantization.axis} of shape {tensor.shape}"


def _fits_axis(shape: Shape, quantization: Quantization) -> bool:
    """Whether there is a scale for each channel; the axis of a bias has no meaning, and some files give another."""
    if len(shape) == 1:
        return shape[0] == quantization.scale.size
    return 0 <= quantization.axis < len(shape) and shape[quantization.axis] == quantization.scale.size


def _order_problems(network: Network) -> Iterator[str]:
    """Numbers that refer to no tensor; operators that read what nothing before them has made."""
    numbers = range(len(network.tensors))
    if not network.inputs or not network.outputs:
        yield "expected an input and an output"
    if unknown := [number for number in (*network.inputs, *network.outputs) if number not in numbers]:
        yield f"there is no tensor {unknown[0]}"
        return
    if len(set(network.outputs)) < len(network.outputs):
        yield "an output is listed twice"
    known = {number for number in numbers if network.tensors[number].data is not None}
    if known.intersection(network.inputs):
        yield "an input is a constant"
    known.update(network.inputs)
    constants = [number for number in network.outputs if number in known]
    if constants:
        yield f"output {network.tensors[constants[0]].name} is not made by an operator"
    for place, operator in enumerate(network.operators):
        where = f"operator {place} {operator.code}"
        if not operator.inputs or not operator.outputs:
            yield f"{where}: expected inputs and outputs"
        for number in operator.inputs:
            if number != -1 and number not in known:
                yield f"{where}: reads tensor {number}, which is neither a constant nor made before"
        for number in operator.outputs:
            if number not in numbers or number in known:
                yield f"{where}: makes tensor {number}, which is {'made already' if number in known else 'missing'}"
        known.update(operator.outputs)
    if unmade := [number for number in network.outputs if number not in known]:
        yield f"output {network.tensors[unmade[0]].name} is never made"


def _operator_problems(operator: Operator) -> Iterator[str]:
    if operator.code not in OPERATORS and operator.code != POST_PROCESSING:
        yield "not supported"
    yield from _option_problems(operator.options)


def _option_problems(options: Options) -> Iterator[str]:
    if options.padding not in PADDINGS:
        yield f"unknown padding {options.padding!r}"
    if options.activation not in CEILINGS:
        yield f"unknown activation {options.activation!r}"
    for name in ("stride", "dilation", "filter"):
        if len(getattr(options, name)) != 2 or min(getattr(options, name)) < 1:
            yield f"{name} {getattr(options, name)}"
    if max(options.dilation) > LARGEST_DILATION:
        yield f"dilation {options.dilation}"
    if options.multiplier < 0:
        yield f"depth multiplier {options.multiplier}"
    if not (np.isfinite(options.beta) and options.beta > 0):
        yield f"beta {options.beta}"
