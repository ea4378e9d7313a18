"""Activations against their formulas, against Keras, and by hand."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet import reference
from npmobilenet.reference import activations, rounding
from npmobilenet.types import Array
from tests.helpers.strategies import (
    DTYPES,
    LAYOUTS,
    SEEDS,
    halves,
    laid_out,
    maps,
)
from tests.helpers.within import assert_within
from tests.oracles import naive

POINTWISE = {  # name: (op, its formula for one value)
    "relu": (reference.relu, naive.relu),
    "relu6": (reference.relu6, naive.relu6),
    "sigmoid": (reference.sigmoid, naive.sigmoid),
    "hard_sigmoid": (reference.hard_sigmoid, naive.hard_sigmoid),
    "hard_swish": (reference.hard_swish, naive.hard_swish),
    "tanh": (activations.tanh, math.tanh),
    "elu": (activations.elu, naive.elu),
    "silu": (activations.silu, naive.silu),
    "gelu": (activations.gelu, naive.gelu),
    "gelu_tanh": (activations.gelu_tanh, naive.gelu_tanh),
    "selu": (activations.selu, naive.selu),
    "softplus": (activations.softplus, naive.softplus),
    "mish": (activations.mish, naive.mish),
}


def activation_in_keras(keras: Any, name: str, x: Array) -> Array:
    """Keras's function of the name, or of what it calls it."""
    if name == "gelu_tanh":
        y = keras.activations.gelu(x, approximate=True)
    else:
        y = getattr(keras.activations, {"hard_swish": "hard_silu"}.get(name, name))(x)
    found: Array = keras.ops.convert_to_numpy(y)
    return found


CORNERS = [
    -np.inf,
    -1e4,
    -88.0,
    -3.0,
    -2.9990234375,
    -1e-7,
    -0.0,
    0.0,
    0.5,
    2.9990234375,
    3.0,
    6.0,
    6.00390625,
    89.0,
    np.inf,
]


@pytest.mark.parametrize("name", POINTWISE)
@given(maps(), st.sampled_from([0.1, 1.0, 4.0, 50.0]), DTYPES, LAYOUTS)
def test_activations_equal_the_formula(name: str, x: Array, size: float, dtype: Any, layout: str) -> None:
    op, formula = POINTWISE[name]
    x = (x * size).astype(np.float16).astype(np.float64)
    y = op(laid_out(x.astype(dtype), layout))
    assert y.dtype == dtype
    exact = np.vectorize(formula, otypes=[np.float64])(x)
    assert_within(rounding.activation_bound(name, x, dtype=dtype), y, exact)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", POINTWISE)
def test_activations_equal_keras_at_the_corners_and_between(keras: Any, name: str, dtype: Any) -> None:
    x = np.concatenate([CORNERS, np.linspace(-20, 20, 4001)]).astype(dtype)
    theirs = activation_in_keras(keras, name, x)
    with np.errstate(invalid="ignore"):
        precision = np.float32 if name.startswith("gelu") else dtype  # TensorFlow has the constants in float32
        bound = 2 * rounding.activation_bound(name, np.nan_to_num(x, posinf=1e30, neginf=-1e30), dtype=precision)
    assert_within(np.nan_to_num(bound), POINTWISE[name][0](x), theirs, name)


@pytest.mark.parametrize("name", POINTWISE)
def test_nan_goes_through_every_activation_and_infinity_to_its_limit(name: str) -> None:
    products = dict.fromkeys(("hard_swish", "silu", "gelu", "gelu_tanh", "mish"), (np.nan, np.inf))
    products |= {"softplus": (0, np.inf), "selu": (float(np.float32(-1.0507009873554805 * 1.6732632423543772)), np.inf)}
    limits = {"relu": (0, np.inf), "relu6": (0, 6), "tanh": (-1, 1), "elu": (-1, np.inf)} | products
    y = POINTWISE[name][0](np.array([np.nan, -np.inf, np.inf], np.float32))
    np.testing.assert_array_equal(y, [np.nan, *limits.get(name, (0, 1))])


@pytest.mark.parametrize("name", POINTWISE)
def test_nan_goes_through_every_activation_as_in_keras(keras: Any, name: str) -> None:
    x = np.array([np.nan, 1], np.float32)
    theirs = activation_in_keras(keras, name, x)
    assert np.isnan(theirs).tolist() == [True, False]
    assert np.isnan(POINTWISE[name][0](x)).tolist() == [True, False]


def test_nan_goes_through_the_layer_that_keras_builds_relu6_with(keras: Any) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 7, 6, -0.5], np.float32)
    theirs = keras.ops.convert_to_numpy(keras.layers.ReLU(6.0)(x))
    np.testing.assert_array_equal(reference.relu6(x), theirs)
    np.testing.assert_array_equal(theirs, [np.nan, 6, 0, 6, 6, 0])


def test_hard_sigmoid_is_that_of_mobilenet_v3_not_that_of_keras_2() -> None:
    """clip(0.2 * x + 0.5, 0, 1) would give 0.7 and reach 1 at 2.5."""
    assert reference.hard_sigmoid(np.array([-3.0, 0, 1, 2.5, 3])).tolist() == [0, 0.5, 4 / 6, 5.5 / 6, 1]


def test_hard_swish_by_hand() -> None:
    assert reference.hard_swish(np.array([-4.0, -3, -1.5, 0, 1, 3, 10])).tolist() == [0, 0, -0.375, 0, 4 / 6, 3, 10]


def test_the_activations_of_heads_by_hand() -> None:
    """tanh(log 2) = (2 - 1/2) / (2 + 1/2); exp(-log 2) - 1; sigmoid(log 3) = 3/4; Phi(1) = 0.841345 by the tables."""
    assert activations.tanh(np.log(np.array([2.0]))) == pytest.approx([0.6], rel=1e-15)
    assert activations.elu(np.array([-np.log(2.0), 0, 3])) == pytest.approx([-0.5, 0, 3], rel=1e-15)
    assert activations.silu(np.log(np.array([3.0]))) == pytest.approx([0.75 * math.log(3)], rel=1e-15)
    assert activations.gelu(np.array([-1.0, 0, 1, 2])) == pytest.approx([-0.158655, 0, 0.841345, 1.9545], rel=1e-5)
    assert activations.leaky_relu(np.array([-4.0, 0, 4]), 0.25).tolist() == [-1, 0, 4]
    assert activations.leaky_relu(np.array([[-4.0, -4]]), np.array([0.5, -2])).tolist() == [[-2, 8]]


@given(st.integers(1, 3), st.integers(1, 60), SEEDS, st.sampled_from([0.1, 1.0, 10.0, 1000.0]), DTYPES)
def test_softmax_equals_the_formula(N: int, classes: int, seed: int, size: float, dtype: Any) -> None:
    x = (halves(np.random.default_rng(seed), (N, classes)) * size).astype(np.float16).astype(np.float64)
    y = reference.softmax(x.astype(dtype))
    assert y.dtype == dtype
    assert_within(rounding.activation_bound("softmax", x, dtype=dtype), y, naive.softmax(x))


@given(st.integers(1, 3), st.integers(2, 60), SEEDS, st.sampled_from([0.1, 1.0, 10.0, 100.0]))
def test_softmax_equals_keras(keras: Any, N: int, classes: int, seed: int, size: float) -> None:
    x = (halves(np.random.default_rng(seed), (N, classes)) * size).astype(np.float32)
    theirs = keras.ops.convert_to_numpy(keras.ops.softmax(x))
    assert_within(2 * rounding.activation_bound("softmax", x), reference.softmax(x), theirs)


@given(st.integers(1, 60), SEEDS, st.integers(-1000, 1000))
def test_softmax_sums_to_one_and_ignores_a_shift(classes: int, seed: int, shift: int) -> None:
    x = halves(np.random.default_rng(seed), (2, classes))
    y = reference.softmax(x)
    bound = rounding.activation_bound("softmax", x, dtype=np.float64)
    assert_within(bound.sum(axis=-1), y.sum(axis=-1), np.ones(2))
    np.testing.assert_array_equal(reference.softmax(x + shift), y)  # the sum is exact, 11 bits next to 10


def test_softmax_by_hand() -> None:
    """Odds of 1 : 2 : 5."""
    y = reference.softmax(np.log([[1.0, 2, 5]]) + 500)
    np.testing.assert_allclose(y, [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-12)  # 500 leaves log 5 about 1e-13


def test_softmax_of_a_row_with_nan_is_nan_and_leaves_the_other_rows() -> None:
    y = reference.softmax(np.array([[1, np.nan], [1, 1], [np.inf, 0], [-np.inf, 0]]))
    np.testing.assert_array_equal(y, [[np.nan, np.nan], [0.5, 0.5], [np.nan, np.nan], [0, 1]])
