"""MobileNetV1 (Howard et al. 2017, arXiv:1704.04861): table 1, one row per block, and the graph of it.

Where the paper and `keras.applications` differ, Keras is followed, since the weights obey Keras; the row says so.
Layers have the names that Keras gives them in a fresh process, layers that Keras numbers by itself included.
"""

from dataclasses import dataclass

from npmobilenet.architectures.arguments import Resolution, StridesToDilations, check_arguments
from npmobilenet.architectures.builder import Builder
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Dropout, Reshape
from npmobilenet.types import Padding


@dataclass(frozen=True)
class Separable:
    """A depthwise separable block of V1: depthwise 3 x 3, then pointwise."""

    c_out: int
    stride: int


V1 = (
    #        c_out  stride     input
    Separable(64, 1),        # 112 x 112 x 32
    Separable(128, 2),       # 112 x 112 x 64
    Separable(128, 1),       #  56 x 56 x 128
    Separable(256, 2),       #  56 x 56 x 128
    Separable(256, 1),       #  28 x 28 x 256
    Separable(512, 2),       #  28 x 28 x 256
    Separable(512, 1),       #  14 x 14 x 512, five times; the shallow network of table 3 omits these five
    Separable(512, 1),
    Separable(512, 1),
    Separable(512, 1),
    Separable(512, 1),
    Separable(1024, 2),      #  14 x 14 x 512
    Separable(1024, 1),      #   7 x 7 x 1024; the paper prints stride 2 here and an output that only stride 1 gives
)  # fmt: skip
V1_STEM = 32
V1_REPEATED = slice(6, 11)


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
    output_stride: int = 32,
) -> Graph:
    """MobileNetV1: one standard convolution, then 13 depthwise separable blocks.

    Args:
        alpha: width multiplier; every channel count becomes int(c * alpha).
        resolution: side of the image in pixels, or (H, W); the paper's rho is resolution / 224.
        depth_multiplier: filters per channel in the depthwise layers. (It is not the resolution multiplier.)
        shallow: omit the five 14 x 14 x 512 blocks, as in the paper's table 3.
        full_convolution: standard 3 x 3 convolutions instead of the separable blocks, as in the paper's table 4.
        include_top: include the classifier.
        classes: number of classes.
        pooling: without the classifier: "avg", "max" or None.
        classifier_activation: "softmax", or None for logits.
        dropout: rate of the classifier's dropout, a no-op at inference.
        channels: c_in of the image.
        output_stride: side of the image over side of the last feature map: 32, or 16 or 8 for dense prediction, as in
            DeepLab. Strides beyond it become dilations of the layers that follow (`StridesToDilations`); the parameters
            stay the same, the costs rise.

    Raises:
        ArgumentError: an argument is out of range.

    Source: Howard et al. 2017 (arXiv:1704.04861), table 1; names and padding as `keras.applications.MobileNet`.
    """
    H, W = check_arguments("mobilenet_v1", alpha, resolution, include_top, classes, pooling, output_stride)
    strides = StridesToDilations(output_stride)
    name = "mobilenet" + ("_full_convolution" if full_convolution else "") + ("_shallow" if shallow else "")
    net = Builder(f"{name}_{alpha:0.2f}_{H}{strides.suffix}", (H, W, channels))
    stem_stride, _ = strides.next(2)
    _conv_block(net, "conv1", int(V1_STEM * alpha), K=3, stride=stem_stride)
    rows = V1[: V1_REPEATED.start] + V1[V1_REPEATED.stop :] if shallow else V1
    for block, row in enumerate(rows, start=1):
        padding: Padding = "same"
        stride, dilation = strides.next(row.stride)
        if stride == 2:  # Keras pads at the end only, whatever the size, which equals SAME on even sizes
            net.zero_pad(f"conv_pad_{block}", ((0, 1), (0, 1)))
            padding = "valid"
        c_out = int(row.c_out * alpha)
        if full_convolution:
            _conv_block(net, f"conv_{block}", c_out, 3, stride, padding, dilation)
        else:
            _depthwise_block(net, f"conv_dw_{block}", stride, padding, depth_multiplier, dilation)
            _conv_block(net, f"conv_pw_{block}", c_out, K=1)
    if not include_top:
        return net.pooled(pooling)
    return _classified(net, classes, classifier_activation, dropout)


def _classified(net: Builder, classes: int, activation: str | None, dropout: float) -> Graph:
    """The graph with the classifier, a pointwise convolution of the mean."""
    net.global_pool(keepdims=True)
    net.add(Dropout, "dropout", rate=dropout)
    net.conv("conv_preds", classes, K=1, use_bias=True)
    net.add(Reshape, "reshape_2", target_shape=(classes,))
    net.activation(activation or "linear", "predictions")
    return net.graph()


def _conv_block(
    net: Builder, name: str, c_out: int, K: int, stride: int = 1, padding: Padding = "same", dilation: int = 1
) -> None:
    """Convolution, batch normalization, ReLU6."""
    net.conv(name, c_out, K=K, stride=stride, padding=padding, dilation=dilation)
    net.bn(f"{name}_bn")
    net.activation("relu6", f"{name}_relu")


def _depthwise_block(
    net: Builder, name: str, stride: int, padding: Padding, depth_multiplier: int, dilation: int
) -> None:
    """Depthwise convolution, batch normalization, ReLU6."""
    net.depthwise(name, 3, stride, padding, depth_multiplier, dilation)
    net.bn(f"{name}_bn")
    net.activation("relu6", f"{name}_relu")
