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
from npmobilenet.reference.normalization import layer_norm, normalize
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
    where = case.window
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


@given(maps(), SEEDS, st.sampled_from([np.float32, np.float64]), st.booleans(), st.booleans())
def test_layer_norm_equals_the_loops(x: Array, seed: int, dtype: Any, scale: bool, center: bool) -> None:
    drawn = statistics(np.random.default_rng(seed), x.shape[3])
    gamma, beta = drawn[0] if scale else None, drawn[1] if center else None
    cast: list[Any] = [None if a is None else a.astype(dtype) for a in (gamma, beta)]
    y = layer_norm(x.astype(dtype), *cast)
    assert y.dtype == dtype
    assert_within(rounding.layer_norm_bound(x, gamma, beta, dtype=dtype), y, naive.layer_norm(x, gamma, beta, 1e-3))


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
@given(maps(), SEEDS)
def test_layer_norm_equals_keras(request: pytest.FixtureRequest, library: str, x: Array, seed: int) -> None:
    keras = request.getfixturevalue(library)
    gamma, beta, _, _ = (values.astype(np.float32) for values in statistics(np.random.default_rng(seed), x.shape[3]))
    x = x.astype(np.float32)
    layer = keras.layers.LayerNormalization()
    layer.build(x.shape)
    layer.set_weights([gamma, beta])
    bound = 2 * rounding.layer_norm_bound(x, gamma, beta)
    assert_within(bound, layer_norm(x, gamma, beta), np.asarray(layer(x)))


def test_layer_norm_by_hand() -> None:
    """1, 3, 5, 7 have the mean 4 and the variance 5; epsilon 4 makes the deviation 3."""
    x = np.array([[1.0, 3, 5, 7]])
    y = layer_norm(x, np.array([3.0, 3, 6, 1]), np.array([0.0, 1, 0, 0]), epsilon=4)
    np.testing.assert_allclose(y, [[-3, 0, 2, 1]], rtol=1e-15)


def test_normalize_by_hand_and_by_a_variance_of_zero() -> None:
    y = normalize(np.array([[5.0, 5, 1e-7]]), np.array([1.0, 9, 0]), np.array([4.0, 16, 0]))
    np.testing.assert_allclose(y, [[2, -1, 1]], rtol=1e-15)


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_normalize_equals_keras(request: pytest.FixtureRequest, library: str) -> None:
    keras = request.getfixturevalue(library)
    rng = np.random.default_rng(0)
    x, mean = rng.normal(100, 50, (2, 4, 5, 3)).astype(np.float32), np.array([120.5, 3.25, 0], np.float32)
    variance = np.array([3600.25, 0, 1e-4], np.float32)
    theirs = np.asarray(keras.layers.Normalization(mean=mean.tolist(), variance=variance.tolist())(x))
    assert_within(2 * rounding.normalize_bound(x, mean, variance), normalize(x, mean, variance), theirs)
