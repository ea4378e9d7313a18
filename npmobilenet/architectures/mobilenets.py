"""The papers' tables, one row a block, and the functions that turn rows into a `Graph`.

    mobilenet_v1        Howard et al. 2017, arXiv:1704.04861, table 1
    mobilenet_v2        Sandler et al. 2018, arXiv:1801.04381, table 2
    mobilenet_v3_large  Howard et al. 2019, arXiv:1905.02244, table 1
    mobilenet_v3_small  the same, table 2

Where a paper and `keras.applications` differ, Keras is followed, since the weights obey Keras; the row says so.
Layers carry the names that Keras gives them in a fresh process, layers that Keras numbers by itself included.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from npmobilenet.architectures.builder import Builder
from npmobilenet.errors import ShapeError
from npmobilenet.reference.graph import (
    Add,
    Dense,
    Dropout,
    Flatten,
    Graph,
    Multiply,
    Rescaling,
    Reshape,
)
from npmobilenet.reference.shapes import downsampling_padding, make_divisible
from npmobilenet.types import Padding

Resolution = int | tuple[int, int]
"""Side of a square image in pixels, or (H, W)."""


@dataclass(frozen=True)
class Separable:
    """A depthwise separable block of V1: depthwise 3 x 3, then pointwise."""

    c_out: int
    stride: int


@dataclass(frozen=True)
class Bottleneck:
    """A row of V2's table: an inverted residual, repeated; only the first of them has the stride."""

    expand: int
    c_out: int
    repeat: int
    stride: int


@dataclass(frozen=True)
class InvertedResidual:
    """A row of V3's tables. `expand` is the exact ratio to c_in, which Keras rounds after it has scaled c_in."""

    K: int
    expand: float
    c_out: int
    se: bool
    act: str
    stride: int


V1 = (
    #        c_out  stride     input
    Separable(64, 1),        # 112 x 112 x 32
    Separable(128, 2),       # 112 x 112 x 64
    Separable(128, 1),       #  56 x 56 x 128
    Separable(256, 2),       #  56 x 56 x 128
    Separable(256, 1),       #  28 x 28 x 256
    Separable(512, 2),       #  28 x 28 x 256
    Separable(512, 1),       #  14 x 14 x 512, five times; the shallow network of table 3 leaves these five out
    Separable(512, 1),
    Separable(512, 1),
    Separable(512, 1),
    Separable(512, 1),
    Separable(1024, 2),      #  14 x 14 x 512
    Separable(1024, 1),      #   7 x 7 x 1024; the paper prints stride 2 here and an output that only stride 1 gives
)  # fmt: skip
V1_STEM = 32
V1_REPEATED = slice(6, 11)

V2 = (
    #        expand c_out repeat stride   input
    Bottleneck(1, 16, 1, 1),           # 112 x 112 x 32
    Bottleneck(6, 24, 2, 2),           # 112 x 112 x 16
    Bottleneck(6, 32, 3, 2),           #  56 x 56 x 24
    Bottleneck(6, 64, 4, 2),           #  28 x 28 x 32
    Bottleneck(6, 96, 3, 1),           #  14 x 14 x 64
    Bottleneck(6, 160, 3, 2),          #  14 x 14 x 96
    Bottleneck(6, 320, 1, 1),          #   7 x 7 x 160
)  # fmt: skip
V2_STEM = 32
V2_LAST = 1280

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


def mobilenet_v1(
    alpha: float = 1.0,
    resolution: Resolution = 224,
    *,
    depth_multiplier: int = 1,
    shallow: bool = False,
    full_convolution: bool = False,
    include_top: bool = True,
    classes: int = 1000,
    pooling: str | None = None,
    classifier_activation: str | None = "softmax",
    dropout: float = 1e-3,
    channels: int = 3,
) -> Graph:
    """MobileNetV1: one standard convolution, then 13 depthwise separable blocks.

    Args:
        alpha: width multiplier; every channel count is cut to int(c * alpha).
        resolution: side of the image in pixels, or (H, W); the paper's rho is resolution / 224.
        depth_multiplier: filters a channel in the depthwise layers. (It is not the resolution multiplier.)
        shallow: leave out the five 14 x 14 x 512 blocks, as in the paper's table 3.
        full_convolution: standard 3 x 3 convolutions in place of the separable blocks, as in the paper's table 4.
        include_top: with the classifier.
        classes: outputs of the classifier.
        pooling: without the classifier: "avg", "max" or None.
        classifier_activation: "softmax", or None for logits.
        dropout: rate of the classifier's dropout, which does nothing at inference.
        channels: c_in of the image.

    Raises:
        ShapeError: an argument is out of range.

    Source: Howard et al. 2017 (arXiv:1704.04861), table 1; names and padding as `keras.applications.MobileNet`.
    """
    H, W = _check("mobilenet_v1", alpha, resolution, include_top, classes, pooling)
    name = "mobilenet" + ("_full_convolution" if full_convolution else "") + ("_shallow" if shallow else "")
    net = Builder(f"{name}_{alpha:0.2f}_{H}", (H, W, channels))
    net.conv("conv1", int(V1_STEM * alpha), K=3, stride=2)
    net.bn("conv1_bn")
    net.activation("relu6", "conv1_relu")
    rows = V1[: V1_REPEATED.start] + V1[V1_REPEATED.stop :] if shallow else V1
    for block, row in enumerate(rows, start=1):
        padding: Padding = "same"
        if row.stride == 2:  # Keras pads at the end only, whatever the size, which equals SAME on even sizes
            net.zero_pad(f"conv_pad_{block}", ((0, 1), (0, 1)))
            padding = "valid"
        if full_convolution:
            net.conv(f"conv_{block}", int(row.c_out * alpha), K=3, stride=row.stride, padding=padding)
            net.bn(f"conv_{block}_bn")
            net.activation("relu6", f"conv_{block}_relu")
            continue
        net.depthwise(f"conv_dw_{block}", K=3, stride=row.stride, padding=padding, depth_multiplier=depth_multiplier)
        net.bn(f"conv_dw_{block}_bn")
        net.activation("relu6", f"conv_dw_{block}_relu")
        net.conv(f"conv_pw_{block}", int(row.c_out * alpha), K=1)
        net.bn(f"conv_pw_{block}_bn")
        net.activation("relu6", f"conv_pw_{block}_relu")
    if not include_top:
        return net.pooled(pooling)
    net.global_pool(keepdims=True)
    net.add(Dropout, "dropout", rate=dropout)
    net.conv("conv_preds", classes, K=1, use_bias=True)
    net.add(Reshape, "reshape_2", target_shape=(classes,))
    net.activation(classifier_activation or "linear", "predictions")
    return net.graph()


def mobilenet_v2(
    alpha: float = 1.0,
    resolution: Resolution = 224,
    *,
    include_top: bool = True,
    classes: int = 1000,
    pooling: str | None = None,
    classifier_activation: str | None = "softmax",
    channels: int = 3,
) -> Graph:
    """MobileNetV2: inverted residuals with linear bottlenecks.

    Args:
        alpha: width multiplier; channel counts are rounded to multiples of 8, and the last layer never gets narrower.
        resolution: side of the image in pixels, or (H, W).
        include_top, classes, pooling, classifier_activation, channels: as for `mobilenet_v1`.

    Raises:
        ShapeError: an argument is out of range.

    Source: Sandler et al. 2018 (arXiv:1801.04381), table 2; names and padding as `keras.applications.MobileNetV2`.
    """
    H, W = _check("mobilenet_v2", alpha, resolution, include_top, classes, pooling)
    net = Builder(f"mobilenetv2_{alpha:0.2f}_{H}", (H, W, channels))
    net.conv("Conv1", make_divisible(V2_STEM * alpha), K=3, stride=2)
    net.bn("bn_Conv1")
    net.activation("relu6", "Conv1_relu")
    block = 0
    for row in V2:
        c_out = make_divisible(int(row.c_out * alpha))
        for stride in (row.stride, *[1] * (row.repeat - 1)):
            _v2_block(net, block, row.expand, c_out, stride)
            block += 1
    net.conv("Conv_1", make_divisible(V2_LAST * alpha) if alpha > 1 else V2_LAST, K=1, padding="valid")
    net.bn("Conv_1_bn")
    net.activation("relu6", "out_relu")
    if not include_top:
        return net.pooled(pooling)
    net.global_pool()
    net.add(Dense, "predictions", units=classes, activation=classifier_activation or "linear")
    return net.graph()


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
) -> Graph:
    """MobileNetV3-Large: inverted residuals with squeeze-and-excite and hard swish.

    Args:
        alpha: width multiplier; channel counts are rounded to multiples of 8, the stem stays at 16.
        resolution: side of the image in pixels, or (H, W).
        minimalistic: no squeeze-and-excite, no hard swish, no 5 x 5 kernels.
        include_preprocessing: take pixels in 0..255 and scale them to [-1, 1] inside.
        include_top, classes, pooling, classifier_activation, dropout, channels: as for `mobilenet_v1`; dropout 0
            leaves the layer out, as Keras does.

    Raises:
        ShapeError: an argument is out of range.

    Source: Howard et al. 2019 (arXiv:1905.02244), table 1; numbers as `keras.applications.MobileNetV3Large`.
    """
    _check("mobilenet_v3_large", alpha, resolution, include_top, classes, pooling)
    return _mobilenet_v3(
        "MobileNetV3Large", V3_LARGE, V3_LARGE_LAST, alpha, resolution, minimalistic, include_preprocessing,
        include_top, classes, pooling, classifier_activation, dropout, channels,
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
) -> Graph:
    """MobileNetV3-Small; arguments and errors as `mobilenet_v3_large`.

    Source: Howard et al. 2019 (arXiv:1905.02244), table 2; numbers as `keras.applications.MobileNetV3Small`.
    """
    _check("mobilenet_v3_small", alpha, resolution, include_top, classes, pooling)
    return _mobilenet_v3(
        "MobileNetV3Small", V3_SMALL, V3_SMALL_LAST, alpha, resolution, minimalistic, include_preprocessing,
        include_top, classes, pooling, classifier_activation, dropout, channels,
    )  # fmt: skip


ARCHITECTURES: dict[str, Callable[..., Graph]] = {
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3_large": mobilenet_v3_large,
    "mobilenet_v3_small": mobilenet_v3_small,
}


def _v2_block(net: Builder, block: int, expand: int, c_out: int, stride: int) -> None:
    entry, c_in = net.last, net.shape[2]
    prefix = f"block_{block}_" if block else "expanded_conv_"
    if block:
        net.conv(f"{prefix}expand", expand * c_in, K=1)
        net.bn(f"{prefix}expand_BN")
        net.activation("relu6", f"{prefix}expand_relu")
    if stride == 2:
        net.zero_pad(f"{prefix}pad", downsampling_padding(net.shape[:2], K=3))
    net.depthwise(f"{prefix}depthwise", K=3, stride=stride, padding="same" if stride == 1 else "valid")
    net.bn(f"{prefix}depthwise_BN")
    net.activation("relu6", f"{prefix}depthwise_relu")
    net.conv(f"{prefix}project", c_out, K=1)
    net.bn(f"{prefix}project_BN")  # linear: no activation after the projection (section 3.2)
    if stride == 1 and c_in == c_out:
        net.add(Add, f"{prefix}add", inputs=(entry, net.last))


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
) -> Graph:
    act = "relu" if minimalistic else "hard_swish"
    net = Builder(name, (*_sides(resolution), channels))
    if include_preprocessing:
        net.add(Rescaling, net.numbered("rescaling"), scale=1 / 127.5, offset=-1.0)
    net.conv("conv", V3_STEM, K=3, stride=2)
    net.bn("conv_bn")
    net.activation(act)
    for block, row in enumerate(rows):
        row = replace(row, c_out=make_divisible(row.c_out * alpha))
        _v3_block(net, block, replace(row, K=3, se=False, act="relu") if minimalistic else row)
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


def _v3_block(net: Builder, block: int, row: InvertedResidual) -> None:
    entry, c_in = net.last, net.shape[2]
    prefix = f"expanded_conv_{block}_" if block else "expanded_conv_"
    expanded = make_divisible(c_in * row.expand)
    if block:
        net.conv(f"{prefix}expand", expanded, K=1)
        net.bn(f"{prefix}expand_bn")
        net.activation(row.act)
    if row.stride == 2:
        net.zero_pad(f"{prefix}depthwise_pad", downsampling_padding(net.shape[:2], row.K))
    net.depthwise(f"{prefix}depthwise", row.K, row.stride, padding="same" if row.stride == 1 else "valid")
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


def _sides(resolution: Resolution) -> tuple[int, int]:
    return (resolution, resolution) if isinstance(resolution, int) else resolution


def _check(
    network: str,
    alpha: float,
    resolution: Resolution,
    include_top: bool,
    classes: int,
    pooling: str | None,
) -> tuple[int, int]:
    H, W = _sides(resolution)
    if not alpha > 0:
        raise ShapeError(f"{network}: alpha is a factor of the channel counts and must be > 0; got {alpha}")
    if min(H, W) < 32:
        raise ShapeError(f"{network}: the resolution must be at least 32 pixels a side; got {(H, W)}")
    if classes < 1:
        raise ShapeError(f"{network}: at least one class is needed; got {classes}")
    if pooling not in (None, "avg", "max"):
        raise ShapeError(f'{network}: pooling is "avg", "max" or None; got {pooling!r}')
    if pooling and include_top:
        raise ShapeError(f"{network}: pooling={pooling!r} takes the place of the classifier; set include_top=False")
    return H, W
