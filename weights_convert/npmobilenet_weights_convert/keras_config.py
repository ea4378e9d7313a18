"""The config of a Keras file to a `Graph`.

Keras stores every layer with its class, settings and inputs; Keras 2 and Keras 3 use two dialects. Nested models are
flattened, their layers named `outer/inner`. Layers that are no-ops at inference are dropped, except dropout. Everything
that the graph does not support is refused in one message; no code is executed.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

from npmobilenet.errors import ShapeError, WeightsError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import LAYER_TYPES, Input
from npmobilenet.types import Shape
from npmobilenet_weights_convert.config_wiring import (
    Operand,
    Tensor,
    ancestors,
    batch_shape,
    call_arguments,
    called_in_training,
    has_constant,
    input_name,
    name_of,
    named_tensors,
    only_input,
    operands_of,
    operation_name,
    sequential_shape,
    weight_paths,
)
from npmobilenet_weights_convert.cropping import aspect_crop, center_crop
from npmobilenet_weights_convert.layer_settings import (
    ACTIVATION_LAYERS,
    CROPS,
    FUNCTION_CLASSES,
    FUNCTIONS,
    MAX_SIDE,
    MEANS,
    MERGES,
    OPERATIONS,
    SETTINGS,
    TRAINING_ONLY,
    ActivationLike,
    Parametric,
    UnsupportedError,
    activation_name,
    activation_of,
    activation_of_operation,
    fields_of,
    given_statistics,
    per_channel,
    scale_and_offset,
    unsupported_class,
)
from npmobilenet_weights_convert.name_matching import Place, snake_case
from npmobilenet_weights_convert.stored_layers import MAX_DEPTH

MODELS = ("Functional", "Model", "Sequential")
DEFAULT_RESOLUTION = 224
MAX_VALUES = 1 << 28  # in the output of one layer for one image: 1 GiB


@dataclass(frozen=True)
class Imported:
    """A graph, the places of its arrays in the file, and notes on assumptions."""

    graph: Graph
    places: tuple[Place, ...]
    notes: tuple[str, ...]


def import_config(config: dict[str, Any], keras_major: int, resolution: tuple[int, int] | None = None) -> Imported:
    """Build the graph that a config describes.

    Args:
        config: of a functional or sequential model.
        keras_major: 2 or 3, the dialect; they differ in the definition of `hard_sigmoid`.
        resolution: (H, W) for a model that accepts any size; by default 224 x 224.

    Raises:
        WeightsError: layers or wiring are not supported; the message names them all.
    """
    importer = _Importer(keras_major, resolution)
    outputs = importer.model(config, "", "", "", None, 0)
    if importer.problems:
        name = config["config"].get("name", "the model")
        raise WeightsError.listing(f"{len(importer.problems)} layers of {name} are not supported", importer.problems)
    graph, places = _without_unused(str(config["config"].get("name", "model")), importer, outputs)
    largest = max(graph.shapes, key=lambda name: prod(graph.shapes[name]))
    if prod(graph.shapes[largest]) > MAX_VALUES or any(side < 1 for shape in graph.shapes.values() for side in shape):
        raise WeightsError(f"{largest}: expected outputs of 1 to {MAX_VALUES:,} values, got {graph.shapes[largest]}")
    return Imported(graph, places, tuple(importer.notes))


def _without_unused(name: str, importer: "_Importer", outputs: dict[str, str]) -> tuple[Graph, tuple[Place, ...]]:
    """The graph without layers for outputs of nested models that nothing reads; and the places of all arrays."""
    read = set(outputs.values())
    for layer in reversed(importer.layers):
        read.update(layer.inputs if layer.name in read else ())
    layers = tuple(layer for layer in importer.layers if layer.name in read or not layer.inputs)
    graph = Graph(name, layers, tuple(outputs.items()) if len(outputs) > 1 else ())
    places = (
        replace(place, arrays=tuple((array, own if own in graph.param_shapes else "") for array, own in place.arrays))
        for place in importer.places
    )
    return graph, tuple(places)


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

    def model(
        self, entry: dict[str, Any], prefix: str, name: str, path: str, source: str | None, depth: int
    ) -> dict[str, str]:
        """Add a model, which reads `source` if it is nested; returns {name: layer} of its outputs."""
        if depth > MAX_DEPTH:
            raise WeightsError(f"{name}: models are nested deeper than {MAX_DEPTH} levels")
        kind, config = entry["class_name"], entry["config"]
        if kind not in MODELS or not isinstance(config, dict) or not isinstance(config.get("layers"), list):
            raise WeightsError(
                f"expected a functional or sequential model, got a {kind}, whose code is not in the file"
            )
        layers = config["layers"]
        paths = weight_paths(layers, path)
        if "input_layers" not in config:
            output = self._sequential(entry, layers, paths, prefix, source, depth)
            return {output: output}
        return self._functional(config, layers, paths, prefix, source, depth)

    def _sequential(
        self, entry: dict[str, Any], layers: list[Any], paths: list[str], prefix: str, source: str | None, depth: int
    ) -> str:
        if source is None:
            source = self._input(input_name(layers), sequential_shape(entry))
        for layer, path in zip(layers, paths, strict=True):
            if layer["class_name"] != "InputLayer":
                (source,) = self._layer(layer, prefix, path, [source], depth)
        return source

    def _functional(
        self, config: dict[str, Any], layers: list[Any], paths: list[str], prefix: str, source: str | None, depth: int
    ) -> dict[str, str]:
        first, last = only_input(config["input_layers"]), named_tensors(config["output_layers"])
        entries = {name_of(layer): (layer, path) for layer, path in zip(layers, paths, strict=True)}
        inputs = {name: operands_of(layer) for name, (layer, _) in entries.items() if name != first}
        used = ancestors((tensor.layer for tensor in last.values()), inputs)
        if source is None:
            source = self._input(first, batch_shape(entries[first][0]["config"]))
        outputs = {first: [source]}
        waiting = [name for name in entries if name in used and name != first]
        while waiting:
            ready = [n for n in waiting if all(not isinstance(o, Tensor) or o.layer in outputs for o in inputs[n])]
            if not ready:
                raise WeightsError(f"{waiting[0]}: its inputs {inputs[waiting[0]]} are not defined in the model")
            name = ready[0]
            layer, path = entries[name]
            operands = [self._computed(o, outputs) if isinstance(o, Tensor) else o for o in inputs[name]]
            outputs[name] = self._layer(layer, prefix, path, operands, depth)
            waiting.remove(name)
        return {name: self._computed(tensor, outputs) for name, tensor in last.items()}

    def _computed(self, tensor: Tensor, outputs: dict[str, list[str]]) -> str:
        """Name of the layer that computes a value of the config; of a layer with a problem, any."""
        layers = outputs.get(tensor.layer, [])
        if tensor.output < len(layers):
            return layers[tensor.output]
        if not self.problems:
            raise WeightsError(f"{tensor.layer}: its output {tensor.output} is not defined in the model")
        return self.layers[0].name

    def _layer(self, entry: dict[str, Any], prefix: str, path: str, operands: list[Operand], depth: int) -> list[str]:
        """Add one layer of the config; returns the names of the layers that compute its outputs."""
        kind, name = entry["class_name"], f"{prefix}{name_of(entry)}"
        sources = [operand for operand in operands if isinstance(operand, str)]
        try:
            if len(entry.get("inbound_nodes") or [None]) != 1:
                raise UnsupportedError("used more than once; give each use its own layer")
            if not sources:
                raise UnsupportedError("has no input layer")
            if kind in MODELS:
                if len(sources) != 1:
                    raise UnsupportedError(f"{len(sources)} inputs of a nested model are not supported (only one)")
                return list(self.model(entry, f"{name}/", name, path, sources[0], depth + 1).values())
            if kind in TRAINING_ONLY:
                return sources[:1]
            return [self._translate(entry, kind, name, path, operands, sources)]
        except UnsupportedError as reason:
            self.problems.append(f"{name} ({kind}): {reason}")
        except ShapeError:
            if not self.problems:
                raise
        return sources[:1] or [self.layers[0].name]

    def _translate(
        self, entry: dict[str, Any], kind: str, name: str, path: str, operands: list[Operand], sources: list[str]
    ) -> str:
        config = entry["config"]
        if config.get("data_format") not in (None, "channels_last"):
            raise UnsupportedError(
                "channels first is not supported; build the model with data_format='channels_last' and load these "
                "weights, which are the same for both unless a Dense layer follows Flatten"
            )
        operation = operation_name(kind, config)
        is_operation = kind == "TFOpLambda" or "ops" in str(entry.get("module", "")).split(".")
        is_operation |= kind in FUNCTION_CLASSES  # an .h5 file of Keras 3 has no modules
        if is_operation or has_constant(operands) or operation in MEANS:
            if operation in MEANS:
                return self._mean({**config, **call_arguments(entry)}, name, sources)
            arguments = {**config, **call_arguments(entry)}
            return self._operation(operation, arguments, name, operands, sources)
        if kind in MERGES:
            if len(sources) == 1:
                return sources[0]
            if kind == "Concatenate":
                return self._add(kind, name, sources, axis=int(config.get("axis", -1)))
            return self._merge(kind, name, self._of_one_rank(name, sources))
        if len(sources) != 1:
            raise UnsupportedError(f"{len(sources)} inputs are not supported (only one)")
        if kind == "SeparableConv2D":
            return self._separable(config, name, path, sources[0])
        if kind in ACTIVATION_LAYERS:
            return self._activation(activation_of(kind, config, self.shapes[sources[0]]), name, sources[0])
        if kind in CROPS or (kind == "Resizing" and config.get("crop_to_aspect_ratio")):
            return self._crop(kind, config, name, sources[0])
        if kind == "BatchNormalization" and called_in_training(entry):
            raise UnsupportedError("called with training=True; save the model with training=False")
        if kind not in SETTINGS:
            raise unsupported_class(kind)
        shape = self.shapes[sources[0]]
        if kind == "Rescaling" and any(isinstance(config.get(field), list) for field in ("scale", "offset")):
            scale, offset = (per_channel(config.get(field, 0.0), shape) for field in ("scale", "offset"))
            return self._add("ChannelRescaling", name, sources, scale=tuple(scale), offset=tuple(offset))
        if kind == "Normalization" and (statistics := given_statistics(config, shape)):
            fields_of(kind, config, shape)
            scale, offset = statistics
            return self._add("ChannelRescaling", name, sources, scale=tuple(scale), offset=tuple(offset))
        return self._plain_layer(kind, config, name, path, sources[0])

    def _crop(self, kind: str, config: dict[str, Any], name: str, source: str) -> str:
        """Add a layer that crops an image: in the center, or to the proportions of a size and then resized to that."""
        shape, (height, width) = self.shapes[source], (int(config["height"]), int(config["width"]))
        if kind == "RandomCrop" and shape[:2] == (height, width):
            return source
        if kind == "RandomCrop" and self.keras_major > 2:
            raise UnsupportedError(
                f"Keras 3 hands {shape[0]} x {shape[1]} pixels on uncropped at inference; use CenterCrop or Resizing"
            )
        if kind == "CenterCrop" and (crop := center_crop(shape, height, width)):
            return self._add("Cropping2D", name, [source], cropping=crop)
        fields = fields_of("Resizing", config, shape)
        crop = aspect_crop(shape, height, width)
        if any(map(any, crop)):
            source = self._add("Cropping2D", f"{name}/cropped", [source], cropping=crop)
        return self._add("Resizing", name, [source], **fields)

    def _mean(self, arguments: dict[str, Any], name: str, sources: list[str]) -> str:
        """Add a mean over rows and columns."""
        axes, rank = arguments.get("axis"), len(self.shapes[sources[0]]) + 1
        positive = sorted(axis % rank for axis in axes) if isinstance(axes, list) else axes
        if rank != 4 or positive != [1, 2]:
            raise UnsupportedError(f"a mean over axis {axes} is not supported (only over rows and columns, [1, 2])")
        return self._add("GlobalAveragePooling2D", name, sources, keepdims=bool(arguments.get("keepdims")))

    def _of_one_rank(self, name: str, sources: list[str]) -> list[str]:
        """Inputs of a merge as Keras gives them one rank: sides of 1 go between the batch and the other axes."""
        rank = max(len(self.shapes[source]) for source in sources)
        same = []
        for number, source in enumerate(sources):
            shape = self.shapes[source]
            if len(shape) < rank:
                target = (*[1] * (rank - len(shape)), *shape)
                source = self._add("Reshape", f"{name}/reshaped_{number}", [source], target_shape=target)
            same.append(source)
        return same

    def _merge(self, kind: str, name: str, sources: list[str]) -> str:
        """Add a merge of inputs of one rank, broadcast to one shape; a product broadcasts by itself."""
        shapes = [self.shapes[source] for source in sources]
        if kind != "Multiply" and len({len(shape) for shape in shapes}) == 1:
            target = tuple(max(sides) for sides in zip(*shapes, strict=True))
            sources = [
                source
                if self.shapes[source] == target
                else self._add("Broadcast", f"{name}/broadcast_{number}", [source], target_shape=target)
                for number, source in enumerate(sources)
            ]
        return self._add(kind, name, sources)

    def _plain_layer(self, kind: str, config: dict[str, Any], name: str, path: str, source: str) -> str:
        """Add a layer with its arrays, and with its activation inside if the graph supports that."""
        fields = fields_of(kind, config, self.shapes[source])
        activation = activation_name(config["activation"]) if "activation" in config else "linear"
        inside = self._is_plain(activation)
        if inside and activation != "linear":
            fields |= {"activation": activation}
        output = self._add(kind, name, [source], **fields)
        if arrays := self.layers[-1].param_shapes(self.shapes[source]):
            places = [(array, f"{name}/{array}") for array in arrays]
            places += [("count", "")] if kind == "Normalization" else []  # of the images that were averaged
            self.places.append(Place(name, snake_case(kind), path, tuple(places)))
        return output if inside else self._activation(activation, f"{name}/activation", output)

    def _activation(self, activation: ActivationLike, name: str, source: str) -> str:
        if isinstance(activation, Parametric):
            return self._add(activation.kind, name, [source], **{activation.field: activation.value})
        if self._is_plain(activation):
            return self._add("Activation", name, [source], activation=activation)
        # Keras 2's hard_sigmoid, clip(0.2 * x + 0.5, 0, 1), is relu6(1.2 * x + 3) / 6
        source = self._add("Rescaling", f"{name}/scaled", [source], scale=1.2, offset=3.0)
        source = self._add("Activation", f"{name}/clipped", [source], activation="relu6")
        return self._add("Rescaling", name, [source], scale=1 / 6, offset=0.0)

    def _is_plain(self, activation: ActivationLike) -> bool:
        """Whether it can be a field of a layer."""
        return isinstance(activation, str) and not (activation == "hard_sigmoid" and self.keras_major == 2)

    def _separable(self, config: dict[str, Any], name: str, path: str, source: str) -> str:
        """Add a separable convolution as a depthwise and a pointwise convolution."""
        depthwise, pointwise = f"{name}/depthwise", f"{name}/pointwise"
        fields = fields_of("DepthwiseConv2D", config, self.shapes[source]) | {"use_bias": False}
        source = self._add("DepthwiseConv2D", depthwise, [source], **fields)
        bias = bool(config.get("use_bias", True))
        fields = {"filters": int(config["filters"]), "kernel_size": (1, 1), "use_bias": bias}
        output = self._add("Conv2D", pointwise, [source], **fields)
        arrays = [("depthwise_kernel", f"{depthwise}/kernel"), ("pointwise_kernel", f"{pointwise}/kernel")]
        arrays += [("bias", f"{pointwise}/bias")] if bias else []
        self.places.append(Place(name, "separable_conv2d", path, tuple(arrays)))
        activation = activation_name(config.get("activation"))
        return output if activation == "linear" else self._activation(activation, name, output)

    def _operation(
        self, operation: str, arguments: dict[str, Any], name: str, operands: list[Operand], sources: list[str]
    ) -> str:
        """Add an activation, or arithmetic: with a number a Rescaling, with two layers a merge of them."""
        if operation in FUNCTIONS and len(operands) == 1:
            activation = activation_of_operation(operation, arguments, self.shapes[sources[0]])
            return self._activation(activation, name, sources[0])
        if operation not in OPERATIONS:
            supported = ", ".join(sorted(set(OPERATIONS.values())))
            raise UnsupportedError(f"the operation {operation} is not supported (only {supported})")
        operation = OPERATIONS[operation]
        if len(sources) == 2 == len(operands) and operation != "divide":
            return self._merge(operation.capitalize(), name, sources)
        constants = [operand for operand in operands if not isinstance(operand, str)]
        if len(operands) != 2 or len(constants) != 1 or operation in ("maximum", "minimum"):
            raise UnsupportedError(f"{operation} is supported only for a layer and one number")
        scale, offset = scale_and_offset(operation, constants[0], not isinstance(operands[0], str))
        return self._add("Rescaling", name, sources, scale=scale, offset=offset)

    def _input(self, name: str, shape: Any) -> str:
        """Add the Input, of shape (batch, H, W, C) in the config; an unspecified H or W is filled in."""
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
            raise WeightsError(f"{name}: expected 1 to {MAX_SIDE} pixels per side, got an image of shape {(H, W, C)}")
        self.layers.append(Input(name=name, shape=(H, W, C)))
        self.shapes[name] = (H, W, C)
        return name

    def _add(self, kind: str, name: str, sources: list[str], **fields: Any) -> str:
        layer = LAYER_TYPES[kind](name=name, inputs=tuple(sources), **fields)
        self.shapes[name] = layer.output_shape(*(self.shapes[source] for source in sources))
        self.layers.append(layer)
        return name
