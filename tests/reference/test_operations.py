"""What every operation promises: dtype, exactness, memory layouts, empty batches, errors."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from npmobilenet import reference
from npmobilenet.errors import ShapeError
from npmobilenet.types import Array
from tests.helpers.strategies import (
    laid_out,
)
from tests.helpers.within import assert_within

MAP = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)


ONES = np.ones(3, np.float32)


CALLS: dict[str, Callable[[Array], Array]] = {
    "zero_pad": lambda x: reference.zero_pad(x, ((1, 0), (0, 2))),
    "conv2d": lambda x: reference.conv2d(x, np.ones((3, 3, 3, 2), x.dtype), np.ones(2, x.dtype), stride=2),
    "depthwise_conv2d": lambda x: reference.depthwise_conv2d(x, np.ones((3, 3, 3, 1), x.dtype), ONES.astype(x.dtype)),
    "depthwise_conv2d of one pixel": lambda x: reference.depthwise_conv2d(
        x, np.ones((1, 1, 3, 1), x.dtype), ONES.astype(x.dtype)
    ),
    "conv2d of one pixel": lambda x: reference.conv2d(x, np.ones((1, 1, 3, 3), x.dtype), ONES.astype(x.dtype)),
    "pointwise_conv2d": lambda x: reference.pointwise_conv2d(x, np.ones((3, 2), x.dtype), np.ones(2, x.dtype)),
    "dense": lambda x: reference.dense(x, np.ones((3, 2), x.dtype), np.ones(2, x.dtype)),
    "batch_norm": lambda x: reference.batch_norm(x, *[ONES.astype(x.dtype)] * 4),
    "rescale": lambda x: reference.rescale(x, 1 / 127.5, -1.0),
    "relu": reference.relu,
    "relu6": reference.relu6,
    "sigmoid": reference.sigmoid,
    "hard_sigmoid": reference.hard_sigmoid,
    "hard_swish": reference.hard_swish,
    "softmax": reference.softmax,
    "global_average_pool": reference.global_average_pool,
    "global_max_pool": reference.global_max_pool,
    "average_pool": lambda x: reference.average_pool(x, size=(2, 3), stride=2, padding="same"),
    "average_pool of one pixel": lambda x: reference.average_pool(x, size=(1, 1), stride=1),
    "squeeze_excite": lambda x: reference.squeeze_excite(
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
def test_every_op_keeps_the_dtype(call: str, dtype: Any) -> None:
    assert CALLS[call](MAP.astype(dtype)).dtype == dtype


def test_every_op_without_an_exponential_is_exact_on_fractions() -> None:
    third = Fraction(1, 3)
    x = np.array([third, -third, Fraction(20, 3), Fraction(2)], object).reshape(1, 2, 2, 1)
    one = np.array([Fraction(1)], object)
    assert reference.relu6(x).ravel().tolist() == [third, 0, 6, 2]
    assert reference.hard_sigmoid(x).ravel().tolist() == [Fraction(5, 9), Fraction(4, 9), 1, Fraction(5, 6)]
    assert reference.hard_swish(x).ravel().tolist() == [
        Fraction(5, 27),
        Fraction(-4, 27),
        Fraction(20, 3),
        Fraction(5, 3),
    ]
    assert reference.global_average_pool(x).tolist() == [[Fraction(26, 12)]]
    assert reference.global_max_pool(x).tolist() == [[Fraction(20, 3)]]
    assert reference.average_pool(x, size=(1, 2), stride=1).ravel().tolist() == [0, Fraction(13, 3)]
    var = np.array([Fraction(9, 4) - Fraction(1, 1000)], object)  # var + epsilon is 9/4, whose root is 3/2
    assert reference.batch_norm(x, one, one, one, var).ravel().tolist() == [(v - 1) * 2 / 3 + 1 for v in x.ravel()]
    assert reference.rescale(x, 0.1, -1).ravel().tolist() == [v / 10 - 1 for v in x.ravel()]


def test_the_other_ops_take_a_batch_of_no_images_too() -> None:
    x, c = np.zeros((0, 4, 5, 3), np.float32), np.ones(3, np.float32)
    assert reference.batch_norm(x, c, c, c, c).shape == x.shape
    assert reference.average_pool(x, size=(2, 2), stride=2).shape == (0, 2, 2, 3)
    assert reference.squeeze_excite(x, np.ones((3, 1)), np.ones(1), np.ones((1, 3)), np.ones(3)).shape == x.shape
    assert reference.softmax(np.zeros((0, 5))).shape == (0, 5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: reference.conv2d(np.ones((4, 4, 3)), np.ones((3, 3, 3, 1))), r"conv2d: expected x .*\(4, 4, 3\)"),
        (lambda: reference.conv2d(np.ones((1, 4, 4, 3)), np.ones((3, 3, 3))), "conv2d: expected w with 4 axes"),
        (lambda: reference.conv2d(np.ones((1, 4, 4, 3)), np.ones((3, 3, 2, 1))), "x with 2 channels"),
        (lambda: reference.conv2d(np.ones((1, 2, 4, 3)), np.ones((3, 3, 3, 1)), padding="valid"), "larger input"),
        (lambda: reference.depthwise_conv2d(np.ones((1, 4, 4, 3)), np.ones((3, 3, 4, 1))), "x with 4 channels"),
        (lambda: reference.depthwise_conv2d(np.ones((1, 4, 4, 3)), np.ones((3, 3, 3))), "depthwise_conv2d: expected w"),
        (lambda: reference.pointwise_conv2d(np.ones((4, 3)), np.ones((3, 1))), r"pointwise_conv2d: .*\(4, 3\)"),
        (lambda: reference.pointwise_conv2d(np.ones((1, 1, 4, 3)), np.ones((1, 2, 3, 1))), r"w \(1, 2, 3, 1\)"),
        (lambda: reference.dense(np.ones((4, 3)), np.ones((2, 3))), r"x \(4, 3\), w \(2, 3\)"),
        (lambda: reference.dense(np.array(3.0), np.ones((2, 3))), "dense"),
        (lambda: reference.global_average_pool(np.ones((4, 3))), r"global_average_pool.*\(4, 3\)"),
        (lambda: reference.global_max_pool(np.ones((4, 3))), r"global_max_pool.*\(4, 3\)"),
        (lambda: reference.average_pool(np.ones((4, 3)), size=(2, 2), stride=1), r"average_pool.*\(4, 3\)"),
        (lambda: reference.average_pool(np.ones((1, 4, 3, 1)), size=(5, 1), stride=1), "larger input"),
        (lambda: reference.zero_pad(np.ones((4, 3)), ((1, 1), (1, 1))), r"zero_pad.*\(4, 3\)"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused_with_op_and_shapes(call: Any, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        call()
