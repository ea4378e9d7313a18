"""Where operators are constant: values of a tensor that no reader tells apart need no steps of their own.

A hard swish is 0 for all x <= -3, a hard sigmoid 0 or 1 outside -3..3, and a logistic in steps of 1/256 is 0 or 255/256
outside +-ln 511. If nothing else reads a tensor, its range ends there, and its steps are finer, at no cost.
"""

from collections.abc import Mapping
from math import inf, log

import numpy as np

from npmobilenet.quantized.tensors import Network, Operator

MARGIN = (
    0.1  # real numbers, some steps: a limit is not an integer's value, and what is there has to be constant already
)
EVERYTHING = (-inf, inf)

Limits = tuple[float, float]


def saturation(network: Network) -> Mapping[int, Limits]:
    """Least and largest value that makes a difference, of the tensors that have such limits, by number."""
    limits: dict[int, Limits] = {}
    for operator in network.operators:
        own = _limits(operator, network)
        for number in (number for number in operator.inputs if network.tensors[number].data is None):
            low, high = limits.get(number, own)
            limits[number] = min(low, own[0]), max(high, own[1])
    return {
        number: (low - MARGIN, high + MARGIN)
        for number, (low, high) in limits.items()
        if (low, high) != EVERYTHING and number not in network.outputs
    }


def _limits(operator: Operator, network: Network) -> Limits:
    match operator.code:
        case "HARD_SWISH":
            return -3.0, inf
        case "LOGISTIC":
            return -log(511), log(511)
        case "ADD" if operator.options.activation == "relu6":
            term = network.tensors[operator.inputs[1]].data
            if term is not None and np.array_equal(term, 3):  # relu6(x + 3), of a hard sigmoid
                return -3.0, 3.0
    return EVERYTHING
