"""Whole networks with random weights: the output of every layer against Keras.

Two separate questions. Is every layer right? Each is given Keras's own inputs, so that errors do not accumulate, and
its output and Keras's must be within the rounding bound of that layer from the output in float64. And is the wiring
right? From the input on, every layer of the reference and of Keras is compared with the network in float64. The bound
grows by the sum of |w| in every layer and is soon useless, so there Keras must be about as close to float64 as the
reference: the two sum in different orders, with errors of the same size.
"""

from functools import reduce
from typing import Any

import numpy as np
import pytest

from npmobilenet.analysis.rounding_growth import network_bounds
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
from tests.architectures.test_architectures import build, keras_twin
from tests.helpers.networks import random_images, random_params
from tests.helpers.tolerances import END_TO_END, SMALL
from tests.helpers.within import assert_within

NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("mobilenet_v1", {"alpha": 0.25, "resolution": 224}),
    ("mobilenet_v1", {"alpha": 1.0, "resolution": 96}),
    ("mobilenet_v1", {"alpha": 0.5, "resolution": (75, 101), "classes": 10}),
    ("mobilenet_v1", {"alpha": 0.25, "resolution": 97, "depth_multiplier": 2, "classes": 7}),
    ("mobilenet_v2", {"alpha": 0.35, "resolution": 224}),
    ("mobilenet_v2", {"alpha": 1.0, "resolution": 96}),
    ("mobilenet_v2", {"alpha": 1.4, "resolution": (65, 98), "classes": 3}),
    ("mobilenet_v2", {"alpha": 0.5, "resolution": 71, "classifier_activation": None}),
    ("mobilenet_v3_large", {"alpha": 1.0, "resolution": 96}),
    ("mobilenet_v3_large", {"alpha": 0.75, "resolution": (99, 130), "classes": 10}),
    ("mobilenet_v3_small", {"alpha": 1.0, "resolution": 224}),
    ("mobilenet_v3_small", {"alpha": 0.75, "resolution": 97, "include_preprocessing": False}),
    ("mobilenet_v3_small", {"alpha": 1.0, "resolution": 96, "minimalistic": True}),
    ("mobilenet_v3_large", {"alpha": 0.75, "resolution": (75, 64), "minimalistic": True}),
]


def in_keras(keras: Any, twin: Any, params: Params, x: Array) -> dict[str, Array]:
    """{layer name: output} of a Keras model whose layers bear the graph's names, with the graph's arrays in it."""
    for layer in twin.layers:
        layer.set_weights([params[f"{layer.name}/{w.name}"] for w in layer.weights])
    outputs = keras.Model(twin.inputs[0], [operation.output for operation in twin.operations])(x, training=False)
    names = [operation.name for operation in twin.operations]
    return {name: keras.ops.convert_to_numpy(y) for name, y in zip(names, outputs, strict=True)}


def check_every_layer(graph: Graph, params: Params, theirs: Params) -> None:
    """Both answers of each layer, given Keras's inputs, lie within the bound of its own rounding."""
    params64 = {name: values.astype(np.float64) for name, values in params.items()}
    for layer in graph.layers[1:]:
        inputs = [theirs[name] for name in layer.inputs]
        ours = layer.apply(graph.arrays_of(layer, params), *inputs)
        arrays = graph.arrays_of(layer, params64)
        inputs = [y.astype(np.float64) for y in inputs]
        exact, bound = layer.apply(arrays, *inputs), layer.error_bound(arrays, *inputs)
        assert ours.dtype == np.float32
        assert_within(bound, ours, exact, f"{layer.name}, the reference")
        assert_within(bound, theirs[layer.name], exact, f"{layer.name}, Keras")


def check_the_way_from_the_image(graph: Graph, params: Params, x: Array, theirs: Params) -> None:
    """Keras is as far from float64 as the reference is, layer by layer, and both lie within the worst case."""
    ours = graph.run(params, x)
    for (name, y), (_, exact, bound) in zip(ours, network_bounds(graph, params, x), strict=True):
        size = np.abs(exact).max()
        assert 1e-4 < size < 1e6, f"{name}: the activations have died out or exploded, which proves nothing"
        assert_within(bound, y, exact, f"{name}, the reference")
        assert_within(bound, theirs[name], exact, f"{name}, Keras")
        error, their_error = np.abs(y - exact).max(), np.abs(theirs[name] - exact).max()
        assert their_error <= END_TO_END * (error + np.finfo(np.float32).eps * size), name
        assert error <= END_TO_END * (their_error + np.finfo(np.float32).eps * size), name
        assert error < SMALL * size, f"{name}: so far off that a mistake could hide in it"


@pytest.mark.parametrize(("arch", "arguments"), NETWORKS, ids=str)
def test_every_layer_of_every_network_equals_keras(keras: Any, arch: str, arguments: dict[str, Any]) -> None:
    graph = build(arch, arguments)
    params, x = random_params(graph, seed=3), random_images(graph, seed=4)
    theirs = in_keras(keras, keras_twin(keras, arch, arguments), params, x)
    check_every_layer(graph, params, theirs)
    check_the_way_from_the_image(graph, params, x, theirs)


def test_a_network_like_visual_wake_words_equals_keras(keras: Any) -> None:
    """Plain ReLU inside the convolutions and next to them, biases, an average pool that drops a row, Flatten, Dense."""
    graph = Graph(
        "vww",
        (
            Input(name="image", shape=(50, 47, 3)),
            Conv2D(name="stem", inputs=("image",), filters=8, kernel_size=(3, 3), stride=2, padding="same"),
            BatchNormalization(name="stem_bn", inputs=("stem",)),
            Activation(name="stem_relu", inputs=("stem_bn",), activation="relu"),
            DepthwiseConv2D(name="dw", inputs=("stem_relu",), kernel_size=(3, 3), stride=2, padding="same"),
            BatchNormalization(name="dw_bn", inputs=("dw",), epsilon=1e-5, center=False),
            Activation(name="dw_relu", inputs=("dw_bn",), activation="relu"),
            Conv2D(name="pw", inputs=("dw_relu",), filters=16, kernel_size=(1, 1), activation="relu"),
            DepthwiseConv2D(
                name="dw_2", inputs=("pw",), kernel_size=(5, 3), padding="same", depth_multiplier=2, activation="relu"
            ),
            AveragePooling2D(name="pool", inputs=("dw_2",), kernel_size=(3, 3), stride=3),
            Flatten(name="flatten", inputs=("pool",)),
            Dense(name="hidden", inputs=("flatten",), units=6, activation="hard_swish"),
            Dense(name="predictions", inputs=("hidden",), units=2, activation="softmax"),
        ),
    )
    layers = keras.layers
    chain = [
        layers.Conv2D(8, 3, 2, "same", name="stem"),
        layers.BatchNormalization(name="stem_bn"),
        layers.Activation("relu", name="stem_relu"),
        layers.DepthwiseConv2D(3, 2, "same", name="dw"),
        layers.BatchNormalization(epsilon=1e-5, center=False, name="dw_bn"),
        layers.ReLU(name="dw_relu"),
        layers.Conv2D(16, 1, activation="relu", name="pw"),
        layers.DepthwiseConv2D((5, 3), 1, "same", depth_multiplier=2, activation="relu", name="dw_2"),
        layers.AveragePooling2D(3, name="pool"),
        layers.Flatten(name="flatten"),
        layers.Dense(6, activation="hard_silu", name="hidden"),
        layers.Dense(2, activation="softmax", name="predictions"),
    ]  # fmt: skip
    image = layers.Input((50, 47, 3), name="image")
    twin = keras.Model(image, reduce(lambda y, layer: layer(y), chain, image))
    params, x = random_params(graph, seed=5), random_images(graph, seed=6, N=3)
    theirs = in_keras(keras, twin, params, x)
    assert {name: y.shape[1:] for name, y in theirs.items()} == graph.shapes
    check_every_layer(graph, params, theirs)
    check_the_way_from_the_image(graph, params, x, theirs)


def test_a_network_takes_images_of_other_sizes_than_it_was_built_for_as_keras_does(keras: Any) -> None:
    arguments: dict[str, Any] = {"alpha": 0.35, "resolution": 96, "include_top": False, "pooling": "avg"}
    graph = build("mobilenet_v2", arguments)
    params = random_params(graph, seed=7)
    other = graph.with_input(64, 128)
    x = random_images(other, seed=8)
    theirs = in_keras(keras, keras_twin(keras, "mobilenet_v2", arguments | {"resolution": (64, 128)}), params, x)
    y = graph.output(params, x)
    check_every_layer(other, params, theirs)
    assert np.abs(y - theirs[graph.layers[-1].name]).max() < SMALL * np.abs(y).max()
