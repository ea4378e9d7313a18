"""Costs read off the graph: they add up, they follow the formulas, and every convention counts what it says."""

from fractions import Fraction
from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet.analysis.conventions import CONVENTIONS, DEFAULT_CONVENTION, conventions_table
from npmobilenet.analysis.cost import cost_table, to_json
from npmobilenet.analysis.separable_cost import SeparableCost, count_multiplications
from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    Multiply,
    Rescaling,
)

GRAPHS = [mobilenet_v1(), mobilenet_v2(0.35, 96), mobilenet_v3_large(), mobilenet_v3_small(0.75, minimalistic=True)]


def small_network() -> Graph:
    """4 x 4 x 2 -> conv 3 x 3 to 5 -> norm -> relu6 -> depthwise with bias -> pool -> dense to 3."""
    return Graph(
        "small",
        (
            Input(name="x", shape=(4, 4, 2)),
            Conv2D(name="conv", inputs=("x",), kernel_size=(3, 3), padding="same", filters=5, use_bias=False),
            BatchNormalization(name="bn", inputs=("conv",)),
            Activation(name="relu", inputs=("bn",), activation="relu6"),
            DepthwiseConv2D(name="dw", inputs=("relu",), kernel_size=(3, 3), stride=2, padding="same"),
            GlobalAveragePooling2D(name="pool", inputs=("dw",)),
            Dense(name="dense", inputs=("pool",), units=3, activation="softmax"),
        ),
    )


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)
def test_rows_add_up_to_the_graph(graph: Graph) -> None:
    table = cost_table(graph)
    assert [row.name for row in table.rows] == [layer.name for layer in graph.layers]
    assert (table.total.macs, table.total.param_count) == (graph.macs, graph.total_params)
    assert table.total.trainable_params == graph.trainable_params
    assert sum(row.activations for row in table.rows) == sum(map(prod, graph.shapes.values()))


def test_v1_has_the_numbers_that_everybody_knows() -> None:
    total = cost_table(mobilenet_v1()).total
    assert (total.macs, total.param_count, total.weights) == (568_740_352, 4_253_864, 4_209_088)


def test_a_small_network_by_hand() -> None:
    rows = {row.name: row for row in cost_table(small_network()).rows}
    assert (rows["conv"].macs, rows["conv"].weights) == (4 * 4 * 9 * 2 * 5, 9 * 2 * 5)
    assert (rows["dw"].macs, rows["dw"].weights, rows["dw"].param_count) == (2 * 2 * 9 * 5, 9 * 5, 9 * 5 + 5)
    assert (rows["bn"].param_count, rows["bn"].trainable_params) == (20, 10)
    assert (rows["dense"].macs, rows["dense"].param_count) == (15, 18)
    assert rows["conv"].flops == 2 * rows["conv"].macs
    assert rows["bn"].flops == 2 * 80
    assert rows["relu"].flops == 2 * 80
    assert rows["dw"].flops == 2 * 180 + 20
    assert rows["pool"].flops == 20
    assert rows["dense"].flops == 2 * 15 + 3 + 5 * 3


def test_bytes_are_inputs_and_parameters_read_once_and_the_output_written() -> None:
    rows = {row.name: row for row in cost_table(small_network(), itemsize=2).rows}
    assert (rows["conv"].bytes_read, rows["conv"].bytes_written) == (2 * (32 + 90), 2 * 80)
    assert rows["conv"].intensity == 2 * 1440 / (2 * (32 + 90 + 80))
    assert (rows["x"].bytes_read, rows["x"].bytes_written) == (0, 0)


def test_a_sum_reads_both_of_its_inputs() -> None:
    conv = {"kernel_size": (1, 1), "filters": 2, "use_bias": False}
    layers: list[Layer] = [
        Input(name="x", shape=(2, 2, 2)),
        Conv2D(name="a", inputs=("x",), **conv),  # type: ignore[arg-type]
        Add(name="sum", inputs=("x", "a")),
        Multiply(name="product", inputs=("x", "sum")),
        Rescaling(name="scaled", inputs=("product",)),
        Flatten(name="flat", inputs=("scaled",)),
    ]
    rows = {row.name: row for row in cost_table(Graph("residual", tuple(layers)), itemsize=1).rows}
    assert (rows["sum"].bytes_read, rows["sum"].bytes_written, rows["sum"].flops) == (16, 8, 8)
    assert (rows["product"].flops, rows["scaled"].flops) == (8, 16)
    assert (rows["flat"].bytes_read, rows["flat"].flops) == (0, 0), "a view costs nothing"


def test_kinds_are_those_of_table_2() -> None:
    kinds = [share.kind for share in cost_table(mobilenet_v1()).shares()]
    assert kinds == ["Conv 1x1", "Conv DW 3x3", "Conv 3x3", "Fully connected"]
    kinds = [share.kind for share in cost_table(mobilenet_v3_large()).shares()]
    assert set(kinds) == {"Conv 1x1", "Conv DW 3x3", "Conv DW 5x5", "Conv 3x3", "Fully connected"}


def test_squeeze_and_excite_counts_as_fully_connected() -> None:
    rows = {row.name: row for row in cost_table(mobilenet_v3_small()).rows}
    assert rows["expanded_conv_squeeze_excite_conv"].kind == "Fully connected"
    assert rows["expanded_conv_project"].kind == "Conv 1x1"


def test_every_convention_counts_what_it_says() -> None:
    macs, bn_values, bias_values = 1440 + 180 + 15, 80, 20 + 3
    expected = {
        "macs": macs,
        "macs_bias": macs + bias_values,
        "macs_bn": macs + bn_values,
        "macs_no_classifier": macs - 15,
        "macs_convolutions": macs - 15,
        "macs_no_stem": macs - 1440,
        "flops": 2 * macs,
        "all_flops": 2 * macs + bias_values + 2 * bn_values + 2 * 80 + 20 + 5 * 3,
        "timm": macs + 2 * bn_values,
        "thop": macs + 4 * bn_values,
        "ptflops": macs + 2 * bn_values + 80,
        "weights": 90 + 45 + 15,
        "weights_bias": 90 + 45 + 15 + 5 + 3,
        "trainable": 158 + 10,
        "slim_v1": 158 + 15,
        "keras_total": 158 + 20,
        "non_trainable": 10,
        "keras_bytes": 4 * 178,
        "keras_depth": 4,
        "activations": 80 + 20 + 3,
    }
    assert {name: convention.count(small_network()) for name, convention in CONVENTIONS.items()} == expected


def test_the_default_convention_comes_first() -> None:
    first, *_ = conventions_table(small_network())
    assert first[:3] == (DEFAULT_CONVENTION, small_network().macs, "multiply-adds")


def test_json_is_the_document_of_the_design() -> None:
    document = to_json(cost_table(mobilenet_v1()), model="mine")
    assert document["model"] == "mine"
    assert (document["macs"], document["params"], document["trainable_params"]) == (568_740_352, 4_253_864, 4_231_976)
    assert {"name", "type", "output_shape", "params", "macs"} <= set(document["layers"][0])
    assert sum(layer["macs"] for layer in document["layers"]) == document["macs"]
    assert document["layers"][-1]["output_shape"] == [1000]


@given(
    H=st.integers(1, 5), W=st.integers(1, 5), c_in=st.integers(1, 3), c_out=st.integers(1, 4), K=st.integers(1, 4),
    stride=st.integers(1, 2),
)  # fmt: skip
def test_the_separable_block_costs_what_the_formula_says_and_what_is_performed(**shape: Any) -> None:
    cost = SeparableCost(**shape)
    assert cost.ratio == cost.formula == Fraction(cost.weights["separable"], cost.weights["standard"])
    assert cost.multiplications() == cost.macs


def test_the_separable_block_by_hand() -> None:
    cost = SeparableCost(H=14, W=14, c_in=512, c_out=512)
    assert cost.macs == {
        "standard": 462_422_016,
        "depthwise": 903_168,
        "pointwise": 51_380_224,
        "separable": 52_283_392,
    }
    assert cost.ratio == Fraction(1, 512) + Fraction(1, 9)


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (Conv2D(name="c", kernel_size=(3, 2), filters=3, padding=((1, 0), (0, 2)), stride=2), (5, 4, 2)),
        (Conv2D(name="g", kernel_size=(3, 2), filters=4, groups=2, dilation=2, padding="same"), (5, 4, 6)),
        (DepthwiseConv2D(name="d", kernel_size=(3, 3), dilation=3, padding="same"), (4, 5, 2)),
        (DepthwiseConv2D(name="d", kernel_size=(3, 3), depth_multiplier=2, padding="same"), (3, 3, 2)),
        (Conv2D(name="p", kernel_size=(1, 1), filters=3), (2, 3, 4)),
        (Dense(name="f", units=3), (7,)),
    ],
)
def test_multiplications_performed_are_those_the_layer_states(layer: Layer, x: tuple[int, ...]) -> None:
    assert count_multiplications(layer, x) == layer.macs(x)
