"""Padding, width, activations and quantization as exercises: cases, mistakes, and how one value is made."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from npmobilenet.architectures.mobilenet_v2 import V2, V2_LAST, V2_STEM
from npmobilenet.exercises.exercise import Case, Draw, Exercise
from npmobilenet.exercises.nested import number
from npmobilenet.exercises.plainly import same_padding
from npmobilenet.reference.activation_bounds import activation_bound
from npmobilenet.reference.activations import hard_swish, sigmoid
from npmobilenet.reference.roundoff import gamma
from npmobilenet.reference.shapes import make_divisible
from npmobilenet.types import Array

# same_padding


def _padding(
    outputs: Callable[[int, int], int] = lambda size, stride: -(-size // stride),
    least: int = 0,
    share: Callable[[int], tuple[int, int]] = lambda total: (total // 2, total - total // 2),
) -> Callable[[int, int, int], tuple[int, int]]:
    """`same_padding` with one of its lines changed."""
    return lambda size, K, stride: share(max((outputs(size, stride) - 1) * stride + K - size, least))


def _padding_cases(draw: Draw) -> list[Case]:
    even, odd = 2 * draw.between(3, 9), 2 * draw.between(3, 9) + 1
    triples = [
        (even, 3, 1), (even, 3, 2), (odd, 3, 2), (even, 5, 2), (odd, 5, 2), (even, 2, 1), (odd, 4, 1), (even, 1, 2),
        (3 * draw.between(2, 5) + 1, 3, 3), (4 * draw.between(2, 5), 2, 4), (3 * draw.between(2, 5), 1, 3), (224, 3, 2),
        (draw.between(1, 9), draw.between(1, 7), draw.between(1, 3)),
    ]  # fmt: skip
    return [Case(f"size {size}, K {K}, stride {stride}", [size, K, stride]) for size, K, stride in triples]


def _padding_how(args: list, index: tuple, theirs: Any) -> list[str]:
    size, K, stride = args
    outputs = -(-size // stride)
    total = (outputs - 1) * stride + K - size
    more = f"{total} more than {size}" if total >= 0 else f"{-total} fewer than {size}: no zeros"
    return [f"ceil({size} / {stride}) = {outputs} windows reach over ({outputs} - 1) * {stride} + {K} pixels, {more}"]


SAME_PADDING = Exercise(
    "same_padding", 2, ("size", "K", "stride"), ("before", "after"), "two whole numbers",
    same_padding, _padding_cases,
    [
        ("negative", "less than no zeros: where the windows reach less far than the image, both are 0",
         _padding(least=-1000)),
        ("odd-first", "the odd zero comes before; TensorFlow puts it at the end",
         _padding(share=lambda total: (total - total // 2, total // 2))),
        ("symmetric-padding", "K // 2 zeros on both sides, as PyTorch's padding=K//2",
         lambda size, K, stride: (K // 2, K // 2)),
        ("symmetric-padding", "(K - 1) // 2 zeros on both sides",
         lambda size, K, stride: ((K - 1) // 2, (K - 1) // 2)),
        ("symmetric-padding", "the total is shared equally and the odd zero is lost",
         _padding(share=lambda total: (total // 2, total // 2))),
        ("symmetric-padding", "the total is rounded up to an even number",
         _padding(share=lambda total: (-(-total // 2), -(-total // 2)))),
        ("rounded-down", "size // stride outputs; SAME has ceil(size / stride)",
         _padding(outputs=lambda size, stride: size // stride)),
        ("stride-forgotten", "K - 1 zeros, as with stride 1; they depend on the stride, and on size",
         lambda size, K, stride: ((K - 1) // 2, K - 1 - (K - 1) // 2)),
        ("at-end", "all zeros at the end; half of them come before", _padding(share=lambda total: (0, total))),
        ("no-padding", "no zeros at all: VALID", lambda size, K, stride: (0, 0)),
    ],
    _padding_how,
)  # fmt: skip


# relu6


def _relu6(most: float = 6, slope: Callable[[Array], Array] = lambda x: (x > 0) & (x < 6)) -> Callable[[list], Any]:
    def answer(x: list) -> tuple[Array, Array]:
        values = np.asarray(x, np.float64)
        return np.clip(values, 0, most), slope(values).astype(float)

    return answer


def _activation_values(draw: Draw, edges: tuple[float, ...]) -> list[list]:
    inside = [draw.between(1, 23) / 4 for _ in range(4)]
    return [
        [*edges, *inside, -draw.between(1, 8), 7 + draw.between(0, 9)],
        [draw.between(-40, 40) / 4 for _ in range(9)] + [edges[-1], edges[0]],
        [float(np.float32(value * 4)) for value in draw.reals(12)] + [edges[0], edges[-1]],
    ]


def _relu6_cases(draw: Draw) -> list[Case]:
    return [
        Case(f"{len(x)} values", [x]) for x in (*_activation_values(draw, (0, 6)), [0, 0, 6, 6], [-3], [9, 12, 100])
    ]


RELU6 = Exercise(
    "relu6", 2, ("x",), ("y", "slope"), "returns (y, slope), both of the shape of x",
    _relu6(), _relu6_cases,
    [
        ("slope-at-6", "the slope at 6 is 1; TensorFlow's is 0 at both ends",
         _relu6(slope=lambda x: (x > 0) & (x <= 6))),
        ("slope-at-0", "the slope at 0 is 1; TensorFlow's is 0 at both ends",
         _relu6(slope=lambda x: (x >= 0) & (x < 6))),
        ("slope-at-ends", "the slope at 0 and at 6 is 1; TensorFlow's is 0 at both ends",
         _relu6(slope=lambda x: (x >= 0) & (x <= 6))),
        ("slope-of-relu", "the slope is that of ReLU, 1 above 6; ReLU6's is 0 there", _relu6(slope=lambda x: x > 0)),
        ("slope-of-relu", "the slope is that of ReLU, 1 above 6 and at 0; ReLU6's is 0 there",
         _relu6(slope=lambda x: x >= 0)),
        ("relu", "ReLU: values above 6 are not cut", _relu6(most=math.inf)),
        ("relu", "ReLU, and its slope: values above 6 are not cut", _relu6(most=math.inf, slope=lambda x: x > 0)),
        ("relu", "ReLU, and its slope: values above 6 are not cut", _relu6(most=math.inf, slope=lambda x: x >= 0)),
        ("slope-inside-out", "the slope is 1 where it is 0, and 0 where it is 1",
         _relu6(slope=lambda x: (x <= 0) | (x >= 6))),
        ("cut-at-1", "values are cut at 1, not at 6", _relu6(most=1)),
    ],
    lambda args, index, theirs: [f"x[{index[1]}] is {number(args[0][index[1]])}"],
)  # fmt: skip


# hard_swish


def _swish_cases(draw: Draw) -> list[Case]:
    cases = []
    for x in (*_activation_values(draw, (-3, 0, 3)), [-6, -3, -1.5, 1.5, 3, 6], [-4, -8], [5, 50]):
        bound = 2 * activation_bound("hard_swish", np.asarray(x, np.float64))
        cases.append(Case(f"{len(x)} values", [x], [bound.tolist()]))
    return cases


def _on_array(function: Callable[[Array], Array]) -> Callable[[list], Array]:
    return lambda x: function(np.asarray(x, np.float64))


HARD_SWISH = Exercise(
    "hard_swish", 1, ("x",), ("y",), "returns y of the shape of x",
    _on_array(hard_swish), _swish_cases,
    [
        ("old-hard-sigmoid", "Keras's former hard sigmoid, 0.2 x + 0.5; V3's is relu6(x + 3) / 6",
         _on_array(lambda x: x * np.clip(0.2 * x + 0.5, 0, 1))),
        ("gate-alone", "the hard sigmoid alone; it is multiplied by x", _on_array(lambda x: np.clip(x + 3, 0, 6) / 6)),
        ("swish", "swish, with the exact sigmoid", _on_array(lambda x: x * sigmoid(x))),
        ("not-divided", "relu6(x + 3) is not divided by 6", _on_array(lambda x: x * np.clip(x + 3, 0, 6))),
        ("relu", "ReLU in place of ReLU6: above 3 the gate stays 1", _on_array(lambda x: x * np.maximum(x + 3, 0) / 6)),
        ("shift-forgotten", "relu6(x) in place of relu6(x + 3)", _on_array(lambda x: x * np.clip(x, 0, 6) / 6)),
        ("divided-by-3", "relu6(x + 3) is divided by 3, not by 6", _on_array(lambda x: x * np.clip(x + 3, 0, 6) / 3)),
    ],
    lambda args, index, theirs: [f"x[{index[1]}] is {number(args[0][index[1]])}"],
)  # fmt: skip


# width


def _widths(
    rule: Callable[[float], int], head: str = "below 1", v1: Callable[[float], int] = int
) -> Callable[..., Any]:
    """The channels with one rule changed.

    Args:
        rule: channels of V2 and V3.
        head: when the last layer of V2 keeps its width: "below 1", "always", "never".
        v1: channels of V1.
    """

    def channels(channels: list[int], alpha: float, network: str) -> list[int]:
        wide = [(v1 if network == "v1" else rule)(c * alpha) for c in channels]
        keeps = {"below 1": alpha < 1, "always": True, "never": False}[head]
        return [*wide[:-1], channels[-1]] if network == "v2" and keeps else wide

    return channels


def _nearest_8(c: float) -> int:
    return max(8, int(c + 4) // 8 * 8)


V1_CHANNELS = [32, 64, 128, 256, 512, 1024]
V2_CHANNELS = [V2_STEM, *(row.c_out for row in V2), V2_LAST]
V3_CHANNELS = [16, 24, 40, 80, 112, 160, 960]


def _width_cases(draw: Draw) -> list[Case]:
    drawn = [8 * draw.between(1, 20) for _ in range(6)]
    odd = [draw.between(5, 200) for _ in range(6)]
    choices = [
        (V1_CHANNELS, 0.5, "v1"), (odd, 0.75, "v1"), (V2_CHANNELS, 0.35, "v2"), (V2_CHANNELS, 0.75, "v2"),
        (V2_CHANNELS, 1.4, "v2"), (V3_CHANNELS, 0.75, "v3"), ([16, 24, 88, 40], 0.35, "v3"), ([*odd, 7], 0.25, "v1"),
        ([*drawn, 1280], 0.5, "v2"), (drawn, 0.5, "v3"), ([8, 16, 32], 0.25, "v3"),
    ]  # fmt: skip
    return [Case(f"channels {channels}, alpha {alpha}, {network}", [channels, alpha, network])
            for channels, alpha, network in choices]  # fmt: skip


def _width_how(args: list, index: tuple, theirs: Any) -> list[str]:
    channels, alpha, network = args
    return [f"{channels[index[1]]} x {alpha} = {number(channels[index[1]] * alpha)} in {network}"]


WIDTH = Exercise(
    "width", 1, ("channels", "alpha", "network"), ("y",), "one number for each of the channels",
    _widths(make_divisible), _width_cases,
    [
        ("ten-percent", "the rule of 10 % is forgotten: where rounding loses more than a tenth, 8 are added",
         _widths(_nearest_8)),
        ("cut", "V2 and V3 are cut as V1; their channels are rounded to multiples of 8", _widths(int)),
        ("cut", "all is cut as V1, V2's last layer too; V2 and V3 are rounded to multiples of 8",
         _widths(int, "never")),
        ("head-scaled", "the last layer of V2 is scaled below 1; it keeps its width", _widths(make_divisible, "never")),
        ("head-kept", "the last layer of V2 keeps its width above 1; there it is scaled",
         _widths(make_divisible, "always")),
        ("v1-rounded", "V1 is rounded to multiples of 8; its channels are cut",
         _widths(make_divisible, v1=make_divisible)),
        ("v1-rounded", "V1 is rounded to the nearest; its channels are cut", _widths(make_divisible, v1=round)),
        ("rounded-down", "V2 and V3 are rounded down to a multiple of 8; they are rounded to the nearest",
         _widths(lambda c: max(8, int(c) // 8 * 8))),
        ("rounded-up", "V2 and V3 are rounded up to a multiple of 8; they are rounded to the nearest",
         _widths(lambda c: max(8, math.ceil(c / 8) * 8))),
        ("ten-percent", "neither the rule of 10 % nor the least number of 8", _widths(lambda c: int(c + 4) // 8 * 8)),
    ],
    _width_how, whole=True,
)  # fmt: skip


# quantize


def _quantized(x: list, *, levels: int = 255, lowest: int = -128, whole: Callable[[Array], Array] = np.round,
               zero_whole: Callable[[Array], Array] = np.round, per: int | None = 0, with_zero: bool = True,
               symmetric: bool = False, together: bool = False) -> Any:  # fmt: skip
    """`quantize` with one of its rules changed.

    Args:
        x: (N, C).
        levels, lowest: number of steps, and the lowest of the whole numbers.
        whole, zero_whole: rounding of values, and of the zero point.
        per: axis over which the range is taken; None for one range for all.
        with_zero: whether the range takes in 0.
        symmetric: -127..127 around 0.
        together: whether the zero point is added before rounding.
    """
    values = np.asarray(x, np.float64)
    low, high = values.min(axis=per), values.max(axis=per)
    if with_zero:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    scale = np.broadcast_to((high - low) / levels, values.shape[1:])
    zero = zero_whole(lowest - low / scale)
    if symmetric:
        scale, zero = np.abs(values).max(axis=per) / 127, np.zeros(values.shape[1:])
    q = np.clip(whole(values / scale) + zero, lowest, lowest + 255)
    if together:
        q = np.clip(whole(values / scale + zero), lowest, lowest + 255)
    return q, scale, zero, (q - zero) * scale


def _quantize_cases(draw: Draw) -> list[Case]:
    cases = []
    for N, C, exact in ((4, 1, True), (6, 2, True), (5, 3, True), (6, 2, False), (8, 4, False), (5, 2, False)):
        columns = [_column(draw, N, exact, above=c == 0) for c in range(C)]
        x = [[columns[c][n] for c in range(C)] for n in range(N)]
        _, scale, _, back = _quantized(x)
        bounds = [1e-9, (2 * gamma(3) * scale).tolist(), 1e-9, (2 * gamma(5) * np.abs(back)).tolist()]
        cases.append(Case(f"x {N} x {C}, {'scales that are powers of 2' if exact else 'real numbers'}", [x], bounds))
    return cases


def _column(draw: Draw, N: int, exact: bool, above: bool) -> list[float]:
    """A channel of which no value is near the middle between two steps; above: real numbers that are all positive."""
    while True:
        if exact:
            step, down = 2.0 ** -draw.between(3, 7), draw.between(40, 200)
            column = [step * (1 + draw.below(253) - down + (0.25 if draw.below(2) else -0.25)) for _ in range(N)]
            column[:2] = [-step * down, step * (255 - down)]
        else:
            size = 2.0 ** draw.between(-3, 3)
            column = [value * size + size * (3 if above else 0.5) for value in draw.reals(N)]
        low, high = min(0.0, *column), max(0.0, *column)
        if high - low < 1e-3:
            continue
        scale = (high - low) / 255
        middles = [abs(value / scale % 1 - 0.5) for value in (*column, low)]
        if min(middles) > 0.05:
            return column


def _quantize_how(args: list, index: tuple, theirs: Any) -> list[str]:
    column = [row[index[-1]] for row in args[0]]
    low, high = min(0, *column), max(0, *column)
    lines = [f"channel {index[-1]} reaches from {number(low)} to {number(high)}: 255 steps of {(high - low) / 255:.6g}"]
    return lines if len(index) == 2 else [f"x[{index[1]}][{index[2]}] is {number(args[0][index[1]][index[2]])}", *lines]


def _cut(values: Array) -> Array:
    return np.trunc(values)


def _changed(**rules: Any) -> Callable[[list], Any]:
    return lambda x: _quantized(x, **rules)


QUANTIZE = Exercise(
    "quantize", 3, ("x",), ("q", "scale", "zero", "back"), "returns q (N, C), scale (C,), zero (C,), back (N, C)",
    _quantized, _quantize_cases,
    [
        ("zero-not-whole", "the zero point is not rounded: 0 would not be exact",
         _changed(zero_whole=lambda z: z, together=True)),
        ("cut", "values are cut, not rounded", _changed(whole=_cut)),
        ("cut", "values are rounded down, not to the nearest", _changed(whole=np.floor)),
        ("cut", "values and the zero point are cut, not rounded",
         lambda x: _cut_all(x, np.trunc)),
        ("cut", "values and the zero point are rounded down, not to the nearest", lambda x: _cut_all(x, np.floor)),
        ("symmetric", "the range is symmetric, -127..127 around 0; affine has a zero point",
         _changed(symmetric=True)),
        ("per-tensor", "one range for all channels; each channel has its own",
         _changed(per=None)),
        ("per-tensor", "one range for all channels; each channel has its own",
         lambda x: (lambda q, scale, zero, back: (q, scale[0], zero[0], back))(*_quantized(x, per=None))),
        ("per-tensor", "one range for all channels; each channel has its own",
         _changed(per=None, together=True)),
        ("256-steps", "the range is divided by 256; from -128 to 127 there are 255 steps", _changed(levels=256)),
        ("unsigned", "0..255, uint8; int8 is -128..127", _changed(lowest=0)),
        ("without-zero", "the range does not take in 0", _changed(with_zero=False)),
        ("per-row", "the range is that of each row; each channel, a column, has its own",
         lambda x: _per_row(x)),
        ("back-without-zero", "back is q * scale; the zero point is subtracted first",
         lambda x: (lambda q, scale, zero, _: (q, scale, zero, q * scale))(*_quantized(x))),
    ],
    _quantize_how,
)  # fmt: skip


def _cut_all(x: list, rule: Callable[[Array], Array]) -> Any:
    """Zero point and values cut alike."""
    _, scale, _, _ = _quantized(x)
    values = np.asarray(x, np.float64)
    zero = rule(-128 - np.minimum(values.min(axis=0), 0) / scale)
    q = np.clip(rule(values / scale) + zero, -128, 127)
    return q, scale, zero, (q - zero) * scale


def _per_row(x: list) -> Any:
    q, scale, zero, back = _quantized(np.asarray(x, np.float64).T.tolist())
    return q.T, scale, zero, back.T
