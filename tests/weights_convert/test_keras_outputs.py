"""Keras models with several outputs, in every format: their names, and the values that Keras computes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_weights_convert import convert_file, read_model

from npmobilenet.errors import WeightsError
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import RAW
from npmobilenet.porting.verify import compare_with_keras
from npmobilenet.types import Array
from tests.helpers.keras_files import Twin, application
from tests.helpers.real_files import real_file
from tests.helpers.tfjs_files import write_tfjs
from tests.helpers.tolerances import STRUCTURES, rounding

Made = tuple[Any, Any]  # input, outputs


def two_heads(k: Any) -> Made:
    image = k.Input((12, 11, 3), name="image")
    x = k.layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(image)
    x = k.layers.GlobalAveragePooling2D()(x)
    x = k.layers.Dropout(0.2)(x)
    return image, [
        k.layers.Dense(4, name="box")(x),
        k.layers.Dense(3, activation="softmax", name="species")(x),
    ]


def by_key(k: Any) -> Made:
    image, (box, species) = two_heads(k)
    return image, {"where": box, "what": species}


def with_its_last_map(k: Any) -> Made:
    """As for Grad-CAM: a map in the middle, and the classes computed from it."""
    image = k.Input((12, 11, 3), name="image")
    x = k.layers.Conv2D(6, 3, use_bias=False)(image)
    x = k.layers.ReLU(6.0, name="out_relu")(k.layers.BatchNormalization()(x))
    y = k.layers.GlobalAveragePooling2D()(x)
    return image, [x, k.layers.Dense(4, activation="softmax", name="predictions")(y)]


def twice(k: Any) -> Made:
    image, (box, species) = two_heads(k)
    return image, [species, box, species]


def the_image_too(k: Any) -> Made:
    image, (box, _) = two_heads(k)
    return image, [image, box]


def dropped_layers(k: Any) -> Made:
    """A layer that acts in training only is no layer of the graph, but its name is the output's."""
    image, (box, species) = two_heads(k)
    return image, [
        k.layers.GaussianNoise(0.1, name="noisy")(box),
        k.layers.ActivityRegularization(name="kept")(species),
    ]


def nested(k: Any) -> Made:
    """A model of several outputs inside another one, which reads the second and hands on the first."""
    inner = k.Model(*two_heads(k), name="inner")
    image = k.Input((12, 11, 3), name="outer_image")
    box, species = inner(image)
    return image, [k.layers.Dense(2, name="on_species")(species), box]


def nested_in_part(k: Any) -> Made:
    """Nothing reads the first output of the inner model."""
    inner = k.Model(*two_heads(k), name="inner")
    image = k.Input((12, 11, 3), name="outer_image")
    species = inner(image)[1]
    return image, [k.layers.Dense(2, name="a")(species), k.layers.Dense(3, name="b")(species)]


def nested_one(k: Any) -> Made:
    """One output, from the second of an inner model."""
    image, outputs = nested_in_part(k)
    return image, outputs[0]


NAMES: dict[Callable[[Any], Made], list[str]] = {
    two_heads: ["box", "species"],
    by_key: ["where", "what"],
    with_its_last_map: ["out_relu", "predictions"],
    twice: ["species", "box", "species_1"],
    the_image_too: ["image", "box"],
    dropped_layers: ["noisy", "kept"],
    nested: ["on_species", "inner"],
    nested_in_part: ["a", "b"],
    nested_one: [],
}


def built(keras: Any, make: Callable[[Any], Made]) -> tuple[Any, Array, list[Array]]:
    """The model with random weights, two images, and its outputs in the order of their declaration."""
    keras.backend.clear_session()
    image, outputs = make(keras)
    model = keras.Model(image, outputs)
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(0.2, 0.3, array.shape).__abs__() for array in model.get_weights()])
    x = rng.uniform(-1, 1, (2, *model.input_shape[1:])).astype(np.float32)
    y = model(x, training=False)
    if isinstance(outputs, dict):
        return model, x, [np.asarray(y[key]) for key in outputs]
    return model, x, list(map(np.asarray, y if isinstance(outputs, list) else [y]))


def check(model: Model, x: Array, expected: list[Array], names: list[str]) -> None:
    for backend in ("reference", "compiled"):
        y = model.forward(x, backend=backend)
        assert sorted(y) == sorted(names) if names else isinstance(y, np.ndarray)
        for value, theirs in zip([y[name] for name in names] if names else [y], expected, strict=True):
            atol = rounding(len(model.graph.layers)) * np.abs(theirs).max()
            assert value.shape == theirs.shape
            np.testing.assert_allclose(value, theirs, rtol=0, atol=atol, err_msg=backend)


@pytest.mark.parametrize(
    ("library", "suffix"), [("keras", ".keras"), ("keras", ".h5"), ("tf_keras", ".keras"), ("tf_keras", ".h5")]
)
@pytest.mark.parametrize("make", NAMES, ids=lambda make: make.__name__)
def test_every_output_is_keras_s_under_its_name(
    request: pytest.FixtureRequest, tmp_path: Path, make: Callable[[Any], Made], library: str, suffix: str
) -> None:
    model, x, expected = built(request.getfixturevalue(library), make)
    file = Twin(model, x, np.empty(0)).save(tmp_path, suffix)
    check(read_model(file), x, expected, NAMES[make])


def test_tensorflow_js_models_have_their_outputs_too(tf_keras: Any, tmp_path: Path) -> None:
    model, x, expected = built(tf_keras, two_heads)
    check(read_model(write_tfjs(model, tmp_path / "web")), x, expected, NAMES[two_heads])


def test_a_converted_file_keeps_the_outputs_and_equals_keras_in_every_layer(keras: Any, tmp_path: Path) -> None:
    theirs, x, expected = built(keras, nested)
    source, file = Twin(theirs, x, np.empty(0)).save(tmp_path, ".keras"), tmp_path / "converted.safetensors"
    convert_file(source, file)
    model = Model.open(file)
    check(model, x, expected, NAMES[nested])
    assert not model.failed_checks()
    verdicts = compare_with_keras(model, source)
    assert all(verdict.same for verdict in verdicts)
    assert len(verdicts) == len(model.graph.layers) - 1


def test_a_published_network_with_another_output_keeps_its_class_names(keras: Any, tmp_path: Path) -> None:
    base = application(keras, "v2", classes=1000, input_shape=(96, 96, 3))
    both = keras.Model(base.input, [base.get_layer("out_relu").output, base.output])
    model = read_model(Twin(both, np.empty(0), np.empty(0)).save(tmp_path, ".keras"))
    assert model.labels[388] == ("n02510455", "giant_panda")
    assert model.graph.output_shapes == {"out_relu": (3, 3, 1280), "predictions": (1000,)}
    assert model.graph.embedding == "global_average_pooling2d"


def test_the_two_outputs_of_a_public_network_answer_as_in_keras() -> None:
    model = read_model(real_file("cases", "structures", "two_outputs.keras"), scaling=RAW)
    oracle = np.load(real_file("cases", "structures", "oracle.npz"))
    for backend in ("reference", "compiled"):
        y = model.forward(oracle["x"], backend=backend)
        assert list(y) == ["age", "gender"]
        for number, name in enumerate(y):
            np.testing.assert_allclose(y[name], oracle[f"two_outputs_{number}"], rtol=0, atol=STRUCTURES)


def test_a_sequential_model_whose_config_is_a_list() -> None:
    oracle = np.load(real_file("cases", "sequential_list", "oracle.npz"))
    model = read_model(real_file("cases", "sequential_list", "sequential.h5"))
    np.testing.assert_allclose(model.forward(oracle["x"]), oracle["sequential"], rtol=0, atol=STRUCTURES)


def test_a_nested_output_that_does_not_exist_is_refused(keras: Any, tmp_path: Path) -> None:
    from npmobilenet_weights_convert.keras_config import import_config

    model, _, _ = built(keras, nested)
    config = json.loads(model.to_json())
    config["config"]["output_layers"][1][2] = 2
    with pytest.raises(WeightsError, match="inner: its output 2 is not defined in the model"):
        import_config(config, 3)
