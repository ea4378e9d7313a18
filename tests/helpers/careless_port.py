"""Some seventy kinds of mistakes that people make, in a port that shares no code with the explanations of them.

`port.run` computes; a kind replaces the output of one layer. The kinds of `BEFORE` were known when the explanations
were written, those of `AFTER` were written when these were finished.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array, Params
from tests.helpers import port


@dataclass(frozen=True)
class Here:
    """Where a mistake is made: a layer, its arrays, its inputs, and everything computed before."""

    graph: Graph
    layer: Any
    p: dict[str, Array]
    xs: list[Array]
    outputs: dict[str, Array]
    params: Params
    rng: np.random.Generator

    def right(self, **arrays: Array) -> Array:
        """What the layer should compute, or would with other arrays."""
        return port.compute(self.layer, {**self.p, **arrays}, self.xs, None, self.outputs, self.graph)

    def on(self, *xs: Array) -> Array:
        """The layer on other inputs."""
        return port.compute(self.layer, self.p, list(xs), None, self.outputs, self.graph)

    def twin(self) -> dict[str, Array]:
        """The arrays of another layer of the same type and shapes."""
        others = [y for y in self.graph.layers if y.name != self.layer.name and y.type == self.layer.type]
        own = self.graph.param_shapes_of(self.layer)
        others = [y for y in others if self.graph.param_shapes_of(y) == own]
        return arrays_of(self.params, others[int(self.rng.integers(len(others)))].name)


@dataclass(frozen=True)
class Kind:
    """A kind of mistake: where it can be made, how, and the causes that name it."""

    where: Callable[[Graph, Any], bool]
    make: Callable[[Here], Array]
    causes: frozenset[str]


def arrays_of(params: Params, layer: str) -> dict[str, Array]:
    return {name.rpartition("/")[2]: a for name, a in params.items() if name.rpartition("/")[0] == layer}


def run(graph: Graph, params: Params, x: Array, kind: Kind, at: str, seed: int = 0) -> dict[str, Array]:
    """Every layer's output in float32, with a mistake in layer `at`."""
    outputs: dict[str, Array] = {}
    for layer in graph.layers:
        if layer.type == "Input":
            outputs[layer.name] = x.astype(np.float32)
            continue
        here = Here(
            graph, layer, arrays_of(params, layer.name), [outputs[name] for name in layer.inputs], outputs, params,
            np.random.default_rng(seed),
        )  # fmt: skip
        with np.errstate(all="ignore"):
            y = kind.make(here) if layer.name == at else here.right()
        outputs[layer.name] = y.astype(np.float32)
    return outputs


def is_type(*types: str) -> Callable[[Graph, Any], bool]:
    return lambda graph, layer: layer.type in types


CONV, DW, BN, ADD = is_type("Conv2D"), is_type("DepthwiseConv2D"), is_type("BatchNormalization"), is_type("Add")
DENSE, MEAN = is_type("Dense"), is_type("GlobalAveragePooling2D")
WEIGHTED = is_type("Conv2D", "DepthwiseConv2D", "Dense")


def relu6(graph: Graph, layer: Any) -> bool:
    return layer.type == "Activation" and layer.activation == "relu6" and graph[layer.inputs[0]].type != "Rescaling"


def relu(graph: Graph, layer: Any) -> bool:
    return (
        layer.type == "Activation"
        and layer.activation in ("relu", "relu6")
        and graph[layer.inputs[0]].type != "Rescaling"
    )


def softmax(graph: Graph, layer: Any) -> bool:
    return getattr(layer, "activation", "") == "softmax"


def biased(graph: Graph, layer: Any) -> bool:
    return "bias" in graph.param_shapes_of(layer)


def twinned(type_: str) -> Callable[[Graph, Any], bool]:
    def found(graph: Graph, layer: Any) -> bool:
        own = graph.param_shapes_of(layer)
        return layer.type == type_ and any(
            y.name != layer.name and y.type == type_ and graph.param_shapes_of(y) == own for y in graph.layers
        )

    return found


def padded(graph: Graph, layer: Any) -> bool:
    return layer.type in ("Conv2D", "DepthwiseConv2D") and layer.padding == "same" and layer.kernel_size[0] > 1


def windowed(graph: Graph, layer: Any) -> bool:
    return layer.type in ("Conv2D", "DepthwiseConv2D") and layer.kernel_size[0] > 1


def strided(graph: Graph, layer: Any) -> bool:
    return padded(graph, layer) and layer.stride == 2


def wide(graph: Graph, layer: Any) -> bool:
    return layer.type in ("Conv2D", "DepthwiseConv2D", "BatchNormalization") and graph.shapes[layer.name][-1] > 4


def earlier_residual(graph: Graph, layer: Any) -> bool:
    return layer.type == "Add" and bool(list(same_shape_before(graph, layer)))


def same_shape_before(graph: Graph, layer: Any) -> Iterator[str]:
    for other in graph.layers:
        if other.name == layer.name:
            return
        if (
            other.name not in layer.inputs
            and graph.shapes[other.name] == graph.shapes[layer.name]
            and other.type == "Add"
        ) or (
            other.name not in layer.inputs
            and graph.shapes[other.name] == graph.shapes[layer.name]
            and other.type == "BatchNormalization"
        ):
            yield other.name


def sized(graph: Graph, layer: Any) -> bool:
    return layer.type == "GlobalAveragePooling2D" and min(graph.input_shapes(layer)[0][:2]) > 1


def exp_(x: Array) -> Array:
    y: Array = np.exp(x - x.max(-1, keepdims=True))
    return y


def logits(here: Here) -> Array:
    if here.layer.type == "Dense":
        return here.xs[0] @ here.p["kernel"] + here.p["bias"]
    return here.xs[0]


def normalized(here: Here, mean: Array, variance: Array) -> Array:
    y: Array = (here.xs[0] - mean) / np.sqrt(variance + here.layer.epsilon)
    return y * here.p.get("gamma", np.float32(1)) + here.p.get("beta", np.float32(0))


def padded_by(here: Here, value: float, mode: str = "constant") -> Array:
    """A SAME convolution around which stands another number than zero."""
    layer, x = here.layer, here.xs[0]
    zeros = port.pads(layer, x.shape[1:3], "")
    options = {"constant_values": value} if mode == "constant" else {}
    x = np.pad(x, ((0, 0), *zeros, (0, 0)), mode=mode, **options)  # type: ignore[call-overload]
    view = np.lib.stride_tricks.sliding_window_view(x, layer.kernel_size, axis=(1, 2))
    view = view[:, :: layer.stride, :: layer.stride]
    if layer.type == "Conv2D":
        y = np.tensordot(view, here.p["kernel"], axes=((3, 4, 5), (2, 0, 1)))
    else:
        y = np.einsum("nijcuv,uvcm->nijcm", view, here.p["kernel"]).reshape(*view.shape[:3], -1)
    return port.activate(layer.activation, y + here.p.get("bias", np.float32(0)))


def dilated_by_two(here: Here) -> Array:
    """Stride 2 and dilation 2, padded so that the output keeps its size."""
    layer, x = here.layer, here.xs[0]
    K = 2 * (layer.kernel_size[0] - 1) + 1
    pads = []
    for n in x.shape[1:3]:
        total = max((-(-n // layer.stride) - 1) * layer.stride + K - n, 0)
        pads.append((total // 2, total - total // 2))
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(x, (K, K), axis=(1, 2))[
        :, :: layer.stride, :: layer.stride, :, ::2, ::2
    ]
    if layer.type == "Conv2D":
        y = np.tensordot(view, here.p["kernel"], axes=((3, 4, 5), (2, 0, 1)))
    else:
        y = np.einsum("nijcuv,uvcm->nijcm", view, here.p["kernel"]).reshape(*view.shape[:3], -1)
    return port.activate(layer.activation, y + here.p.get("bias", np.float32(0)))


def kind(where: Callable[[Graph, Any], bool], make: Callable[[Here], Array], *causes: str) -> Kind:
    return Kind(where, make, frozenset(causes))


def zeroed(y: Array, where: Any) -> Array:
    y = y.copy()
    y[where] = 0
    return y


def drop_out(here: Here) -> Array:
    y = here.right()
    keep = here.rng.random(y.shape) > 0.2
    return np.where(keep, y / np.float32(0.8), 0)


def saturated(here: Here) -> Array:
    y = here.right()
    limit = np.quantile(np.abs(y), 0.97)
    return np.clip(y, -limit, limit)


BEFORE: dict[str, Kind] = {
    "weights of another convolution": kind(twinned("Conv2D"), lambda h: h.right(**h.twin()), "other-layer-weights"),
    "weights of another depthwise layer": kind(
        twinned("DepthwiseConv2D"), lambda h: h.right(**h.twin()), "other-layer-weights"
    ),
    "arrays of another batch norm": kind(
        twinned("BatchNormalization"), lambda h: h.right(**h.twin()), "other-layer-weights"
    ),
    "folded bias without its scale": kind(
        BN,
        lambda h: (
            h.xs[0] * (h.p.get("gamma", np.float32(1)) / np.sqrt(h.p["moving_variance"] + h.layer.epsilon))
            + h.p["beta"]
            - h.p["moving_mean"]
        ),
        "batch-norm-folding",
    ),
    "relu6 before the residual": kind(ADD, lambda h: h.xs[0] + np.clip(h.xs[1], 0, 6), "residual"),
    "residual from another block": kind(
        earlier_residual, lambda h: h.outputs[next(same_shape_before(h.graph, h.layer))] + h.xs[1], "residual"
    ),
    "residual shifted by a channel": kind(ADD, lambda h: np.roll(h.xs[0], 1, -1) + h.xs[1], "residual"),
    "mean of all but the last row and column": kind(sized, lambda h: h.on(h.xs[0][:, :-1, :-1]), "pooling"),
    "mean of one row": kind(sized, lambda h: h.on(h.xs[0][:, :1]), "pooling"),
    "dilation for stride": kind(strided, dilated_by_two, "dilation"),
    "softmax over the batch": kind(softmax, lambda h: np.ones_like(logits(h)), "softmax"),
    "log-softmax": kind(
        softmax,
        lambda h: logits(h) - logits(h).max(-1, keepdims=True) - np.log(exp_(logits(h)).sum(-1, keepdims=True)),
        "softmax",
    ),
    "softmax of base 2": kind(softmax, lambda h: port.softmax(logits(h) * np.float32(np.log(2))), "softmax"),
    "batch norm in training mode": kind(
        BN, lambda h: normalized(h, h.xs[0].mean((0, 1, 2)), h.xs[0].var((0, 1, 2))), "batch-norm-training"
    ),
    "dropout active": kind(is_type("Dropout"), drop_out, "dropout-active"),
    "padding by -1": kind(padded, lambda h: padded_by(h, -1.0), "padding-value"),
    "padding by 0.37": kind(padded, lambda h: padded_by(h, 0.37), "padding-value"),
    "output channels shifted by one": kind(CONV, lambda h: np.roll(h.right(), 1, -1), "channels-shifted"),
    "input channels shifted by one": kind(CONV, lambda h: h.on(np.roll(h.xs[0], -1, -1)), "channels-shifted"),
    "last channel not computed": kind(wide, lambda h: zeroed(h.right(), (..., -1)), "not-computed"),
    "ceiling of 5": kind(relu6, lambda h: np.clip(h.xs[0], 0, 5), "clipping"),
    "ceiling of 6.35": kind(relu6, lambda h: np.clip(h.xs[0], 0, np.float32(6.35)), "clipping"),
    "leaky relu": kind(relu, lambda h: np.where(h.xs[0] < 0, np.float32(0.01) * h.xs[0], h.right()), "leaky-relu"),
    "saturating sums": kind(CONV, saturated, "saturation"),
    "bias shifted by one": kind(biased, lambda h: h.right(bias=np.roll(h.p["bias"], 1)), "bias"),
    "beta shifted by one": kind(
        lambda g, y: BN(g, y) and "beta" in g.param_shapes_of(y),
        lambda h: h.right(beta=np.roll(h.p["beta"], 1)),
        "batch-norm-arrays",
    ),
    "last input channel left out": kind(
        CONV, lambda h: h.right(kernel=zeroed(h.p["kernel"], (..., -1, slice(None)))), "not-computed"
    ),
    "residual twice": kind(ADD, lambda h: 2 * h.xs[0] + h.xs[1], "residual"),
    "leaky relu of 0.3": kind(
        relu, lambda h: np.where(h.xs[0] < 0, np.float32(0.3) * h.xs[0], h.right()), "leaky-relu"
    ),
    "batch norm done twice": kind(BN, lambda h: h.on(h.right()), "layer-twice"),
    "relu before the batch norm": kind(BN, lambda h: h.on(np.maximum(h.xs[0], 0)), "order"),
    "kernel in 8 bits": kind(
        CONV,
        lambda h: h.right(
            kernel=np.rint(h.p["kernel"] / (np.abs(h.p["kernel"]).max() / 127)) * (np.abs(h.p["kernel"]).max() / 127)
        ),
        "quantized-weights",
    ),
    "last row not computed": kind(windowed, lambda h: zeroed(h.right(), (slice(None), -1)), "not-computed"),
}
