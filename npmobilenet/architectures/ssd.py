"""SSD and SSDLite on MobileNet, as graphs.

A detector takes two feature maps of a classifier, at 1/16 and 1/32 of the image, adds four smaller ones, and puts two
predictors on each of the six: 4 numbers for the box and one score per class, for every anchor. SSDLite is SSD with
every 3 x 3 convolution after the classifier made depthwise separable. The graph has two outputs, `boxes` (anchors, 4)
and `scores` (anchors, slots); `npmobilenet.detection` makes boxes on a photograph of them.

Sources: Liu et al. 2016 (arXiv:1512.02325); Sandler et al. 2018 (arXiv:1801.04381), section 6.2; Howard et al. 2019
(arXiv:1905.02244), section 6.3; the configurations of TensorFlow's Object Detection API and of torchvision.
"""

from dataclasses import replace
from typing import Literal

from npmobilenet.architectures.builder import Builder
from npmobilenet.architectures.mobilenet_v1 import mobilenet_v1
from npmobilenet.architectures.mobilenet_v2 import V2_LAST, mobilenet_v2
from npmobilenet.architectures.mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.errors import ArgumentError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Concatenate, Conv2D, DepthwiseConv2D, Reshape
from npmobilenet.reference.shapes import make_divisible
from npmobilenet.reference.transforms import fold_padding, with_filters
from npmobilenet.types import Padding

World = Literal["tensorflow", "torchvision"]
"""Whose conventions: TensorFlow's Object Detection API pads SAME and has 3 anchors per pixel of the first map;
torchvision pads (K - 1) // 2 zeros on every side and has 6 anchors per pixel of every map."""

EXTRA_MAPS = (512, 256, 256, 128)  # channels; each map has half the side of the one before
COCO_80 = 81  # score slots: 80 classes and background
COCO_90 = 91  # the same for the 90 class numbers of COCO, which uses 80 of them

TAPS = {  # the layer at 1/16 of the image; the one at 1/32 is the last of the classifier's body
    "mobilenet_v1": "conv_pw_11_relu",
    "mobilenet_v2": "block_13_expand_relu",
    "mobilenet_v3_large": "expanded_conv_12_expand_bn",  # and the activation after it
    "mobilenet_v3_small": "expanded_conv_8_expand_bn",
}

REDUCED_TAIL = {
    "mobilenet_v3_large": {
        "expanded_conv_12_project": 80,
        "expanded_conv_13_expand": 480,
        "expanded_conv_13_squeeze_excite_conv": 120,
        "expanded_conv_13_squeeze_excite_conv_1": 480,
        "expanded_conv_13_project": 80,
        "expanded_conv_14_expand": 480,
        "expanded_conv_14_squeeze_excite_conv": 120,
        "expanded_conv_14_squeeze_excite_conv_1": 480,
        "expanded_conv_14_project": 80,
        "conv_1": 480,
    },
    "mobilenet_v3_small": {
        "expanded_conv_8_project": 48,
        "expanded_conv_9_expand": 288,
        "expanded_conv_9_squeeze_excite_conv": 72,
        "expanded_conv_9_squeeze_excite_conv_1": 288,
        "expanded_conv_9_project": 48,
        "expanded_conv_10_expand": 288,
        "expanded_conv_10_squeeze_excite_conv": 72,
        "expanded_conv_10_squeeze_excite_conv_1": 288,
        "expanded_conv_10_project": 48,
        "conv_1": 288,
    },
}
"""Half the channels from the 1/32 map on (Howard et al. 2019, section 6.3), as filters of each convolution."""


def backbone(
    arch: str, alpha: float, resolution: int, *, reduced_tail: bool = False, world: World = "tensorflow"
) -> Graph:
    """The body of a classifier as detectors use it, up to its feature map at 1/32 of the image.

    Args:
        arch: "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large" or "mobilenet_v3_small".
        alpha: width multiplier; here it also narrows the last convolution of V2.
        resolution: side of the image in pixels.
        reduced_tail: V3 with half the channels from the 1/32 map on.
        world: conventions of the padding. In torchvision's, V3 takes pixels in [-1, 1].

    Raises:
        ArgumentError: an argument is out of range.

    Source: TensorFlow's Object Detection API, `ssd_mobilenet_v*_feature_extractor.py`.
    """
    if arch not in TAPS:
        raise ArgumentError(f"unknown architecture {arch!r}; choose from {', '.join(TAPS)}")
    if reduced_tail and (arch not in REDUCED_TAIL or alpha != 1):
        raise ArgumentError("reduced_tail: expected a MobileNetV3 with alpha 1")
    graph = _body(arch, alpha, resolution, is_torch=world == "torchvision")
    if arch == "mobilenet_v2":
        graph = with_filters(graph, {"Conv_1": make_divisible(V2_LAST * alpha)})
    if reduced_tail:
        graph = with_filters(graph, REDUCED_TAIL[arch])
    return _padded_as_torch(graph) if world == "torchvision" else graph


def _body(arch: str, alpha: float, resolution: int, *, is_torch: bool) -> Graph:
    if arch == "mobilenet_v1":
        body = mobilenet_v1(alpha, resolution, include_top=False)
        return fold_padding(body, "same")  # Keras puts the zeros at the end, also on odd sides
    if arch == "mobilenet_v2":
        return mobilenet_v2(alpha, resolution, include_top=False)
    build = mobilenet_v3_large if arch == "mobilenet_v3_large" else mobilenet_v3_small
    return build(alpha, resolution, include_top=False, include_preprocessing=not is_torch)


def _padded_as_torch(graph: Graph) -> Graph:
    """The same layers; convolutions of stride 2 pad (K - 1) // 2 zeros on every side."""
    layers = (
        replace(layer, padding=_symmetric(layer.kernel_size[0]))
        if isinstance(layer, Conv2D | DepthwiseConv2D) and layer.stride == 2
        else layer
        for layer in fold_padding(graph).layers
    )
    return replace(graph, layers=tuple(layers))


def _symmetric(K: int) -> Padding:
    side = (K - 1) // 2
    return (side, side), (side, side)


def ssd(
    arch: str,
    alpha: float = 1.0,
    resolution: int = 320,
    *,
    lite: bool = True,
    slots: int = COCO_90,
    predictor_kernel: int = 3,
    reduced_tail: bool = False,
    world: World = "tensorflow",
) -> Graph:
    """SSD or SSDLite on a MobileNet.

    Args:
        arch, alpha, resolution, reduced_tail: see `backbone`.
        lite: depthwise separable convolutions after the backbone.
        slots: scores per anchor, background included, before the sigmoid or softmax.
        predictor_kernel: side of the predictors' kernel if they are plain convolutions.
        world: conventions of padding and anchors.

    Returns:
        A graph with outputs `boxes` (anchors, 4) and `scores` (anchors, slots); anchors run over maps, rows, columns,
        then shapes.

    Raises:
        ArgumentError: an argument is out of range.
    """
    body = backbone(arch, alpha, resolution, reduced_tail=reduced_tail, world=world)
    net = Builder(f"ssd{'lite' if lite else ''}_{body.name}", body.input_shape)  # type: ignore[arg-type]
    net.extend(body.layers[1:])
    maps = [_tap(body, TAPS[arch]), net.last]
    for number, depth in enumerate(EXTRA_MAPS, start=1):
        maps.append(_extra_map(net, f"extra_{number}_", max(16, int(depth * alpha)), lite, world))
    for prefix, output, values in (("box_", "boxes", 4), ("class_", "scores", slots)):
        rows = []
        for number, (source, anchors) in enumerate(zip(maps, anchors_per_map(world), strict=True), start=1):
            rows.append(_predictor(net, f"{prefix}{number}_", source, anchors, values, lite, predictor_kernel))
        net.add(Concatenate, output, inputs=tuple(rows), axis=1)
    return net.graph((("boxes", "boxes"), ("scores", "scores")))


def anchors_per_map(world: World) -> tuple[int, ...]:
    """Anchors per pixel of the six maps."""
    return (3 if world == "tensorflow" else 6, 6, 6, 6, 6, 6)


def map_sides(graph: Graph) -> tuple[tuple[int, int], ...]:
    """(H, W) of the six maps of a graph that `ssd` made."""
    sides = [graph.shapes[f"box_{number}_conv"][:2] for number in range(1, 3 + len(EXTRA_MAPS))]
    return tuple((H, W) for H, W in sides)


def _tap(body: Graph, name: str) -> str:
    """The layer itself if it is an activation, else the activation that reads it."""
    if name.endswith("relu"):
        return name
    return next(layer.name for layer in body.layers if layer.inputs == (name,))


def _extra_map(net: Builder, prefix: str, depth: int, lite: bool, world: World) -> str:
    padding: Padding = "same" if world == "tensorflow" else _symmetric(3)
    _conv(net, f"{prefix}reduce", max(16, depth // 2), K=1)
    if lite:
        _depthwise(net, f"{prefix}depthwise", stride=2, padding=padding)
        return _conv(net, f"{prefix}pointwise", depth, K=1)
    return _conv(net, f"{prefix}conv", depth, K=3, stride=2, padding=padding)


def _predictor(net: Builder, prefix: str, source: str, anchors: int, values: int, lite: bool, K: int) -> str:
    if lite:
        source = _depthwise(net, f"{prefix}depthwise", source=source)
    size = 1 if lite else K
    net.add(
        Conv2D, f"{prefix}conv", inputs=(source,), filters=anchors * values, kernel_size=(size, size), padding="same"
    )
    return net.add(Reshape, f"{prefix}reshape", target_shape=(-1, values))


def _conv(net: Builder, name: str, filters: int, K: int, stride: int = 1, padding: Padding = "same") -> str:
    net.conv(name, filters, K, stride, padding)
    net.bn(f"{name}_bn")
    return net.activation("relu6", f"{name}_relu")


def _depthwise(net: Builder, name: str, stride: int = 1, source: str = "", padding: Padding = "same") -> str:
    net.add(
        DepthwiseConv2D, name, inputs=(source,) if source else (), kernel_size=(3, 3), stride=stride, padding=padding,
        use_bias=False,
    )  # fmt: skip
    net.bn(f"{name}_bn")
    return net.activation("relu6", f"{name}_relu")
