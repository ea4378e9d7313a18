"""The transposed convolution against loops, against Keras, and by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet.errors import ArgumentError
from npmobilenet.reference.convolution import transposed_conv2d
from npmobilenet.reference.layers import Conv2DTranspose
from npmobilenet.types import Array
from tests.helpers.strategies import DTYPES, KERNELS, SEEDS, STRIDES, halves, maps
from tests.helpers.within import assert_within
from tests.oracles import naive

PADDINGS = st.sampled_from(["same", "valid"])


def drawn(x: Array, K_h: int, K_w: int, stride: int, padding: str, seed: int) -> tuple[Conv2DTranspose, Array, Array]:
    """A layer with three filters, its kernel and its bias."""
    rng = np.random.default_rng(seed)
    layer = Conv2DTranspose(name="y", filters=3, kernel_size=(K_h, K_w), stride=stride, padding=padding)
    return layer, halves(rng, (K_h, K_w, 3, x.shape[3])), halves(rng, (3,))


@given(maps(), KERNELS, KERNELS, STRIDES, PADDINGS, SEEDS, DTYPES)
def test_it_equals_the_loops(x: Array, K_h: int, K_w: int, stride: int, padding: str, seed: int, dtype: Any) -> None:
    layer, w, b = drawn(x, K_h, K_w, stride, padding, seed)
    y = layer.apply({"kernel": w.astype(dtype), "bias": b.astype(dtype)}, x.astype(dtype))
    assert y.dtype == dtype
    assert y.shape[1:] == layer.output_shape(x.shape[1:])
    bound = layer.error_bound({"kernel": w, "bias": b}, x, dtype=dtype)
    assert_within(bound, y, naive.transposed_conv2d(x, w, b, stride, padding))


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("K_h", "K_w", "stride"), [(3, 3, 2), (2, 2, 2), (4, 5, 2), (1, 2, 3), (3, 1, 1)])
def test_it_equals_keras(
    request: pytest.FixtureRequest, library: str, K_h: int, K_w: int, stride: int, padding: str
) -> None:
    keras = request.getfixturevalue(library)
    x = np.random.default_rng(0).normal(0, 1, (2, 5, 4, 2)).astype(np.float32)
    layer, w, b = drawn(x, K_h, K_w, stride, padding, 0)
    w, b = w.astype(np.float32), b.astype(np.float32)
    twin = keras.layers.Conv2DTranspose(3, (K_h, K_w), strides=stride, padding=padding)
    twin.build(x.shape)
    twin.set_weights([w, b])
    theirs = np.asarray(twin(x))
    params = {"kernel": w, "bias": b}
    assert_within(2 * layer.error_bound(params, x), layer.apply(params, x), theirs)


def test_it_by_hand() -> None:
    """Two pixels, 1 and 10, each adds (1, 2, 3) times itself, two places apart."""
    x, w = np.array([1.0, 10]).reshape(1, 1, 2, 1), np.array([1.0, 2, 3]).reshape(1, 3, 1, 1)
    assert transposed_conv2d(x, w, stride=2)[0, 0].ravel().tolist() == [1, 2, 13, 20, 30]
    assert transposed_conv2d(x, w, stride=2, padding="same")[0, 0].ravel().tolist() == [1, 2, 13, 20]


def test_its_multiply_adds_count_every_pixel_of_the_input() -> None:
    layer = Conv2DTranspose(name="y", filters=3, kernel_size=(2, 5), stride=3)
    assert layer.macs((4, 6, 7)) == 4 * 6 * 2 * 5 * 7 * 3


def test_another_padding_is_refused() -> None:
    with pytest.raises(ArgumentError, match="y: expected kernel size and stride of at least 1 and padding"):
        Conv2DTranspose(name="y", filters=3, kernel_size=(2, 5), padding="full").check()
