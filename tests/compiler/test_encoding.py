"""The table for the kernels: every step writes the columns it uses, and no tile that it does not run."""

import numpy as np
import pytest
from npmobilenet_kernels.drivers.step_table import Field, Kind, Product
from npmobilenet_kernels.microkernels.catalog import all_tiles

from npmobilenet.compiler.columns import Columns, Packed, Tile
from npmobilenet.compiler.encoding import ABSENT, OPTIONAL_FIELDS
from npmobilenet.compiler.plan import Plan, compile_graph
from npmobilenet.compiler.single_steps import ConvStep
from tests.helpers.engine_networks import ENGINE_NETWORKS, engine_network

TILES_OF = {  # kinds of step that may run a tile; those of products and of the depthwise filter have columns apart
    Field.POOL_TILE: {Kind.POOL, Kind.POINTWISE, Kind.DEPTHWISE},
    Field.ADD_TILE: {Kind.ADD},
    Field.SCALE_TILE: {Kind.POINTWISE},
    Field.COPY_TILE: {Kind.STEM, Kind.STRIP},
    Field.GATHER_TILE: {Kind.CONV, Kind.IMAGE, Kind.STRIP, Kind.DEPTHWISE},
    Field.FINISH_TILE: {Kind.CONV},
    Field.CURVE_TILE: {Kind.SOFTMAX, Kind.SIGMOID},
    Field.GEMV_TILE: {Kind.DENSE},
    Field.DEPTHWISE_TILE: {Kind.STRIP, Kind.DEPTHWISE},
}


def columns_of(plan: Plan) -> list[Columns]:
    """The columns of all rows, in the order of the table."""
    records = [record for record in plan.table.records if record]
    return [record.columns for record in (*records, *(record.inner for record in records if record.inner))]


@pytest.mark.parametrize("name", ENGINE_NETWORKS)
def test_a_plan_needs_tiles_that_exist_and_none_that_it_does_not_run(name: str) -> None:
    graph, params, _, _ = engine_network(name)
    plan = compile_graph(graph, params)
    used = plan.table.symbols
    assert set(used) <= all_tiles(plan.target).keys()
    values = [value for columns in columns_of(plan) for value in columns.values()]
    assert {value.symbol for value in values if isinstance(value, Tile)} == set(used)
    together = " ".join(used)
    has_5x5 = name.startswith(("v3 large", "v3 small")) and "minimalistic" not in name
    assert ("depthwise_5x5" in together) == has_5x5
    gates = any(Field.SCALE_TILE in columns for columns in columns_of(plan))
    assert ("scale_weights" in together) == gates == name.startswith("v3") & ("minimalistic" not in name)
    assert ("softmax" in together) == (name == "own head")


@pytest.mark.parametrize("name", ENGINE_NETWORKS)
def test_a_row_has_a_tile_only_if_its_kind_of_step_runs_it(name: str) -> None:
    graph, params, _, _ = engine_network(name)
    for columns in columns_of(compile_graph(graph, params)):
        for field, kinds in TILES_OF.items():
            assert field not in columns or columns[Field.KIND] in kinds


def test_addresses_are_those_of_the_weights_and_tiles() -> None:
    graph, params, _, _ = engine_network("v1 alpha 0.5, a large map")
    plan = compile_graph(graph, params)
    table = plan.table
    first, last = table.weights.ctypes.data, table.weights.ctypes.data + table.weights.nbytes
    addresses = {symbol: 1000 + number for number, symbol in enumerate(table.symbols)}
    table.link(addresses)
    rows = [number for number, record in enumerate(table.records) if record]
    inner_rows = range(len(table.records), len(table.values))
    assert len(inner_rows) == 1
    for row, columns in zip([*rows, *inner_rows], columns_of(plan), strict=True):
        assert {int(table.values[row, field]) for field in OPTIONAL_FIELDS if field not in columns} <= {ABSENT}
        for column, value in columns.items():
            if isinstance(value, Packed):
                assert first <= table.values[row, column] == first + value.offset < last
            elif isinstance(value, Tile):
                assert table.values[row, column] == addresses[value.symbol]
            else:
                assert table.values[row, column] == value
    assert table.values[0, Field.INNER] == table.values[inner_rows[0]].ctypes.data


def test_the_packed_bias_of_a_convolution_is_the_folded_one() -> None:
    graph, params, _, _ = engine_network("v1 full convolution")
    plan = compile_graph(graph, params)
    step, record = plan.steps[1], plan.table.records[1]
    assert isinstance(step, ConvStep)
    assert record is not None
    packed = record.columns[Field.MATRIX + Product.BIAS]
    assert isinstance(packed, Packed)
    bias = step.op.bias.astype(np.float32)
    np.testing.assert_array_equal(plan.table.weights[packed.offset // 4 :][: bias.size], bias)
