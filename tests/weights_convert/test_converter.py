"""Every format that Keras writes: bit-exact arrays, and outputs equal to Keras's up to rounding."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_weights_convert import convert_file, read_model

from npmobilenet import architectures
from npmobilenet.errors import WeightsError
from npmobilenet.models.labels import BACKGROUND, imagenet_labels
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import RAW, SYMMETRIC, UNIT, Scaling
from tests.helpers.keras_files import FORMATS_2, FORMATS_3, PIXELS, Twin, application, fine_tuned, twin
from tests.helpers.real_files import real_file
from tests.helpers.tolerances import rounding

APPLICATIONS = ("v1", "v2", "v3", "v3_minimalistic")
FINE_TUNED = ("sequential", "functional", "preprocessed", "flat", "nested_twice")


def check_equal(model: Model, theirs: Twin) -> None:
    ours = list(model.params.values())
    arrays = theirs.arrays()
    assert len(ours) == len(arrays)
    for name, a, b in zip(model.params, ours, arrays, strict=True):
        assert a.dtype == np.float32, name
        np.testing.assert_array_equal(a, b, err_msg=name)
    y = model.forward(theirs.x, backend="reference")
    assert y.shape == theirs.y.shape
    np.testing.assert_allclose(y, theirs.y, rtol=0, atol=rounding(len(model.graph.layers)) * np.abs(theirs.y).max())


_twins: dict[tuple[str, str], Twin] = {}


def made(library: Any, name: str) -> Twin:
    key = (library.__name__, name)
    if key not in _twins:
        model = application(library, name) if name in APPLICATIONS else fine_tuned(library, name)
        _twins[key] = twin(model, pixels=name in PIXELS)
    return _twins[key]


@pytest.mark.parametrize("suffix", FORMATS_3)
@pytest.mark.parametrize("name", APPLICATIONS)
def test_networks_saved_by_keras_3_equal_keras(keras: Any, tmp_path: Path, name: str, suffix: str) -> None:
    theirs = made(keras, name)
    model = read_model(theirs.save(tmp_path, suffix))
    if suffix != ".weights.h5":
        assert model.graph.input_shape == (32, 32, 3)
    check_equal(model, theirs)
    assert model.source["matched_by"] == "current Keras names"
    assert model.scaling == (RAW if name in PIXELS else SYMMETRIC)


@pytest.mark.parametrize("suffix", FORMATS_2)
@pytest.mark.parametrize("name", APPLICATIONS)
def test_networks_saved_by_keras_2_equal_keras(tf_keras: Any, tmp_path: Path, name: str, suffix: str) -> None:
    theirs = made(tf_keras, name)
    model = read_model(theirs.save(tmp_path, suffix))
    check_equal(model, theirs)
    if suffix in (".keras", ".weights.h5"):
        assert model.source["matched_by"] == "layer order"  # the format stores no names
    elif name.startswith("v3"):
        assert model.source["matched_by"] == "legacy Keras names: MobileNetV3 of 2020"
    else:
        assert model.source["matched_by"] == "current Keras names"


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", FINE_TUNED)
def test_fine_tuned_networks_of_keras_3_equal_keras(keras: Any, tmp_path: Path, name: str, suffix: str) -> None:
    theirs = made(keras, name)
    model = read_model(theirs.save(tmp_path, suffix))
    check_equal(model, theirs)
    assert model.scaling == (RAW if name in PIXELS else SYMMETRIC)
    assert model.labels == ()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", FINE_TUNED)
def test_fine_tuned_networks_of_keras_2_equal_keras(tf_keras: Any, tmp_path: Path, name: str, suffix: str) -> None:
    theirs = made(tf_keras, name)
    model = read_model(theirs.save(tmp_path, suffix))
    check_equal(model, theirs)
    assert model.scaling == (RAW if name in PIXELS else SYMMETRIC)


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
@pytest.mark.parametrize("name", ["sequential", "functional"])
def test_weights_of_a_fine_tuned_network_are_assumed_or_refused_without_its_graph(
    request: pytest.FixtureRequest, tmp_path: Path, library: str, name: str
) -> None:
    theirs = made(request.getfixturevalue(library), name)
    graph = read_model(theirs.save(tmp_path, ".keras")).graph
    weights = theirs.save(tmp_path, ".weights.h5")
    if name == "functional":  # one output
        with pytest.raises(WeightsError, match=r"(?s)network\.weights\.h5.*no config.*\.keras"):
            read_model(weights)
    else:
        assert "global average pooling" in read_model(weights).source["assumed"]
    confirmed = read_model(weights, graph=graph)
    assert "assumed" not in confirmed.source
    check_equal(confirmed, theirs)


def test_weights_of_a_fine_tuned_network_in_the_published_layout_need_its_graph(tf_keras: Any, tmp_path: Path) -> None:
    theirs = made(tf_keras, "functional")
    graph = read_model(theirs.save(tmp_path, ".keras")).graph
    weights = theirs.save(tmp_path, "_weights.h5")
    with pytest.raises(WeightsError, match="no config"):
        read_model(weights)
    check_equal(read_model(weights, graph=graph), theirs)


def test_layers_of_a_nested_model_are_named_outer_inner(keras: Any, tmp_path: Path) -> None:
    model = read_model(made(keras, "nested_twice").save(tmp_path, ".keras"))
    assert "body/mobilenet_0.25_32/conv1/kernel" in model.params


def test_optimizer_state_is_ignored(keras: Any, tmp_path: Path) -> None:
    network = application(keras, "v1", include_top=False, pooling="avg")
    network.compile("adam", "mse")
    network.optimizer.build(network.trainable_variables)
    theirs = twin(network, pixels=False)
    model = read_model(theirs.save(tmp_path, ".keras"))
    check_equal(model, theirs)
    for suffix in (".h5", ".weights.h5"):
        check_equal(read_model(theirs.save(tmp_path, suffix), graph=model.graph), theirs)


def test_a_converted_file_contains_the_same_model(keras: Any, tmp_path: Path) -> None:
    source = made(keras, "v1").save(tmp_path, ".keras")
    model = convert_file(source, tmp_path / "out" / "network.safetensors")
    again = read_model(tmp_path / "out" / "network.safetensors")
    assert again.failed_checks() == []
    assert again.graph == model.graph
    assert again.source == model.source
    assert again.source["file"] == "network.keras"
    assert again.source["keras_version"].startswith("3.")
    assert len(again.source["sha256"]) == 64
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["network.safetensors"]


def test_scaling_and_labels_can_be_given(keras: Any, tmp_path: Path) -> None:
    path = made(keras, "sequential").save(tmp_path, ".keras")
    model = read_model(path, scaling=UNIT, labels=list("abcde"))
    assert model.scaling == Scaling(1 / 255)
    assert model.labels == tuple(("", letter) for letter in "abcde")
    with pytest.raises(WeightsError, match="expected 5 labels"):
        read_model(path, labels=["only one"])


def test_a_model_for_any_input_size_is_read_at_224_with_a_note(keras: Any, tmp_path: Path) -> None:
    network = application(keras, "v1", include_top=False, input_shape=(None, None, 3))
    network.save(tmp_path / "any.keras")
    network.save(tmp_path / "mobilenet_2_5_160_tf_no_top.keras")
    model = read_model(tmp_path / "any.keras")
    assert model.graph.input_shape == (224, 224, 3)
    assert "224 x 224 is assumed" in model.source["notes"]
    assert read_model(tmp_path / "mobilenet_2_5_160_tf_no_top.keras").graph.input_shape == (160, 160, 3)


@pytest.mark.parametrize(
    ("file", "matched_by"),
    [
        ("mobilenet_v1_0.25_224_imagenet.h5", "current Keras names"),
        ("mobilenet_v2_1.0_224_imagenet.h5", "legacy Keras names: MobileNetV2 of 2018"),
        ("mobilenet_v3_small_1.0_224_imagenet.h5", "legacy Keras names: MobileNetV3 of 2020"),
    ],
)
def test_published_files_are_recognized_by_their_arrays(file: str, matched_by: str) -> None:
    model = read_model(real_file("weights", file))
    assert model.source["matched_by"] == matched_by
    assert model.graph.input_shape == (224, 224, 3)
    assert model.labels == imagenet_labels()
    expected = {
        "mobilenet_v1_0.25_224_imagenet.h5": architectures.mobilenet_v1(0.25),
        "mobilenet_v2_1.0_224_imagenet.h5": architectures.mobilenet_v2(),
        "mobilenet_v3_small_1.0_224_imagenet.h5": architectures.mobilenet_v3_small(),
    }[file]
    assert model.graph == expected


def test_the_person_detector_of_keras_2_loads_by_its_own_config(tf_keras: Any) -> None:
    path = real_file("weights", "vww_96.h5")
    network = tf_keras.models.load_model(str(path), compile=False)
    x = np.random.default_rng(0).uniform(0, 1, (1, 96, 96, 3)).astype(np.float32)
    theirs = Twin(network, x, np.asarray(network(x, training=False)))
    model = read_model(path)
    check_equal(model, theirs)
    assert "scaled" in model.source["range"]


def rename(path: Path, rules: Any) -> None:
    """Give the layers of a weights file other names, in place."""
    import h5py

    with h5py.File(path, "r+") as file:
        root = file.get("model_weights", file)
        names = [rules(str(name)) for name in root.attrs["layer_names"]]
        for old, new in zip([str(name) for name in root.attrs["layer_names"]], names, strict=True):
            if old != new:
                root.move(old, new)
                weights = [str(weight) for weight in root[new].attrs["weight_names"]]
                root[new].attrs["weight_names"] = [weight.replace(f"{old}/", f"{new}/", 1) for weight in weights]
                if old in root[new]:
                    root[new].move(old, new)
        root.attrs["layer_names"] = names


def test_weights_with_other_names_are_matched_by_layer_order(keras: Any, tf_keras: Any, tmp_path: Path) -> None:
    theirs = made(tf_keras, "v2")
    path = theirs.save(tmp_path, "_weights.h5")
    rename(path, lambda name: name[::-1])
    model = read_model(path)
    check_equal(model, theirs)
    assert model.source["matched_by"] == "layer order"


def test_a_published_network_has_its_own_epsilon_despite_the_config(keras: Any, tmp_path: Path) -> None:
    import h5py

    theirs = twin(application(keras, "v2", include_top=False), pixels=False)
    path = theirs.save(tmp_path, ".h5")
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"epsilon": 0.001', '"epsilon": 1e-05')
    model = read_model(path)
    check_equal(model, theirs)
    assert "epsilon 1e-05 was replaced by 0.001" in model.source["notes"]


def test_a_network_with_a_custom_head_keeps_the_epsilon_of_its_config(keras: Any, tmp_path: Path) -> None:
    network = application(keras, "v2")
    config = network.get_config()
    for layer in config["layers"]:
        if layer["class_name"] == "BatchNormalization":
            layer["config"]["epsilon"] = 1e-5
    theirs = twin(keras.Model.from_config(config), pixels=False)
    check_equal(read_model(theirs.save(tmp_path, ".keras")), theirs)


def test_a_background_class_is_refused_unless_requested(keras: Any, tmp_path: Path) -> None:
    theirs = twin(application(keras, "v1", classes=1001), pixels=False)
    path = theirs.save(tmp_path, ".weights.h5")
    with pytest.raises(WeightsError, match="background class: expected 1000 outputs, got 1001"):
        read_model(path)
    with pytest.raises(WeightsError, match="background class"):
        read_model(path, graph=architectures.mobilenet_v1(0.25))
    model = read_model(path, graph=architectures.mobilenet_v1(0.25, 32, classes=1001))
    check_equal(model, theirs)
    assert model.background
    assert model.labels[0] == imagenet_labels()[0] != BACKGROUND


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"alpha": 0.75}, "mobilenet_v1, alpha 0.25, 10 outputs"),
        ({"alpha": 0.25, "include_top": False}, "mobilenet_v1, alpha 0.25, 10 outputs"),
    ],
)
def test_weights_of_another_network_are_recognized_in_the_error(
    keras: Any, tmp_path: Path, arguments: dict[str, Any], reason: str
) -> None:
    path = made(keras, "v1").save(tmp_path, ".weights.h5")
    with pytest.raises(WeightsError, match=reason):
        read_model(path, graph=architectures.mobilenet_v1(**arguments))


def test_all_mismatches_are_in_one_message(tf_keras: Any, tmp_path: Path) -> None:
    import h5py

    path = made(tf_keras, "v1").save(tmp_path, "_weights.h5")
    with h5py.File(path, "r+") as file:
        names = [str(name) for name in file.attrs["layer_names"]]
        file.attrs["layer_names"] = [name for name in names if name != "conv_dw_3"]
        file["conv_pw_5"].attrs["weight_names"] = ["conv_pw_5/kernel:0", "conv_pw_5/surprise:0"]
        file["conv_pw_5/conv_pw_5/surprise:0"] = np.zeros(3, np.float32)
        del file["conv1/conv1/kernel:0"]
        file["conv1/conv1/kernel:0"] = np.zeros((3, 3, 3, 9), np.float32)
    with pytest.raises(WeightsError) as caught:
        read_model(path)
    message = str(caught.value)
    assert "network_weights.h5" in message
    assert "missing: conv_dw_3/kernel (3, 3, 32, 1)" in message
    assert "unexpected: conv_pw_5/surprise (3,)" in message
    assert "wrong shape: conv1/kernel: expected (3, 3, 3, 8) for conv1/kernel, got (3, 3, 3, 9)" in message
    assert "alpha 0.25" in message


def test_all_arrays_with_invalid_values_are_named(tf_keras: Any, tmp_path: Path) -> None:
    import h5py

    path = made(tf_keras, "v1").save(tmp_path, "_weights.h5")
    with h5py.File(path, "r+") as file:
        file["conv1/conv1/kernel:0"][0, 0, 0, 0] = np.nan
        file["conv_pw_2_bn/conv_pw_2_bn/moving_variance:0"][0] = -1
    with pytest.raises(WeightsError, match=r"(?s)not finite: conv1/kernel.*negative: conv_pw_2_bn/moving_variance"):
        read_model(path)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_are_cast_with_a_note(tf_keras: Any, tmp_path: Path, dtype: type) -> None:
    import h5py

    path = made(tf_keras, "v1").save(tmp_path, "_weights.h5")
    with h5py.File(path, "r+") as file:
        kernel = file["conv1/conv1/kernel:0"][()]
        del file["conv1/conv1/kernel:0"]
        file["conv1/conv1/kernel:0"] = kernel.astype(dtype)
    model = read_model(path)
    assert f"{np.dtype(dtype)} weights were cast to float32" in model.source["notes"]
    np.testing.assert_array_equal(model.params["conv1/kernel"], kernel.astype(dtype).astype(np.float32))


def test_arrays_are_read_once_though_a_published_network_is_matched_twice(
    tf_keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import h5py

    reads: list[str] = []
    read = h5py.Dataset.__getitem__

    def recorded(dataset: Any, key: Any, **options: Any) -> Any:
        reads.append(dataset.name)
        return read(dataset, key, **options)

    path = made(tf_keras, "v1").save(tmp_path, ".h5")
    monkeypatch.setattr(h5py.Dataset, "__getitem__", recorded)
    model = read_model(path)
    assert len(reads) == len(set(reads)) == len(model.params)
