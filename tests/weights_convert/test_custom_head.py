"""Weights of Keras 3 without a config: a MobileNet with a Dense layer on it loads and says what is assumed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_weights_convert import read_model

from npmobilenet.errors import WeightsError
from tests.helpers.keras_files import Twin, application, twin
from tests.helpers.tolerances import rounding


def with_head(keras: Any, name: str, classes: int, *, nested: bool) -> Twin:
    layers = keras.layers
    arguments = {"include_top": False, "input_shape": (224, 224, 3)}
    base = application(keras, name, **arguments)
    head = [
        layers.GlobalAveragePooling2D(),
        layers.Dropout(0.2),
        layers.Dense(classes, activation="softmax" if classes > 1 else "sigmoid"),
    ]
    if nested:
        model = keras.Sequential([base, *head])
    else:
        y = base.output
        for layer in head:
            y = layer(y)
        model = keras.Model(base.input, y)
    return twin(model, pixels=name == "v3")


@pytest.mark.parametrize("nested", [True, False], ids=["nested", "flat"])
@pytest.mark.parametrize("name", ["v1", "v2", "v3"])
def test_a_dense_layer_on_a_mobilenet_equals_keras(keras: Any, tmp_path: Path, name: str, nested: bool) -> None:
    theirs = with_head(keras, name, 5, nested=nested)
    model = read_model(theirs.save(tmp_path, ".weights.h5"))
    assert "softmax" in model.source["assumed"]
    assert "model.keras" in model.source["assumed"] or "npmobilenet convert" in model.source["assumed"]
    y = model.forward(theirs.x, backend="reference")
    np.testing.assert_allclose(y, theirs.y, rtol=0, atol=rounding(len(model.graph.layers)) * np.abs(theirs.y).max())


def test_one_output_is_refused_with_the_way_on(keras: Any, tmp_path: Path) -> None:
    theirs = with_head(keras, "v1", 1, nested=True)
    with pytest.raises(WeightsError, match=r"mobilenet_v1, alpha 0\.25.*one output.*model\.keras"):
        read_model(theirs.save(tmp_path, ".weights.h5"))
