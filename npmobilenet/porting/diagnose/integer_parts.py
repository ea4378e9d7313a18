"""The part of an 8-bit network that leads to one dumped tensor, computed from the port's own integers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from npmobilenet.quantized.rules import RULES, Rule
from npmobilenet.quantized.running import compute
from npmobilenet.quantized.tensors import Network, Operator, Tensor
from npmobilenet.quantized.weighted_sums import SUMS, accumulators, from_accumulators
from npmobilenet.types import Array

Change = Callable[[Sequence[Tensor], Tensor, Rule], Array]


@dataclass(frozen=True, eq=False)
class IntegerPart:
    """Operators from given tensors to one output.

    Attributes:
        network: that they are of.
        operators: in order, the last one makes the output.
        given: tensors by number, with their values: constants, and the port's.
    """

    network: Network
    operators: tuple[Operator, ...]
    given: Mapping[int, Tensor]

    @staticmethod
    def leading_to(network: Network, number: int, given: Mapping[int, Tensor]) -> "IntegerPart":
        """The operators from the given tensors to tensor `number`, whose own given values are left out."""
        needed, operators = {number}, []
        for operator in reversed(network.operators):
            made = operator.outputs[0]
            if made in needed:
                operators.append(operator)
                needed |= {i for i in operator.inputs if i >= 0 and i not in given}
        return IntegerPart(network, tuple(reversed(operators)), given)

    @property
    def starts(self) -> set[int]:
        """Numbers of the given tensors that it reads, constants left out."""
        made = {operator.outputs[0] for operator in self.operators}
        read = {i for operator in self.operators for i in operator.inputs if i >= 0} - made
        return {i for i in read if self.network.tensors[i].data is None}

    def with_start(self, number: int, values: Array) -> "IntegerPart":
        """The part from other values of one of the given tensors."""
        return replace(self, given={**self.given, number: replace(self.given[number], data=values)})

    def described(self) -> Iterator[tuple[Operator, list[Tensor], Tensor]]:
        """(operator, its inputs, its output): descriptions, and the values of constants."""
        for operator in self.operators:
            inputs = [self.network.tensors[i] for i in operator.inputs if i >= 0]
            yield operator, inputs, self.network.tensors[operator.outputs[0]]

    def run(self, rule: Rule, changes: Mapping[int, Change] | None = None) -> Array:
        """The output under a rule; `changes` replaces what the operators at some places compute."""
        made: dict[int, Tensor] = {}
        for place, operator in enumerate(self.operators):
            inputs = [made.get(i) or self.given[i] for i in operator.inputs if i >= 0]
            y = self.network.tensors[operator.outputs[0]]
            if changes and place in changes:
                data = changes[place](inputs, y, rule).astype(y.dtype)
            else:
                data = compute(operator, inputs, y, rule)
            made[operator.outputs[0]] = replace(y, data=data)
        values = made[self.operators[-1].outputs[0]].data
        assert values is not None
        return values

    def exact_rules(self, values: Array) -> tuple[str, ...]:
        """Rules under which the output is exactly these values."""
        return tuple(name for name, y in self._under_all_rules() if np.array_equal(y, values))

    def _under_all_rules(self) -> Iterator[tuple[str, Array]]:
        """(rule, the output under it); accumulators are summed once."""
        operator = self.operators[-1]
        if len(self.operators) > 1 or operator.code not in SUMS:
            yield from ((name, self.run(rule)) for name, rule in RULES.items())
            return
        inputs, y = [self.given[i] for i in operator.inputs if i >= 0], self.network.tensors[operator.outputs[0]]
        acc = accumulators(operator.code, inputs, operator.options)
        for name, rule in RULES.items():
            yield name, from_accumulators(operator.code, acc, inputs, y, operator.options, rule)
