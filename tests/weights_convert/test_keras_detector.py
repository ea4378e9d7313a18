"""A Keras backbone with heads of one's own, as a detector."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npmobilenet.detection.anchors import tensorflow_anchors
from npmobilenet.detection.tensorflow_rule import PostProcessing, TensorFlowRule
from npmobilenet.hub.load import load
from npmobilenet.models.detector import Detector
from npmobilenet.models.preprocessing import SYMMETRIC
from tests.helpers.keras_files import Twin, twin
from tests.helpers.tolerances import WIRING

MAPS = ((6, 6), (3, 3))
CATEGORIES = ("cat", "dog")


def with_heads(keras: Any) -> Any:
    """MobileNetV2 with predictors on two of its maps, as SSDLite puts them."""
    layers = keras.layers
    backbone = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, include_top=False, weights=None)
    maps = backbone.get_layer("block_13_expand_relu").output, backbone.output
    slots = 1 + len(CATEGORIES)
    joined = []
    for values in (4, slots):
        rows = []
        for source, anchors in zip(maps, (3, 6), strict=True):
            y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(source)
            y = layers.ReLU(6.0)(layers.BatchNormalization()(y))
            rows.append(layers.Reshape((-1, values))(layers.Conv2D(anchors * values, 1)(y)))
        joined.append(layers.Concatenate(axis=1)(rows))
    return keras.Model(backbone.input, {"boxes": joined[0], "scores": joined[1]})


@pytest.fixture(scope="module")
def made(keras: Any) -> Twin:
    keras.backend.clear_session()
    one = twin(keras.Model((both := with_heads(keras)).input, both.outputs[1]), pixels=False)
    return Twin(both, one.x, np.concatenate([np.asarray(y)[0] for y in both(one.x).values()], axis=1))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras_model_with_heads_is_a_detector_once_its_anchors_are_known(
    made: Twin, suffix: str, tmp_path: Path
) -> None:
    model = load(made.save(tmp_path, suffix), backend="reference")
    rule = TensorFlowRule(tensorflow_anchors(MAPS), PostProcessing(0.01, use_regular_nms=True))
    detector = Detector.of(model, rule, CATEGORIES)
    assert detector.scaling == SYMMETRIC
    heads = detector.forward(made.x)
    y = np.concatenate([heads["boxes"][0], heads["scores"][0]], axis=1)  # (A, 4 + slots)
    np.testing.assert_allclose(y, made.y, rtol=0, atol=WIRING * np.abs(made.y).max())
    (found,) = detector.found(made.x)
    by_keras = rule.found(made.y[:, :4], made.y[:, 4:])
    assert len(found.scores) > 10
    np.testing.assert_allclose(found.scores[:5], by_keras.scores[:5], rtol=0, atol=WIRING)
    image = np.random.default_rng(1).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    assert {one.label for one in detector.detect(image)[0]} <= set(CATEGORIES)
