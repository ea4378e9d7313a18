"""Layer types: shapes, arithmetic, traits, one by one."""

import numpy as np
import pytest

from npmobilenet import reference
from npmobilenet.analysis.rounding_growth import network_bounds
from npmobilenet.errors import ShapeError
from npmobilenet.reference import rounding
from npmobilenet.reference.activations import ACTIVATIONS
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
    LAYER_TYPES,
    Activation,
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
    Input,
    MaxPooling2D,
    Multiply,
    Rescaling,
    Reshape,
    ZeroPadding2D,
)
from tests.helpers.graphs import after
from tests.helpers.networks import random_images, random_params


@pytest.mark.parametrize(
    "layer",
    [
        Rescaling(name="y", scale=2.0, offset=1.0),
        ZeroPadding2D(name="y", padding=((1, 2), (0, 3))),
        Conv2D(name="y", filters=2, kernel_size=(3, 2), stride=2, padding=((1, 0), (2, 2))),
        Conv2D(name="y", filters=2, kernel_size=(1, 1), padding=((1, 1), (0, 0)), use_bias=False),
        Conv2D(name="y", filters=2, kernel_size=(1, 1), stride=2, activation="hard_swish"),
        DepthwiseConv2D(name="y", kernel_size=(2, 3), depth_multiplier=3, stride=3, padding="same"),
        BatchNormalization(name="y", center=False),
        BatchNormalization(name="y", scale=False),
        *(Activation(name="y", activation=name) for name in ACTIVATIONS),
        GlobalAveragePooling2D(name="y"),
        LAYER_TYPES["GlobalMaxPooling2D"](name="y", keepdims=True),
        AveragePooling2D(name="y", kernel_size=(3, 2), stride=2, padding="same"),
        LAYER_TYPES["MaxPooling2D"](name="y", kernel_size=(3, 2), stride=2),
        Dense(name="y", units=4),
        Add(name="y", inputs=("x", "x")),
        Multiply(name="y", inputs=("x", "x")),
        LAYER_TYPES["Concatenate"](name="y", inputs=("x", "x"), axis=1),
        Reshape(name="y", target_shape=(-1, 9)),
        Flatten(name="y"),
        Dropout(name="y", rate=0.5),
    ],
    ids=lambda layer: f"{layer.type} {getattr(layer, 'activation', '')}".strip(),
)  # fmt: skip
def test_every_layer_gives_the_shape_it_declares_within_its_bound(layer: Layer) -> None:
    graph = after(layer)
    params, x = random_params(graph, 0), random_images(graph, 0, N=2)
    (_, _), (_, y) = graph.run(params, x)
    (_, _, _), (_, exact, bound) = network_bounds(graph, params, x)
    assert y.shape == (2, *graph.output_shape)
    assert (np.abs(y - exact) <= bound).all()
    only_moves = {"Reshape", "Flatten", "Dropout", "ZeroPadding2D", "MaxPooling2D", "GlobalMaxPooling2D", "Concatenate"}
    only_clips = [Activation(name="y", activation=name) for name in ("linear", "relu", "relu6")]
    assert (bound.max() == 0) == (layer.type in only_moves or layer in only_clips)


def test_multiply_adds_of_a_depth_multiplier_count_every_filter() -> None:
    graph = after(DepthwiseConv2D(name="dw", kernel_size=(3, 5), depth_multiplier=2, padding="same"))
    assert graph.output_shape == (8, 6, 6)
    assert graph.macs == 8 * 6 * 3 * 5 * 3 * 2


def test_the_pointwise_path_of_a_conv_layer_gives_what_the_window_gives() -> None:
    layer = Conv2D(name="conv", filters=4, kernel_size=(1, 1), padding="same")
    graph = after(layer)
    params, x = random_params(graph, 0, np.float64), random_images(graph, 0, dtype=np.float64)
    *_, (_, y) = graph.run(params, x)
    bound = rounding.conv2d_bound(x, params["conv/kernel"], params["conv/bias"], dtype=np.float64)
    assert layer.is_pointwise
    assert (np.abs(y - reference.conv2d(x, params["conv/kernel"], params["conv/bias"])) <= 2 * bound).all()


@pytest.mark.parametrize("axis", [-1, 1, 2, 3, -3])
def test_concatenate_equals_numpy(axis: int) -> None:
    x, y = np.zeros((2, 3, 4, 5)), np.ones((2, 3, 4, 5))
    layer = Concatenate(name="c", inputs=("a", "b"), axis=axis)
    joined = layer.apply({}, x, y)
    assert joined.shape[1:] == layer.output_shape(x.shape[1:], y.shape[1:])
    np.testing.assert_array_equal(joined, np.concatenate([x, y], axis))


@pytest.mark.parametrize(
    ("axis", "shapes"), [(0, [(2, 2), (2, 2)]), (3, [(2, 2), (2, 2)]), (1, [(2, 3), (2, 4)]), (-1, [(2,), (2, 2)])]
)
def test_what_cannot_be_joined_is_refused(axis: int, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(ShapeError, match="cannot be concatenated"):
        Concatenate(name="c", inputs=("a", "b"), axis=axis).output_shape(*shapes)


def test_a_graph_with_both_runs_and_survives_json() -> None:
    graph = Graph(
        "branches",
        (
            Input(name="x", shape=(4, 4, 2)),
            Conv2D(name="conv", inputs=("x",), kernel_size=(1, 1), filters=3, use_bias=False),
            MaxPooling2D(name="pool", inputs=("x",), kernel_size=(3, 3), padding="same"),
            Concatenate(name="join", inputs=("conv", "pool")),
        ),
    )
    assert Graph.from_json(graph.to_json()) == graph
    x = np.ones((1, 4, 4, 2))
    outputs = dict(graph.run({"conv/kernel": np.ones((1, 1, 2, 3))}, x))
    np.testing.assert_array_equal(outputs["join"][0, 0, 0], [2, 2, 2, 1, 1])
