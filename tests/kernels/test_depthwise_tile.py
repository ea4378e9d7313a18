"""The depthwise micro-kernels against plain loops, exact convolutions and derived bounds, for every vector width."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from npmobilenet_kernels import loops
from npmobilenet_kernels.drivers.step_table import Activation
from npmobilenet_kernels.microkernels.symbols import DEPTHWISE_PADDINGS, depthwise_choice
from npmobilenet_kernels.runtime.cpu import CpuTarget, host_target
from npmobilenet_kernels.runtime.packing import Floats, from_blocks, pack_depthwise, to_blocks

from npmobilenet import reference as ops
from npmobilenet.reference import rounding
from npmobilenet.reference.activations import ACTIVATIONS
from tests.helpers.kernel_calls import (
    ACTIVATION,
    WIDTHS,
    activation_name,
    call,
    integers,
    normal,
    readable,
    with_holes,
    writable,
)
from tests.helpers.strategies import DILATIONS, SEEDS
from tests.helpers.within import assert_within

Zeros = tuple[tuple[int, int], tuple[int, int]]  # rows of padding above and below, columns on the left and right
Filter = tuple[int, int, int]  # size, stride, dilation
Case = tuple[CpuTarget, Filter, Zeros, tuple[int, int, int], int]  # target, filter, padding, (H, W, C), seed


@st.composite
def filters(draw: st.DrawFn) -> Case:
    size, stride, dilation = draw(st.sampled_from([3, 5])), draw(st.sampled_from([1, 2])), 1
    if draw(st.booleans()):  # those that have no tile of their own
        size, stride, dilation = draw(st.integers(1, 8)), draw(st.integers(1, 3)), draw(DILATIONS)
    reach = dilation * (size - 1) + 1
    usual = st.sampled_from(DEPTHWISE_PADDINGS.get((size, stride), [(0, 0)]))
    unusual = st.tuples(st.integers(0, reach - 1), st.integers(0, reach - 1))
    zeros = draw(unusual), draw(usual | unusual)
    H, W = (max(1, reach - sum(pair)) + draw(st.integers(0, 30)) for pair in zeros)
    target = host_target(draw(WIDTHS))
    return target, (size, stride, dilation), zeros, (H, W, draw(st.integers(1, 33))), draw(SEEDS)


def depthwise(
    x: Floats, w: Floats, bias: Floats, stride: int, dilation: int, zeros: Zeros, activation: int, target: CpuTarget
) -> Floats:
    """The whole feature map, one row and one block of channels per call, as in the driver."""
    (H, W, C), K, width = x.shape, len(w), target.width
    reach = dilation * (K - 1) + 1
    H_out, W_out = ((side + sum(pair) - reach) // stride + 1 for side, pair in zip((H, W), zeros, strict=True))
    a, weights = readable(to_blocks(x, width)), readable(pack_depthwise(w, bias, width))
    blocks = len(a.values)
    row_of_zeros = readable(np.zeros((W, width)))
    y = writable((blocks, H_out * W_out, width))
    table = np.zeros(K, np.int64)
    left = zeros[1][0]
    right = max((W_out - 1) * stride + reach - left - W, 0)
    tile = depthwise_choice((K, K), stride, dilation, left, right, W_out, target)
    for c in range(blocks):
        for i in range(H_out):
            source = [i * stride - zeros[0][0] + u * dilation for u in range(K)]
            table[:] = [a.values[c, r * W].ctypes.data if 0 <= r < H else row_of_zeros.address for r in source]
            call(
                tile, table.ctypes.data, W, W_out, left, row_of_zeros,
                weights.values[c].ctypes.data, y.values[c, i * W_out].ctypes.data, activation, K, K, stride, dilation,
            )  # fmt: skip
    for array in (a, weights, row_of_zeros, y):
        array.assert_margins_untouched()
    return from_blocks(y.values, (H_out, W_out, C))


@given(filters(), ACTIVATION)
def test_the_depthwise_rows_equal_the_exact_convolution_within_its_rounding(case: Case, activation: Activation) -> None:
    target, (K, stride, dilation), zeros, shape, seed = case
    rng = np.random.default_rng(seed)
    x, w, bias = normal(rng, *shape), normal(rng, K, K, shape[2]), normal(rng, shape[2])

    y = depthwise(x, w, bias, stride, dilation, zeros, activation, target)

    name = activation_name(activation)
    exact = x[None].astype(np.float64), w[..., None].astype(np.float64), bias.astype(np.float64)
    sums = ops.depthwise_conv2d(*exact, stride=stride, padding=zeros, dilation=dilation)
    bound = rounding.depthwise_conv2d_bound(*exact, stride=stride, padding=zeros, dilation=dilation)
    bound = rounding.activation_bound(name, sums, bound)
    assert_within(
        bound[0], y, ACTIVATIONS[name](sums)[0], f"depthwise {K}x{K}s{stride}d{dilation} {zeros} {shape} {name}"
    )


@given(filters())
def test_the_depthwise_rows_equal_their_plain_loop_on_small_integers_to_the_bit(case: Case) -> None:
    target, (K, stride, dilation), zeros, shape, seed = case
    rng = np.random.default_rng(seed)
    x, w, bias = integers(rng, *shape), integers(rng, K, K, shape[2]), integers(rng, shape[2])

    y = depthwise(x, w, bias, stride, dilation, zeros, Activation.LINEAR, target)

    expected = np.empty_like(y)
    expected[:] = bias
    loops.depthwise(np.pad(x, (*zeros, (0, 0))), with_holes(w, dilation), stride, expected)
    np.testing.assert_array_equal(y, expected)


@given(filters())
def test_a_nan_reaches_exactly_the_outputs_whose_window_holds_it(case: Case) -> None:
    target, (K, stride, dilation), zeros, shape, seed = case
    rng = np.random.default_rng(seed)
    x = normal(rng, *shape)
    i, j, c = (rng.integers(side) for side in shape)
    x[i, j, c] = np.nan
    w = normal(rng, K, K, shape[2])

    y = depthwise(x, w, np.zeros(shape[2], np.float32), stride, dilation, zeros, Activation.RELU6, target)

    expected = ops.relu6(ops.depthwise_conv2d(x[None], w[..., None], stride=stride, padding=zeros, dilation=dilation))[
        0
    ]
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
