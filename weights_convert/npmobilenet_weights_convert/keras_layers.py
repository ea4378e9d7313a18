"""Settings of Keras's layer classes, and the layers of the graph that they describe.

Only Keras's own names and settings are here; shapes, parameters and arithmetic are in `reference.layers`.
"""

from collections.abc import Callable
from typing import Any

from npmobilenet.reference.activations import ACTIVATIONS
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
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
    MaxPooling2D,
    Multiply,
    Rescaling,
    Reshape,
    ZeroPadding2D,
)
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
"""No-ops at inference."""
OPERATIONS = {
    "add": "add", "multiply": "multiply", "mul": "multiply", "subtract": "subtract", "sub": "subtract",
    "truediv": "divide", "true_divide": "divide", "divide": "divide",
}  # fmt: skip
"""Arithmetic in a model, by the names of TensorFlow's functions and Keras 3's operations."""
FUNCTIONS = {
    "relu": "relu", "relu6": "relu6", "softmax": "softmax", "sigmoid": "sigmoid", "hard_silu": "hard_swish",
    "hard_swish": "hard_swish", "hard_sigmoid": "hard_sigmoid", "linear": "linear", None: "linear",
}  # fmt: skip
"""Keras's names of activations, and the graph's."""
MAX_SIDE = 4096  # pixels


class RefusedError(Exception):
    """Reason why one layer is not supported."""


MERGES: dict[str, type[Layer]] = {"Add": Add, "Multiply": Multiply, "Concatenate": Concatenate}


def _conv_fields(config: dict[str, Any], shape: Shape) -> dict[str, Any]:
    if config.get("groups") not in (None, 1):
        raise RefusedError(f"has groups={config['groups']} (only groups=1 is supported)")
    return _window_fields(config) | {"filters": int(config["filters"]), "use_bias": bool(config.get("use_bias", True))}


def depthwise_fields(config: dict[str, Any], shape: Shape) -> dict[str, Any]:
    multiplier, bias = int(config.get("depth_multiplier", 1)), bool(config.get("use_bias", True))
    return _window_fields(config) | {"depth_multiplier": multiplier, "use_bias": bias}


def _window_fields(config: dict[str, Any], size: str = "kernel_size") -> dict[str, Any]:
    kernel = _pair(config[size])
    strides = kernel if config.get("strides") is None else _pair(config["strides"])
    if strides[0] != strides[1]:
        raise RefusedError(f"has strides {strides} (only equal strides are supported)")
    if _pair(config.get("dilation_rate") or 1) != (1, 1):
        raise RefusedError(f"has dilation_rate {config['dilation_rate']} (only 1 is supported)")
    padding: Padding = config.get("padding", "valid")
    if padding not in ("same", "valid"):
        raise RefusedError(f'has padding {padding!r} (only "same" and "valid" are supported)')
    if min(*kernel, strides[0]) < 1:
        raise RefusedError(f"has a window of {kernel} and strides of {strides}")
    return {"kernel_size": kernel, "stride": strides[0], "padding": padding}


def _batch_norm_fields(config: dict[str, Any], shape: Shape) -> dict[str, Any]:
    axis = config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if axis not in (-1, len(shape)):
        raise RefusedError(f"normalizes axis {axis} (only the last axis, the channels, is supported)")
    if config.get("renorm"):
        raise RefusedError("uses renorm, which is not supported")
    center, scale = bool(config.get("center", True)), bool(config.get("scale", True))
    return {"epsilon": float(config["epsilon"]), "center": center, "scale": scale}


def _rescaling_fields(config: dict[str, Any], shape: Shape) -> dict[str, Any]:
    scale, offset = config["scale"], config.get("offset", 0.0)
    if not all(isinstance(number, int | float) for number in (scale, offset)):
        raise RefusedError("has a scale or an offset per channel (only one number for all is supported)")
    return {"scale": float(scale), "offset": float(offset)}


def _zero_padding_fields(config: dict[str, Any], shape: Shape) -> dict[str, Any]:
    padding = config["padding"]
    if isinstance(padding, int):
        padding = (padding, padding)
    rows, cols = (_pair(zeros) for zeros in padding)
    if min(*rows, *cols) < 0 or max(*rows, *cols) > MAX_SIDE:
        raise RefusedError(f"pads by {padding}")
    return {"padding": (rows, cols)}


def _reshape_fields(config: dict[str, Any], shape: Shape) -> dict[str, Any]:
    return {"target_shape": tuple(int(side) for side in config["target_shape"])}


FIELDS: dict[str, tuple[type[Layer], Callable[[dict[str, Any], Shape], dict[str, Any]]]] = {
    "AveragePooling2D": (AveragePooling2D, lambda config, shape: _window_fields(config, "pool_size")),
    "BatchNormalization": (BatchNormalization, _batch_norm_fields),
    "Conv2D": (Conv2D, _conv_fields),
    "Dense": (Dense, lambda c, shape: {"units": int(c["units"]), "use_bias": bool(c.get("use_bias", True))}),
    "DepthwiseConv2D": (DepthwiseConv2D, depthwise_fields),
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
"""Layer of the graph per Keras class, and the function from (config, input shape) to its fields."""


def activation_of(kind: str, config: dict[str, Any], shape: Shape) -> str:
    if kind == "Activation":
        return activation_name(config["activation"])
    if kind == "Softmax":
        axis = config.get("axis", -1)
        if axis not in (-1, len(shape), [-1], [len(shape)]):
            raise RefusedError(f"has axis {axis} (only the last axis is supported)")
        return "softmax"
    if config.get("negative_slope") or config.get("threshold"):
        raise RefusedError("has a negative slope or a threshold (only plain ReLU and ReLU6 are supported)")
    ceiling = config.get("max_value")
    if ceiling not in (None, 6):
        raise RefusedError(f"has max_value={ceiling} (only 6 or none is supported)")
    return "relu" if ceiling is None else "relu6"


def activation_name(activation: Any) -> str:
    """The graph's name of an activation, which a config has as a string or as an object with its name."""
    if isinstance(activation, dict):
        inner = activation.get("config")
        if activation.get("class_name") == "ReLU" and isinstance(inner, dict):
            return activation_of("ReLU", inner, ())
        activation = inner if isinstance(inner, str) else activation.get("class_name")
    name = snake_case(activation) if isinstance(activation, str) else activation
    if name not in FUNCTIONS:
        raise RefusedError(
            f"has the activation {activation}, which is not supported; supported: {', '.join(ACTIVATIONS)}"
        )
    return FUNCTIONS[name]


def why_unknown(kind: str) -> str:
    if kind == "Lambda":
        return "contains code, which is never executed; use Rescaling or another layer instead"
    if kind == "Normalization":
        return "is not supported; use Rescaling, or a BatchNormalization with these statistics"
    return "is not supported; supported: " + ", ".join(sorted([*FIELDS, *MERGES, "Activation", "ReLU", "Softmax"]))


def operation_name(kind: str, config: dict[str, Any]) -> str:
    """The plain name of TensorFlow's `math.multiply` or of Keras 3's class `Multiply`."""
    if kind == "TFOpLambda":
        return str(config["function"]).rpartition(".")[2]
    return snake_case(kind)


def _pair(value: Any) -> Pair:
    if isinstance(value, int):
        return value, value
    first, second = value
    return int(first), int(second)
