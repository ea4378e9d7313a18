"""Memory plans: nothing overlaps, the reference runs in the arena, and the V2 paper's table 3 comes out."""

import shutil
import subprocess
from dataclasses import replace
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npmobilenet.analysis import linear_bottlenecks, memory_plan, memory_report, memory_steps
from npmobilenet.analysis.arena_run import run_in_arena
from npmobilenet.analysis.memory_plan import POLICIES, MemoryPlan, plan
from npmobilenet.analysis.memory_steps import InPlace
from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.architectures.baselines import squeezenet
from npmobilenet.architectures.ssd import ssd
from npmobilenet.errors import ShapeError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
    Input,
)
from npmobilenet.reference.transforms import fold_padding
from npmobilenet.types import Array, Outputs

NETWORKS = {
    "v1": mobilenet_v1(0.25, 64, classes=10),
    "v1 odd": mobilenet_v1(0.3, (53, 37), classes=7),
    "v2": mobilenet_v2(0.35, 48, classes=10),
    "v2 odd": mobilenet_v2(0.5, (37, 50), classes=5),
    "v3 small": mobilenet_v3_small(0.75, 48, include_preprocessing=False, classes=10),
    "v3 large minimalistic": mobilenet_v3_large(0.75, 48, minimalistic=True, include_preprocessing=False, classes=10),
}


@cache
def planned_for(network: str, policy: str) -> MemoryPlan:
    return plan(NETWORKS[network], policy, itemsize=8, parts=3, stripes=3)


def whole_numbers(graph: Graph, seed: int = 0) -> tuple[dict[str, Any], Any]:
    """Parameters and an image with which every sum is exact in float64, in whatever order it is taken.

    Kernels and biases are -1, 0 or 1; batch normalization has gamma 1, and a variance that epsilon makes 1.
    """
    rng = np.random.default_rng(seed)
    params = {name: rng.integers(-1, 2, shape).astype(float) for name, shape in graph.param_shapes.items()}
    for layer in graph.layers:
        if isinstance(layer, BatchNormalization):
            params[f"{layer.name}/gamma"][...] = 1
            params[f"{layer.name}/moving_variance"][...] = 1 - layer.epsilon
    return params, rng.integers(-2, 3, (1, *graph.input_shape)).astype(float)


def last_output(graph: Graph, params: dict[str, Any], x: Any) -> Any:
    *_, (_, y) = graph.run(params, x)
    return y


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("network", NETWORKS)
def test_no_two_live_buffers_overlap(network: str, policy: str) -> None:
    planned = planned_for(network, policy)
    for number, buffer in enumerate(planned.buffers):
        assert buffer.offset % planned.align == 0
        for other in planned.buffers[number + 1 :]:
            apart = buffer.offset + buffer.bytes <= other.offset or other.offset + other.bytes <= buffer.offset
            assert apart or not buffer.meets(other), (buffer, other)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_reference_gives_the_same_numbers_in_the_arena(network: str, policy: str) -> None:
    graph, planned = NETWORKS[network], planned_for(network, policy)
    if network == "v3 small" and policy in ("split", "stripes"):
        # a hard swish divides by 6, so sums of its values depend on their order; these two policies change the order
        graph = replace_activation(graph, "hard_swish", "relu6")
        planned = plan(graph, policy, itemsize=8, parts=3, stripes=3)
    params, x = whole_numbers(graph)
    expected = last_output(graph, params, x)
    assert len(np.unique(expected)) > 1, "the network must say something"
    np.testing.assert_array_equal(run_in_arena(planned, params, x), expected)


@pytest.mark.parametrize("policy", ["free", "split", "stripes"])
@pytest.mark.parametrize(
    "graph",
    [squeezenet(classes=3, resolution=64), ssd("mobilenet_v2", 0.35, 96, slots=3)],
    ids=["squeezenet", "ssdlite"],
)
def test_networks_with_branches_can_be_planned_too(graph: Graph, policy: str) -> None:
    params, x = whole_numbers(graph)
    found = run_in_arena(plan(graph, policy, itemsize=8, parts=3, stripes=3), params, x)
    for y, expected in zip(*(arrays_of(outputs) for outputs in (found, graph.output(params, x))), strict=True):
        assert len(np.unique(expected)) > 1, "the network must say something"
        np.testing.assert_array_equal(y, expected)


def arrays_of(outputs: Outputs) -> list[Array]:
    return list(outputs.values()) if isinstance(outputs, dict) else [outputs]


def replace_activation(graph: Graph, old: str, new: str) -> Graph:
    return Graph(
        graph.name,
        tuple(
            replace(layer, activation=new) if isinstance(layer, Activation) and layer.activation == old else layer
            for layer in graph.layers
        ),
    )


@pytest.mark.parametrize("policy", ["free", "in_place", "depthwise_in_place"])
def test_float32_is_the_same_to_the_bit_where_no_sum_changes_its_order(policy: str) -> None:
    graph = mobilenet_v3_large(0.75, 64)
    rng = np.random.default_rng(1)
    params = {
        name: rng.uniform(0.1, 1, shape).astype("f") if "moving" in name else rng.normal(0, 0.2, shape).astype("f")
        for name, shape in graph.param_shapes.items()
    }
    x = rng.uniform(0, 255, (1, *graph.input_shape)).astype("f")
    np.testing.assert_array_equal(run_in_arena(plan(graph, policy), params, x), last_output(graph, params, x))


def test_a_place_that_is_one_value_too_low_gives_other_numbers() -> None:
    graph = residual()
    params, x = whole_numbers(graph)
    expected = last_output(graph, params, x)
    changed = []
    for number in range(len(graph.layers)):
        broken = plan(graph, "free", itemsize=8, align=8)
        buffers = list(broken.buffers)
        buffers[number] = replace(buffers[number], offset=max(buffers[number].offset - 8, 0))
        broken.__dict__["buffers"] = tuple(buffers)
        changed.append(not np.array_equal(run_in_arena(broken, params, x), expected))
    assert any(changed)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_policy_needs_no_more_than_the_one_before(network: str) -> None:
    peaks = [planned_for(network, policy).peak_bytes for policy in POLICIES]
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[0] > peaks[1] > peaks[2]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("network", ["v1", "v2", "v3 small"])
def test_the_arena_is_at_least_the_peak_and_holds_every_tensor(network: str, policy: str) -> None:
    planned = planned_for(network, policy)
    assert planned.arena_bytes >= planned.peak_bytes
    ends = [planned.offsets[name] + planned.itemsize * prod(planned.shapes[name]) for name in planned.offsets]
    assert max(ends) == planned.arena_bytes


def test_keeping_everything_takes_the_sum_of_all_outputs() -> None:
    graph = NETWORKS["v2"]
    assert plan(graph, "keep", align=4).arena_bytes == 4 * sum(map(prod, graph.shapes.values()))


def test_peak_of_three_layers_by_hand() -> None:
    graph = Graph(
        "three",
        (
            Input(name="x", shape=(4, 4, 2)),  # 32 values
            Conv2D(name="conv", inputs=("x",), kernel_size=(1, 1), filters=8, use_bias=False),  # 128
            Activation(name="relu", inputs=("conv",), activation="relu"),  # 128
            GlobalAveragePooling2D(name="pool", inputs=("relu",)),  # 8
        ),
    )
    assert plan(graph, "keep", itemsize=1).peak_bytes == 32 + 128 + 128 + 8
    assert plan(graph, "free", itemsize=1).live_bytes == (32, 32 + 128, 128 + 128, 128 + 8)
    assert plan(graph, "in_place", itemsize=1).live_bytes == (32, 32 + 128, 128, 128 + 8)


def residual() -> Graph:
    conv = {"kernel_size": (1, 1), "filters": 2, "use_bias": False}
    return Graph(
        "residual",
        (
            Input(name="x", shape=(4, 4, 2)),
            Conv2D(name="a", inputs=("x",), **conv),  # type: ignore[arg-type]
            Conv2D(name="b", inputs=("a",), **conv),  # type: ignore[arg-type]
            Add(name="sum", inputs=("x", "b")),
        ),
    )


def test_a_residual_keeps_its_input_alive() -> None:
    assert plan(residual(), "free", itemsize=1).live_bytes == (32, 64, 96, 96)
    assert plan(residual(), "in_place", itemsize=1).live_bytes == (32, 64, 96, 64)


@pytest.mark.parametrize("policy", POLICIES)
def test_an_input_that_is_read_again_is_not_written_over(policy: str) -> None:
    graph = Graph(
        "twice",
        (
            Input(name="x", shape=(4, 4, 3)),
            Conv2D(name="conv", inputs=("x",), kernel_size=(1, 1), filters=3, use_bias=False),
            Activation(name="relu", inputs=("conv",), activation="relu"),
            DepthwiseConv2D(name="dw", inputs=("conv",), kernel_size=(3, 3), padding="same", use_bias=False),
            Add(name="sum", inputs=("conv", "relu", "dw")),
        ),
    )
    params, x = whole_numbers(graph)
    planned = plan(graph, policy, itemsize=8)
    np.testing.assert_array_equal(run_in_arena(planned, params, x), last_output(graph, params, x))


def test_a_depthwise_convolution_in_place_holds_back_as_many_rows_as_its_kernel_is_high() -> None:
    graph = Graph(
        "depthwise",
        (
            Input(name="x", shape=(9, 8, 4)),
            DepthwiseConv2D(name="dw", inputs=("x",), kernel_size=(3, 3), padding="same", use_bias=False),
        ),
    )
    assert plan(graph, "in_place", itemsize=1).peak_bytes == 2 * 9 * 8 * 4
    assert plan(graph, "depthwise_in_place", itemsize=1).peak_bytes == 9 * 8 * 4 + 3 * 8 * 4


@pytest.mark.parametrize("padding", ["same", "valid", ((2, 0), (0, 2)), ((0, 2), (1, 1)), ((3, 3), (3, 3))])
@pytest.mark.parametrize(("K", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2), (5, 3), (2, 3), (1, 1)])
@pytest.mark.parametrize(("size", "dilation"), [((7, 9), 1), ((8, 5), 1), ((9, 10), 2)])
def test_depthwise_in_place_never_writes_what_it_still_reads(
    size: Any, dilation: int, K: int, stride: int, padding: Any
) -> None:
    layer = DepthwiseConv2D(
        name="dw", inputs=("x",), kernel_size=(K, K), stride=stride, padding=padding, use_bias=False, dilation=dilation
    )
    graph = Graph("dw", (Input(name="x", shape=(*size, 3)), layer))
    params, x = whole_numbers(graph)
    steps, shapes = memory_steps.layer_by_layer(graph)
    planned = MemoryPlan(graph, "strided", 8, 16, tuple(memory_steps.take_over(steps, shapes, InPlace.STRIDED)), shapes)
    np.testing.assert_array_equal(run_in_arena(planned, params, x), last_output(graph, params, x))


@pytest.mark.parametrize("parts", [1, 2, 3, 6, 24])
def test_a_bottleneck_can_be_split_any_number_of_times(parts: int) -> None:
    graph = mobilenet_v2(0.35, 32, classes=5)
    params, x = whole_numbers(graph)
    planned = plan(graph, "split", itemsize=8, parts=parts)
    np.testing.assert_array_equal(run_in_arena(planned, params, x), last_output(graph, params, x))
    assert planned.macs == graph.macs, "splitting computes nothing twice"


@pytest.mark.parametrize("stripes", [1, 2, 5, 1000])
def test_the_front_can_be_cut_into_any_number_of_stripes(stripes: int) -> None:
    graph = NETWORKS["v1 odd"]
    params, x = whole_numbers(graph)
    planned = plan(graph, "stripes", itemsize=8, stripes=stripes)
    np.testing.assert_array_equal(run_in_arena(planned, params, x), last_output(graph, params, x))


@pytest.mark.parametrize("network", ["v1 odd", "v2", "v3 small"])
def test_stripes_may_end_at_any_layer_that_is_offered(network: str) -> None:
    graph = replace_activation(fold_padding(NETWORKS[network]), "hard_swish", "relu6")
    params, x = whole_numbers(graph)
    expected = last_output(graph, params, x)
    ends = list(memory_steps.stripe_ends(graph))
    assert len(ends) > 3
    for last in ends[::3]:
        steps, shapes = memory_steps.striped(graph, last, 3, 2)
        planned = MemoryPlan(
            graph, "stripes", 8, 16, tuple(memory_steps.take_over(steps, shapes, InPlace.STRIDED)), shapes
        )
        np.testing.assert_array_equal(run_in_arena(planned, params, x), expected, err_msg=last)


def test_splitting_the_widest_block_saves_what_section_5_1_says() -> None:
    """|x| + |y| + |inside| / t, and three rows held back: an inverted residual, 16 -> 96 -> 24 channels at 8 x 8."""
    relu6 = {"activation": "relu6"}
    conv = {"kernel_size": (1, 1), "use_bias": False}
    layers: tuple[Layer, ...] = (
        Input(name="x", shape=(8, 8, 16)),
        Conv2D(name="expand", inputs=("x",), filters=96, **conv),  # type: ignore[arg-type]
        Activation(name="relu_1", inputs=("expand",), **relu6),
        DepthwiseConv2D(name="dw", inputs=("relu_1",), kernel_size=(3, 3), padding="same", use_bias=False),
        Activation(name="relu_2", inputs=("dw",), **relu6),
        Conv2D(name="project", inputs=("relu_2",), filters=24, **conv),  # type: ignore[arg-type]
        BatchNormalization(name="bn", inputs=("project",)),
    )
    graph = Graph("block", layers)
    pixels, row = 8 * 8, 8
    expected = {
        1: pixels * 96 + 3 * row * 96,  # while it filters; x is dead, y is not there
        2: pixels * (24 + 48) + 3 * row * 48,  # the last part filters; x is dead
        4: pixels * (16 + 24 + 24) + 3 * row * 24,  # a part in the middle filters, next to x and y
        6: pixels * (16 + 24 + 16) + 3 * row * 16,
    }
    assert {parts: plan(graph, "split", itemsize=1, parts=parts).peak_bytes for parts in expected} == expected


def test_v2_has_a_linear_bottleneck_for_every_block_and_for_its_head() -> None:
    blocks = linear_bottlenecks.linear_bottlenecks(fold_padding(mobilenet_v2()))
    assert len(blocks) == 17 + 1
    assert blocks[0].opens.name == "Conv1"
    assert blocks[-1].closes.name == "global_average_pooling2d"


def test_v1_has_no_linear_bottleneck_and_squeeze_and_excite_needs_its_map_as_a_whole() -> None:
    assert linear_bottlenecks.linear_bottlenecks(fold_padding(mobilenet_v1())) == ()
    opened = {block.opens.name for block in linear_bottlenecks.linear_bottlenecks(fold_padding(mobilenet_v3_small()))}
    assert "expanded_conv_1_expand" in opened
    assert "expanded_conv_3_expand" not in opened, "this block has squeeze-and-excite"


@pytest.mark.parametrize("policy", POLICIES)
def test_gcc_compiles_the_header_and_finds_no_overlap(policy: str, tmp_path: Path) -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("needs gcc to compile the header")
    planned = planned_for("v2", policy)
    (tmp_path / "arena.h").write_text(memory_report.to_header(planned))
    (tmp_path / "main.c").write_text(
        """
        #include <stdio.h>
        #include "arena.h"
        static unsigned char arena[ARENA_BYTES];
        int main(void) {
            for (int i = 0; i < ARENA_TENSORS; i++) {
                struct arena_tensor a = arena_tensors[i];
                if (a.offset + a.bytes > sizeof arena || a.offset % ARENA_ALIGN) return 1;
                for (int j = 0; j < i; j++) {
                    struct arena_tensor b = arena_tensors[j];
                    int meet = a.first < b.last && b.first < a.last;
                    if (meet && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes) return 2;
                }
            }
            printf("%d %d\\n", ARENA_BYTES, PREDICTIONS_OFFSET);
            return 0;
        }
        """
    )
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run([gcc, *flags, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout
    assert printed.split() == [str(planned.arena_bytes), str(planned.offsets["predictions"])]


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws with matplotlib: pip install npmobilenet[plot]")
    path = tmp_path / "plan.png"
    memory_report.draw(plan(NETWORKS["v2"], "split"), path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 10_000


def test_the_table_of_policies_has_a_plan_for_each() -> None:
    graph = NETWORKS["v3 small"]
    plans = memory_plan.memory_table(graph, itemsize=1)
    assert [entry.policy for entry in plans] == list(POLICIES)
    assert plans[2].peak_bytes == plan(graph, "in_place", itemsize=1).peak_bytes


def test_schedule_and_json_tell_the_same_plan() -> None:
    planned = plan(NETWORKS["v3 small"], "in_place")
    document = memory_report.to_json(planned, model="mine")
    assert document["model"] == "mine"
    assert document["peak_bytes"] == max(step["live_bytes"] for step in document["steps"])
    assert [step["writes"] for step in document["steps"]] == [row[2] for row in memory_report.plan_rows(planned)]
    assert sum(len(buffer["tensors"]) for buffer in document["buffers"]) == len(planned.offsets)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": "magic"}, "unknown policy 'magic'; choose from keep, free"),
        ({"parts": 0}, "must be positive"),
        ({"stripes": 0}, "must be positive"),
        ({"itemsize": 4, "align": 2}, "align a multiple of itemsize"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        plan(NETWORKS["v1"], **arguments)


@pytest.mark.parametrize("x", [np.zeros((2, 64, 64, 3), "f"), np.zeros((1, 64, 64, 3)), np.zeros((1, 32, 64, 3), "f")])
def test_the_arena_takes_one_image_of_the_planned_size_and_width(x: Any) -> None:
    with pytest.raises(ShapeError, match=r"expected x of shape \(1, 64, 64, 3\) with 4 bytes per value"):
        run_in_arena(plan(NETWORKS["v1"]), {}, x)
