"""Known mistakes in 8-bit operators other than convolutions and dense layers, and those that any operator can have."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from npmobilenet.porting.diagnose.mistakes.integer_mistakes import (
    HALF_RANGE,
    SUM_CODES,
    IntegerMistake,
    altered,
    floor,
    limit_mistakes,
    sum_mistakes,
    with_zero,
    zero_point_replaced,
)
from npmobilenet.quantized.numbers import round_away
from npmobilenet.quantized.rules import RULES, Rule
from npmobilenet.quantized.running import compute
from npmobilenet.quantized.tensors import Ints, Operator, Quantization, Tensor
from npmobilenet.quantized.weighted_sums import clipped
from npmobilenet.quantized.windows import windows
from npmobilenet.reference.arithmetic import total
from npmobilenet.types import Array

REAL = {
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)),
    "SOFTMAX": lambda x: (
        np.exp(x - x.max(-1, keepdims=True)) / np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)
    ),
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "QUANTIZE": lambda x: x,
}
"""Functions of one tensor, of real numbers."""
SHAPES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "PAD")
FLOAT_ROUNDINGS: dict[str, Callable[[Array], Ints]] = {
    "halves away from zero": round_away,
    "halves to even": lambda x: np.rint(x).astype(np.int64),
    "halves up": lambda x: floor(x + 0.5),
    "cut off": lambda x: np.trunc(x).astype(np.int64),
}


def integer_mistakes(operator: Operator, inputs: Sequence[Tensor], y: Tensor) -> Iterator[IntegerMistake]:
    """Known mistakes that can be made in an operator; the rules of other implementations come first.

    Args:
        operator: the operator.
        inputs: its inputs' descriptions, constants with their values.
        y: its output's description.
    """
    if y.quantization is None:
        return
    for name, rule in RULES.items():
        yield IntegerMistake(f"rule-{name}", f"the rule of {rule.followed_by}", _under(operator, rule))
    if operator.code in SUM_CODES:
        yield from sum_mistakes(operator, inputs, y)
    else:
        yield from OF_OPERATOR.get(operator.code, _nothing)(operator, inputs, y)
    yield IntegerMistake("off-by-128", "the output is off by 128, as between int8 and uint8", _half_range_off(operator))
    if operator.code in SHAPES:
        yield IntegerMistake("order-of-axes", "values in the order of channels first", _channels_first(operator))


def _under(operator: Operator, rule: Rule) -> Callable[[Sequence[Tensor], Tensor, Rule], Array]:
    return lambda inputs, y, _: compute(operator, inputs, y, rule)


def _half_range_off(operator: Operator) -> Callable[[Sequence[Tensor], Tensor, Rule], Array]:
    def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
        q = compute(operator, inputs, y, rule).astype(np.int64)
        low = y.range[0]
        return (q - low + HALF_RANGE) % (2 * HALF_RANGE) + low

    return run


def _channels_first(operator: Operator) -> Callable[[Sequence[Tensor], Tensor, Rule], Array]:
    def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
        q = compute(operator, inputs, y, rule)
        x = inputs[0].data
        if x is None or x.ndim != 4 or x.size != q.size:
            raise ValueError("no feature map")
        return x.transpose(0, 3, 1, 2).reshape(q.shape)

    return run


def _nothing(operator: Operator, inputs: Sequence[Tensor], y: Tensor) -> Iterator[IntegerMistake]:
    return iter(())


def _pools(operator: Operator, inputs: Sequence[Tensor], y: Tensor) -> Iterator[IntegerMistake]:
    if operator.code == "AVERAGE_POOL_2D":
        for what, rounded in {
            "the quotient is cut off": lambda sums, n: np.sign(sums) * (np.abs(sums) // n),
            "the quotient is the integer below": lambda sums, n: sums // n,
        }.items():
            yield IntegerMistake("truncation", f"mean: {what}", _averaged(operator, rounded))
        for what, rounded in {
            "halves up": lambda sums, n: (2 * sums + n) // (2 * n),
            "halves to even": lambda sums, n: np.rint(sums / n).astype(np.int64),
        }.items():
            yield IntegerMistake("rounding", f"mean rounded with {what}", _averaged(operator, rounded))
        yield IntegerMistake("padding-counted", "padding is counted, as zero points", _averaged_with_padding(operator))
    yield from limit_mistakes(operator, y)


def _averaged(
    operator: Operator, rounded: Callable[[Ints, Ints], Ints]
) -> Callable[[Sequence[Tensor], Tensor, Rule], Array]:
    def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
        x, options = inputs[0].integers, operator.options
        ones = np.ones((1, *x.shape[1:3], 1), np.int64)
        n, sums = (total(view for _, _, view in windows(q, options.filter, options)) for q in (ones, x))
        return clipped(rounded(sums, n), y, options)

    return run


def _averaged_with_padding(operator: Operator) -> Callable[[Sequence[Tensor], Tensor, Rule], Array]:
    def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
        x, options = inputs[0].integers, operator.options
        n = options.filter[0] * options.filter[1]
        sums = total(view for _, _, view in windows(x, options.filter, options, inputs[0].zero_point))
        return clipped(round_away(sums / n), y, options)

    return run


def _means(operator: Operator, inputs: Sequence[Tensor], y: Tensor) -> Iterator[IntegerMistake]:
    yield from _ignored_inputs(operator, inputs[:1])
    x = inputs[0]
    assert x.quantization is not None
    M = float(x.scale[0]) / float(y.scale[0])
    for what, rounded in FLOAT_ROUNDINGS.items():
        cause = "truncation" if what == "cut off" else "by-float"
        yield IntegerMistake(cause, f"the mean in floating point, {what}", _mean_by_float(operator, M, rounded))
    yield IntegerMistake(
        "change-of-scale", "the mean of the integers, without the change of scale", _plain_mean(operator)
    )


def _centered_mean(operator: Operator, inputs: Sequence[Tensor]) -> Array:
    axes = tuple(int(axis) for axis in inputs[1].integers.ravel())
    centered = inputs[0].integers - inputs[0].zero_point
    return np.asarray(centered.mean(axes, keepdims=operator.options.keep_dims))


def _mean_by_float(
    operator: Operator, M: float, rounded: Callable[[Array], Ints]
) -> Callable[[Sequence[Tensor], Tensor, Rule], Array]:
    def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
        return clipped(rounded(_centered_mean(operator, inputs) * M) + y.zero_point, y, operator.options)

    return run


def _plain_mean(operator: Operator) -> Callable[[Sequence[Tensor], Tensor, Rule], Array]:
    def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
        mean = _centered_mean(operator, inputs) + inputs[0].zero_point
        return clipped(round_away(mean), y, operator.options)

    return run


def _merges(operator: Operator, inputs: Sequence[Tensor], y: Tensor) -> Iterator[IntegerMistake]:
    yield from _ignored_inputs(operator, inputs)
    for what, rounded in FLOAT_ROUNDINGS.items():
        cause = "truncation" if what == "cut off" else "by-float"
        yield IntegerMistake(cause, f"computed in floating point, {what}", _merged_by_float(operator, rounded))
    yield IntegerMistake(
        "change-of-scale", "the integers are merged as if all scales were the output's", _unscaled(operator)
    )
    yield IntegerMistake("change-of-scale", "the scales of the two inputs are exchanged", altered(operator, _exchanged))
    yield from limit_mistakes(operator, y)


MERGES: dict[str, Callable[[Array, Array], Array]] = {"ADD": np.add, "SUB": np.subtract, "MUL": np.multiply}


def _merged_by_float(
    operator: Operator, rounded: Callable[[Array], Ints]
) -> Callable[[Sequence[Tensor], Tensor, Rule], Array]:
    def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
        a, b = (float(x.scale[0]) * (x.integers - x.zero_point) for x in inputs)
        steps = rounded(MERGES[operator.code](a, b) / float(y.scale[0]))
        return clipped(steps + y.zero_point, y, operator.options)

    return run


def _unscaled(operator: Operator) -> Callable[[Sequence[Tensor], Tensor, Rule], Array]:
    def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
        a, b = (x.integers - x.zero_point for x in inputs)
        return clipped(MERGES[operator.code](a, b) + y.zero_point, y, operator.options)

    return run


def _exchanged(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    first, second = inputs
    return replace(first, quantization=_scale_of(first, second)), replace(second, quantization=_scale_of(second, first))


def _scale_of(tensor: Tensor, other: Tensor) -> Quantization:
    assert tensor.quantization is not None
    return replace(tensor.quantization, scale=other.scale)


def _ignored_inputs(operator: Operator, inputs: Sequence[Tensor]) -> Iterator[IntegerMistake]:
    """The zero point of one input, or of all, is not subtracted."""
    places = [place for place, x in enumerate(inputs) if x.quantization is not None and x.zero_point]
    for place in places:
        which = "the input's zero point" if len(inputs) == 1 else f"the zero point of input {place + 1}"
        change = zero_point_replaced(place, 0)
        yield IntegerMistake("input-zero-point", f"{which} is not subtracted", altered(operator, change))
    if len(places) > 1:
        yield IntegerMistake(
            "input-zero-point",
            "no input's zero point is subtracted",
            altered(operator, lambda given: [with_zero(x, 0) for x in given]),
        )


def _curves(operator: Operator, inputs: Sequence[Tensor], y: Tensor) -> Iterator[IntegerMistake]:
    if inputs[0].quantization is None:
        yield from _quantized_reals()
        return
    if operator.code != "SOFTMAX":
        yield from _ignored_inputs(operator, inputs[:1])
    for what, rounded in FLOAT_ROUNDINGS.items():
        cause = "truncation" if what == "cut off" else "by-float"
        yield IntegerMistake(cause, f"the curve in floating point, {what}", _curve_by_float(operator, rounded))
    yield IntegerMistake(
        "limits", "left out: the input's integers as they are", lambda given, y, rule: given[0].integers
    )
    yield IntegerMistake("limits", "left out: the input in steps of the output", _identity)
    if operator.code == "HARD_SWISH":
        yield IntegerMistake("curve", "x sigmoid(x) instead of x relu6(x + 3) / 6", _swish)


def _curve_by_float(
    operator: Operator, rounded: Callable[[Array], Ints]
) -> Callable[[Sequence[Tensor], Tensor, Rule], Array]:
    def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
        x = inputs[0]
        beta = operator.options.beta if operator.code == "SOFTMAX" else 1.0
        real = REAL[operator.code](float(x.scale[0]) * (x.integers - x.zero_point) * beta)
        return np.clip(rounded(real / float(y.scale[0])) + y.zero_point, *y.range)

    return run


def _identity(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
    x = inputs[0]
    steps = round_away((x.integers - x.zero_point) * (float(x.scale[0]) / float(y.scale[0])))
    return np.clip(steps + y.zero_point, *y.range)


def _swish(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
    x = inputs[0]
    real = float(x.scale[0]) * (x.integers - x.zero_point)
    return np.clip(round_away(real / (1 + np.exp(-real)) / float(y.scale[0])) + y.zero_point, *y.range)


def _quantized_reals() -> Iterator[IntegerMistake]:
    for what, rounded in FLOAT_ROUNDINGS.items():

        def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule, rounded: Callable[[Array], Ints] = rounded) -> Array:
            assert inputs[0].data is not None
            steps = rounded(inputs[0].data.astype(np.float64) / float(y.scale[0]))
            return np.clip(steps + y.zero_point, *y.range)

        yield IntegerMistake("truncation" if what == "cut off" else "rounding", f"quantized with {what}", run)


def _concatenations(operator: Operator, inputs: Sequence[Tensor], y: Tensor) -> Iterator[IntegerMistake]:
    yield IntegerMistake(
        "change-of-scale",
        "the integers are copied without the change of scale",
        lambda given, y, rule: np.concatenate([x.integers for x in given], operator.options.axis),
    )
    if len(inputs) > 1:
        yield IntegerMistake(
            "order-of-inputs",
            "the inputs in the opposite order",
            altered(operator, lambda given: list(reversed(given))),
        )


OF_OPERATOR: dict[str, Callable[[Operator, Sequence[Tensor], Tensor], Iterator[IntegerMistake]]] = {
    "AVERAGE_POOL_2D": _pools,
    "MAX_POOL_2D": _pools,
    "MEAN": _means,
    "ADD": _merges,
    "SUB": _merges,
    "MUL": _merges,
    "CONCATENATION": _concatenations,
    **dict.fromkeys(REAL, _curves),
}
