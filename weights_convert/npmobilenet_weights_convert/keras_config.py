"""From the config inside a Keras file to a `Graph`.

Keras writes down every layer with its class, its settings and what it reads, Keras 2 and Keras 3 in two dialects.
Nested models become flat, their layers called `outer/inner`. Layers that do something in training only are left out,
dropout excepted. What the graph does not know is refused, all of it in one message; nothing is ever executed.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

from npmobilenet.errors import ShapeError, WeightsError
from npmobilenet.reference.activations import ACTIVATIONS
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Input,
    MaxPooling2D,
    Multiply,
    Rescaling,
    Reshape,
    ZeroPadding2D,
)
from npmobilenet.types import Padding, Pair, Shape
from npmobilenet_weights_convert.keras_file import MAX_DEPTH
from npmobilenet_weights_convert.name_matching import Place, snake_case

MODELS = ("Functional", "Model", "Sequential")
TRAINING_ONLY = frozenset({
    "ActivityRegularization", "AlphaDropout", "AugMix", "Cast", "CutMix", "Equalization", "GaussianDropout",
    "GaussianNoise", "Identity", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration",
    "RandomColorJitter", "RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip",
    "RandomGaussianBlur", "RandomGrayscale", "RandomHeight", "RandomHue", "RandomInvert", "RandomPerspective",
    "RandomPosterization", "RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation",
    "RandomWidth", "RandomZoom", "Solarization", "SpatialDropout2D",
})  # fmt: skip
"""Layers that hand their input on at inference."""
OPERATIONS = {
    "add": "add", "multiply": "multiply", "mul": "multiply", "subtract": "subtract", "sub": "subtract",
    "truediv": "divide", "true_divide": "divide", "divide": "divide",
}  # fmt: skip
"""Arithmetic written into a model, by the names of TensorFlow's functions and of Keras 3's operations."""
FUNCTIONS = {
    "relu": "relu", "relu6": "relu6", "softmax": "softmax", "sigmoid": "sigmoid", "hard_silu": "hard_swish",
    "hard_swish": "hard_swish", "hard_sigmoid": "hard_sigmoid", "linear": "linear", None: "linear",
}  # fmt: skip
"""Keras's names of activations, and ours."""
DEFAULT_RESOLUTION = 224
MAX_SIDE = 4096  # pixels
MAX_VALUES = 1 << 28  # in the output of one layer for one image: 1 GiB


@dataclass(frozen=True)
class Imported:
    """A graph, where its arrays are in a file, and what was assumed on the way."""

    graph: Graph
    places: tuple[Place, ...]
    notes: tuple[str, ...]


class _RefusedError(Exception):
    """Why one layer cannot be taken over."""


def import_config(config: dict[str, Any], keras_major: int, resolution: tuple[int, int] | None = None) -> Imported:
    """Build the graph that a config describes.

    Args:
        config: of a functional or sequential model.
        keras_major: 2 or 3, the dialect: they differ in what `hard_sigmoid` is.
        resolution: (H, W) for a model that takes any size; 224 if not given.

    Raises:
        WeightsError: it holds layers or wiring that the graph does not know; the message names them all.
    """
    importer = _Importer(keras_major, resolution)
    importer.model(config, "", "", "", None, 0)
    if importer.problems:
        raise WeightsError(
            f"{len(importer.problems)} layers of {config['config'].get('name', 'the model')} cannot be taken over\n  "
            + "\n  ".join(importer.problems)
        )
    graph = Graph(str(config["config"].get("name", "model")), tuple(importer.layers))
    largest = max(graph.shapes, key=lambda name: prod(graph.shapes[name]))
    if prod(graph.shapes[largest]) > MAX_VALUES or any(side < 1 for shape in graph.shapes.values() for side in shape):
        raise WeightsError(f"{largest}: an output of {graph.shapes[largest]} values cannot be computed")
    return Imported(graph, tuple(importer.places), tuple(importer.notes))


class _Importer:
    """Walks through a config and collects layers, places and problems."""

    def __init__(self, keras_major: int, resolution: tuple[int, int] | None) -> None:
        self.keras_major = keras_major
        self.resolution = resolution
        self.layers: list[Layer] = []
        self.shapes: dict[str, Shape] = {}
        self.places: list[Place] = []
        self.problems: list[str] = []
        self.notes: list[str] = []

    def model(self, entry: dict[str, Any], prefix: str, name: str, path: str, source: str | None, depth: int) -> str:
        """Take over a model, which reads `source` where it is nested; the name of the layer that is its output."""
        if depth > MAX_DEPTH:
            raise WeightsError(f"{name}: models are nested deeper than {MAX_DEPTH} levels")
        kind, config = entry["class_name"], entry["config"]
        if kind not in MODELS or not isinstance(config, dict) or not isinstance(config.get("layers"), list):
            raise WeightsError(
                f"a functional or sequential model is needed; this is a {kind}, whose code is not in the file"
            )
        layers = config["layers"]
        paths = _numbered_paths(layers, path)
        if "input_layers" not in config:
            return self._sequential(entry, layers, paths, prefix, source, depth)
        return self._functional(config, layers, paths, prefix, source, depth)

    def _sequential(
        self, entry: dict[str, Any], layers: list[Any], paths: list[str], prefix: str, source: str | None, depth: int
    ) -> str:
        if source is None:
            source = self._input(_input_name(layers), _sequential_shape(entry))
        for layer, path in zip(layers, paths, strict=True):
            if layer["class_name"] != "InputLayer":
                source = self._take(layer, prefix, path, [source], depth)
        return source

    def _functional(
        self, config: dict[str, Any], layers: list[Any], paths: list[str], prefix: str, source: str | None, depth: int
    ) -> str:
        entrance, exit_ = _only(config["input_layers"], "input"), _only(config["output_layers"], "output")
        entries = {_name(layer): (layer, path) for layer, path in zip(layers, paths, strict=True)}
        reads = {name: _operands(layer) for name, (layer, _) in entries.items() if name != entrance}
        needed = _ancestors(exit_, reads)
        if source is None:
            source = self._input(entrance, _batch_shape(entries[entrance][0]["config"]))
        outputs: dict[str, str] = {entrance: source}
        waiting = [name for name in entries if name in needed and name != entrance]
        while waiting:
            ready = [n for n in waiting if all(not isinstance(o, str) or o in outputs for o in reads[n])]
            if not ready:
                raise WeightsError(f"{waiting[0]}: reads {reads[waiting[0]]}, which nothing in the model computes")
            name = ready[0]
            layer, path = entries[name]
            operands = [outputs[operand] if isinstance(operand, str) else operand for operand in reads[name]]
            outputs[name] = self._take(layer, prefix, path, operands, depth)
            waiting.remove(name)
        return outputs[exit_]

    def _take(self, entry: dict[str, Any], prefix: str, path: str, operands: list[str | float], depth: int) -> str:
        """Take over one layer; the name of the layer that computes its output."""
        kind, name = entry["class_name"], f"{prefix}{_name(entry)}"
        sources = [operand for operand in operands if isinstance(operand, str)]
        try:
            if len(entry.get("inbound_nodes") or [None]) != 1:
                raise _RefusedError("is used more than once; give each use a layer of its own")
            if not sources:
                raise _RefusedError("reads no other layer")
            if kind in MODELS:
                if len(sources) != 1:
                    raise _RefusedError(f"reads {len(sources)} layers; a nested model with one input is possible")
                return self.model(entry, f"{name}/", name, path, sources[0], depth + 1)
            if kind in TRAINING_ONLY:
                return sources[0]
            return self._translate(entry, kind, name, path, operands, sources)
        except _RefusedError as reason:
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
            raise _RefusedError("has the channels first; build the model with data_format='channels_last'")
        if kind == "TFOpLambda" or "ops" in str(entry.get("module", "")).split(".") or _has_constant(operands):
            return self._operation(_operation_name(kind, config), name, operands, sources, config)
        if kind in _MERGES:
            axis = {"axis": int(config.get("axis", -1))} if kind == "Concatenate" else {}
            return sources[0] if len(sources) == 1 else self._add(_MERGES[kind], name, sources, **axis)
        if len(sources) != 1:
            raise _RefusedError(f"reads {len(sources)} layers; one is possible")
        if kind == "SeparableConv2D":
            return self._separable(config, name, path, sources[0])
        if kind in ("Activation", "ReLU", "Softmax"):
            return self._activation(_activation_of(kind, config, self.shapes[sources[0]]), name, sources[0])
        if kind == "BatchNormalization" and _called_in_training(entry):
            raise _RefusedError("is called with training=True; save the model with training=False")
        if kind not in _FIELDS:
            raise _RefusedError(_why_unknown(kind))
        cls, fields = _FIELDS[kind][0], _FIELDS[kind][1](config, self.shapes[sources[0]])
        activation = _activation_name(config["activation"]) if "activation" in config else "linear"
        return self._with_activation(cls, name, path, snake_case(kind), sources[0], fields, activation)

    def _with_activation(
        self, cls: type[Layer], name: str, path: str, kind: str, source: str, fields: dict[str, Any], activation: str
    ) -> str:
        """A layer with its arrays, and its activation inside where the graph can have it there."""
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
        """A depthwise and a pointwise convolution, which is what it is."""
        depthwise, pointwise = f"{name}/depthwise", f"{name}/pointwise"
        fields = _depthwise_fields(config, self.shapes[source]) | {"use_bias": False}
        source = self._add(DepthwiseConv2D, depthwise, [source], **fields)
        bias = bool(config.get("use_bias", True))
        fields = {"filters": int(config["filters"]), "kernel_size": (1, 1), "use_bias": bias}
        output = self._add(Conv2D, pointwise, [source], **fields)
        arrays = [("depthwise_kernel", f"{depthwise}/kernel"), ("pointwise_kernel", f"{pointwise}/kernel")]
        arrays += [("bias", f"{pointwise}/bias")] if bias else []
        self.places.append(Place(name, "separable_conv2d", path, tuple(arrays)))
        activation = _activation_name(config.get("activation"))
        return output if activation == "linear" else self._activation(activation, name, output)

    def _operation(
        self, operation: str, name: str, operands: list[str | float], sources: list[str], config: dict[str, Any]
    ) -> str:
        """Arithmetic with a constant is a Rescaling; with two layers it is a sum or a product."""
        if operation in FUNCTIONS and len(operands) == 1:
            return self._activation(FUNCTIONS[operation], name, sources[0])
        if operation not in OPERATIONS:
            raise _RefusedError(
                f"the operation {operation} is not known; known are {', '.join(sorted(set(OPERATIONS.values())))}"
            )
        operation = OPERATIONS[operation]
        if len(sources) == 2 == len(operands) and operation in ("add", "multiply"):
            return self._add(Add if operation == "add" else Multiply, name, sources)
        constants = [operand for operand in operands if not isinstance(operand, str)]
        if len(operands) != 2 or len(constants) != 1:
            raise _RefusedError(f"{operation} of two layers or of other than one number is not possible")
        constant, first = constants[0], not isinstance(operands[0], str)
        if operation == "divide" and (first or constant == 0):
            raise _RefusedError("a number divided by a layer is not possible")
        scale, offset = {
            "add": (1.0, constant),
            "multiply": (constant, 0.0),
            "subtract": (-1.0, constant) if first else (1.0, -constant),
            "divide": (1 / constant if constant else 0.0, 0.0),
        }[operation]
        return self._add(Rescaling, name, sources, scale=scale, offset=offset)

    def _input(self, name: str, shape: Any) -> str:
        """The Input, of (batch, H, W, C) as the config has it; sides that are left open are filled in."""
        if not isinstance(shape, list | tuple) or len(shape) != 4:
            raise WeightsError(f"{name}: an input of (batch, H, W, C) is needed; the config has {shape}")
        H, W, C = shape[1:]
        if C is None:
            raise WeightsError(f"{name}: the config does not say how many channels the image has")
        if H is None or W is None:
            default = self.resolution or (DEFAULT_RESOLUTION, DEFAULT_RESOLUTION)
            H, W = (side if side is not None else fallback for side, fallback in zip((H, W), default, strict=True))
            if self.resolution is None:
                self.notes.append(f"the model takes any input size; {H} x {W} is assumed")
        if not all(isinstance(side, int) and 0 < side <= MAX_SIDE for side in (H, W, C)):
            raise WeightsError(f"{name}: an image of {(H, W, C)} cannot be computed; at most {MAX_SIDE} pixels a side")
        self.layers.append(Input(name=name, shape=(H, W, C)))
        self.shapes[name] = (H, W, C)
        return name

    def _add(self, cls: type[Layer], name: str, sources: list[str], **fields: Any) -> str:
        layer = cls(name=name, inputs=tuple(sources), **fields)
        self.shapes[name] = layer.output_shape(*(self.shapes[source] for source in sources))
        self.layers.append(layer)
        return name


_MERGES: dict[str, type[Layer]] = {"Add": Add, "Multiply": Multiply, "Concatenate": Concatenate}


def _conv_fields(config: dict[str, Any], shape: Shape) -> dict[str, Any]:
    if config.get("groups") not in (None, 1):
        raise _RefusedError(f"has groups={config['groups']}; groups=1 is possible")
    return _window_fields(config) | {"filters": int(config["filters"]), "use_bias": bool(config.get("use_bias", True))}


def _depthwise_fields(config: dict[str, Any], shape: Shape) -> dict[str, Any]:
    multiplier, bias = int(config.get("depth_multiplier", 1)), bool(config.get("use_bias", True))
    return _window_fields(config) | {"depth_multiplier": multiplier, "use_bias": bias}


def _window_fields(config: dict[str, Any], size: str = "kernel_size") -> dict[str, Any]:
    kernel = _pair(config[size])
    strides = kernel if config.get("strides") is None else _pair(config["strides"])
    if strides[0] != strides[1]:
        raise _RefusedError(f"has strides {strides}; one stride for rows and columns is possible")
    if _pair(config.get("dilation_rate") or 1) != (1, 1):
        raise _RefusedError(f"has dilation_rate {config['dilation_rate']}; 1 is possible")
    padding: Padding = config.get("padding", "valid")
    if padding not in ("same", "valid"):
        raise _RefusedError(f'has padding {padding!r}; "same" and "valid" are possible')
    if min(*kernel, strides[0]) < 1:
        raise _RefusedError(f"has a window of {kernel} and strides of {strides}")
    return {"kernel_size": kernel, "stride": strides[0], "padding": padding}


def _batch_norm_fields(config: dict[str, Any], shape: Shape) -> dict[str, Any]:
    axis = config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if axis not in (-1, len(shape)):
        raise _RefusedError(f"normalises axis {axis}; the last axis, the channels, is possible")
    if config.get("renorm"):
        raise _RefusedError("uses renorm, which is not possible")
    center, scale = bool(config.get("center", True)), bool(config.get("scale", True))
    return {"epsilon": float(config["epsilon"]), "center": center, "scale": scale}


def _rescaling_fields(config: dict[str, Any], shape: Shape) -> dict[str, Any]:
    scale, offset = config["scale"], config.get("offset", 0.0)
    if not all(isinstance(number, int | float) for number in (scale, offset)):
        raise _RefusedError("has a scale or an offset for each channel; one number for all is possible")
    return {"scale": float(scale), "offset": float(offset)}


def _zero_padding_fields(config: dict[str, Any], shape: Shape) -> dict[str, Any]:
    padding = config["padding"]
    if isinstance(padding, int):
        padding = (padding, padding)
    rows, cols = (_pair(zeros) for zeros in padding)
    if min(*rows, *cols) < 0 or max(*rows, *cols) > MAX_SIDE:
        raise _RefusedError(f"pads by {padding}")
    return {"padding": (rows, cols)}


def _reshape_fields(config: dict[str, Any], shape: Shape) -> dict[str, Any]:
    return {"target_shape": tuple(int(side) for side in config["target_shape"])}


_FIELDS: dict[str, tuple[type[Layer], Callable[[dict[str, Any], Shape], dict[str, Any]]]] = {
    "AveragePooling2D": (AveragePooling2D, lambda config, shape: _window_fields(config, "pool_size")),
    "BatchNormalization": (BatchNormalization, _batch_norm_fields),
    "Conv2D": (Conv2D, _conv_fields),
    "Dense": (Dense, lambda c, shape: {"units": int(c["units"]), "use_bias": bool(c.get("use_bias", True))}),
    "DepthwiseConv2D": (DepthwiseConv2D, _depthwise_fields),
    "Dropout": (Dropout, lambda config, shape: {"rate": float(config.get("rate", 0.0))}),
    "Flatten": (Flatten, lambda config, shape: {}),
    "GlobalAveragePooling2D": (
        GlobalAveragePooling2D, lambda config, shape: {"keepdims": bool(config.get("keepdims", False))},
    ),
    "GlobalMaxPooling2D": (
        GlobalMaxPooling2D, lambda config, shape: {"keepdims": bool(config.get("keepdims", False))},
    ),
    "MaxPooling2D": (MaxPooling2D, lambda config, shape: _window_fields(config, "pool_size")),
    "Rescaling": (Rescaling, _rescaling_fields),
    "Reshape": (Reshape, _reshape_fields),
    "ZeroPadding2D": (ZeroPadding2D, _zero_padding_fields),
}  # fmt: skip
"""Keras's classes: ours, and how their settings are read. Arguments: config, shape of what the layer reads."""


def _activation_of(kind: str, config: dict[str, Any], shape: Shape) -> str:
    if kind == "Activation":
        return _activation_name(config["activation"])
    if kind == "Softmax":
        axis = config.get("axis", -1)
        if axis not in (-1, len(shape), [-1], [len(shape)]):
            raise _RefusedError(f"goes along axis {axis}; the last axis is possible")
        return "softmax"
    if config.get("negative_slope") or config.get("threshold"):
        raise _RefusedError("has a negative slope or a threshold; a plain ReLU or ReLU6 is possible")
    ceiling = config.get("max_value")
    if ceiling not in (None, 6):
        raise _RefusedError(f"has max_value={ceiling}; 6 or none is possible")
    return "relu" if ceiling is None else "relu6"


def _activation_name(activation: Any) -> str:
    """Our name of an activation; a config has it as a string or as an object with its name."""
    if isinstance(activation, dict):
        inner = activation.get("config")
        if activation.get("class_name") == "ReLU" and isinstance(inner, dict):
            return _activation_of("ReLU", inner, ())
        activation = inner if isinstance(inner, str) else activation.get("class_name")
    name = snake_case(activation) if isinstance(activation, str) else activation
    if name not in FUNCTIONS:
        raise _RefusedError(f"has the activation {activation}; known are {', '.join(ACTIVATIONS)}")
    return FUNCTIONS[name]


def _why_unknown(kind: str) -> str:
    if kind == "Lambda":
        return "holds code, which is never run; use Rescaling or another layer instead"
    if kind == "Normalization":
        return "is not known; use Rescaling, or a BatchNormalization with these statistics"
    return "is not known; known are " + ", ".join(sorted([*_FIELDS, *_MERGES, "Activation", "ReLU", "Softmax"]))


def _operation_name(kind: str, config: dict[str, Any]) -> str:
    """The plain name of TensorFlow's `math.multiply` or of Keras 3's class `Multiply`."""
    if kind == "TFOpLambda":
        return str(config["function"]).rpartition(".")[2]
    return snake_case(kind)


def _operands(entry: dict[str, Any]) -> list[str | float]:
    """What a layer reads, in order: names of layers, and numbers where it is arithmetic."""
    operands: list[str | float] = []
    for node in (entry.get("inbound_nodes") or [])[:1]:
        if isinstance(node, dict):  # Keras 3
            _collect_3(
                [node["args"], [v for k, v in node["kwargs"].items() if k in ("x", "x1", "x2", "inputs")]], operands
            )
        elif node and isinstance(node[0], str):  # Keras 2, a TensorFlow function
            _collect_2([node], operands)
        else:  # Keras 2
            _collect_2(node, operands)
    return operands


def _collect_3(value: Any, operands: list[str | float]) -> None:
    if isinstance(value, list):
        for item in value:
            _collect_3(item, operands)
    elif isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        operands.append(_tensor(value["config"]["keras_history"]))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        operands.append(float(value))


def _collect_2(tensors: Iterable[Any], operands: list[str | float]) -> None:
    for tensor in tensors:
        kwargs = tensor[3] if len(tensor) > 3 else {}
        operands.append(float(tensor[2]) if tensor[0] == "_CONSTANT_VALUE" else _tensor(tensor))
        for key in ("x", "y"):
            value = kwargs.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                operands.append(float(value))
            elif isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str):
                operands.append(float(value[2]) if value[0] == "_CONSTANT_VALUE" else _tensor(value))


def _tensor(history: list[Any]) -> str:
    if history[2] != 0:
        raise WeightsError(f"{history[0]}: has several outputs; one is possible")
    return str(history[0])


def _called_in_training(entry: dict[str, Any]) -> bool:
    """Whether a call says training=True, which Keras 2 keeps at inference. Keras 3 does not."""
    return any(
        isinstance(tensor, list) and len(tensor) > 3 and tensor[3].get("training") is True
        for node in entry.get("inbound_nodes") or []
        if isinstance(node, list)
        for tensor in node
    )


def _has_constant(operands: list[str | float]) -> bool:
    return any(not isinstance(operand, str) for operand in operands)


def _name(entry: dict[str, Any]) -> str:
    name = entry.get("name") or entry["config"].get("name")
    if not isinstance(name, str) or not name:
        raise WeightsError(f"a {entry['class_name']} in the config has no name")
    return name


def _numbered_paths(layers: list[Any], path: str) -> list[str]:
    """Where a `.weights.h5` has each layer: by its class, numbered in the order of the model."""
    seen: Counter[str] = Counter()
    paths = []
    for layer in layers:
        kind = snake_case(str(layer["class_name"]))
        paths.append(f"{path}{'/' if path else ''}layers/{kind}{f'_{seen[kind]}' if seen[kind] else ''}")
        seen[kind] += 1
    return paths


def _ancestors(name: str, reads: dict[str, list[str | float]]) -> set[str]:
    """The layer itself and everything that it reads, directly or not."""
    found, stack = set(), [name]
    while stack:
        current = stack.pop()
        if current not in found:
            found.add(current)
            stack += [operand for operand in reads.get(current, []) if isinstance(operand, str)]
    return found


def _only(layers: Any, what: str) -> str:
    """The one input or output: ["name", 0, 0], or that in a list or in a dictionary."""
    found = list(layers.values()) if isinstance(layers, dict) else layers
    if isinstance(found[0], str):
        found = [found]
    if len(found) != 1:
        raise WeightsError(f"the model has {len(found)} {what}s; one is possible")
    return _tensor(found[0])


def _batch_shape(config: dict[str, Any]) -> Any:
    return config.get("batch_shape") or config.get("batch_input_shape")


def _sequential_shape(entry: dict[str, Any]) -> Any:
    """(batch, H, W, C) of a sequential model: of its first layer, or what it was built for."""
    first = entry["config"]["layers"][0]
    nested = first["config"].get("layers") if isinstance(first["config"].get("layers"), list) else None
    return (
        _batch_shape(first["config"])
        or entry["config"].get("build_input_shape")
        or (entry.get("build_config") or {}).get("input_shape")
        or (_sequential_shape(first) if nested else None)
    )


def _input_name(layers: list[Any]) -> str:
    return _name(layers[0]) if layers[0]["class_name"] == "InputLayer" else "input_layer"


def _pair(value: Any) -> Pair:
    if isinstance(value, int):
        return value, value
    first, second = value
    return int(first), int(second)
