"""Batch normalization, its folding, and squeeze-and-excitation as exercises: cases, mistakes, how a value is made."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npmobilenet.exercises.exercise import Case, Draw, Exercise
from npmobilenet.exercises.nested import number
from npmobilenet.reference.activations import hard_sigmoid, relu, sigmoid
from npmobilenet.reference.normalization import batch_norm
from npmobilenet.reference.rounding import batch_norm_bound, squeeze_excite_bound
from npmobilenet.types import Array

EPSILON = 1e-3


def float64_arrays(*values: Any) -> tuple[Array, ...]:
    return tuple(np.asarray(value, np.float64) for value in values)


def twice(*bounds: Array) -> list:
    """Bounds of the results for two sides that both round."""
    return [(2 * bound).tolist() for bound in bounds]


def statistics(draw: Draw, C: int, exact: bool) -> tuple[list, list, list, list, float]:
    """gamma, beta, mean, var and epsilon; if exact, so that the root of var + epsilon is 1, 2 or 4."""
    if exact:
        epsilon = 0.25
        deviations = [2 ** draw.between(0, 2) for _ in range(C)]
        return draw.numbers(C), draw.numbers(C), draw.numbers(C), [d * d - epsilon for d in deviations], epsilon
    gamma, var = ([0.0625 + abs(value) for value in draw.reals(C)] for _ in range(2))
    return gamma, draw.reals(C), draw.reals(C), [value / 16 for value in var], EPSILON


# batch_norm


def _deviation(var: Array, epsilon: float) -> Array:
    return np.sqrt(var + epsilon)


def _normalized(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A mistake that gets arrays."""
    return lambda x, gamma, beta, mean, var, epsilon: rule(*float64_arrays(x, gamma, beta, mean, var), epsilon)


def _batch_norm(x: list, gamma: list, beta: list, mean: list, var: list, epsilon: float) -> Array:
    return batch_norm(*float64_arrays(x, gamma, beta, mean, var), epsilon=epsilon)


def _along_rows(x: Array, *params: Any) -> Array:
    g, b, m, v = (values[:, None, None] for values in params[:4])
    return np.asarray(g * (x - m) / _deviation(v, params[4]) + b)


def _batch_norm_cases(draw: Draw) -> list[Case]:
    cases = []
    for H, W, C, exact in ((2, 2, 1, True), (3, 3, 3, True), (3, 2, 2, True), (draw.between(3, 5),) * 3 + (True,),
                           (4, 5, 3, False), (5, 5, 5, False), (7, 6, 4, False)):  # fmt: skip
        x = draw.numbers(H, W, C) if exact else draw.reals(H, W, C)
        args: list[Any] = [x, *statistics(draw, C, exact)]
        bound = batch_norm_bound(*float64_arrays(*args[:5]), epsilon=args[5])
        says = f"x {H} x {W} x {C}, epsilon {args[5]}"
        cases.append(Case(says, args, twice(bound)))
    return cases


def _batch_norm_how(args: list, index: tuple, theirs: Any) -> list[str]:
    x, gamma, beta, mean, var, epsilon = args
    _, i, j, c = index
    return [
        f"{number(gamma[c])} * ({number(x[i][j][c])} - {number(mean[c])}) / "
        f"sqrt({number(var[c])} + {number(epsilon)}) + {number(beta[c])}"
    ]


BATCH_NORM = Exercise(
    "batch_norm", 2, ("x", "gamma", "beta", "mean", "var", "epsilon"), ("y",), "returns (H, W, C)",
    _batch_norm, _batch_norm_cases,
    [
        ("variance", "divided by the variance, var + epsilon; the deviation is its root",
         _normalized(lambda x, g, b, m, v, e: g * (x - m) / (v + e) + b)),
        ("epsilon-outside", "epsilon is added outside the root: sqrt(var) + epsilon",
         _normalized(lambda x, g, b, m, v, e: g * (x - m) / (np.sqrt(v) + e) + b)),
        ("epsilon-forgotten", "epsilon is forgotten: sqrt(var)",
         _normalized(lambda x, g, b, m, v, e: g * (x - m) / np.sqrt(v) + b)),
        ("epsilon-fixed", "epsilon is 1e-5, not the argument",
         _normalized(lambda x, g, b, m, v, e: g * (x - m) / _deviation(v, 1e-5) + b)),
        ("epsilon-fixed", "epsilon is 1e-3, not the argument",
         _normalized(lambda x, g, b, m, v, e: g * (x - m) / _deviation(v, 1e-3) + b)),
        ("gamma-beta", "gamma and beta are exchanged",
         _normalized(lambda x, g, b, m, v, e: b * (x - m) / _deviation(v, e) + g)),
        ("mean-var", "mean and var are exchanged",
         _normalized(lambda x, g, b, m, v, e: g * (x - v) / _deviation(np.abs(m), e) + b)),
        ("mean-forgotten", "the mean is not subtracted",
         _normalized(lambda x, g, b, m, v, e: g * x / _deviation(v, e) + b)),
        ("mean-added", "the mean is added", _normalized(lambda x, g, b, m, v, e: g * (x + m) / _deviation(v, e) + b)),
        ("mean-late", "the mean is subtracted after the scaling",
         _normalized(lambda x, g, b, m, v, e: g * x / _deviation(v, e) - m + b)),
        ("beta-scaled", "gamma scales beta too",
         _normalized(lambda x, g, b, m, v, e: g * ((x - m) / _deviation(v, e) + b))),
        ("gamma-forgotten", "gamma is forgotten", _normalized(lambda x, g, b, m, v, e: (x - m) / _deviation(v, e) + b)),
        ("beta-forgotten", "beta is forgotten", _normalized(lambda x, g, b, m, v, e: g * (x - m) / _deviation(v, e))),
        ("of-x", "mean and variance of x itself, as in training; inference has the moving ones",
         _normalized(lambda x, g, b, m, v, e: g * (x - x.mean((0, 1))) / _deviation(x.var((0, 1)), e) + b)),
        ("wrong-axis", "the parameters go along the rows of x, not along its channels",
         _normalized(lambda x, *params: _along_rows(x, *params))),
    ],
    _batch_norm_how,
)  # fmt: skip


# fold_batch_norm


def _folded(weights: Callable[..., Array], bias: Callable[..., Array]) -> Callable[..., Any]:
    """(w, b) by two rules for (value, scale, beta, mean, gamma)."""
    return _folding(lambda w, b, s, g, be, m, v, e: (weights(w, s), bias(b, s, be, m)))


def _folding(rule: Callable[..., Any]) -> Callable[..., Any]:
    def fold(w: list, b: list, gamma: list, beta: list, mean: list, var: list, epsilon: float) -> Any:
        w_, b_, g, be, m, v = float64_arrays(w, b, gamma, beta, mean, var)
        return rule(w_, b_, g / np.sqrt(v + epsilon), g, be, m, v, epsilon)

    return fold


def _with_scale(scale: Callable[..., Array]) -> Callable[..., Any]:
    """Folding with another scale (gamma, var, epsilon)."""

    def rule(w: Array, b: Array, s: Array, g: Array, be: Array, m: Array, v: Array, e: float) -> Any:
        other = scale(g, v, e)
        return w * other, (b - m) * other + be

    return _folding(rule)


def _scaled(w: Array, s: Array) -> Array:
    return w * s


def _bias(b: Array, s: Array, beta: Array, mean: Array) -> Array:
    return (b - mean) * s + beta


def _fold_cases(draw: Draw) -> list[Case]:
    cases = []
    for K, c_in, c_out, exact in ((1, 2, 2, True), (3, 2, 2, True), (3, 3, 3, True), (1, 3, 2, True), (3, 2, 4, False),
                                  (1, 4, 4, False), (3, 3, 3, False)):  # fmt: skip
        numbers = draw.numbers if exact else draw.reals
        w, b = numbers(K, K, c_in, c_out), numbers(c_out)
        gamma, beta, mean, var, epsilon = statistics(draw, c_out, exact)
        w_, b_, g, be, m, v = float64_arrays(w, b, gamma, beta, mean, var)
        zero = np.zeros(c_out)
        bounds = twice(
            batch_norm_bound(w_, g, zero, zero, v, epsilon=epsilon), batch_norm_bound(b_, g, be, m, v, epsilon=epsilon)
        )
        says = f"w {K} x {K} x {c_in} x {c_out}, epsilon {epsilon}"
        cases.append(Case(says, [w, b, gamma, beta, mean, var, epsilon], bounds))
    return cases


def _fold_how(args: list, index: tuple, theirs: Any) -> list[str]:
    w, b, gamma, beta, mean, var, epsilon = args
    d = index[-1]
    scale = f"{number(gamma[d])} / sqrt({number(var[d])} + {number(epsilon)})"
    lines = [f"scale of output channel {d}: {scale} = {gamma[d] / (var[d] + epsilon) ** 0.5:.6g}"]
    if index[0] == 0:
        return [*lines, f"w[{']['.join(map(str, index[1:]))}] is {number(w[index[1]][index[2]][index[3]][d])}"]
    return [*lines, f"b {number(b[d])}, mean {number(mean[d])}, beta {number(beta[d])}"]


FOLD_BATCH_NORM = Exercise(
    "fold_batch_norm", 3, ("w", "b", "gamma", "beta", "mean", "var", "epsilon"), ("w_folded", "b_folded"),
    "returns w of shape (K, K, c_in, c_out) and b of shape (c_out,)",
    _folded(_scaled, _bias), _fold_cases,
    [
        ("wrong-axis", "the scale goes along the input channels of w; it belongs to the output channels",
         _folded(lambda w, s: w * s[:, None], _bias)),
        ("mean-forgotten", "the mean is forgotten", _folded(_scaled, lambda b, s, be, m: b * s + be)),
        ("mean-not-scaled", "the mean is not scaled: b * scale - mean + beta",
         _folded(_scaled, lambda b, s, be, m: b * s - m + be)),
        ("mean-added", "the mean is added", _folded(_scaled, lambda b, s, be, m: (b + m) * s + be)),
        ("bias-forgotten", "the convolution's own bias is forgotten", _folded(_scaled, lambda b, s, be, m: be - m * s)),
        ("bias-not-scaled", "the convolution's own bias is not scaled",
         _folded(_scaled, lambda b, s, be, m: b - m * s + be)),
        ("beta-forgotten", "beta is forgotten", _folded(_scaled, lambda b, s, be, m: (b - m) * s)),
        ("beta-scaled", "beta is scaled; it is added last", _folded(_scaled, lambda b, s, be, m: (b - m + be) * s)),
        ("weights-not-scaled", "the weights are not scaled", _folded(lambda w, s: w, _bias)),
        ("epsilon-forgotten", "epsilon is forgotten: sqrt(var)", _with_scale(lambda g, v, e: g / np.sqrt(v))),
        ("epsilon-outside", "epsilon is added outside the root", _with_scale(lambda g, v, e: g / (np.sqrt(v) + e))),
        ("epsilon-fixed", "epsilon is 1e-5, not the argument", _with_scale(lambda g, v, e: g / np.sqrt(v + 1e-5))),
        ("epsilon-fixed", "epsilon is 1e-3, not the argument", _with_scale(lambda g, v, e: g / np.sqrt(v + 1e-3))),
        ("variance", "divided by the variance; the deviation is its root", _with_scale(lambda g, v, e: g / (v + e))),
        ("gamma-forgotten", "gamma is forgotten", _with_scale(lambda g, v, e: 1 / np.sqrt(v + e))),
    ],
    _fold_how,
)  # fmt: skip


# squeeze_excite


def _gated(
    gate: Callable[[Array], Array] = hard_sigmoid,
    squeeze: Callable[[Array], Array] = lambda x: x.mean((0, 1)),
    middle: Callable[[Array], Array] = relu,
    apply: Callable[[Array, Array], Array] = lambda x, g: x * g,
    bias: float = 1,
) -> Callable[..., Array]:
    """`squeeze_excite` with one of its steps changed."""

    def answer(x: list, w1: list, b1: list, w2: list, b2: list) -> Array:
        x_, w1_, b1_, w2_, b2_ = float64_arrays(x, w1, b1, w2, b2)
        s = middle(squeeze(x_) @ w1_ + bias * b1_)  # (c_squeezed,)
        return apply(x_, gate(s @ w2_ + bias * b2_))

    return answer


def _squeeze_cases(draw: Draw) -> list[Case]:
    cases = []
    for H, W, C, squeezed, exact in ((2, 2, 2, 1, True), (2, 4, 2, 2, True), (4, 4, 3, 2, True), (3, 5, 4, 2, False),
                                     (7, 7, 8, 2, False), (draw.between(1, 6), 4, 6, 3, False)):  # fmt: skip
        numbers = draw.numbers if exact else draw.reals
        x, w1, b1 = numbers(H, W, C), numbers(C, squeezed), numbers(squeezed)
        w2, b2 = ([[value / 16 for value in row] for row in numbers(squeezed, C)], [value / 2 for value in numbers(C)])
        b1[0] = abs(b1[0]) + 2
        if squeezed > 1:
            b1[1] = -8 - 4 * sum(abs(row[1]) for row in w1)  # ReLU cuts it
        args = [x, w1, b1, w2, b2]
        x_, *params = float64_arrays(*args)
        bound = squeeze_excite_bound(x_[None], *params)[0]
        cases.append(Case(f"x {H} x {W} x {C}, {squeezed} squeezed channels", args, twice(bound)))
    return cases


def _squeeze_how(args: list, index: tuple, theirs: Any) -> list[str]:
    x, w1, b1, w2, b2 = float64_arrays(*args)
    _, i, j, c = index
    s = relu(x.mean((0, 1)) @ w1 + b1)
    before = (s @ w2 + b2)[c]
    return [
        f"means of the channels: {', '.join(number(float(value)) for value in x.mean((0, 1))[:6])}",
        f"after the squeeze: {', '.join(number(float(value)) for value in s[:6])}",
        f"gate of {c}: hard_sigmoid({before:.6g}) = {hard_sigmoid(before):.6g}; x is {number(args[0][i][j][c])}",
    ]


SQUEEZE_EXCITE = Exercise(
    "squeeze_excite", 2, ("x", "w1", "b1", "w2", "b2"), ("y",), "returns (H, W, C)",
    _gated(), _squeeze_cases,
    [
        ("gate-added", "the gate is added; it is multiplied with x", _gated(apply=lambda x, g: x + g)),
        ("gate-alone", "the gate alone; it is multiplied with x", _gated(apply=lambda x, g: g + 0 * x)),
        ("sum-for-mean", "the sum of each channel; the squeeze is its mean", _gated(squeeze=lambda x: x.sum((0, 1)))),
        ("max-for-mean", "the largest value of each channel; the squeeze is its mean",
         _gated(squeeze=lambda x: x.max((0, 1)))),
        ("old-hard-sigmoid", "Keras's former hard sigmoid, 0.2 x + 0.5; V3's is relu6(x + 3) / 6",
         _gated(gate=lambda s: np.clip(0.2 * s + 0.5, 0, 1))),
        ("sigmoid", "the exact sigmoid; V3's is relu6(x + 3) / 6", _gated(gate=sigmoid)),
        ("no-gate-activation", "no hard sigmoid after the second layer", _gated(gate=lambda s: s)),
        ("no-relu", "no ReLU after the first layer", _gated(middle=lambda s: s)),
        ("bias-never", "the biases are left out", _gated(bias=0)),
        ("relu-for-hard-sigmoid", "ReLU after the second layer; V3's gate is relu6(x + 3) / 6", _gated(gate=relu)),
    ],
    _squeeze_how,
)  # fmt: skip
