"""Real trained networks on real photographs, against Keras 2, layer by layer and down to the names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npmobilenet.hub.load import load
from npmobilenet.models.labels import imagenet_labels
from npmobilenet.models.preprocessing import UNIT, prepare
from tests.helpers.real_files import real_file

PHOTOGRAPHS = ["panda.jpg", "cat.bmp", "parrot.jpg", "sunflower.bmp", "burger.jpg"]
NETWORKS = {
    "mobilenet_v1_0.25_224_imagenet.h5": ("MobileNet", {"alpha": 0.25}),
    "mobilenet_v2_1.0_224_imagenet.h5": ("MobileNetV2", {}),
    "mobilenet_v3_small_1.0_224_imagenet.h5": ("MobileNetV3Small", {}),
}
EXPECTED = {
    "panda.jpg": "giant_panda",
    "cat.bmp": "Egyptian_cat",
    "parrot.jpg": "macaw",
    "sunflower.bmp": "daisy",
    "burger.jpg": "cheeseburger",
}


@pytest.fixture(scope="module", params=NETWORKS)
def pair(request: pytest.FixtureRequest, tf_keras: Any) -> tuple[Any, Any]:
    """(our model, Keras's) of one real weight file."""
    path = real_file("weights", request.param)
    cls, arguments = NETWORKS[request.param]
    theirs = getattr(tf_keras.applications, cls)(weights=None, input_shape=(224, 224, 3), **arguments)
    theirs.load_weights(str(path))
    return load(path, backend="compiled"), theirs


@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
def test_top_5_and_probabilities_equal_keras(pair: tuple[Any, Any], photograph: str) -> None:
    ours, theirs = pair
    pixels = prepare(real_file("images", photograph), 224, 224)[None]
    p = ours.predict(pixels)
    q = theirs.predict(ours.scale(pixels), verbose=0)
    np.testing.assert_allclose(p, q, rtol=0, atol=1e-5)
    assert np.argsort(-p[0])[:5].tolist() == np.argsort(-q[0])[:5].tolist()
    assert ours.classify(pixels)[0][0][1] == EXPECTED[photograph]


@pytest.mark.parametrize("resize", ["crop", "keras"])
def test_a_photograph_is_named_from_its_path(pair: tuple[Any, Any], resize: str) -> None:
    answers = pair[0].classify(real_file("images", "panda.jpg"), resize=resize)
    assert answers[0][0][:2] == ("n02510455", "giant_panda")


def test_the_model_knows_its_labels_and_source(pair: tuple[Any, Any]) -> None:
    assert pair[0].labels == imagenet_labels()
    assert pair[0].source["file"] in NETWORKS
    assert pair[0].source["matched_by"]


@pytest.fixture(scope="module")
def person_detector(tf_keras: Any) -> tuple[Any, Any]:
    path = real_file("weights", "vww_96.h5")
    return load(path), tf_keras.models.load_model(str(path))


def test_a_network_with_its_own_config_equals_keras_in_every_layer(
    person_detector: tuple[Any, Any], tf_keras: Any
) -> None:
    ours, theirs = person_detector
    pixels = prepare(real_file("images", "panda.jpg"), 96, 96)[None].astype(np.float32)
    x = pixels * np.float32(UNIT.scale)
    names = [layer.name for layer in theirs.layers]
    outputs = tf_keras.Model(theirs.input, [layer.output for layer in theirs.layers]).predict(x, verbose=0)
    traced = dict(ours.trace(x))
    assert list(traced) == names
    for name, expected in zip(names, outputs, strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(traced[name], expected, rtol=0, atol=1e-5 * max(scale, 1), err_msg=name)


def test_a_converted_file_answers_as_its_source(pair: tuple[Any, Any], tmp_path: Path) -> None:
    path = tmp_path / "converted.safetensors"
    pair[0].save(path)
    again = load(path, backend="compiled")
    pixels = prepare(real_file("images", "cat.bmp"), 224, 224)
    np.testing.assert_array_equal(again.predict(pixels), pair[0].predict(pixels))
    assert again.failed_checks() == []
