"""One value of an 8-bit network from its terms: what was summed, how it was rescaled, what every rule makes of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from npmobilenet.errors import ArgumentError
from npmobilenet.porting.rescaled_value import RescaledValue, rescaled
from npmobilenet.quantized.averages import mean_multiplier
from npmobilenet.quantized.conversions import fixed_point
from npmobilenet.quantized.merges import HEADROOM, sum_factors
from npmobilenet.quantized.rules import RULES, Rule
from npmobilenet.quantized.running import compute, trace
from npmobilenet.quantized.tensors import Network, Operator, Tensor
from npmobilenet.quantized.weighted_sums import SUMS, bias, limits, rescaling
from npmobilenet.quantized.windows import paddings
from npmobilenet.types import Array, Shape

Place = tuple[int, ...]


@dataclass(frozen=True)
class Term:
    """One term of a value.

    Attributes:
        at: place in the input, without the batch axis.
        x: the input's integer there.
        w: the weight, None where the operator has none.
        product: (x - zx) (w - zw), or x - zx; of a pool x itself.
    """

    at: Place
    x: int
    w: int | None
    product: int


@dataclass(frozen=True)
class Steps:
    """What an operator does at one place.

    Attributes:
        terms: what it sums, averages or maps.
        outside: number of taps on padding, which add nothing.
        numbers: intermediate results by name, in the order of computation.
        rescalings: accumulators that are rescaled, by name, in order.
    """

    terms: tuple[Term, ...]
    outside: int = 0
    numbers: Mapping[str, float] = field(default_factory=dict)
    rescalings: Mapping[str, RescaledValue] = field(default_factory=dict)


@dataclass(frozen=True)
class ExplainedInteger:
    """One value of a quantized network.

    Attributes:
        network, layer, operator: names.
        at: place of the value in the layer's output, without the batch axis.
        rule: the rule that the network was computed under.
        tensors: name, type, scale and zero point of every input that has them, the output last; the scale is the one
            of the value's channel.
        steps: how the value is made, under the rule.
        zero_point: of the output.
        limits: least and largest integer after the activation.
        value: the integer.
        real: the number that it stands for.
        by_rule: the integer under every rule, from the same inputs.
    """

    network: str
    layer: str
    operator: str
    at: Place
    rule: str
    tensors: tuple[Mapping[str, Any], ...]
    steps: Steps
    zero_point: int
    limits: tuple[int, int]
    value: int
    real: float
    by_rule: Mapping[str, int]

    @property
    def differing(self) -> tuple[str, ...]:
        """Rules that give another integer."""
        return tuple(name for name, value in self.by_rule.items() if value != self.value)

    def to_json(self) -> dict[str, Any]:
        """The attributes, and the rules that differ, for a JSON document."""
        return asdict(self) | {"differing": list(self.differing)}


def explain_integer(
    network: Network, tensors: Mapping[int, Tensor], operator: Operator, at: Place, rule: Rule
) -> ExplainedInteger:
    """One value of an operator's output, for one image.

    Args:
        network: a quantized network.
        tensors: constants, input and all that is computed up to the operator, from `computed_tensors`.
        operator: one of its operators.
        at: (Y, X, C) of the value; (0, 0, C) of a vector.
        rule: how results are rounded, here and in the layers before.

    Raises:
        ArgumentError: the place is outside the output, or the output does not hold 8-bit integers.
    """
    y, inputs = tensors[operator.outputs[0]], [tensors[i] for i in operator.inputs if i >= 0]
    if y.data is None or y.quantization is None:
        raise ArgumentError(f"{y.name}: {operator.code} makes values that are no 8-bit integers; choose another layer")
    index = index_of(y.data.shape, at, y.name)
    results = {name: compute(operator, inputs, y, each) for name, each in RULES.items()}
    value, c = int(y.data[index]), index[-1]
    return ExplainedInteger(
        network.name,
        y.name,
        operator.code,
        tuple(index[1:]),
        rule.name,
        tuple(_facts(tensor, c) for tensor in (*inputs, y) if tensor.quantization is not None),
        _steps(operator, inputs, y, index, rule),
        y.zero_point,
        limits(y, operator.options),
        value,
        float(y.dequantize(y.data[index].reshape(1))[0]),
        {name: int(result[index]) for name, result in results.items()},
    )


def computed_tensors(network: Network, x: Array, last: Operator, rule: Rule) -> dict[int, Tensor]:
    """All constants, the input, and what the operators make up to the last one, by number, with their values."""
    tensors = {number: tensor for number, tensor in enumerate(network.tensors) if tensor.data is not None}
    tensors[network.inputs[0]] = replace(network.input, data=x)
    for operator, y in trace(network, x, rule):
        tensors[operator.outputs[0]] = replace(network.tensors[operator.outputs[0]], data=y)
        if operator is last:
            break
    return tensors


def index_of(shape: Shape, at: Place, name: str) -> Place:
    """The index of a value in an array (1, H, W, C), (1, W, C) or (1, C) from its (Y, X, C)."""
    index = (*(0,) * (len(shape) - 3), *at)[-len(shape) :] if len(shape) < 4 else (0, *at)
    skipped = at[: max(4 - len(shape), 0)] if len(shape) < 4 else ()
    inside = all(0 <= i < side for i, side in zip(index, shape, strict=True))
    if any(skipped) or not inside or shape[0] != 1:
        sides = (1,) * (4 - len(shape)) + tuple(shape[1:])
        raise ArgumentError(
            f"{name}: expected --at Y X C within {' x '.join(map(str, sides))}, got {' '.join(map(str, at))}"
        )
    return index


def _facts(tensor: Tensor, c: int) -> dict[str, Any]:
    """Name, type, scale of channel c, zero point."""
    scale = tensor.scale[c if tensor.scale.size > 1 else 0]
    return {"name": tensor.name, "type": str(tensor.dtype), "scale": float(scale), "zero_point": tensor.zero_point}


def _steps(operator: Operator, inputs: Sequence[Tensor], y: Tensor, index: Place, rule: Rule) -> Steps:
    if operator.code in SUMS:
        return _weighted_sum(operator, inputs, y, index, rule)
    return EXPLAINED.get(operator.code, _others)(operator, inputs, y, index, rule)


def _weighted_sum(operator: Operator, inputs: Sequence[Tensor], y: Tensor, index: Place, rule: Rule) -> Steps:
    terms, outside = TERMS[operator.code](operator, inputs, y, index)
    total = sum(term.product for term in terms)
    b = np.ravel(bias(inputs))
    added = int(b[index[-1]] if b.size > 1 else b[0])
    factor = rescaling(operator.code, inputs, y, rule)
    M = float(np.broadcast_to(factor.M, y.integers.shape[-1:])[index[-1]])
    numbers = {"sum": total, "bias": added, "accumulator": total + added}
    return Steps(terms, outside, numbers, {"": rescaled(total + added, M, factor.rounding)})


def _taps(operator: Operator, x: Tensor, size: Shape, index: Place) -> tuple[list[tuple[int, int, int, int]], int]:
    """(row, column, u, v) of every tap inside the image, and the number of those outside."""
    options, (H, W) = operator.options, x.integers.shape[1:3]
    (top, _), (left, _) = paddings(x.integers.shape, (size[0], size[1]), options)
    (down, right), (rows, columns) = options.dilation, options.stride
    all_taps = [
        (index[1] * rows + u * down - top, index[2] * columns + v * right - left, u, v)
        for u in range(size[0])
        for v in range(size[1])
    ]
    inside = [tap for tap in all_taps if 0 <= tap[0] < H and 0 <= tap[1] < W]
    return inside, len(all_taps) - len(inside)


def _convolution_terms(
    operator: Operator, inputs: Sequence[Tensor], y: Tensor, index: Place
) -> tuple[tuple[Term, ...], int]:
    x, w = inputs[:2]
    n, c = w.shape[3], index[3]
    first = c // (w.shape[0] * n // x.integers.shape[3]) * n  # channel of the group
    taps, outside = _taps(operator, x, w.shape[1:3], index)
    terms = [_term(x, w, (row, column, first + k), (c, u, v, k)) for row, column, u, v in taps for k in range(n)]
    return tuple(terms), outside * n


def _depthwise_terms(
    operator: Operator, inputs: Sequence[Tensor], y: Tensor, index: Place
) -> tuple[tuple[Term, ...], int]:
    x, w = inputs[:2]
    c = index[3]
    source = c // (w.shape[3] // x.integers.shape[3])
    taps, outside = _taps(operator, x, w.shape[1:3], index)
    return tuple(_term(x, w, (row, column, source), (0, u, v, c)) for row, column, u, v in taps), outside


def _dense_terms(operator: Operator, inputs: Sequence[Tensor], y: Tensor, index: Place) -> tuple[tuple[Term, ...], int]:
    x, w = inputs[:2]
    row = int(np.ravel_multi_index(index[:-1], y.integers.shape[:-1]))
    values = x.integers.reshape(-1, w.shape[1])
    places = [np.unravel_index(row * w.shape[1] + k, x.integers.shape) for k in range(w.shape[1])]
    c = index[-1]
    terms = (
        Term(
            _plain(place[1:]),
            int(values[row, k]),
            int(w.integers[c, k]),
            _product(x, w, values[row, k], w.integers[c, k]),
        )
        for k, place in enumerate(places)
    )
    return tuple(terms), 0


TERMS = {"CONV_2D": _convolution_terms, "DEPTHWISE_CONV_2D": _depthwise_terms, "FULLY_CONNECTED": _dense_terms}


def _term(x: Tensor, w: Tensor, at: Place, kernel: Place) -> Term:
    a, b = int(x.integers[(0, *at)]), int(w.integers[kernel])
    return Term(at, a, b, _product(x, w, a, b))


def _product(x: Tensor, w: Tensor, a: int, b: int) -> int:
    return (int(a) - x.zero_point) * (int(b) - w.zero_point)


def _pool(operator: Operator, inputs: Sequence[Tensor], y: Tensor, index: Place, rule: Rule) -> Steps:
    x = inputs[0]
    taps, outside = _taps(operator, x, operator.options.filter, index)
    values = [(row, column, index[3]) for row, column, _, _ in taps]
    terms = tuple(Term(at, q, None, q) for at in values for q in [int(x.integers[(0, *at)])])
    if operator.code == "MAX_POOL_2D":
        return Steps(terms, outside, {"largest": max(term.x for term in terms)})
    total = sum(term.x for term in terms)
    return Steps(terms, outside, {"sum": total, "count": len(terms), "mean": total / len(terms)})


def _mean(operator: Operator, inputs: Sequence[Tensor], y: Tensor, index: Place, rule: Rule) -> Steps:
    x = inputs[0]
    axes = {int(axis) % x.integers.ndim for axis in inputs[1].integers.ravel()}
    kept = iter(index)
    chosen: list[Sequence[int]] = []
    for axis, side in enumerate(x.integers.shape):
        if axis not in axes or operator.options.keep_dims:
            place = next(kept)
        chosen.append(range(side) if axis in axes else [place])
    q = x.integers[np.ix_(*chosen)]
    offsets = [int(each[0]) for each in chosen]
    terms = tuple(
        Term(_plain(np.add(place, offsets)[1:]), int(value), None, int(value) - x.zero_point)
        for place, value in np.ndenumerate(q)
    )
    n, total = len(terms), sum(term.product for term in terms)
    numbers = {"sum": total, "count": n}
    if rule.elementwise == "float32":
        M = float((x.scale[0] / y.scale[0]) * (np.float32(1) / np.float32(n)))
        return Steps(terms, 0, numbers, {"": rescaled(total, M, "float32")})
    M = float(x.scale[0]) / float(y.scale[0]) / n
    return Steps(terms, 0, numbers, {"": rescaled(total, M, rule.elementwise, mean_multiplier(x, y, n))})


def _sum_of_two(operator: Operator, inputs: Sequence[Tensor], y: Tensor, index: Place, rule: Rule) -> Steps:
    terms = tuple(_element(x, y, index) for x in inputs)
    sign = -1 if operator.code == "SUB" else 1
    if rule.add == "common_shift":
        numbers = {f"steps of input {i + 1}": t.product * float(x.scale[0]) / float(y.scale[0]) for i, (t, x) in
                   enumerate(zip(terms, inputs, strict=True))}  # fmt: skip
        return Steps(terms, 0, numbers)
    M1, M2, M = sum_factors(inputs, y)
    first, second = (rescaled(t.product << HEADROOM, m, rule.add) for t, m in zip(terms, (M1, M2), strict=True))
    total = first.steps + sign * second.steps
    return Steps(terms, 0, {"sum": total}, {"input 1": first, "input 2": second, "sum": rescaled(total, M, rule.add)})


def _product_of_two(operator: Operator, inputs: Sequence[Tensor], y: Tensor, index: Place, rule: Rule) -> Steps:
    terms = tuple(_element(x, y, index) for x in inputs)
    M = float((inputs[0].scale * inputs[1].scale / y.scale)[0])
    acc = prod(term.product for term in terms)
    return Steps(terms, 0, {"product": acc}, {"": rescaled(acc, M, rule.elementwise)})


def _change_of_scale(operator: Operator, inputs: Sequence[Tensor], y: Tensor, index: Place, rule: Rule) -> Steps:
    x = inputs[0]
    if x.quantization is None:
        assert x.data is not None
        real = float(x.data[index])
        return Steps((), 0, {"x": real, "x / scale": real / float(y.scale[0])})
    term = _element(x, y, index)
    M = float(x.scale[0]) / float(y.scale[0])
    if operator.code != "QUANTIZE":
        M = float(x.scale[0] / y.scale[0])
    return Steps((term,), 0, {"steps": term.product * M}, {"": rescaled(term.product, M, fixed_point(rule))})


def _others(operator: Operator, inputs: Sequence[Tensor], y: Tensor, index: Place, rule: Rule) -> Steps:
    """A curve: the input's integer and number at the same place; of operators that move values nothing more."""
    x = inputs[0]
    if x.quantization is None or x.data is None or x.data.shape != y.integers.shape:
        return Steps(())
    term = _element(x, y, index)
    return Steps((term,), 0, {"x": term.product * float(x.scale[0])})


def _element(x: Tensor, y: Tensor, index: Place) -> Term:
    """The value of an input that is broadcast to the output, at a place of the output."""
    shape = (1,) * (y.integers.ndim - x.integers.ndim) + x.integers.shape
    place = tuple(0 if side == 1 else i for i, side in zip(index, shape, strict=True))
    q = int(x.integers.reshape(shape)[place])
    return Term(place[1:], q, None, q - x.zero_point)


def _plain(place: Iterable[Any]) -> Place:
    return tuple(int(i) for i in place)


EXPLAINED: Mapping[str, Callable[[Operator, Sequence[Tensor], Tensor, Place, Rule], Steps]] = {
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "MEAN": _mean,
    "ADD": _sum_of_two,
    "SUB": _sum_of_two,
    "MUL": _product_of_two,
    "QUANTIZE": _change_of_scale,
    "RELU": _change_of_scale,
    "RELU6": _change_of_scale,
}
