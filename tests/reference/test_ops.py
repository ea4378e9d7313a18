"""Every op against the naive loops, against Keras, and by hand; and the laws that tie the ops together."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet import reference as ops
from npmobilenet.errors import ShapeError
from npmobilenet.reference import rounding
from npmobilenet.reference.shapes import same_padding
from tests.helpers.strategies import LAYOUTS, SEEDS, WindowCase, halves, laid_out, maps, window_cases
from tests.helpers.within import assert_within
from tests.oracles import naive

DTYPES = st.sampled_from([np.float16, np.float32, np.float64])
KERAS_DTYPES = st.sampled_from([np.float32, np.float64])
POINTWISE = {  # name: (op, its formula for one value)
    "relu": (ops.relu, naive.relu),
    "relu6": (ops.relu6, naive.relu6),
    "sigmoid": (ops.sigmoid, naive.sigmoid),
    "hard_sigmoid": (ops.hard_sigmoid, naive.hard_sigmoid),
    "hard_swish": (ops.hard_swish, naive.hard_swish),
}
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


def window_bound(case: WindowCase, dtype, *, depthwise: bool):
    bound = rounding.depthwise_conv2d_bound if depthwise else rounding.conv2d_bound
    return bound(case.x, case.w, case.b, stride=case.stride, padding=case.padding, dtype=dtype)


def in_keras(keras, layer, x, *weights):
    """The output of a Keras layer with the given weights."""
    layer.build(x.shape)
    layer.set_weights(list(weights))
    return keras.ops.convert_to_numpy(layer(x))


def window_in_keras(keras, kind, case, x, w, b, **fields):
    """A convolution of Keras; explicit zeros go through its ZeroPadding2D."""
    padding = case.padding
    if not isinstance(padding, str):
        padder = keras.layers.ZeroPadding2D(padding, dtype=x.dtype.name)
        x, padding = keras.ops.convert_to_numpy(padder(x)), "valid"
    weights = (w,) if b is None else (w, b)
    layer = kind(
        kernel_size=w.shape[:2],
        strides=case.stride,
        padding=padding,
        use_bias=b is not None,
        dtype=x.dtype.name,
        **fields,
    )
    return in_keras(keras, layer, np.ascontiguousarray(x), *weights)


# ---- convolutions


@given(window_cases(depthwise=False), DTYPES)
def test_conv2d_equals_the_loops(case: WindowCase, dtype) -> None:
    x, w, b = case.arrays(dtype)
    y = ops.conv2d(x, w, b, stride=case.stride, padding=case.padding)
    exact = naive.conv2d(case.x, case.w, case.b, stride=case.stride, padding=case.padding)
    assert y.dtype == dtype
    assert_within(window_bound(case, dtype, depthwise=False), y, exact)


@given(window_cases(depthwise=True), DTYPES)
def test_depthwise_conv2d_equals_the_loops(case: WindowCase, dtype) -> None:
    x, w, b = case.arrays(dtype)
    y = ops.depthwise_conv2d(x, w, b, stride=case.stride, padding=case.padding)
    exact = naive.depthwise_conv2d(case.x, case.w, case.b, stride=case.stride, padding=case.padding)
    assert y.dtype == dtype
    assert_within(window_bound(case, dtype, depthwise=True), y, exact)


@given(window_cases(depthwise=False), KERAS_DTYPES)
def test_conv2d_equals_keras(keras, case: WindowCase, dtype) -> None:
    x, w, b = case.arrays(dtype)
    theirs = window_in_keras(keras, keras.layers.Conv2D, case, x, w, b, filters=w.shape[3])
    y = ops.conv2d(x, w, b, stride=case.stride, padding=case.padding)
    assert_within(2 * window_bound(case, dtype, depthwise=False), y, theirs)


@given(window_cases(depthwise=True), KERAS_DTYPES)
def test_depthwise_conv2d_equals_keras(keras, case: WindowCase, dtype) -> None:
    x, w, b = case.arrays(dtype)
    theirs = window_in_keras(keras, keras.layers.DepthwiseConv2D, case, x, w, b, depth_multiplier=w.shape[3])
    y = ops.depthwise_conv2d(x, w, b, stride=case.stride, padding=case.padding)
    assert_within(2 * window_bound(case, dtype, depthwise=True), y, theirs)


@given(maps(), st.integers(1, 5), SEEDS, DTYPES, LAYOUTS, st.booleans())
def test_pointwise_conv2d_equals_the_loops(x, c_out: int, seed: int, dtype, layout: str, as_keras: bool) -> None:
    rng = np.random.default_rng(seed)
    w, b = halves(rng, (x.shape[3], c_out)), halves(rng, (c_out,))
    stored = w[None, None] if as_keras else w
    y = ops.pointwise_conv2d(laid_out(x.astype(dtype), layout), stored.astype(dtype), b.astype(dtype))
    assert y.dtype == dtype
    assert_within(rounding.pointwise_conv2d_bound(x, stored, b, dtype=dtype), y, naive.dense(x, w, b))


@given(st.lists(st.integers(1, 4), max_size=3), st.integers(1, 40), st.integers(1, 6), SEEDS, DTYPES)
def test_dense_equals_the_loops(leading, c_in: int, c_out: int, seed: int, dtype) -> None:
    rng = np.random.default_rng(seed)
    x, w, b = halves(rng, (*leading, c_in)), halves(rng, (c_in, c_out)), halves(rng, (c_out,))
    y = ops.dense(x.astype(dtype), w.astype(dtype), b.astype(dtype))
    assert y.dtype == dtype
    assert_within(rounding.dense_bound(x, w, b, dtype=dtype), y, naive.dense(x, w, b))


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 6), SEEDS)
def test_dense_equals_keras(keras, N: int, c_in: int, c_out: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w, b = (halves(rng, shape).astype(np.float32) for shape in ((N, c_in), (c_in, c_out), (c_out,)))
    assert_within(
        2 * rounding.dense_bound(x, w, b), ops.dense(x, w, b), in_keras(keras, keras.layers.Dense(c_out), x, w, b)
    )


def test_conv2d_by_hand() -> None:
    """Keeping the window upright: a flipped one would give 2 in the middle of the first row, not 8."""
    x = np.array([[1, 2, 3],
                  [4, 5, 6],
                  [7, 8, 9]])[None, :, :, None]  # fmt: skip
    w = np.array([[0, 0, 0],
                  [1, 0, -1],
                  [0, 2, 0]])[:, :, None, None]  # fmt: skip
    y = [[-2 + 8, 1 - 3 + 10, 2 + 12],
         [-5 + 14, 4 - 6 + 16, 5 + 18],
         [-8, 7 - 9, 8]]  # fmt: skip
    np.testing.assert_array_equal(ops.conv2d(x, w)[0, :, :, 0], y)


def test_same_padding_of_an_even_side_with_stride_2_starts_at_the_first_pixel() -> None:
    """4 pixels, K 3, stride 2: no zero before, one after; symmetric padding would see 1 + 2 and 2 + 3 + 4."""
    x = np.array([1, 2, 3, 4])[None, None, :, None]
    y = ops.conv2d(x, np.ones((1, 3, 1, 1), int), stride=2)
    np.testing.assert_array_equal(y[0, 0, :, 0], [1 + 2 + 3, 3 + 4 + 0])


def test_same_padding_of_an_odd_side_with_stride_2_is_symmetric() -> None:
    x = np.array([1, 2, 3, 4, 5])[None, :, None, None]
    y = ops.depthwise_conv2d(x, np.ones((3, 1, 1, 1), int), stride=2)
    np.testing.assert_array_equal(y[0, :, 0, 0], [0 + 1 + 2, 2 + 3 + 4, 4 + 5 + 0])


def test_a_window_larger_than_the_image_sees_zeros_around_it() -> None:
    x = np.array([[5]])[None, :, :, None]
    w = np.arange(25).reshape(5, 5, 1, 1)
    assert ops.conv2d(x, w).tolist() == [[[[5 * 12]]]]


def test_depthwise_by_hand_keeps_the_channels_apart() -> None:
    """Two channels, two filters each: outputs lie as c0m0, c0m1, c1m0, c1m1."""
    x = np.array([[[1, 10],
                   [2, 20]]])[None]  # fmt: skip  # one row of two pixels
    w = np.array([[[1, 2],
                   [3, 4]],
                  [[0, 0],
                   [1, 1]]])[None]  # fmt: skip  # (1, 2, C, M)
    y = ops.depthwise_conv2d(x, w, padding="valid")
    assert y.tolist() == [[[[1 * 1 + 2 * 0, 1 * 2 + 2 * 0, 10 * 3 + 20 * 1, 10 * 4 + 20 * 1]]]]


def test_pointwise_by_hand_mixes_the_channels_of_one_pixel() -> None:
    x = np.array([[[1, 2], [3, 4]]])[None]
    w = np.array([[1, 0, 5],
                  [0, 1, -1]])  # fmt: skip
    y = ops.pointwise_conv2d(x, w, np.array([0, 100, 0]))
    assert y.tolist() == [[[[1, 102, 3], [3, 104, 11]]]]


@given(maps(), st.integers(1, 4), SEEDS)
def test_pointwise_is_conv2d_with_a_kernel_of_one(x, c_out: int, seed: int) -> None:
    w = halves(np.random.default_rng(seed), (1, 1, x.shape[3], c_out))
    bound = rounding.pointwise_conv2d_bound(x, w, dtype=np.float64)
    assert_within(2 * bound, ops.pointwise_conv2d(x, w), ops.conv2d(x, w))


@given(window_cases(depthwise=True))
def test_depthwise_is_conv2d_with_a_block_diagonal_kernel(case: WindowCase) -> None:
    K_h, K_w, C, M = case.w.shape
    w = np.zeros((K_h, K_w, C, C * M))
    for c in range(C):
        w[:, :, c, c * M : (c + 1) * M] = case.w[:, :, c]
    separate = ops.depthwise_conv2d(case.x, case.w, case.b, stride=case.stride, padding=case.padding)
    together = ops.conv2d(case.x, w, case.b, stride=case.stride, padding=case.padding)
    bound = rounding.conv2d_bound(case.x, w, case.b, stride=case.stride, padding=case.padding, dtype=np.float64)
    assert_within(2 * bound, separate, together)


@given(maps(), st.sampled_from([1, 3, 5]))
def test_a_delta_filter_is_the_identity(x, K: int) -> None:
    delta = np.zeros((K, K, x.shape[3], 1))
    delta[K // 2, K // 2] = 1
    np.testing.assert_array_equal(ops.depthwise_conv2d(x, delta), x)
    np.testing.assert_array_equal(ops.conv2d(x, delta * np.eye(x.shape[3])), x)


@given(window_cases(depthwise=False), SEEDS)
def test_conv2d_is_linear_in_x(case: WindowCase, seed: int) -> None:
    def y(x):
        return ops.conv2d(x, case.w, stride=case.stride, padding=case.padding)

    def bound(x):
        return rounding.conv2d_bound(x, case.w, stride=case.stride, padding=case.padding, dtype=np.float64)

    other = halves(np.random.default_rng(seed), case.x.shape)
    both = case.x + 2 * other  # exact: both have 11 bits
    assert_within(bound(both) + bound(case.x) + 3 * bound(other), y(case.x) + 2 * y(other), y(both))


@given(window_cases(depthwise=True, min_batch=2, max_batch=3))
def test_one_image_of_a_batch_does_not_see_another(case: WindowCase) -> None:
    C = case.w.shape[2]
    for op, w in ((ops.depthwise_conv2d, case.w), (ops.conv2d, case.w[..., :1] * np.eye(C))):
        whole = op(case.x, w, stride=case.stride, padding=case.padding)
        for n in range(len(case.x)):
            spoiled = np.full_like(case.x, np.nan)
            spoiled[n] = case.x[n]
            alone = op(spoiled, w, stride=case.stride, padding=case.padding)
            np.testing.assert_array_equal(alone[n], whole[n])


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 3, 5, 7]), st.integers(1, 3))
def test_same_gives_the_ceiling_of_side_over_stride(H: int, W: int, K: int, stride: int) -> None:
    x, w = np.zeros((1, H, W, 1)), np.zeros((K, K, 1, 1))
    expected = (1, math.ceil(H / stride), math.ceil(W / stride), 1)
    assert ops.conv2d(x, w, stride=stride).shape == expected
    assert ops.depthwise_conv2d(x, w, stride=stride).shape == expected
    assert ops.average_pool(x, size=(K, K), stride=stride, padding="same").shape == expected


@given(window_cases(depthwise=True), SEEDS)
def test_nan_and_infinity_reach_exactly_the_outputs_whose_window_holds_them(case: WindowCase, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = case.x.copy()
    spots = [tuple(int(rng.integers(side)) for side in x.shape) for _ in range(3)]
    for spot, value in zip(spots, (np.nan, np.inf, -np.inf), strict=True):
        x[spot] = value
    w = np.where(case.w == 0, 1, case.w)
    with np.errstate(invalid="ignore"):
        y = ops.depthwise_conv2d(x, w, stride=case.stride, padding=case.padding)
        exact = naive.depthwise_conv2d(x, w, stride=case.stride, padding=case.padding)
    calm = np.where(np.isfinite(x), x, 0)
    bound = rounding.depthwise_conv2d_bound(calm, w, stride=case.stride, padding=case.padding, dtype=np.float64)
    assert_within(2 * bound, y, exact)


@given(window_cases(depthwise=False, min_batch=0, max_batch=0))
def test_a_batch_of_no_images_gives_no_outputs_of_the_right_shape(case: WindowCase) -> None:
    y = ops.conv2d(case.x, case.w, case.b, stride=case.stride, padding=case.padding)
    exact = naive.conv2d(case.x, case.w, case.b, stride=case.stride, padding=case.padding)
    assert y.shape == exact.shape
    assert ops.depthwise_conv2d(case.x, case.w, stride=case.stride, padding=case.padding).shape[0] == 0
    assert ops.pointwise_conv2d(case.x, case.w[0, 0], case.b).shape == (0, *case.x.shape[1:3], case.w.shape[3])


@pytest.mark.parametrize("op", [ops.global_average_pool, ops.global_max_pool])
def test_pooling_no_images_gives_no_rows(op) -> None:
    assert op(np.zeros((0, 4, 5, 3), np.float32)).shape == (0, 3)


def test_the_other_ops_take_a_batch_of_no_images_too() -> None:
    x, c = np.zeros((0, 4, 5, 3), np.float32), np.ones(3, np.float32)
    assert ops.batch_norm(x, c, c, c, c).shape == x.shape
    assert ops.average_pool(x, size=(2, 2), stride=2).shape == (0, 2, 2, 3)
    assert ops.squeeze_excite(x, np.ones((3, 1)), np.ones(1), np.ones((1, 3)), np.ones(3)).shape == x.shape
    assert ops.softmax(np.zeros((0, 5))).shape == (0, 5)


def fractions(x):
    return np.vectorize(Fraction, otypes=[object])(x)


@given(window_cases(depthwise=False), st.booleans())
def test_convolutions_of_fractions_are_exact(case: WindowCase, depthwise: bool) -> None:
    x, w = fractions(case.x), fractions(case.w)
    b = None if case.b is None or depthwise else fractions(case.b)
    op, loops = (ops.depthwise_conv2d, naive.depthwise_conv2d) if depthwise else (ops.conv2d, naive.conv2d)
    y = op(x, w, b, stride=case.stride, padding=case.padding)
    assert y.dtype == object
    np.testing.assert_array_equal(y, loops(x, w, b, stride=case.stride, padding=case.padding))


def test_every_op_without_an_exponential_is_exact_on_fractions() -> None:
    third = Fraction(1, 3)
    x = np.array([third, -third, Fraction(20, 3), Fraction(2)], object).reshape(1, 2, 2, 1)
    one = np.array([Fraction(1)], object)
    assert ops.relu6(x).ravel().tolist() == [third, 0, 6, 2]
    assert ops.hard_sigmoid(x).ravel().tolist() == [Fraction(5, 9), Fraction(4, 9), 1, Fraction(5, 6)]
    assert ops.hard_swish(x).ravel().tolist() == [Fraction(5, 27), Fraction(-4, 27), Fraction(20, 3), Fraction(5, 3)]
    assert ops.global_average_pool(x).tolist() == [[Fraction(26, 12)]]
    assert ops.global_max_pool(x).tolist() == [[Fraction(20, 3)]]
    assert ops.average_pool(x, size=(1, 2), stride=1).ravel().tolist() == [0, Fraction(13, 3)]
    var = np.array([Fraction(9, 4) - Fraction(1, 1000)], object)  # var + epsilon is 9/4, whose root is 3/2
    assert ops.batch_norm(x, one, one, one, var).ravel().tolist() == [(v - 1) * 2 / 3 + 1 for v in x.ravel()]
    assert ops.rescale(x, 0.1, -1).ravel().tolist() == [v / 10 - 1 for v in x.ravel()]


def test_an_irrational_root_is_refused_in_exact_arithmetic() -> None:
    one = np.array([Fraction(1)], object)
    with pytest.raises(ValueError, match="square of a fraction"):
        ops.batch_norm(one.reshape(1, 1, 1, 1), one, one, one, one)


# ---- batch normalisation


def statistics(rng, C):
    """gamma, beta, mean and var of C channels, some variances smaller than epsilon."""
    return halves(rng, (C,)), halves(rng, (C,)), halves(rng, (C,)), np.abs(halves(rng, (C,))) ** 6


@given(maps(), SEEDS, DTYPES, LAYOUTS, st.booleans(), st.booleans(), st.sampled_from([1e-3, 1e-5]))
def test_batch_norm_equals_the_loops(x, seed, dtype, layout, scale: bool, center: bool, epsilon: float) -> None:
    gamma, beta, mean, var = statistics(np.random.default_rng(seed), x.shape[3])
    gamma, beta = gamma if scale else None, beta if center else None
    var = var.astype(dtype).astype(np.float64)
    cast = [None if a is None else a.astype(dtype) for a in (gamma, beta, mean, var)]
    y = ops.batch_norm(laid_out(x.astype(dtype), layout), *cast, epsilon=epsilon)
    assert y.dtype == dtype
    if dtype is np.float16 and epsilon < np.finfo(dtype).smallest_normal:
        epsilon = float(np.float16(epsilon))  # a subnormal number there, rounded by more than u
    bound = rounding.batch_norm_bound(x, gamma, beta, mean, var, epsilon=epsilon, dtype=dtype)
    assert_within(bound, y, naive.batch_norm(x, gamma, beta, mean, var, epsilon))


@given(maps(), SEEDS, st.booleans(), st.booleans(), st.sampled_from([1e-3, 1e-5]))
def test_batch_norm_equals_keras(keras, x, seed: int, scale: bool, center: bool, epsilon: float) -> None:
    x = x.astype(np.float32)
    gamma, beta, mean, var = (a.astype(np.float32) for a in statistics(np.random.default_rng(seed), x.shape[3]))
    layer = keras.layers.BatchNormalization(epsilon=epsilon, scale=scale, center=center)
    weights = ([gamma] if scale else []) + ([beta] if center else []) + [mean, var]
    theirs = in_keras(keras, layer, x, *weights)
    gamma, beta = gamma if scale else None, beta if center else None
    y = ops.batch_norm(x, gamma, beta, mean, var, epsilon=epsilon)
    assert_within(2 * rounding.batch_norm_bound(x, gamma, beta, mean, var, epsilon=epsilon), y, theirs)


def test_batch_norm_by_hand() -> None:
    """(5 - 1) / sqrt(3.999 + 0.001) * 10 + 7 = 27."""
    five, ten, seven, one, var = (np.array([value]) for value in (5.0, 10.0, 7.0, 1.0, 3.999))
    assert ops.batch_norm(five, ten, seven, one, var) == pytest.approx(27, rel=1e-15)


@given(window_cases(depthwise=False), SEEDS)
def test_batch_norm_folded_into_the_convolution_gives_the_same(case: WindowCase, seed: int) -> None:
    """w' = w * scale and b' = (b - mean) * scale + beta, with scale = gamma / sqrt(var + epsilon)."""
    C, where = case.w.shape[3], {"stride": case.stride, "padding": case.padding}
    gamma, beta, mean, var = statistics(np.random.default_rng(seed), C)
    b = np.zeros(C) if case.b is None else case.b
    scale = gamma / np.sqrt(var + 1e-3)
    folded = ops.conv2d(case.x, case.w * scale, (b - mean) * scale + beta, **where)
    apart = ops.batch_norm(ops.conv2d(case.x, case.w, b, **where), gamma, beta, mean, var)
    conv_bound = rounding.conv2d_bound(case.x, case.w, b, **where, dtype=np.float64)
    bn_bound = rounding.batch_norm_bound(
        ops.conv2d(case.x, case.w, b, **where), gamma, beta, mean, var, conv_bound, dtype=np.float64
    )
    terms = ops.conv2d(
        np.abs(case.x), np.abs(case.w * scale), np.abs((np.abs(b) + np.abs(mean)) * scale) + np.abs(beta), **where
    )
    n = case.w[..., 0].size + 1 + 8  # the sum, and what rounds the folded kernel and bias
    assert_within(bn_bound + rounding.gamma(n, np.float64) * terms, folded, apart)


@pytest.mark.parametrize("position", range(4))
def test_batch_norm_names_the_parameter_that_does_not_fit(position: int) -> None:
    values = [np.ones(3)] * 4
    values[position] = np.ones(2)
    name = ("gamma", "beta", "mean", "var")[position]
    with pytest.raises(ShapeError, match=rf"batch_norm: {name} \(2,\)"):
        ops.batch_norm(np.ones((1, 2, 2, 3)), *values)


# ---- activations


@pytest.mark.parametrize("name", POINTWISE)
@given(maps(), st.sampled_from([0.1, 1.0, 4.0, 50.0]), DTYPES, LAYOUTS)
def test_activations_equal_the_formula(name: str, x, size: float, dtype, layout: str) -> None:
    op, formula = POINTWISE[name]
    x = (x * size).astype(np.float16).astype(np.float64)
    y = op(laid_out(x.astype(dtype), layout))
    assert y.dtype == dtype
    exact = np.vectorize(formula, otypes=[np.float64])(x)
    assert_within(rounding.activation_bound(name, x, dtype=dtype), y, exact)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", POINTWISE)
def test_activations_equal_keras_at_the_corners_and_between(keras, name: str, dtype) -> None:
    x = np.concatenate([CORNERS, np.linspace(-20, 20, 4001)]).astype(dtype)
    theirs = keras.ops.convert_to_numpy(getattr(keras.activations, {"hard_swish": "hard_silu"}.get(name, name))(x))
    with np.errstate(invalid="ignore"):
        bound = 2 * rounding.activation_bound(name, np.nan_to_num(x, posinf=1e30, neginf=-1e30), dtype=dtype)
    assert_within(np.nan_to_num(bound), POINTWISE[name][0](x), theirs, name)


@pytest.mark.parametrize("name", POINTWISE)
def test_nan_goes_through_every_activation_and_infinity_to_its_limit(name: str) -> None:
    limits = {"relu": (0, np.inf), "relu6": (0, 6), "hard_swish": (np.nan, np.inf)}.get(name, (0, 1))
    y = POINTWISE[name][0](np.array([np.nan, -np.inf, np.inf], np.float32))
    np.testing.assert_array_equal(y, [np.nan, *limits])


@pytest.mark.parametrize("name", POINTWISE)
def test_nan_goes_through_every_activation_as_in_keras(keras, name: str) -> None:
    x = np.array([np.nan, 1], np.float32)
    theirs = keras.ops.convert_to_numpy(getattr(keras.activations, {"hard_swish": "hard_silu"}.get(name, name))(x))
    assert np.isnan(theirs).tolist() == [True, False]
    assert np.isnan(POINTWISE[name][0](x)).tolist() == [True, False]


def test_nan_goes_through_the_layer_that_keras_builds_relu6_with(keras) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 7, 6, -0.5], np.float32)
    theirs = keras.ops.convert_to_numpy(keras.layers.ReLU(6.0)(x))
    np.testing.assert_array_equal(ops.relu6(x), theirs)
    np.testing.assert_array_equal(theirs, [np.nan, 6, 0, 6, 6, 0])


def test_hard_sigmoid_is_that_of_mobilenet_v3_not_that_of_keras_2() -> None:
    """clip(0.2 * x + 0.5, 0, 1) would give 0.7 and reach 1 at 2.5."""
    assert ops.hard_sigmoid(np.array([-3.0, 0, 1, 2.5, 3])).tolist() == [0, 0.5, 4 / 6, 5.5 / 6, 1]


def test_hard_swish_by_hand() -> None:
    assert ops.hard_swish(np.array([-4.0, -3, -1.5, 0, 1, 3, 10])).tolist() == [0, 0, -0.375, 0, 4 / 6, 3, 10]


@given(st.integers(1, 3), st.integers(1, 60), SEEDS, st.sampled_from([0.1, 1.0, 10.0, 1000.0]), DTYPES)
def test_softmax_equals_the_formula(N: int, classes: int, seed: int, size: float, dtype) -> None:
    x = (halves(np.random.default_rng(seed), (N, classes)) * size).astype(np.float16).astype(np.float64)
    y = ops.softmax(x.astype(dtype))
    assert y.dtype == dtype
    assert_within(rounding.activation_bound("softmax", x, dtype=dtype), y, naive.softmax(x))


@given(st.integers(1, 3), st.integers(2, 60), SEEDS, st.sampled_from([0.1, 1.0, 10.0, 100.0]))
def test_softmax_equals_keras(keras, N: int, classes: int, seed: int, size: float) -> None:
    x = (halves(np.random.default_rng(seed), (N, classes)) * size).astype(np.float32)
    theirs = keras.ops.convert_to_numpy(keras.ops.softmax(x))
    assert_within(2 * rounding.activation_bound("softmax", x), ops.softmax(x), theirs)


@given(st.integers(1, 60), SEEDS, st.integers(-1000, 1000))
def test_softmax_sums_to_one_and_ignores_a_shift(classes: int, seed: int, shift: int) -> None:
    x = halves(np.random.default_rng(seed), (2, classes))
    y = ops.softmax(x)
    bound = rounding.activation_bound("softmax", x, dtype=np.float64)
    assert_within(bound.sum(axis=-1), y.sum(axis=-1), np.ones(2))
    np.testing.assert_array_equal(ops.softmax(x + shift), y)  # the sum is exact, 11 bits beside 10


def test_softmax_by_hand() -> None:
    """Odds of 1 : 2 : 5."""
    y = ops.softmax(np.log([[1.0, 2, 5]]) + 500)
    np.testing.assert_allclose(y, [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-12)  # 500 leaves log 5 about 1e-13


def test_softmax_of_a_row_with_nan_is_nan_and_leaves_the_other_rows() -> None:
    y = ops.softmax(np.array([[1, np.nan], [1, 1], [np.inf, 0], [-np.inf, 0]]))
    np.testing.assert_array_equal(y, [[np.nan, np.nan], [0.5, 0.5], [np.nan, np.nan], [0, 1]])


# ---- pooling, padding, rescaling, squeeze-and-excite


@given(window_cases(depthwise=True), DTYPES)
def test_average_pool_equals_the_loops(case: WindowCase, dtype) -> None:
    size = case.w.shape[:2]
    padding = case.padding if isinstance(case.padding, str) else "same"
    x = case.x if padding == "same" else case.arrays(np.float64)[0]
    y = ops.average_pool(laid_out(x.astype(dtype), case.layout), size=size, stride=case.stride, padding=padding)
    assert y.dtype == dtype
    bound = rounding.average_pool_bound(x, size=size, stride=case.stride, padding=padding, dtype=dtype)
    assert_within(bound, y, naive.average_pool(x, size, case.stride, padding))


@given(window_cases(depthwise=True))
def test_average_pool_equals_keras(keras, case: WindowCase) -> None:
    x, w, _ = case.arrays(np.float32)
    padding = case.padding if isinstance(case.padding, str) else "same"
    layer = keras.layers.AveragePooling2D(w.shape[:2], case.stride, padding)
    theirs = keras.ops.convert_to_numpy(layer(np.ascontiguousarray(x)))
    y = ops.average_pool(x, size=w.shape[:2], stride=case.stride, padding=padding)
    assert_within(2 * rounding.average_pool_bound(x, size=w.shape[:2], stride=case.stride, padding=padding), y, theirs)


def test_average_pool_does_not_count_the_zeros_of_the_padding() -> None:
    x = np.array([[6.0, 2], [4, 8]])[None, :, :, None]
    y = ops.average_pool(x, size=(2, 2), stride=1, padding="same")
    assert y[0, :, :, 0].tolist() == [[(6 + 2 + 4 + 8) / 4, (2 + 8) / 2], [(4 + 8) / 2, 8]]


@given(maps(max_side=12), DTYPES, LAYOUTS, st.booleans())
def test_global_pools_equal_the_loops(x, dtype, layout: str, keepdims: bool) -> None:
    given_x = laid_out(x.astype(dtype), layout)
    mean = ops.global_average_pool(given_x, keepdims=keepdims)
    largest = ops.global_max_pool(given_x, keepdims=keepdims)
    assert mean.dtype == largest.dtype == dtype
    place = (len(x), 1, 1, x.shape[3]) if keepdims else (len(x), x.shape[3])
    assert mean.shape == largest.shape == place
    assert_within(
        rounding.global_average_pool_bound(x, keepdims=keepdims, dtype=dtype),
        mean,
        naive.global_average_pool(x).reshape(place),
    )
    np.testing.assert_array_equal(largest, naive.global_max_pool(x).reshape(place))


@given(maps(max_side=12))
def test_global_pools_equal_keras(keras, x) -> None:
    x = x.astype(np.float32)
    mean, largest = keras.layers.GlobalAveragePooling2D()(x), keras.layers.GlobalMaxPooling2D()(x)
    assert_within(
        2 * rounding.global_average_pool_bound(x), ops.global_average_pool(x), keras.ops.convert_to_numpy(mean)
    )
    np.testing.assert_array_equal(ops.global_max_pool(x), keras.ops.convert_to_numpy(largest))


def test_global_pools_hand_nan_on() -> None:
    x = np.array([1.0, np.nan, 3, 4]).reshape(1, 2, 2, 1)
    assert np.isnan(ops.global_average_pool(x)).all()
    assert np.isnan(ops.global_max_pool(x)).all()


@given(maps(), st.tuples(*[st.integers(0, 3)] * 4))
def test_zero_pad_puts_zeros_around_and_nothing_else(x, sides) -> None:
    top, bottom, left, right = sides
    y = ops.zero_pad(x, ((top, bottom), (left, right)))
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0))))
    assert y.dtype == x.dtype


@given(maps(), st.sampled_from([(1 / 127.5, -1.0), (1.0, 3.0), (1 / 6, 0.0), (0.1, 0.7)]))
def test_rescale_equals_keras_and_the_formula(keras, x, constants) -> None:
    """In float32 only: Keras rounds the two constants to it whatever the layer's dtype."""
    scale, offset = constants
    x = (x * 100).astype(np.float32)
    theirs = keras.ops.convert_to_numpy(keras.layers.Rescaling(scale, offset)(x))
    y = ops.rescale(x, scale, offset)
    bound = rounding.rescale_bound(x, scale, offset)
    assert_within(2 * bound, y, theirs)
    assert_within(bound, y, x.astype(np.float64) * scale + offset)


def squeeze_excite_params(C: int, seed: int, dtype=np.float64):
    rng = np.random.default_rng(seed)
    squeezed = max(C // 2, 1)
    w1, b1, w2, b2 = (halves(rng, shape) for shape in ((C, squeezed), (squeezed,), (squeezed, C), (C,)))
    return [a.astype(dtype) for a in (w1, b1, w2, 3 * b2)]


@given(maps(), SEEDS, DTYPES)
def test_squeeze_excite_equals_the_loops(x, seed: int, dtype) -> None:
    params = [a.astype(np.float16).astype(np.float64) for a in squeeze_excite_params(x.shape[3], seed)]
    y = ops.squeeze_excite(x.astype(dtype), *(a.astype(dtype) for a in params))
    assert y.dtype == dtype
    assert_within(rounding.squeeze_excite_bound(x, *params, dtype=dtype), y, naive.squeeze_excite(x, *params))


@given(maps(), SEEDS)
def test_squeeze_excite_is_its_composition(x, seed: int) -> None:
    w1, b1, w2, b2 = squeeze_excite_params(x.shape[3], seed)
    s = ops.dense(ops.relu(ops.dense(ops.global_average_pool(x), w1, b1)), w2, b2)  # (N, C)
    composed = x * np.clip((s + 3) / 6, 0, 1)[:, None, None]
    bound = rounding.squeeze_excite_bound(x, w1, b1, w2, b2, dtype=np.float64)
    assert_within(2 * bound, ops.squeeze_excite(x, w1, b1, w2, b2), composed)


def test_squeeze_excite_by_hand() -> None:
    """Channel means 2 and 4; squeezed relu(2 + 4 - 5) = 1; excited 3 and -3, gates 1 and 0."""
    x = np.array([[1.0, 3], [3, 5]]).reshape(1, 1, 2, 2)
    y = ops.squeeze_excite(x, np.ones((2, 1)), np.array([-5.0]), np.array([[3.0, -3.0]]), np.zeros(2))
    assert y.ravel().tolist() == [1, 0, 3, 0]


# ---- what all ops promise

MAP = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
ONES = np.ones(3, np.float32)
CALLS = {
    "zero_pad": lambda x: ops.zero_pad(x, ((1, 0), (0, 2))),
    "conv2d": lambda x: ops.conv2d(x, np.ones((3, 3, 3, 2), x.dtype), np.ones(2, x.dtype), stride=2),
    "depthwise_conv2d": lambda x: ops.depthwise_conv2d(x, np.ones((3, 3, 3, 1), x.dtype), ONES.astype(x.dtype)),
    "depthwise_conv2d of one pixel": lambda x: ops.depthwise_conv2d(
        x, np.ones((1, 1, 3, 1), x.dtype), ONES.astype(x.dtype)
    ),
    "conv2d of one pixel": lambda x: ops.conv2d(x, np.ones((1, 1, 3, 3), x.dtype), ONES.astype(x.dtype)),
    "pointwise_conv2d": lambda x: ops.pointwise_conv2d(x, np.ones((3, 2), x.dtype), np.ones(2, x.dtype)),
    "dense": lambda x: ops.dense(x, np.ones((3, 2), x.dtype), np.ones(2, x.dtype)),
    "batch_norm": lambda x: ops.batch_norm(x, *[ONES.astype(x.dtype)] * 4),
    "rescale": lambda x: ops.rescale(x, 1 / 127.5, -1.0),
    "relu": ops.relu,
    "relu6": ops.relu6,
    "sigmoid": ops.sigmoid,
    "hard_sigmoid": ops.hard_sigmoid,
    "hard_swish": ops.hard_swish,
    "softmax": ops.softmax,
    "global_average_pool": ops.global_average_pool,
    "global_max_pool": ops.global_max_pool,
    "average_pool": lambda x: ops.average_pool(x, size=(2, 3), stride=2, padding="same"),
    "average_pool of one pixel": lambda x: ops.average_pool(x, size=(1, 1), stride=1),
    "squeeze_excite": lambda x: ops.squeeze_excite(
        x, np.ones((3, 1), x.dtype), np.ones(1, x.dtype), np.ones((1, 3), x.dtype), ONES.astype(x.dtype)
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_no_op_writes_into_its_input(call: str) -> None:
    x = MAP.copy()
    y = CALLS[call](x)
    np.testing.assert_array_equal(x, MAP)
    assert not np.shares_memory(x, y)


@pytest.mark.parametrize("layout", ["read-only", "every second", "backwards", "fortran"])
@pytest.mark.parametrize("call", CALLS)
def test_every_op_gives_the_same_for_any_memory_layout(call: str, layout: str) -> None:
    whole = np.round(MAP.astype(np.float64) * 8) / 8  # sums of eighths are exact, so any order gives the same bits
    y = CALLS[call](laid_out(whole.copy(), layout))
    exact = CALLS[call](whole)
    assert_within(4 * np.finfo(np.float64).eps * np.abs(exact), y, exact, call)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("call", CALLS)
def test_every_op_keeps_the_dtype(call: str, dtype) -> None:
    assert CALLS[call](MAP.astype(dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ops.conv2d(np.ones((4, 4, 3)), np.ones((3, 3, 3, 1))), r"conv2d: x .*\(4, 4, 3\)"),
        (lambda: ops.conv2d(np.ones((1, 4, 4, 3)), np.ones((3, 3, 3))), r"conv2d: w needs 4 axes"),
        (lambda: ops.conv2d(np.ones((1, 4, 4, 3)), np.ones((3, 3, 2, 1))), "x has 3 channels, w has 2"),
        (lambda: ops.conv2d(np.ones((1, 2, 4, 3)), np.ones((3, 3, 3, 1)), padding="valid"), "larger input"),
        (lambda: ops.depthwise_conv2d(np.ones((1, 4, 4, 3)), np.ones((3, 3, 4, 1))), "x has 3 channels, w has 4"),
        (lambda: ops.depthwise_conv2d(np.ones((1, 4, 4, 3)), np.ones((3, 3, 3))), "depthwise_conv2d: w needs 4 axes"),
        (lambda: ops.pointwise_conv2d(np.ones((4, 3)), np.ones((3, 1))), r"pointwise_conv2d: x .*\(4, 3\)"),
        (lambda: ops.pointwise_conv2d(np.ones((1, 1, 4, 3)), np.ones((1, 2, 3, 1))), r"w \(1, 2, 3, 1\)"),
        (lambda: ops.dense(np.ones((4, 3)), np.ones((2, 3))), r"x \(4, 3\), w \(2, 3\)"),
        (lambda: ops.dense(np.float64(3), np.ones((2, 3))), "dense"),
        (lambda: ops.global_average_pool(np.ones((4, 3))), r"global_average_pool.*\(4, 3\)"),
        (lambda: ops.global_max_pool(np.ones((4, 3))), r"global_max_pool.*\(4, 3\)"),
        (lambda: ops.average_pool(np.ones((4, 3)), size=(2, 2), stride=1), r"average_pool.*\(4, 3\)"),
        (lambda: ops.average_pool(np.ones((1, 4, 3, 1)), size=(5, 1), stride=1), "larger input"),
        (lambda: ops.zero_pad(np.ones((4, 3)), ((1, 1), (1, 1))), r"zero_pad.*\(4, 3\)"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused_with_op_and_shapes(call, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        call()


@given(st.integers(1, 30), st.sampled_from([1, 2, 3]))
def test_the_reference_pads_where_the_integers_say(size: int, stride: int) -> None:
    """A filter of powers of two reads its own zeros back."""
    K = 3
    x, w = np.ones((1, size, 1, 1), int), np.array([1, 2, 4]).reshape(K, 1, 1, 1)
    first = ops.conv2d(x, w, stride=stride)[0, 0, 0, 0]
    before, _ = same_padding(size, K, stride)
    seen = [before <= u < before + size for u in range(K)]
    assert first == sum(2**u for u in range(K) if seen[u])
