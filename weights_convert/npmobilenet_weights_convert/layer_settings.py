"""Settings of Keras's layers, as its configs store them, to the fields of the graph's layers of the same name."""

from collections.abc import Callable
from typing import Any

from npmobilenet.reference.activations import ACTIVATIONS
from npmobilenet.types import Padding, Pair, Shape
from npmobilenet_weights_convert.name_matching import snake_case

TRAINING_ONLY = frozenset({
    "ActivityRegularization", "AlphaDropout", "AugMix", "Cast", "CutMix", "Equalization", "GaussianDropout",
    "GaussianNoise", "Identity", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration",
    "RandomColorJitter", "RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip",
    "RandomGaussianBlur", "RandomGrayscale", "RandomHeight", "RandomHue", "RandomInvert", "RandomPerspective",
    "RandomPosterization", "RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation",
    "RandomWidth", "RandomZoom", "Solarization", "SpatialDropout2D",
})  # fmt: skip
"""Layers that are no-ops at inference."""
MERGES = ("Add", "Multiply", "Concatenate")
OPERATIONS = {
    "add": "add", "multiply": "multiply", "mul": "multiply", "subtract": "subtract", "sub": "subtract",
    "truediv": "divide", "true_divide": "divide", "divide": "divide",
}  # fmt: skip
"""Arithmetic on layers, by the names of TensorFlow's functions and of Keras 3's operations."""
FUNCTIONS = {
    "relu": "relu", "relu6": "relu6", "softmax": "softmax", "sigmoid": "sigmoid", "hard_silu": "hard_swish",
    "hard_swish": "hard_swish", "hard_sigmoid": "hard_sigmoid", "linear": "linear", None: "linear",
}  # fmt: skip
"""Activations by Keras's names."""
MAX_SIDE = 4096  # pixels

Fields = dict[str, Any]


class UnsupportedError(Exception):
    """Reason why one layer is not supported."""


def fields_of(kind: str, config: dict[str, Any], shape: Shape) -> Fields:
    """Fields of a layer, its activation excepted.

    Args:
        kind: Keras's class, one of `SETTINGS`.
        config: its settings.
        shape: of its input, without the batch axis.

    Raises:
        UnsupportedError: a setting is not supported.
    """
    return SETTINGS[kind](config, shape)


def scale_and_offset(operation: str, constant: float, constant_first: bool) -> tuple[float, float]:
    """Arithmetic of a layer and a number as scale * x + offset.

    Raises:
        UnsupportedError: it is a division by the layer, or by zero.
    """
    if operation == "divide" and (constant_first or constant == 0):
        raise UnsupportedError("division by a layer or by zero is not supported")
    return {
        "add": (1.0, constant),
        "multiply": (constant, 0.0),
        "subtract": (-1.0, constant) if constant_first else (1.0, -constant),
        "divide": (1 / constant if constant else 0.0, 0.0),
    }[operation]


def activation_of(kind: str, config: dict[str, Any], shape: Shape) -> str:
    """Name of the activation that a layer of class Activation, ReLU or Softmax computes; arguments as `fields_of`.

    Raises:
        UnsupportedError: it is not supported.
    """
    if kind == "Activation":
        return activation_name(config["activation"])
    if kind == "Softmax":
        axis = config.get("axis", -1)
        if axis not in (-1, len(shape), [-1], [len(shape)]):
            raise UnsupportedError(f"axis {axis} is not supported (only the last axis)")
        return "softmax"
    if config.get("negative_slope") or config.get("threshold"):
        raise UnsupportedError("a negative slope or a threshold is not supported (only ReLU and ReLU6)")
    ceiling = config.get("max_value")
    if ceiling not in (None, 6):
        raise UnsupportedError(f"max_value={ceiling} is not supported (only 6 or none)")
    return "relu" if ceiling is None else "relu6"


def activation_name(activation: Any) -> str:
    """Name of an activation, which a config stores as a string or as an object with its name.

    Raises:
        UnsupportedError: it is not supported.
    """
    if isinstance(activation, dict):
        inner = activation.get("config")
        if activation.get("class_name") == "ReLU" and isinstance(inner, dict):
            return activation_of("ReLU", inner, ())
        activation = inner if isinstance(inner, str) else activation.get("class_name")
    name = snake_case(activation) if isinstance(activation, str) else activation
    if name not in FUNCTIONS:
        raise UnsupportedError(f"activation {activation} is not supported (only {', '.join(ACTIVATIONS)})")
    return FUNCTIONS[name]


def unsupported_class(kind: str) -> UnsupportedError:
    """Error about a class of layer that is not supported, with what to use instead."""
    if kind == "Lambda":
        return UnsupportedError("contains code, which is never executed; use Rescaling or another layer instead")
    if kind == "Normalization":
        return UnsupportedError("is not supported; use Rescaling, or a BatchNormalization with these statistics")
    supported = sorted([*SETTINGS, *MERGES, "Activation", "ReLU", "SeparableConv2D", "Softmax"])
    return UnsupportedError(f"is not supported; supported layers: {', '.join(supported)}")


def _conv(config: dict[str, Any], shape: Shape) -> Fields:
    if config.get("groups") not in (None, 1):
        raise UnsupportedError(f"groups={config['groups']} is not supported (only groups=1)")
    return _window(config) | {"filters": int(config["filters"]), "use_bias": bool(config.get("use_bias", True))}


def _depthwise(config: dict[str, Any], shape: Shape) -> Fields:
    multiplier, bias = int(config.get("depth_multiplier", 1)), bool(config.get("use_bias", True))
    return _window(config) | {"depth_multiplier": multiplier, "use_bias": bias}


def _pooling(config: dict[str, Any], shape: Shape) -> Fields:
    return _window(config, "pool_size")


def _window(config: dict[str, Any], size: str = "kernel_size") -> Fields:
    kernel = _pair(config[size])
    strides = kernel if config.get("strides") is None else _pair(config["strides"])
    if strides[0] != strides[1]:
        raise UnsupportedError(f"strides {strides} are not supported (only equal strides of rows and columns)")
    if _pair(config.get("dilation_rate") or 1) != (1, 1):
        raise UnsupportedError(f"dilation_rate {config['dilation_rate']} is not supported (only 1)")
    padding: Padding = config.get("padding", "valid")
    if padding not in ("same", "valid"):
        raise UnsupportedError(f'padding {padding!r} is not supported (only "same" and "valid")')
    if min(*kernel, strides[0]) < 1:
        raise UnsupportedError(f"window {kernel} and strides {strides} must be positive")
    return {"kernel_size": kernel, "stride": strides[0], "padding": padding}


def _global_pooling(config: dict[str, Any], shape: Shape) -> Fields:
    return {"keepdims": bool(config.get("keepdims", False))}


def _dense(config: dict[str, Any], shape: Shape) -> Fields:
    return {"units": int(config["units"]), "use_bias": bool(config.get("use_bias", True))}


def _batch_norm(config: dict[str, Any], shape: Shape) -> Fields:
    axis = config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if axis not in (-1, len(shape)):
        raise UnsupportedError(f"normalization of axis {axis} is not supported (only the last axis, the channels)")
    if config.get("renorm"):
        raise UnsupportedError("renorm is not supported")
    center, scale = bool(config.get("center", True)), bool(config.get("scale", True))
    return {"epsilon": float(config["epsilon"]), "center": center, "scale": scale}


def _rescaling(config: dict[str, Any], shape: Shape) -> Fields:
    scale, offset = config["scale"], config.get("offset", 0.0)
    if not all(isinstance(number, int | float) for number in (scale, offset)):
        raise UnsupportedError("a scale or an offset per channel is not supported (only one number)")
    return {"scale": float(scale), "offset": float(offset)}


def _zero_padding(config: dict[str, Any], shape: Shape) -> Fields:
    padding = config["padding"]
    if isinstance(padding, int):
        padding = (padding, padding)
    rows, cols = (_pair(zeros) for zeros in padding)
    if min(*rows, *cols) < 0 or max(*rows, *cols) > MAX_SIDE:
        raise UnsupportedError(f"padding {padding} is not supported (only 0 to {MAX_SIDE} per side)")
    return {"padding": (rows, cols)}


def _reshape(config: dict[str, Any], shape: Shape) -> Fields:
    return {"target_shape": tuple(int(side) for side in config["target_shape"])}


def _pair(value: Any) -> Pair:
    if isinstance(value, int):
        return value, value
    first, second = value
    return int(first), int(second)


SETTINGS: dict[str, Callable[[dict[str, Any], Shape], Fields]] = {
    "AveragePooling2D": _pooling,
    "BatchNormalization": _batch_norm,
    "Conv2D": _conv,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise,
    "Dropout": lambda config, shape: {"rate": float(config.get("rate", 0.0))},
    "Flatten": lambda config, shape: {},
    "GlobalAveragePooling2D": _global_pooling,
    "GlobalMaxPooling2D": _global_pooling,
    "MaxPooling2D": _pooling,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "ZeroPadding2D": _zero_padding,
}
"""Fields by Keras's class, from its settings and the shape of its input; see `fields_of`."""
