"""The two layer types that MobileNet's rivals need: max pooling and concatenation."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from npmobilenet import reference as ops
from npmobilenet.errors import ShapeError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Concatenate, Conv2D, Input, MaxPooling2D


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("side", "K", "stride"), [(7, 3, 2), (8, 3, 2), (6, 2, 2), (5, 3, 1), (4, 1, 3)])
def test_max_pool_equals_keras(keras: Any, side: int, K: int, stride: int, padding: str) -> None:
    x = np.random.default_rng(side).standard_normal((2, side, side + 1, 3)).astype("f") - 5  # zeros would win
    theirs = keras.ops.convert_to_numpy(keras.ops.max_pool(x, K, stride, padding))
    ours = ops.max_pool(x, size=(K, K), stride=stride, padding=padding)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, theirs)


def test_max_pool_by_hand() -> None:
    x = np.arange(9.0).reshape(1, 3, 3, 1)
    np.testing.assert_array_equal(ops.max_pool(x, size=(2, 2), stride=1)[0, ..., 0], [[4, 5], [7, 8]])


def test_max_pool_hands_nan_on() -> None:
    x = np.array([1, np.nan, 2, 3.0]).reshape(1, 2, 2, 1)
    assert np.isnan(ops.max_pool(x, size=(2, 2), stride=2)).all()


def test_max_pool_is_exact_on_fractions() -> None:
    x = np.array([Fraction(1, 3), Fraction(1, 2)], object).reshape(1, 1, 2, 1)
    assert ops.max_pool(x, size=(1, 2), stride=1, padding="same").ravel().tolist() == [Fraction(1, 2), Fraction(1, 2)]


@pytest.mark.parametrize("axis", [-1, 1, 2, 3, -3])
def test_concatenate_equals_numpy(axis: int) -> None:
    x, y = np.zeros((2, 3, 4, 5)), np.ones((2, 3, 4, 5))
    layer = Concatenate(name="c", inputs=("a", "b"), axis=axis)
    joined = layer.apply({}, x, y)
    assert joined.shape[1:] == layer.output_shape(x.shape[1:], y.shape[1:])
    np.testing.assert_array_equal(joined, np.concatenate([x, y], axis))


@pytest.mark.parametrize(
    ("axis", "shapes"), [(0, [(2, 2), (2, 2)]), (3, [(2, 2), (2, 2)]), (1, [(2, 3), (2, 4)]), (-1, [(2,), (2, 2)])]
)
def test_what_cannot_be_joined_is_refused(axis: int, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(ShapeError, match="cannot be joined"):
        Concatenate(name="c", inputs=("a", "b"), axis=axis).output_shape(*shapes)


def test_a_graph_with_both_runs_and_survives_json() -> None:
    graph = Graph(
        "branches",
        (
            Input(name="x", shape=(4, 4, 2)),
            Conv2D(name="conv", inputs=("x",), kernel_size=(1, 1), filters=3, use_bias=False),
            MaxPooling2D(name="pool", inputs=("x",), kernel_size=(3, 3), padding="same"),
            Concatenate(name="join", inputs=("conv", "pool")),
        ),
    )
    assert Graph.from_json(graph.to_json()) == graph
    x = np.ones((1, 4, 4, 2))
    outputs = dict(graph.run({"conv/kernel": np.ones((1, 1, 2, 3))}, x))
    np.testing.assert_array_equal(outputs["join"][0, 0, 0], [2, 2, 2, 1, 1])
