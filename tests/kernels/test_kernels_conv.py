"""Convolutions and depthwise layers of any size as kernels: the tiles that move pixels, and whole steps of a plan.

The memory of a plan lies between margins of NaN, which would show in the result and must still be there afterwards.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from npmobilenet_kernels import plain
from npmobilenet_kernels.lanes import lanes
from npmobilenet_kernels.layout import from_blocks, to_blocks
from npmobilenet_kernels.steps import Kind
from npmobilenet_kernels.tiles import simple_name

from npmobilenet.compiler import arena
from npmobilenet.compiler.blocking import Blocking
from npmobilenet.compiler.ir import FUSED_ACTIVATIONS
from npmobilenet.compiler.plan import compile_graph
from npmobilenet.compiler.step_types import KernelStep
from npmobilenet.reference import ops, rounding
from npmobilenet.reference.graph import ACTIVATIONS, Add, Conv2D, DepthwiseConv2D, Graph, Input, Rescaling
from tests.helpers.strategies import SEEDS
from tests.helpers.within import assert_within
from tests.kernels.test_kernels import MARGIN, STRANGE, WIDTHS, call, normal, read, written

pytestmark = pytest.mark.usefixtures("many_cores")


@given(WIDTHS, st.integers(1, 20), st.integers(-4, 25), st.integers(1, 4), st.integers(1, 20), st.integers(1, 9), SEEDS)
def test_gathering_takes_every_stride_th_pixel_and_zeros_outside(width, columns, first, stride, channels, count, seed):
    x = normal(np.random.default_rng(seed), 1, columns, channels)
    blocks = to_blocks(x, width)
    blocks[-1, :, (channels - 1) % width + 1 :] = np.nan  # behind the last channel anything may lie
    row, zero, y = read(blocks), read(np.zeros(width)), written((len(blocks), count, width))

    for c in range(len(blocks)):
        here, there = row.values[c].ctypes.data, y.values[c].ctypes.data
        rest = channels - c * width
        call(simple_name("gather_pixels", lanes(width)), here, columns, first, stride, rest, zero, count, there)

    expected = np.zeros((1, count, channels), np.float32)
    for j in range(count):
        if 0 <= first + j * stride < columns:
            expected[0, j] = x[0, first + j * stride]
    np.testing.assert_array_equal(y.values, to_blocks(expected, width))
    y.assert_margins_untouched()


@given(WIDTHS, st.integers(1, 20), st.integers(1, 20), SEEDS)
def test_an_image_becomes_scaled_blocks_of_channels(width, count, channels, seed):
    x = read(normal(np.random.default_rng(seed), count, channels))
    blocks = -(-channels // width)
    y = written((blocks, count, width))

    for c in range(blocks):
        here, there = x.address + 4 * c * width, y.values[c].ctypes.data
        rest = min(width, channels - c * width)
        call(simple_name("image_pixels", lanes(width)), here, 4 * channels, rest, read([0.5, -1]), count, there)

    np.testing.assert_array_equal(y.values, to_blocks((x.values * np.float32(0.5) - 1)[None], width))
    y.assert_margins_untouched()


BLOCKING = Blocking()


def run_guarded(graph, params, x, width, threads=1, blocking=BLOCKING):
    """The output of a plan whose activations and scratch lie between margins of NaN, and the kinds of its steps.

    blocking: decides how a convolution is cut into units and rounds.
    """
    rooms = []

    def guarded(size):
        room = np.full(size // 4 + 2 * MARGIN + 16, np.nan, np.float32)
        begin = MARGIN + -(room.ctypes.data + 4 * MARGIN) % 64 // 4
        rooms.append((room, begin, size // 4))
        return room[begin : begin + size // 4]

    plan = compile_graph(graph, params, lanes(width), blocking)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arena, "aligned_floats", guarded)
        y = plan.run(x, threads=threads)
    for room, begin, count in rooms:
        assert np.isnan(room[:begin]).all(), "written before the memory"
        assert np.isnan(room[begin + count :]).all(), "written behind the memory"
    return y, [step.kind if isinstance(step, KernelStep) else None for step in plan.steps]


@st.composite
def convolutions(draw):
    """(layer, input shape): a convolution of any size whose window fits."""
    K_h, K_w = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    H, W = (K + draw(st.integers(0, 12)) for K in (K_h, K_w))
    zeros = tuple((draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in "hw")
    layer = Conv2D(
        name="conv", inputs=("in",), filters=draw(st.integers(1, 40)), kernel_size=(K_h, K_w),
        stride=draw(st.integers(1, 3)), padding=draw(st.sampled_from(["same", "valid", zeros])),
        activation=draw(st.sampled_from(FUSED_ACTIVATIONS)),
    )  # fmt: skip
    return layer, (H, W, draw(st.integers(1, 40)))


def one_layer(case):
    """A network that is one drawn convolution."""
    layer, shape = case
    return Graph("one", (Input(name="in", shape=shape), layer))


def drawn(graph, seed, draw=normal):
    rng = np.random.default_rng(seed)
    params = {name: draw(rng, *shape) for name, shape in graph.param_shapes.items()}
    return params, draw(rng, 1, *graph.input_shape)


def integers(rng, *shape):
    return rng.integers(-8, 9, shape).astype(np.float32)


CUTS = st.builds(
    Blocking,
    cache=st.sampled_from([1, 5000, BLOCKING.cache]),
    conv_pixels=st.integers(1, 200),
    group_panels=st.integers(1, 4),
)


@given(convolutions(), WIDTHS, CUTS, SEEDS)
def test_any_convolution_equals_the_exact_one_within_its_rounding(case, width, blocking, seed):
    graph = one_layer(case)
    params, x = drawn(graph, seed)
    layer = graph.layers[-1]

    y, kinds = run_guarded(graph, params, x, width, blocking=blocking)

    assert None not in kinds
    x, w, b = (array.astype(np.float64) for array in (x, *params.values()))
    window = {"stride": layer.stride, "padding": layer.padding}
    sums = ops.conv2d(x, w, b, **window)
    bound = rounding.activation_bound(layer.activation, sums, rounding.conv2d_bound(x, w, b, **window))
    assert_within(bound, y, ACTIVATIONS[layer.activation](sums), f"{layer} {graph.input_shape} {kinds}")


@given(convolutions(), WIDTHS, st.integers(1, 4), CUTS, SEEDS)
def test_any_convolution_equals_its_plain_loop_on_small_integers_to_the_bit(case, width, threads, blocking, seed):
    layer, shape = case
    graph = one_layer((Conv2D(**(vars(layer) | {"activation": "linear"})), shape))
    params, x = drawn(graph, seed, integers)
    expected = np.empty(graph.output_shape, np.float32)
    expected[:] = params["conv/bias"]
    padded = np.pad(x[0], (*layer.zeros(shape), (0, 0)))
    plain.conv_accumulate(padded, params["conv/kernel"], layer.stride, expected)

    y, _ = run_guarded(graph, params, x, width, threads, blocking)

    np.testing.assert_array_equal(y[0], expected)


@given(convolutions(), WIDTHS, CUTS, SEEDS)
def test_nan_and_infinity_reach_exactly_the_outputs_whose_window_holds_them(case, width, blocking, seed):
    graph = one_layer(case)
    rng = np.random.default_rng(seed)
    params, x = drawn(graph, seed)
    x[(0, *map(rng.integers, x.shape[1:]))] = rng.choice(STRANGE[:3])

    y, _ = run_guarded(graph, params, x, width, blocking=blocking)

    layer = graph.layers[-1]
    with np.errstate(invalid="ignore"):
        expected = layer.apply({"kernel": params["conv/kernel"], "bias": params["conv/bias"]}, x)
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))
    np.testing.assert_array_equal(y[~np.isfinite(y)], expected[~np.isfinite(y)])


@given(convolutions(), WIDTHS, CUTS, SEEDS)
def test_rescaling_and_residual_go_with_any_convolution(case, width, blocking, seed):
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
    outputs = list(rounding.network_bounds(graph, exact, x))
    _, expected, bound = outputs[-1]

    y, kinds = run_guarded(graph, params, x, width, blocking=blocking)

    one_kernel = layer.kernel_size == (1, 1) and layer.stride == 1 and layer.zeros((9, 9)) == ((0, 0), (0, 0))
    assert Kind.ADD not in kinds
    assert kinds[:2] == [Kind.IMAGE, Kind.CONV]
    assert one_kernel or kinds[-1] == Kind.CONV
    assert_within(bound, y, expected, "residual")


@given(WIDTHS, st.integers(1, 12), st.integers(1, 40), st.integers(2, 5), SEEDS)
def test_every_channel_is_repeated_in_the_order_of_the_depth_multiplier(width, pixels, channels, multiplier, seed):
    x = normal(np.random.default_rng(seed), 1, pixels, channels)
    source = read(to_blocks(x, width))
    blocks = -(-channels * multiplier // width)
    y = written((blocks, pixels, width))

    for c in range(blocks):
        there = y.values[c].ctypes.data
        call(
            simple_name("repeat_channels", lanes(width)), source, pixels * width * 4, pixels, c * width, multiplier,
            channels, there,
        )  # fmt: skip

    expected = np.repeat(x, multiplier, axis=2)
    np.testing.assert_array_equal(from_blocks(y.values, expected.shape), expected)
    y.assert_margins_untouched()


@st.composite
def depthwise_networks(draw):
    """A depthwise layer of any size and multiplier, with or without a 1x1 convolution before and behind it."""
    K_h, K_w = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    H, W = K_h + draw(st.integers(0, 9)), K_w + draw(st.integers(0, 9) | st.integers(25, 32))  # narrow, or in strips
    zeros = tuple((draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in "hw")
    layers = [Input(name="in", shape=(H, W, draw(st.integers(1, 20))))]
    if draw(st.booleans()):
        layers.append(Conv2D(name="before", inputs=("in",), filters=draw(st.integers(1, 20)), kernel_size=(1, 1)))
    depthwise = DepthwiseConv2D(
        name="dw", inputs=(layers[-1].name,), kernel_size=(K_h, K_w), stride=draw(st.integers(1, 3)),
        padding=draw(st.sampled_from(["same", "valid", zeros])), depth_multiplier=draw(st.integers(1, 4)),
        activation=draw(st.sampled_from(["linear", "relu"])),
    )  # fmt: skip
    layers.append(depthwise)
    if draw(st.booleans()):
        layers.append(Conv2D(name="behind", inputs=("dw",), filters=draw(st.integers(1, 20)), kernel_size=(1, 1)))
    return Graph("depthwise", tuple(layers))


def signs(rng, *shape):
    """-1, 0 and 1: three layers of them stay small enough for float32 to be exact."""
    return rng.integers(-1, 2, shape).astype(np.float32)


def last_of(run):
    *_, last = run
    return last


@given(depthwise_networks(), WIDTHS, st.integers(1, 3), SEEDS)
def test_any_depthwise_layer_equals_the_reference_on_small_integers_to_the_bit(graph, width, threads, seed):
    params, x = drawn(graph, seed, signs)
    _, expected = last_of(
        graph.run({name: array.astype(np.float64) for name, array in params.items()}, x.astype(float))
    )

    y, kinds = run_guarded(graph, params, x, width, threads)

    np.testing.assert_array_equal(y, expected)
    assert (None in kinds) == (graph["dw"].kernel_size[0] > 8)


@given(depthwise_networks(), WIDTHS, SEEDS)
def test_any_depthwise_layer_equals_the_exact_one_within_its_rounding(graph, width, seed):
    params, x = drawn(graph, seed)
    _, expected, bound = last_of(rounding.network_bounds(graph, params, x))

    y, kinds = run_guarded(graph, params, x, width)

    assert_within(bound, y, expected, f"{graph.layers} {kinds}")


@given(depthwise_networks(), WIDTHS, SEEDS)
def test_a_nan_goes_through_any_depthwise_layer_as_in_the_reference(graph, width, seed):
    rng = np.random.default_rng(seed)
    params, x = drawn(graph, seed)
    x[(0, *map(rng.integers, x.shape[1:]))] = np.nan

    y, _ = run_guarded(graph, params, x, width)

    _, expected = last_of(graph.run(params, x))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
