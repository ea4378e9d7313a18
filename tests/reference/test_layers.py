"""Layer types: shapes, arithmetic, traits, one by one."""

from dataclasses import replace

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
    ELU,
    Activation,
    Add,
    Average,
    AveragePooling2D,
    BatchNormalization,
    Broadcast,
    ChannelRescaling,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Input,
    LayerNormalization,
    LeakyReLU,
    Maximum,
    MaxPooling2D,
    Minimum,
    Multiply,
    Normalization,
    PReLU,
    Rescaling,
    Reshape,
    Resizing,
    Subtract,
    UpSampling2D,
    ZeroPadding2D,
)
from npmobilenet.types import Array
from tests.helpers.graphs import after
from tests.helpers.networks import random_images, random_params

LAYERS: list[Layer] = [
    Rescaling(name="y", scale=2.0, offset=1.0),
    ZeroPadding2D(name="y", padding=((1, 2), (0, 3))),
    Conv2D(name="y", filters=2, kernel_size=(3, 2), stride=2, padding=((1, 0), (2, 2))),
    Conv2D(name="y", filters=2, kernel_size=(1, 1), padding=((1, 1), (0, 0)), use_bias=False),
    Conv2D(name="y", filters=2, kernel_size=(1, 1), stride=2, activation="hard_swish"),
    Conv2D(name="y", filters=2, kernel_size=(3, 2), dilation=3, padding="same"),
    Conv2D(name="y", filters=6, kernel_size=(2, 3), groups=3, dilation=2, activation="relu"),
    Conv2D(name="y", filters=3, kernel_size=(1, 1), groups=3, use_bias=False),
    DepthwiseConv2D(name="y", kernel_size=(3, 2), dilation=2),
    DepthwiseConv2D(name="y", kernel_size=(2, 3), dilation=4, stride=2, padding="same"),
    DepthwiseConv2D(name="y", kernel_size=(2, 3), depth_multiplier=3, stride=3, padding="same"),
    BatchNormalization(name="y", center=False),
    BatchNormalization(name="y", scale=False),
    *(Activation(name="y", activation=name) for name in ACTIVATIONS),
    GlobalAveragePooling2D(name="y"),
    GlobalMaxPooling2D(name="y", keepdims=True),
    AveragePooling2D(name="y", kernel_size=(3, 2), stride=2, padding="same"),
    MaxPooling2D(name="y", kernel_size=(3, 2), stride=2),
    Dense(name="y", units=4),
    Add(name="y", inputs=("x", "x")),
    Multiply(name="y", inputs=("x", "x")),
    Concatenate(name="y", inputs=("x", "x"), axis=1),
    Reshape(name="y", target_shape=(-1, 9)),
    Flatten(name="y"),
    Dropout(name="y", rate=0.5),
    *(merge(name="y", inputs=("x", "x")) for merge in (Average, Maximum, Minimum, Subtract)),
    Broadcast(name="y", target_shape=(8, 6, 3)),
    Conv2DTranspose(name="y", filters=2, kernel_size=(3, 2), stride=2, padding="same", activation="relu6"),
    Conv2DTranspose(name="y", filters=2, kernel_size=(2, 3), stride=3, use_bias=False),
    ChannelRescaling(name="y", scale=(2.0, 0.5, -1.0), offset=(1.0, 0.0, 0.25)),
    LayerNormalization(name="y"),
    LayerNormalization(name="y", center=False, scale=False),
    Cropping2D(name="y", cropping=((1, 0), (2, 1))),
    ELU(name="y", alpha=0.5),
    ELU(name="y", alpha=3.0),
    LeakyReLU(name="y", negative_slope=0.1),
    Normalization(name="y"),
    PReLU(name="y"),
    PReLU(name="y", shared_axes=(1, 2)),
    Resizing(name="y", height=5, width=9),
    Resizing(name="y", height=13, width=4, interpolation="nearest"),
    UpSampling2D(name="y", size=(2, 3)),
    UpSampling2D(name="y", size=(3, 2), interpolation="bilinear"),
]


def label(layer: Layer) -> str:
    return f"{layer.type} {getattr(layer, 'activation', '')}".strip()


@pytest.mark.parametrize("layer", LAYERS, ids=label)
def test_every_layer_gives_the_shape_it_declares_within_its_bound(layer: Layer) -> None:
    graph = after(layer)
    params, x = random_params(graph, 0), random_images(graph, 0, N=2)
    (_, _), (_, y) = graph.run(params, x)
    (_, _, _), (_, exact, bound) = network_bounds(graph, params, x)
    assert y.shape == (2, *graph.output_shape)
    assert (np.abs(y - exact) <= bound).all()
    only_moves = {"Reshape", "Flatten", "Dropout", "ZeroPadding2D", "MaxPooling2D", "GlobalMaxPooling2D", "Concatenate"}
    only_moves |= {"Broadcast", "Cropping2D", "Maximum", "Minimum"}
    only_clips = [Activation(name="y", activation=name) for name in ("linear", "relu", "relu6")]
    is_exact = layer.type in only_moves or layer in only_clips or getattr(layer, "interpolation", "") == "nearest"
    assert (bound.max() == 0) == is_exact


def outputs(layer: Layer, x: Array) -> Array:
    graph = after(layer)
    y: Array = graph.output(random_params(graph, 0, np.float64), x)
    return y


X0 = np.random.default_rng(0).uniform(0.5, 1.5, (1, 8, 6, 3))


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if layer.moves_only], ids=label)
def test_a_layer_that_only_moves_gives_values_of_its_input_and_zeros(layer: Layer) -> None:
    assert set(np.unique(outputs(layer, X0))) <= {0.0, *X0.ravel()}


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if layer.is_view], ids=label)
def test_a_view_moves_no_byte(layer: Layer) -> None:
    y = layer.apply({}, X0)
    assert np.shares_memory(X0, y)
    np.testing.assert_array_equal(y.ravel(), X0.ravel())


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if layer.elementwise], ids=label)
def test_an_elementwise_layer_has_the_size_of_its_input(layer: Layer) -> None:
    """And each value depends on the value at its place only; softmax, which reads its row first, is the exception."""
    y = outputs(layer, X0)
    assert y.size == X0.size
    if getattr(layer, "activation", "") != "softmax":
        changed = X0.copy()
        changed.flat[50] += 0.25
        differs = np.flatnonzero(outputs(layer, changed) != y)
        assert set(differs) <= {50}


DEPTHWISE = DepthwiseConv2D(name="y", kernel_size=(3, 3), activation="relu")


@pytest.mark.parametrize("layer", [layer for layer in [*LAYERS, DEPTHWISE] if layer.channelwise], ids=label)
def test_a_channelwise_layer_keeps_the_channels_apart(layer: Layer) -> None:
    changed = X0.copy()
    changed[..., 1] += 0.25
    y, z = outputs(layer, X0), outputs(layer, changed)
    assert y.shape[-1] == 3
    np.testing.assert_array_equal(y[..., [0, 2]], z[..., [0, 2]])


def test_softmax_and_a_depth_multiplier_are_not_channelwise() -> None:
    assert DEPTHWISE.channelwise
    assert not replace(DEPTHWISE, activation="softmax").channelwise
    assert not replace(DEPTHWISE, depth_multiplier=2).channelwise
    assert not Activation(name="y", activation="softmax").channelwise


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if layer.rowwise], ids=label)
def test_a_row_of_a_rowwise_layer_depends_on_the_rows_that_it_reads(layer: Layer) -> None:
    y = outputs(layer, X0)
    for row in range(y.shape[1]):
        (first, last), _ = layer.rows_read((row, row + 1), (8, 6, 3))
        other = np.full_like(X0, 7.0)
        other[:, first:last] = X0[:, first:last]
        np.testing.assert_array_equal(outputs(layer, other)[:, row], y[:, row])


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if layer.rowwise], ids=label)
def test_a_rowwise_layer_can_be_computed_in_bands_of_rows(layer: Layer) -> None:
    y = outputs(layer, X0)
    middle = (y.shape[1] + 1) // 2
    bands = []
    for rows in ((0, middle), (middle, y.shape[1])):
        (first, last), zeros = layer.rows_read(rows, (8, 6, 3))
        graph = after(layer)
        arrays = graph.arrays_of(graph["y"], random_params(graph, 0, np.float64))
        x = X0[:, first:last]
        bands.append(layer.on_rows(zeros, (8, 6, 3)).apply(arrays, *[x] * max(len(layer.inputs), 1)))
    np.testing.assert_array_equal(np.concatenate(bands, axis=1), y)


def test_multiply_adds_of_a_depth_multiplier_count_every_filter() -> None:
    graph = after(DepthwiseConv2D(name="dw", kernel_size=(3, 5), depth_multiplier=2, padding="same"))
    assert graph.output_shape == (8, 6, 6)
    assert graph.macs == 8 * 6 * 3 * 5 * 3 * 2


def test_the_pointwise_path_of_a_conv_layer_gives_what_the_window_gives() -> None:
    layer = Conv2D(name="conv", filters=4, kernel_size=(1, 1), padding="same")
    graph = after(layer)
    params, x = random_params(graph, 0, np.float64), random_images(graph, 0, dtype=np.float64)
    y = graph.output(params, x)
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
