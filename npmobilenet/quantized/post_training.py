"""Post-training quantization: a network of operators on real numbers becomes one on 8-bit integers.

Weights are symmetric, -127 to 127, with a scale for each output channel; activations have one scale and a zero point,
so that 0 is represented exactly, and ranges end where the next operator is constant (`saturation`); biases are 32-bit
integers in steps of the accumulator, sx sw. TensorFlow Lite fixes the rest: softmax and logistic have steps of 1/256;
padding, pooling, reshape and concatenation keep the scale.

Source: Jacob et al. 2018 (arXiv:1712.05877), section 3; TensorFlow Lite's 8-bit quantization specification.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from npmobilenet.errors import WeightsError
from npmobilenet.quantized.numbers import round_away
from npmobilenet.quantized.saturation import EVERYTHING, saturation
from npmobilenet.quantized.tensors import Network, Operator, Quantization
from npmobilenet.quantized.weighted_sums import SUMS
from npmobilenet.types import Array

STEPS = 255  # from -128 to 127
LARGEST_WEIGHT = 127
LARGEST_BIAS = 2**30  # half of what 32 bits hold; the other half is for the sum of products
CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}  # of the weights' output channels
PROBABILITIES = Quantization(np.array([1 / 256], np.float32), np.array([-128]))
FIXED = {"SOFTMAX": PROBABILITIES, "LOGISTIC": PROBABILITIES}
KEEPS_SCALE = ("PAD", "RESHAPE", "AVERAGE_POOL_2D", "MAX_POOL_2D")
FINEST_HARD_SWISH = 127  # steps of a hard swish's output per step of its input: the format's arithmetic has 128

Ranges = Mapping[int, tuple[float, float]]


def covering(least: float, largest: float) -> Quantization:
    """Scale and zero point of int8 with which a range, extended to 0, is covered and 0 is an integer."""
    least, largest = min(least, 0.0), max(largest, 0.0)
    scale = np.float32((largest - least) / STEPS) or np.float32(1)  # 1 of a tensor that is always 0
    zero = int(np.clip(np.rint(-128 - least / float(scale)), -128, 127))
    return Quantization(np.array([scale], np.float32), np.array([zero]))


def quantized(network: Network, ranges: Ranges, image: Quantization, *, uint8_input: bool = False) -> Network:
    """The int8 network; every tensor keeps its number, and those that are added follow.

    Args:
        network: operators on real numbers, for one image.
        ranges: least and largest value of the tensors that operators make, by number.
        image: how the input is quantized.
        uint8_input: the input is uint8; an operator changes it to int8.

    Raises:
        WeightsError: a weight is not finite.
    """
    conversion = _Conversion(network, ranges, image)
    for operator in network.operators:
        conversion.add(operator)
    inputs = network.inputs
    if uint8_input:
        inputs = (conversion.uint8_before(inputs[0]),)
    return replace(network, tensors=tuple(conversion.tensors), operators=tuple(conversion.operators), inputs=inputs)


class _Conversion:
    """Tensors and operators of the int8 network so far."""

    def __init__(self, network: Network, ranges: Ranges, image: Quantization) -> None:
        self.tensors = list(network.tensors)
        self.operators: list[Operator] = []
        self._ranges, self._saturation = ranges, saturation(network)
        self._describe(network.inputs[0], image)

    def add(self, operator: Operator) -> None:
        """An operator with its constants and its output."""
        (output,) = operator.outputs
        if operator.code in SUMS:
            self._weights(operator)
        else:
            for number in operator.inputs:
                if (values := self.tensors[number].data) is not None and values.dtype.kind == "f":
                    self._constant(number, covering(float(values.min()), float(values.max())))
        self._describe(output, self._output(operator))
        if operator.code == "CONCATENATION":
            operator = replace(operator, inputs=tuple(self._rescaled(number, output) for number in operator.inputs))
        self.operators.append(operator)

    def uint8_before(self, number: int) -> int:
        """Number of a uint8 tensor from which the int8 tensor is made by an operator in front of all others."""
        image = self.tensors[number]
        how = replace(image.quantization, zero_point=image.quantization.zero_point + 128)  # type: ignore[type-var,union-attr]
        self.tensors.append(replace(image, name=f"{image.name}/uint8", dtype=np.dtype(np.uint8), quantization=how))
        self.operators.insert(0, Operator("QUANTIZE", (len(self.tensors) - 1,), (number,)))
        return len(self.tensors) - 1

    def _output(self, operator: Operator) -> Quantization:
        if operator.code in FIXED:
            return FIXED[operator.code]
        x = self._how(operator.inputs[0])
        if operator.code in KEEPS_SCALE:
            return x
        (number,) = operator.outputs
        y = covering(*np.clip(self._ranges[number], *self._saturation.get(number, EVERYTHING)).tolist())
        if operator.code == "HARD_SWISH" and y.scale[0] * FINEST_HARD_SWISH < x.scale[0]:
            return replace(y, scale=x.scale / np.float32(FINEST_HARD_SWISH))
        return y

    def _weights(self, operator: Operator) -> None:
        x, w, b = operator.inputs
        kernel, bias, axis = self._values(w), self._values(b), CHANNEL_AXIS[operator.code]
        others = tuple(other for other in range(kernel.ndim) if other != axis)
        step = float(self._how(x).scale[0])
        largest = np.abs(kernel).max(others).astype(np.float64)  # (c_out,)
        needed = np.abs(bias) / (step * LARGEST_BIAS)  # so that a bias fits in 32 bits where the weights are nearly 0
        scale = np.maximum(largest / LARGEST_WEIGHT, needed).astype(np.float32)
        scale[scale == 0] = 1
        zeros = np.zeros(len(scale), np.int64)
        self._constant(w, Quantization(scale, zeros, axis), LARGEST_WEIGHT)
        steps = step * scale.astype(np.float64)
        how = Quantization(steps.astype(np.float32), zeros)
        integers = round_away(bias.astype(np.float64) / steps).astype(np.int32)
        self.tensors[b] = replace(self.tensors[b], dtype=integers.dtype, quantization=how, data=integers)

    def _constant(self, number: int, how: Quantization, largest: int = 128) -> None:
        values = self._values(number)
        self._describe(number, how)
        tensor = self.tensors[number]
        along = tuple(-1 if how.scale.size > 1 and axis == how.axis else 1 for axis in range(values.ndim))
        steps = round_away(values / how.scale.reshape(along)) + how.zero_point.reshape(along)
        integers = np.clip(steps, -largest, LARGEST_WEIGHT).astype(np.int8)
        self.tensors[number] = replace(tensor, data=integers)

    def _rescaled(self, number: int, like: int) -> int:
        """Number of a tensor in steps of another; the tensor itself, or its integers by an operator of their own."""
        x, y = self._how(number), self._how(like)
        if (x.scale[0], x.zero_point[0]) == (y.scale[0], y.zero_point[0]):
            return number
        self.tensors.append(replace(self.tensors[number], name=f"{self.tensors[number].name}/rescaled", quantization=y))
        self.operators.append(Operator("QUANTIZE", (number,), (len(self.tensors) - 1,)))
        return len(self.tensors) - 1

    def _describe(self, number: int, how: Quantization) -> None:
        self.tensors[number] = replace(self.tensors[number], dtype=np.dtype(np.int8), quantization=how)

    def _how(self, number: int) -> Quantization:
        how = self.tensors[number].quantization
        assert how is not None
        return how

    def _values(self, number: int) -> Array:
        tensor = self.tensors[number]
        assert tensor.data is not None
        if not np.isfinite(tensor.data).all():
            raise WeightsError(f"{tensor.name}: not all of its values are finite numbers")
        return tensor.data
