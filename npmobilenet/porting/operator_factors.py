"""What an 8-bit operator multiplies by, as a port has it in its tables."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from npmobilenet.quantized.averages import mean_multiplier
from npmobilenet.quantized.conversions import fixed_point
from npmobilenet.quantized.merges import sum_factors
from npmobilenet.quantized.numbers import Multiplier, multiplier
from npmobilenet.quantized.rules import Rounding, Rule
from npmobilenet.quantized.running import compute
from npmobilenet.quantized.tensors import Operator, Tensor
from npmobilenet.quantized.weighted_sums import SUMS, rescaling
from npmobilenet.types import Array

IN_FIXED_POINT = ("twice", "once", "up_twice")
TABULATED = ("HARD_SWISH", "LOGISTIC")


@dataclass(frozen=True, eq=False)
class Factors:
    """Factors of an operator, one per channel or one per use.

    Args:
        M: float64.
        multiplier: M as integers and powers of two, None where the rule multiplies in floating point.
    """

    M: NDArray[np.float64]
    multiplier: Multiplier | None


def factors_of(operator: Operator, inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Factors | None:
    """The factors of an operator under a rule; None if it has none.

    A sum of two tensors has three: of the first input, of the second, of their sum.
    """
    code = operator.code
    if code in SUMS:
        factor = rescaling(code, inputs, y, rule)
        return _factors(np.broadcast_to(factor.M, inputs[1].shape[_channel_axis(code)]), factor.rounding)
    if code in ("ADD", "SUB") and rule.add != "common_shift":
        return _factors(np.array(sum_factors(inputs, y)), rule.add)
    if code == "MUL":
        return _factors((inputs[0].scale * inputs[1].scale / y.scale).astype(np.float64), rule.elementwise)
    if code == "MEAN" and rule.elementwise != "float32":
        n = inputs[0].integers.size // max(y.integers.size, 1)
        q = mean_multiplier(inputs[0], y, n)
        M = inputs[0].scale.astype(np.float64) / y.scale / n
        return Factors(M, Multiplier(q.q.reshape(1), q.e.reshape(1)))
    if code == "QUANTIZE" and inputs[0].quantization is not None:
        return _factors(inputs[0].scale.astype(np.float64) / y.scale, fixed_point(rule))
    if code in ("RELU", "RELU6"):
        return _factors((inputs[0].scale / y.scale).astype(np.float64), fixed_point(rule))
    return None


def table_of(operator: Operator, inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array | None:
    """The 256 results of a curve, from the least integer of its input to the largest; None of other operators."""
    if operator.code not in TABULATED:
        return None
    low, high = inputs[0].range
    every = np.arange(low, high + 1, dtype=inputs[0].dtype).reshape(1, 1, 1, -1)
    return compute(operator, [replace(inputs[0], data=every)], y, rule).ravel()


def _channel_axis(code: str) -> int:
    return 3 if code == "DEPTHWISE_CONV_2D" else 0


def _factors(M: Array, rounding: Rounding) -> Factors:
    M = np.asarray(M, np.float64)
    return Factors(M, multiplier(M) if rounding in IN_FIXED_POINT else None)
