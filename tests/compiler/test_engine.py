"""The engine: a plan per image size, the last few of which it keeps."""

import numpy as np
import pytest

from npmobilenet import ShapeError
from npmobilenet.architectures import mobilenet_v1
from npmobilenet.compiler.engine import PLANS, Engine
from tests.helpers.networks import random_images, random_params

pytestmark = pytest.mark.usefixtures("kernels_kept")


@pytest.fixture(scope="module")
def engine() -> Engine:
    graph = mobilenet_v1(0.25, 32, include_top=False, pooling="avg")
    return Engine(graph, random_params(graph, 0))


def test_the_plans_of_the_last_sizes_are_kept(engine: Engine) -> None:
    sizes = [(32, 32 + 8 * number) for number in range(PLANS + 1)]
    plans = [engine.plan(*size) for size in sizes]
    assert [engine.plan(*size) is plan for size, plan in zip(sizes[1:], plans[1:], strict=True)] == [True] * PLANS
    assert engine.plan(*sizes[0]) is not plans[0]


def test_images_of_any_size_are_computed_as_by_the_graph_for_that_size(engine: Engine) -> None:
    graph = engine.graph.with_input(48, 40)
    x = random_images(graph, 0)
    assert engine.size(x) == (48, 40)
    np.testing.assert_array_equal(engine.run(x), engine.plan(48, 40).run(x, threads=1))
    assert engine.is_ready(48, 40)


@pytest.mark.parametrize("shape", [(32, 32, 3), (1, 32, 32, 1)])
def test_other_arrays_than_images_are_refused(engine: Engine, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected x of shape \(N, 32, 32, 3\), got \("):
        engine.run(np.zeros(shape, np.float32))
