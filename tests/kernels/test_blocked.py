"""The blocked loop nest, rung 1, against the plain loops, the exact product, and the driver of the same nest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from npmobilenet_kernels import blocked, loops
from npmobilenet_kernels.runtime.packing import pack_matrix, pack_vector

from npmobilenet import reference as ops
from npmobilenet.compiler.fused_steps import PointwiseStep
from npmobilenet.compiler.plan import compile_graph
from npmobilenet.reference import rounding
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Conv2D, Input
from npmobilenet.types import Array
from tests.helpers.kernel_calls import integers, normal
from tests.helpers.strategies import SEEDS
from tests.helpers.within import assert_within

SIDES = st.integers(1, 20), st.integers(1, 20), st.integers(1, 40)  # M, K, N
Tile = tuple[int, int]


@st.composite
def products(draw: st.DrawFn) -> tuple[tuple[int, int, int], Tile, int]:
    """(M, K, N), a tile (MR, NR) that fits M, and a seed."""
    M, K, N = draw(st.tuples(*SIDES))
    return (M, K, N), (draw(st.integers(1, M)), draw(st.integers(1, 40))), draw(SEEDS)


def blocked_product(A: Array, B: Array, bias: Array, tile: Tile) -> Array:
    C = np.full((len(A), B.shape[1]), np.nan, np.float32)
    blocked.pointwise(A, B, bias, C, *tile)
    return C


@given(products())
def test_the_blocked_nest_equals_the_plain_loops_on_small_integers_to_the_bit(
    case: tuple[tuple[int, int, int], Tile, int],
) -> None:
    (M, K, N), tile, seed = case
    rng = np.random.default_rng(seed)
    A, B, bias = integers(rng, M, K), integers(rng, K, N), integers(rng, N)
    expected = np.tile(bias, (M, 1))
    loops.pointwise(A, B, expected)

    np.testing.assert_array_equal(blocked_product(A, B, bias, tile), expected)


@given(products())
def test_the_blocked_nest_equals_the_exact_product_within_its_rounding(
    case: tuple[tuple[int, int, int], Tile, int],
) -> None:
    (M, K, N), tile, seed = case
    rng = np.random.default_rng(seed)
    A, B, bias = normal(rng, M, K), normal(rng, K, N), normal(rng, N)

    exact = ops.dense(A.astype(np.float64), B.astype(np.float64), bias.astype(np.float64))
    assert_within(rounding.dense_bound(A, B, bias), blocked_product(A, B, bias, tile), exact, f"blocked {tile}")


@given(products(), st.sampled_from([4, 8, 16]), st.integers(1, 2))
def test_its_panels_are_those_that_the_drivers_read(
    case: tuple[tuple[int, int, int], Tile, int], width: int, vectors: int
) -> None:
    (_, K, N), _, seed = case
    rng = np.random.default_rng(seed)
    B, bias = integers(rng, K, N), integers(rng, 1, N)
    NR = width * vectors
    whole = N // NR * NR  # the drivers' last panel is as narrow as N allows

    panels, biases = blocked.pack(B, NR), blocked.pack(bias, NR)

    np.testing.assert_array_equal(panels[: N // NR].ravel(), pack_matrix(B, width, vectors)[: K * whole])
    np.testing.assert_array_equal(biases.ravel()[:N], pack_vector(bias[0], width)[:N])
    assert not biases.ravel()[N:].any()


@pytest.mark.usefixtures("kernels_kept")
@given(st.integers(2, 7), st.integers(1, 7), st.integers(1, 40), st.integers(1, 70), SEEDS)  # one pixel is dense
def test_the_driver_of_the_pointwise_step_equals_the_blocked_nest_on_small_integers_to_the_bit(
    H: int, W: int, K: int, N: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    A, B, bias = integers(rng, H * W, K), integers(rng, K, N), integers(rng, N)
    first = Conv2D(name="first", inputs=("in",), filters=K, kernel_size=(1, 1))  # so that the second reads a map
    second = Conv2D(name="second", inputs=("first",), filters=N, kernel_size=(1, 1))
    graph = Graph("pointwise", (Input(name="in", shape=(H, W, K)), first, second))
    identity = {"first/kernel": np.eye(K, dtype=np.float32)[None, None], "first/bias": np.zeros(K, np.float32)}
    plan = compile_graph(graph, {**identity, "second/kernel": B[None, None], "second/bias": bias})

    y = plan.run(A.reshape(1, H, W, K), threads=1)

    assert isinstance(plan.steps[-1], PointwiseStep)
    np.testing.assert_array_equal(y.reshape(H * W, N), blocked_product(A, B, bias, (min(H * W, 6), 16)))
