"""One value of a float network from its terms, with the bound on its rounding."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from npmobilenet.errors import ArgumentError
from npmobilenet.models.model import Model
from npmobilenet.porting.explained_integers import Place, index_of
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import KernelLayer, Layer, Window
from npmobilenet.reference.layers import Conv2D, Dense, DepthwiseConv2D, Input
from npmobilenet.types import Array, Params


@dataclass(frozen=True)
class RealTerm:
    """One term of a value.

    Attributes:
        at: place in the input, without the batch axis.
        x: the input there.
        w: the weight, None where the layer has none.
        product: x w, exact to float64; or x.
        input: name of the layer that x comes from.
    """

    at: Place
    x: float
    w: float | None
    product: float
    input: str


@dataclass(frozen=True)
class ExplainedReal:
    """One value of a float network.

    Attributes:
        network, layer, type: names.
        at: place of the value in the layer's output, without the batch axis.
        terms: what it is made of, in the order of the kernel.
        outside: number of terms on padding, which add nothing.
        parameters: the layer's other numbers for this value: bias; mean, variance, ... of the channel.
        sum: of the terms and the bias, in float64, of a layer with a kernel.
        activation: applied to the sum.
        exact: the value in float64 from the same float32 inputs.
        value: as the reference computes it in float32.
        bound: on the difference of any float32 implementation from `exact`.
    """

    network: str
    layer: str
    type: str
    at: Place
    terms: tuple[RealTerm, ...]
    outside: int
    parameters: Mapping[str, float] = field(default_factory=dict)
    sum: float | None = None
    activation: str = ""
    exact: float = 0.0
    value: float = 0.0
    bound: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The attributes, for a JSON document."""
        return asdict(self)


def explain_real(model: Model, x: Array, name: str, at: Place) -> ExplainedReal:
    """One value of a layer's output, for one image.

    Args:
        model: the network.
        x: (1, H, W, C) its scaled input.
        name: of the layer.
        at: (Y, X, C) of the value; (0, 0, C) of a vector.

    Raises:
        ArgumentError: there is no such layer, or the place is outside its output.
    """
    graph = model.graph
    if name not in graph.shapes:
        raise ArgumentError(f"{graph.name}: no layer {name!r}")
    layer = graph[name]
    outputs = _outputs(model, np.asarray(x, np.float32), layer)
    y = outputs[name]
    index = index_of(y.shape, at, name)
    if isinstance(layer, Input):
        return ExplainedReal(
            graph.name, name, layer.type, index[1:], (), 0, exact=float(y[index]), value=float(y[index])
        )
    params = {array: values.astype(np.float64) for array, values in graph.arrays_of(layer, model.params).items()}
    inputs = {source: outputs[source].astype(np.float64) for source in layer.inputs}
    exact = layer.apply(params, *inputs.values())[index]
    bound = layer.error_bound(params, *inputs.values())[index]
    terms, outside = _terms(graph, layer, params, inputs, index)
    parameters = {
        array: float(values[index[-1]])
        for array, values in params.items()
        if values.ndim == 1 and index[-1] < len(values)
    }
    total, activation = None, ""
    if isinstance(layer, KernelLayer):
        total, activation = float(layer.linear(params, *inputs.values())[index]), layer.activation
    return ExplainedReal(
        graph.name, name, layer.type, tuple(index[1:]), terms, outside, parameters, total, activation, float(exact),
        float(y[index]), float(bound),
    )  # fmt: skip


def _outputs(model: Model, x: Array, last: Layer) -> dict[str, Array]:
    """Outputs of the layer and of those that it reads."""
    kept = {}
    for name, y in model.trace(x):
        if name == last.name or name in last.inputs:
            kept[name] = y
        if name == last.name:
            break
    return kept


def _terms(
    graph: Graph, layer: Layer, params: Params, inputs: Mapping[str, Array], index: Place
) -> tuple[tuple[RealTerm, ...], int]:
    """What a value is made of, and the number of terms on padding."""
    source = layer.inputs[0]
    x = inputs[source]
    if isinstance(layer, Window):
        return _window_terms(graph, layer, params, x, index)
    if isinstance(layer, Dense):
        w = params["kernel"]
        flat = enumerate(x[index[:-1]])
        return tuple(
            RealTerm((*index[1:-1], k), float(a), float(w[k, index[-1]]), float(a * w[k, index[-1]]), source)
            for k, a in flat
        ), 0
    if x.ndim == 4 and layer.gives_vector(x.shape[1:]):
        c = index[-1]
        places = ((r, q, c) for r in range(x.shape[1]) for q in range(x.shape[2]))
        return tuple(_plain(source, x, at) for at in places), 0
    same = [(name, values) for name, values in inputs.items() if values.ndim == len(index)]
    return tuple(_plain(name, v, _place(v, index)) for name, v in same if _fits(v, index)), 0


def _window_terms(
    graph: Graph, layer: Window, params: Params, x: Array, index: Place
) -> tuple[tuple[RealTerm, ...], int]:
    source, c = layer.inputs[0], index[3]
    (top, _), (left, _) = layer.zeros(graph.input_shapes(layer)[0])
    dilation = getattr(layer, "dilation", 1)
    rows, columns = layer.kernel_size
    terms: list[RealTerm] = []
    outside = 0
    for u in range(rows):
        for v in range(columns):
            row, column = index[1] * layer.stride + u * dilation - top, index[2] * layer.stride + v * dilation - left
            weights = _weights(layer, params, x, (u, v), c)
            if not (0 <= row < x.shape[1] and 0 <= column < x.shape[2]):
                outside += len(weights)
                continue
            for k, w in weights:
                a = float(x[0, row, column, k])
                terms.append(RealTerm((row, column, k), a, w, a if w is None else a * w, source))
    return tuple(terms), outside


def _weights(layer: Window, params: Params, x: Array, tap: Place, c: int) -> list[tuple[int, float | None]]:
    """(channel of the input, weight) of every term at one tap; pools have no weights."""
    if isinstance(layer, DepthwiseConv2D):
        m = params["kernel"].shape[3]
        return [(c // m, float(params["kernel"][(*tap, c // m, c % m)]))]
    if isinstance(layer, Conv2D):
        w = params["kernel"]  # (K_h, K_w, c_in / groups, c_out)
        first = c // (w.shape[3] * w.shape[2] // x.shape[3]) * w.shape[2]
        return [(first + k, float(w[(*tap, k, c)])) for k in range(w.shape[2])]
    return [(c, None)]


def _plain(source: str, x: Array, at: Place) -> RealTerm:
    value = float(x[(0, *at)])
    return RealTerm(at, value, None, value, source)


def _place(x: Array, index: Place) -> Place:
    """The place in an input that is broadcast to the output."""
    return tuple(0 if side == 1 else i for i, side in zip(index[1:], x.shape[1:], strict=True))


def _fits(x: Array, index: Place) -> bool:
    return all(i < side or side == 1 for i, side in zip(index[1:], x.shape[1:], strict=True))
