"""Operators of one tensor that change its scale or its type: QUANTIZE, DEQUANTIZE, RELU, RELU6, PAD."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from npmobilenet.errors import WeightsError
from npmobilenet.quantized.numbers import round_away
from npmobilenet.quantized.rescaling import change_of_scale
from npmobilenet.quantized.rules import Rounding, Rule
from npmobilenet.quantized.tensors import Ints, Options, Tensor
from npmobilenet.quantized.weighted_sums import clipped
from npmobilenet.types import Array

WIDEST_BORDER = 1024  # pixels
HALF_RANGE = 128  # between the zero points of int8 and uint8


def quantize(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Ints:
    """Real numbers to integers, or integers to those of another scale or type.

    Source: TensorFlow Lite's `quantize.cc`, `reference/quantize.h` and `reference/requantize.h`.
    """
    x = inputs[0]
    if x.quantization is None:
        return _from_real(x, y, rule)
    if x.dtype != y.dtype and x.scale[0] == y.scale[0] and abs(x.zero_point - y.zero_point) == HALF_RANGE:
        flipped: Ints = x.integers - x.zero_point + y.zero_point
        return flipped
    if rule.elementwise == "float32" and x.dtype == y.dtype:
        factor = int(np.rint(np.float32(256) * (x.scale[0] / y.scale[0])))
        steps = ((x.integers - x.zero_point) * factor + HALF_RANGE) >> 8
    else:
        M = x.scale.astype(np.float64) / y.scale
        steps = change_of_scale(M, fixed_point(rule))(x.integers - x.zero_point)
        if rule.elementwise == "float32":
            steps = _with_halves_up(steps, x.integers - x.zero_point, M)
    q: Ints = np.clip(steps + y.zero_point, *y.range)
    return q


def _with_halves_up(steps: Ints, q: Ints, M: NDArray[np.float64]) -> Ints:
    """Steps as LiteRT's optimized kernel has them between int8 and uint8: sixteen at a time, those with halves up."""
    sixteens = q.size // 16 * 16
    up = change_of_scale(M, "up_twice")(q.ravel()[:sixteens])
    return np.concatenate([up, steps.ravel()[sixteens:]]).reshape(steps.shape)


def fixed_point(rule: Rule) -> Rounding:
    """How the rule rounds where it computes in fixed point: what XNNPACK leaves to TensorFlow Lite is rounded twice."""
    return "once" if rule.elementwise == "once" else "twice"


def _from_real(x: Tensor, y: Tensor, rule: Rule) -> Ints:
    assert x.data is not None
    if rule.elementwise == "float32":
        steps = np.rint(x.data.astype(np.float32) * (np.float32(1) / y.scale)).astype(np.int64)
    else:
        steps = round_away(x.data.astype(np.float32) / y.scale)
    return np.clip(steps + y.zero_point, *y.range)


def dequantize(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Array:
    """Integers to the real numbers that they stand for."""
    assert inputs[0].data is not None
    return inputs[0].dequantize(inputs[0].data)


def relu(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Ints:
    """max(x, 0) as an operator of its own; see `_rectified`."""
    return _rectified(inputs[0], y, "relu", rule)


def relu6(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Ints:
    """min(max(x, 0), 6) as an operator of its own; see `_rectified`.

    A rule that clips compares the integers with those that stand for 0 and 6 in the input's steps, and keeps them.
    """
    if rule.relu6 == "clipped":
        return clipped(inputs[0].integers, inputs[0], Options(activation="relu6"))
    return _rectified(inputs[0], y, "relu6", rule)


def _rectified(x: Tensor, y: Tensor, activation: str, rule: Rule) -> Ints:
    """x in the output's steps, within the activation's limits; M = sx / sy in float32.

    Source: TensorFlow Lite's `activations.cc`.
    """
    M = (x.scale / y.scale).astype(np.float64)
    steps = change_of_scale(M, fixed_point(rule))(x.integers - x.zero_point)
    return clipped(steps + y.zero_point, y, Options(activation=activation))


def pad(inputs: Sequence[Tensor], y: Tensor, options: Options, rule: Rule) -> Ints:
    """A border of the output's zero point, which stands for 0.

    Raises:
        WeightsError: the border is wider than that of any network.
    """
    amounts = [tuple(map(int, pair)) for pair in inputs[1].integers]
    if max(map(max, amounts), default=0) > WIDEST_BORDER:
        raise WeightsError(f"{y.name}: a border of {amounts} pixels; expected at most {WIDEST_BORDER}")
    value = 0 if y.quantization is None else y.zero_point
    return np.pad(inputs[0].integers, amounts, constant_values=value)
