"""The drivers of convolutions and depthwise layers of any size, as steps of a plan.

The memory of a plan is between margins of NaN, which would show in the result and must still be there afterwards.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from npmobilenet_kernels import loops
from npmobilenet_kernels.drivers.step_table import Kind
from npmobilenet_kernels.runtime.cpu import host_target

from npmobilenet import reference as ops
from npmobilenet.analysis.rounding_growth import network_bounds
from npmobilenet.compiler import arena
from npmobilenet.compiler.blocking import Blocking
from npmobilenet.compiler.ir import FUSED_ACTIVATIONS
from npmobilenet.compiler.plan import compile_graph
from npmobilenet.compiler.step_types import KernelStep
from npmobilenet.reference import rounding
from npmobilenet.reference.activations import ACTIVATIONS
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Add, Conv2D, DepthwiseConv2D, Input, Rescaling
from npmobilenet.reference.shapes import dilated
from npmobilenet.types import Array, Padding, Params
from tests.helpers.kernel_calls import MARGIN, STRANGE, WIDTHS, integers, normal, with_holes
from tests.helpers.strategies import DILATIONS, SEEDS
from tests.helpers.within import assert_within

BLOCKING = Blocking()
Case = tuple[Conv2D, tuple[int, int, int]]  # layer, input shape

pytestmark = pytest.mark.usefixtures("kernels_kept", "many_cores")


def run_guarded(
    graph: Graph,
    params: Params,
    x: Array,
    width: int,
    threads: int = 1,
    blocking: Blocking = BLOCKING,
) -> tuple[Array, list[Kind | None]]:
    """The output of a plan whose activations and scratch are between margins of NaN, and the kinds of its steps.

    blocking: decides how a convolution is divided into units and chunks.
    """
    memory: list[tuple[Array, int, int]] = []

    def guarded(size: int) -> Array:
        whole = np.full(size // 4 + 2 * MARGIN + 16, np.nan, np.float32)
        begin = MARGIN + -(whole.ctypes.data + 4 * MARGIN) % 64 // 4
        memory.append((whole, begin, size // 4))
        return whole[begin : begin + size // 4]

    plan = compile_graph(graph, params, host_target(width), blocking)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arena, "aligned_floats", guarded)
        y = plan.run(x, threads=threads)
    for whole, begin, count in memory:
        assert np.isnan(whole[:begin]).all(), "written before the memory"
        assert np.isnan(whole[begin + count :]).all(), "written after the memory"
    return y, [step.kind if isinstance(step, KernelStep) else None for step in plan.steps]


@st.composite
def convolutions(draw: st.DrawFn) -> Case:
    """(layer, input shape): a convolution of any size whose window fits."""
    K_h, K_w = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation = draw(DILATIONS)
    H, W = (K + draw(st.integers(0, 12)) for K in dilated((K_h, K_w), dilation))
    zeros = draw(st.tuples(*[st.tuples(*[st.integers(0, 3)] * 2)] * 2))
    paddings: list[Padding] = ["same", "valid", zeros]
    layer = Conv2D(
        name="conv", inputs=("in",), filters=draw(st.integers(1, 40)), kernel_size=(K_h, K_w),
        stride=draw(st.integers(1, 3)), padding=draw(st.sampled_from(paddings)), dilation=dilation,
        activation=draw(st.sampled_from(FUSED_ACTIVATIONS)),
    )  # fmt: skip
    return layer, (H, W, draw(st.integers(1, 40)))


def one_layer(case: Case) -> Graph:
    """A network that is one drawn convolution."""
    layer, shape = case
    return Graph("one", (Input(name="in", shape=shape), layer))


def drawn(graph: Graph, seed: int, draw: Callable[..., Array] = normal) -> tuple[dict[str, Array], Array]:
    """Parameters and an image for the network."""
    rng = np.random.default_rng(seed)
    params = {name: draw(rng, *shape) for name, shape in graph.param_shapes.items()}
    return params, draw(rng, 1, *graph.input_shape)


CUTS = st.builds(
    Blocking,
    cache=st.sampled_from([1, 5000, BLOCKING.cache]),
    conv_pixels=st.integers(1, 200),
    group_panels=st.integers(1, 4),
)


@given(convolutions(), WIDTHS, CUTS, SEEDS)
def test_any_convolution_equals_the_exact_one_within_its_rounding(
    case: Case, width: int, blocking: Blocking, seed: int
) -> None:
    graph = one_layer(case)
    params, x = drawn(graph, seed)
    layer, _ = case

    y, kinds = run_guarded(graph, params, x, width, blocking=blocking)

    assert None not in kinds
    x, w, b = (array.astype(np.float64) for array in (x, *params.values()))
    sums = ops.conv2d(x, w, b, **layer.window)
    bound = rounding.conv2d_bound(x, w, b, **layer.window)
    bound = rounding.activation_bound(layer.activation, sums, bound)
    assert_within(bound, y, ACTIVATIONS[layer.activation](sums), f"{layer} {graph.input_shape} {kinds}")


@given(convolutions(), WIDTHS, st.integers(1, 4), CUTS, SEEDS)
def test_any_convolution_equals_its_plain_loop_on_small_integers_to_the_bit(
    case: Case, width: int, threads: int, blocking: Blocking, seed: int
) -> None:
    layer, shape = case
    graph = one_layer((Conv2D(**(vars(layer) | {"activation": "linear"})), shape))
    params, x = drawn(graph, seed, integers)
    expected = np.empty(graph.output_shape, np.float32)
    expected[:] = params["conv/bias"]
    padded = np.pad(x[0], (*layer.zeros(shape), (0, 0)))
    loops.convolution(padded, with_holes(params["conv/kernel"], layer.dilation), layer.stride, expected)

    y, _ = run_guarded(graph, params, x, width, threads, blocking)

    np.testing.assert_array_equal(y[0], expected)


@given(convolutions(), WIDTHS, CUTS, SEEDS)
def test_nan_and_infinity_reach_exactly_the_outputs_whose_window_holds_them(
    case: Case, width: int, blocking: Blocking, seed: int
) -> None:
    graph = one_layer(case)
    rng = np.random.default_rng(seed)
    params, x = drawn(graph, seed)
    x[(0, *(int(rng.integers(side)) for side in x.shape[1:]))] = rng.choice(STRANGE[:3])

    y, _ = run_guarded(graph, params, x, width, blocking=blocking)

    layer, _ = case
    with np.errstate(invalid="ignore"):
        expected = layer.apply({"kernel": params["conv/kernel"], "bias": params["conv/bias"]}, x)
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))
    np.testing.assert_array_equal(y[~np.isfinite(y)], expected[~np.isfinite(y)])


@given(convolutions(), WIDTHS, CUTS, SEEDS)
def test_rescaling_and_residual_go_with_any_convolution(case: Case, width: int, blocking: Blocking, seed: int) -> None:
    layer, shape = case
    first = Conv2D(name="first", inputs=("scaled",), filters=5, kernel_size=(3, 3), padding="same")
    other = Conv2D(**(vars(layer) | {"name": "other", "inputs": ("first",)}))
    layers = (
        Input(name="in", shape=shape), Rescaling(name="scaled", inputs=("in",), scale=2.0, offset=-1.0), first,
        Conv2D(**(vars(layer) | {"inputs": ("first",)})), other, Add(name="add", inputs=("conv", "other")),
    )  # fmt: skip
    graph = Graph("residual", layers)
    params, x = drawn(graph, seed, integers)
    exact = {name: array.astype(np.float64) for name, array in params.items()}
    outputs = list(network_bounds(graph, exact, x))
    _, expected, bound = outputs[-1]

    y, kinds = run_guarded(graph, params, x, width, blocking=blocking)

    one_kernel = layer.kernel_size == (1, 1) and layer.stride == 1 and layer.zeros((9, 9)) == ((0, 0), (0, 0))
    assert Kind.ADD not in kinds
    assert kinds[:2] == [Kind.IMAGE, Kind.CONV]
    assert one_kernel or kinds[-1] == Kind.CONV
    assert_within(bound, y, expected, "residual")


@st.composite
def depthwise_networks(draw: st.DrawFn) -> Graph:
    """A depthwise layer of any size and multiplier, with or without a 1x1 convolution before and after it."""
    K_h, K_w = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    dilation = draw(DILATIONS)
    reach_h, reach_w = dilated((K_h, K_w), dilation)
    H = reach_h + draw(st.integers(0, 9))
    W = reach_w + draw(st.integers(0, 9) | st.integers(25, 32))  # narrow, or in bands
    zeros = draw(st.tuples(*[st.tuples(*[st.integers(0, 3)] * 2)] * 2))
    layers: list[Layer] = [Input(name="in", shape=(H, W, draw(st.integers(1, 20))))]
    if draw(st.booleans()):
        layers.append(Conv2D(name="before", inputs=("in",), filters=draw(st.integers(1, 20)), kernel_size=(1, 1)))
    paddings: list[Padding] = ["same", "valid", zeros]
    depthwise = DepthwiseConv2D(
        name="dw", inputs=(layers[-1].name,), kernel_size=(K_h, K_w), stride=draw(st.integers(1, 3)),
        padding=draw(st.sampled_from(paddings)), depth_multiplier=draw(st.integers(1, 4)),
        activation=draw(st.sampled_from(["linear", "relu"])), dilation=dilation,
    )  # fmt: skip
    layers.append(depthwise)
    if draw(st.booleans()):
        layers.append(Conv2D(name="after", inputs=("dw",), filters=draw(st.integers(1, 20)), kernel_size=(1, 1)))
    return Graph("depthwise", tuple(layers))


def signs(rng: np.random.Generator, *shape: int) -> Array:
    """-1, 0 and 1: three layers of them stay small enough for float32 to be exact."""
    return rng.integers(-1, 2, shape).astype(np.float32)


def last_of(run: Iterable[Any]) -> Any:
    *_, last = run
    return last


@given(depthwise_networks(), WIDTHS, st.integers(1, 3), SEEDS)
def test_any_depthwise_layer_equals_the_reference_on_small_integers_to_the_bit(
    graph: Graph, width: int, threads: int, seed: int
) -> None:
    params, x = drawn(graph, seed, signs)
    _, expected = last_of(
        graph.run({name: array.astype(np.float64) for name, array in params.items()}, x.astype(float))
    )

    y, kinds = run_guarded(graph, params, x, width, threads)

    np.testing.assert_array_equal(y, expected)
    layer = graph["dw"]
    assert isinstance(layer, DepthwiseConv2D)
    assert (None in kinds) == (layer.kernel_size[0] > 8)


@given(depthwise_networks(), WIDTHS, SEEDS)
def test_any_depthwise_layer_equals_the_exact_one_within_its_rounding(graph: Graph, width: int, seed: int) -> None:
    params, x = drawn(graph, seed)
    _, expected, bound = last_of(network_bounds(graph, params, x))

    y, kinds = run_guarded(graph, params, x, width)

    assert_within(bound, y, expected, f"{graph.layers} {kinds}")


@given(depthwise_networks(), WIDTHS, SEEDS)
def test_a_nan_goes_through_any_depthwise_layer_as_in_the_reference(graph: Graph, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    params, x = drawn(graph, seed)
    x[(0, *(int(rng.integers(side)) for side in x.shape[1:]))] = np.nan

    y, _ = run_guarded(graph, params, x, width)

    _, expected = last_of(graph.run(params, x))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
