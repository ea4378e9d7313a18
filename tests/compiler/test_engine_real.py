"""The engine on real networks and photos: the same answers as the reference, and what the Model does with it."""

import sys

import numpy as np
import pytest

from npmobilenet import Model, NpMobileNetError
from npmobilenet.hub.load import load
from npmobilenet.models.preprocessing import prepare
from tests.helpers.real_files import real_file
from tests.helpers.tolerances import FEATURES, PROBABILITIES
from tests.models.test_real_networks import NETWORKS, PHOTOS


@pytest.fixture(scope="module", params=[*NETWORKS, "vww_96.h5"])
def model(request: pytest.FixtureRequest) -> Model:
    return load(real_file("weights", request.param))


@pytest.mark.parametrize("photo", PHOTOS)
def test_real_networks_name_photos_in_the_reference_s_order(model: Model, photo: str) -> None:
    H, W, _ = model.graph.input_shape
    pixels = prepare(real_file("images", photo), H, W)[None]

    p, q = (model.predict(pixels, backend=backend) for backend in ("compiled", "reference"))
    f, g = (model.features(pixels, backend=backend) for backend in ("compiled", "reference"))

    np.testing.assert_allclose(p, q, rtol=0, atol=PROBABILITIES)
    assert np.argsort(-p[0])[:5].tolist() == np.argsort(-q[0])[:5].tolist()
    np.testing.assert_allclose(f, g, rtol=0, atol=FEATURES * np.abs(g).max())


def test_auto_is_the_engine_for_float32_and_the_reference_for_other_precisions() -> None:
    digits = load("digits")
    x = np.random.default_rng(0).uniform(-1, 1, (2, *digits.graph.input_shape))

    single = x.astype(np.float32)
    compiled = digits.forward(single, backend="compiled")
    np.testing.assert_array_equal(digits.forward(single), compiled)
    np.testing.assert_array_equal(digits.forward(x), digits.forward(x, backend="reference"))
    with pytest.raises(NpMobileNetError, match="float32"):
        digits.forward(x, backend="compiled")


def test_without_kernels_the_reference_computes_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "npmobilenet.compiler.engine", None)  # importing it raises ImportError
    digits = load("digits")
    x = np.zeros((1, *digits.graph.input_shape), np.float32)

    with pytest.warns(RuntimeWarning, match="NumPy reference") as caught:
        answers = [model.forward(x) for model in (digits, load("digits"))]

    assert len(caught) == 1
    np.testing.assert_array_equal(answers[0], digits.forward(x, backend="reference"))
    with pytest.raises(NpMobileNetError, match=r"no compiled kernels: import of npmobilenet\.compiler\.engine halted"):
        digits.forward(x, backend="compiled")


@pytest.mark.parametrize("size", [(32, 40), (64, 32)])
def test_another_image_size_gets_a_plan_of_its_own(size: tuple[int, int]) -> None:
    digits = load("digits")
    x = np.random.default_rng(1).uniform(-1, 1, (1, *size, digits.graph.input_shape[2])).astype(np.float32)
    y, z = (digits.forward(x, backend=backend) for backend in ("compiled", "reference"))
    np.testing.assert_allclose(y, z, rtol=0, atol=PROBABILITIES)
