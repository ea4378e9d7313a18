"""What images and class names have to know about a network, float or quantized."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from npmobilenet.types import Shape


class Interface(Protocol):
    """A network seen from outside; a `Graph` is one."""

    @property
    def name(self) -> str:
        """Of the network."""

    @property
    def input_shape(self) -> Shape:
        """(H, W, C) of one image."""

    @property
    def output_shapes(self) -> Mapping[str, Shape]:
        """Shape of every output by its name, without the batch axis."""

    @property
    def output_activations(self) -> Mapping[str, str]:
        """Activation that each output ends in, by the output's name; "" if it is none."""

    @property
    def outputs(self) -> tuple[tuple[str, str], ...]:
        """(name of the output, name of what computes it), in order."""


@dataclass(frozen=True)
class PlainInterface:
    """An interface that is written down; the fields are those of `Interface`."""

    name: str
    input_shape: Shape
    output_shapes: Mapping[str, Shape]
    output_activations: Mapping[str, str]

    @property
    def outputs(self) -> tuple[tuple[str, str], ...]:
        """(name, name) of every output."""
        return tuple((name, name) for name in self.output_shapes)


def output_names(network: Interface) -> str:
    """Names of all outputs, separated by commas."""
    return ", ".join(network.output_shapes)
