"""Vector kernels against the plain loops, exact float64 and derived bounds, for every vector width that this CPU has.

Every array lies between margins: what the kernels may read is surrounded by NaN, which would show in the result, and
what they may write by a value that must still be there afterwards.
"""

import ctypes
import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from npmobilenet_kernels import native, plain, tiles
from npmobilenet_kernels.lanes import FAMILIES, host_lanes, lanes, tile_rows
from npmobilenet_kernels.layout import from_blocks, pack_depthwise, pack_matrix, pack_vector, to_blocks
from npmobilenet_kernels.steps import Activation
from npmobilenet_kernels.tiles import GEMV_SPLIT

from npmobilenet.reference import ops, rounding
from npmobilenet.reference.graph import ACTIVATIONS
from tests.helpers.strategies import SEEDS
from tests.helpers.within import assert_within

WIDTHS = st.sampled_from(sorted(host_lanes()))
ACTIVATION = st.sampled_from(list(Activation))
MARGIN = 512  # floats on either side
UNTOUCHED = np.float32(-12345.678)
STRANGE = np.array([np.nan, np.inf, -np.inf, 1e-42, -1e-42, 3e38, -3e38, 0.0, -0.0], np.float32)


class Guarded:
    """An array between margins of one value."""

    def __init__(self, values, margin):
        values = np.asarray(values, np.float32)
        self._room = np.full(values.size + 2 * MARGIN, margin, np.float32)
        self.values = self._room[MARGIN : MARGIN + values.size].reshape(values.shape)
        self.values[...] = values
        self._margin = np.float32(margin)

    @property
    def address(self):
        return self.values.ctypes.data

    def assert_margins_untouched(self):
        ends = np.concatenate([self._room[:MARGIN], self._room[-MARGIN:]])
        np.testing.assert_array_equal(ends, np.full(2 * MARGIN, self._margin), err_msg="written outside the array")


def read(values):
    return Guarded(values, np.nan)


def written(shape):
    return Guarded(np.full(shape, UNTOUCHED), UNTOUCHED)


@functools.cache
def compiled(width):
    chosen = lanes(width)
    every = tiles.all_tiles(chosen)
    return native.load(native.compile_tiles(every, chosen), every)


def call(name, *arguments):
    """Run the tile with this symbol; arrays are passed by address."""
    width = int(name.rsplit("x", 1)[1])
    values = [a.address if isinstance(a, Guarded) else int(a) for a in arguments]
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(values))(compiled(width)[name])(*values)


def normal(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def activation_name(activation):
    return Activation(activation).name.lower()


def gemm(x, w, bias, activation, residual, chosen, rows, panel, half):
    """(M, C_in) @ (C_in, C_out), C_out whole panels, by tiles of `rows` pixels; the last tile overlaps."""
    M, K, N, width = len(x), x.shape[1], w.shape[1], chosen.width
    a = read(to_blocks(x[None], width))
    b, start = read(pack_matrix(w, width, panel)), read(pack_vector(bias, width))
    y = written((N // width, M, width))
    added = None if residual is None else read(to_blocks(residual[None], width))
    vector = 4 * width
    name = tiles.gemm_name(rows, panel, chosen, half=half)
    for n in range(N // (panel * width)):
        for first in [*range(0, M - rows, rows), M - rows]:
            here = first * vector
            block = n * panel * M * vector
            call(
                name, a.address + here, M * vector, K // width, width, K % width,
                b.address + n * K * panel * vector, start.address + n * panel * vector, y.address + block + here,
                M * vector, added.address + block + here if added else 0, activation, b, 0,
            )  # fmt: skip
    for array in (a, b, start, y, added):
        if array is not None:
            array.assert_margins_untouched()
    return from_blocks(y.values, (M, N))


@st.composite
def products(draw):
    chosen = lanes(draw(WIDTHS))
    panel = draw(st.sampled_from([1, chosen.panel]))
    rows = draw(st.sampled_from(chosen.rows if panel > 1 else chosen.narrow_rows))
    M = rows + draw(st.integers(0, 2 * rows))
    N = panel * chosen.width * draw(st.integers(1, 2))
    half = chosen.halves and draw(st.booleans())
    return (chosen, rows, panel, half), M, draw(st.integers(1, 40)), N, draw(SEEDS)


def computed(N, chosen, _, panel, half):
    """Which of N output channels a tile computes; the others are as if their weights and bias, and all x, were 0."""
    return np.arange(N) % (panel * chosen.width) < (panel - half / 2) * chosen.width


@given(products(), ACTIVATION, st.booleans())
def test_the_matrix_product_equals_the_exact_one_within_its_rounding(case, activation, with_residual):
    tile, M, K, N, seed = case
    rng = np.random.default_rng(seed)
    x, w, bias = normal(rng, M, K), normal(rng, K, N), normal(rng, N)
    residual = normal(rng, M, N) if with_residual else None

    y = gemm(x, w, bias, activation, residual, *tile)

    w, bias = (np.where(computed(N, *tile), values, 0) for values in (w, bias))
    name = activation_name(activation)
    sums = ops.dense(x.astype(np.float64), w.astype(np.float64), bias.astype(np.float64))
    exact = ACTIVATIONS[name](sums)
    bound = rounding.activation_bound(name, sums, rounding.dense_bound(x, w, bias))
    if residual is not None:
        bound = rounding.sum_bound([exact, residual], [bound, np.zeros_like(bound)])
        exact = exact + residual
    assert_within(bound, y, exact, f"gemm {tile}, {name}")


@given(products())
def test_the_matrix_product_equals_its_plain_loop_on_small_integers_to_the_bit(case):
    tile, M, K, N, seed = case
    rng = np.random.default_rng(seed)
    x, w = (rng.integers(-8, 9, shape).astype(np.float32) for shape in ((M, K), (K, N)))
    bias = rng.integers(-8, 9, N).astype(np.float32)
    expected = np.tile(bias, (M, 1))
    plain.gemm_accumulate(x, w, expected)

    y = gemm(x, w, bias, Activation.LINEAR, None, *tile)

    np.testing.assert_array_equal(y, np.where(computed(N, *tile), expected, 0))


@given(products(), ACTIVATION)
def test_nan_infinity_and_denormals_go_through_a_product_as_in_the_reference(case, activation):
    tile, M, _, N, seed = case
    rng = np.random.default_rng(seed)
    x = rng.choice(STRANGE, (M, 1))
    w, bias = np.ones((1, N), np.float32), np.zeros(N, np.float32)

    y = gemm(x, w, bias, activation, None, *tile)

    name = activation_name(activation)
    with np.errstate(over="ignore"):
        expected = ACTIVATIONS[name](np.where(computed(N, *tile), x * w + 0, 0))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_allclose(y, expected, rtol=rounding.gamma(3), atol=1e-45)


@st.composite
def filters(draw):
    size, stride = draw(st.sampled_from([3, 5])), draw(st.sampled_from([1, 2]))
    if draw(st.booleans()):
        size, stride = draw(st.integers(1, 8)), draw(st.integers(1, 3))  # those that have no tile of their own
    usual = st.sampled_from(tiles.DEPTHWISE_ENDS.get((size, stride), [(0, 0)]))
    unusual = st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))
    zeros = draw(unusual), draw(usual | unusual)
    H, W = (max(1, size - sum(pair)) + draw(st.integers(0, 30)) for pair in zeros)
    return lanes(draw(WIDTHS)), size, stride, zeros, (H, W, draw(st.integers(1, 33))), draw(SEEDS)


def depthwise(x, w, bias, stride, zeros, activation, chosen):
    """The whole map, one row and one block of channels a call, as the driver does."""
    (H, W, C), K, width = x.shape, len(w), chosen.width
    H_out, W_out = ((side + sum(pair) - K) // stride + 1 for side, pair in zip((H, W), zeros, strict=True))
    a, weights = read(to_blocks(x, width)), read(pack_depthwise(w, bias, width))
    blocks = len(a.values)
    row_of_zeros = read(np.zeros((W, width)))
    y = written((blocks, H_out * W_out, width))
    table = np.zeros(K, np.int64)
    left = zeros[1][0]
    tile = tiles.depthwise_choice((K, K), stride, left, max((W_out - 1) * stride + K - left - W, 0), W_out, chosen)
    for c in range(blocks):
        for i in range(H_out):
            source = [i * stride - zeros[0][0] + u for u in range(K)]
            table[:] = [a.values[c, r * W].ctypes.data if 0 <= r < H else row_of_zeros.address for r in source]
            call(
                tile, table.ctypes.data, W, W_out, left, row_of_zeros,
                weights.values[c].ctypes.data, y.values[c, i * W_out].ctypes.data, activation, K, K, stride,
            )  # fmt: skip
    for array in (a, weights, row_of_zeros, y):
        array.assert_margins_untouched()
    return from_blocks(y.values, (H_out, W_out, C))


@given(filters(), ACTIVATION)
def test_the_depthwise_rows_equal_the_exact_convolution_within_its_rounding(case, activation):
    chosen, K, stride, zeros, shape, seed = case
    rng = np.random.default_rng(seed)
    x, w, bias = normal(rng, *shape), normal(rng, K, K, shape[2]), normal(rng, shape[2])

    y = depthwise(x, w, bias, stride, zeros, activation, chosen)

    name, window = activation_name(activation), {"stride": stride, "padding": zeros}
    arguments = [array.astype(np.float64) for array in (x[None], w[..., None], bias)]
    sums = ops.depthwise_conv2d(*arguments, **window)
    bound = rounding.activation_bound(name, sums, rounding.depthwise_conv2d_bound(*arguments, **window))
    assert_within(bound[0], y, ACTIVATIONS[name](sums)[0], f"depthwise {K}x{K}s{stride} {zeros} {shape} {name}")


@given(filters())
def test_the_depthwise_rows_equal_their_plain_loop_on_small_integers_to_the_bit(case):
    chosen, K, stride, zeros, shape, seed = case
    rng = np.random.default_rng(seed)
    x, w = (rng.integers(-8, 9, s).astype(np.float32) for s in (shape, (K, K, shape[2])))
    bias = rng.integers(-8, 9, shape[2]).astype(np.float32)

    y = depthwise(x, w, bias, stride, zeros, Activation.LINEAR, chosen)

    expected = np.empty_like(y)
    expected[:] = bias
    plain.depthwise_accumulate(np.pad(x, (*zeros, (0, 0))), w, stride, expected)
    np.testing.assert_array_equal(y, expected)


@given(filters())
def test_a_nan_reaches_exactly_the_outputs_whose_window_holds_it(case):
    chosen, K, stride, zeros, shape, seed = case
    rng = np.random.default_rng(seed)
    x = normal(rng, *shape)
    i, j, c = (rng.integers(side) for side in shape)
    x[i, j, c] = np.nan
    w = normal(rng, K, K, shape[2])

    y = depthwise(x, w, np.zeros(shape[2], np.float32), stride, zeros, Activation.RELU6, chosen)

    expected = ops.relu6(ops.depthwise_conv2d(x[None], w[..., None], stride=stride, padding=zeros))[0]
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))


@given(WIDTHS, st.integers(1, 70), st.sampled_from([0, 1, -1]), ACTIVATION, SEEDS)
def test_the_dense_tiles_equal_the_exact_product_within_its_rounding(width, K, which, activation, seed):
    chosen, rng = lanes(width), np.random.default_rng(seed)
    panels = chosen.streams[which]
    N = panels * width
    x, w, bias = normal(rng, K), normal(rng, K, N), normal(rng, N)
    a, b, start, y = read(x), read(pack_matrix(w, width)), read(bias), written(N)

    call(tiles.gemv_name(panels, chosen), a, K, b, K * width * 4, start, y, activation)

    name = activation_name(activation)
    sums = ops.dense(x.astype(np.float64), w.astype(np.float64), bias.astype(np.float64))
    longer = rounding.dense_bound(
        np.pad(x, (0, GEMV_SPLIT)), np.pad(w, ((0, GEMV_SPLIT), (0, 0))), bias
    )  # more additions
    bound = rounding.activation_bound(name, sums, longer)
    assert_within(bound, y.values, ACTIVATIONS[name](sums), f"gemv {panels} panels of {width}, K {K}")
    y.assert_margins_untouched()


@given(WIDTHS, st.integers(1, 60), SEEDS)
def test_the_pool_averages_and_the_sum_adds(width, pixels, seed):
    chosen, rng = lanes(width), np.random.default_rng(seed)
    x, other = normal(rng, 1, pixels, width), normal(rng, 1, pixels, width)
    a, b, average, total = read(x), read(other), written(width), written((pixels, width))

    call(tiles.simple_name("pool", chosen), a, pixels, read([1 / pixels]), average)
    call(tiles.simple_name("add_pixels", chosen), a, b, pixels, total)

    exact = x[0].astype(np.float64).mean(axis=0)
    assert_within(rounding.global_average_pool_bound(x[None])[0], average.values, exact, "pool")
    np.testing.assert_array_equal(total.values, x[0] + other[0])
    average.assert_margins_untouched()
    total.assert_margins_untouched()


@given(WIDTHS, st.integers(0, 70), SEEDS)
def test_copying_scales_every_value_and_touches_no_other(width, count, seed):
    x, y = read(normal(np.random.default_rng(seed), count)), written(count)

    call(tiles.simple_name("scale_and_copy", lanes(width)), x, count, read([0.5, -1]), y)

    np.testing.assert_array_equal(y.values, x.values * np.float32(0.5) - 1)
    y.assert_margins_untouched()


@given(WIDTHS, st.integers(1, 30), SEEDS)
def test_a_gate_scales_the_rows_of_a_panel_of_weights(width, K, seed):
    chosen, rng = lanes(width), np.random.default_rng(seed)
    panel = rng.integers(1, 3)
    w, gate, y = read(normal(rng, K, panel * width)), read(normal(rng, K)), written((K, panel * width))

    call(tiles.simple_name("scale_weights", chosen), w, gate, K, panel, y)

    np.testing.assert_array_equal(y.values, w.values * gate.values[:, None])
    y.assert_margins_untouched()


@given(st.tuples(*[st.integers(1, 9)] * 2, st.integers(1, 40)), st.sampled_from([4, 8, 16]), SEEDS)
def test_blocks_are_the_same_values_in_another_order(shape, width, seed):
    x = normal(np.random.default_rng(seed), *shape)
    np.testing.assert_array_equal(from_blocks(to_blocks(x, width), shape), x)


@given(st.integers(1, 13000), WIDTHS)
def test_a_tile_never_has_more_rows_than_there_are_pixels(pixels, width):
    assert tile_rows(pixels, lanes(width).rows) <= pixels


@pytest.mark.parametrize("kind", [kind for kinds in FAMILIES.values() for kind in kinds])
def test_every_kind_of_cpu_has_tiles_for_the_smallest_layers(kind):
    assert kind.rows[-1] == kind.narrow_rows[-1] == kind.streams[-1] == 1
