"""Real trained networks on real photos, against Keras 2, layer by layer and down to the labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npmobilenet.hub.load import load
from npmobilenet.models.labels import imagenet_labels
from npmobilenet.models.preprocessing import UNIT, prepare
from tests.helpers.real_files import real_file
from tests.helpers.tolerances import ACTIVATIONS, PROBABILITIES

PHOTOS = ["panda.jpg", "cat.bmp", "parrot.jpg", "sunflower.bmp", "burger.jpg"]
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
    """(Model, Keras model) of one real weight file."""
    path = real_file("weights", request.param)
    cls, arguments = NETWORKS[request.param]
    keras_model = getattr(tf_keras.applications, cls)(weights=None, input_shape=(224, 224, 3), **arguments)
    keras_model.load_weights(str(path))
    return load(path, backend="compiled"), keras_model


@pytest.mark.parametrize("photo", PHOTOS)
def test_top_5_and_probabilities_equal_keras(pair: tuple[Any, Any], photo: str) -> None:
    model, keras_model = pair
    pixels = prepare(real_file("images", photo), 224, 224)[None]
    p = model.predict(pixels)
    q = keras_model.predict(model.scale(pixels), verbose=0)
    np.testing.assert_allclose(p, q, rtol=0, atol=PROBABILITIES)
    assert np.argsort(-p[0])[:5].tolist() == np.argsort(-q[0])[:5].tolist()
    assert model.classify(pixels)[0][0][1] == EXPECTED[photo]


@pytest.mark.parametrize("resize", ["crop", "keras"])
def test_a_photo_is_classified_from_its_path(pair: tuple[Any, Any], resize: str) -> None:
    predictions = pair[0].classify(real_file("images", "panda.jpg"), resize=resize)
    assert predictions[0][0][:2] == ("n02510455", "giant_panda")


def test_the_model_has_its_labels_and_source(pair: tuple[Any, Any]) -> None:
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
    model, keras_model = person_detector
    pixels = prepare(real_file("images", "panda.jpg"), 96, 96)[None].astype(np.float32)
    x = UNIT.apply(pixels)
    names = [layer.name for layer in keras_model.layers]
    outputs = tf_keras.Model(keras_model.input, [layer.output for layer in keras_model.layers]).predict(x, verbose=0)
    traced = dict(model.trace(x))
    assert list(traced) == names
    for name, expected in zip(names, outputs, strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(traced[name], expected, rtol=0, atol=ACTIVATIONS * max(scale, 1), err_msg=name)


def test_a_converted_file_computes_the_same_as_its_source(pair: tuple[Any, Any], tmp_path: Path) -> None:
    path = tmp_path / "converted.safetensors"
    pair[0].save(path)
    again = load(path, backend="compiled")
    pixels = prepare(real_file("images", "cat.bmp"), 224, 224)
    np.testing.assert_array_equal(again.predict(pixels), pair[0].predict(pixels))
    assert again.failed_checks() == []
