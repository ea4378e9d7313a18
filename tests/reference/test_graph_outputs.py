"""Graphs with several outputs: wiring, documents, parts, and what the reference returns."""

from typing import Any

import numpy as np
import pytest

from npmobilenet.analysis.cost import cost_table, to_json
from npmobilenet.errors import ShapeError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Conv2D, Dense, Dropout, Flatten, GlobalAveragePooling2D, ZeroPadding2D
from npmobilenet.reference.transforms import fold_padding, subgraph_to
from tests.helpers.drawn_graphs import drawn_graph
from tests.helpers.graphs import X, small_network
from tests.helpers.networks import random_images, random_params

LAYERS = (
    X,
    Conv2D(name="conv", inputs=("x",), filters=4, kernel_size=(3, 3)),
    GlobalAveragePooling2D(name="pool", inputs=("conv",)),
    Dense(name="box", inputs=("pool",), units=4),
    Dense(name="species", inputs=("pool",), units=3, activation="softmax"),
)
HEADS = (("where", "box"), ("what", "species"))


def test_a_graph_without_outputs_has_its_last_layer_as_the_only_one() -> None:
    graph = small_network()
    assert graph.outputs == (("out", "out"),)
    assert graph == Graph("net", graph.layers, (("out", "out"),))
    assert set(graph.to_json()) == {"name", "layers"}  # as before there were several


def test_outputs_are_named_in_order_and_restored_from_a_document() -> None:
    graph = Graph("net", LAYERS, (*HEADS, ("map", "conv"), ("again", "box")))
    assert graph.output_shapes == {"where": (4,), "what": (3,), "map": (6, 4, 4), "again": (4,)}
    assert graph.output_names == "where, what, map, again"
    assert graph.to_json()["outputs"] == {"where": "box", "what": "species", "map": "conv", "again": "box"}
    assert Graph.from_json(graph.to_json()) == graph
    with pytest.raises(ShapeError, match="net: expected one output, got 4: where, what, map, again"):
        _ = graph.output_shape


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ((("what", "species"),), "net: no layer reads box, which is not an output"),
        ((*HEADS, ("more", "lost")), "output 'more' of layer 'lost': no such layer"),
        ((*HEADS, ("what", "conv")), r"outputs with distinct names, got \['where', 'what', 'what'\]"),
        ((*HEADS, ("", "conv")), "outputs with distinct names"),
    ],
)
def test_outputs_that_are_not_wired_right_are_refused(outputs: Any, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        Graph("net", LAYERS, outputs)


@pytest.mark.parametrize("outputs", [["box"], {"what": 3}, {"what": ["species"]}, "box", {"what": "lost"}])
def test_a_document_with_other_outputs_is_refused(outputs: Any) -> None:
    with pytest.raises(ShapeError):
        Graph.from_json(Graph("net", LAYERS, HEADS).to_json() | {"outputs": outputs})


@pytest.mark.parametrize("seed", range(20))
def test_the_reference_returns_the_values_of_the_layers_under_the_outputs_names(seed: int) -> None:
    graph = drawn_graph(seed)
    params, x = random_params(graph, seed), random_images(graph, seed, N=2)
    values = dict(graph.run(params, x))
    y = graph.output(params, x)
    found = y if isinstance(y, dict) else {graph.outputs[0][0]: y}
    assert list(found) == [name for name, _ in graph.outputs]
    for name, layer in graph.outputs:
        np.testing.assert_array_equal(found[name], values[layer])


def test_the_part_up_to_a_layer_has_that_layer_as_its_only_output() -> None:
    graph = Graph("net", LAYERS, HEADS)
    part = subgraph_to(graph, "species")
    assert [layer.name for layer in part.layers] == ["x", "conv", "pool", "species"]
    assert part.outputs == (("species", "species"),)
    assert graph.with_input(10, 9).outputs == HEADS


def test_cut_points_and_embedding_are_before_all_outputs() -> None:
    graph = Graph("net", LAYERS, HEADS)
    assert [layer.name for layer in graph.cut_points] == ["pool", "conv", "x"]
    assert graph.embedding == "pool"
    with_map = Graph("net", LAYERS, (*HEADS, ("map", "conv")))
    assert [layer.name for layer in with_map.cut_points] == ["conv", "x"]  # an output ends a path
    assert with_map.embedding == "pool"  # but the map is read on
    of_maps = Graph("net", (*LAYERS, Flatten(name="f", inputs=("conv",))), (*HEADS, ("flat", "f")))
    assert of_maps.embedding is None


def test_zeros_that_are_an_output_stay() -> None:
    layers = (
        X,
        ZeroPadding2D(name="zeros", inputs=("x",), padding=((1, 1), (1, 1))),
        Conv2D(name="conv", inputs=("zeros",), filters=4, kernel_size=(3, 3)),
        Dropout(name="out", inputs=("conv",)),
    )
    assert [layer.name for layer in fold_padding(Graph("net", layers)).layers] == ["x", "conv", "out"]
    both = Graph("net", layers, (("zeros", "zeros"), ("out", "out")))
    assert fold_padding(both) == both


def test_costs_name_every_output() -> None:
    table = cost_table(Graph("net", LAYERS, HEADS))
    document = to_json(table)
    assert document["outputs"] == {"where": [4], "what": [3]}
    assert document["macs"] == 6 * 4 * 4 * 27 + 4 * 4 + 4 * 3
