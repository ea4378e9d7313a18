"""From the operators of an 8-bit network to operations: what needs no kernel of its own is taken along.

constants      operators of constants alone are computed now: shapes, mostly
names          RESHAPE and the like where the values stay in place
tables         functions of single values are a table of 256 bytes, after the operator that makes their input
paddings       PAD before a convolution is padding of the convolution
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from npmobilenet.compiler.byte_operations import (
    ByteOperation,
    ByteTable,
    Link,
    all_names,
    is_stored_as_bytes,
    table_of,
)
from npmobilenet.compiler.ir import Alias, Image, Operation, Operations, Output
from npmobilenet.errors import WeightsError
from npmobilenet.quantized.parts import unique_names
from npmobilenet.quantized.rules import Rule
from npmobilenet.quantized.running import OPERATORS
from npmobilenet.quantized.tensors import Network, Operator, Tensor
from npmobilenet.quantized.weighted_sums import SUMS
from npmobilenet.types import Shape

RENAMING = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS"}
CURVES = {"HARD_SWISH", "LOGISTIC", "RELU", "RELU6", "QUANTIZE"}
MERGES = {"ADD", "SUB", "MUL"}
WINDOWS = {"CONV_2D", "DEPTHWISE_CONV_2D"}
SHAPES_ONLY = {"SHAPE"}  # operators that read the shape of their input and none of its values


def lower_bytes(network: Network, rule: Rule) -> Operations:
    """The operations of a network, in its order, and its outputs.

    Args:
        network: a quantized network; one image at a time.
        rule: how results are rounded.

    Raises:
        WeightsError: an operator is not supported.
    """
    lowering = _Lowering(network, rule)
    for operator in network.operators:
        lowering.add(operator)
    return lowering.finish()


@dataclass
class _Lowering:
    """The operations so far.

    Attributes:
        tensors: of the network, those that turn out to be constants with their values.
        made: by number of tensor: the operation that makes it.
    """

    network: Network
    rule: Rule
    tensors: list[Tensor] = field(init=False)
    made: dict[int, Operation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tensors = list(self.network.tensors)
        self._names = unique_names(self.network)
        self._readers = Counter(number for operator in self.network.operators for number in operator.inputs)
        self._readers.update(self.network.outputs)
        number = self.network.inputs[0]
        image = Image(name=self._names[number], layers=(), inputs=(), shape=_shape(self.tensors[number]))
        self.made[number] = image

    def add(self, operator: Operator) -> None:
        """One more operator."""
        if operator.code not in OPERATORS or len(operator.outputs) != 1:
            name = self.tensors[operator.outputs[0]].name
            raise WeightsError(f"{name}: operator {operator.code} is not supported")
        number = operator.outputs[0]
        arguments = tuple(self.tensors[i] for i in operator.inputs if i >= 0)
        link = Link(operator, arguments, self.tensors[number])
        if operator.code in SHAPES_ONLY:
            self._fold(number, replace(link, arguments=(replace(arguments[0], data=np.zeros(arguments[0].shape)),)))
        elif all(x.data is not None for x in arguments):
            self._fold(number, link)
        else:
            sources = [i for i in operator.inputs if i >= 0 and self.tensors[i].data is None]
            self.made[number] = self._operation(number, link, sources)

    def _fold(self, number: int, link: Link) -> None:
        value = link([], self.rule)
        self.tensors[number] = replace(link.result, data=value, shape=value.shape)

    def _operation(self, number: int, link: Link, sources: list[int]) -> Operation:
        name, before = self._names[number], self.made[sources[0]]
        shape = _shape(link.result)
        inputs = tuple(self.made[source].name for source in sources)
        if link.code in RENAMING and _stays_in_place(before.shape, shape):
            return Alias(name=name, layers=(link.result.name,), inputs=inputs, shape=shape)
        if is_table(link, self.rule):
            return self._table(name, link, sources[0])
        if link.code in WINDOWS and self._can_take(sources[0], "PAD"):
            assert isinstance(before, ByteOperation)
            links, inputs = (*before.links, link), before.inputs
            del self.made[sources[0]]
            return self._made(name, links, inputs, main=1)
        return self._made(name, (link,), inputs)

    def _table(self, name: str, link: Link, source: int) -> Operation:
        before, shape = self.made[source], _shape(link.result)
        if np.array_equal(table_of((link,), self.rule), np.arange(256)):
            return Alias(name=name, layers=(link.result.name,), inputs=(before.name,), shape=shape)
        if self._can_take(source):
            assert isinstance(before, ByteOperation)
            links = (*before.links, link)
            del self.made[source]
            return replace(before, name=name, layers=all_names(links), links=links, shape=shape)
        return ByteTable(
            name=name, layers=all_names((link,)), inputs=(before.name,), shape=shape, links=(link,), rule=self.rule
        )

    def _can_take(self, source: int, code: str = "") -> bool:
        """Whether the operation that makes a tensor can become part of its only reader."""
        before = self.made[source]
        if not isinstance(before, ByteOperation) or self._readers[source] != 1:
            return False
        return is_stored_as_bytes(before.result) and (not code or before.links[-1].code == code == before.links[0].code)

    def _made(self, name: str, links: tuple[Link, ...], inputs: tuple[str, ...], main: int = 0) -> ByteOperation:
        link = links[main]
        return ByteOperation(
            name=name, layers=all_names(links), inputs=inputs, shape=_shape(link.result), macs=_macs(link),
            links=links, main=main, rule=self.rule,
        )  # fmt: skip

    def finish(self) -> Operations:
        """All operations, and the network's outputs."""
        return [*self.made.values(), *self._outputs()]

    def _outputs(self) -> Iterator[Output]:
        for position, number in enumerate(self.network.outputs):
            op = self.made[number]
            yield Output(name=f"{op.name} (output {position})", layers=(), inputs=(op.name,), shape=op.shape)


def is_table(link: Link, rule: Rule) -> bool:
    """Whether the operator is a function of single bytes."""
    x = link.source
    if link.code == "AVERAGE_POOL_2D":
        return link.operator.options.filter == link.operator.options.stride == (1, 1)
    if not (is_stored_as_bytes(x) and is_stored_as_bytes(link.result)):
        return False
    if link.code in MERGES:
        return len(link.arguments) == 2 and any(y.data is not None and y.data.size == 1 for y in link.arguments)
    if link.code == "QUANTIZE" and rule.elementwise == "float32" and x.dtype != link.result.dtype:
        return bool(x.scale[0] == link.result.scale[0])  # else the last few values are rounded otherwise
    return link.code in CURVES


def _stays_in_place(before: Shape, after: Shape) -> bool:
    """Whether the channels of every pixel stay together, or there is one pixel before and after."""
    return before[-1:] == after[-1:] and prod(before) == prod(after)


def _shape(tensor: Tensor) -> Shape:
    """Without the batch axis."""
    return tensor.shape[1:]


def multiply_adds(network: Network) -> int:
    """Multiply-adds of a network for one image."""
    tensors = network.tensors
    return sum(
        _macs(Link(op, tuple(tensors[i] for i in op.inputs if i >= 0), tensors[op.outputs[0]]))
        for op in network.operators
    )


def _macs(link: Link) -> int:
    """Multiply-adds of an operator for one image."""
    if link.code not in SUMS:
        return 0
    w, shape = link.arguments[1], _shape(link.result)
    if link.code == "DEPTHWISE_CONV_2D":
        return prod(shape) * prod(w.shape[1:3])
    return prod(shape) * prod(w.shape[1:])
