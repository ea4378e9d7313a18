"""Settings of Keras's layers, as its configs store them, to the fields of the graph's layers of the same name."""

from collections.abc import Callable
from typing import Any, NamedTuple

from npmobilenet.reference.activations import ACTIVATIONS
from npmobilenet.reference.normalization import SMALLEST_DEVIATION
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
MERGES = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")
OPERATIONS = {
    "add": "add", "multiply": "multiply", "mul": "multiply", "subtract": "subtract", "sub": "subtract",
    "truediv": "divide", "true_divide": "divide", "divide": "divide", "maximum": "maximum", "minimum": "minimum",
}  # fmt: skip
"""Arithmetic on layers, by the names of TensorFlow's functions and of Keras 3's operations."""
FUNCTIONS = {
    "relu": "relu", "relu6": "relu6", "softmax": "softmax", "sigmoid": "sigmoid", "hard_silu": "hard_swish",
    "hard_swish": "hard_swish", "hard_sigmoid": "hard_sigmoid", "linear": "linear", None: "linear", "tanh": "tanh",
    "elu": "elu", "silu": "silu", "swish": "silu", "gelu": "gelu", "selu": "selu", "softplus": "softplus",
    "mish": "mish", "leaky_relu": "leaky_relu",
}  # fmt: skip
"""Activations by Keras's names."""
FUNCTION_CLASSES = frozenset(
    {"Elu", "Gelu", "HardSigmoid", "HardSilu", "LeakyRelu", "Mish", "Relu", "Relu6", "Selu", "Sigmoid", "Silu",
     "Softplus", "Tanh"}
)  # fmt: skip
"""Operations of Keras 3 that are activations, by class, save Softmax, which is a layer as well."""
LEAKY_SLOPE = 0.2
"""Of Keras's function `leaky_relu`; the layer's default is 0.3."""
MEANS = ("mean", "reduce_mean")
CROPS = ("CenterCrop", "RandomCrop")
ACTIVATION_LAYERS = ("Activation", "ELU", "LeakyReLU", "ReLU", "Softmax")
MAX_SIDE = 4096  # pixels
MAX_DILATION = 64  # pixels; DeepLab has 36 at most

Fields = dict[str, Any]


class Parametric(NamedTuple):
    """An activation with a parameter: a layer of its own.

    Attributes:
        kind: its class in `LAYER_TYPES`.
        field: of the layer.
        value: of the field.
    """

    kind: str
    field: str
    value: float


ActivationLike = str | Parametric
"""Name of an activation in `ACTIVATIONS`, or one with a parameter."""


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


def activation_of(kind: str, config: dict[str, Any], shape: Shape) -> ActivationLike:
    """What a layer of one of `ACTIVATION_LAYERS` computes; arguments as `fields_of`.

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
    if kind == "ELU":
        return _elu(config)
    if kind == "LeakyReLU":
        return _leaky(config.get("negative_slope", config.get("alpha", 0.3)))  # alpha in Keras 2
    return _relu(config)


def activation_of_operation(operation: str, arguments: dict[str, Any], shape: Shape) -> ActivationLike:
    """What an activation that is called as an operation computes.

    Args:
        operation: its plain name, one of `FUNCTIONS`.
        arguments: of the call, without the value: of Keras 3's class, or of TensorFlow's function.
        shape: of the value, without the batch axis.

    Raises:
        UnsupportedError: an argument is not supported.
    """
    if operation == "leaky_relu":
        return _leaky(arguments.get("negative_slope", arguments.get("alpha", LEAKY_SLOPE)))
    if operation == "elu":
        return _elu(arguments)
    if operation == "gelu" and arguments.get("approximate"):
        return "gelu_tanh"
    if operation == "softmax":
        axis = arguments.get("axis")
        return activation_of("Softmax", {} if axis is None else {"axis": axis}, shape)
    if operation in ("silu", "swish") and arguments.get("beta", 1) != 1:
        raise UnsupportedError(f"beta={arguments['beta']} is not supported (only 1)")
    return FUNCTIONS[operation]


def _elu(config: dict[str, Any]) -> ActivationLike:
    alpha = float(config.get("alpha", 1.0))
    return "elu" if alpha == 1 else Parametric("ELU", "alpha", alpha)


def _leaky(slope: Any) -> Parametric:
    return Parametric("LeakyReLU", "negative_slope", float(slope))


def _relu(config: dict[str, Any]) -> ActivationLike:
    if config.get("threshold"):
        raise UnsupportedError(f"threshold={config['threshold']} is not supported (only 0)")
    ceiling, slope = config.get("max_value"), config.get("negative_slope")
    if ceiling not in (None, 6):
        raise UnsupportedError(f"max_value={ceiling} is not supported (only 6 or none)")
    if slope and ceiling:
        raise UnsupportedError("a negative slope and a max_value together are not supported")
    return _leaky(slope) if slope else "relu" if ceiling is None else "relu6"


def activation_name(activation: Any) -> ActivationLike:
    """An activation, which a config stores as a string or as an object with its name.

    Raises:
        UnsupportedError: it is not supported.
    """
    if isinstance(activation, dict):
        inner = activation.get("config")
        kind = activation.get("class_name")
        if kind in ("ELU", "LeakyReLU", "ReLU") and isinstance(inner, dict):
            return activation_of(kind, inner, ())
        activation = inner if isinstance(inner, str) else activation.get("class_name")
    name = snake_case(activation) if isinstance(activation, str) else activation
    if name == "leaky_relu":
        return _leaky(LEAKY_SLOPE)
    if name not in FUNCTIONS:
        raise UnsupportedError(f"activation {activation} is not supported (only {', '.join(ACTIVATIONS)})")
    return FUNCTIONS[name]


def unsupported_class(kind: str) -> UnsupportedError:
    """Error about a class of layer that is not supported, with what to use instead."""
    if kind == "Lambda":
        return UnsupportedError("contains code, which is never executed; use Rescaling or another layer instead")
    supported = sorted([*SETTINGS, *MERGES, *ACTIVATION_LAYERS, *CROPS, "SeparableConv2D"])
    return UnsupportedError(f"is not supported; supported layers: {', '.join(supported)}")


def _conv(config: dict[str, Any], shape: Shape) -> Fields:
    groups, filters, bias = int(config.get("groups") or 1), int(config["filters"]), bool(config.get("use_bias", True))
    return _window(config) | {
        "filters": filters, "use_bias": bias, "dilation": _dilation(config), "groups": groups
    }  # fmt: skip


def _transposed_conv(config: dict[str, Any], shape: Shape) -> Fields:
    if config.get("output_padding") is not None:
        raise UnsupportedError(f"output_padding={config['output_padding']} is not supported (only none)")
    fields = _conv(config, shape)
    for setting in ("dilation", "groups"):
        if fields.pop(setting) != 1:
            raise UnsupportedError(f"{setting} other than 1 is not supported")
    return fields


def _depthwise(config: dict[str, Any], shape: Shape) -> Fields:
    multiplier, bias = int(config.get("depth_multiplier", 1)), bool(config.get("use_bias", True))
    return _window(config) | {"depth_multiplier": multiplier, "use_bias": bias, "dilation": _dilation(config)}


def _pooling(config: dict[str, Any], shape: Shape) -> Fields:
    return _window(config, "pool_size")


def _window(config: dict[str, Any], size: str = "kernel_size") -> Fields:
    kernel = _pair(config[size])
    strides = kernel if config.get("strides") is None else _pair(config["strides"])
    if strides[0] != strides[1]:
        raise UnsupportedError(f"strides {strides} are not supported (only equal strides of rows and columns)")
    padding: Padding = config.get("padding", "valid")
    if padding not in ("same", "valid"):
        raise UnsupportedError(f'padding {padding!r} is not supported (only "same" and "valid")')
    if min(*kernel, strides[0]) < 1:
        raise UnsupportedError(f"window {kernel} and strides {strides} must be positive")
    return {"kernel_size": kernel, "stride": strides[0], "padding": padding}


def _dilation(config: dict[str, Any]) -> int:
    rows, columns = _pair(config.get("dilation_rate") or 1)
    if rows != columns or not 1 <= rows <= MAX_DILATION:
        raise UnsupportedError(
            f"dilation_rate {(rows, columns)} is not supported (only equal ones, from 1 to {MAX_DILATION})"
        )
    return rows


def _global_pooling(config: dict[str, Any], shape: Shape) -> Fields:
    return {"keepdims": bool(config.get("keepdims", False))}


def _dense(config: dict[str, Any], shape: Shape) -> Fields:
    return {"units": int(config["units"]), "use_bias": bool(config.get("use_bias", True))}


def _batch_norm(config: dict[str, Any], shape: Shape) -> Fields:
    _check_last_axis(config, shape)
    if config.get("renorm"):
        raise UnsupportedError("renorm is not supported")
    center, scale = bool(config.get("center", True)), bool(config.get("scale", True))
    return {"epsilon": float(config["epsilon"]), "center": center, "scale": scale}


def _layer_norm(config: dict[str, Any], shape: Shape) -> Fields:
    _check_last_axis(config, shape)
    if config.get("rms_scaling"):
        raise UnsupportedError("rms_scaling is not supported")
    center, scale = bool(config.get("center", True)), bool(config.get("scale", True))
    return {"epsilon": float(config["epsilon"]), "center": center, "scale": scale}


def _normalization(config: dict[str, Any], shape: Shape) -> Fields:
    _check_last_axis(config, shape)
    if config.get("invert"):
        raise UnsupportedError("invert is not supported")
    return {}


def _check_last_axis(config: dict[str, Any], shape: Shape) -> None:
    axis = config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
    if axis not in (-1, len(shape)):
        raise UnsupportedError(f"normalization of axis {axis} is not supported (only the last axis, the channels)")


def given_statistics(config: dict[str, Any], shape: Shape) -> tuple[list[float], list[float]] | None:
    """Scale and offset per channel of a Normalization whose config has its statistics; None if they are arrays.

    Raises:
        UnsupportedError: they are not one or C numbers.
    """
    if config.get("mean") is None:
        return None
    means = per_channel(config["mean"], shape)
    scales = [1 / max(variance**0.5, SMALLEST_DEVIATION) for variance in per_channel(config["variance"], shape)]
    return scales, [-mean * scale for mean, scale in zip(means, scales, strict=True)]


def per_channel(value: Any, shape: Shape) -> list[float]:
    """C numbers, from one or from C, lists in lists of length 1 opened.

    Raises:
        UnsupportedError: there are other than one or C.
    """
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    values = value if isinstance(value, list) else [value] * shape[-1]
    if len(values) != shape[-1] or not all(isinstance(number, int | float) for number in values):
        raise UnsupportedError(f"expected one number, or {shape[-1]}, one per channel, got {value}")
    return [float(number) for number in values]


def _rescaling(config: dict[str, Any], shape: Shape) -> Fields:
    return {"scale": float(config["scale"]), "offset": float(config.get("offset", 0.0))}


def _prelu(config: dict[str, Any], shape: Shape) -> Fields:
    return {"shared_axes": tuple(int(axis) for axis in config.get("shared_axes") or ())}


def _resizing(config: dict[str, Any], shape: Shape) -> Fields:
    for setting in ("pad_to_aspect_ratio", "antialias"):
        if config.get(setting):
            raise UnsupportedError(f"{setting} is not supported")
    height, width = int(config["height"]), int(config["width"])
    _check_sides(height, width)
    return {"height": height, "width": width, "interpolation": _interpolation(config, "bilinear")}


def _upsampling(config: dict[str, Any], shape: Shape) -> Fields:
    size = _pair(config["size"])
    _check_sides(*size)
    return {"size": size, "interpolation": _interpolation(config, "nearest")}


def _interpolation(config: dict[str, Any], default: str) -> str:
    interpolation = str(config.get("interpolation", default)).lower()
    if interpolation not in ("nearest", "bilinear"):
        raise UnsupportedError(f"interpolation {interpolation} is not supported (only nearest and bilinear)")
    return interpolation


def _check_sides(*sides: int) -> None:
    if not all(0 < side <= MAX_SIDE for side in sides):
        raise UnsupportedError(f"{sides} is not supported (only 1 to {MAX_SIDE})")


def _zero_padding(config: dict[str, Any], shape: Shape) -> Fields:
    return {"padding": _borders(config, "padding")}


def _cropping(config: dict[str, Any], shape: Shape) -> Fields:
    return {"cropping": _borders(config, "cropping")}


def _borders(config: dict[str, Any], setting: str) -> tuple[Pair, Pair]:
    borders = config[setting]
    if isinstance(borders, int):
        borders = (borders, borders)
    rows, cols = (_pair(pixels) for pixels in borders)
    if min(*rows, *cols) < 0 or max(*rows, *cols) > MAX_SIDE:
        raise UnsupportedError(f"{setting} {borders} is not supported (only 0 to {MAX_SIDE} per side)")
    return rows, cols


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
    "Conv2DTranspose": _transposed_conv,
    "Cropping2D": _cropping,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise,
    "Dropout": lambda config, shape: {"rate": float(config.get("rate", 0.0))},
    "Flatten": lambda config, shape: {},
    "GlobalAveragePooling2D": _global_pooling,
    "GlobalMaxPooling2D": _global_pooling,
    "LayerNormalization": _layer_norm,
    "MaxPooling2D": _pooling,
    "Normalization": _normalization,
    "PReLU": _prelu,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "Resizing": _resizing,
    "UpSampling2D": _upsampling,
    "ZeroPadding2D": _zero_padding,
}
"""Fields by Keras's class, from its settings and the shape of its input; see `fields_of`."""
