"""Several outputs in the engine: against the reference on drawn graphs, and the rules of plan and arena."""

import numpy as np
import pytest
from npmobilenet_kernels.runtime.cpu import host_target, host_targets

from npmobilenet.analysis.engine_check import check_plan
from npmobilenet.analysis.rounding_growth import network_bounds
from npmobilenet.compiler.ir import Output
from npmobilenet.compiler.plan import compile_graph
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import UNIT
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Activation, Conv2D, Dense, Dropout, GlobalAveragePooling2D, Input
from tests.helpers.drawn_graphs import IMAGE, drawn_graph
from tests.helpers.networks import random_params
from tests.helpers.within import assert_within

pytestmark = pytest.mark.usefixtures("kernels_kept")

SEEDS = range(60)
WIDTHS = sorted(host_targets())


def test_the_drawn_graphs_have_every_kind_of_output() -> None:
    graphs = [drawn_graph(seed) for seed in SEEDS]
    layers = [graph.output_layers for graph in graphs]
    assert {len(graph.outputs) for graph in graphs} >= {1, 2, 3, 4, 5}
    assert any(len(set(names)) < len(names) for names in layers)  # a value that is output twice
    assert any("in" in names for names in layers)
    inner = [graph for graph in graphs if set(graph.output_layers) & graph.last_use.keys()]
    assert len(inner) > len(SEEDS) // 3
    assert {len(graph.shapes[name]) for graph in graphs for name in graph.output_layers} == {1, 2, 3}


@pytest.mark.parametrize("seed", SEEDS)
def test_all_outputs_of_a_drawn_graph_are_within_rounding_of_the_reference(seed: int) -> None:
    graph = drawn_graph(seed)
    params = random_params(graph, seed)
    x = np.random.default_rng(seed).normal(0, 1, (3, *IMAGE)).astype(np.float32)
    known = {name: (exact, bound) for name, exact, bound in network_bounds(graph, params, x)}
    plan = compile_graph(graph, params, host_target(WIDTHS[seed % len(WIDTHS)]))
    assert [op.name for op in plan.ops if isinstance(op, Output)] == [f"{name} (output)" for name, _ in graph.outputs]
    for N in range(4):
        ys = plan.outputs(x[:N], threads=1)
        for (name, layer), y, again in zip(graph.outputs, ys, plan.outputs(x[:N], threads=2), strict=True):
            assert y.shape == (N, *graph.shapes[layer])
            exact, bound = known[layer]
            assert_within(bound[:N], y, exact[:N], f"{name}, {N} images")
            np.testing.assert_array_equal(again, y, err_msg=f"{name} by two threads")
        found = plan.run(x[:N])
        assert (list(found) if len(ys) > 1 else []) == [name for name, _ in graph.outputs if len(ys) > 1]
    reference = graph.output(params, x)
    assert isinstance(reference, dict) == (len(graph.outputs) > 1)
    for name, layer in graph.outputs:
        y = reference[name] if isinstance(reference, dict) else reference
        assert_within(known[layer][1], y, known[layer][0], f"{name}, by the reference")


def test_an_inner_value_that_is_an_output_is_not_fused_away() -> None:
    layers = (
        Input(name="in", shape=(8, 32, 8)),
        Conv2D(name="c", inputs=("in",), filters=8, kernel_size=(1, 1)),
        Activation(name="r", inputs=("c",), activation="relu6"),
        GlobalAveragePooling2D(name="p", inputs=("r",)),
    )
    expected: dict[tuple[tuple[str, str], ...], list[list[str]]] = {
        (): [["in"], ["c", "r", "p"]],
        (("map", "r"), ("pooled", "p")): [["in"], ["c", "r", "p"]],  # this step stores its map anyway
        (("sums", "c"), ("pooled", "p")): [["in"], ["c"], ["r"], ["p"]],
    }
    for outputs, covered in expected.items():
        graph = Graph("net", layers, outputs)
        assert [step.layers for step in compile_graph(graph, random_params(graph, 0)).steps] == covered


def test_the_same_value_under_two_names_is_two_arrays() -> None:
    layers = (Input(name="in", shape=(2, 2, 3)), Dropout(name="d", inputs=("in",)))
    graph = Graph("net", layers, (("a", "d"), ("b", "d"), ("image", "in")))
    x = np.random.default_rng(0).normal(0, 1, (2, 2, 2, 3)).astype(np.float32)
    y = compile_graph(graph, {}).run(x)
    for values in y.values():
        np.testing.assert_array_equal(values, x)
    y["a"][...] = 7
    np.testing.assert_array_equal(y["b"], x)


def test_the_engine_check_finds_an_output_that_a_later_step_overwrites(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = (
        Input(name="in", shape=(4, 4, 16)),
        Conv2D(name="c", inputs=("in",), filters=16, kernel_size=(3, 3), padding="same"),
        Conv2D(name="d", inputs=("c",), filters=16, kernel_size=(3, 3), padding="same"),
        Conv2D(name="e", inputs=("d",), filters=16, kernel_size=(3, 3), padding="same"),
        GlobalAveragePooling2D(name="p", inputs=("e",)),
        Dense(name="out", inputs=("p",), units=4),
    )
    graph = Graph("net", layers, (("map", "c"), ("classes", "out")))
    model = Model(graph, random_params(graph, 0), UNIT)
    assert check_plan(model, compile_graph(graph, model.params)).passed
    monkeypatch.setattr("npmobilenet.compiler.placement.outputs_of", lambda ops: [ops[-1]])
    check = check_plan(model, compile_graph(graph, model.params))
    assert (check.differing, check.worst) == (("c",), np.inf)
