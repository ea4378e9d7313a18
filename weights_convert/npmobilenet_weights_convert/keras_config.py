"""Conversion of the config in a Keras file to a `Graph`.

The config has every layer with its class, settings and inputs, in two dialects, Keras 2 and Keras 3. Nested models are
flattened, their layers named `outer/inner`. Layers that are no-ops at inference are omitted, except dropout.
Unsupported layers are refused, all in one message; nothing is ever executed.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

from npmobilenet.errors import ShapeError, WeightsError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Activation, Add, Conv2D, DepthwiseConv2D, Input, Multiply, Rescaling
from npmobilenet.types import Shape
from npmobilenet_weights_convert.hdf5_weights import MAX_DEPTH
from npmobilenet_weights_convert.keras_layers import (
    FIELDS,
    FUNCTIONS,
    MAX_SIDE,
    MERGES,
    OPERATIONS,
    TRAINING_ONLY,
    RefusedError,
    activation_name,
    activation_of,
    depthwise_fields,
    operation_name,
    why_unknown,
)
from npmobilenet_weights_convert.keras_wiring import (
    ancestors,
    batch_shape,
    called_in_training,
    has_constant,
    input_name,
    name_of,
    numbered_paths,
    only_tensor,
    operands_of,
    sequential_shape,
)
from npmobilenet_weights_convert.name_matching import Place, snake_case

MODELS = ("Functional", "Model", "Sequential")
DEFAULT_RESOLUTION = 224
MAX_VALUES = 1 << 28  # in the output of one layer for one image: 1 GiB


@dataclass(frozen=True)
class Imported:
    """A graph, the places of its arrays in a file, and notes for the user."""

    graph: Graph
    places: tuple[Place, ...]
    notes: tuple[str, ...]


def import_config(config: dict[str, Any], keras_major: int, resolution: tuple[int, int] | None = None) -> Imported:
    """Build the graph that a config describes.

    Args:
        config: of a functional or sequential model.
        keras_major: 2 or 3, the dialect: they differ in the meaning of `hard_sigmoid`.
        resolution: (H, W) in pixels for a model of any input size; by default 224.

    Raises:
        WeightsError: it has layers or wiring that the graph does not support; the message names them all.
    """
    importer = _Importer(keras_major, resolution)
    importer.model(config, "", "", "", None, 0)
    if importer.problems:
        raise WeightsError(
            f"{len(importer.problems)} layers of {config['config'].get('name', 'the model')} are not supported\n  "
            + "\n  ".join(importer.problems)
        )
    graph = Graph(str(config["config"].get("name", "model")), tuple(importer.layers))
    largest = max(graph.shapes, key=lambda name: prod(graph.shapes[name]))
    if prod(graph.shapes[largest]) > MAX_VALUES or any(side < 1 for shape in graph.shapes.values() for side in shape):
        raise WeightsError(f"{largest}: output shape {graph.shapes[largest]} is too large or empty")
    return Imported(graph, tuple(importer.places), tuple(importer.notes))


class _Importer:
    """Walk through a config that collects layers, places and problems."""

    def __init__(self, keras_major: int, resolution: tuple[int, int] | None) -> None:
        self.keras_major = keras_major
        self.resolution = resolution
        self.layers: list[Layer] = []
        self.shapes: dict[str, Shape] = {}
        self.places: list[Place] = []
        self.problems: list[str] = []
        self.notes: list[str] = []

    def model(self, entry: dict[str, Any], prefix: str, name: str, path: str, source: str | None, depth: int) -> str:
        """Add a model, which reads `source` if it is nested; return the name of its output layer."""
        if depth > MAX_DEPTH:
            raise WeightsError(f"{name}: models are nested deeper than {MAX_DEPTH} levels")
        kind, config = entry["class_name"], entry["config"]
        if kind not in MODELS or not isinstance(config, dict) or not isinstance(config.get("layers"), list):
            raise WeightsError(
                f"expected a functional or sequential model, got a {kind}, whose code is not in the file"
            )
        layers = config["layers"]
        paths = numbered_paths(layers, path)
        if "input_layers" not in config:
            return self._sequential(entry, layers, paths, prefix, source, depth)
        return self._functional(config, layers, paths, prefix, source, depth)

    def _sequential(
        self, entry: dict[str, Any], layers: list[Any], paths: list[str], prefix: str, source: str | None, depth: int
    ) -> str:
        if source is None:
            source = self._input(input_name(layers), sequential_shape(entry))
        for layer, path in zip(layers, paths, strict=True):
            if layer["class_name"] != "InputLayer":
                source = self._take(layer, prefix, path, [source], depth)
        return source

    def _functional(
        self, config: dict[str, Any], layers: list[Any], paths: list[str], prefix: str, source: str | None, depth: int
    ) -> str:
        entrance, exit_ = only_tensor(config["input_layers"], "input"), only_tensor(config["output_layers"], "output")
        entries = {name_of(layer): (layer, path) for layer, path in zip(layers, paths, strict=True)}
        reads = {name: operands_of(layer) for name, (layer, _) in entries.items() if name != entrance}
        needed = ancestors(exit_, reads)
        if source is None:
            source = self._input(entrance, batch_shape(entries[entrance][0]["config"]))
        outputs: dict[str, str] = {entrance: source}
        waiting = [name for name in entries if name in needed and name != entrance]
        while waiting:
            ready = [n for n in waiting if all(not isinstance(o, str) or o in outputs for o in reads[n])]
            if not ready:
                raise WeightsError(f"{waiting[0]}: input {reads[waiting[0]]} is not defined in the model")
            name = ready[0]
            layer, path = entries[name]
            operands = [outputs[operand] if isinstance(operand, str) else operand for operand in reads[name]]
            outputs[name] = self._take(layer, prefix, path, operands, depth)
            waiting.remove(name)
        return outputs[exit_]

    def _take(self, entry: dict[str, Any], prefix: str, path: str, operands: list[str | float], depth: int) -> str:
        """Add one layer; return the name of the layer with its output."""
        kind, name = entry["class_name"], f"{prefix}{name_of(entry)}"
        sources = [operand for operand in operands if isinstance(operand, str)]
        try:
            if len(entry.get("inbound_nodes") or [None]) != 1:
                raise RefusedError("is used more than once; use a separate layer for each call")
            if not sources:
                raise RefusedError("has no inputs")
            if kind in MODELS:
                if len(sources) != 1:
                    raise RefusedError(f"has {len(sources)} inputs (nested models: only one)")
                return self.model(entry, f"{name}/", name, path, sources[0], depth + 1)
            if kind in TRAINING_ONLY:
                return sources[0]
            return self._translate(entry, kind, name, path, operands, sources)
        except RefusedError as reason:
            self.problems.append(f"{name} ({kind}): {reason}")
        except ShapeError:
            if not self.problems:
                raise
        return sources[0] if sources else self.layers[0].name

    def _translate(
        self, entry: dict[str, Any], kind: str, name: str, path: str, operands: list[str | float], sources: list[str]
    ) -> str:
        config = entry["config"]
        if config.get("data_format") not in (None, "channels_last"):
            raise RefusedError("has data_format='channels_first'; build the model with data_format='channels_last'")
        if kind == "TFOpLambda" or "ops" in str(entry.get("module", "")).split(".") or has_constant(operands):
            return self._operation(operation_name(kind, config), name, operands, sources, config)
        if kind in MERGES:
            axis = {"axis": int(config.get("axis", -1))} if kind == "Concatenate" else {}
            return sources[0] if len(sources) == 1 else self._add(MERGES[kind], name, sources, **axis)
        if len(sources) != 1:
            raise RefusedError(f"has {len(sources)} inputs (only one is supported)")
        if kind == "SeparableConv2D":
            return self._separable(config, name, path, sources[0])
        if kind in ("Activation", "ReLU", "Softmax"):
            return self._activation(activation_of(kind, config, self.shapes[sources[0]]), name, sources[0])
        if kind == "BatchNormalization" and called_in_training(entry):
            raise RefusedError("is called with training=True; save the model with training=False")
        if kind not in FIELDS:
            raise RefusedError(why_unknown(kind))
        cls, fields = FIELDS[kind][0], FIELDS[kind][1](config, self.shapes[sources[0]])
        activation = activation_name(config["activation"]) if "activation" in config else "linear"
        return self._with_activation(cls, name, path, snake_case(kind), sources[0], fields, activation)

    def _with_activation(
        self, cls: type[Layer], name: str, path: str, kind: str, source: str, fields: dict[str, Any], activation: str
    ) -> str:
        """A layer with its arrays, and its activation inside if the graph supports it."""
        inside = self._is_plain(activation)
        if inside and activation != "linear":
            fields = fields | {"activation": activation}
        output = self._add(cls, name, [source], **fields)
        layer = self.layers[-1]
        if arrays := layer.param_shapes(self.shapes[source]):
            self.places.append(Place(name, kind, path, tuple((array, f"{name}/{array}") for array in arrays)))
        return output if inside else self._activation(activation, f"{name}/activation", output)

    def _activation(self, activation: str, name: str, source: str) -> str:
        if self._is_plain(activation):
            return self._add(Activation, name, [source], activation=activation)
        # Keras 2's hard_sigmoid, clip(0.2 * x + 0.5, 0, 1), is relu6(1.2 * x + 3) / 6
        source = self._add(Rescaling, f"{name}/scaled", [source], scale=1.2, offset=3.0)
        source = self._add(Activation, f"{name}/clipped", [source], activation="relu6")
        return self._add(Rescaling, name, [source], scale=1 / 6, offset=0.0)

    def _is_plain(self, activation: str) -> bool:
        return not (activation == "hard_sigmoid" and self.keras_major == 2)

    def _separable(self, config: dict[str, Any], name: str, path: str, source: str) -> str:
        """A separable convolution as a depthwise and a pointwise one."""
        depthwise, pointwise = f"{name}/depthwise", f"{name}/pointwise"
        fields = depthwise_fields(config, self.shapes[source]) | {"use_bias": False}
        source = self._add(DepthwiseConv2D, depthwise, [source], **fields)
        bias = bool(config.get("use_bias", True))
        fields = {"filters": int(config["filters"]), "kernel_size": (1, 1), "use_bias": bias}
        output = self._add(Conv2D, pointwise, [source], **fields)
        arrays = [("depthwise_kernel", f"{depthwise}/kernel"), ("pointwise_kernel", f"{pointwise}/kernel")]
        arrays += [("bias", f"{pointwise}/bias")] if bias else []
        self.places.append(Place(name, "separable_conv2d", path, tuple(arrays)))
        activation = activation_name(config.get("activation"))
        return output if activation == "linear" else self._activation(activation, name, output)

    def _operation(
        self, operation: str, name: str, operands: list[str | float], sources: list[str], config: dict[str, Any]
    ) -> str:
        """Arithmetic: a Rescaling if one operand is a constant, a sum or product of two layers otherwise."""
        if operation in FUNCTIONS and len(operands) == 1:
            return self._activation(FUNCTIONS[operation], name, sources[0])
        if operation not in OPERATIONS:
            raise RefusedError(
                f"the operation {operation} is not supported; supported: {', '.join(sorted(set(OPERATIONS.values())))}"
            )
        operation = OPERATIONS[operation]
        if len(sources) == 2 == len(operands) and operation in ("add", "multiply"):
            return self._add(Add if operation == "add" else Multiply, name, sources)
        constants = [operand for operand in operands if not isinstance(operand, str)]
        if len(operands) != 2 or len(constants) != 1:
            raise RefusedError(f"{operation} is only supported with one layer and one number")
        constant, first = constants[0], not isinstance(operands[0], str)
        if operation == "divide" and (first or constant == 0):
            raise RefusedError("a number divided by a layer is not supported")
        scale, offset = {
            "add": (1.0, constant),
            "multiply": (constant, 0.0),
            "subtract": (-1.0, constant) if first else (1.0, -constant),
            "divide": (1 / constant if constant else 0.0, 0.0),
        }[operation]
        return self._add(Rescaling, name, sources, scale=scale, offset=offset)

    def _input(self, name: str, shape: Any) -> str:
        """Add the Input of a (batch, H, W, C) shape as in the config; unspecified sides are filled in."""
        if not isinstance(shape, list | tuple) or len(shape) != 4:
            raise WeightsError(f"{name}: expected an input of shape (batch, H, W, C), got {shape}")
        H, W, C = shape[1:]
        if C is None:
            raise WeightsError(f"{name}: the config does not specify the number of channels")
        if H is None or W is None:
            default = self.resolution or (DEFAULT_RESOLUTION, DEFAULT_RESOLUTION)
            H, W = (side if side is not None else fallback for side, fallback in zip((H, W), default, strict=True))
            if self.resolution is None:
                self.notes.append(f"the model accepts any input size; {H} x {W} is assumed")
        if not all(isinstance(side, int) and 0 < side <= MAX_SIDE for side in (H, W, C)):
            raise WeightsError(f"{name}: input shape {(H, W, C)} is not supported (limit {MAX_SIDE} pixels per side)")
        self.layers.append(Input(name=name, shape=(H, W, C)))
        self.shapes[name] = (H, W, C)
        return name

    def _add(self, cls: type[Layer], name: str, sources: list[str], **fields: Any) -> str:
        layer = cls(name=name, inputs=tuple(sources), **fields)
        self.shapes[name] = layer.output_shape(*(self.shapes[source] for source in sources))
        self.layers.append(layer)
        return name
