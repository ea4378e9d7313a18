"""Batch normalization and rescaling against the formula, against Keras, and by hand."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet import reference
from npmobilenet.errors import ShapeError
from npmobilenet.reference import rounding
from npmobilenet.types import Array
from tests.helpers.in_keras import in_keras
from tests.helpers.strategies import (
    DTYPES,
    LAYOUTS,
    SEEDS,
    WindowCase,
    halves,
    laid_out,
    maps,
    window_cases,
)
from tests.helpers.within import assert_within
from tests.oracles import naive


def statistics(rng: np.random.Generator, C: int) -> tuple[Array, Array, Array, Array]:
    """gamma, beta, mean and var of C channels, some variances smaller than epsilon."""
    return halves(rng, (C,)), halves(rng, (C,)), halves(rng, (C,)), np.abs(halves(rng, (C,))) ** 6


@given(maps(), SEEDS, DTYPES, LAYOUTS, st.booleans(), st.booleans(), st.sampled_from([1e-3, 1e-5]))
def test_batch_norm_equals_the_loops(
    x: Array, seed: int, dtype: Any, layout: str, scale: bool, center: bool, epsilon: float
) -> None:
    drawn = statistics(np.random.default_rng(seed), x.shape[3])
    mean, var = drawn[2], drawn[3].astype(dtype).astype(np.float64)
    gamma, beta = drawn[0] if scale else None, drawn[1] if center else None
    cast: list[Any] = [None if a is None else a.astype(dtype) for a in (gamma, beta, mean, var)]
    y = reference.batch_norm(laid_out(x.astype(dtype), layout), *cast, epsilon=epsilon)
    assert y.dtype == dtype
    if dtype is np.float16 and epsilon < np.finfo(dtype).smallest_normal:
        epsilon = float(np.float16(epsilon))  # a subnormal number there, rounded by more than u
    bound = rounding.batch_norm_bound(x, gamma, beta, mean, var, epsilon=epsilon, dtype=dtype)
    assert_within(bound, y, naive.batch_norm(x, gamma, beta, mean, var, epsilon))


@given(maps(), SEEDS, st.booleans(), st.booleans(), st.sampled_from([1e-3, 1e-5]))
def test_batch_norm_equals_keras(keras: Any, x: Array, seed: int, scale: bool, center: bool, epsilon: float) -> None:
    x = x.astype(np.float32)
    gamma, beta, mean, var = (a.astype(np.float32) for a in statistics(np.random.default_rng(seed), x.shape[3]))
    layer = keras.layers.BatchNormalization(epsilon=epsilon, scale=scale, center=center)
    weights = ([gamma] if scale else []) + ([beta] if center else []) + [mean, var]
    theirs = in_keras(keras, layer, x, *weights)
    params = (gamma if scale else None, beta if center else None, mean, var)
    y = reference.batch_norm(x, *params, epsilon=epsilon)
    assert_within(2 * rounding.batch_norm_bound(x, *params, epsilon=epsilon), y, theirs)


def test_batch_norm_by_hand() -> None:
    """(5 - 1) / sqrt(3.999 + 0.001) * 10 + 7 = 27."""
    five, ten, seven, one, var = (np.array([value]) for value in (5.0, 10.0, 7.0, 1.0, 3.999))
    assert reference.batch_norm(five, ten, seven, one, var) == pytest.approx(27, rel=1e-15)


@given(window_cases(depthwise=False), SEEDS)
def test_batch_norm_folded_into_the_convolution_gives_the_same(case: WindowCase, seed: int) -> None:
    """w' = w * scale and b' = (b - mean) * scale + beta, with scale = gamma / sqrt(var + epsilon)."""
    where: dict[str, Any] = {"stride": case.stride, "padding": case.padding}
    C = case.w.shape[3]
    gamma, beta, mean, var = statistics(np.random.default_rng(seed), C)
    b = np.zeros(C) if case.b is None else case.b
    scale = gamma / np.sqrt(var + 1e-3)
    folded = reference.conv2d(case.x, case.w * scale, (b - mean) * scale + beta, **where)
    apart = reference.batch_norm(reference.conv2d(case.x, case.w, b, **where), gamma, beta, mean, var)
    conv_bound = rounding.conv2d_bound(case.x, case.w, b, **where, dtype=np.float64)
    bn_bound = rounding.batch_norm_bound(
        reference.conv2d(case.x, case.w, b, **where), gamma, beta, mean, var, conv_bound, dtype=np.float64
    )
    terms = reference.conv2d(
        np.abs(case.x), np.abs(case.w * scale), np.abs((np.abs(b) + np.abs(mean)) * scale) + np.abs(beta), **where
    )
    n = case.w[..., 0].size + 1 + 8  # the sum, and what rounds the folded kernel and bias
    assert_within(bn_bound + rounding.gamma(n, np.float64) * terms, folded, apart)


@pytest.mark.parametrize("position", range(4))
def test_batch_norm_names_the_parameter_that_does_not_fit(position: int) -> None:
    values = [np.ones(3)] * 4
    values[position] = np.ones(2)
    name = ("gamma", "beta", "mean", "var")[position]
    with pytest.raises(ShapeError, match=rf"batch_norm: expected {name} of shape \(3,\), .*, got \(2,\)"):
        reference.batch_norm(np.ones((1, 2, 2, 3)), *values)


def test_an_irrational_root_is_refused_in_exact_arithmetic() -> None:
    one = np.array([Fraction(1)], object)
    with pytest.raises(ValueError, match="square of a fraction"):
        reference.batch_norm(one.reshape(1, 1, 1, 1), one, one, one, one)


@given(maps(), st.sampled_from([(1 / 127.5, -1.0), (1.0, 3.0), (1 / 6, 0.0), (0.1, 0.7)]))
def test_rescale_equals_keras_and_the_formula(keras: Any, x: Array, constants: tuple[float, float]) -> None:
    """In float32 only: Keras rounds the two constants to it whatever the layer's dtype."""
    scale, offset = constants
    x = (x * 100).astype(np.float32)
    theirs = keras.ops.convert_to_numpy(keras.layers.Rescaling(scale, offset)(x))
    y = reference.rescale(x, scale, offset)
    bound = rounding.rescale_bound(x, scale, offset)
    assert_within(2 * bound, y, theirs)
    assert_within(bound, y, x.astype(np.float64) * scale + offset)
