"""Configs in both dialects of Keras: supported layers equal Keras, unsupported ones are refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_weights_convert import read_model
from npmobilenet_weights_convert.layer_settings import TRAINING_ONLY

from npmobilenet.errors import WeightsError
from npmobilenet.models.preprocessing import RAW
from npmobilenet.reference.layers import Activation, BatchNormalization, Conv2D, DepthwiseConv2D, Rescaling
from tests.helpers.keras_files import Twin, application, twin
from tests.helpers.real_files import real_file
from tests.helpers.tolerances import STRUCTURES, rounding
from tests.weights_convert.test_converter import check_equal

pytestmark = pytest.mark.usefixtures("kernels_kept")

Build = Callable[[Any, Any], Any]

MEANS = [0.1, -0.2, 0.3, 0.0, 1.0, -1.0]
VARIANCES = [0.5, 0.7, 1.1, 0.2, 2.0, 0.9]


def mean(k: Any, x: Any, axes: list[int], keepdims: bool) -> Any:
    """The mean as an operation: of `keras.ops` in Keras 3, of TensorFlow in Keras 2."""
    if k.__version__ > "3":
        return k.ops.mean(x, axis=axes, keepdims=keepdims)
    import tensorflow as tf

    return tf.reduce_mean(x, axis=axes, keepdims=keepdims)


def leaky(k: Any, x: Any, slope: float) -> Any:
    """The leaky ReLU as an operation, with a slope."""
    if k.__version__ > "3":
        return k.ops.leaky_relu(x, negative_slope=slope)
    import tensorflow as tf

    return tf.nn.leaky_relu(x, alpha=slope)


HEADS: dict[str, Build] = {
    "activations inside": lambda k, x: k.layers.Conv2D(4, 3, activation="relu", name="a")(x),
    "named activation": lambda k, x: k.layers.Activation("sigmoid")(x),
    "average pooling": lambda k, x: k.layers.AveragePooling2D(3, strides=2, padding="same")(x),
    "max pooling": lambda k, x: k.layers.MaxPooling2D()(x),
    "separable": lambda k, x: k.layers.SeparableConv2D(5, 3, depth_multiplier=2, padding="same", activation="relu")(x),
    "depth multiplier": lambda k, x: k.layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2)(x),
    "batch norm": lambda k, x: k.layers.BatchNormalization(epsilon=0.1, scale=False)(x),
    "plain batch norm": lambda k, x: k.layers.BatchNormalization(center=False)(x),
    "zero padding": lambda k, x: k.layers.ZeroPadding2D((1, 2))(x),
    "softmax": lambda k, x: k.layers.Softmax()(k.layers.Flatten()(x)),
    "relu": lambda k, x: k.layers.ReLU()(x),
    "relu6": lambda k, x: k.layers.ReLU(6.0)(x),
    "reshape": lambda k, x: k.layers.Dense(3)(k.layers.Reshape((-1, 6))(x)),
    "hard sigmoid": lambda k, x: k.layers.Activation("hard_sigmoid")(x),
    "hard sigmoid inside": lambda k, x: k.layers.Conv2D(2, 1, activation="hard_sigmoid")(x),
    "branches": lambda k, x: k.layers.Add()([k.layers.ReLU()(x), k.layers.Conv2D(6, 1)(x), x]),
    "products": lambda k, x: k.layers.Multiply()([x, k.layers.GlobalAveragePooling2D(keepdims=True)(x)]),
    "concatenation": lambda k, x: k.layers.Concatenate()([x, k.layers.ReLU()(x)]),
    "global max pooling": lambda k, x: k.layers.GlobalMaxPooling2D()(x),
    "noise and dropout": lambda k, x: k.layers.GaussianNoise(0.1)(k.layers.SpatialDropout2D(0.3)(x)),
    "arithmetic": lambda k, x: (2.0 - (x * 3.0 + 1.0)) / 4.0 - 0.5,
    "arithmetic of layers": lambda k, x: (x + k.layers.ReLU()(x)) * x,
    "elu": lambda k, x: k.layers.ELU()(k.layers.Conv2D(4, 1, activation="elu")(x)),
    "elu with alpha": lambda k, x: k.layers.ELU(0.5)(k.layers.Conv2D(4, 1, activation=k.layers.ELU(2.0))(x)),
    "softplus": lambda k, x: k.layers.Activation("softplus")(k.layers.Conv2D(4, 1, activation="softplus")(x)),
    "mish": lambda k, x: k.layers.Conv2D(4, 1, activation="mish")(x),
    "selu": lambda k, x: k.layers.Dense(4, activation="selu")(x),
    "functions": lambda k, x: k.activations.tanh(k.activations.softplus(k.activations.selu(x))),
    "elu functions": lambda k, x: k.activations.elu(k.ops.elu(x, alpha=0.5) if k.__version__ > "3" else x),
    "gelu function": lambda k, x: k.activations.gelu(x),
    "approximate gelu function": lambda k, x: k.activations.gelu(x, approximate=True),
    "softmax function": lambda k, x: k.activations.softmax(x),
    "leaky relu function": lambda k, x: leaky(k, x, 0.3),
    "tanh": lambda k, x: k.layers.Activation("tanh")(x),
    "swish": lambda k, x: k.layers.Activation("swish")(k.layers.Dense(4, activation="swish")(x)),
    "gelu": lambda k, x: k.layers.Conv2D(4, 1, activation="gelu")(x),
    "leaky relu": lambda k, x: k.layers.LeakyReLU()(k.layers.Conv2D(4, 1)(k.layers.LeakyReLU(0.1)(x))),
    "leaky relu inside": lambda k, x: k.layers.Conv2D(4, 1, activation=k.layers.LeakyReLU(0.1))(x),
    "leaky relu by name": lambda k, x: k.layers.Conv2D(4, 1, activation="leaky_relu")(x),
    "relu with a slope": lambda k, x: k.layers.ReLU(negative_slope=0.3)(x),
    "prelu": lambda k, x: k.layers.PReLU()(x),
    "shared prelu": lambda k, x: k.layers.PReLU(shared_axes=[1, 2])(x),
    "layer norm": lambda k, x: k.layers.LayerNormalization(epsilon=0.01)(x),
    "plain layer norm": lambda k, x: k.layers.LayerNormalization(center=False, scale=False)(
        k.layers.GlobalAveragePooling2D()(x)
    ),
    "given normalization": lambda k, x: k.layers.Normalization(mean=MEANS, variance=VARIANCES)(x),
    "normalization by one number": lambda k, x: k.layers.Normalization(mean=0.1, variance=0.3)(x),
    "rescaling per channel": lambda k, x: k.layers.Rescaling(VARIANCES, MEANS)(x),
    "rescaling with one offset": lambda k, x: k.layers.Rescaling(VARIANCES, 0.5)(x),
    "resizing": lambda k, x: k.layers.Resizing(9, 5)(x),
    "nearest resizing": lambda k, x: k.layers.Resizing(5, 11, interpolation="nearest")(x),
    "upsampling": lambda k, x: k.layers.UpSampling2D()(x),
    "bilinear upsampling": lambda k, x: k.layers.UpSampling2D((2, 3), interpolation="bilinear")(x),
    "transposed": lambda k, x: k.layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu")(x),
    "transposed valid": lambda k, x: k.layers.Conv2DTranspose(4, (2, 5), strides=3, use_bias=False)(x),
    "mean": lambda k, x: mean(k, x, [1, 2], False),
    "mean with its axes": lambda k, x: mean(k, x, [-2, -3], True),
    "average": lambda k, x: k.layers.Average()([x, k.layers.ReLU()(x), x]),
    "maximum": lambda k, x: k.layers.Maximum()([x, k.layers.Conv2D(6, 1)(x)]),
    "minimum": lambda k, x: k.layers.Minimum()([x, k.layers.Conv2D(6, 1)(x)]),
    "subtract": lambda k, x: k.layers.Subtract()([k.layers.ReLU()(x), x]),
    "difference": lambda k, x: k.layers.ReLU()(x) - x,
    "gate of a vector": lambda k, x: k.layers.Multiply()(
        [x, k.layers.Dense(6, activation="sigmoid")(k.layers.GlobalAveragePooling2D()(x))]
    ),
    "vector added": lambda k, x: k.layers.Add()([k.layers.GlobalAveragePooling2D()(x), x]),
    "mask of a map": lambda k, x: k.layers.Conv2D(1, 1)(x) * x,
    "mask added": lambda k, x: x + k.layers.Conv2D(1, 1)(x),
    "training only": lambda k, x: k.layers.GaussianDropout(0.1)(
        k.layers.RandomContrast(0.1)(k.layers.RandomZoom(0.1)(x))
    ),
    "dilation": lambda k, x: k.layers.Conv2D(4, (3, 2), dilation_rate=2, padding="same")(x),
    "dilation, valid": lambda k, x: k.layers.Conv2D(4, 2, dilation_rate=(3, 3), activation="relu")(x),
    "depthwise dilation": lambda k, x: k.layers.DepthwiseConv2D(3, dilation_rate=2, padding="same")(x),
    "larger than the map": lambda k, x: k.layers.DepthwiseConv2D(5, dilation_rate=4, padding="same", use_bias=False)(x),
    "separable dilation": lambda k, x: k.layers.SeparableConv2D(4, 3, dilation_rate=2, padding="same")(x),
    "one group per channel": lambda k, x: k.layers.Conv2D(6, 3, groups=6, padding="same")(x),
    "several filters per channel": lambda k, x: k.layers.Conv2D(18, 3, groups=6, strides=2, use_bias=False)(x),
    "groups": lambda k, x: k.layers.ReLU()(k.layers.Conv2D(4, 3, groups=2, dilation_rate=2, padding="same")(x)),
    "cropping": lambda k, x: k.layers.Cropping2D(((1, 0), (1, 2)))(x),
    "even cropping": lambda k, x: k.layers.Cropping2D(1)(x),
    "center crop": lambda k, x: k.layers.CenterCrop(3, 4)(x),
    "center crop of a small map": lambda k, x: k.layers.CenterCrop(4, 9)(x),
    "resizing with a crop": lambda k, x: k.layers.Resizing(4, 9, crop_to_aspect_ratio=True)(x),
    "random crop of the same size": lambda k, x: k.layers.RandomCrop(6, 6)(x),
    "relu6 of a dictionary": lambda k, x: k.layers.Conv2D(3, 1, activation="relu6" if k.__version__ > "3" else "relu")(
        x
    ),
}


def network(keras: Any, head: str) -> Twin:
    keras.backend.clear_session()
    image = keras.Input((12, 11, 3))
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False)(image)
    return twin(keras.Model(image, HEADS[head](keras, x)), pixels=False)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
@pytest.mark.parametrize("head", HEADS)
def test_layers_of_a_config_equal_keras(
    request: pytest.FixtureRequest, tmp_path: Path, library: str, head: str, suffix: str
) -> None:
    theirs = network(request.getfixturevalue(library), head)
    model = read_model(theirs.save(tmp_path, suffix))
    for backend in ("reference", "compiled"):
        y = model.forward(theirs.x, backend=backend)
        assert y.shape == theirs.y.shape
        atol = rounding(len(model.graph.layers)) * np.abs(theirs.y).max()
        np.testing.assert_allclose(y, theirs.y, rtol=0, atol=atol, err_msg=backend)


def test_a_convolution_of_one_group_per_channel_becomes_a_depthwise_one(keras: Any, tmp_path: Path) -> None:
    model = read_model(network(keras, "several filters per channel").save(tmp_path, ".keras"))
    layer = model.graph.layers[-1]
    assert isinstance(layer, DepthwiseConv2D)
    assert (layer.depth_multiplier, model.params[f"{layer.name}/kernel"].shape) == (3, (3, 3, 6, 3))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_a_normalization_adapted_to_images_has_its_statistics_in_the_file(
    request: pytest.FixtureRequest, tmp_path: Path, library: str, suffix: str
) -> None:
    keras = request.getfixturevalue(library)
    x = np.random.default_rng(0).uniform(0, 255, (5, 12, 11, 3)).astype(np.float32) ** [1.0, 0.9, 0.8]
    norm = keras.layers.Normalization()
    norm.adapt(x)
    model = keras.Sequential([keras.Input((12, 11, 3)), norm, keras.layers.Conv2D(4, 3)])
    theirs = Twin(model, x[:1], np.asarray(model(x[:1], training=False)))
    read = read_model(theirs.save(tmp_path, suffix))
    assert {f"{norm.name}/mean", f"{norm.name}/variance"} < read.params.keys()
    assert len(read.params) == 4
    assert read.scaling == RAW
    y = read.forward(theirs.x, backend="reference")
    np.testing.assert_allclose(y, theirs.y, rtol=0, atol=rounding(3) * np.abs(theirs.y).max())


@pytest.mark.parametrize(
    "name",
    [
        "elu_head",
        "layernorm_head",
        "leakyrelu_head",
        "normalization_first",
        "ops_mean_instead_of_gap",
        "per_channel_rescaling",
        "resizing_first",
        "swish_head",
        "tanh_head",
        "upsampling",
    ],
)
def test_the_structures_of_public_networks_answer_as_in_keras(name: str) -> None:
    model = read_model(real_file("cases", "structures", f"{name}.keras"), scaling=RAW)  # the oracle's input is 0..255
    oracle = np.load(real_file("cases", "structures", "oracle.npz"))
    for backend in ("reference", "compiled"):
        y = model.forward(oracle["x"], backend=backend)
        np.testing.assert_allclose(y, oracle[f"{name}_0"], rtol=0, atol=STRUCTURES, err_msg=backend)


def test_hard_sigmoid_differs_between_keras_2_and_3(keras: Any, tf_keras: Any, tmp_path: Path) -> None:
    """clip(0.2 x + 0.5, 0, 1) in Keras 2, relu6(x + 3) / 6 in Keras 3: 0.7 and 2/3 at x = 1."""
    answers = {}
    for library in (keras, tf_keras):
        image = library.Input((1, 1, 1))
        theirs = Twin(library.Model(image, library.layers.Activation("hard_sigmoid")(image)), np.empty(0), np.empty(0))
        dense = library.Sequential([theirs.model, library.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
        dense.build((None, 1, 1, 1))
        path = Twin(dense, np.empty(0), np.empty(0)).save(tmp_path, ".keras", library.__name__)
        answers[library.__name__] = read_model(path).forward(np.ones((1, 1, 1, 1), np.float32)).item()
    assert answers == pytest.approx(
        {"keras": 2 / 3, "tf_keras": 0.7}, abs=4 * float(np.finfo(np.float32).eps)
    )  # the constants and sums round five times


def test_a_separable_convolution_becomes_a_depthwise_and_a_pointwise_one(keras: Any, tmp_path: Path) -> None:
    model = read_model(network(keras, "separable").save(tmp_path, ".keras"))
    kinds = [type(layer) for layer in model.graph.layers[2:]]
    assert kinds == [DepthwiseConv2D, Conv2D, Activation]


def test_arithmetic_with_numbers_becomes_rescaling(keras: Any, tmp_path: Path) -> None:
    model = read_model(network(keras, "arithmetic").save(tmp_path, ".keras"))
    layers = [layer for layer in model.graph.layers if isinstance(layer, Rescaling)]
    assert [(layer.scale, layer.offset) for layer in layers] == [(3, 0), (1, 1), (-1, 2), (0.25, 0), (1, -0.5)]


REFUSED: dict[str, tuple[Build, str]] = {
    "unknown": (
        lambda k, x: k.layers.GroupNormalization(3, name="n")(x),
        r"n \(GroupNormalization\): is not supported",
    ),
    "dilation": (
        lambda k, x: k.layers.Conv2D(2, 3, dilation_rate=(1, 2), name="c")(x),
        r"c \(Conv2D\): dilation_rate \(1, 2\) is not supported",
    ),
    "transposed dilation": (
        lambda k, x: k.layers.Conv2DTranspose(2, 3, dilation_rate=2, name="t")(x),
        r"t \(Conv2DTranspose\): dilation other than 1 is not supported",
    ),
    "strides": (
        lambda k, x: k.layers.Conv2D(2, 3, strides=(1, 2), name="c")(x),
        r"c \(Conv2D\): strides \(1, 2\) are not",
    ),
    "axis": (
        lambda k, x: k.layers.BatchNormalization(axis=1, name="b")(x),
        r"b \(BatchNorm.*\): normalization of axis 1",
    ),
    "slope": (lambda k, x: k.layers.ReLU(6.0, negative_slope=0.1, name="r")(x), r"r \(ReLU\): a negative slope"),
    "ceiling": (lambda k, x: k.layers.ReLU(5.0, name="r")(x), r"r \(ReLU\): max_value=5"),
    "activation": (
        lambda k, x: k.layers.Dense(2, activation="softsign", name="d")(x),
        r"d \(Dense\): activation softsign is not",
    ),
    "lambda": (lambda k, x: k.layers.Lambda(lambda y: y, name="l")(x), r"l \(Lambda\): contains code"),
    "output padding": (
        lambda k, x: k.layers.Conv2DTranspose(2, 3, strides=2, output_padding=1, name="t")(x),
        r"t \(Conv2DTranspose\): output_padding=.* is not supported",
    ),
    "interpolation": (
        lambda k, x: k.layers.Resizing(4, 4, interpolation="bicubic", name="r")(x),
        r"r \(Resizing\): interpolation bicubic is not supported",
    ),
    "layer norm axis": (
        lambda k, x: k.layers.LayerNormalization(axis=1, name="n")(x),
        r"n \(LayerNormalization\): normalization of axis 1",
    ),
    "inverted": (
        lambda k, x: k.layers.Normalization(mean=[1.0] * 6, variance=[1.0] * 6, invert=True, name="n")(x),
        r"n \(Normalization\): invert is not supported",
    ),
    "random crop": (
        lambda k, x: (
            k.layers.RandomCrop(4, 4, name="r")(x) if k.__version__ > "3" else k.layers.Softmax(1, name="r")(x)
        ),
        r"r \(.*\): (Keras 3 hands 8 x 8 pixels on uncropped|axis 1)",
    ),
    "softmax": (lambda k, x: k.layers.Softmax(axis=1, name="s")(x), r"s \(Softmax\): axis 1 is not"),
    "division": (lambda k, x: 1.0 / x, "division by a layer"),
}


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
@pytest.mark.parametrize("case", REFUSED)
def test_unsupported_layers_are_refused_by_name_and_class(
    request: pytest.FixtureRequest, tmp_path: Path, library: str, case: str
) -> None:
    keras = request.getfixturevalue(library)
    image = keras.Input((8, 8, 6))
    build, message = REFUSED[case]
    x = keras.layers.Dense(6)(image)
    theirs = Twin(keras.Model(image, build(keras, x)), np.empty(0), np.empty(0))
    with pytest.raises(WeightsError, match=message):
        read_model(theirs.save(tmp_path, ".h5"))


def test_all_unsupported_layers_are_in_one_message(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    base = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(2, 3, groups=1), layers.GroupNormalization(1, name="one")]
    )
    base.name = "base"
    model = keras.Sequential(
        [base, layers.UnitNormalization(name="two"), layers.Flatten(), layers.Dense(2, activation="softsign")]
    )
    theirs = Twin(model, np.empty(0), np.empty(0))
    with pytest.raises(WeightsError, match=r"(?s)3 layers.*base/one \(GroupNorm.*two \(UnitNorm.*dense.* \(Dense\)"):
        read_model(theirs.save(tmp_path, ".keras"))


def test_channels_first_is_refused(keras: Any, tmp_path: Path) -> None:
    import json
    import zipfile

    path = Twin(application(keras, "v1"), np.empty(0), np.empty(0)).save(tmp_path, ".keras")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = members["config.json"].replace(b"channels_last", b"channels_first")
    assert json.loads(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, config if name == "config.json" else content)
    with pytest.raises(WeightsError, match=r"conv1 \(Conv2D\): channels first is not supported"):
        read_model(path)


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_unsupported_wiring_is_refused(request: pytest.FixtureRequest, tmp_path: Path, library: str) -> None:
    keras = request.getfixturevalue(library)
    a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    shared = keras.layers.Conv2D(3, 1, name="shared")
    vector = keras.Input((3,))
    models = {
        "used more than once": keras.Model(a, shared(shared(a))),
        "2 inputs; only one is supported": keras.Model([a, b], keras.layers.Add()([shared(a), b])),
        "expected an input of shape .batch, H, W, C.": keras.Model(vector, keras.layers.Dense(2)(vector)),
    }
    for reason, model in models.items():
        with pytest.raises(WeightsError, match=reason):
            read_model(Twin(model, np.empty(0), np.empty(0)).save(tmp_path, ".keras"))


def test_dropped_layers_are_no_ops_at_inference(keras: Any) -> None:
    """Checked against Keras: each layer in the list, called as at inference, returns its input."""
    x = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    numbers: dict[str, tuple[Any, ...]] = {"RandomTranslation": (0.2, 0.2), "RandomPosterization": (4,)}
    plain: tuple[str, ...] = (
        "AugMix",
        "CutMix",
        "MixUp",
        "RandAugment",
        "Equalization",
        "Identity",
        "ActivityRegularization",
    )
    plain += ("RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale")
    plain += ("RandomInvert", "RandomPerspective", "RandomShear", "Solarization", "RandomColorJitter")
    for name in sorted(TRAINING_ONLY):
        if hasattr(keras.layers, name):
            layer = getattr(keras.layers, name)(*numbers.get(name, () if name in plain else (0.5,)))
            np.testing.assert_array_equal(np.asarray(layer(x, training=False)), x, err_msg=name)


def test_batch_normalization_by_the_statistics_of_the_batch_is_refused(tf_keras: Any, tmp_path: Path) -> None:
    image = tf_keras.Input((8, 8, 3))
    model = tf_keras.Model(image, tf_keras.layers.BatchNormalization(name="b")(image, training=True))
    with pytest.raises(WeightsError, match=r"b \(BatchNormalization\): called with training=True"):
        read_model(Twin(model, np.empty(0), np.empty(0)).save(tmp_path, ".h5"))


def test_a_sequential_model_without_an_input_shape_is_refused(keras: Any, tmp_path: Path) -> None:
    import json
    import zipfile

    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.BatchNormalization()])
    path = Twin(model, np.empty(0), np.empty(0)).save(tmp_path, ".keras")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    del config["config"]["layers"][0], config["config"]["build_input_shape"], config["build_config"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, json.dumps(config) if name == "config.json" else content)
    with pytest.raises(WeightsError, match=r"expected an input of shape \(batch, H, W, C\)"):
        read_model(path)


def test_batch_normalization_keeps_the_epsilon_of_its_config(keras: Any, tmp_path: Path) -> None:
    model = read_model(network(keras, "batch norm").save(tmp_path, ".keras"))
    layer = next(layer for layer in model.graph.layers if isinstance(layer, BatchNormalization))
    assert (layer.epsilon, layer.scale, layer.center) == (0.1, False, True)
    assert "gamma" not in model.graph.param_shapes_of(layer)


def test_an_input_of_one_channel_is_supported(keras: Any, tmp_path: Path) -> None:
    theirs = twin(application(keras, "v1", input_shape=(32, 48, 1)), pixels=False)
    check_equal(read_model(theirs.save(tmp_path, ".keras")), theirs)
