"""A network as a list of layers: the one place that knows shapes, parameters, multiply-adds and arithmetic.

A `Graph` holds layers in an order in which they can be computed, one input, one output. Each layer is a frozen
dataclass with the name that Keras gives it, the names of the layers that it reads, and its own fields; its four
methods say everything that is known about it:

    output_shape(*inputs)   shape of its output, without the batch axis
    param_shapes(*inputs)   {"kernel": (3, 3, 3, 32), ...}, in Keras's names and layouts
    macs(*inputs)           multiply-adds of its kernel for one image (bias, normalisation, activation not counted)
    apply(params, *arrays)  its output, by the functions of `ops`

where `inputs` are the shapes of what it reads. Running the network, counting it, checking weights, compiling it
are loops over this list.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property, reduce
from math import isfinite, prod
from operator import add, mul
from types import UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints
from warnings import warn

import numpy as np

from npmobilenet.errors import ShapeError
from npmobilenet.reference import ops
from npmobilenet.reference.shapes import resolve_padding, window_output
from npmobilenet.types import Array, Padding, Pair, Params, Shape

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "relu": ops.relu,
    "relu6": ops.relu6,
    "sigmoid": ops.sigmoid,
    "hard_sigmoid": ops.hard_sigmoid,
    "hard_swish": ops.hard_swish,
    "softmax": ops.softmax,
}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What every layer has. `arity` is the number of layers that it reads, None for two or more."""

    name: str
    inputs: tuple[str, ...] = ()

    arity: ClassVar[int | None] = 1
    non_trainable: ClassVar[frozenset[str]] = frozenset()

    def output_shape(self, *inputs: Shape) -> Shape:
        """Shape of the output, without the batch axis; by default that of the input."""
        return inputs[0]

    def param_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        """Shape of every parameter, in Keras's names, order and layouts."""
        return {}

    def macs(self, *inputs: Shape) -> int:
        """Multiply-adds of the kernel for one image."""
        return 0

    def apply(self, params: Params, *inputs: Array) -> Array:
        """The output, (N, *output_shape), computed by `ops`."""
        raise NotImplementedError

    @property
    def type(self) -> str:
        """The class name, as in Keras and in the file format."""
        return type(self).__name__


@dataclass(frozen=True, kw_only=True)
class Input(Layer):
    """Where the network begins: (H, W, C)."""

    shape: Shape

    arity: ClassVar[int | None] = 0

    def output_shape(self, *inputs: Shape) -> Shape:
        return self.shape


@dataclass(frozen=True, kw_only=True)
class Rescaling(Layer):
    """y = x * scale + offset, with two constants."""

    scale: float = 1.0
    offset: float = 0.0

    def apply(self, params: Params, *inputs: Array) -> Array:
        return ops.rescale(inputs[0], self.scale, self.offset)


@dataclass(frozen=True, kw_only=True)
class ZeroPadding2D(Layer):
    """Zeros around the map at ((top, bottom), (left, right))."""

    padding: tuple[Pair, Pair]

    def output_shape(self, *inputs: Shape) -> Shape:
        H, W, C = _map(self, inputs[0])
        return H + sum(self.padding[0]), W + sum(self.padding[1]), C

    def apply(self, params: Params, *inputs: Array) -> Array:
        return ops.zero_pad(inputs[0], self.padding)


@dataclass(frozen=True, kw_only=True)
class Window(Layer):
    """What layers with a sliding window share."""

    kernel_size: Pair
    stride: int = 1
    padding: Padding = "valid"

    def output_map(self, shape: Shape) -> Pair:
        """(H_out, W_out) for an input of (H, W, C)."""
        try:
            return window_output(_map(self, shape)[:2], self.kernel_size, self.stride, self.padding)
        except ShapeError as error:
            raise ShapeError(f"{self.name}: {error}") from None

    def zeros(self, shape: Shape) -> tuple[Pair, Pair]:
        """The padding as zeros at ((top, bottom), (left, right)), for an input of (H, W, C)."""
        return resolve_padding(self.padding, shape[:2], self.kernel_size, self.stride)


@dataclass(frozen=True, kw_only=True)
class Conv2D(Window):
    """Standard convolution, or pointwise where the kernel is 1 x 1."""

    filters: int
    use_bias: bool = True
    activation: str = "linear"

    @property
    def is_pointwise(self) -> bool:
        """Whether it mixes the channels of single pixels and nothing else."""
        return self.kernel_size == (1, 1) and self.stride == 1

    def output_shape(self, *inputs: Shape) -> Shape:
        return *self.output_map(inputs[0]), self.filters

    def param_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        c_in = _map(self, inputs[0])[2]
        return {"kernel": (*self.kernel_size, c_in, self.filters)} | _bias(self.use_bias, self.filters)

    def macs(self, *inputs: Shape) -> int:
        """H_out * W_out * K_h * K_w * c_in * c_out."""
        return prod(self.output_map(inputs[0])) * prod(self.param_shapes(*inputs)["kernel"])

    def apply(self, params: Params, *inputs: Array) -> Array:
        if self.is_pointwise and self.padding in ("same", "valid", ((0, 0), (0, 0))):
            y = ops.pointwise_conv2d(inputs[0], params["kernel"], params.get("bias"))
        else:
            y = ops.conv2d(inputs[0], params["kernel"], params.get("bias"), stride=self.stride, padding=self.padding)
        return ACTIVATIONS[self.activation](y)


@dataclass(frozen=True, kw_only=True)
class DepthwiseConv2D(Window):
    """One filter (or `depth_multiplier` filters) a channel; channels are not mixed."""

    depth_multiplier: int = 1
    use_bias: bool = True
    activation: str = "linear"

    def output_shape(self, *inputs: Shape) -> Shape:
        return *self.output_map(inputs[0]), inputs[0][2] * self.depth_multiplier

    def param_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        C = _map(self, inputs[0])[2]
        kernel = {"kernel": (*self.kernel_size, C, self.depth_multiplier)}
        return kernel | _bias(self.use_bias, C * self.depth_multiplier)

    def macs(self, *inputs: Shape) -> int:
        """H_out * W_out * K_h * K_w * C * depth_multiplier."""
        return prod(self.output_map(inputs[0])) * prod(self.param_shapes(*inputs)["kernel"])

    def apply(self, params: Params, *inputs: Array) -> Array:
        y = ops.depthwise_conv2d(
            inputs[0], params["kernel"], params.get("bias"), stride=self.stride, padding=self.padding
        )
        return ACTIVATIONS[self.activation](y)


@dataclass(frozen=True, kw_only=True)
class BatchNormalization(Layer):
    """y = gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta."""

    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True

    non_trainable: ClassVar[frozenset[str]] = frozenset({"moving_mean", "moving_variance"})

    def param_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        C = inputs[0][-1:]
        learned = ({"gamma": C} if self.scale else {}) | ({"beta": C} if self.center else {})
        return learned | {"moving_mean": C, "moving_variance": C}

    def apply(self, params: Params, *inputs: Array) -> Array:
        return ops.batch_norm(
            inputs[0],
            params.get("gamma"),
            params.get("beta"),
            params["moving_mean"],
            params["moving_variance"],
            epsilon=self.epsilon,
        )


@dataclass(frozen=True, kw_only=True)
class Activation(Layer):
    """A function of single values (softmax: of single rows), by its name in `ACTIVATIONS`."""

    activation: str

    def apply(self, params: Params, *inputs: Array) -> Array:
        return ACTIVATIONS[self.activation](inputs[0])


@dataclass(frozen=True, kw_only=True)
class GlobalAveragePooling2D(Layer):
    """Mean of every channel over its map."""

    keepdims: bool = False

    def output_shape(self, *inputs: Shape) -> Shape:
        C = _map(self, inputs[0])[2]
        return (1, 1, C) if self.keepdims else (C,)

    def apply(self, params: Params, *inputs: Array) -> Array:
        return ops.global_average_pool(inputs[0], keepdims=self.keepdims)


@dataclass(frozen=True, kw_only=True)
class GlobalMaxPooling2D(GlobalAveragePooling2D):
    """Largest value of every channel over its map."""

    def apply(self, params: Params, *inputs: Array) -> Array:
        return ops.global_max_pool(inputs[0], keepdims=self.keepdims)


@dataclass(frozen=True, kw_only=True)
class AveragePooling2D(Window):
    """Mean over a sliding window; zeros of the padding are not counted."""

    def output_shape(self, *inputs: Shape) -> Shape:
        return *self.output_map(inputs[0]), inputs[0][2]

    def apply(self, params: Params, *inputs: Array) -> Array:
        return ops.average_pool(inputs[0], size=self.kernel_size, stride=self.stride, padding=self.padding)


@dataclass(frozen=True, kw_only=True)
class MaxPooling2D(Window):
    """Largest value under a sliding window; zeros of the padding are not looked at."""

    def output_shape(self, *inputs: Shape) -> Shape:
        return *self.output_map(inputs[0]), inputs[0][2]

    def apply(self, params: Params, *inputs: Array) -> Array:
        return ops.max_pool(inputs[0], size=self.kernel_size, stride=self.stride, padding=self.padding)


@dataclass(frozen=True, kw_only=True)
class Dense(Layer):
    """Fully connected layer on the last axis."""

    units: int
    use_bias: bool = True
    activation: str = "linear"

    def output_shape(self, *inputs: Shape) -> Shape:
        return *inputs[0][:-1], self.units

    def param_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"kernel": (inputs[0][-1], self.units)} | _bias(self.use_bias, self.units)

    def macs(self, *inputs: Shape) -> int:
        """c_in * c_out, for every place of the leading axes."""
        return prod(inputs[0]) * self.units

    def apply(self, params: Params, *inputs: Array) -> Array:
        return ACTIVATIONS[self.activation](ops.dense(inputs[0], params["kernel"], params.get("bias")))


@dataclass(frozen=True, kw_only=True)
class Add(Layer):
    """Sum of its inputs, all of one shape: the residual connection."""

    arity: ClassVar[int | None] = None

    def output_shape(self, *inputs: Shape) -> Shape:
        if len(set(inputs)) > 1:
            raise ShapeError(f"{self.name}: inputs of one shape are needed; got {', '.join(map(str, inputs))}")
        return inputs[0]

    def apply(self, params: Params, *inputs: Array) -> Array:
        return reduce(add, inputs)


@dataclass(frozen=True, kw_only=True)
class Multiply(Layer):
    """Product of its inputs; a map of 1 x 1 pixel scales whole channels, as squeeze-and-excite does."""

    arity: ClassVar[int | None] = None

    def output_shape(self, *inputs: Shape) -> Shape:
        shape = inputs[0]
        for other in inputs[1:]:
            sides = list(zip(shape, other, strict=False))
            if len(shape) != len(other) or any(a != b and 1 not in (a, b) for a, b in sides):
                raise ShapeError(f"{self.name}: shapes {shape} and {other} cannot be multiplied")
            shape = tuple(max(pair) for pair in sides)
        return shape

    def apply(self, params: Params, *inputs: Array) -> Array:
        return reduce(mul, inputs)


@dataclass(frozen=True, kw_only=True)
class Concatenate(Layer):
    """Its inputs one behind the other along one axis, counted as in Keras: 0 is the batch, -1 the channels."""

    axis: int = -1

    arity: ClassVar[int | None] = None

    def output_shape(self, *inputs: Shape) -> Shape:
        rank = len(inputs[0]) + 1
        axis = self.axis - 1 if self.axis > 0 else self.axis + rank - 1  # without the batch
        rest = {shape[:axis] + shape[axis + 1 :] for shape in inputs}
        if self.axis == 0 or not 0 <= axis < rank - 1 or len(rest) > 1 or len({len(shape) for shape in inputs}) > 1:
            raise ShapeError(f"{self.name}: {', '.join(map(str, inputs))} cannot be joined along axis {self.axis}")
        return *inputs[0][:axis], sum(shape[axis] for shape in inputs), *inputs[0][axis + 1 :]

    def apply(self, params: Params, *inputs: Array) -> Array:
        return np.concatenate(inputs, axis=self.axis)


@dataclass(frozen=True, kw_only=True)
class Reshape(Layer):
    """Same values in another shape; one side may be -1."""

    target_shape: Shape

    def output_shape(self, *inputs: Shape) -> Shape:
        size, known = prod(inputs[0]), prod(side for side in self.target_shape if side != -1)
        shape = tuple(size // max(known, 1) if side == -1 else side for side in self.target_shape)
        if prod(shape) != size:
            raise ShapeError(f"{self.name}: {inputs[0]} holds {size} values, {self.target_shape} another number")
        return shape

    def apply(self, params: Params, *inputs: Array) -> Array:
        x = inputs[0]
        return x.reshape(len(x), *self.output_shape(x.shape[1:]))


@dataclass(frozen=True, kw_only=True)
class Flatten(Layer):
    """All values of an image in one row."""

    def output_shape(self, *inputs: Shape) -> Shape:
        return (prod(inputs[0]),)

    def apply(self, params: Params, *inputs: Array) -> Array:
        return inputs[0].reshape(len(inputs[0]), prod(inputs[0].shape[1:]))


@dataclass(frozen=True, kw_only=True)
class Dropout(Layer):
    """Does something in training only; here it hands its input on."""

    rate: float = 0.0

    def apply(self, params: Params, *inputs: Array) -> Array:
        return inputs[0]


LAYER_TYPES: dict[str, type[Layer]] = {
    cls.__name__: cls
    for cls in (
        Input, Rescaling, ZeroPadding2D, Conv2D, DepthwiseConv2D, BatchNormalization, Activation,
        GlobalAveragePooling2D, GlobalMaxPooling2D, AveragePooling2D, MaxPooling2D, Dense, Add, Multiply, Concatenate,
        Reshape, Flatten, Dropout,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Graph:
    """Layers in an order in which they can be computed: the first is the only `Input`, the last is the output.

    Raises:
        ShapeError: a name is used twice, a layer reads one that does not come before it, a layer is read by none,
            an activation is not known, shapes do not fit, or a side of an output or parameter would be 0.
    """

    name: str
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        _check_wiring(self)
        _check_sides(self)

    def __getitem__(self, name: str) -> Layer:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    @property
    def input_shape(self) -> Shape:
        """(H, W, C) that the network is counted for."""
        return self.shapes[self.layers[0].name]

    @property
    def output_shape(self) -> Shape:
        """Shape of the last layer's output, without the batch axis."""
        return self.shapes[self.layers[-1].name]

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Output shape of every layer, without the batch axis."""
        shapes: dict[str, Shape] = {}
        for layer in self.layers:
            shapes[layer.name] = layer.output_shape(*(shapes[name] for name in layer.inputs))
        return shapes

    def input_shapes(self, layer: Layer) -> tuple[Shape, ...]:
        """Shapes of what a layer reads."""
        return tuple(self.shapes[name] for name in layer.inputs)

    def param_shapes_of(self, layer: Layer) -> dict[str, Shape]:
        """{"kernel": shape, ...} of one layer."""
        return layer.param_shapes(*self.input_shapes(layer))

    def macs_of(self, layer: Layer) -> int:
        """Multiply-adds of one layer for one image."""
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
    def macs(self) -> int:
        """Multiply-adds of all kernels for one image."""
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
    def last_reader(self) -> dict[str, str]:
        """For every layer the name of the last layer that reads it; after that its output can be dropped."""
        return {name: layer.name for layer in self.layers for name in layer.inputs}

    @cached_property
    def embedding(self) -> str | None:
        """Name of the layer that turns the map into one vector an image, or None where no layer does.

        It is the last such layer through which everything must pass: the pools of squeeze-and-excite have a way
        around them.
        """
        alive: set[str] = set()
        found = None
        for layer in self.layers:
            alive = {name for name in alive if self.last_reader[name] != layer.name} | {layer.name}
            if alive == {layer.name} and self._leaves_a_vector(layer):
                found = layer.name
        return found

    def _leaves_a_vector(self, layer: Layer) -> bool:
        if isinstance(layer, GlobalAveragePooling2D):
            return True
        pools = isinstance(layer, AveragePooling2D | Flatten)
        return pools and prod(self.shapes[layer.name][:-1]) == 1 < prod(self.input_shapes(layer)[0][:-1])

    def run(self, params: Params, x: Array) -> Iterator[tuple[str, Array]]:
        """Compute the network by the reference, layer by layer.

        Args:
            params: arrays by `layer/array`, of the dtype of x.
            x: (N, H, W, C) scaled images. H and W may differ from `input_shape` where no layer fixes them.

        Yields:
            (layer name, output (N, ...)) in order; an output is dropped once no later layer reads it.

        Raises:
            ShapeError: x does not fit.
        """
        if x.ndim != 4 or x.shape[3] != self.input_shape[2]:
            raise ShapeError(f"{self.name}: x (N, {', '.join(map(str, self.input_shape))}) is needed; x {x.shape}")
        if x.shape[1:] != self.input_shape:
            self.with_input(*x.shape[1:3])
        alive: dict[str, Array] = {}
        for layer in self.layers:
            if isinstance(layer, Input):
                y = x
            else:
                arrays = {array: params[f"{layer.name}/{array}"] for array in self.param_shapes_of(layer)}
                y = layer.apply(arrays, *(alive[name] for name in layer.inputs))
            alive[layer.name] = y
            yield layer.name, y
            for name in layer.inputs:
                if self.last_reader[name] == layer.name:
                    alive.pop(name, None)

    def with_input(self, H: int, W: int) -> "Graph":
        """The same layers, counted for images of another size.

        Raises:
            ShapeError: a layer fixes the size (a Reshape, or a Dense behind a Flatten, changes its parameters).
        """
        entry = Input(name=self.layers[0].name, shape=(H, W, self.input_shape[2]))
        graph = Graph(self.name, (entry, *self.layers[1:]))
        if graph.param_shapes != self.param_shapes:
            raise ShapeError(f"{self.name}: its weights fix the input size at {self.input_shape[:2]}; got {(H, W)}")
        return graph

    def to_json(self) -> dict[str, Any]:
        """The graph as plain values for a JSON document; `from_json` is the way back."""
        return {"name": self.name, "layers": [_layer_to_json(layer) for layer in self.layers]}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Graph":
        """The graph that `to_json` wrote.

        Raises:
            ShapeError: a layer type or field is not known, a field is missing, or the graph is not a valid one.
        """
        try:
            return Graph(str(document["name"]), tuple(map(_layer_from_json, document["layers"])))
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            if isinstance(error, ShapeError):
                raise
            raise ShapeError(f"not a graph: {type(error).__name__}: {error}") from error


def _map(layer: Layer, shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ShapeError(f"{layer.name}: {layer.type} needs a map (H, W, C); got {shape}")
    H, W, C = shape
    return H, W, C


def _bias(use_bias: bool, channels: int) -> dict[str, Shape]:
    return {"bias": (channels,)} if use_bias else {}


def _check_wiring(graph: Graph) -> None:
    if not graph.layers or not isinstance(graph.layers[0], Input):
        raise ShapeError(f"{graph.name}: the first layer of a graph is its Input")
    seen: set[str] = set()
    for layer in graph.layers:
        if layer.name in seen:
            raise ShapeError(f"{graph.name}: two layers are called {layer.name}")
        missing = [name for name in layer.inputs if name not in seen]
        if missing:
            raise ShapeError(f"{layer.name}: reads {', '.join(missing)}, which no earlier layer computes")
        if len(layer.inputs) < 2 if layer.arity is None else len(layer.inputs) != layer.arity:
            raise ShapeError(f"{layer.name}: {layer.type} cannot have {len(layer.inputs)} inputs")
        if getattr(layer, "activation", "linear") not in ACTIVATIONS:
            raise ShapeError(f"{layer.name}: activation {getattr(layer, 'activation', '')!r} is not known")
        if isinstance(layer, Input) and seen:
            raise ShapeError(f"{layer.name}: a second Input; a graph has one, its first layer")
        seen.add(layer.name)
    unread = seen - graph.last_reader.keys() - {graph.layers[-1].name}
    if unread:
        raise ShapeError(f"{graph.name}: no layer reads {', '.join(sorted(unread))}; the last layer is the only output")


def _check_sides(graph: Graph) -> None:
    for layer in graph.layers:
        sizes = [getattr(layer, "stride", 1), *getattr(layer, "kernel_size", ())]
        if min(sizes) < 1:
            raise ShapeError(f"{layer.name}: kernel size and stride are at least 1; got {layer}")
    for name, shape in (graph.shapes | graph.param_shapes).items():
        if min(shape, default=1) < 1:
            raise ShapeError(f"{name}: every side is at least 1; got {shape}")


def _layer_to_json(layer: Layer) -> dict[str, Any]:
    return {"type": layer.type} | {field.name: getattr(layer, field.name) for field in fields(layer)}


def _layer_from_json(document: Mapping[str, Any]) -> Layer:
    document = dict(document)
    kind = document.pop("type")
    if kind not in LAYER_TYPES:
        raise ShapeError(
            f"{document.get('name')}: layer type {kind!r} is not known; known are {', '.join(LAYER_TYPES)}"
        )
    layer = LAYER_TYPES[kind](**{name: _tuples(value) for name, value in document.items()})
    for name, hint in _hints(kind).items():
        if get_origin(hint) is not ClassVar and not _fits(getattr(layer, name), hint):
            raise ShapeError(f"{document.get('name')}: {name} of {kind} is {hint}; got {getattr(layer, name)!r}")
    return layer


@cache
def _hints(kind: str) -> dict[str, Any]:
    return get_type_hints(LAYER_TYPES[kind])


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value out of a JSON document is what the type of a field says; no number is taken for a bool."""
    kinds = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, kind) for kind in kinds)
    if get_origin(hint) is tuple:
        kinds = kinds[:1] * len(value) if isinstance(value, tuple) and kinds[-1] is ... else kinds
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if hint is float:
        return type(value) in (int, float) and isfinite(value)
    return type(value) is hint


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
