"""Squeeze-and-excitation against the naive loops, as a composition, and by hand."""

from typing import Any

import numpy as np
from hypothesis import given

from npmobilenet import reference
from npmobilenet.reference import rounding
from npmobilenet.types import Array
from tests.helpers.strategies import (
    DTYPES,
    SEEDS,
    halves,
    maps,
)
from tests.helpers.within import assert_within
from tests.oracles import naive


def squeeze_excite_params(C: int, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    squeezed = max(C // 2, 1)
    w1, b1, w2, b2 = (halves(rng, shape) for shape in ((C, squeezed), (squeezed,), (squeezed, C), (C,)))
    return [w1, b1, w2, 3 * b2]


@given(maps(), SEEDS, DTYPES)
def test_squeeze_excite_equals_the_loops(x: Array, seed: int, dtype: Any) -> None:
    params = [a.astype(np.float16).astype(np.float64) for a in squeeze_excite_params(x.shape[3], seed)]
    y = reference.squeeze_excite(x.astype(dtype), *(a.astype(dtype) for a in params))
    assert y.dtype == dtype
    assert_within(rounding.squeeze_excite_bound(x, *params, dtype=dtype), y, naive.squeeze_excite(x, *params))


@given(maps(), SEEDS)
def test_squeeze_excite_is_its_composition(x: Array, seed: int) -> None:
    w1, b1, w2, b2 = squeeze_excite_params(x.shape[3], seed)
    s = reference.dense(reference.relu(reference.dense(reference.global_average_pool(x), w1, b1)), w2, b2)  # (N, C)
    composed = x * np.clip((s + 3) / 6, 0, 1)[:, None, None]
    bound = rounding.squeeze_excite_bound(x, w1, b1, w2, b2, dtype=np.float64)
    assert_within(2 * bound, reference.squeeze_excite(x, w1, b1, w2, b2), composed)


def test_squeeze_excite_by_hand() -> None:
    """Channel means 2 and 4; squeezed relu(2 + 4 - 5) = 1; excited 3 and -3, gates 1 and 0."""
    x = np.array([[1.0, 3], [3, 5]]).reshape(1, 1, 2, 2)
    y = reference.squeeze_excite(x, np.ones((2, 1)), np.array([-5.0]), np.array([[3.0, -3.0]]), np.zeros(2))
    assert y.ravel().tolist() == [1, 0, 3, 0]
