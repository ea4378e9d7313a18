"""The engine: passes keep the function, plans equal the reference, whoever calls and however many threads."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import cache, partial
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from npmobilenet_kernels import native
from npmobilenet_kernels.lanes import host_lanes
from npmobilenet_kernels.steps import CALLED_OFF, Kind
from npmobilenet_kernels.threads import Team, available_cores, team
from npmobilenet_kernels.tiles import all_tiles

from npmobilenet import NpMobileNetError, ShapeError
from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.compiler import passes
from npmobilenet.compiler.compilation import kernel_folder
from npmobilenet.compiler.encoding import ALIGNMENT, TILE_FIELDS, Weights
from npmobilenet.compiler.engine import Plan, default_threads
from npmobilenet.compiler.scheduling import allocate
from npmobilenet.hub.load import load
from npmobilenet.reference import rounding
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    Input,
)
from tests.helpers.networks import random_images, random_params
from tests.helpers.real_files import ROOT
from tests.helpers.within import assert_within
from tests.oracles.stepwise import exact_step, run_stepwise

pytestmark = pytest.mark.usefixtures("kernels_kept", "many_cores")

WIDTHS = sorted(host_lanes())
WIRED = 1e-3  # of the largest output: a layer that reads the wrong value gives something else altogether
PEAK = 200e6  # bytes, with Numba loaded beside kept kernels
LOGITS = {"classifier_activation": None, "classes": 21}

NETWORKS = {
    "v1": lambda: mobilenet_v1(resolution=96, **LOGITS),
    "v1 alpha 0.25, not square": lambda: mobilenet_v1(0.25, (128, 96), **LOGITS),
    "v1 alpha 0.3, odd size": lambda: mobilenet_v1(0.3, 75, **LOGITS),
    "v1 alpha 0.5, a large map": lambda: mobilenet_v1(0.5, (144, 112), **LOGITS),
    "v1 depth multiplier 2": lambda: mobilenet_v1(0.25, 64, depth_multiplier=2, **LOGITS),
    "v1 without top": lambda: mobilenet_v1(0.5, 64, include_top=False),
    "v2": lambda: mobilenet_v2(resolution=96, **LOGITS),
    "v2 alpha 0.35, odd size": lambda: mobilenet_v2(0.35, 97, **LOGITS),
    "v2 alpha 1.4, wide": lambda: mobilenet_v2(1.4, (32, 160), **LOGITS),
    "v2 average": lambda: mobilenet_v2(0.5, 64, include_top=False, pooling="avg"),
    "v2 maximum": lambda: mobilenet_v2(0.5, 64, include_top=False, pooling="max"),
    "v3 large": lambda: mobilenet_v3_large(resolution=96, **LOGITS),
    "v3 large minimalistic": lambda: mobilenet_v3_large(0.75, 65, minimalistic=True, **LOGITS),
    "v3 small": lambda: mobilenet_v3_small(resolution=113, **LOGITS),
    "v3 small, scaled outside": lambda: mobilenet_v3_small(0.75, 64, include_preprocessing=False, **LOGITS),
    "v1 full convolution": lambda: mobilenet_v1(0.5, 64, full_convolution=True, **LOGITS),
    "v1 full convolution, odd size": lambda: mobilenet_v1(0.3, (75, 53), full_convolution=True, **LOGITS),
    "grey": lambda: mobilenet_v1(0.25, 64, channels=1, **LOGITS),
    "v3 small, five channels": lambda: mobilenet_v3_small(resolution=64, channels=5, **LOGITS),
    "own head": lambda: own_head(),
    "odd layers": lambda: odd_layers(),
}


def own_head():
    """Biases, plain ReLU, average pooling over the whole map, Flatten, Dense with softmax."""
    layers = (
        Input(name="in", shape=(40, 40, 3)),
        Conv2D(name="c1", inputs=("in",), filters=8, kernel_size=(3, 3), stride=2, padding="same"),
        BatchNormalization(name="n1", inputs=("c1",)),
        Activation(name="r1", inputs=("n1",), activation="relu"),
        DepthwiseConv2D(name="d1", inputs=("r1",), kernel_size=(3, 3), padding="same"),
        BatchNormalization(name="n2", inputs=("d1",)),
        Activation(name="r2", inputs=("n2",), activation="relu"),
        Conv2D(name="p1", inputs=("r2",), filters=19, kernel_size=(1, 1), activation="relu6"),
        AveragePooling2D(name="a", inputs=("p1",), kernel_size=(20, 20)),
        Flatten(name="f", inputs=("a",)),
        Dense(name="out", inputs=("f",), units=2, activation="softmax"),
    )
    return Graph("own", layers)


def odd_layers():
    """What no MobileNet has: 7 x 7 filters, stride 3, strided 1 x 1, sigmoid; Flatten of a map, which has no kernel."""
    layers = (
        Input(name="in", shape=(33, 29, 3)),
        Conv2D(name="c1", inputs=("in",), filters=10, kernel_size=(3, 3), stride=1, padding="same"),
        DepthwiseConv2D(name="d1", inputs=("c1",), kernel_size=(7, 7), padding="same"),
        DepthwiseConv2D(name="d2", inputs=("d1",), kernel_size=(3, 3), padding="same", activation="relu"),
        Conv2D(name="p1", inputs=("d2",), filters=12, kernel_size=(1, 1), activation="sigmoid"),
        Conv2D(name="p2", inputs=("p1",), filters=12, kernel_size=(1, 1), stride=2),
        DepthwiseConv2D(name="d3", inputs=("p2",), kernel_size=(3, 3), stride=3, padding="valid"),
        Flatten(name="f", inputs=("d3",)),
        Dense(name="out", inputs=("f",), units=5),
    )
    return Graph("odd", layers)


@cache
def network(name):
    """(graph, params, images, the reference's output in float64)"""
    graph = NETWORKS[name]()
    params = random_params(graph, seed=3)
    x = random_images(graph, seed=4, N=3)
    return graph, params, x, reference(graph, params, x, np.float64)


def reference(graph, params, x, dtype):
    for _, y in graph.run({name: array.astype(dtype) for name, array in params.items()}, x.astype(dtype)):
        output = y
    return output


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_step_is_within_its_rounding_of_the_exact_answer_to_what_it_read(name, width):
    graph, params, x, _ = network(name)
    plan = Plan(graph, params, width=width)

    for step, read, made in run_stepwise(plan, x[0]):
        exact = exact_step(step, read)
        for value, y in made.items():
            assert_within(exact[value][1], y[None], exact[value][0], f"{name}, {width} wide: {step.kind!r}, {value}")
        last = y

    np.testing.assert_array_equal(plan.run(x[:1], threads=1), last.reshape(1, *graph.output_shape))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_plan_is_wired_as_the_graph(name):
    """That the steps compute right is tested above, step by step; here, that they read each other's values."""
    graph, params, x, exact = network(name)
    np.testing.assert_allclose(Plan(graph, params).run(x), exact, rtol=0, atol=WIRED * np.abs(exact).max())


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
        "grey",
    ],
)
def test_the_answer_is_the_same_to_the_bit_for_any_number_of_threads(name):
    graph, params, x, _ = network(name)
    plan = Plan(graph, params)
    alone = plan.run(x, threads=1)

    for threads in (2, 3, 7):
        np.testing.assert_array_equal(plan.run(x[:1], threads=threads), alone[:1])  # inside the layers
        np.testing.assert_array_equal(plan.run(x, threads=threads), alone)  # image by image, if there are enough


def exact_params(graph):
    """Parameters that float64 computes with exactly: small integers; normalisations divide by a power of two."""
    rng = np.random.default_rng(5)
    params = {}
    for layer in graph.layers:
        for array, shape in graph.param_shapes_of(layer).items():
            values = rng.integers(-3, 4, shape).astype(np.float64)
            if array == "moving_variance":
                values = 4.0 ** rng.integers(-1, 2, shape) - layer.epsilon
                assert np.isin(values + layer.epsilon, (0.25, 1, 4)).all()
            params[f"{layer.name}/{array}"] = values
    return params


class Calculation:
    """What every name stands for: the names that it is computed from, and how."""

    def __init__(self, rules):
        self._rules = rules

    @staticmethod
    def of_graph(graph, params):
        arrays = {layer.name: graph.arrays_of(layer, params) for layer in graph.layers}
        return Calculation(
            {layer.name: (layer.inputs, partial(layer.apply, arrays[layer.name])) for layer in graph.layers[1:]}
        )

    @staticmethod
    def of_ops(ops):
        return Calculation({op.name: (op.reads, partial(passes.apply, op)) for op in ops[1:]})

    def __call__(self, name, given):
        """The value of a name, from those that are given, by name."""
        if name in given:
            return given[name]
        reads, function = self._rules[name]
        return function(*(self(read, given) for read in reads))


def given_for(name, ops, known, rng):
    """Small integers for whatever an operation reads; where lowering made that up, for what it is made from."""
    values = {}
    for read in next(op.reads for op in ops if op.name == name):
        if read in known:
            values[read] = rng.integers(-4, 5, (1, *known[read])).astype(np.float64)
        else:
            values |= given_for(read, ops, known, rng)
    return values


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("count", range(len(passes.PASSES) + 1))
def test_every_pass_keeps_the_function_to_the_bit(name, count):
    """Lowering (0) and each pass: whatever it changed computes what the layers or operations before it did.

    The numbers are such that float64 rounds nothing. But relu6(x + 3) * (1 / 6) is no relu6(x + 3) / 6: the constant,
    the product and the quotient are rounded.
    """
    graph = NETWORKS[name]()
    params, rng = exact_params(graph), np.random.default_rng(6)
    ops = passes.lower(graph, params)
    before, known, output, unchanged = Calculation.of_graph(graph, params), graph.shapes, graph.layers[-1].name, []
    for run in passes.PASSES[:count]:
        before, known, output, unchanged = Calculation.of_ops(ops), shapes(ops), ops[-1].name, ops
        ops = run(ops)
    after = Calculation.of_ops(ops)
    rtol = 0 if count == 0 or run is not passes.recognise_hard_sigmoid else rounding.gamma(3, np.float64)

    changed = {op.name: op.name for op in ops[1:] if op not in unchanged and op.name in known}
    for was, now in (changed | {output: ops[-1].name}).items():
        given = given_for(now, ops, known, rng)
        np.testing.assert_allclose(after(now, given), before(was, given), rtol=rtol, atol=0, err_msg=now)

    assert sum(op.macs for op in ops) == graph.macs


def shapes(ops):
    return {op.name: op.shape for op in ops}


def kinds(graph, *applied):
    ops = passes.lower(graph, random_params(graph, 0))
    for run in applied:
        ops = run(ops)
    return ops


def test_each_pass_removes_what_it_is_named_after():
    graph = mobilenet_v3_small(resolution=64)
    folded = kinds(graph, passes.merge_zero_padding, passes.fold_batch_norm)
    assert not any(op.kind == "norm" or getattr(op.layer, "type", "") == "ZeroPadding2D" for op in folded)
    named = passes.recognise_hard_sigmoid(folded)
    assert not any(getattr(op.layer, "offset", 0) == 3 for op in named)
    fused = passes.fuse_activation(named)
    assert [op.name for op in fused if op.kind == "reference"] == ["rescaling"]
    scaled = passes.fuse_rescaling(fused)
    assert scaled[1].rescale == (1 / 127.5, -1)
    gated = passes.fuse_gate(scaled)
    assert sum(op.gate is not None for op in gated) == sum(op.kind == "multiply" for op in scaled) == 9
    done = passes.fuse_residual(gated)
    assert sum(op.residual is not None for op in done) == sum(op.kind == "add" for op in gated) == 6


def test_folding_a_normalisation_is_the_formula_of_the_paper():
    layers = (
        Input(name="in", shape=(4, 4, 1)),
        Conv2D(name="c", inputs=("in",), filters=1, kernel_size=(1, 1)),
        BatchNormalization(name="n", inputs=("c",), epsilon=0.75),
    )
    values = {"c/kernel": 2, "c/bias": 3, "n/gamma": 5, "n/beta": 7, "n/moving_mean": 1, "n/moving_variance": 0.25}
    graph = Graph("one", layers)
    ops = passes.lower(graph, {name: np.full(graph.param_shapes[name], v, np.float32) for name, v in values.items()})

    _, conv = passes.fold_batch_norm(ops)

    assert conv.kernel.item() == 10  # 2 * 5 / sqrt(0.25 + 0.75)
    assert conv.bias.item() == 17  # (3 - 1) * 5 + 7


def test_a_normalisation_that_cannot_be_folded_in_float32_stays_a_layer():
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
    plan = Plan(graph, params)

    y = plan.run(x, threads=1)

    assert [op.name for op in plan.ops if op.kind == "norm"] == ["n"]
    *_, (_, expected) = graph.run(params, x)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_every_layer_is_in_exactly_one_step_and_the_plan_says_which_have_no_kernel():
    graph, params, _, _ = network("odd layers")
    plan = Plan(graph, params)

    covered = [name for step in plan.steps for op in step.ops for name in op.layers]
    assert sorted(covered) == sorted(layer.name for layer in graph.layers[1:])
    assert sum(step.macs for step in plan.steps) == graph.macs
    table = str(plan)
    assert table.count("ops (reference)") == sum(step.kind is None for step in plan.steps) > 0
    assert f"{graph.macs:,} multiply-adds" in table


def test_a_large_map_is_used_up_row_by_row_and_has_no_place_in_the_arena():
    graph, params, _, _ = network("v1 alpha 0.5, a large map")
    plan = Plan(graph, params)

    first = plan.steps[0]
    assert first.inner is not None
    assert first.inner.target == "conv_pw_1_relu"
    assert first.target == "conv_pw_2_relu"
    map_bytes = 4 * prod(graph.shapes["conv_pw_1_relu"])
    assert plan.arena_bytes < map_bytes + 4 * prod(graph.shapes["conv_pw_2_relu"])


def test_a_published_network_needs_nothing_but_kernels():
    for graph in (mobilenet_v1(), mobilenet_v2(), mobilenet_v3_large(), mobilenet_v3_small()):
        zeros = {name: np.ones(shape, np.float32) for name, shape in graph.param_shapes.items()}
        plan = Plan(graph, zeros)
        assert [step.target for step in plan.steps if step.kind is None] == []
        assert plan.steps[-1].kind == Kind.SOFTMAX


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(0, 9), st.integers(0, 5)), max_size=12))
def test_values_that_live_at_once_never_share_memory(values):
    sizes = {str(i): size for i, (size, _, _) in enumerate(values)}
    lives = {str(i): (first, first + length) for i, (_, first, length) in enumerate(values)}

    offsets, total = allocate(sizes, lives)

    for one in sizes:
        assert 0 <= offsets[one] <= total - sizes[one]
        for other in sizes:
            apart = offsets[one] + sizes[one] <= offsets[other] or offsets[other] + sizes[other] <= offsets[one]
            together = lives[one][0] <= lives[other][1] and lives[other][0] <= lives[one][1]
            assert one == other or apart or not together
    assert total >= max((sum(sizes[n] for n in sizes if lives[n][0] <= t <= lives[n][1]) for t in range(15)), default=0)


def test_memory_is_used_again_after_its_last_reader():
    assert allocate({"a": 8, "b": 8, "c": 8}, {"a": (0, 1), "b": (1, 2), "c": (2, 3)}) == (
        {"a": 0, "b": 8, "c": 0},
        16,
    )


@settings(max_examples=8)
@given(st.sampled_from(WIDTHS), st.integers(0, 2**32 - 1))
def test_the_network_writes_nothing_outside_its_memory(width, seed):
    graph, params, x, _ = network("v3 small")
    plan = Plan(graph, params, width=width)
    plan.run(x[:1], threads=2)
    arena = plan._arenas[0]
    rooms = [arena._floats.base, arena._scratch.base, plan._table.weights.base]
    inner = [arena._floats, arena._scratch, plan._table.weights]
    mark = np.float32(np.random.default_rng(seed).normal())
    outside = []
    for room, used in zip(rooms, inner, strict=True):
        begin = (used.ctypes.data - room.ctypes.data) // 4
        ends = np.r_[0:begin, begin + used.size : room.size]
        room[ends] = mark
        outside.append(ends)
    weights = plan._table.weights.copy()

    plan.run(x, threads=2)
    plan.run(x[:1], threads=2)

    for room, ends in zip(rooms, outside, strict=True):
        np.testing.assert_array_equal(room[ends], mark)
    np.testing.assert_array_equal(plan._table.weights, weights)


def test_nothing_of_one_image_is_left_for_the_next():
    graph, params, x, _ = network("v2")
    plan = Plan(graph, params)
    clean = plan.run(x[:1], threads=2)

    plan.run(np.full_like(x[:1], np.nan), threads=2)

    np.testing.assert_array_equal(plan.run(x[:1], threads=2), clean)


@pytest.mark.parametrize("name", ["v1", "v2", "v3 small"])
def test_an_image_of_nan_gives_nan(name):
    graph, params, x, _ = network(name)
    assert np.isnan(Plan(graph, params).run(np.full_like(x, np.nan), threads=1)).all()


def test_relu6_of_nan_is_nan_as_in_keras(keras):
    assert np.isnan(np.asarray(keras.ops.relu6(np.array([np.nan], np.float32)))).all()


def test_any_memory_layout_of_the_images_will_do_and_none_is_changed():
    graph, params, x, _ = network("v1")
    plan = Plan(graph, params)
    expected, before = plan.run(x, threads=1), x.copy()

    np.testing.assert_array_equal(plan.run(np.asfortranarray(x), threads=1), expected)
    np.testing.assert_array_equal(plan.run(x[::-1][::-1], threads=1), expected)
    np.testing.assert_array_equal(x, before)


def test_no_images_give_no_answers_and_a_wrong_shape_is_refused():
    graph, params, x, expected = network("v1")
    plan = Plan(graph, params)

    assert plan.run(x[:0]).shape == (0, *expected.shape[1:])
    with pytest.raises(ShapeError, match=r"plan: x \(N, 96, 96, 3\) is needed; x \(3, 95, 96, 3\)"):
        plan.run(x[:, 1:])


def test_many_threads_may_call_one_plan_at_once():
    graph, params, x, _ = network("v3 small")
    plan = Plan(graph, params)
    expected = plan.run(x, threads=1)
    wrong = []

    def caller():
        for threads in (1, 2, 4, 2, 1) * 4:
            if not np.array_equal(plan.run(x, threads=threads), expected):
                wrong.append(threads)

    callers = [threading.Thread(target=caller) for _ in range(5)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert wrong == []


@pytest.fixture(scope="module")
def run():
    return native.native((), kernel_folder()).run


def test_whoever_is_interrupted_before_the_work_begins_calls_the_others_off(run):
    left = [threading.Event() for _ in range(3)]

    def interrupted(job, number, seen, patience):
        if number == 0:
            raise KeyboardInterrupt
        result = run(job, number, seen, patience)
        if result == CALLED_OFF:
            left[number].set()
        return result

    with team(3, interrupted) as members:
        with pytest.raises(KeyboardInterrupt):
            members.together(0, 1, 0, 0, 0, 0)
        assert all(event.wait(20) for event in left[1:])
    with team(3, run) as fresh:
        assert fresh is not members
        assert fresh.is_idle


def test_work_that_fails_on_another_thread_is_reported_here(run):
    def work(piece):
        if piece == 5:
            raise ValueError("piece 5")

    members = Team(3, run)
    members.start()
    with pytest.raises(ValueError, match="piece 5"):
        members.share(work, 9)
    assert members.is_idle
    members.dismiss()


def test_a_team_does_both_kinds_of_work_in_any_order_awake_or_asleep(run):
    graph, params, x, _ = network("v3 small")
    plan = Plan(graph, params)
    expected = plan.run(x, threads=1)
    rng = np.random.default_rng(0)

    for _ in range(60):
        images = rng.integers(1, 4)  # three images are shared out, fewer are computed together
        np.testing.assert_array_equal(plan.run(x[:images], threads=3), expected[:images])
        time.sleep(rng.choice([0, 1e-4, 2e-4, 1e-3]))


def test_whoever_finds_the_team_busy_works_alone(run):
    with team(2, run) as first, team(2, run) as second:
        assert first is not None
        assert second is None


def test_the_number_of_threads_is_asked_for_or_what_the_process_may_use(monkeypatch):
    monkeypatch.setenv("NPMOBILENET_THREADS", "3")
    assert default_threads() == 3
    monkeypatch.setenv("NPMOBILENET_THREADS", "")
    assert default_threads() == available_cores()
    if hasattr(os, "sched_getaffinity"):
        assert 1 <= available_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("asked", ["many", "0", "-2", "1.5", "²", "10000"])
def test_a_number_of_threads_that_is_none_is_not_passed_over(asked, monkeypatch):
    monkeypatch.setenv("NPMOBILENET_THREADS", asked)
    digits, x = load("digits"), np.zeros((1, 32, 32, 3), np.float32)
    with pytest.raises(NpMobileNetError, match=f"NPMOBILENET_THREADS is '{asked}'; expected a whole number from 1 to"):
        digits.forward(x)
    digits.forward(x, threads=1)  # asks no further


PROGRAM = """
import json, os, sys, threading
import numpy as np
sys.path.insert(0, {root!r})
from tests.helpers.networks import random_images, random_params
from npmobilenet.architectures import mobilenet_v1
from npmobilenet.compiler.engine import Plan
graph = mobilenet_v1(0.25, 64)
params, x = random_params(graph, 0), random_images(graph, 0)
def answer(threads):
    return Plan(graph, params).run(x, threads).ravel()[:5].tolist()
{body}
"""


def child(body, **environment):
    """Run a program in a fresh process; what it prints as JSON. It must end by itself."""
    program = PROGRAM.format(root=str(ROOT), body=body)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True, text=True, timeout=120, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_fresh_process_with_kept_kernels_does_not_import_numba():
    child("print(json.dumps(answer(1)))")
    answers, numba = child("print(json.dumps([answer(2), 'numba' in sys.modules]))")
    assert not numba
    assert answers == child("print(json.dumps(answer(1)))")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory as Linux tells it")
def test_a_process_that_predicts_with_the_largest_network_of_v1_needs_less_than_the_memory_allowed():
    body = """
import numba
from pathlib import Path
from npmobilenet import Model
graph = mobilenet_v1()
pool = np.random.default_rng(0).uniform(0.01, 1, max(map(np.prod, graph.param_shapes.values()))).astype(np.float32)
params = {name: pool[:np.prod(shape)].reshape(shape).copy() for name, shape in graph.param_shapes.items()}
Model(graph, params).predict(np.zeros((224, 224, 3), np.uint8), backend="compiled")
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
print(1024 * int(peak.split()[1]))
"""
    child("print(json.dumps(answer(1)))")  # so that the kernels are kept
    assert child(body) <= PEAK


def test_packed_weights_find_more_room_where_there_was_too_little():
    weights = Weights(64)
    arrays = [np.arange(n, dtype=np.float32) for n in (3, 40, 1, 200, 16)]

    offsets = [weights.add(array) for array in arrays]

    packed = weights.packed
    assert packed.ctypes.data % ALIGNMENT == 0
    for array, offset in zip(arrays, offsets, strict=True):
        assert offset % ALIGNMENT == 0
        np.testing.assert_array_equal(packed[offset // 4 :][: array.size], array)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes_with_threads_of_its_own():
    body = """
before = answer(2)
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, json.dumps(answer(2)).encode())
    os._exit(0)
print(json.dumps([before, json.loads(os.read(read, 10000)), answer(2)]))
"""
    before, forked, after = child(body)
    assert before == forked == after


def digits_answer():
    """What a process started by spawn can import and call."""
    return load("digits").predict(np.zeros((32, 32, 3), np.uint8), backend="compiled").tolist()


def test_a_process_started_by_spawn_gives_the_same_answer():
    body = """
import multiprocessing
from tests.compiler.test_engine import digits_answer
here = digits_answer()
with multiprocessing.get_context("spawn").Pool(1) as pool:
    print(json.dumps([here, pool.apply(digits_answer)]))
"""
    here, there = child(body)
    assert here == there


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        (["instructions", "--every", "13"], "raised"),
        (["threads", "--every", "5"], "told"),
        (["signals", "--predictions", "600"], "interrupted"),
    ],
)
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="interrupts itself by a timer's signal")
def test_after_an_interrupt_anywhere_the_next_prediction_is_right(what, kind):
    command = [sys.executable, "-m", "tests.helpers.interrupts", *what, "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[kind] > 10


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="keeps itself to one core")
def test_threads_that_would_share_one_core_are_not_started():
    body = """
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(json.dumps([answer(1), answer(2), answer(1024), threading.active_count()]))
"""
    one, two, many, threads = child(body)
    assert one == two == many
    assert threads == 1


def test_a_call_at_exit_ends_while_another_thread_still_computes():
    body = """
import atexit
atexit.register(lambda: print(json.dumps(answer(2))))
answer(2)
threading.Thread(target=lambda: [answer(2) for _ in range(1000)], daemon=True).start()
"""
    assert len(child(body)) == 5


def test_kernels_are_compiled_again_where_the_kept_file_is_damaged_or_no_folder_can_be_written(tmp_path):
    folder = tmp_path / "cache"
    first = child("print(json.dumps(answer(1)))", NPMOBILENET_CACHE=str(folder))
    kept = {path: path.read_bytes() for path in (folder / "kernels").glob("*/*.o")}
    assert len(kept) > 5
    for path, whole in kept.items():
        path.write_bytes(whole[:-100])
    assert child("print(json.dumps(answer(1)))", NPMOBILENET_CACHE=str(folder)) == first
    assert all(path.stat().st_size == len(whole) for path, whole in kept.items())

    (tmp_path / "file").write_text("not a folder")
    assert child("print(json.dumps(answer(1)))", NPMOBILENET_CACHE=str(tmp_path / "file")) == first


def test_numba_compiles_every_function_once_and_the_code_calls_nothing_of_python():
    """When this fails, Numba has changed, and predictions may be computed by the reference."""
    assert native.compile_symbol(native.ENTRY)
    from npmobilenet_kernels.network import compiled_functions

    assert {function.py_func.__name__: len(function.overloads) for function in compiled_functions} == {
        function.py_func.__name__: 1 for function in compiled_functions
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_a_plan_needs_tiles_that_there_are_and_none_that_it_does_not_run(name):
    graph, params, _, _ = network(name)
    plan = Plan(graph, params, compiled=False)
    assert set(plan._table.symbols) <= all_tiles(plan.lanes).keys()
    rows = [*plan._table.rows, *plan._table._inner_rows]
    assert {plan._table.symbols[row[field]] for row in rows if row for field in TILE_FIELDS & row.keys()} == set(
        plan._table.symbols
    )
    used = " ".join(plan._table.symbols)
    assert ("depthwise_5x5" in used) == name.startswith(("v3 large", "v3 small")) & ("minimalistic" not in name)
    assert ("scale_weights" in used) == any(op.gate for op in plan.ops)
    assert ("softmax" in used) == (name == "own head")


def steps_of(name):
    graph, params, _, _ = network(name)
    return [step.kind.name if step.kind is not None else None for step in Plan(graph, params).steps]


def test_layers_that_no_published_network_has_get_the_kernels_named_in_the_plan():
    assert steps_of("odd layers") == [
        "IMAGE", "CONV", "STRIP", "STRIP", "SIGMOID", "CONV", "DEPTHWISE", None, "DENSE",
    ]  # fmt: skip
    assert steps_of("own head") == ["STEM", "DEPTHWISE", "POINTWISE", "DENSE", "SOFTMAX"]


def test_the_full_convolution_twin_is_general_convolutions_behind_the_stem():
    assert steps_of("v1 full convolution") == ["STEM", *["CONV"] * 13, "POOL", "DENSE"]


def test_a_depth_multiplier_changes_no_step_but_parts_the_product_before_from_it():
    kinds = steps_of("v1 depth multiplier 2")
    assert set(kinds) == {"STEM", "STRIP", "DEPTHWISE", "POINTWISE", "DENSE"}
    assert kinds.count("STRIP") + kinds.count("DEPTHWISE") == 13


def test_an_image_that_is_not_rgb_is_turned_into_a_map_and_scaled_first():
    assert steps_of("grey")[:2] == ["IMAGE", "CONV"]
    graph, params, _, _ = network("v3 small, five channels")
    first, second, *_ = Plan(graph, params).steps
    assert [op.name for op in first.ops] == ["rescaling"]
    assert (first.kind, second.kind, second.source) == (Kind.IMAGE, Kind.CONV, "rescaling")
