"""MobileNetV3 (Howard et al. 2019, arXiv:1905.02244): tables 1 and 2, one row per block, and the graphs of them.

Where the paper and `keras.applications` differ, Keras is followed, since the weights obey Keras; the row says so.
Layers have the names that Keras gives them in a fresh process, layers that Keras numbers by itself included.
"""

from dataclasses import dataclass, replace

from npmobilenet.architectures.arguments import Resolution, StridesToDilations, check_arguments, sides
from npmobilenet.architectures.builder import Builder
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Add, Dropout, Flatten, Multiply, Rescaling
from npmobilenet.reference.shapes import downsampling_padding, make_divisible
from npmobilenet.types import Padding


@dataclass(frozen=True)
class InvertedResidual:
    """A row of V3's tables. `expand` is the exact ratio to c_in, which Keras rounds after it has scaled c_in."""

    K: int
    expand: float
    c_out: int
    se: bool
    act: str
    stride: int


V3_LARGE = (
    #               K  expand    c_out se     act           stride     input
    InvertedResidual(3, 1,        16, False, "relu", 1),           # 112 x 112 x 16
    InvertedResidual(3, 4,        24, False, "relu", 2),           # 112 x 112 x 16
    InvertedResidual(3, 3,        24, False, "relu", 1),           #  56 x 56 x 24
    InvertedResidual(5, 3,        40, True,  "relu", 2),           #  56 x 56 x 24
    InvertedResidual(5, 3,        40, True,  "relu", 1),           #  28 x 28 x 40
    InvertedResidual(5, 3,        40, True,  "relu", 1),           #  28 x 28 x 40
    InvertedResidual(3, 6,        80, False, "hard_swish", 2),     #  28 x 28 x 40
    InvertedResidual(3, 2.5,      80, False, "hard_swish", 1),     #  14 x 14 x 80
    InvertedResidual(3, 2.3,      80, False, "hard_swish", 1),     #  14 x 14 x 80
    InvertedResidual(3, 2.3,      80, False, "hard_swish", 1),     #  14 x 14 x 80
    InvertedResidual(3, 6,       112, True,  "hard_swish", 1),     #  14 x 14 x 80
    InvertedResidual(3, 6,       112, True,  "hard_swish", 1),     #  14 x 14 x 112
    InvertedResidual(5, 6,       160, True,  "hard_swish", 2),     #  14 x 14 x 112
    InvertedResidual(5, 6,       160, True,  "hard_swish", 1),     #   7 x 7 x 160
    InvertedResidual(5, 6,       160, True,  "hard_swish", 1),     #   7 x 7 x 160
)  # fmt: skip
V3_LARGE_LAST = 1280

V3_SMALL = (
    #               K  expand    c_out se     act           stride     input
    InvertedResidual(3, 1,        16, True,  "relu", 2),           # 112 x 112 x 16
    InvertedResidual(3, 72 / 16,  24, False, "relu", 2),           #  56 x 56 x 16
    InvertedResidual(3, 88 / 24,  24, False, "relu", 1),           #  28 x 28 x 24
    InvertedResidual(5, 4,        40, True,  "hard_swish", 2),     #  28 x 28 x 24
    InvertedResidual(5, 6,        40, True,  "hard_swish", 1),     #  14 x 14 x 40
    InvertedResidual(5, 6,        40, True,  "hard_swish", 1),     #  14 x 14 x 40
    InvertedResidual(5, 3,        48, True,  "hard_swish", 1),     #  14 x 14 x 40
    InvertedResidual(5, 3,        48, True,  "hard_swish", 1),     #  14 x 14 x 48
    InvertedResidual(5, 6,        96, True,  "hard_swish", 2),     #  14 x 14 x 48
    InvertedResidual(5, 6,        96, True,  "hard_swish", 1),     #   7 x 7 x 96
    InvertedResidual(5, 6,        96, True,  "hard_swish", 1),     #   7 x 7 x 96
)  # fmt: skip
V3_SMALL_LAST = 1024

V3_STEM = 16  # for every alpha, in Keras


def mobilenet_v3_large(
    alpha: float = 1.0,
    resolution: Resolution = 224,
    *,
    minimalistic: bool = False,
    include_preprocessing: bool = True,
    include_top: bool = True,
    classes: int = 1000,
    pooling: str | None = None,
    classifier_activation: str | None = "softmax",
    dropout: float = 0.2,
    channels: int = 3,
    output_stride: int = 32,
) -> Graph:
    """MobileNetV3-Large: inverted residuals with squeeze-and-excitation and hard swish.

    Args:
        alpha: width multiplier; channel counts are rounded to multiples of 8, the stem stays at 16.
        resolution: side of the image in pixels, or (H, W).
        minimalistic: no squeeze-and-excitation, no hard swish, no 5 x 5 kernels.
        include_preprocessing: accept pixels in 0..255 and rescale them to [-1, 1].
        include_top, classes, pooling, classifier_activation, dropout, channels, output_stride: as for
            `mobilenet_v1`; dropout 0 omits the layer, as Keras does.

    Raises:
        ArgumentError: an argument is out of range.

    Source: Howard et al. 2019 (arXiv:1905.02244), table 1; numbers as `keras.applications.MobileNetV3Large`.
    """
    check_arguments("mobilenet_v3_large", alpha, resolution, include_top, classes, pooling, output_stride)
    return _mobilenet_v3(
        "MobileNetV3Large", V3_LARGE, V3_LARGE_LAST, alpha, resolution, minimalistic, include_preprocessing,
        include_top, classes, pooling, classifier_activation, dropout, channels, output_stride,
    )  # fmt: skip


def mobilenet_v3_small(
    alpha: float = 1.0,
    resolution: Resolution = 224,
    *,
    minimalistic: bool = False,
    include_preprocessing: bool = True,
    include_top: bool = True,
    classes: int = 1000,
    pooling: str | None = None,
    classifier_activation: str | None = "softmax",
    dropout: float = 0.2,
    channels: int = 3,
    output_stride: int = 32,
) -> Graph:
    """MobileNetV3-Small; arguments and errors as `mobilenet_v3_large`.

    Source: Howard et al. 2019 (arXiv:1905.02244), table 2; numbers as `keras.applications.MobileNetV3Small`.
    """
    check_arguments("mobilenet_v3_small", alpha, resolution, include_top, classes, pooling, output_stride)
    return _mobilenet_v3(
        "MobileNetV3Small", V3_SMALL, V3_SMALL_LAST, alpha, resolution, minimalistic, include_preprocessing,
        include_top, classes, pooling, classifier_activation, dropout, channels, output_stride,
    )  # fmt: skip


def _mobilenet_v3(
    name: str,
    rows: tuple[InvertedResidual, ...],
    last: int,
    alpha: float,
    resolution: Resolution,
    minimalistic: bool,
    include_preprocessing: bool,
    include_top: bool,
    classes: int,
    pooling: str | None,
    classifier_activation: str | None,
    dropout: float,
    channels: int,
    output_stride: int,
) -> Graph:
    act = "relu" if minimalistic else "hard_swish"
    strides = StridesToDilations(output_stride)
    net = Builder(f"{name}{strides.suffix}", (*sides(resolution), channels))
    if include_preprocessing:
        net.add(Rescaling, net.numbered("rescaling"), scale=1 / 127.5, offset=-1.0)
    stem_stride, _ = strides.next(2)
    net.conv("conv", V3_STEM, K=3, stride=stem_stride)
    net.bn("conv_bn")
    net.activation(act)
    for block, row in enumerate(rows):
        stride, dilation = strides.next(row.stride)
        row = replace(row, c_out=make_divisible(row.c_out * alpha), stride=stride)
        row = replace(row, K=3, se=False, act="relu") if minimalistic else row
        _inverted_residual(net, block, row, dilation)
    net.conv("conv_1", make_divisible(net.shape[2] * 6), K=1)
    net.bn("conv_1_bn")
    net.activation(act)
    if not include_top:
        return net.pooled(pooling, "avg_pool", "max_pool")
    net.global_pool(keepdims=True)
    net.conv("conv_2", make_divisible(last * alpha) if alpha > 1 else last, K=1, use_bias=True)
    net.activation(act)
    if dropout > 0:
        net.add(Dropout, net.numbered("dropout"), rate=dropout)
    net.conv("logits", classes, K=1, use_bias=True)
    net.add(Flatten, net.numbered("flatten"))
    net.activation(classifier_activation or "linear", "predictions")
    return net.graph()


def _inverted_residual(net: Builder, block: int, row: InvertedResidual, dilation: int) -> None:
    entry, c_in = net.last, net.shape[2]
    prefix = f"expanded_conv_{block}_" if block else "expanded_conv_"
    expanded = make_divisible(c_in * row.expand)
    if block:
        net.conv(f"{prefix}expand", expanded, K=1)
        net.bn(f"{prefix}expand_bn")
        net.activation(row.act)
    if row.stride == 2:
        net.zero_pad(f"{prefix}depthwise_pad", downsampling_padding(net.shape[:2], row.K))
    padding: Padding = "same" if row.stride == 1 else "valid"
    net.depthwise(f"{prefix}depthwise", row.K, row.stride, padding, dilation=dilation)
    net.bn(f"{prefix}depthwise_bn")
    net.activation(row.act)
    if row.se:
        _squeeze_excite(net, f"{prefix}squeeze_excite_", expanded)
    net.conv(f"{prefix}project", row.c_out, K=1)
    net.bn(f"{prefix}project_bn")
    if row.stride == 1 and c_in == row.c_out:
        net.add(Add, f"{prefix}add", inputs=(entry, net.last))


def _squeeze_excite(net: Builder, prefix: str, channels: int) -> None:
    entry = net.last
    net.global_pool(keepdims=True, name=f"{prefix}avg_pool")
    net.conv(f"{prefix}conv", make_divisible(channels / 4), K=1, use_bias=True)
    net.activation("relu", f"{prefix}relu")
    net.conv(f"{prefix}conv_1", channels, K=1, use_bias=True)
    net.add(Rescaling, net.numbered("add"), scale=1.0, offset=3.0)  # Keras spells the hard sigmoid
    net.activation("relu6")  #                                        relu6(x + 3) / 6
    net.add(Rescaling, net.numbered("multiply"), scale=1 / 6, offset=0.0)  # in three layers
    net.add(Multiply, f"{prefix}mul", inputs=(entry, net.last))
