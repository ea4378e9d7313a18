"""The graph: wiring, JSON, other input sizes, the embedding, memory, and counts by hand."""

import gc
import json
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet import architectures
from npmobilenet import reference as ops
from npmobilenet.analysis.rounding_growth import network_bounds
from npmobilenet.errors import ShapeError
from npmobilenet.reference import rounding
from npmobilenet.reference.activations import ACTIVATIONS
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import (
    LAYER_TYPES,
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    Multiply,
    Rescaling,
    Reshape,
    ZeroPadding2D,
)
from tests.helpers.networks import random_images, random_params

X = Input(name="x", shape=(8, 6, 3))
RESOLUTION = {"resolution": 64}


def after(*layers):
    """A chain behind X: every layer that names no input reads the one before it."""
    chain = [X]
    for layer in layers:
        chain.append(type(layer)(**{**vars(layer), "inputs": layer.inputs or (chain[-1].name,)}))
    return Graph("net", tuple(chain))


def small_network():
    """Every kind of arithmetic in nine layers, on 8 x 6 pixels."""
    return after(
        Conv2D(name="conv", filters=4, kernel_size=(3, 3), stride=2, padding="same", activation="relu6"),
        DepthwiseConv2D(name="dw", kernel_size=(3, 3), padding="same", use_bias=False),
        BatchNormalization(name="bn"),
        Add(name="add", inputs=("conv", "bn")),
        GlobalAveragePooling2D(name="gate", keepdims=True),
        Multiply(name="scaled", inputs=("add", "gate")),
        Flatten(name="flat"),
        Dense(name="out", units=5, activation="softmax"),
    )


# ---- wiring


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ((), "first layer of a graph is its Input"),
        ((Flatten(name="flat", inputs=("x",)),), "first layer of a graph is its Input"),
        ((X, Flatten(name="x", inputs=("x",))), "two layers are called x"),
        ((X, Flatten(name="flat", inputs=("y",))), "flat: reads y, which no earlier layer computes"),
        ((X, Add(name="add", inputs=("x", "z")), Flatten(name="z", inputs=("x",))), "add: reads z"),
        ((X, Flatten(name="flat", inputs=("flat",))), "flat: reads flat"),
        ((X, Flatten(name="flat")), "Flatten cannot have 0 inputs"),
        ((X, Flatten(name="flat", inputs=("x", "x"))), "Flatten cannot have 2 inputs"),
        ((X, Add(name="add", inputs=("x",))), "Add cannot have 1 inputs"),
        ((X, Input(name="y", shape=(8, 6, 3)), Add(name="add", inputs=("x", "y"))), "y: a second Input"),
        ((X, Conv2D(name="conv", inputs=("x",), filters=0, kernel_size=(1, 1))), r"conv: .* got \(8, 6, 0\)"),
        ((X, AveragePooling2D(name="pool", inputs=("x",), kernel_size=(0, 1))), "pool: kernel size and stride"),
        ((X, AveragePooling2D(name="pool", inputs=("x",), kernel_size=(1, 1), stride=0)), "kernel size and stride"),
        ((X, Dense(name="out", inputs=("x",), units=-1)), r"out: every side is at least 1; got \(8, 6, -1\)"),
        ((X, Activation(name="act", inputs=("x",), activation="gelu")), "activation 'gelu' is not known"),
        ((X, Dense(name="out", inputs=("x",), units=2, activation="tanh")), "activation 'tanh' is not known"),
        (
            (X, Flatten(name="lost", inputs=("x",)), Dropout(name="out", inputs=("x",))),
            "no layer reads lost; the last layer is the only output",
        ),
        (
            (X, Flatten(name="f", inputs=("x",)), AveragePooling2D(name="pool", inputs=("f",), kernel_size=(1, 1))),
            r"pool: AveragePooling2D needs a map \(H, W, C\); got \(144,\)",
        ),
        ((X, Conv2D(name="conv", inputs=("x",), filters=1, kernel_size=(9, 1))), "conv: a window of .* larger input"),
        ((X, Reshape(name="r", inputs=("x",), target_shape=(7, -1))), r"r: \(8, 6, 3\) holds 144 values"),
        (
            (X, Flatten(name="flat", inputs=("x",)), Add(name="add", inputs=("x", "flat"))),
            r"add: inputs of one shape are needed; got \(8, 6, 3\), \(144,\)",
        ),
        (
            (X, ZeroPadding2D(name="p", inputs=("x",), padding=((1, 0),) * 2), Multiply(name="m", inputs=("x", "p"))),
            r"m: shapes \(8, 6, 3\) and \(9, 7, 3\) cannot be multiplied",
        ),
    ],
)  # fmt: skip
def test_a_graph_that_is_not_wired_right_is_refused_with_the_layer_and_the_reason(layers, words: str) -> None:
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


def test_multiply_adds_of_a_depth_multiplier_count_every_filter() -> None:
    graph = after(DepthwiseConv2D(name="dw", kernel_size=(3, 5), depth_multiplier=2, padding="same"))
    assert graph.output_shape == (8, 6, 6)
    assert graph.macs == 8 * 6 * 3 * 5 * 3 * 2


# ---- every layer type computes what it declares


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
def test_every_layer_gives_the_shape_it_declares_within_its_bound(layer) -> None:
    graph = after(layer)
    params, x = random_params(graph, 0), random_images(graph, 0, N=2)
    (_, _), (_, y) = graph.run(params, x)
    (_, _, _), (_, exact, bound) = network_bounds(graph, params, x)
    assert y.shape == (2, *graph.output_shape)
    assert (np.abs(y - exact) <= bound).all()
    only_moves = {"Reshape", "Flatten", "Dropout", "ZeroPadding2D", "MaxPooling2D", "GlobalMaxPooling2D", "Concatenate"}
    only_clips = [Activation(name="y", activation=name) for name in ("linear", "relu", "relu6")]
    assert (bound.max() == 0) == (layer.type in only_moves or layer in only_clips)


# ---- running


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
    params, x = {}, random_images(graph, 0)
    seen: dict[str, weakref.ref] = {}
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
        with pytest.raises(ShapeError, match=r"x \(N, 8, 6, 3\) is needed"):
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
    with pytest.raises(ShapeError, match=r"fix the input size at \(8, 6\); got \(8, 8\)"):
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


# ---- the embedding


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


# ---- JSON

NETWORKS = [
    architectures.mobilenet_v1(0.5, (75, 96), depth_multiplier=2, classes=3),
    architectures.mobilenet_v1(0.25, 64, full_convolution=True),
    architectures.mobilenet_v1(1.0, 128, shallow=True, include_top=False),
    architectures.mobilenet_v2(1.4, 96, channels=1),
    architectures.mobilenet_v3_small(0.75, 64, include_preprocessing=False),
    architectures.mobilenet_v3_large(1.0, 64, minimalistic=True, include_top=False, pooling="avg"),
    small_network(),
]


@pytest.mark.parametrize("graph", NETWORKS, ids=lambda graph: graph.name)
def test_a_graph_comes_back_from_json_as_it_was(graph: Graph) -> None:
    document = json.loads(json.dumps(graph.to_json()))
    back = Graph.from_json(document)
    assert back == graph
    assert back.to_json() == graph.to_json()
    assert (back.shapes, back.param_shapes, back.macs) == (graph.shapes, graph.param_shapes, graph.macs)


DOCUMENT = json.loads(json.dumps(small_network().to_json()))


def changed(layer, **edits):
    """The document of the small network with fields of one layer changed; None takes a field out."""
    document = json.loads(json.dumps(DOCUMENT))
    fields = next(entry for entry in document["layers"] if entry["name"] == layer)
    for field, value in edits.items():
        del fields[field]
        if value is not None:
            fields[field] = value
    return document


@pytest.mark.parametrize(
    "document",
    [
        {}, [], None, "graph", 7,
        {"name": "net"},
        {"name": "net", "layers": None},
        {"name": "net", "layers": []},
        {"name": "net", "layers": {}},
        {"name": "net", "layers": ["Conv2D"]},
        {"name": "net", "layers": [None]},
        {"name": "net", "layers": [[]]},
        {"name": "net", "layers": [{}]},
        {"name": "net", "layers": [{"type": "Input"}]},
        {"name": "net", "layers": [{"type": "Input", "name": "x", "inputs": [], "shape": None}]},
        {"name": "net", "layers": [{"type": "Input", "name": "x", "inputs": [], "shape": 7}]},
        {"name": "net", "layers": [{"type": ["Input"], "name": "x", "inputs": [], "shape": [1, 1, 1]}]},
        changed(layer="conv", type="Conv3D"),
        changed(layer="conv", type="__class__"),
        changed(layer="conv", type=None),
        changed(layer="conv", filters=None),
        changed(layer="conv", filters="4"),
        changed(layer="conv", filters=0),
        changed(layer="conv", filters=-4),
        changed(layer="conv", filters=4.0),
        changed(layer="conv", filters=[4]),
        changed(layer="conv", kernel_size=3),
        changed(layer="conv", kernel_size=[3]),
        changed(layer="conv", kernel_size=[3, 3, 3]),
        changed(layer="conv", kernel_size=[0, 3]),
        changed(layer="conv", kernel_size=["3", "3"]),
        changed(layer="conv", stride=0),
        changed(layer="conv", stride=-1),
        changed(layer="conv", stride=[2, 2]),
        changed(layer="conv", stride=0.5),
        changed(layer="conv", padding="full"),
        changed(layer="conv", padding=7),
        changed(layer="conv", padding=[[1, 1]]),
        changed(layer="conv", padding=[[-1, 1], [0, 0]]),
        changed(layer="conv", activation=7),
        changed(layer="conv", activation=["relu"]),
        changed(layer="conv", inputs="x"),
        changed(layer="conv", inputs=[["x"]]),
        changed(layer="conv", inputs=[{}]),
        changed(layer="conv", inputs=7),
        changed(layer="conv", name=[]),
        changed(layer="conv", name={}),
        changed(layer="conv", name=7),
        changed(layer="dw", depth_multiplier=0),
        changed(layer="dw", depth_multiplier="two"),
        changed(layer="dw", depth_multiplier=1.5),
        changed(layer="bn", epsilon="small"),
        changed(layer="out", units=-5),
        changed(layer="out", units=None),
        changed(layer="x", shape=[8, 6]),
        changed(layer="x", shape=[8, -6, 3]),
        changed(layer="x", shape=[8, 6, "3"]),
        changed(layer="x", shape=[8, 6.0, 3]),
        changed(layer="x", inputs=["out"]),
        changed(layer="out", inputs=["out"]),
    ],
    ids=lambda document: str(document)[:60],
)  # fmt: skip
def test_a_document_that_is_not_a_graph_is_refused_as_one(document) -> None:
    with pytest.raises(ShapeError):
        Graph.from_json(document)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.sampled_from(["x", "conv", "same", "relu6", ""]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "name", "inputs"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.integers(0, len(DOCUMENT["layers"]) - 1), st.data())
def test_any_field_of_any_layer_may_hold_anything_and_the_answer_is_a_graph_or_our_error(index: int, data) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    layer = document["layers"][index]
    field = data.draw(st.sampled_from([*layer, "surplus"]))
    layer[field] = data.draw(JSON_VALUES)
    try:
        graph = Graph.from_json(document)
    except ShapeError:
        return
    assert all(isinstance(side, int) and side >= 0 for shape in graph.param_shapes.values() for side in shape)
    assert isinstance(graph.macs, int)


def test_an_unknown_layer_type_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ShapeError, match=r"conv: layer type 'Conv3D' is not known; known are Input, .*Dropout"):
        Graph.from_json(changed(layer="conv", type="Conv3D"))


def test_the_pointwise_path_of_a_conv_layer_gives_what_the_window_gives() -> None:
    layer = Conv2D(name="conv", filters=4, kernel_size=(1, 1), padding="same")
    graph = after(layer)
    params, x = random_params(graph, 0, np.float64), random_images(graph, 0, dtype=np.float64)
    *_, (_, y) = graph.run(params, x)
    bound = rounding.conv2d_bound(x, params["conv/kernel"], params["conv/bias"], dtype=np.float64)
    assert layer.is_pointwise
    assert (np.abs(y - ops.conv2d(x, params["conv/kernel"], params["conv/bias"])) <= 2 * bound).all()
