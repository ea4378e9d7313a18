"""Growth of rounding errors through a network: measured errors, and bounds.

For every layer, from the same scaled image:

    computed     the reference in float32
    exact        the reference in float64, whose own rounding, 2**-29 of float32's, is neglected
    bound        on |computed - exact|, with the errors of all earlier layers at their worst
    own_bound    on the layer's own rounding: on the difference from the exact result for its float32 inputs

`bound` is proven but uninformative after about ten layers: real errors have either sign and mostly cancel. `own_bound`
stays sharp at any depth, so ports are judged layer by layer, on the layer's own inputs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.analysis.drawing import new_figure, save_figure
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Input
from npmobilenet.types import Array, Params, Shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "bound": "bound since the input",
    "own_bound": "bound of the layer alone",
    "measured": "measured, float32 vs. float64",
    "x": "layer",
    "y": "error / largest value of the layer",
}
"""Texts of the figure."""


@dataclass(frozen=True, eq=False)
class TracedLayer:
    """One layer's output, (N, ...) each; see the module's docstring."""

    layer: Layer
    computed: Array
    exact: Array
    bound: Array
    own_bound: Array

    def error(self) -> "LayerError":
        """The maximum of each over all values."""
        return LayerError(
            name=self.layer.name,
            type=self.layer.type,
            shape=self.exact.shape[1:],
            largest=_largest(self.exact),
            measured=_largest(self.computed - self.exact),
            own_bound=_largest(self.own_bound),
            bound=_largest(self.bound),
        )


@dataclass(frozen=True)
class LayerError:
    """Maximum value, error and error bounds of a layer, all absolute.

    Attributes:
        name, type, shape: of the layer; the shape is that of its output without the batch axis.
        largest: maximum absolute value of the exact output.
        measured: maximum |float32 - exact|.
        own_bound: on the layer's own rounding.
        bound: on the accumulated error since the input.
    """

    name: str
    type: str
    shape: Shape
    largest: float
    measured: float
    own_bound: float
    bound: float

    def to_json(self) -> dict[str, Any]:
        """The attributes, for a JSON document."""
        return asdict(self)


def network_bounds(
    graph: Graph, params: Params, x: Array, *, dtype: DTypeLike = np.float32
) -> Iterator[tuple[str, Array, Array]]:
    """Exact output of every layer, and a bound on the error of arithmetic in `dtype`, accumulated since the input.

    The bound of a layer includes the worst errors of all layers before it: through a convolution it grows by the sum of
    |w|, so after ten layers it is far above the actual error, which is random. For a sharp check of one layer call
    `Layer.error_bound` with the inputs that the layer really had.

    Args:
        graph: the network.
        params: arrays by `layer/array`, exact as they are stored.
        x: (N, H, W, C) scaled images, exact.
        dtype: of the arithmetic that the bound is for.

    Yields:
        (layer name, output in float64, bound on the error) in order; each is dropped after its last use.

    Raises:
        ShapeError: x does not fit.
    """
    params64 = {name: np.asarray(values, np.float64) for name, values in params.items()}
    exact: dict[str, Array] = {}
    errors: dict[str, Array] = {}
    for name, y in graph.run(params64, np.asarray(x, np.float64)):
        layer, exact[name] = graph[name], y
        errors[name] = np.zeros(y.shape)
        if layer.inputs:
            errors[name] = layer.error_bound(
                graph.arrays_of(layer, params64),
                *(exact[source] for source in layer.inputs),
                input_bounds=[errors[source] for source in layer.inputs],
                dtype=dtype,
            )
        yield name, y, errors[name]
        for source in layer.inputs:
            if graph.last_use[source] == name:
                exact.pop(source, None)
                errors.pop(source, None)


def traced_layers(graph: Graph, params: Params, x: Array) -> Iterator[TracedLayer]:
    """Compute every layer in float32 and float64, with its bounds.

    Args:
        graph: the network.
        params: float32 arrays by `layer/array`.
        x: (N, H, W, C) scaled images, rounded to float32, from which both computations start.

    Yields:
        One `TracedLayer` per layer, in order; arrays are freed after their last use.

    Raises:
        ShapeError: x has the wrong shape.
    """
    x = np.asarray(x, np.float32)
    live: dict[str, Array] = {}
    computed = graph.run({name: values.astype(np.float32, copy=False) for name, values in params.items()}, x)
    for (name, y), (_, exact, bound) in zip(computed, network_bounds(graph, params, x), strict=True):
        layer = graph[name]
        live[name] = y
        yield TracedLayer(layer, y, exact, bound, _own_bound(graph, params, layer, live))
        for source in layer.inputs:
            if graph.last_use[source] == name:
                live.pop(source, None)


def error_growth(graph: Graph, params: Params, x: Array) -> Iterator[LayerError]:
    """Error and error bounds of every layer, in order; arguments and errors as `traced_layers`."""
    return (traced.error() for traced in traced_layers(graph, params, x))


def draw_growth(errors: Iterable[LayerError], path: str | PathLike[str], title: str = "") -> None:
    """Draw errors and bounds over the layers, on a logarithmic scale, relative to the largest value of each layer.

    Args:
        errors: of the layers, in order.
        path: output file; its suffix (.png, .svg, .pdf) is the format.
        title: of the figure.

    Raises:
        NpMobileNetError: matplotlib is not installed, or does not support the format.
    """
    save_figure(_figure(list(errors), title), path)


def _own_bound(graph: Graph, params: Params, layer: Layer, live: Params) -> Array:
    if isinstance(layer, Input):
        return np.zeros(live[layer.name].shape)
    arrays = graph.arrays_of(layer, params)
    return layer.error_bound(arrays, *(live[source] for source in layer.inputs))


def _largest(values: Array) -> float:
    return float(np.abs(values).max(initial=0.0))


def plot_growth(axes: "Axes", layers: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> None:
    """Plot errors and bounds over the layers on axes, relative to the largest value of each layer.

    Args:
        axes: empty ones.
        layers: as `LayerError.to_json`, in order.
        labels: texts for "bound", "own_bound", "measured", and the axes "x" and "y".
    """
    largest = np.maximum([layer["largest"] for layer in layers], np.finfo(np.float32).tiny)
    for curve, look in (("bound", "-"), ("own_bound", "--"), ("measured", "-.")):
        relative = np.array([layer[curve] for layer in layers]) / largest
        values = np.where(relative > 0, relative, np.nan)  # no zeros on a log scale
        axes.plot(values, look, label=labels[curve], marker=".", linewidth=1)
    axes.set(yscale="log", xlabel=labels["x"], ylabel=labels["y"])
    axes.grid(alpha=0.3)
    axes.legend()


def _figure(errors: list[LayerError], title: str) -> "Figure":
    figure = new_figure()
    axes = figure.subplots()
    plot_growth(axes, [error.to_json() for error in errors], LABELS)
    axes.set_title(title)
    return figure
