"""Ports with one mistake in them as an exercise: which layer is wrong on its own inputs, and why.

A layer is (name, kind, params): depthwise (w, stride), batch_norm (gamma, beta, mean, var, epsilon), relu6 (),
pointwise (w,). A pack is an input, such layers, and the value of each as a port has computed it, rounding included.
"""

from typing import Any

import numpy as np

from npmobilenet.exercises.exercise import Case, Draw, Exercise
from npmobilenet.exercises.layer_exercises import EPSILON, statistics
from npmobilenet.exercises.nested import plain
from npmobilenet.reference.activations import relu, relu6
from npmobilenet.reference.convolution import depthwise_conv2d, pointwise_conv2d
from npmobilenet.reference.normalization import batch_norm
from npmobilenet.types import Array, Padding

Layer = list[Any]  # [name, kind, params]
VISIBLE = 1e-2  # of a layer's largest value: what a mistake changes at least, a hundred times more than rounding does


def layer_output(layer: Layer, x: Array, cause: str = "") -> Array:
    """What a layer computes, right or with one of `CAUSES`.

    Args:
        layer: (name, kind, params).
        x: (H, W, C) its input.
        cause: what is wrong; "" for nothing.
    """
    _, kind, params = layer
    if kind == "depthwise":
        w, stride = np.asarray(params[0], x.dtype), params[1]
        half = len(w) // 2
        padding: Padding = ((half, half), (half, half)) if cause == "symmetric padding" else "same"
        w = {"flipped kernel": w[::-1, ::-1], "transposed kernel": w.swapaxes(0, 1)}.get(cause, w)
        w = w[:, :, :1].repeat(w.shape[2], axis=2) if cause == "one filter for all channels" else w
        return depthwise_conv2d(x[None], w[..., None], stride=stride, padding=padding)[0]
    if kind == "pointwise":
        w = np.asarray(params[0], x.dtype)
        return pointwise_conv2d(x[None], w.T if cause == "transposed weights" else w)[0]
    if kind == "relu6":
        return relu(x) if cause == "ReLU for ReLU6" else relu6(x)
    gamma, beta, mean, var = (np.asarray(values, x.dtype) for values in params[:4])
    if cause == "mean forgotten":
        mean = np.zeros_like(mean)
    return batch_norm(x, gamma, beta, mean, var, epsilon=1e-5 if cause == "epsilon 1e-5" else params[4])


CAUSES = {
    "depthwise": ("symmetric padding", "flipped kernel", "transposed kernel", "one filter for all channels"),
    "batch_norm": ("epsilon 1e-5", "mean forgotten"),
    "relu6": ("ReLU for ReLU6",),
    "pointwise": ("transposed weights",),
}
"""What may be wrong with a layer of each kind."""


def find_the_mistake(x: Any, layers: list[Layer], values: list[Any]) -> tuple[str, str]:
    """Name of the first layer that is wrong on its own inputs, and the cause that explains its values."""
    inputs = [x, *values[:-1]]
    for layer, before, value in zip(layers, inputs, values, strict=True):
        before, value = np.asarray(before, np.float64), np.asarray(value, np.float64)
        if _distance(layer_output(layer, before), value) > VISIBLE / 10:
            return layer[0], min(CAUSES[layer[1]], key=lambda cause: _cause_distance(layer, before, value, cause))
    return "", ""


def _distance(a: Array, b: Array) -> float:
    """Largest difference, in units of the largest value; infinite for other shapes."""
    if a.shape != b.shape:
        return float("inf")
    return float(np.abs(a - b).max() / max(np.abs(a).max(), np.abs(b).max(), 1e-30))


def _cause_distance(layer: Layer, before: Array, value: Array, cause: str) -> float:
    return _distance(layer_output(layer, before, cause), value)


def _network(draw: Draw) -> list[Layer]:
    """Two depthwise separable blocks; the second has stride 2."""
    C = 4
    layers: list[Layer] = []
    for number, stride in enumerate((1, 2), 1):
        for kind, params in (
            ("depthwise", [draw.numbers(3, 3, C, unit=0.5), stride]),
            ("batch_norm", _small_variances(draw, C)),
            ("relu6", []),
            ("pointwise", [draw.reals(C, C)]),
            ("batch_norm", _small_variances(draw, C)),
            ("relu6", []),
        ):
            convolution = {"depthwise": f"conv_dw_{number}", "pointwise": f"conv_pw_{number}"}.get(kind)
            before = layers[-1][0].removesuffix("_bn") if layers else ""
            layers.append([convolution or before + {"batch_norm": "_bn", "relu6": "_relu"}[kind], kind, params])
    return layers


def _small_variances(draw: Draw, C: int) -> list[Any]:
    """Statistics with variances so small that epsilon matters, and a gamma that brings values to 6."""
    gamma, beta, mean, _, _ = statistics(draw, C, False)
    return [gamma, beta, mean, [(1 + draw.below(16)) / 256 for _ in range(C)], EPSILON]


def _pack(draw: Draw, kind: str, cause: str) -> list[Any] | None:
    """(x, layers, values) of a port with one mistake; None if it could not be told from rounding or other mistakes."""
    layers, x = _network(draw), draw.reals(8, 8, 4)
    possible = [k for k, layer in enumerate(layers) if layer[1] == kind and (cause != "symmetric padding" or k > 5)]
    broken = possible[draw.below(len(possible))]
    values: list[Array] = []
    y = np.asarray(x, np.float32)  # (8, 8, 4)
    for k, layer in enumerate(layers):
        right = layer_output(layer, y)
        y = layer_output(layer, y, cause if k == broken else "")
        if k == broken and not _is_plain(layer, values[-1] if values else np.asarray(x, np.float32), right, y):
            return None
        values.append(y)
    return [x, layers, plain(values)]


def _is_plain(layer: Layer, before: Array, right: Array, y: Array) -> bool:
    """Whether a mistake can be seen, and is not as well explained by another one of the same layer."""
    others = sorted(_cause_distance(layer, before, y, cause) for cause in CAUSES[layer[1]])
    return _distance(right, y) > VISIBLE and (len(others) == 1 or others[1] > VISIBLE)


def _pack_cases(draw: Draw) -> list[Case]:
    """A pack for each of six kinds of mistakes, in an order that is drawn."""
    chosen = [(kind, cause) for kind, causes in CAUSES.items() for cause in causes]
    chosen = [chosen.pop(draw.below(len(chosen))) for _ in range(6)]
    cases = []
    for kind, cause in chosen:
        pack = None
        while pack is None:
            pack = _pack(draw, kind, cause)
        cases.append(Case(f"a port of {len(pack[1])} layers with one mistake", pack))
    return cases


def _diagnosis(args: list, theirs: list) -> tuple[str, str] | None:
    """What is wrong with an answer, by the place of its layer."""
    x, layers, values = args
    layer, _ = find_the_mistake(x, layers, values)
    names = [each[0] for each in layers]
    if theirs[0] not in names:
        return None
    if theirs[0] == layer:
        return "other-cause", f"the layer is right, the cause is not: with {theirs[1]!r} it gives other values"
    if names.index(theirs[0]) > names.index(layer):
        return "inherits", f"{theirs[0]} is right on its own inputs; it inherits what an earlier layer has made wrong"
    return "rounding", f"{theirs[0]} is right on its own inputs; the difference is rounding"


def _pack_how(args: list, index: tuple, theirs: Any) -> list[str]:
    x, layers, values = args
    for k, layer in enumerate(layers):
        if layer[0] == theirs[0]:
            before, value = (np.asarray(v, np.float64) for v in ([x, *values][k], values[k]))
            off = _distance(layer_output(layer, before), value)
            return [
                f"{layer[0]}, computed from the port's own input, differs from its values by {off:.1e} of the largest"
            ]
    return [f"there is no layer {theirs[0]!r}; layers: {', '.join(layer[0] for layer in layers)}"]


FIND_THE_MISTAKE = Exercise(
    "find_the_mistake", 3, ("x", "layers", "values"), ("layer", "cause"), "returns (name of a layer, cause)",
    find_the_mistake, _pack_cases, [], _pack_how, diagnose=_diagnosis,
)  # fmt: skip
