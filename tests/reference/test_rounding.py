"""The error bounds: by hand, never broken by rounding or by errors in the input, and no looser than they must be."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet import reference
from npmobilenet.analysis.rounding_growth import network_bounds
from npmobilenet.architectures import mobilenet_v1, mobilenet_v3_small
from npmobilenet.reference import rounding
from npmobilenet.reference.activations import ACTIVATIONS
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
    ELU,
    LAYER_TYPES,
    Activation,
    Add,
    Average,
    AveragePooling2D,
    BatchNormalization,
    Broadcast,
    ChannelRescaling,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Input,
    LayerNormalization,
    LeakyReLU,
    Maximum,
    MaxPooling2D,
    Minimum,
    Multiply,
    Normalization,
    PReLU,
    Rescaling,
    Reshape,
    Resizing,
    Subtract,
    UpSampling2D,
    ZeroPadding2D,
)
from npmobilenet.types import Array, Shape
from tests.helpers.networks import random_images, random_params
from tests.helpers.strategies import SEEDS, WindowCase, halves, window_cases
from tests.helpers.within import assert_within

SIZES = st.sampled_from([1e-6, 1e-3, 0.1, 2.0])


def test_gamma_by_hand() -> None:
    assert rounding.gamma(1, np.float64) == pytest.approx(2.0**-53, rel=1e-15)
    assert rounding.gamma(9, np.float32) == 9 * 2.0**-24 / (1 - 9 * 2.0**-24)
    assert rounding.gamma(100, np.float16) == pytest.approx((100 / 2048) / (1 - 100 / 2048))
    assert rounding.gamma(0) == 0


def test_gamma_is_infinite_where_float16_can_promise_nothing() -> None:
    assert np.isfinite(rounding.gamma(2047, np.float16))
    assert rounding.gamma(2048, np.float16) == np.inf


def test_a_dense_layer_by_hand() -> None:
    """2 * 3 + 4 * 5 + 7: three roundings of terms that add up to 33."""
    x, w, b = np.array([[2.0, 4.0]]), np.array([[3.0], [-5.0]]), np.array([7.0])
    underflow = 3 * np.finfo(np.float32).smallest_normal
    assert rounding.dense_bound(x, w, b) == pytest.approx(rounding.gamma(3) * 33 + underflow, rel=1e-12)
    carried = rounding.dense_bound(x, w, b, np.array([[0.5, 0.25]]))
    assert carried == pytest.approx(rounding.gamma(3) * (33 + 1.5 + 1.25) + 1.5 + 1.25, rel=1e-12)


def test_the_bound_of_a_sum_is_reached_within_a_small_factor() -> None:
    """1 + u + u + ...: every addition loses a whole u, so n - 1 of them lose (n - 1) u, which gamma_n barely covers."""
    n = 257
    x = np.full((1, n), 2.0**-24, np.float32)
    x[0, 0] = 1
    computed = np.float32(0)
    for value in x[0]:
        computed = np.float32(computed + value)
    exact = sum(map(Fraction, x[0].tolist()))
    error = float(exact - Fraction(float(computed)))
    bound = rounding.dense_bound(x, np.ones((n, 1))).item()
    assert 0.95 * bound < error <= bound


@given(window_cases(depthwise=False), SIZES)
def test_an_error_of_the_worst_signs_is_carried_through_a_convolution_exactly(case: WindowCase, size: float) -> None:
    """With positive weights the worst signs are all plus, and the output moves by sum error * |w|: no less will do."""
    where = case.window
    w = np.abs(case.w)
    error = np.full(case.x.shape, size)
    moved = reference.conv2d(case.x + error, w, **where) - reference.conv2d(case.x, w, **where)
    bound = rounding.conv2d_bound(case.x, w, None, error, **where, dtype=np.float64)
    assert (moved <= bound).all()
    assert (bound <= moved + 2e-13 * (reference.conv2d(np.abs(case.x) + error, w, **where) + 1)).all()


def both_ways(
    layer: Layer, shape: Shape, inputs: int, seed: int, size: float, dtype: Any
) -> tuple[Array, Array, Array]:
    """Output for inputs with errors, in a dtype; exact output; bound."""
    rng = np.random.default_rng(seed)
    xs = [3 * halves(rng, shape) for _ in range(inputs)]
    errors = [size * rng.uniform(0, 1, shape) * rng.integers(0, 2, shape) for _ in range(inputs)]
    graph = Graph("net", (Input(name="x", shape=shape[1:]), type(layer)(**{**vars(layer), "inputs": ("x",) * inputs})))
    params = {name.partition("/")[2]: w for name, w in random_params(graph, seed % 1000, dtype).items()}
    computed = [(x + e * rng.choice([-1, 1], shape)).astype(dtype) for x, e in zip(xs, errors, strict=True)]
    errors = [np.maximum(e, np.abs(c - x)) for c, x, e in zip(computed, xs, errors, strict=True)]
    exact = layer.apply({name: w.astype(np.float64) for name, w in params.items()}, *xs)
    bound = layer.error_bound(params, *xs, input_bounds=errors, dtype=dtype)
    return layer.apply(params, *computed), exact, bound


LAYERS: list[Layer] = [
    *(Activation(name="y", activation=name) for name in ACTIVATIONS),
    ELU(name="y", alpha=0.7),
    Cropping2D(name="y", cropping=((1, 0), (0, 2))),
    Rescaling(name="y", scale=-0.3, offset=0.7),
    ZeroPadding2D(name="y", padding=((1, 0), (0, 2))),
    Conv2D(name="y", filters=3, kernel_size=(3, 2), stride=2, padding="same", activation="relu6"),
    Conv2D(name="y", filters=3, kernel_size=(1, 1), activation="hard_swish"),
    DepthwiseConv2D(name="y", kernel_size=(3, 3), padding="same", depth_multiplier=2, activation="sigmoid"),
    BatchNormalization(name="y"),
    BatchNormalization(name="y", scale=False, center=False, epsilon=1e-5),
    GlobalAveragePooling2D(name="y"),
    GlobalMaxPooling2D(name="y"),
    AveragePooling2D(name="y", kernel_size=(2, 3), stride=2, padding="same"),
    MaxPooling2D(name="y", kernel_size=(2, 2), padding="same"),
    Dense(name="y", units=4, activation="softmax"),
    Add(name="y"),
    Multiply(name="y"),
    Concatenate(name="y"),
    Reshape(name="y", target_shape=(-1,)),
    Flatten(name="y"),
    Dropout(name="y"),
    Average(name="y"),
    Maximum(name="y"),
    Minimum(name="y"),
    Subtract(name="y"),
    Broadcast(name="y", target_shape=(3, 4, 5)),
    Conv2DTranspose(name="y", filters=2, kernel_size=(3, 4), stride=2, padding="same"),
    ChannelRescaling(name="y", scale=(0.3, -2.0, 1.0, 0.0, 5.0), offset=(0.7, 0.0, -1.0, 2.0, 3.0)),
    LayerNormalization(name="y"),
    LayerNormalization(name="y", epsilon=1e-5, center=False, scale=False),
    LeakyReLU(name="y", negative_slope=0.1),
    LeakyReLU(name="y", negative_slope=-1.5),
    Normalization(name="y"),
    PReLU(name="y", shared_axes=(2,)),
    Resizing(name="y", height=2, width=7),
    Resizing(name="y", height=5, width=3, interpolation="nearest"),
    UpSampling2D(name="y", size=(2, 3), interpolation="bilinear"),
    UpSampling2D(name="y", size=(3, 1)),
]


def test_every_layer_type_has_a_bound() -> None:
    assert {layer.type for layer in LAYERS} | {"Input"} == set(LAYER_TYPES)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer.type} {getattr(layer, 'activation', '')}".strip())
@given(st.integers(1, 2), SEEDS, SIZES, st.sampled_from([np.float32, np.float64]))
def test_no_error_in_the_input_takes_a_layer_out_of_its_bound(
    layer: Layer, N: int, seed: int, size: float, dtype: Any
) -> None:
    inputs = layer.arity or 3
    computed, exact, bound = both_ways(layer, (N, 3, 4, 5), inputs, seed, size, dtype)
    assert_within(bound, computed, exact, layer.type)


@pytest.mark.parametrize("name", ["relu", "relu6", "hard_sigmoid", "sigmoid", "tanh", "elu"])
@given(st.floats(-8, 8), SIZES)
def test_the_bound_of_an_activation_is_what_the_steepest_error_does_to_it(name: str, x: float, size: float) -> None:
    """Where it is steepest in the interval an activation moves by slope times error; the bound asks for no more."""
    around = np.linspace(x - size, x + size, 20_001)
    steepest = np.abs(np.diff(ACTIVATIONS[name](around))).max() / (around[1] - around[0])
    bound = rounding.activation_bound(name, np.array(x), np.array(size), dtype=np.float64)
    assert bound <= steepest * size * (1 + 1e-3) + 1e-9


@pytest.mark.parametrize("graph", [mobilenet_v1(0.25, 32, classes=5), mobilenet_v3_small(resolution=33, classes=5)])
def test_a_network_in_float32_stays_within_its_bounds(graph: Graph) -> None:
    params, x = random_params(graph, 1), random_images(graph, 2)
    outputs = list(network_bounds(graph, params, x))
    assert [name for name, _, _ in outputs] == [layer.name for layer in graph.layers]
    for (name, y), (_, exact, bound) in zip(graph.run(params, x), outputs, strict=True):
        assert_within(bound, y, exact, name)
    assert (outputs[-1][2] <= 1).all(), "probabilities cannot be off by more than 1"


def test_the_bound_of_the_first_layers_is_sharp_and_grows_from_layer_to_layer() -> None:
    graph = mobilenet_v1(0.25, 64)
    params, x = random_params(graph, 1), random_images(graph, 2)
    share, worst = {}, {}
    for (name, y), (_, exact, bound) in zip(graph.run(params, x), network_bounds(graph, params, x), strict=True):
        share[name] = np.abs(y - exact).max() / max(bound.max(), 1e-300)
        worst[name] = bound.max()
    assert share["conv1"] > 0.02
    assert worst["conv1"] < worst["conv_dw_1"] < worst["conv_pw_1"] < worst["conv_pw_2"] < worst["conv_pw_3"]


def test_a_layer_without_a_known_bound_is_named() -> None:
    class Strange(Layer):
        pass

    with pytest.raises(NotImplementedError, match="odd: no error bound is known for Strange"):
        Strange(name="odd").error_bound({}, np.zeros((1, 2)))
