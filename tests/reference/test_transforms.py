"""Transforms: each gives the network that it names, and leaves everything else as it was."""

from dataclasses import replace

import numpy as np
import pytest

from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_small
from npmobilenet.errors import ArgumentError, ShapeError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
    Input,
    MaxPooling2D,
    ZeroPadding2D,
)
from npmobilenet.reference.transforms import fold_padding, subgraph_to, with_epsilon, with_filters
from tests.helpers.graphs import after, small_network
from tests.helpers.networks import random_images, random_params


@pytest.mark.parametrize("graph", [mobilenet_v1(0.25, 33), mobilenet_v2(0.35, 33), mobilenet_v3_small(0.75, 33)])
def test_padding_becomes_that_of_the_convolutions_and_every_output_stays_as_it_was(graph: Graph) -> None:
    folded = fold_padding(graph)
    assert not any(isinstance(layer, ZeroPadding2D) for layer in folded.layers)
    assert folded.param_shapes == graph.param_shapes
    assert folded.macs == graph.macs
    params, x = random_params(graph, 0), random_images(graph, 0)
    expected = dict(graph.run(params, x))
    for name, y in folded.run(params, x):
        np.testing.assert_array_equal(y, expected[name], err_msg=name)


PADDING = ZeroPadding2D(name="pad", padding=((1, 1), (1, 1)))


@pytest.mark.parametrize(
    "reader",
    [
        GlobalAveragePooling2D(name="y"),
        AveragePooling2D(name="y", kernel_size=(3, 3)),
        MaxPooling2D(name="y", kernel_size=(3, 3)),
        Conv2D(name="y", filters=2, kernel_size=(3, 3), padding="same"),
        ZeroPadding2D(name="y", padding=((0, 1), (0, 1))),
    ],
    ids=lambda layer: layer.type,
)
def test_padding_that_no_unpadded_convolution_reads_stays(reader: Layer) -> None:
    """A pooling ignores its own padding, but not the zeros of a layer before it."""
    graph = after(PADDING, reader)
    assert fold_padding(graph) == graph


def test_padding_at_the_end_of_a_network_stays() -> None:
    graph = after(PADDING)
    assert fold_padding(graph) == graph


def test_padding_can_be_folded_into_same() -> None:
    """As in TensorFlow's detectors: on odd sides SAME has zeros on both ends, Keras's layer at the end only."""
    odd, even = mobilenet_v1(0.25, 75), mobilenet_v1(0.25, 64)
    for graph in (odd, even):
        depthwise = [layer for layer in fold_padding(graph, "same").layers if isinstance(layer, DepthwiseConv2D)]
        assert {layer.padding for layer in depthwise} == {"same"}
    params, x = random_params(even, 0), random_images(even, 0)
    np.testing.assert_array_equal(fold_padding(even, "same").output(params, x), even.output(params, x))
    params, x = random_params(odd, 0), random_images(odd, 0)
    assert not np.array_equal(fold_padding(odd, "same").output(params, x), odd.output(params, x))


def test_a_subgraph_computes_its_last_layer_with_nothing_else() -> None:
    graph = small_network()
    params, x = random_params(graph, 0), random_images(graph, 0)
    part = subgraph_to(graph, "dw")
    assert [layer.name for layer in part.layers] == ["x", "conv", "dw"]
    np.testing.assert_array_equal(part.output(params, x), dict(graph.run(params, x))["dw"])
    assert subgraph_to(graph, "out") is graph


def test_a_subgraph_leaves_out_branches_that_it_does_not_read() -> None:
    graph = small_network()
    assert [layer.name for layer in subgraph_to(graph, "gate").layers] == ["x", "conv", "dw", "bn", "add", "gate"]
    branches = Graph(
        "branches",
        (
            Input(name="x", shape=(4, 4, 2)),
            MaxPooling2D(name="left", inputs=("x",), kernel_size=(1, 1)),
            AveragePooling2D(name="right", inputs=("x",), kernel_size=(1, 1)),
            replace(graph["add"], name="sum", inputs=("left", "right")),
        ),
    )
    assert [layer.name for layer in subgraph_to(branches, "right").layers] == ["x", "right"]


def test_an_unknown_layer_is_refused_by_name() -> None:
    with pytest.raises(ArgumentError, match="net: unknown layer 'nothing'"):
        subgraph_to(small_network(), "nothing")


def test_filters_change_where_they_are_named() -> None:
    graph = mobilenet_v2(0.35, 32, include_top=False)
    wide = with_filters(graph, {"Conv_1": 40})
    assert wide.output_shape == (1, 1, 40)
    assert wide.layers[: len(graph.layers) - 3] == graph.layers[:-3]
    with pytest.raises(ShapeError, match="block_2_add"):
        with_filters(graph, {"block_2_project": 40})


def test_epsilon_changes_in_every_batch_normalization() -> None:
    graph = with_epsilon(mobilenet_v1(0.25, 32), 0.5)
    norms = [layer for layer in graph.layers if isinstance(layer, BatchNormalization)]
    assert len(norms) == 27
    assert {layer.epsilon for layer in norms} == {0.5}
    assert with_epsilon(graph, 1e-3) == mobilenet_v1(0.25, 32)
