"""The micro-kernels of matrix products against plain loops, exact products and derived bounds, for all widths."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from npmobilenet_kernels import loops
from npmobilenet_kernels.drivers.step_table import Activation
from npmobilenet_kernels.microkernels.gemv import SPLIT
from npmobilenet_kernels.microkernels.symbols import gemm_name, gemv_name
from npmobilenet_kernels.runtime.cpu import CpuTarget, host_target
from npmobilenet_kernels.runtime.packing import Floats, from_blocks, pack_matrix, pack_vector, to_blocks
from numpy.typing import NDArray

from npmobilenet import reference as ops
from npmobilenet.reference import rounding
from npmobilenet.reference.activations import ACTIVATIONS
from tests.helpers.kernel_calls import (
    ACTIVATION,
    STRANGE,
    WIDTHS,
    activation_name,
    call,
    integers,
    normal,
    readable,
    writable,
)
from tests.helpers.strategies import SEEDS
from tests.helpers.within import assert_within

Tile = tuple[CpuTarget, int, int, bool]  # target, MR, vectors of output channels, whether the last one is half
Case = tuple[Tile, int, int, int, int]  # tile, M, K, N, seed


def gemm(x: Floats, w: Floats, bias: Floats, activation: int, residual: Floats | None, tile: Tile) -> Floats:
    """(M, C_in) @ (C_in, C_out), C_out whole panels, by tiles of MR pixels; the last tile overlaps."""
    target, rows, panel, half = tile
    M, K, N, width = len(x), x.shape[1], w.shape[1], target.width
    a = readable(to_blocks(x[None], width))
    b, start = readable(pack_matrix(w, width, panel)), readable(pack_vector(bias, width))
    y = writable((N // width, M, width))
    added = None if residual is None else readable(to_blocks(residual[None], width))
    vector = 4 * width
    name = gemm_name(rows, panel, target, half=half)
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
def products(draw: st.DrawFn) -> Case:
    target = host_target(draw(WIDTHS))
    panel = draw(st.sampled_from([1, target.panel]))
    rows = draw(st.sampled_from(target.rows if panel > 1 else target.narrow_rows))
    M = rows + draw(st.integers(0, 2 * rows))
    N = panel * target.width * draw(st.integers(1, 2))
    half = target.halves and draw(st.booleans())
    return (target, rows, panel, half), M, draw(st.integers(1, 40)), N, draw(SEEDS)


def computed(N: int, tile: Tile) -> NDArray[np.bool_]:
    """Mask of the N output channels that a tile computes; the others are as if their weights, bias and all x were 0."""
    target, _, panel, half = tile
    return np.arange(N) % (panel * target.width) < (panel - half / 2) * target.width


@given(products(), ACTIVATION, st.booleans())
def test_the_matrix_product_equals_the_exact_one_within_its_rounding(
    case: Case, activation: Activation, with_residual: bool
) -> None:
    tile, M, K, N, seed = case
    rng = np.random.default_rng(seed)
    x, w, bias = normal(rng, M, K), normal(rng, K, N), normal(rng, N)
    residual = normal(rng, M, N) if with_residual else None

    y = gemm(x, w, bias, activation, residual, tile)

    w, bias = (np.where(computed(N, tile), values, 0) for values in (w, bias))
    name = activation_name(activation)
    sums = ops.dense(x.astype(np.float64), w.astype(np.float64), bias.astype(np.float64))
    exact = ACTIVATIONS[name](sums)
    bound = rounding.activation_bound(name, sums, rounding.dense_bound(x, w, bias))
    if residual is not None:
        bound = rounding.sum_bound([exact, residual], [bound, np.zeros_like(bound)])
        exact = exact + residual
    assert_within(bound, y, exact, f"gemm {tile}, {name}")


@given(products())
def test_the_matrix_product_equals_its_plain_loop_on_small_integers_to_the_bit(case: Case) -> None:
    tile, M, K, N, seed = case
    rng = np.random.default_rng(seed)
    x, w, bias = integers(rng, M, K), integers(rng, K, N), integers(rng, N)
    expected = np.tile(bias, (M, 1))
    loops.pointwise(x, w, expected)

    y = gemm(x, w, bias, Activation.LINEAR, None, tile)

    np.testing.assert_array_equal(y, np.where(computed(N, tile), expected, 0))


@given(products(), ACTIVATION)
def test_nan_infinity_and_denormals_go_through_a_product_as_in_the_reference(
    case: Case, activation: Activation
) -> None:
    tile, M, _, N, seed = case
    rng = np.random.default_rng(seed)
    x = rng.choice(STRANGE, (M, 1))
    w, bias = np.ones((1, N), np.float32), np.zeros(N, np.float32)

    y = gemm(x, w, bias, activation, None, tile)

    name = activation_name(activation)
    with np.errstate(over="ignore"):
        expected = ACTIVATIONS[name](np.where(computed(N, tile), x * w + 0, 0))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_allclose(y, expected, rtol=rounding.gamma(3), atol=1e-45)


@given(WIDTHS, st.integers(1, 70), st.sampled_from([0, 1, -1]), ACTIVATION, SEEDS)
def test_the_dense_tiles_equal_the_exact_product_within_its_rounding(
    width: int, K: int, which: int, activation: Activation, seed: int
) -> None:
    target, rng = host_target(width), np.random.default_rng(seed)
    panels = target.streams[which]
    N = panels * width
    x, w, bias = normal(rng, K), normal(rng, K, N), normal(rng, N)
    a, b, start, y = readable(x), readable(pack_matrix(w, width)), readable(bias), writable(N)

    call(gemv_name(panels, target), a, K, b, K * width * 4, start, y, activation)

    name = activation_name(activation)
    sums = ops.dense(x.astype(np.float64), w.astype(np.float64), bias.astype(np.float64))
    longer = rounding.dense_bound(np.pad(x, (0, SPLIT)), np.pad(w, ((0, SPLIT), (0, 0))), bias)  # more additions
    bound = rounding.activation_bound(name, sums, longer)
    assert_within(bound, y.values, ACTIVATIONS[name](sums), f"gemv {panels} panels of {width}, K {K}")
    y.assert_margins_untouched()
