"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381): table 2, one row per stage, and the graph of it.

Where the paper and `keras.applications` differ, Keras is followed, since the weights obey Keras; the row says so.
Layers have the names that Keras gives them in a fresh process, layers that Keras numbers by itself included.
"""

from dataclasses import dataclass

from npmobilenet.architectures.arguments import Resolution, StridesToDilations, check_arguments
from npmobilenet.architectures.builder import Builder
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Add, Dense
from npmobilenet.reference.shapes import downsampling_padding, make_divisible


@dataclass(frozen=True)
class Bottleneck:
    """A row of V2's table: an inverted residual, repeated; only the first has the stride."""

    expand: int
    c_out: int
    repeat: int
    stride: int


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


def mobilenet_v2(
    alpha: float = 1.0,
    resolution: Resolution = 224,
    *,
    include_top: bool = True,
    classes: int = 1000,
    pooling: str | None = None,
    classifier_activation: str | None = "softmax",
    channels: int = 3,
    output_stride: int = 32,
) -> Graph:
    """MobileNetV2: inverted residuals with linear bottlenecks.

    Args:
        alpha: width multiplier; channel counts are rounded to multiples of 8; below 1 the last layer keeps its width.
        resolution: side of the image in pixels, or (H, W).
        include_top, classes, pooling, classifier_activation, channels, output_stride: as for `mobilenet_v1`.

    Raises:
        ArgumentError: an argument is out of range.

    Source: Sandler et al. 2018 (arXiv:1801.04381), table 2; names and padding as `keras.applications.MobileNetV2`.
    """
    H, W = check_arguments("mobilenet_v2", alpha, resolution, include_top, classes, pooling, output_stride)
    strides = StridesToDilations(output_stride)
    net = Builder(f"mobilenetv2_{alpha:0.2f}_{H}{strides.suffix}", (H, W, channels))
    stem_stride, _ = strides.next(2)
    net.conv("Conv1", make_divisible(V2_STEM * alpha), K=3, stride=stem_stride)
    net.bn("bn_Conv1")
    net.activation("relu6", "Conv1_relu")
    block = 0
    for row in V2:
        c_out = make_divisible(int(row.c_out * alpha))
        for stride in (row.stride, *[1] * (row.repeat - 1)):
            _inverted_residual(net, block, row.expand, c_out, *strides.next(stride))
            block += 1
    net.conv("Conv_1", make_divisible(V2_LAST * alpha) if alpha > 1 else V2_LAST, K=1, padding="valid")
    net.bn("Conv_1_bn")
    net.activation("relu6", "out_relu")
    if not include_top:
        return net.pooled(pooling)
    net.global_pool()
    net.add(Dense, "predictions", units=classes, activation=classifier_activation or "linear")
    return net.graph()


def _inverted_residual(net: Builder, block: int, expand: int, c_out: int, stride: int, dilation: int) -> None:
    entry, c_in = net.last, net.shape[2]
    prefix = f"block_{block}_" if block else "expanded_conv_"
    if block:
        net.conv(f"{prefix}expand", expand * c_in, K=1)
        net.bn(f"{prefix}expand_BN")
        net.activation("relu6", f"{prefix}expand_relu")
    if stride == 2:
        net.zero_pad(f"{prefix}pad", downsampling_padding(net.shape[:2], K=3))
    net.depthwise(f"{prefix}depthwise", 3, stride, "same" if stride == 1 else "valid", dilation=dilation)
    net.bn(f"{prefix}depthwise_BN")
    net.activation("relu6", f"{prefix}depthwise_relu")
    net.conv(f"{prefix}project", c_out, K=1)
    net.bn(f"{prefix}project_BN")  # linear: no activation after the projection (section 3.2)
    if stride == 1 and c_in == c_out:
        net.add(Add, f"{prefix}add", inputs=(entry, net.last))
