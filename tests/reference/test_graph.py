"""Graphs: wiring, counts by hand, running, other input sizes, the embedding."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from npmobilenet import architectures
from npmobilenet.errors import ShapeError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import (
    Activation,
    Add,
    AveragePooling2D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    Multiply,
    Rescaling,
    Reshape,
    ZeroPadding2D,
)
from npmobilenet.types import Array
from tests.helpers.graphs import X, after, small_network
from tests.helpers.networks import random_images, random_params

RESOLUTION: dict[str, Any] = {"resolution": 64}


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ((), "first layer of a graph must be its Input"),
        ((Flatten(name="flat", inputs=("x",)),), "first layer of a graph must be its Input"),
        ((X, Flatten(name="x", inputs=("x",))), "two layers have the name x"),
        ((X, Flatten(name="flat", inputs=("y",))), "flat: input y is not defined before this layer"),
        ((X, Add(name="add", inputs=("x", "z")), Flatten(name="z", inputs=("x",))), "add: input z is not defined"),
        ((X, Flatten(name="flat", inputs=("flat",))), "flat: input flat is not defined"),
        ((X, Flatten(name="flat")), "flat: expected one input for Flatten, got 0"),
        ((X, Flatten(name="flat", inputs=("x", "x"))), "flat: expected one input for Flatten, got 2"),
        ((X, Add(name="add", inputs=("x",))), "add: expected two or more inputs for Add, got 1"),
        ((X, Input(name="y", shape=(8, 6, 3)), Add(name="add", inputs=("x", "y"))), "y: a second Input"),
        ((X, Conv2D(name="conv", inputs=("x",), filters=0, kernel_size=(1, 1))), r"conv: .* got \(8, 6, 0\)"),
        ((X, AveragePooling2D(name="pool", inputs=("x",), kernel_size=(0, 1))), "pool: expected kernel size and"),
        ((X, AveragePooling2D(name="pool", inputs=("x",), kernel_size=(1, 1), stride=0)), "stride of at least 1"),
        ((X, Dense(name="out", inputs=("x",), units=-1)), r"out: expected sides of at least 1, got \(8, 6, -1\)"),
        ((X, Activation(name="act", inputs=("x",), activation="cube")), "act: unknown activation 'cube'; choose"),
        ((X, Dense(name="out", inputs=("x",), units=2, activation="square")), "out: unknown activation 'square'"),
        (
            (X, Flatten(name="lost", inputs=("x",)), Dropout(name="out", inputs=("x",))),
            "no layer reads lost, which is not an output",
        ),
        (
            (X, Flatten(name="f", inputs=("x",)), AveragePooling2D(name="pool", inputs=("f",), kernel_size=(1, 1))),
            r"pool: AveragePooling2D expects a feature map \(H, W, C\), got \(144,\)",
        ),
        ((X, Conv2D(name="conv", inputs=("x",), filters=1, kernel_size=(9, 1))), "conv: a window of .* larger input"),
        ((X, Reshape(name="r", inputs=("x",), target_shape=(7, -1))), r"r: \(8, 6, 3\) has 144 values"),
        (
            (X, Flatten(name="flat", inputs=("x",)), Add(name="add", inputs=("x", "flat"))),
            r"add: expected inputs of one shape, got \(8, 6, 3\), \(144,\)",
        ),
        (
            (X, ZeroPadding2D(name="p", inputs=("x",), padding=((1, 0),) * 2), Multiply(name="m", inputs=("x", "p"))),
            r"m: shapes \(8, 6, 3\) and \(9, 7, 3\) cannot be multiplied",
        ),
    ],
)  # fmt: skip
def test_a_graph_that_is_not_wired_right_is_refused_with_the_layer_and_the_reason(layers: Any, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        Graph("net", layers)


def test_a_layer_may_read_one_output_twice() -> None:
    graph = after(Add(name="twice", inputs=("x", "x")))
    x = random_images(graph, 0)
    *_, (_, y) = graph.run({}, x)
    np.testing.assert_array_equal(y, 2 * x)


def test_shapes_by_hand() -> None:
    assert small_network().shapes == {
        "x": (8, 6, 3), "conv": (4, 3, 4), "dw": (4, 3, 4), "bn": (4, 3, 4), "add": (4, 3, 4), "gate": (1, 1, 4),
        "scaled": (4, 3, 4), "flat": (48,), "out": (5,),
    }  # fmt: skip


def test_parameters_by_hand() -> None:
    graph = small_network()
    assert graph.param_shapes == {
        "conv/kernel": (3, 3, 3, 4), "conv/bias": (4,), "dw/kernel": (3, 3, 4, 1), "bn/gamma": (4,), "bn/beta": (4,),
        "bn/moving_mean": (4,), "bn/moving_variance": (4,), "out/kernel": (48, 5), "out/bias": (5,),
    }  # fmt: skip
    assert graph.total_params == (108 + 4) + 36 + 4 * 4 + (240 + 5)
    assert graph.trainable_params == graph.total_params - 2 * 4


def test_multiply_adds_by_hand() -> None:
    graph = small_network()
    assert graph.macs_of(graph["conv"]) == 4 * 3 * 3 * 3 * 3 * 4
    assert graph.macs_of(graph["dw"]) == 4 * 3 * 3 * 3 * 4
    assert graph.macs_of(graph["out"]) == 48 * 5
    assert graph.macs == 1296 + 432 + 240


def test_run_yields_every_layer_in_order() -> None:
    graph = small_network()
    outputs = dict(graph.run(random_params(graph, 0), random_images(graph, 0, N=3)))
    assert list(outputs) == [layer.name for layer in graph.layers]
    assert {name: y.shape for name, y in outputs.items()} == {n: (3, *shape) for n, shape in graph.shapes.items()}
    np.testing.assert_allclose(outputs["out"].sum(axis=1), 1, rtol=1e-6)


def test_run_keeps_no_output_that_no_later_layer_reads() -> None:
    """A chain never holds more than the two maps it is working on, and a residual until it is added."""
    chain = [Rescaling(name=f"r{i}", scale=1.5) for i in range(9)]
    graph = after(*chain, Add(name="add", inputs=("r2", "r8")))
    params: dict[str, Array] = {}
    x = random_images(graph, 0)
    seen: dict[str, weakref.ref[Array]] = {}
    held: list[set[str]] = []
    for name, y in graph.run(params, x):
        seen[name] = weakref.ref(y)
        del y
        gc.collect()
        held.append({earlier for earlier, array in seen.items() if array() is not None})
    del held[-1]  # nothing is dropped before the caller asks for the next output
    for step, names in enumerate(held[1:], start=1):
        current, previous = graph.layers[step].name, graph.layers[step - 1].name
        waiting = {"r2"} if step > 3 else set()
        assert names <= {current, previous, "x"} | waiting, f"at {current} alive are {names}"
        assert waiting <= names


def test_run_refuses_an_image_of_another_depth_or_rank() -> None:
    graph = small_network()
    for shape in ((1, 8, 6, 1), (8, 6, 3), (1, 3, 8, 6)):
        with pytest.raises(ShapeError, match=r"net: expected x of shape \(N, 8, 6, 3\), got "):
            next(graph.run({}, np.zeros(shape, np.float32)))


def test_run_takes_another_size_where_nothing_fixes_it() -> None:
    graph = architectures.mobilenet_v2(0.35, 32, classes=4)
    params = random_params(graph, 0)
    other = graph.with_input(47, 33)
    x = random_images(other, 0)
    by_one = dict(graph.run(params, x))
    by_other = dict(other.run(params, x))
    assert {name: y.shape[1:] for name, y in by_one.items()} == other.shapes
    np.testing.assert_array_equal(by_one["predictions"], by_other["predictions"])


def test_another_size_is_refused_where_a_dense_layer_fixes_it() -> None:
    graph = small_network()
    with pytest.raises(ShapeError, match=r"fix the input size at \(8, 6\), got \(8, 8\)"):
        graph.with_input(8, 8)
    with pytest.raises(ShapeError, match="fix the input size"):
        next(graph.run({}, np.zeros((1, 8, 8, 3), np.float32)))


def test_an_input_too_small_for_the_network_is_refused() -> None:
    graph = after(AveragePooling2D(name="pool", kernel_size=(3, 3), stride=3), GlobalAveragePooling2D(name="gap"))
    with pytest.raises(ShapeError, match=r"pool: .* larger input"):
        graph.with_input(2, 2)


def test_with_input_changes_maps_and_multiply_adds_but_no_parameter() -> None:
    graph = architectures.mobilenet_v1(0.25, 224)
    smaller = graph.with_input(112, 112)
    assert smaller.param_shapes == graph.param_shapes
    assert smaller.shapes["conv1"] == (56, 56, 8)
    assert graph.macs_of(graph["conv1"]) == 4 * smaller.macs_of(smaller["conv1"])
    assert graph.macs_of(graph["conv_preds"]) == smaller.macs_of(smaller["conv_preds"])


@pytest.mark.parametrize(
    ("graph", "name"),
    [
        (architectures.mobilenet_v1(0.25, **RESOLUTION), "global_average_pooling2d"),
        (architectures.mobilenet_v2(0.35, **RESOLUTION), "global_average_pooling2d"),
        (architectures.mobilenet_v3_small(**RESOLUTION), "global_average_pooling2d"),
        (architectures.mobilenet_v3_small(**RESOLUTION, include_top=False), None),
        (architectures.mobilenet_v3_large(**RESOLUTION, include_top=False, pooling="max"), "max_pool"),
        (small_network(), "flat"),
        (after(Activation(name="act", activation="relu")), None),
    ],
    ids=lambda value: value.name if isinstance(value, Graph) else str(value),
)
def test_the_embedding_is_the_pool_that_everything_passes_through(graph: Graph, name: str | None) -> None:
    """In V3 that is not a pool of squeeze-and-excite, which has a way around it."""
    assert graph.embedding == name


def test_the_embedding_of_an_average_pool_over_the_whole_map_is_that_pool_or_its_flattening() -> None:
    graph = after(AveragePooling2D(name="pool", kernel_size=(8, 6)), Flatten(name="flat"), Dense(name="out", units=2))
    assert graph.embedding in ("pool", "flat")
    assert np.prod(graph.shapes[graph.embedding]) == 3
