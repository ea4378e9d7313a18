"""A network as a list of layers: the one place that knows its shapes, parameters, multiply-adds and arithmetic.

A `Graph` holds layers in an order in which they can be computed, one input, and one or several outputs. Running a
network, counting it, checking its weights and compiling it are loops over this list.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any
from warnings import warn

from npmobilenet.errors import ShapeError
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Input
from npmobilenet.reference.serialization import layer_from_json, layer_to_json
from npmobilenet.types import Array, Outputs, Params, Shape


@dataclass(frozen=True)
class Graph:
    """Layers in an order in which they can be computed; the first is the only `Input`.

    Attributes:
        name: of the network.
        layers: in order.
        outputs: (name of the output, name of the layer that computes it), in order; by default the last layer, under
            its own name. Other layers may read an output too, and one layer may be several outputs.

    Raises:
        ShapeError: a name is used twice, an input is not defined before the layer, a layer is neither read nor an
            output, shapes do not fit, or a side of an output or parameter would be 0.
        ArgumentError: a field of a layer is out of range, such as an unknown activation.
    """

    name: str
    layers: tuple[Layer, ...]
    outputs: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.outputs and self.layers:
            object.__setattr__(self, "outputs", ((self.layers[-1].name, self.layers[-1].name),))
        _check_wiring(self)
        _check_sides(self)

    def __getitem__(self, name: str) -> Layer:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    @property
    def input_shape(self) -> Shape:
        """(H, W, C) of one image."""
        return self.shapes[self.layers[0].name]

    @property
    def output_shape(self) -> Shape:
        """Shape of the only output, without the batch axis.

        Raises:
            ShapeError: there are several; `output_shapes` has them all.
        """
        if len(self.outputs) > 1:
            raise ShapeError(f"{self.name}: expected one output, got {len(self.outputs)}: {self.output_names}")
        return self.shapes[self.outputs[0][1]]

    @cached_property
    def output_shapes(self) -> dict[str, Shape]:
        """Shape of every output by its name, without the batch axis."""
        return {name: self.shapes[layer] for name, layer in self.outputs}

    @cached_property
    def output_activations(self) -> dict[str, str]:
        """Activation of the layer that computes each output, by the output's name; "" if it has none."""
        return {name: getattr(self[layer], "activation", "") or "" for name, layer in self.outputs}

    @property
    def output_names(self) -> str:
        """Names of all outputs, separated by commas."""
        return ", ".join(name for name, _ in self.outputs)

    @cached_property
    def output_layers(self) -> tuple[str, ...]:
        """Names of the layers that compute the outputs, in the order of the outputs."""
        return tuple(layer for _, layer in self.outputs)

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Output shape of every layer, without the batch axis."""
        shapes: dict[str, Shape] = {}
        for layer in self.layers:
            shapes[layer.name] = layer.output_shape(*(shapes[name] for name in layer.inputs))
        return shapes

    def input_shapes(self, layer: Layer) -> tuple[Shape, ...]:
        """Shapes of a layer's inputs, without the batch axis."""
        return tuple(self.shapes[name] for name in layer.inputs)

    def param_shapes_of(self, layer: Layer) -> dict[str, Shape]:
        """{"kernel": shape, ...} of one layer."""
        return layer.param_shapes(*self.input_shapes(layer))

    def arrays_of(self, layer: Layer, params: Params) -> dict[str, Array]:
        """{"kernel": array, ...} of one layer, out of `params`, the arrays by `layer/array`.

        Raises:
            KeyError: an array is missing.
        """
        return {array: params[f"{layer.name}/{array}"] for array in self.param_shapes_of(layer)}

    def macs_of(self, layer: Layer) -> int:
        """Multiply-adds of one layer per image."""
        return layer.macs(*self.input_shapes(layer))

    @cached_property
    def param_shapes(self) -> dict[str, Shape]:
        """Shape of every parameter by `layer/array`, in the order of the layers."""
        return {
            f"{layer.name}/{array}": shape
            for layer in self.layers
            for array, shape in self.param_shapes_of(layer).items()
        }

    @property
    def params(self) -> dict[str, Shape]:
        """Former name of `param_shapes`."""
        warn("Graph.params is now Graph.param_shapes", DeprecationWarning, stacklevel=2)
        return self.param_shapes

    @property
    def last_reader(self) -> dict[str, str]:
        """Former name of `last_use`."""
        warn("Graph.last_reader is now Graph.last_use", DeprecationWarning, stacklevel=2)
        return self.last_use

    @property
    def macs(self) -> int:
        """Multiply-adds of all kernels per image."""
        return sum(map(self.macs_of, self.layers))

    @property
    def total_params(self) -> int:
        """Number of parameters, moving statistics included: Keras's "Total params"."""
        return sum(map(prod, self.param_shapes.values()))

    @property
    def trainable_params(self) -> int:
        """Number of parameters that training changes by gradient: all but moving statistics."""
        return sum(
            prod(shape)
            for layer in self.layers
            for array, shape in self.param_shapes_of(layer).items()
            if array not in layer.non_trainable
        )

    @cached_property
    def last_use(self) -> dict[str, str]:
        """Name of the last layer that reads each layer; after that its output can be dropped."""
        return {name: layer.name for layer in self.layers for name in layer.inputs}

    @cached_property
    def embedding(self) -> str | None:
        """Name of the layer that turns the feature map into one vector per image, or None if no layer does.

        It is the last such layer that every path goes through: squeeze-and-excitation's pools have a path around them.
        An output that another layer reads, such as a feature map next to the classes, is no end of a path here.
        """
        ends = {layer for layer in self.output_layers if layer not in self.last_use}
        vectors = (layer.name for layer in self._cut_points(ends) if layer.gives_vector(*self.input_shapes(layer)))
        return next(vectors, None)

    @cached_property
    def cut_points(self) -> tuple[Layer, ...]:
        """The layers that every path from the input to an output goes through, the last one first."""
        return self._cut_points(set(self.output_layers))

    def _cut_points(self, ends: set[str]) -> tuple[Layer, ...]:
        """The layers that every path from the input to one of `ends` goes through, the last one first."""
        live: set[str] = set()
        found = []
        for layer in self.layers:
            live = {name for name in live if name in ends or self.last_use[name] != layer.name} | {layer.name}
            if live == {layer.name}:
                found.append(layer)
        return tuple(reversed(found))

    def run(self, params: Params, x: Array) -> Iterator[tuple[str, Array]]:
        """Every layer's output, computed by the reference.

        Args:
            params: arrays by `layer/array`, of the dtype of x.
            x: (N, H, W, C) scaled images. H and W may differ from `input_shape` if no layer fixes them.

        Yields:
            (layer name, output (N, ...)) in order; an output is dropped after its last use.

        Raises:
            ShapeError: x does not fit.
        """
        self._check_input(x)
        live: dict[str, Array] = {}
        for layer in self.layers:
            live[layer.name] = (
                layer.apply(self.arrays_of(layer, params), *(live[name] for name in layer.inputs))
                if layer.inputs
                else x
            )
            yield layer.name, live[layer.name]
            for name in layer.inputs:
                if self.last_use[name] == layer.name:
                    live.pop(name, None)

    def output(self, params: Params, x: Array) -> Outputs:
        """The network's output, (N, *output_shape), or {name: output} if it has several; otherwise as `run`."""
        return self.result({name: y for name, y in self.run(params, x) if name in self.output_layers})

    def result(self, values: Mapping[str, Array]) -> Outputs:
        """The output of the network, or {name: output} if it has several, from values by the name of the layer."""
        if len(self.outputs) == 1:
            return values[self.output_layers[0]]
        return {name: values[layer] for name, layer in self.outputs}

    def _check_input(self, x: Array) -> None:
        if x.ndim != 4 or x.shape[3] != self.input_shape[2]:
            sides = ", ".join(map(str, self.input_shape))
            raise ShapeError(f"{self.name}: expected x of shape (N, {sides}), got {x.shape}")
        if x.shape[1:] != self.input_shape:
            self.with_input(*x.shape[1:3])

    def with_input(self, H: int, W: int) -> "Graph":
        """The same layers for images of H x W pixels.

        Raises:
            ShapeError: a layer fixes the size (a Reshape, or a Dense after a Flatten, changes its parameters).
        """
        entry = Input(name=self.layers[0].name, shape=(H, W, self.input_shape[2]))
        graph = replace(self, layers=(entry, *self.layers[1:]))
        if graph.param_shapes != self.param_shapes:
            raise ShapeError(f"{self.name}: its weights fix the input size at {self.input_shape[:2]}, got {(H, W)}")
        return graph

    def to_json(self) -> dict[str, Any]:
        """The graph as a JSON document, which `from_json` reads."""
        document = {"name": self.name, "layers": [layer_to_json(layer) for layer in self.layers]}
        last = self.layers[-1].name
        return document if self.outputs == ((last, last),) else document | {"outputs": dict(self.outputs)}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Graph":
        """The graph of a document of `to_json`.

        Raises:
            ShapeError: a layer type or field is unknown, a field is missing, or the graph is invalid.
        """
        try:
            layers = tuple(map(layer_from_json, document["layers"]))
            return Graph(str(document["name"]), layers, tuple(document.get("outputs", {}).items()))
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            if isinstance(error, ShapeError):
                raise
            raise ShapeError(f"not a graph: {type(error).__name__}: {error}") from error


def _check_wiring(graph: Graph) -> None:
    if not graph.layers or not isinstance(graph.layers[0], Input):
        raise ShapeError(f"{graph.name}: the first layer of a graph must be its Input")
    defined: set[str] = set()
    for layer in graph.layers:
        if layer.name in defined:
            raise ShapeError(f"{graph.name}: two layers have the name {layer.name}")
        missing = [name for name in layer.inputs if name not in defined]
        if missing:
            raise ShapeError(f"{layer.name}: input {', '.join(missing)} is not defined before this layer")
        if len(layer.inputs) < 2 if layer.arity is None else len(layer.inputs) != layer.arity:
            raise ShapeError(f"{layer.name}: expected {_arity(layer)} for {layer.type}, got {len(layer.inputs)}")
        layer.check()
        if isinstance(layer, Input) and defined:
            raise ShapeError(f"{layer.name}: a second Input; a graph has one, its first layer")
        defined.add(layer.name)
    _check_outputs(graph, defined)
    unread = defined - graph.last_use.keys() - set(graph.output_layers)
    if unread:
        raise ShapeError(f"{graph.name}: no layer reads {', '.join(sorted(unread))}, which is not an output")


def _check_outputs(graph: Graph, defined: set[str]) -> None:
    missing = [f"{name!r} of layer {layer!r}" for name, layer in graph.outputs if layer not in defined]
    if missing:
        raise ShapeError(f"{graph.name}: output {', '.join(missing)}: no such layer")
    names = [name for name, _ in graph.outputs]
    if len(set(names)) < len(names) or not all(isinstance(name, str) and name for name in names):
        raise ShapeError(f"{graph.name}: expected outputs with distinct names, got {names}")


def _check_sides(graph: Graph) -> None:
    for name, shape in (graph.shapes | graph.param_shapes).items():
        if min(shape, default=1) < 1:
            raise ShapeError(f"{name}: expected sides of at least 1, got {shape}")


def _arity(layer: Layer) -> str:
    return {None: "two or more inputs", 0: "no input", 1: "one input", 2: "two inputs"}[layer.arity]
