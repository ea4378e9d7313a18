"""An independent port of MobileNet with injected mistakes, to test the diagnosis.

It shares no arithmetic with `npmobilenet.reference`, nor with the diagnosis: convolutions are sums over sliding
windows, padding is computed here. A `Mistake` is made in one layer, as it would be in the source code of a port.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array, Padding, Pair, Params


@dataclass(frozen=True)
class Mistake:
    """A kind of mistake and the layer in which it is made; `number` is the parameter of the mistake, if any."""

    kind: str
    layer: str
    number: float = 0.0


def run(graph: Graph, params: Params, x: Array, mistake: Mistake | None = None) -> dict[str, Array]:
    """Every layer's output in float32 by name, one mistake included."""
    outputs: dict[str, Array] = {}
    for layer in graph.layers:
        wrong = mistake if mistake is not None and mistake.layer == layer.name else None
        p = {name.rpartition("/")[2]: a for name, a in params.items() if name.rpartition("/")[0] == layer.name}
        if layer.type == "Input":
            y = x
        else:
            y = compute(layer, p, [outputs[name] for name in layer.inputs], wrong, outputs, graph)
        outputs[layer.name] = y.astype(np.float32)
    return outputs


def compute(layer: Any, p: Params, xs: Sequence[Array], wrong: Mistake | None, outputs: Params, graph: Graph) -> Array:
    """One layer's output, with the mistake if there is one."""
    kind, number = (wrong.kind, wrong.number) if wrong else ("", 0)
    p = {name: changed_array(layer, name, p, kind, number) for name in p}
    x = xs[0]
    if kind in ("missing batch norm", "no activation", "missing softmax"):
        if layer.type == "Dense":
            return x @ p["kernel"] + p["bias"]
        return x
    if kind == "missing residual":
        return xs[int(number)]
    if kind == "missing gate":
        return x
    y: Array = LAYERS[layer.type](layer, p, xs, kind, number)
    if kind == "doubled softmax":
        y = softmax(y)
    if kind == "relu6 after a linear layer":
        y = np.clip(y, 0, 6)
    if kind == "old hard sigmoid":
        y = np.clip(0.2 * hard_sigmoid_input(graph, layer, outputs) + 0.5, 0, 1)
    if kind == "float16 activations":
        y = y.astype(np.float16)
    if kind == "bfloat16 activations":
        y = bfloat16(y)
    if kind == "channels first in the shape of channels last":
        y = np.ascontiguousarray(np.moveaxis(y, 3, 1)).reshape(y.shape)
    if kind == "classes off by one":
        y = np.concatenate([np.zeros_like(y[:, :1]), y[:, :-1]], axis=1)
    return y


def changed_array(layer: Any, name: str, p: Params, kind: str, number: float) -> Array:
    a = p[name]
    exchanged = {
        "gamma and beta exchanged": {"gamma": "beta", "beta": "gamma"},
        "mean and variance exchanged": {"moving_mean": "moving_variance", "moving_variance": "moving_mean"},
    }.get(kind, {})
    if name in exchanged and exchanged[name] in p:
        return p[exchanged[name]]
    if kind == "missing bias" and name == "bias":
        return np.zeros_like(a)
    if kind == "float16 weights":
        return a.astype(np.float16).astype(np.float32)
    if kind == "bfloat16 weights":
        return bfloat16(a)
    if name != "kernel":
        return a
    if kind == "kernel flipped":
        return np.flip(a, (0, 1))
    if kind == "kernel height and width exchanged":
        return np.swapaxes(a, 0, 1)
    if kind == "kernel c_in and c_out exchanged":
        return np.swapaxes(a, -1, -2)
    if kind == "kernel stored as OIHW":
        return np.ravel(np.moveaxis(a, (3, 2), (0, 1))).reshape(a.shape)
    if kind == "depthwise permuted":
        return a[:, :, np.random.default_rng(int(number)).permutation(a.shape[2])]
    if kind == "depthwise reversed":
        return a[:, :, ::-1]
    return a


def bfloat16(a: Array) -> Array:
    """Rounded to bfloat16 by comparing both neighbors, ties to even; another algorithm than the package's."""
    a = np.ascontiguousarray(a, np.float32)
    below = (a.view(np.uint32) & 0xFFFF0000).astype(np.uint32)
    above = (below + np.uint32(0x10000)).astype(np.uint32)
    low, high = below.view(np.float32).astype(np.float64), above.view(np.float32).astype(np.float64)
    nearer_high = np.abs(high - a) < np.abs(a - low)
    tie = np.abs(high - a) == np.abs(a - low)
    take_high = nearer_high | (tie & ((below >> 16) % 2 == 1))
    return np.where(take_high, high, low).astype(np.float32)


def pads(layer: Any, size: Sequence[int], kind: str) -> tuple[Pair, Pair]:
    """Zeros before and after each axis, as TensorFlow's SAME, or the symmetric mistake."""
    padding: Padding = layer.padding
    if not isinstance(padding, str):
        return padding
    if layer.padding == "valid":
        return ((0, 0), (0, 0))
    found = []
    for n, K in zip(size, layer.kernel_size, strict=True):
        total = max((-(-n // layer.stride) - 1) * layer.stride + K - n, 0)
        found.append((K // 2, K // 2) if kind == "symmetric padding" else (total // 2, total - total // 2))
    return found[0], found[1]


def windows(layer: Any, x: Array, kind: str) -> Array:
    """(N, H_out, W_out, C, K_h, K_w)."""
    zeros = pads(layer, x.shape[1:3], kind)
    mode: Literal["edge", "constant"] = "edge" if kind == "padding repeats the border" else "constant"
    x = np.pad(x, ((0, 0), *zeros, (0, 0)), mode=mode)
    if kind == "one pixel later":  # the first window starts one row and one column later; zeros are added at the end
        x = np.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)))
    found = sliding_window_view(x, layer.kernel_size, axis=(1, 2))
    return found[:, :: layer.stride, :: layer.stride]


def convolution(layer: Any, p: Params, xs: Sequence[Array], kind: str, number: float) -> Array:
    y = np.tensordot(windows(layer, xs[0], kind), p["kernel"], axes=((3, 4, 5), (2, 0, 1)))
    return activate(layer.activation, y + p.get("bias", np.float32(0)))


def depthwise(layer: Any, p: Params, xs: Sequence[Array], kind: str, number: float) -> Array:
    y = np.einsum("nijcuv,uvcm->nijcm", windows(layer, xs[0], kind), p["kernel"], optimize=True)
    return activate(layer.activation, y.reshape(*y.shape[:3], -1) + p.get("bias", np.float32(0)))


def dense(layer: Any, p: Params, xs: Sequence[Array], kind: str, number: float) -> Array:
    return activate(layer.activation, xs[0] @ p["kernel"] + p.get("bias", np.float32(0)))


def batch_norm(layer: Any, p: Params, xs: Sequence[Array], kind: str, number: float) -> Array:
    epsilon = np.float32(number if kind == "epsilon" else layer.epsilon)
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = p["moving_variance"] + epsilon
        if kind != "variance taken for deviation":
            deviation = np.sqrt(deviation)
        factor = p.get("gamma", np.float32(1)) / deviation
    with np.errstate(invalid="ignore", over="ignore"):
        return xs[0] * factor + (p.get("beta", np.float32(0)) - p["moving_mean"] * factor)


def zeros_around(layer: Any, p: Params, xs: Sequence[Array], kind: str, number: float) -> Array:
    zeros = layer.padding
    if kind == "symmetric padding":
        side = max(max(pair) for pair in zeros)
        zeros = ((side, side), (side, side))
    return np.pad(xs[0], ((0, 0), *zeros, (0, 0)))


def function(layer: Any, p: Params, xs: Sequence[Array], kind: str, number: float) -> Array:
    other = {"relu for relu6": "relu", "relu6 for relu": "relu6", "old hard swish": "old hard_swish"}
    return activate(other.get(kind, layer.activation), xs[0])


def activate(name: str, x: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        if name == "linear":
            return x
        if name == "relu":
            return np.where(x < 0, np.float32(0), x)
        if name == "relu6":
            return clip(x, 6)
        if name == "hard_swish":
            return x * clip(x / np.float32(6) + np.float32(0.5), 1)
        if name == "old hard_swish":
            return x * clip(np.float32(0.2) * x + np.float32(0.5), 1)
        if name == "softmax":
            return softmax(x)
    raise NotImplementedError(name)


def clip(x: Array, limit: int) -> Array:
    y: Array = np.clip(x, 0, limit)
    return y


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    y: Array = e / e.sum(-1, keepdims=True)
    return y


def hard_sigmoid_input(graph: Graph, layer: Any, outputs: Params) -> Array:
    """x of relu6(x + 3) / 6 spelled as three layers, of which `layer` is the last."""
    clip = graph[layer.inputs[0]]
    return outputs[graph[clip.inputs[0]].inputs[0]]


def mean(layer: Any, p: Params, xs: Sequence[Array], kind: str, number: float) -> Array:
    total: Array = xs[0].sum((1, 2), keepdims=layer.keepdims)
    pixels = xs[0].shape[1] * xs[0].shape[2]
    return total / np.float32(number if kind == "mean divided wrongly" else pixels)


LAYERS: dict[str, Callable[[Any, Params, Sequence[Array], str, float], Array]] = {
    "Conv2D": convolution,
    "DepthwiseConv2D": depthwise,
    "Dense": dense,
    "BatchNormalization": batch_norm,
    "ZeroPadding2D": zeros_around,
    "Activation": function,
    "GlobalAveragePooling2D": mean,
    "Rescaling": lambda layer, p, xs, kind, number: xs[0] * np.float32(layer.scale) + np.float32(layer.offset),
    "Add": lambda layer, p, xs, kind, number: xs[0] + xs[1],
    "Multiply": lambda layer, p, xs, kind, number: xs[0] * xs[1],
    "Reshape": lambda layer, p, xs, kind, number: xs[0].reshape(len(xs[0]), *layer.target_shape),
    "Flatten": lambda layer, p, xs, kind, number: xs[0].reshape(len(xs[0]), -1),
    "Dropout": lambda layer, p, xs, kind, number: xs[0],
}
