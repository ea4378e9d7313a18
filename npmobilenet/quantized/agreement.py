"""How far a quantized network is from the float network that it was made of, tensor by tensor."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, log10

import numpy as np

from npmobilenet.quantized.real_numbers import real_trace
from npmobilenet.quantized.running import trace
from npmobilenet.quantized.tensors import Network
from npmobilenet.types import Array


@dataclass(frozen=True)
class LayerNoise:
    """How far a tensor of the quantized network is from that of the float network, over all images.

    Attributes:
        name: of the tensor.
        operator: that makes it.
        decibels: 10 log10(sum x^2 / sum (x - x')^2), since the input.
    """

    name: str
    operator: str
    decibels: float


@dataclass(frozen=True)
class Agreement:
    """What quantization has changed.

    Attributes:
        layers: in order.
        same_class: images with the same most probable class in both networks; None if no output holds classes.
        images: number of images.
    """

    layers: Sequence[LayerNoise]
    same_class: int | None
    images: int


def compare(network: Network, result: Network, inputs: Iterable[Array], classes: int | None) -> Agreement:
    """Compute both networks for every image, and compare tensor by tensor.

    Args:
        network, result: the float network and what `quantized` made of it, in which tensors keep their numbers.
        inputs: (1, H, W, C) real numbers.
        classes: number of the tensor with the classes' probabilities, if there is one.
    """
    energy: dict[int, Array] = {}  # of the values, and of the differences
    same = count = 0
    for x in inputs:
        real = {operator.outputs[0]: y for operator, y in real_trace(network, x)}
        pairs: dict[int, tuple[Array, Array]] = {}
        for operator, q in trace(result, result.input.quantize(x)):
            number = operator.outputs[0]
            if number in real:
                a, b = pairs[number] = real[number].astype(np.float64), result.tensors[number].dequantize(q)
                energies = np.array([np.square(a).sum(), np.square(a - b).sum()])
                energy[number] = energy.get(number, 0) + energies
        if classes is not None:
            same += _top(pairs[classes][0]) == _top(pairs[classes][1])
        count += 1
    layers = [
        LayerNoise(network.label(operator), operator.code, _decibels(*energy[operator.outputs[0]]))
        for operator in network.operators
    ]
    return Agreement(layers, None if classes is None else same, count)


def _top(y: Array) -> int:
    """The most probable class; of one probability, whether it exceeds a half."""
    return int(y.argmax()) if y.size > 1 else int(y.item() > 0.5)


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return inf
    return 10 * log10(signal / noise) if signal else -inf
