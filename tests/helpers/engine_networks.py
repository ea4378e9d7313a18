"""Networks that reach every kernel and every path around one."""

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np

from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    Input,
)
from npmobilenet.types import Array, Params
from tests.helpers.networks import random_images, random_params


def own_head() -> Graph:
    """Biases, plain ReLU, average pooling over the whole map, Flatten, Dense with softmax."""
    layers = (
        Input(name="in", shape=(40, 40, 3)),
        Conv2D(name="c1", inputs=("in",), filters=8, kernel_size=(3, 3), stride=2, padding="same"),
        BatchNormalization(name="n1", inputs=("c1",)),
        Activation(name="r1", inputs=("n1",), activation="relu"),
        DepthwiseConv2D(name="d1", inputs=("r1",), kernel_size=(3, 3), padding="same"),
        BatchNormalization(name="n2", inputs=("d1",)),
        Activation(name="r2", inputs=("n2",), activation="relu"),
        Conv2D(name="p1", inputs=("r2",), filters=19, kernel_size=(1, 1), activation="relu6"),
        AveragePooling2D(name="a", inputs=("p1",), kernel_size=(20, 20)),
        Flatten(name="f", inputs=("a",)),
        Dense(name="out", inputs=("f",), units=2, activation="softmax"),
    )
    return Graph("own", layers)


def odd_layers() -> Graph:
    """Layers of no MobileNet: 7 x 7 filters, stride 3, strided 1 x 1, sigmoid; Flatten of a map, without a kernel."""
    layers = (
        Input(name="in", shape=(33, 29, 3)),
        Conv2D(name="c1", inputs=("in",), filters=10, kernel_size=(3, 3), stride=1, padding="same"),
        DepthwiseConv2D(name="d1", inputs=("c1",), kernel_size=(7, 7), padding="same"),
        DepthwiseConv2D(name="d2", inputs=("d1",), kernel_size=(3, 3), padding="same", activation="relu"),
        Conv2D(name="p1", inputs=("d2",), filters=12, kernel_size=(1, 1), activation="sigmoid"),
        Conv2D(name="p2", inputs=("p1",), filters=12, kernel_size=(1, 1), stride=2),
        DepthwiseConv2D(name="d3", inputs=("p2",), kernel_size=(3, 3), stride=3, padding="valid"),
        Flatten(name="f", inputs=("d3",)),
        Dense(name="out", inputs=("f",), units=5),
    )
    return Graph("odd", layers)


ENGINE_NETWORKS: Mapping[str, Callable[[], Graph]] = {
    "v1": lambda: mobilenet_v1(resolution=96, classifier_activation=None, classes=21),
    "v1 alpha 0.25, not square": lambda: mobilenet_v1(0.25, (128, 96), classifier_activation=None, classes=21),
    "v1 alpha 0.3, odd size": lambda: mobilenet_v1(0.3, 75, classifier_activation=None, classes=21),
    "v1 alpha 0.5, a large map": lambda: mobilenet_v1(0.5, (144, 112), classifier_activation=None, classes=21),
    "v1 depth multiplier 2": lambda: mobilenet_v1(0.25, 64, depth_multiplier=2, classifier_activation=None, classes=21),
    "v1 without top": lambda: mobilenet_v1(0.5, 64, include_top=False),
    "v2": lambda: mobilenet_v2(resolution=96, classifier_activation=None, classes=21),
    "v2 alpha 0.35, odd size": lambda: mobilenet_v2(0.35, 97, classifier_activation=None, classes=21),
    "v2 alpha 1.4, wide": lambda: mobilenet_v2(1.4, (32, 160), classifier_activation=None, classes=21),
    "v2 average": lambda: mobilenet_v2(0.5, 64, include_top=False, pooling="avg"),
    "v2 maximum": lambda: mobilenet_v2(0.5, 64, include_top=False, pooling="max"),
    "v3 large": lambda: mobilenet_v3_large(resolution=96, classifier_activation=None, classes=21),
    "v3 large minimalistic": lambda: mobilenet_v3_large(
        0.75, 65, minimalistic=True, classifier_activation=None, classes=21
    ),
    "v3 small": lambda: mobilenet_v3_small(resolution=113, classifier_activation=None, classes=21),
    "v3 small, scaled outside": lambda: mobilenet_v3_small(
        0.75, 64, include_preprocessing=False, classifier_activation=None, classes=21
    ),
    "v1 full convolution": lambda: mobilenet_v1(0.5, 64, full_convolution=True, classifier_activation=None, classes=21),
    "v1 full convolution, odd size": lambda: mobilenet_v1(
        0.3, (75, 53), full_convolution=True, classifier_activation=None, classes=21
    ),
    "grayscale": lambda: mobilenet_v1(0.25, 64, channels=1, classifier_activation=None, classes=21),
    "v3 small, five channels": lambda: mobilenet_v3_small(
        resolution=64, channels=5, classifier_activation=None, classes=21
    ),
    "own head": own_head,
    "odd layers": odd_layers,
}


@cache
def engine_network(name: str) -> tuple[Graph, Params, Array, Array]:
    """(graph, params, 3 images, the reference's output in float64)"""
    graph = ENGINE_NETWORKS[name]()
    params = random_params(graph, seed=3)
    x = random_images(graph, seed=4, N=3)
    return graph, params, x, reference_output(graph, params, x.astype(np.float64))


def reference_output(graph: Graph, params: Params, x: Array) -> Array:
    """The reference's output for scaled images, computed in the dtype of x."""
    *_, (_, y) = graph.run({name: array.astype(x.dtype) for name, array in params.items()}, x)
    return y
