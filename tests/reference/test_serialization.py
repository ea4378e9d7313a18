"""Graphs as JSON documents: there and back, and whatever else a document may hold."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet import architectures
from npmobilenet.errors import ShapeError
from npmobilenet.reference.graph import Graph
from tests.helpers.graphs import small_network

NETWORKS = [
    architectures.mobilenet_v1(0.5, (75, 96), depth_multiplier=2, classes=3),
    architectures.mobilenet_v1(0.25, 64, full_convolution=True),
    architectures.mobilenet_v1(1.0, 128, shallow=True, include_top=False),
    architectures.mobilenet_v2(1.4, 96, channels=1),
    architectures.mobilenet_v3_small(0.75, 64, include_preprocessing=False),
    architectures.mobilenet_v3_large(1.0, 64, minimalistic=True, include_top=False, pooling="avg"),
    architectures.mobilenet_v2(0.5, 64, output_stride=8, include_top=False),
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


def changed(layer: str, **edits: Any) -> dict[str, Any]:
    """The document of the small network with fields of one layer changed; None takes a field out."""
    document: dict[str, Any] = json.loads(json.dumps(DOCUMENT))
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
def test_a_document_that_is_not_a_graph_is_refused_as_one(document: Any) -> None:
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
def test_any_field_of_any_layer_may_hold_anything_and_the_answer_is_a_graph_or_our_error(
    index: int, data: st.DataObject
) -> None:
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
    with pytest.raises(ShapeError, match=r"conv: unknown layer type 'Conv3D'; known types: Input, .*Dropout"):
        Graph.from_json(changed(layer="conv", type="Conv3D"))
