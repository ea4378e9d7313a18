"""A plan computes what the graph does: every step within rounding, in its own memory, for any number of threads."""

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from npmobilenet_kernels.runtime.cpu import host_target, host_targets

from npmobilenet import ShapeError
from npmobilenet.compiler import ir
from npmobilenet.compiler.fused_steps import BandStep
from npmobilenet.compiler.plan import compile_graph
from npmobilenet.compiler.step_types import ReferenceStep
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Activation, BatchNormalization, Conv2D, Input
from tests.helpers.engine_networks import ENGINE_NETWORKS, engine_network, reference_output
from tests.helpers.networks import random_images, random_params
from tests.helpers.tolerances import LARGE_FACTORS, WIRING
from tests.helpers.within import assert_within
from tests.oracles.stepwise import exact_step, run_stepwise

pytestmark = pytest.mark.usefixtures("kernels_kept", "many_cores")

WIDTHS = sorted(host_targets())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ENGINE_NETWORKS)
def test_every_step_is_within_its_rounding_of_the_exact_answer_to_what_it_read(name: str, width: int) -> None:
    graph, params, x, _ = engine_network(name)
    plan = compile_graph(graph, params, host_target(width))

    for step, read, made in run_stepwise(plan, x[0]):
        exact = exact_step(step, read)
        for value, y in made.items():
            assert_within(exact[value][1], y[None], exact[value][0], f"{name}, {width} wide: {step.label}, {value}")
        last = y

    np.testing.assert_array_equal(plan.run(x[:1], threads=1), last.reshape(1, *graph.output_shape))


@pytest.mark.parametrize("name", ENGINE_NETWORKS)
def test_the_plan_is_wired_as_the_graph(name: str) -> None:
    """The steps are tested above, one by one; here, that they read each other's values."""
    graph, params, x, exact = engine_network(name)
    np.testing.assert_allclose(compile_graph(graph, params).run(x), exact, rtol=0, atol=WIRING * np.abs(exact).max())


@pytest.mark.parametrize(
    "name",
    [
        "v1",
        "v1 alpha 0.5, a large map",
        "v2 alpha 0.35, odd size",
        "v3 small",
        "odd layers",
        "v1 full convolution",
        "v1 depth multiplier 2",
        "grayscale",
    ],
)
def test_the_answer_is_the_same_to_the_bit_for_any_number_of_threads(name: str) -> None:
    graph, params, x, _ = engine_network(name)
    plan = compile_graph(graph, params)
    alone = plan.run(x, threads=1)

    for threads in (2, 3, 7):
        np.testing.assert_array_equal(plan.run(x[:1], threads=threads), alone[:1])  # inside the layers
        np.testing.assert_array_equal(plan.run(x, threads=threads), alone)  # image by image, if there are enough


def test_a_normalization_that_cannot_be_folded_in_float32_stays_a_layer() -> None:
    layers = (
        Input(name="in", shape=(8, 8, 3)),
        Conv2D(name="small", inputs=("in",), filters=16, kernel_size=(1, 1)),
        Conv2D(name="c", inputs=("small",), filters=16, kernel_size=(3, 3)),
        BatchNormalization(name="n", inputs=("c",)),
        Activation(name="r", inputs=("n",), activation="relu"),
        Conv2D(name="end", inputs=("r",), filters=16, kernel_size=(1, 1)),
    )
    graph = Graph("large", layers)
    params, x = random_params(graph, 0), random_images(graph, 0)
    scales = {"small/kernel": 1e-30, "small/bias": 0, "c/kernel": 1e30, "n/gamma": 1e12, "end/kernel": 1e-12}
    params |= {name: params[name] * np.float32(scale) for name, scale in scales.items()}
    plan = compile_graph(graph, params)

    y = plan.run(x, threads=1)

    assert [op.name for op in plan.ops if isinstance(op, ir.BatchNorm)] == ["n"]
    expected = reference_output(graph, params, x)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(y, expected, rtol=0, atol=LARGE_FACTORS * np.abs(expected).max())


def test_every_layer_is_in_exactly_one_step_and_the_plan_shows_which_have_no_kernel() -> None:
    graph, params, _, _ = engine_network("odd layers")
    plan = compile_graph(graph, params)

    covered = [name for step in plan.steps for op in step.ops for name in op.layers]
    assert sorted(covered) == sorted(layer.name for layer in graph.layers[1:])
    assert sum(step.macs for step in plan.steps) == graph.macs
    table = str(plan)
    assert table.count("ops (reference)") == sum(isinstance(step, ReferenceStep) for step in plan.steps) > 0
    assert f"{graph.macs:,} multiply-adds" in table


def test_a_large_map_is_used_up_row_by_row_and_has_no_place_in_the_arena() -> None:
    graph, params, _, _ = engine_network("v1 alpha 0.5, a large map")
    plan = compile_graph(graph, params)

    first = plan.steps[0]
    assert isinstance(first, BandStep)
    assert isinstance(first.producer, BandStep)
    assert first.producer.target == "conv_pw_1_relu"
    assert first.target == "conv_pw_2_relu"
    map_bytes = 4 * prod(graph.shapes["conv_pw_1_relu"])
    assert plan.arena_bytes < map_bytes + 4 * prod(graph.shapes["conv_pw_2_relu"])


@settings(max_examples=8)
@given(st.sampled_from(WIDTHS), st.integers(0, 2**32 - 1))
def test_the_network_writes_nothing_outside_its_memory(width: int, seed: int) -> None:
    graph, params, x, _ = engine_network("v3 small")
    plan = compile_graph(graph, params, host_target(width))
    plan.run(x[:1], threads=2)
    workspace = plan._free_workspaces[0]
    inner = [workspace.activations, workspace.scratch, plan.table.weights]
    rooms = [np.asarray(used.base) for used in inner]
    mark = np.float32(np.random.default_rng(seed).normal())
    outside = []
    for room, used in zip(rooms, inner, strict=True):
        begin = (used.ctypes.data - room.ctypes.data) // 4
        ends = np.r_[0:begin, begin + used.size : room.size]
        room[ends] = mark
        outside.append(ends)
    weights = plan.table.weights.copy()

    plan.run(x, threads=2)
    plan.run(x[:1], threads=2)

    for room, ends in zip(rooms, outside, strict=True):
        np.testing.assert_array_equal(room[ends], mark)
    np.testing.assert_array_equal(plan.table.weights, weights)


def test_nothing_of_one_image_is_left_for_the_next() -> None:
    graph, params, x, _ = engine_network("v2")
    plan = compile_graph(graph, params)
    clean = plan.run(x[:1], threads=2)

    plan.run(np.full_like(x[:1], np.nan), threads=2)

    np.testing.assert_array_equal(plan.run(x[:1], threads=2), clean)


@pytest.mark.parametrize("name", ["v1", "v2", "v3 small"])
def test_an_image_of_nan_gives_nan(name: str) -> None:
    graph, params, x, _ = engine_network(name)
    assert np.isnan(compile_graph(graph, params).run(np.full_like(x, np.nan), threads=1)).all()


def test_any_memory_layout_of_the_images_is_accepted_and_none_is_changed() -> None:
    graph, params, x, _ = engine_network("v1")
    plan = compile_graph(graph, params)
    expected, before = plan.run(x, threads=1), x.copy()

    np.testing.assert_array_equal(plan.run(np.asfortranarray(x), threads=1), expected)
    np.testing.assert_array_equal(plan.run(x[::-1][::-1], threads=1), expected)
    np.testing.assert_array_equal(x, before)


def test_no_images_give_no_answers_and_a_wrong_shape_is_refused() -> None:
    graph, params, x, expected = engine_network("v1")
    plan = compile_graph(graph, params)

    assert plan.run(x[:0]).shape == (0, *expected.shape[1:])
    with pytest.raises(ShapeError, match=r"plan: expected x of shape \(N, 96, 96, 3\), got \(3, 95, 96, 3\)"):
        plan.run(x[:, 1:])
