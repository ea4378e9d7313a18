"""Known mistakes in 8-bit operators: a changed description of tensors or options, computed as it stands.

Each mistake is a function of an operator's inputs, output and rule that returns what a port with it would compute.
Mistakes of sums are here, those of single operators in `operator_mistakes`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from npmobilenet.quantized.numbers import CEILINGS, as_int32, high_product, multiplier, round_away
from npmobilenet.quantized.rescaling import Rescaling
from npmobilenet.quantized.rules import Rule
from npmobilenet.quantized.running import compute
from npmobilenet.quantized.tensors import Ints, Operator, Options, Tensor
from npmobilenet.quantized.weighted_sums import SUMS, accumulators, clipped, rescaling
from npmobilenet.quantized.windows import paddings
from npmobilenet.types import Array, Pair

Computed = Callable[[Sequence[Tensor], Tensor, Rule], Array]
HALF_RANGE = 128
WINDOWS = ("CONV_2D", "DEPTHWISE_CONV_2D")


@dataclass(frozen=True)
class IntegerMistake:
    """A mistake in one operator.

    Attributes:
        cause: kind of mistake, one of the names in `docs/compare.md`.
        what: description of the mistake.
        compute: the operator's output with it, from its inputs, the output's description and the rule.
    """

    cause: str
    what: str
    compute: Computed


def sum_mistakes(operator: Operator, inputs: Sequence[Tensor], y: Tensor) -> Iterator[IntegerMistake]:
    """Mistakes of a convolution, a depthwise convolution or a dense layer that can be made there."""
    x, w = inputs[:2]
    yield from _roundings(operator)
    yield from _zero_points(operator, x, w, y)
    if len(inputs) > 2 and inputs[2].integers.any():
        yield from _biases(operator)
    if w.scale.size > 1:
        yield from _channel_scales(operator)
    yield _precision(operator, y)
    yield from limit_mistakes(operator, y)
    yield from _accumulators(operator)
    if operator.code in WINDOWS:
        yield from _window_mistakes(operator, x, w)


def altered(
    operator: Operator,
    inputs: Callable[[Sequence[Tensor]], Sequence[Tensor]] | None = None,
    options: Callable[[Options], Options] | None = None,
) -> Computed:
    """The operator with its inputs or its options changed, which may change the shape of its output."""

    def run(given: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
        changed = operator if options is None else replace(operator, options=options(operator.options))
        return compute(changed, given if inputs is None else inputs(given), y, rule)

    return run


def with_zero(tensor: Tensor, zero: int) -> Tensor:
    """A tensor with another zero point."""
    assert tensor.quantization is not None
    return replace(tensor, quantization=replace(tensor.quantization, zero_point=np.array([zero])))


def with_input(change: Callable[[Tensor], Tensor], place: int) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """Inputs with the one at a place changed."""
    return lambda inputs: [change(x) if i == place else x for i, x in enumerate(inputs)]


def zero_point_replaced(place: int, zero: int) -> Callable[[Sequence[Tensor]], Sequence[Tensor]]:
    """The inputs, the one at a place with another zero point."""
    return with_input(lambda tensor: with_zero(tensor, zero), place)


def _rescaled(operator: Operator, rounded: Callable[[Ints, Array], Ints]) -> Computed:
    """The sums with a rounding of their own, from accumulators and M."""

    def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
        acc = accumulators(operator.code, inputs, operator.options)
        M = rescaling(operator.code, inputs, y, rule).M
        return clipped(rounded(acc, M) + y.zero_point, y, operator.options)

    return run


def _by_product(rounded: Callable[[Array], Ints]) -> Callable[[Ints, Array], Ints]:
    return lambda acc, M: rounded(acc.astype(np.float64) * M)


def floor(x: Array) -> Ints:
    """The integer below."""
    return np.floor(x).astype(np.int64)


ROUNDINGS = {
    ("truncation", "a right shift without rounding: the integer below"): floor,
    ("truncation", "rounded towards zero"): lambda x: np.trunc(x).astype(np.int64),
    ("rounding", "rounded once, halves up"): lambda x: floor(x + 0.5),
    ("rounding", "rounded once, halves away from zero"): round_away,
    ("rounding", "rounded once, halves to even"): lambda x: np.rint(x).astype(np.int64),
}


def _roundings(operator: Operator) -> Iterator[IntegerMistake]:
    for (cause, what), rounded in ROUNDINGS.items():
        yield IntegerMistake(cause, what, _rescaled(operator, _by_product(rounded)))
    yield IntegerMistake(
        "truncation", "the high product rounded, the shift not", _rescaled(operator, _second_truncated)
    )
    for what, factor in {"one bit too far": 0.5, "one bit too little": 2.0}.items():
        yield IntegerMistake("shift", f"shifted {what}", _with_factor(operator, factor))


def _second_truncated(acc: Ints, M: Array) -> Ints:
    m = multiplier(M)
    y: Ints = high_product(as_int32(acc << np.maximum(m.e, 0)), m.q) >> np.maximum(-m.e, 0)
    return y


def _with_factor(operator: Operator, factor: float) -> Computed:
    def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
        right = rescaling(operator.code, inputs, y, rule)
        steps = Rescaling(right.M * factor, right.rounding)(accumulators(operator.code, inputs, operator.options))
        return clipped(steps + y.zero_point, y, operator.options)

    return run


def _zero_points(operator: Operator, x: Tensor, w: Tensor, y: Tensor) -> Iterator[IntegerMistake]:
    if x.zero_point:
        yield IntegerMistake(
            "input-zero-point",
            "the input's zero point is not subtracted",
            altered(operator, zero_point_replaced(0, 0)),
        )
    for shift in (HALF_RANGE, -HALF_RANGE):
        yield IntegerMistake(
            "off-by-128",
            f"the input's zero point is off by {shift}, as between int8 and uint8",
            altered(operator, zero_point_replaced(0, x.zero_point + shift)),
        )
    if w.zero_point:
        yield IntegerMistake(
            "weights-zero-point",
            "the weights' zero point is not subtracted",
            altered(operator, zero_point_replaced(1, 0)),
        )
        yield IntegerMistake(
            "weights-zero-point",
            "128 is subtracted instead of the weights' zero point",
            altered(operator, zero_point_replaced(1, HALF_RANGE)),
        )
    if y.zero_point:
        yield IntegerMistake(
            "output-zero-point", "the output's zero point is not added", _without_output_zero(operator)
        )


def _without_output_zero(operator: Operator) -> Computed:
    def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
        acc = accumulators(operator.code, inputs, operator.options)
        return clipped(rescaling(operator.code, inputs, y, rule)(acc), y, operator.options)

    return run


def _biases(operator: Operator) -> Iterator[IntegerMistake]:
    yield IntegerMistake("missing-bias", "the bias is not added", altered(operator, lambda inputs: inputs[:2]))
    yield IntegerMistake(
        "bias-scale", "the bias is added after the rescaling, in steps of the output", _with_bias_after(operator)
    )
    for what, scale in BIAS_SCALES.items():
        yield IntegerMistake("bias-scale", what, altered(operator, _with_bias_scaled(scale)))


def _with_bias_after(operator: Operator) -> Computed:
    def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
        acc = accumulators(operator.code, inputs[:2], operator.options)
        steps = rescaling(operator.code, inputs, y, rule)(acc) + inputs[2].integers
        return clipped(steps + y.zero_point, y, operator.options)

    return run


BIAS_SCALES: dict[str, Callable[[Array, Array], Array]] = {
    "the bias is in steps of the input's scale, not of sx sw": lambda sx, sw: sw,
    "the bias is in steps of the weights' scale, not of sx sw": lambda sx, sw: np.broadcast_to(sx, sw.shape),
    "the bias of every channel is in steps of the first one's scale": lambda sx, sw: sw / sw[0],
    "the bias of every channel is in steps of the largest scale": lambda sx, sw: sw / sw.max(),
    "the bias is a real number's integer part": lambda sx, sw: sx * sw,
    "the bias is doubled": lambda sx, sw: np.full(sw.shape, 2.0),
    "the bias is halved": lambda sx, sw: np.full(sw.shape, 0.5),
    "the bias is subtracted": lambda sx, sw: np.full(sw.shape, -1.0),
}
"""Factor by which the bias is off, from the scales sx (1,) and sw (1,) or (C,)."""


def _with_bias_scaled(scale: Callable[[Array, Array], Array]) -> Callable[[Sequence[Tensor]], Sequence[Tensor]]:
    def change(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        x, w, b = inputs
        factor = scale(x.scale.astype(np.float64), w.scale.astype(np.float64))
        return x, w, replace(b, data=np.clip(round_away(b.integers * factor), *b.range))

    return change


def _channel_scales(operator: Operator) -> Iterator[IntegerMistake]:
    changes: dict[str, Callable[[Array], Array]] = {
        "reversed": lambda s: s[::-1],
        "all the first channel's": lambda s: np.full_like(s, s[0]),
        "all the last channel's": lambda s: np.full_like(s, s[-1]),
        "all the largest": lambda s: np.full_like(s, s.max()),
        "all their mean": lambda s: np.full_like(s, s.mean()),
        "moved by one channel": lambda s: np.roll(s, 1),
        "moved back by one channel": lambda s: np.roll(s, -1),
    }
    for what, change in changes.items():
        yield IntegerMistake(
            "channel-scales",
            f"the scales of the channels are {what}",
            altered(operator, with_input(_with_scale(change), 1)),
        )


def _with_scale(change: Callable[[Array], Array]) -> Callable[[Tensor], Tensor]:
    def changed(tensor: Tensor) -> Tensor:
        assert tensor.quantization is not None
        scale = change(tensor.scale).astype(np.float32)
        return replace(tensor, quantization=replace(tensor.quantization, scale=scale))

    return changed


def _precision(operator: Operator, y: Tensor) -> IntegerMistake:
    """The product of scales as precise as the other type has it."""
    other = "float64 instead of float32" if y.dtype == np.uint8 else "float32 instead of float64"

    def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
        x, w = inputs[:2]
        product = x.scale * w.scale if y.dtype != np.uint8 else x.scale.astype(np.float64) * w.scale
        right = rescaling(operator.code, inputs, y, rule)
        steps = Rescaling(product.astype(np.float64) / y.scale, right.rounding)(
            accumulators(operator.code, inputs, operator.options)
        )
        return clipped(steps + y.zero_point, y, operator.options)

    return IntegerMistake("scale-precision", f"the product of the scales is {other}", run)


def limit_mistakes(operator: Operator, y: Tensor) -> Iterator[IntegerMistake]:
    """Another activation, none, or limits that are not in steps."""
    right = operator.options.activation
    for activation in CEILINGS:
        if activation != right:
            what = f"the limits are those of {activation}, not of {right}"
            if activation == "linear":
                what = f"the limits of {right} are missing"
            yield IntegerMistake("limits", what, altered(operator, options=_with_activation(activation)))
    if right != "linear":
        yield IntegerMistake(
            "limits", "the limits are the integers 0 and 6, not the steps of 0 and 6", _raw_limits(operator)
        )


def _with_activation(activation: str) -> Callable[[Options], Options]:
    return lambda options: replace(options, activation=activation)


def _raw_limits(operator: Operator) -> Computed:
    free = replace(operator, options=replace(operator.options, activation="linear"))
    low, high = CEILINGS[operator.options.activation]

    def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
        return np.clip(compute(free, inputs, y, rule), low, high).astype(np.int64)

    return run


def _accumulators(operator: Operator) -> Iterator[IntegerMistake]:
    limit = 2**15
    changes: dict[str, Callable[[Ints], Ints]] = {
        "wraps around in 16 bits": lambda acc: (acc + limit) % (2 * limit) - limit,
        "saturates at 16 bits": lambda acc: np.clip(acc, -limit, limit - 1),
    }
    for what, change in changes.items():

        def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule, change: Callable[[Ints], Ints] = change) -> Array:
            acc = change(accumulators(operator.code, inputs, operator.options))
            return clipped(rescaling(operator.code, inputs, y, rule)(acc) + y.zero_point, y, operator.options)

        yield IntegerMistake("accumulator", f"the accumulator {what}", run)


def _window_mistakes(operator: Operator, x: Tensor, w: Tensor) -> Iterator[IntegerMistake]:
    """Mistakes of a convolution's window: padding, and the order of its taps."""
    options = operator.options
    if options.padding == "same" and max(w.shape[1:3]) > 1:
        if x.zero_point:
            yield IntegerMistake(
                "zero-padding", "padded with the integer 0, not the zero point", _padded(operator, lambda p, k, d: p, 0)
            )
        yield IntegerMistake("same-padding", "SAME padding is symmetric, as PyTorch's", _padded(operator, _symmetric))
        yield IntegerMistake(
            "same-padding", "the odd pixel of SAME padding comes before, not after", _padded(operator, _before)
        )
    if options.dilation != (1, 1):
        yield IntegerMistake(
            "dilation", "the dilation is ignored", altered(operator, options=lambda o: replace(o, dilation=(1, 1)))
        )
    if max(w.shape[1:3]) > 1:
        for what, change in TAPS.items():
            yield IntegerMistake("kernel-order", what, altered(operator, with_input(_with_taps(change), 1)))


TAPS: dict[str, Callable[[Array], Array]] = {
    "the kernel is flipped: a true convolution": lambda w: w[:, ::-1, ::-1],
    "rows and columns of the kernel are exchanged": lambda w: w.transpose(0, 2, 1, 3),
}


def _with_taps(change: Callable[[Array], Array]) -> Callable[[Tensor], Tensor]:
    def changed(w: Tensor) -> Tensor:
        data = change(w.integers)
        return replace(w, data=data, shape=data.shape)

    return changed


Repadding = Callable[[Pair, int, int], Pair]


def _padded(operator: Operator, change: Repadding, value: int | None = None) -> Computed:
    """The operator with its input padded by hand: with other amounts, or another integer than the zero point."""

    def run(inputs: Sequence[Tensor], y: Tensor, rule: Rule) -> Array:
        x, w = inputs[:2]
        options = operator.options
        sides = paddings(x.integers.shape, (w.shape[1], w.shape[2]), options)
        around = [change(*each) for each in zip(sides, w.shape[1:3], options.dilation, strict=True)]
        q = np.pad(x.integers, ((0, 0), *around, (0, 0)), constant_values=x.zero_point if value is None else value)
        unpadded = replace(operator, options=replace(options, padding="valid"))
        result = compute(unpadded, [replace(x, data=q), *inputs[1:]], y, rule)
        return result[:, : y.shape[1] or None, : y.shape[2] or None] if len(y.shape) == 4 else result

    return run


def _symmetric(padding: Pair, k: int, dilation: int) -> Pair:
    return ((k - 1) * dilation // 2,) * 2


def _before(padding: Pair, k: int, dilation: int) -> Pair:
    return padding[1], padding[0]


SUM_CODES = tuple(SUMS)
