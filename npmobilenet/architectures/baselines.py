"""Baselines: the networks that the MobileNet papers compare with, as graphs, so that their costs can be counted.

    vgg16         Simonyan & Zisserman 2014, arXiv:1409.1556, table 1, column D
    googlenet     Szegedy et al. 2014, arXiv:1409.4842, table 1, without the auxiliary classifiers
    squeezenet    Iandola et al. 2016, arXiv:1602.07360, table 1 (version 1.0)
    alexnet       Krizhevsky et al. 2012, figure 2: two towers of half the channels, which is what a grouped
                  convolution with two groups computes

Local response normalization, which has no parameters and no multiply-adds, is omitted. ShuffleNet, NASNet and MnasNet
are not included: channel shuffle and grouped convolution are no layer types here, and the last two were found by a
search and published as drawings. Their figures are quoted.
"""

from npmobilenet.architectures.builder import Builder
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Concatenate, Conv2D, Dense, Flatten, MaxPooling2D
from npmobilenet.types import Padding

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # channels, stage by stage

GOOGLENET = {
    #       1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, after the pool       input
    "3a": (64, 96, 128, 16, 32, 32),          # 28 x 28 x 192
    "3b": (128, 128, 192, 32, 96, 64),        # 28 x 28 x 256
    "4a": (192, 96, 208, 16, 48, 64),         # 14 x 14 x 480
    "4b": (160, 112, 224, 24, 64, 64),        # 14 x 14 x 512
    "4c": (128, 128, 256, 24, 64, 64),        # 14 x 14 x 512
    "4d": (112, 144, 288, 32, 64, 64),        # 14 x 14 x 512
    "4e": (256, 160, 320, 32, 128, 128),      # 14 x 14 x 528
    "5a": (256, 160, 320, 32, 128, 128),      #  7 x 7 x 832
    "5b": (384, 192, 384, 48, 128, 128),      #  7 x 7 x 832
}  # fmt: skip

SQUEEZENET = {
    #         squeeze, expand      input
    "fire2": (16, 64),   # 55 x 55 x 96
    "fire3": (16, 64),   # 55 x 55 x 128
    "fire4": (32, 128),  # 55 x 55 x 128
    "fire5": (32, 128),  # 27 x 27 x 256
    "fire6": (48, 192),  # 27 x 27 x 256
    "fire7": (48, 192),  # 27 x 27 x 384
    "fire8": (64, 256),  # 27 x 27 x 384
    "fire9": (64, 256),  # 13 x 13 x 512
}  # fmt: skip


def vgg16(classes: int = 1000) -> Graph:
    """VGG-16 at 224 x 224: thirteen 3 x 3 convolutions and three dense layers.

    Source: arXiv:1409.1556, table 1, column D.
    """
    net = Builder("vgg16", (224, 224, 3))
    for stage, channels in enumerate(VGG16, start=1):
        for number, c_out in enumerate(channels, start=1):
            _conv(net, f"conv{stage}_{number}", c_out, 3, padding="same")
        _max_pool(net, f"pool{stage}", K=2, padding="valid")
    _dense_head(net, classes)
    return net.graph()


def alexnet(classes: int = 1000) -> Graph:
    """AlexNet at 227 x 227 as it was trained: two towers that join at the third convolution and at the dense layers.

    Source: Krizhevsky, Sutskever, Hinton 2012, figure 2 and section 3.5; its map of 55 x 55 takes an input of 227.
    """
    net = Builder("alexnet", (227, 227, 3))
    image, towers = net.last, []
    for half in "ab":
        _conv(net, f"conv1{half}", 48, 11, stride=4, padding="valid", source=image)
        _max_pool(net, f"pool1{half}", K=3, padding="valid")
        _conv(net, f"conv2{half}", 128, 5, padding="same")
        towers.append(_max_pool(net, f"pool2{half}", K=3, padding="valid"))
    meeting = net.add(Concatenate, "meet", inputs=tuple(towers))
    towers = []
    for half in "ab":
        _conv(net, f"conv3{half}", 192, 3, padding="same", source=meeting)
        _conv(net, f"conv4{half}", 192, 3, padding="same")
        _conv(net, f"conv5{half}", 128, 3, padding="same")
        towers.append(_max_pool(net, f"pool5{half}", K=3, padding="valid"))
    net.add(Concatenate, "join", inputs=tuple(towers))
    _dense_head(net, classes)
    return net.graph()


def googlenet(classes: int = 1000) -> Graph:
    """GoogLeNet at 224 x 224: nine inception modules of four branches each.

    Source: arXiv:1409.4842, table 1.
    """
    net = Builder("googlenet", (224, 224, 3))
    _conv(net, "conv1", 64, 7, stride=2, padding="same")
    _max_pool(net, "pool1", K=3, padding="same")
    _conv(net, "conv2_reduce", 64, 1)
    _conv(net, "conv2", 192, 3, padding="same")
    _max_pool(net, "pool2", K=3, padding="same")
    for name, channels in GOOGLENET.items():
        if name in ("4a", "5a"):
            _max_pool(net, f"pool{int(name[0]) - 1}", K=3, padding="same")
        _inception(net, f"inception_{name}_", *channels)
    net.global_pool(name="avg_pool")
    net.add(Dense, "classifier", units=classes, activation="softmax")
    return net.graph()


def squeezenet(classes: int = 1000, resolution: int = 224) -> Graph:
    """SqueezeNet 1.0: eight fire modules, and no dense layer.

    Source: arXiv:1602.07360, table 1; its maps of 111, 55, 27 and 13 pixels.
    """
    net = Builder("squeezenet", (resolution, resolution, 3))
    _conv(net, "conv1", 96, 7, stride=2, padding=((2, 2), (2, 2)))
    _max_pool(net, "pool1", K=3, padding="valid")
    for name, (squeezed, expanded) in SQUEEZENET.items():
        entry = _conv(net, f"{name}_squeeze", squeezed, 1)
        branches = (
            _conv(net, f"{name}_expand1x1", expanded, 1, source=entry),
            _conv(net, f"{name}_expand3x3", expanded, 3, padding="same", source=entry),
        )
        net.add(Concatenate, f"{name}_concat", inputs=branches)
        if name in ("fire4", "fire8"):
            _max_pool(net, f"pool_{name}", K=3, padding="valid")
    _conv(net, "conv10", classes, 1)
    net.global_pool(name="avg_pool")
    net.activation("softmax", "softmax")
    return net.graph()


def _conv(
    net: Builder, name: str, c_out: int, K: int, *, stride: int = 1, padding: Padding = "valid", source: str = ""
) -> str:
    return net.add(
        Conv2D, name, inputs=(source,) if source else (), filters=c_out, kernel_size=(K, K), stride=stride,
        padding=padding, activation="relu",
    )  # fmt: skip


def _max_pool(net: Builder, name: str, K: int, padding: Padding, stride: int = 2, source: str = "") -> str:
    inputs = (source,) if source else ()
    return net.add(MaxPooling2D, name, inputs=inputs, kernel_size=(K, K), stride=stride, padding=padding)


def _dense_head(net: Builder, classes: int) -> None:
    net.add(Flatten, "flatten")
    net.add(Dense, "fc6", units=4096, activation="relu")
    net.add(Dense, "fc7", units=4096, activation="relu")
    net.add(Dense, "fc8", units=classes, activation="softmax")


def _inception(
    net: Builder, prefix: str, c1: int, c3_reduced: int, c3: int, c5_reduced: int, c5: int, c_pool: int
) -> None:
    entry = net.last
    branches = [_conv(net, f"{prefix}1x1", c1, 1, source=entry)]
    _conv(net, f"{prefix}3x3_reduce", c3_reduced, 1, source=entry)
    branches.append(_conv(net, f"{prefix}3x3", c3, 3, padding="same"))
    _conv(net, f"{prefix}5x5_reduce", c5_reduced, 1, source=entry)
    branches.append(_conv(net, f"{prefix}5x5", c5, 5, padding="same"))
    _max_pool(net, f"{prefix}pool", K=3, stride=1, padding="same", source=entry)
    branches.append(_conv(net, f"{prefix}pool_proj", c_pool, 1))
    net.add(Concatenate, f"{prefix}concat", inputs=tuple(branches))
