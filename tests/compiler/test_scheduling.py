"""Scheduling: every pass merges the steps that it is named after, and no others."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.compiler import scheduling
from npmobilenet.compiler.blocking import Blocking
from npmobilenet.compiler.fused_steps import BandStep, DepthwiseStep, PointwiseStep
from npmobilenet.compiler.ir import Alias, stored_names
from npmobilenet.compiler.passes import fuse
from npmobilenet.compiler.scheduling import Schedule, schedule, select_kernels
from npmobilenet.compiler.single_steps import ConvStep, ImageStep, PoolStep, SoftmaxStep, StemStep
from npmobilenet.compiler.step_types import ReferenceStep, Step
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
    Add,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Input,
    MaxPooling2D,
    Multiply,
    Reshape,
)
from tests.helpers.engine_networks import ENGINE_NETWORKS
from tests.helpers.networks import random_params

BLOCKING = Blocking()
SMALL_CACHE = replace(BLOCKING, cache=4096)


def image(*shape: int) -> Input:
    return Input(name="in", shape=shape)


def stem(source: str = "in", name: str = "stem") -> Conv2D:
    return Conv2D(name=name, inputs=(source,), filters=8, kernel_size=(3, 3), stride=2, padding="same")


def pointwise(name: str, source: str, filters: int = 8) -> Conv2D:
    return Conv2D(name=name, inputs=(source,), filters=filters, kernel_size=(1, 1))


def depthwise(name: str, source: str, depth_multiplier: int = 1) -> DepthwiseConv2D:
    return DepthwiseConv2D(
        name=name, inputs=(source,), kernel_size=(3, 3), padding="same", depth_multiplier=depth_multiplier
    )


def selected(*layers: Layer, blocking: Blocking = BLOCKING) -> Schedule:
    graph = Graph("some", layers)
    return select_kernels(fuse(graph, random_params(graph, 0)), blocking)


def described(steps: Sequence[Step]) -> list[str]:
    """A step in words: its type, and the names of its operations."""
    return [f"{type(step).__name__.removesuffix('Step')}: {' '.join(op.name for op in step.ops)}" for step in steps]


def steps_of(name: str) -> tuple[Step, ...]:
    graph = ENGINE_NETWORKS[name]()
    return schedule(fuse(graph, random_params(graph, 3)), BLOCKING)


def types_of(name: str) -> list[type[Step]]:
    return [type(step) for step in steps_of(name)]


def test_at_first_every_operation_is_a_step() -> None:
    steps = selected(
        image(64, 64, 3), stem(), depthwise("d", "stem"), pointwise("p", "d"), depthwise("e", "p", 2)
    ).steps
    assert described(steps) == ["Stem: stem", "Band: d", "Pointwise: p", "Band: e"]
    narrow = selected(image(26, 26, 3), pointwise("p", "in"), depthwise("d", "p"))
    assert described(narrow.steps) == ["Pointwise: p", "Depthwise: d"]


def test_a_band_takes_the_projection_that_alone_reads_it() -> None:
    before = selected(image(64, 64, 8), depthwise("d", "in"), pointwise("p", "d"))
    assert described(scheduling.take_projection(before).steps) == ["Band: d p"]
    read_twice = selected(image(64, 64, 8), depthwise("d", "in"), pointwise("p", "d"), Add(name="a", inputs=("p", "d")))
    assert scheduling.take_projection(read_twice).steps == read_twice.steps
    narrow = selected(image(26, 26, 8), depthwise("d", "in"), pointwise("p", "d"))
    assert scheduling.take_projection(narrow).steps == narrow.steps


def test_a_projection_with_a_gate_waits_for_the_gate() -> None:
    gated = selected(
        image(64, 64, 8),
        depthwise("d", "in"),
        GlobalAveragePooling2D(name="g", inputs=("in",), keepdims=True),  # so that only the projection reads d
        Multiply(name="m", inputs=("d", "g")),
        pointwise("p", "m"),
    )
    assert scheduling.take_projection(gated).steps == gated.steps


def test_a_depthwise_layer_takes_the_convolution_that_makes_its_input() -> None:
    narrow = selected(image(26, 26, 3), pointwise("p", "in"), depthwise("d", "p"))
    assert described(scheduling.take_producer(narrow).steps) == ["Depthwise: p d"]
    band = selected(image(64, 64, 3), stem(), depthwise("d", "stem"))
    assert described(scheduling.take_producer(band).steps) == ["Band: stem d"]
    (step,) = scheduling.take_producer(band).steps
    assert isinstance(step, BandStep)
    assert step.reads_image


@pytest.mark.parametrize(
    "layers",
    [
        (image(32, 32, 3), stem(), depthwise("d", "stem")),  # a first convolution, but panel by panel
        (image(64, 64, 3), pointwise("p", "in"), depthwise("d", "p", 2)),  # channels are repeated
        (image(64, 64, 8), pointwise("p", "in"), depthwise("d", "p"), Add(name="a", inputs=("d", "p"))),
        (image(64, 64, 8), Reshape(name="r", inputs=("in",), target_shape=(64, 64, 8)), depthwise("d", "r")),
    ],
)
def test_other_producers_stay_steps_of_their_own(layers: tuple[Layer, ...]) -> None:
    before = selected(*layers)
    assert scheduling.take_producer(before).steps == before.steps


def test_between_two_bands_a_pointwise_convolution_belongs_to_the_first() -> None:
    before = selected(image(64, 64, 8), depthwise("d", "in"), pointwise("p", "d"), depthwise("e", "p"))
    after = scheduling.take_producer(scheduling.take_projection(before))
    assert described(after.steps) == ["Band: d p", "Band: e"]


@pytest.mark.parametrize("pool", [GlobalAveragePooling2D, GlobalMaxPooling2D])
def test_a_global_pool_is_taken_by_the_step_that_makes_the_map(pool: type[GlobalAveragePooling2D]) -> None:
    before = selected(image(26, 26, 8), depthwise("d", "in"), pool(name="g", inputs=("d",)))
    (step,) = scheduling.pool_in_place(before).steps
    assert isinstance(step, DepthwiseStep)
    assert step.makes == ("d", "g")
    before = selected(image(26, 26, 8), pointwise("p", "in"), pool(name="g", inputs=("p",)))
    (step,) = scheduling.pool_in_place(before).steps
    assert isinstance(step, PointwiseStep)
    assert step.makes == ("p", "g")


def test_only_one_pool_of_a_map_is_taken_in_place_and_none_of_a_band() -> None:
    twice = selected(
        image(26, 26, 8),
        pointwise("p", "in"),
        GlobalAveragePooling2D(name="g", inputs=("p",)),
        GlobalMaxPooling2D(name="h", inputs=("p",)),
        Add(name="a", inputs=("g", "h")),
    )
    assert described(scheduling.pool_in_place(twice).steps) == ["Pointwise: p g", "Pool: h", "Add: a"]
    band = selected(image(64, 64, 8), depthwise("d", "in"), GlobalAveragePooling2D(name="g", inputs=("d",)))
    assert scheduling.pool_in_place(band).steps == band.steps


def chained(*between: Layer, blocking: Blocking = SMALL_CACHE) -> list[str]:
    layers = (image(64, 64, 8), depthwise("d", "in"), pointwise("p", "d"), *between)
    schedule = scheduling.take_projection(selected(*layers, blocking=blocking))
    return described(scheduling.chain_bands(schedule).steps)


def test_bands_are_chained_where_the_map_between_them_does_not_fit_the_cache() -> None:
    assert chained(depthwise("e", "p")) == ["Band: d p e"]
    assert chained(depthwise("e", "p"), pointwise("q", "e")) == ["Band: d p e q"]
    assert chained(depthwise("e", "p"), blocking=replace(BLOCKING, cache=2**20)) == ["Band: d p", "Band: e"]
    assert chained(depthwise("e", "p"), blocking=replace(BLOCKING, cache=16)) == ["Band: d p", "Band: e"]


def test_bands_are_not_chained_over_what_something_else_reads_or_repeats() -> None:
    add = Add(name="a", inputs=("p", "e"))
    assert chained(depthwise("e", "p"), add) == ["Band: d p", "Band: e", "Add: a"]
    assert chained(depthwise("e", "p", 2)) == ["Band: d p", "Band: e"]


def test_three_bands_are_not_chained() -> None:
    layers = (depthwise("e", "p"), pointwise("q", "e"), depthwise("f", "q"))
    assert chained(*layers) == ["Band: d p e q", "Band: f"]


def test_the_image_becomes_a_map_only_where_a_kernel_reads_one() -> None:
    before = selected(image(64, 64, 3), stem())
    assert scheduling.read_image(before).steps == before.steps
    pooled = selected(image(64, 64, 3), MaxPooling2D(name="m", inputs=("in",), kernel_size=(2, 2)))
    assert described(scheduling.read_image(pooled).steps) == ["Reference: m"]
    before = selected(
        image(64, 64, 3),
        stem(),
        pointwise("p", "in", filters=3),
        stem("p", "q"),
        Add(name="a", inputs=("stem", "q")),
    )
    first, *rest = scheduling.read_image(before).steps
    assert isinstance(first, ImageStep)
    assert (first.source, first.target, first.ops) == ("in", "in", ())
    assert described(rest) == ["Stem: stem", "Pointwise: p", "Conv: a"]


def test_the_first_operation_is_the_image() -> None:
    with pytest.raises(TypeError, match="expected the network's Image as first operation, got Conv"):
        select_kernels(selected(image(64, 64, 3), stem()).ops[1:], BLOCKING)


@pytest.mark.parametrize("name", ENGINE_NETWORKS)
def test_every_layer_is_in_exactly_one_step_after_every_pass(name: str) -> None:
    graph = ENGINE_NETWORKS[name]()
    ops = fuse(graph, random_params(graph, 3))
    covered = sorted(layer for op in ops[1:] if not isinstance(op, Alias) for layer in op.layers)
    stored = stored_names(ops)
    result = select_kernels(ops, BLOCKING)
    for run in (lambda schedule: schedule, *scheduling.PASSES):
        result = run(result)
        assert sorted(layer for step in result.steps for op in step.ops for layer in op.layers) == covered
        assert sum(step.macs for step in result.steps) == graph.macs
        made = [graph.layers[0].name]
        for step in result.steps:
            assert {stored[read] for read in step.reads} <= {*made}
            made += step.makes


def test_a_published_network_needs_nothing_but_kernels() -> None:
    for graph in (mobilenet_v1(), mobilenet_v2(), mobilenet_v3_large(), mobilenet_v3_small()):
        ones = {name: np.ones(shape, np.float32) for name, shape in graph.param_shapes.items()}
        steps = schedule(fuse(graph, ones), BLOCKING)
        assert [step.target for step in steps if isinstance(step, ReferenceStep)] == []
        assert isinstance(steps[-1], SoftmaxStep)


def test_layers_that_no_published_network_has_get_the_kernels_named_in_the_plan() -> None:
    assert [step.label for step in steps_of("odd layers")] == [
        "image",
        "conv",
        "strip",
        "strip",
        "sigmoid",
        "conv",
        "depthwise",
        "ops (reference)",
        "dense",
    ]
    assert [step.label for step in steps_of("own head")] == ["stem", "depthwise", "pointwise", "dense", "softmax"]


def test_the_full_convolution_twin_is_general_convolutions_after_the_stem() -> None:
    types = types_of("v1 full convolution")
    assert types[:14] == [StemStep, *[ConvStep] * 13]
    assert types[14] is PoolStep
    assert len(types) == 16


def test_a_depth_multiplier_changes_no_step_but_separates_the_product_before_from_it() -> None:
    steps = steps_of("v1 depth multiplier 2")
    depthwise_steps = [step for step in steps if isinstance(step, BandStep | DepthwiseStep)]
    assert len(depthwise_steps) == 13
    assert all(step.producer is None for step in depthwise_steps)


def test_an_image_that_is_not_rgb_is_turned_into_a_map_and_scaled_first() -> None:
    assert types_of("grayscale")[:2] == [ImageStep, ConvStep]
    first, second, *_ = steps_of("v3 small, five channels")
    assert described([first, second]) == ["Image: rescaling", f"Conv: {second.target}"]
    assert second.source == "rescaling"
