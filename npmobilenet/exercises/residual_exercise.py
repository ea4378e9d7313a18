"""V2's inverted residual as an exercise: cases, mistakes, and how one value is made."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npmobilenet.exercises.exercise import Case, Draw, Exercise
from npmobilenet.exercises.layer_exercises import EPSILON, float64_arrays, statistics, twice
from npmobilenet.exercises.nested import number
from npmobilenet.reference.activation_bounds import activation_bound
from npmobilenet.reference.activations import relu, relu6
from npmobilenet.reference.convolution import depthwise_conv2d, pointwise_conv2d
from npmobilenet.reference.normalization import batch_norm
from npmobilenet.reference.rounding import (
    batch_norm_bound,
    depthwise_conv2d_bound,
    pointwise_conv2d_bound,
    sum_bound,
)
from npmobilenet.types import Array, Padding


def _normal(y: Array, statistics: Array) -> Array:
    return batch_norm(y, *statistics, epsilon=EPSILON)


def _nothing(y: Array) -> Array:
    return y


def _block(
    first: Callable[[Array], Array] = relu6,
    second: Callable[[Array], Array] = relu6,
    third: Callable[[Array], Array] = _nothing,
    after: Callable[[Array], Array] = _nothing,
    norms: tuple[bool, bool, bool] = (True, True, True),
    padding: Callable[[int], Padding] = lambda K: "same",
    residual: Callable[[Array, Array, int], Array | float] | None = None,
    expanded_added: bool = False,
) -> Callable[..., Array]:
    """`inverted_residual` with one of its steps changed.

    Args:
        first, second, third, after: activations after expansion, depthwise convolution, projection, addition.
        norms: which of the three batch normalizations there are.
        padding: of the depthwise convolution, for K.
        residual: (x, y, stride) -> what is added.
        expanded_added: adds the expanded map to the filtered one.
    """

    def answer(x: list, w1: list, bn1: list, w2: list, bn2: list, w3: list, bn3: list, stride: int) -> Array:
        x_, w1_, n1, w2_, n2, w3_, n3 = float64_arrays(x, w1, bn1, w2, bn2, w3, bn3)
        y = pointwise_conv2d(x_[None], w1_)  # (1, H, W, e)
        y = expanded = first(_normal(y, n1) if norms[0] else y)
        y = depthwise_conv2d(y, w2_[..., None], stride=stride, padding=padding(len(w2)))
        y = second(_normal(y, n2) if norms[1] else y)
        y = y + expanded if expanded_added and y.shape == expanded.shape else y
        y = pointwise_conv2d(y, w3_)  # (1, H_out, W_out, c_out)
        y = third(_normal(y, n3) if norms[2] else y)[0]
        return after(y + (residual or _residual)(x_, y, stride))

    return answer


def _residual(x: Array, y: Array, stride: int) -> Array | float:
    return x if stride == 1 and x.shape == y.shape else 0.0


def _strided_residual(x: Array, y: Array, stride: int) -> Array | float:
    x = x[::stride, ::stride]
    return x if x.shape == y.shape else 0.0


def _block_bound(args: list) -> Array:
    """Bound of the block: the bounds of its steps, one carried into the next."""
    x, w1, n1, w2, n2, w3, n3 = float64_arrays(*args[:7])
    stride, y = args[7], x[None]
    e = np.zeros(y.shape)
    for k, norm in enumerate((n1, n2, n3)):
        if k == 1:
            e = depthwise_conv2d_bound(y, w2[..., None], None, e, stride=stride)
            y = depthwise_conv2d(y, w2[..., None], stride=stride)
        else:
            w = (w1, w3)[k // 2]
            e = pointwise_conv2d_bound(y, w, None, e)
            y = pointwise_conv2d(y, w)
        gamma, beta, mean, var = norm
        e = batch_norm_bound(y, gamma, beta, mean, var, e, epsilon=EPSILON)
        y = _normal(y, norm)
        if k < 2:
            e = activation_bound("relu6", y, e)
            y = relu6(y)
    added = x if stride == 1 and x.shape == y.shape[1:] else np.zeros(y.shape[1:])
    return sum_bound([y[0], added], [e[0], np.zeros(added.shape)])


def _block_cases(draw: Draw) -> list[Case]:
    cases = []
    for H, W, c_in, t, c_out, K, stride in (
        (3, 3, 2, 2, 2, 3, 1), (4, 4, 2, 3, 2, 3, 2), (5, 4, 3, 2, 4, 3, 1), (6, 6, 2, 6, 3, 3, 2),
        (5, 7, 3, 4, 3, 5, 1), (7, 8, 4, 2, 4, 3, 2), (6, 6, 3, 3, 3, 3, 1),
    ):  # fmt: skip
        e = t * c_in
        norms = [[gamma, beta, mean, var] for gamma, beta, mean, var, _ in (
            statistics(draw, C, False) for C in (e, e, c_out))]  # fmt: skip
        x = draw.reals(H, W, c_in)
        w1, w2, w3 = draw.reals(c_in, e), draw.reals(K, K, e), draw.reals(e, c_out)
        args = [x, w1, norms[0], w2, norms[1], w3, norms[2], stride]
        says = f"x {H} x {W} x {c_in}, expanded to {e}, projected to {c_out}, K {K}, stride {stride}"
        cases.append(Case(says, args, twice(_block_bound(args))))
    return cases


def _block_how(args: list, index: tuple, theirs: Any) -> list[str]:
    x, y = args[0], _block(residual=lambda *_: 0.0)(*args)
    _, i, j, c = index
    added = args[7] == 1 and len(x[0][0]) == y.shape[2]
    shared = f"x is {number(x[i][j][c])}, and is added" if added else "nothing is added"
    return [f"after the projection: {y[i, j, c]:.6g}; {shared}"]


INVERTED_RESIDUAL = Exercise(
    "inverted_residual", 4, ("x", "w1", "bn1", "w2", "bn2", "w3", "bn3", "stride"), ("y",),
    "H_out = ceil(H / stride), W_out = ceil(W / stride); returns (H_out, W_out, c_out)",
    _block(), _block_cases,
    [
        ("relu-after-projection", "ReLU6 after the projection; the bottleneck is linear", _block(third=relu6)),
        ("relu-after-projection", "ReLU after the projection; the bottleneck is linear", _block(third=relu)),
        ("relu-after-addition", "ReLU6 after the addition, as in ResNet; the bottleneck is linear",
         _block(after=relu6)),
        ("relu-after-addition", "ReLU after the addition, as in ResNet; the bottleneck is linear", _block(after=relu)),
        ("added-at-stride-2", "x is added at stride 2 as well, every second pixel of it",
         _block(residual=_strided_residual)),
        ("no-residual", "x is not added", _block(residual=lambda x, y, stride: 0.0)),
        ("residual-of-expanded", "the expanded map is added; the residual is that of the narrow ends",
         _block(expanded_added=True, residual=lambda x, y, stride: 0.0)),
        ("residual-of-expanded", "the expanded map is added as well; the residual is that of the narrow ends alone",
         _block(expanded_added=True)),
        ("no-expansion-bn", "no batch normalization after the expansion", _block(norms=(False, True, True))),
        ("no-depthwise-bn", "no batch normalization after the depthwise convolution",
         _block(norms=(True, False, True))),
        ("no-projection-bn", "no batch normalization after the projection", _block(norms=(True, True, False))),
        ("relu-for-relu6", "ReLU, not ReLU6: values above 6 are not cut", _block(first=relu, second=relu)),
        ("no-expansion-relu", "no ReLU6 after the expansion", _block(first=_nothing)),
        ("no-depthwise-relu", "no ReLU6 after the depthwise convolution", _block(second=_nothing)),
        ("symmetric-padding", "zeros on both sides, as PyTorch's padding=K//2; TensorFlow puts the odd one at the end",
         _block(padding=lambda K: ((K // 2, K // 2), (K // 2, K // 2)))),
    ],
    _block_how,
)  # fmt: skip
