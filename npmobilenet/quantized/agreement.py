"""How far a quantized network is from the float network that it was made of, tensor by tensor."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf, log10

import numpy as np

from npmobilenet.quantized.real_numbers import real_trace
from npmobilenet.quantized.running import compute, trace
from npmobilenet.quantized.saturation import EVERYTHING, saturation
from npmobilenet.quantized.tensors import Network
from npmobilenet.types import Array


@dataclass(frozen=True)
class LayerNoise:
    """How far a tensor of the quantized network is from that of the float network, over all images.

    Values beyond the limits of `saturation` count as the limits.

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


class _Noise:
    """Energy of the values of each tensor, and of the differences, over all images."""

    def __init__(self, network: Network) -> None:
        self._network, self._saturation = network, saturation(network)
        self._energies: dict[int, Array] = {}

    def add(self, number: int, x: Array, approximate: Array) -> None:
        """Take in a tensor of one image, exact and approximate."""
        x = np.clip(x.astype(np.float64), *self._saturation.get(number, EVERYTHING))
        energies = np.array([np.square(x).sum(), np.square(x - approximate).sum()])
        self._energies[number] = self._energies.get(number, 0) + energies

    def layers(self) -> list[LayerNoise]:
        """Every tensor that an operator makes, in order."""
        return [
            LayerNoise(self._network.label(operator), operator.code, _decibels(*self._energies[operator.outputs[0]]))
            for operator in self._network.operators
        ]


def compare(network: Network, result: Network, inputs: Iterable[Array], classes: int | None) -> Agreement:
    """Compute both networks for every image, and compare tensor by tensor.

    Args:
        network, result: the float network and what `quantized` made of it, in which tensors keep their numbers.
        inputs: (1, H, W, C) real numbers.
        classes: number of the tensor with the classes' probabilities, if there is one.
    """
    noise = _Noise(network)
    same = count = 0
    for x in inputs:
        real = {operator.outputs[0]: y for operator, y in real_trace(network, x)}
        found = {}
        for operator, q in trace(result, result.input.quantize(x)):
            number = operator.outputs[0]
            if number in real:
                found[number] = result.tensors[number].dequantize(q)
                noise.add(number, real[number], found[number])
        if classes is not None:
            same += _top(real[classes]) == _top(found[classes])
        count += 1
    return Agreement(noise.layers(), None if classes is None else same, count)


def layers_alone(network: Network, result: Network, inputs: Iterable[Array]) -> list[LayerNoise]:
    """The same without what earlier layers add: each operator is given the float network's values, quantized.

    Args:
        network, result, inputs: as for `compare`; no operator was added in front of the others.
    """
    noise = _Noise(network)
    for x in inputs:
        tensors = dict(enumerate(result.tensors))
        tensors[result.inputs[0]] = replace(result.input, data=result.input.quantize(x))
        for operator, (_, y) in zip(result.operators, real_trace(network, x), strict=True):
            number = operator.outputs[0]
            tensor = result.tensors[number]
            q = compute(operator, [tensors[index] for index in operator.inputs], tensor)
            noise.add(number, y, tensor.dequantize(q))
            tensors[number] = replace(tensor, data=tensor.quantize(y))
    return noise.layers()


def _top(y: Array) -> int:
    """The most probable class; of one probability, whether it exceeds a half."""
    return int(y.argmax()) if y.size > 1 else int(y.item() > 0.5)


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return inf
    return 10 * log10(signal / noise) if signal else -inf
