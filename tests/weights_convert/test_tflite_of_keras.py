"""Files that TensorFlow's converter writes of Keras models: float32, float16 weights, 8 bits."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_weights_convert import read_model
from npmobilenet_weights_convert.tflite_file import read_tflite

from npmobilenet.errors import WeightsError
from npmobilenet.models.model import Model
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.types import Array
from tests.helpers.keras_files import PIXELS, Twin, application, twin
from tests.helpers.tolerances import rounding
from tests.oracles.litert import LiteRT, litert_output

NETWORKS = ("every block", *(("v1", "v2", "v3", "v3_minimalistic") if os.environ.get("NPMOBILENET_NIGHTLY") else ()))


def every_block(k: Any) -> Any:
    """Small blocks of V1, V2 and V3, and a head with Flatten: what they become in TensorFlow Lite's operators."""
    layers = k.layers
    image = k.Input((16, 20, 3))
    x = layers.Rescaling(1 / 127.5, -1)(image)
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.Conv2D(8, 3, strides=2, use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    block = layers.Activation("hard_swish")(layers.BatchNormalization()(x))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(block)
    gate = layers.Conv2D(4, 1, activation="relu")(gate)
    gate = layers.Activation("hard_sigmoid")(layers.Conv2D(8, 1)(gate))
    x = layers.Add()([x, layers.Conv2D(8, 1)(layers.Multiply()([block, gate]))])
    x = layers.DepthwiseConv2D(5, strides=2, padding="same")(x)
    x = layers.MaxPooling2D(2, padding="same")(layers.AveragePooling2D(2, 1, padding="same")(x))
    x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    x = layers.Reshape((5,))(layers.Dense(5)(x))
    return k.Model(image, layers.Softmax()(x))


@pytest.fixture(scope="module", params=NETWORKS)
def theirs(request: pytest.FixtureRequest, keras: Any) -> Twin:
    """A Keras model with random weights."""
    if request.param == "every block":
        return twin(every_block(keras), pixels=True)
    return twin(application(keras, request.param), pixels=request.param in PIXELS)


def converter(model: Any, *, optimized: bool = False) -> Any:
    """TensorFlow's converter of a Keras model for any number of images, its variables made constants."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = tf.function(lambda x: model(x, training=False))
    image = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    frozen = convert_variables_to_constants_v2(function.get_concrete_function(image))
    made = tf.lite.TFLiteConverter.from_concrete_functions([frozen], model)
    made.optimizations = [tf.lite.Optimize.DEFAULT] if optimized else []
    return made


def read_back(data: bytes, folder: Path) -> Model | QuantizedModel:
    """The model in a file."""
    path = folder / "keras.tflite"
    path.write_bytes(data)
    model: Model | QuantizedModel = read_model(path)
    return model


def assert_equal(model: Model | QuantizedModel, x: Array, wanted: Array) -> None:
    """Reference and engine compute what is wanted."""
    assert isinstance(model, Model)
    for backend in ("reference", "compiled"):
        y = model.forward(x, backend=backend)
        np.testing.assert_allclose(y, wanted, rtol=0, atol=rounding(len(model.graph.layers)) * np.abs(wanted).max())


def test_a_keras_model_in_float(theirs: Twin, tmp_path: Path) -> None:
    data = converter(theirs.model).convert()
    model = read_back(data, tmp_path)
    assert_equal(model, theirs.x, litert_output(data, theirs.x))
    assert_equal(model, theirs.x, theirs.y)


def test_a_keras_model_with_float16_weights(keras: Any, tmp_path: Path) -> None:
    import tensorflow as tf

    theirs = twin(every_block(keras), pixels=True)
    made = converter(theirs.model, optimized=True)
    made.target_spec.supported_types = [tf.float16]
    data = made.convert()
    network = read_tflite(data)
    assert any(tensor.dtype == np.float16 for tensor in network.tensors)
    assert {"SHAPE", "STRIDED_SLICE", "PACK"} <= {operator.code for operator in network.operators}
    assert_equal(read_back(data, tmp_path), theirs.x, litert_output(data, theirs.x))


def test_a_keras_model_with_weights_of_bytes_alone_is_refused(keras: Any, tmp_path: Path) -> None:
    data = converter(every_block(keras), optimized=True).convert()
    with pytest.raises(WeightsError, match=r"keras\.tflite: [^;]*: int8 weights on float activations"):
        read_back(data, tmp_path)


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_a_keras_model_in_8_bits(keras: Any, kind: str, tmp_path: Path) -> None:
    """Every tensor is LiteRT's, bit for bit, in the file and in ours."""
    import tensorflow as tf

    theirs = twin(every_block(keras), pixels=True)
    made = converter(theirs.model, optimized=True)
    made.representative_dataset = lambda: ([theirs.x * factor] for factor in (0.25, 0.5, 1))
    made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    made.inference_input_type = made.inference_output_type = getattr(tf, kind)
    data = made.convert()
    model = read_back(data, tmp_path)
    assert isinstance(model, QuantizedModel)
    x = model.scale(theirs.x.astype(np.uint8))
    wanted = LiteRT(data).tensors(x)
    for name, y in model.trace(x):
        np.testing.assert_array_equal(y, np.atleast_1d(wanted[model.names.index(name)]), err_msg=name)
    model.save(tmp_path / "ours.safetensors")
    assert QuantizedModel.open(tmp_path / "ours.safetensors").failed_checks() == []
