"""Facts that weights do not specify: assumptions are reported until confirmed, ambiguities are refused."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_weights_convert import read_model
from npmobilenet_weights_convert.assumptions import with_hidden_activation

from npmobilenet import AssumptionWarning, ShapeError, WeightsError, architectures
from npmobilenet.errors import ArgumentError
from npmobilenet.hub.load import load
from npmobilenet.models.preprocessing import RAW, SYMMETRIC, UNIT, Scaling
from tests.helpers.command_line import run
from tests.helpers.keras_files import Twin, application, twin
from tests.helpers.real_files import real_file
from tests.helpers.tolerances import PROBABILITIES, rounding

pytestmark = pytest.mark.usefixtures("kernels_kept")

V1 = ((1, 16), (2, 32), (1, 32), (2, 64), (1, 64), (2, 128), *[(1, 128)] * 5, (2, 256), (1, 256))
ARCH = ["--arch", "mobilenet_v1", "--alpha", "0.25", "--resolution", "32"]


def by_hand(keras: Any, activation: str, classes: int = 5, last: str = "softmax", first: Any = None) -> Twin:
    """A hand-written V1: other names, SAME padding, any activation."""
    keras.backend.clear_session()
    layers = keras.layers
    entrance = keras.Input((32, 32, 3))
    x = entrance if first is None else first(entrance)
    x = layers.Activation(activation)(layers.BatchNormalization()(layers.Conv2D(8, 3, 2, "same", use_bias=False)(x)))
    for stride, channels in V1:
        x = layers.DepthwiseConv2D(3, stride, "same", use_bias=False)(x)
        x = layers.Activation(activation)(layers.BatchNormalization()(x))
        x = layers.Conv2D(channels, 1, use_bias=False)(x)
        x = layers.Activation(activation)(layers.BatchNormalization()(x))
    x = layers.Conv2D(classes, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    theirs = twin(keras.Model(entrance, layers.Activation(last)(layers.Flatten()(x))), pixels=False)
    for layer in theirs.model.layers:  # livelier weights: values beyond 6
        if "batch_normalization" in layer.name:
            gamma, *others = layer.get_weights()
            layer.set_weights([1.5 * gamma, *others])
    return Twin(theirs.model, theirs.x, np.asarray(theirs.model(theirs.x, training=False)))


def assert_equals(theirs: Twin, model: Any) -> None:
    y = model.forward(theirs.x, backend="reference")
    atol = rounding(len(model.graph.layers)) * max(1.0, float(np.abs(theirs.y).max()))
    np.testing.assert_allclose(y, theirs.y, rtol=0, atol=atol)


def test_the_assumptions_of_a_match_by_order_are_reported_at_every_use_until_confirmed(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    theirs = by_hand(keras, "relu")
    source = theirs.save(tmp_path, ".weights.h5", "mine_128")
    assumed = read_model(source).source["assumed"]
    for fact in ("by layer order", "relu6", "epsilon 0.001", "((0, 1), (0, 1))", "softmax is assumed"):
        assert fact in assumed
    with pytest.warns(AssumptionWarning, match="relu6"):
        load(source)
    code, _, err = run("convert", source)
    assert code == 0
    assert assumed in err
    with pytest.warns(AssumptionWarning, match="relu6"):
        assert load("mine_128.safetensors").source["assumed"] == assumed
    from PIL import Image

    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("image.png")
    for command in (["classify"], ["bounds"], ["trace", "-o", "pack"]):
        _, _, err = run(*command, "image.png", "-m", "mine_128.safetensors")
        assert assumed in err
    assert assumed in run("verify", "mine_128.safetensors")[2]

    confirming = shlex.split(assumed.rpartition("to confirm it: ")[2])[1:]
    assert run(*confirming, "--force")[0] == 0  # the command in the message is complete
    model = load("mine_128.safetensors")  # without a warning
    assert "assumed" not in model.source
    assert "relu6" in model.source["given"]


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_the_activation_can_be_specified(keras: Any, tmp_path: Path, activation: str) -> None:
    theirs = by_hand(keras, activation, last="linear")
    source, out = theirs.save(tmp_path, ".weights.h5"), tmp_path / "out.safetensors"
    options = [*ARCH, "--classes", 5, "--activation", "linear", "--hidden-activation", activation, "-o", out]
    assert run("convert", source, *options)[0] == 0
    assert_equals(theirs, load(out))
    assert load(out).source["given"].startswith(f"{activation}, ")
    graph = architectures.mobilenet_v1(0.25, 32, classes=5, classifier_activation=None)
    other = read_model(source, graph=with_hidden_activation(graph, {"relu": "relu6", "relu6": "relu"}[activation]))
    assert (
        np.abs(other.forward(theirs.x) - theirs.y).max() > 0.1 * np.abs(theirs.y).max()
    )  # the wrong activation is not equal


@pytest.mark.parametrize("activation", [None, "relu6"])
def test_a_hidden_activation_that_was_not_specified_is_reported(
    keras: Any, tmp_path: Path, activation: str | None
) -> None:
    source, out = by_hand(keras, "relu").save(tmp_path, ".weights.h5"), tmp_path / "out.safetensors"
    options = [*ARCH, "--classes", 5, "--activation", "softmax", "-o", out]
    options += [] if activation is None else ["--hidden-activation", activation]
    code, printed, _ = run("convert", source, *options)
    assert code == 0
    reported = "hidden activation was not specified: relu6, the default of mobilenet_0.25_32"
    for text in (load(out).source["given"], " ".join(printed.split())):
        assert (reported in text) == (activation is None)


def test_the_hidden_activation_of_layers_with_published_names_is_not_reported(tf_keras: Any, tmp_path: Path) -> None:
    source = twin(application(tf_keras, "v1", classes=5), pixels=False).save(tmp_path, "_weights.h5")
    given = read_model(source, graph=architectures.mobilenet_v1(0.25, 32, classes=5)).source["given"]
    assert "not specified" not in given


def test_a_hidden_activation_requires_a_graph(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="requires graph"):
        read_model(tmp_path / "x.h5", hidden_activation="relu")


def test_layers_named_as_in_keras_applications_need_no_assumption(tf_keras: Any, tmp_path: Path) -> None:
    theirs = twin(application(tf_keras, "v1", classes=1000), pixels=False)
    assert "assumed" not in read_model(theirs.save(tmp_path, "_weights.h5", "v1_128")).source


@pytest.mark.parametrize("last", ["sigmoid", "linear"])
def test_a_single_output_requires_its_activation(keras: Any, tmp_path: Path, last: str) -> None:
    theirs = twin(application(keras, "v2", classes=1, classifier_activation=last), pixels=False)
    source, out = theirs.save(tmp_path, ".weights.h5"), tmp_path / "out.safetensors"
    arch = ["--arch", "mobilenet_v2", "--alpha", "0.35", "--resolution", "32", "--classes", 1]
    code, _, err = run("convert", source)
    assert code == 1
    assert "--arch mobilenet_v2 --alpha 0.35 --classes 1 --activation sigmoid" in err
    assert run("convert", source, *arch)[0] == 2
    code, _, err = run("convert", source, *arch, "--activation", "softmax")
    assert code == 1
    assert "is 1 for every image" in err
    assert run("convert", source, *arch, "--activation", last, "-o", out)[0] == 0
    assert_equals(theirs, load(out))
    assert not list(tmp_path.glob("network.safetensors"))


def test_a_custom_head_requires_its_activation(keras: Any, tmp_path: Path) -> None:
    theirs = twin(application(keras, "v1", classes=5, classifier_activation="sigmoid"), pixels=False)
    source, out = theirs.save(tmp_path, ".weights.h5"), tmp_path / "out.safetensors"
    code, _, err = run("convert", source, *ARCH, "--classes", 5)
    assert code == 2
    assert "--activation" in err
    assert run("convert", source, *ARCH, "--classes", 5, "--activation", "sigmoid", "-o", out)[0] == 0
    assert_equals(theirs, load(out))


def test_contradictory_options_are_usage_errors(tmp_path: Path) -> None:
    for options in (
        ["--activation", "sigmoid"],
        ["--hidden-activation", "relu"],
        [*ARCH, "--no-top", "--activation", "sigmoid"],
        [*ARCH, "--no-top", "--classes", "3"],
        ["--arch", "mobilenet_v3_small", "--hidden-activation", "relu"],
    ):
        assert run("convert", "x.h5", *options)[0] == 2
    with pytest.raises(ShapeError, match="expected one of relu6, relu"):
        with_hidden_activation(architectures.mobilenet_v1(), "tanh")


def with_hidden_normalization(keras: Any, how: str) -> Any:
    """A V1 whose Normalization is an attribute of the model, or of one of its layers."""
    base = application(keras, "v1", classes=5)

    class Preprocessing(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm = keras.layers.Normalization()

        def build(self, shape: Any) -> None:
            self.norm.build(shape)
            self.built = True

        def call(self, x: Any) -> Any:
            return self.norm(x)

    if how == "inside a layer":
        return keras.Sequential([keras.Input((32, 32, 3)), Preprocessing(), *base.layers[1:]])
    network = keras.Sequential([keras.Input((32, 32, 3)), *base.layers[1:]])
    network.normalizer = keras.layers.Normalization()
    network.normalizer.build((None, 32, 32, 3))
    return network


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
@pytest.mark.parametrize("how", ["inside a layer", "attribute of the model"])
def test_arrays_that_belong_to_no_layer_are_named_and_refused(
    request: pytest.FixtureRequest, tmp_path: Path, library: str, how: str
) -> None:
    path = tmp_path / "network.weights.h5"
    network = with_hidden_normalization(request.getfixturevalue(library), how)
    network.compile("adam", "mse")
    network.save_weights(str(path))
    graph = architectures.mobilenet_v1(0.25, 32, classes=5, classifier_activation=None)
    for given in (None, graph):
        with pytest.raises(WeightsError, match=r"(?s)3 arrays belong to no layer.*norm\w*/vars/0 \(3,\)"):
            read_model(path, graph=given)


def test_optimizer_state_is_not_left_over(keras: Any, tmp_path: Path) -> None:
    network = application(keras, "v1", classes=5)
    network.compile("adam", "mse", metrics=["mae"])
    network.optimizer.build(network.trainable_variables)
    path = twin(network, pixels=False).save(tmp_path, ".weights.h5")
    read_model(path, graph=architectures.mobilenet_v1(0.25, 32, classes=5))


def test_a_graph_that_differs_from_the_config_of_the_file_is_noted(keras: Any, tmp_path: Path) -> None:
    theirs = by_hand(keras, "relu")
    source = theirs.save(tmp_path, ".keras")
    note = read_model(source, graph=architectures.mobilenet_v1(0.25, 32, classes=5)).source["notes"]
    assert "describes another network (relu, " in note
    own = read_model(source)
    assert "notes" not in own.source or "another network" not in own.source["notes"]
    assert_equals(theirs, read_model(source, graph=own.graph))


def test_a_softmax_over_one_class_in_a_whole_model_is_noted(keras: Any, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="always return the value 1"):  # Keras warns, too
        path = twin(application(keras, "v1", classes=1), pixels=False).save(tmp_path, ".keras")
    assert "softmax over one class" in read_model(path).source["notes"]


def test_specified_facts_are_printed_and_stored(keras: Any, tmp_path: Path) -> None:
    source = by_hand(keras, "relu6").save(tmp_path, ".weights.h5")
    out = tmp_path / "out.safetensors"
    options = [*ARCH, "--classes", 5, "--activation", "softmax", "-o", out, "--json"]
    document = json.loads(run("convert", source, *options)[1])
    assert document["given"] == load(out).source["given"]
    assert "epsilon 0.001, softmax after the classifier" in document["given"]


# Scaling of pixels


def rescaled_after(keras: Any, kind: str) -> Twin:
    """A network whose Rescaling is not its first layer."""
    layers = keras.layers
    keras.backend.clear_session()
    channels = 1 if kind == "concatenate" else 3
    x = entrance = keras.Input((32, 32, channels))
    if kind == "concatenate":
        x = layers.Concatenate()([x, x, x])
    elif kind == "branches":
        x = layers.Concatenate()([layers.Rescaling(1 / 255)(x), layers.Rescaling(1 / 127.5, -1)(x)])
    else:
        x = {
            "padding": layers.ZeroPadding2D(2),
            "average": layers.AveragePooling2D(2),
            "largest": layers.MaxPooling2D(),
            "reshape": layers.Reshape((16, 64, 3)),
            "dropout": layers.Dropout(0.1),
            "linear": layers.Activation("linear"),
        }[kind](x)
    if kind != "branches":
        x = layers.Rescaling(1 / 127.5, -1)(x)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, 2, activation="relu")(x))
    return twin(keras.Model(entrance, layers.Dense(3, activation="softmax")(x)), pixels=True)


@pytest.mark.parametrize(
    "kind", ["concatenate", "branches", "padding", "average", "largest", "reshape", "dropout", "linear"]
)
def test_a_rescaling_after_layers_that_keep_pixels_is_found(keras: Any, tmp_path: Path, kind: str) -> None:
    theirs = rescaled_after(keras, kind)
    model = read_model(theirs.save(tmp_path, ".keras"))
    assert model.scaling == RAW
    assert "scaled" not in model.source.get("notes", "")
    np.testing.assert_allclose(model.predict(theirs.x), theirs.y, atol=PROBABILITIES)


def test_a_rescaling_after_arithmetic_does_not_determine_the_scaling(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    entrance = keras.Input((32, 32, 3))
    x = layers.Rescaling(2.0)(layers.Conv2D(4, 3)(entrance))
    skipped = layers.Concatenate()([layers.Rescaling(2.0)(entrance), layers.Conv2D(4, 3, padding="same")(entrance)])
    for y in (x, skipped):
        network = keras.Model(entrance, layers.Dense(3)(layers.GlobalAveragePooling2D()(y)))
        model = read_model(twin(network, pixels=False).save(tmp_path, ".keras"))
        assert model.scaling == SYMMETRIC
        assert "[-1, 1] is assumed" in model.source["range"]


@pytest.mark.parametrize(
    ("rescalings", "scaling"),
    [
        ([(2, -1)], UNIT),
        ([(255, 0), (1 / 127.5, -1)], UNIT),  # V3's own Rescaling after one that undoes a division by 255
        ([(2, 0), (1, -255), (1 / 255, 0)], RAW),  # arithmetic step by step: in the end [-1, 1]
        ([(1, -127.5)], RAW),
    ],
)
def test_a_rescaling_for_pixels_in_0_to_1_is_not_taken_for_one_in_0_to_255(
    keras: Any, tmp_path: Path, rescalings: list[tuple[float, float]], scaling: Scaling
) -> None:
    layers = keras.layers
    x = entrance = keras.Input((32, 32, 3))
    for scale, offset in rescalings:
        x = layers.ZeroPadding2D(1)(layers.Rescaling(scale, offset)(x))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, 2, activation="relu")(x))
    model = read_model(twin(keras.Model(entrance, layers.Dense(3)(x)), pixels=False).save(tmp_path, ".keras"))
    assert model.scaling == scaling
    assert ("input in 0..1 is assumed" in model.source.get("range", "")) == (scaling == UNIT)


def test_a_gray_image_three_times_equals_keras() -> None:
    path = real_file("cases", "rescaling_not_first") / "grey_concat_rescaling.keras"
    oracle, kind = np.load(path.parent / "oracle.npz"), path.name.partition("_")[0]
    y = read_model(path).predict(oracle[f"px_{kind}"].astype(np.float32))
    np.testing.assert_allclose(y, oracle[kind], atol=PROBABILITIES)


def test_a_policy_of_lower_precision_is_noted() -> None:
    model = read_model(real_file("cases", "mixed_float16", "model.keras"))
    assert model.source["notes"] == "trained with policy mixed_float16; computed in float32"  # in one sentence
    oracle = np.load(real_file("cases", "mixed_float16", "oracle.npz"))
    y = model.forward(oracle["x"].astype(np.float32), backend="reference")
    (name,) = set(oracle.files) - {"x"}
    assert np.abs(y - oracle[name]).max() <= 1e-3  # the case's README: float16 has 11 bits
