"""`verify`: an unchanged file passes; a changed one is reported, layer by layer."""

import json
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_weights_convert.run_in_keras import layer_outputs, open_in_keras

from npmobilenet import architectures
from npmobilenet.errors import AssumptionWarning
from npmobilenet.hub.load import load
from npmobilenet.models.model import Model
from npmobilenet.porting.verify import compare_with_keras, judge_layers, open_and_check
from npmobilenet.reference.layers import BatchNormalization
from tests.helpers.command_line import run
from tests.helpers.keras_files import PIXELS, application, fine_tuned, twin
from tests.helpers.networks import random_images, random_params
from tests.helpers.real_files import ROOT, real_file

GRAPH = architectures.mobilenet_v1(alpha=0.25, resolution=32, classes=4)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some.safetensors"
    Model(GRAPH, random_params(GRAPH, seed=1)).save(path)
    return path


def change_a_weight(path: Path, name: str) -> None:
    """Flip the sign of the first number of a tensor, inside the file."""
    content = bytearray(path.read_bytes())
    (size,) = struct.unpack("<Q", content[:8])
    start, _ = json.loads(content[8 : 8 + size])[name]["data_offsets"]
    content[8 + size + start + 3] ^= 0x80
    path.write_bytes(bytes(content))


def test_a_good_file_passes(file: Path) -> None:
    code, out, _ = run("verify", file)
    assert (code, out) == (0, f"{file}: self-check passed: outputs of all 91 layers unchanged\n")
    document = json.loads(run("verify", file, "--json")[1])
    assert document["self_check"] == {"checked": 91, "intact": True, "first_differing": None, "differing": []}
    assert document["same"] is True


@pytest.mark.parametrize("name", ["conv1/kernel", "conv_dw_7/kernel", "conv_pw_7_bn/beta", "conv_preds/bias"])
def test_the_layer_with_a_changed_weight_is_named_first(file: Path, name: str) -> None:
    change_a_weight(file, name)
    code, out, _ = run("verify", file)
    assert code == 1
    assert f"checksum mismatch: the file is corrupt\n{file}: " in out
    assert out.endswith(f", first {name.partition('/')[0]}\n")
    code, out, _ = run("verify", file, "--json")
    check = json.loads(out)["self_check"]
    assert code == 1
    assert check["first_differing"] == check["differing"][0] == name.partition("/")[0]
    assert check["intact"] is False


def test_a_change_outside_the_weights_is_a_difference(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content.replace(b'\\"background\\": false', b'\\"background\\": true ', 1))
    code, out, _ = run("verify", file)
    assert code == 1
    assert (
        out == f"{file}: checksum mismatch: the file is corrupt\n{file}: but outputs of all 91 layers are unchanged\n"
    )


def test_an_intact_file_fails_if_the_arithmetic_has_changed(tmp_path: Path) -> None:
    """As if the package had computed something else when the file was written."""
    path = tmp_path / "some.safetensors"
    model = Model(GRAPH, random_params(GRAPH, seed=1))
    layers = tuple(
        replace(layer, epsilon=1e-5)
        if isinstance(layer, BatchNormalization) and layer.name == "conv_dw_3_bn"
        else layer
        for layer in GRAPH.layers
    )
    former = replace(model, graph=replace(GRAPH, layers=layers))

    class Written(Model):
        def self_check(self) -> dict[str, Any]:
            return former.self_check()

    Written(model.graph, model.params).save(path)
    _, check = open_and_check(path)
    assert check is not None
    assert check.intact
    assert check.differing[0] == "conv_dw_3_bn"


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def emptied(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def without_description(path: Path) -> Path:
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3, np.float32)}, path)
    return path


@pytest.mark.parametrize("damage", [cut, emptied, without_description, lambda path: path.parent, Path.unlink])
def test_a_file_that_cannot_be_opened_is_reported_and_exits_with_2(
    file: Path, damage: Callable[[Path], Path | None]
) -> None:
    target = damage(file) or file
    code, out, err = run("verify", target, "--json")
    assert code == 2
    assert str(target) in json.loads(out)["error"]
    assert err.startswith("npmobilenet: ")


def test_the_digits_network_in_the_package_passes() -> None:
    code, out, _ = run("verify", ROOT / "npmobilenet" / "data" / "digits.safetensors")
    assert code == 0, out


def test_a_keras_file_has_no_self_check(keras: Any, tmp_path: Path) -> None:
    source = twin(application(keras, "v1"), pixels=False).save(tmp_path, ".h5")
    code, _, err = run("verify", source)
    assert code == 2
    assert "no self-check" in err


def test_against_takes_keras_and_a_file(file: Path) -> None:
    code, _, err = run("verify", file, "--against", "torch", "x.pt")
    assert code == 2
    assert "got 'torch'" in err


@pytest.fixture(scope="module")
def pair(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(converted, source) of a small V1."""
    folder = tmp_path_factory.mktemp("pair")
    source = twin(application(keras, "v1"), pixels=False).save(folder, ".keras")
    load(source).save(folder / "v1.safetensors")
    return folder / "v1.safetensors", source


@pytest.fixture(scope="module")
def v3(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, dict[str, Any]]:
    """A V3 with squeeze-and-excite, from a file of weights, and Keras's output of every layer."""
    path = twin(application(keras, "v3", input_shape=(224, 224, 3)), pixels=True).save(
        tmp_path_factory.mktemp("v3"), ".weights.h5"
    )
    with pytest.warns(AssumptionWarning, match="softmax is assumed"):
        model = load(path)
    x = random_images(model.graph, seed=3)
    return model, {"input_layer": x} | layer_outputs(open_in_keras(path, model.graph), x)


def test_a_converted_file_equals_keras_in_every_layer(pair: tuple[Path, Path]) -> None:
    code, out, _ = run("verify", pair[0], "--against", "keras", pair[1])
    assert code == 0, out
    assert out.splitlines()[-1] == f"{pair[1]}: 90 of 90 layers compared equal Keras within rounding"


@pytest.mark.parametrize(
    "name", ["conv/kernel", "expanded_conv_3_depthwise/kernel", "expanded_conv_1_project_bn/gamma", "logits/bias"]
)
def test_the_layer_that_differs_from_keras_is_the_only_one_named(v3: tuple[Model, dict[str, Any]], name: str) -> None:
    model, outputs = v3
    verdicts = judge_layers(model.graph, model.params, outputs)
    assert len(verdicts) == len(outputs) - 1 == 182
    assert [verdict.name for verdict in verdicts if not verdict.same] == []
    params = {**model.params, name: model.params[name] * np.float32(1.1)}
    wrong = [verdict for verdict in judge_layers(model.graph, params, outputs) if not verdict.same]
    assert [verdict.name for verdict in wrong] == [name.partition("/")[0]]
    assert wrong[0].difference > wrong[0].allowed > 0


def test_the_command_names_the_first_layer_that_differs_from_keras(pair: tuple[Path, Path], tmp_path: Path) -> None:
    model = load(pair[0])
    params = dict(model.params)
    for name in ("conv_pw_9/kernel", "conv_dw_3_bn/moving_mean"):
        params[name] = np.flip(params[name], -1)
    changed = tmp_path / "changed.safetensors"
    replace(model, params=params).save(changed)
    code, out, _ = run("verify", changed, "--against", "keras", pair[1])
    assert code == 1
    assert "outputs of all 91 layers unchanged" in out
    assert out.endswith("88 of 90 layers compared equal Keras within rounding; first different: conv_dw_3_bn\n")
    document = json.loads(run("verify", changed, "--against", "keras", pair[1], "--json")[1])
    assert document["same"] is False
    assert document["keras"]["first_differing"] == "conv_dw_3_bn"
    assert [layer["name"] for layer in document["keras"]["layers"] if not layer["same"]] == [
        "conv_dw_3_bn",
        "conv_pw_9",
    ]


@pytest.mark.parametrize("kind", ["nested_twice", "preprocessed"])
def test_layers_of_nested_models_are_compared(keras: Any, kind: str, tmp_path: Path) -> None:
    source = twin(fine_tuned(keras, kind), pixels=kind in PIXELS).save(tmp_path, ".keras")
    verdicts = compare_with_keras(load(source), source)
    assert len(verdicts) > 80
    assert all(verdict.same for verdict in verdicts)


def test_a_source_of_another_network_cannot_be_compared_and_exits_with_2(
    file: Path, keras: Any, tmp_path: Path
) -> None:
    source = twin(application(keras, "v2"), pixels=False).save(tmp_path, ".weights.h5")
    code, out, err = run("verify", file, "--against", "keras", source)
    assert code == 2
    assert "outputs of all 91 layers unchanged" in out
    assert "keras.applications" in err
    for missing in (tmp_path / "none.h5", tmp_path):
        code, _, err = run("verify", file, "--against", "keras", missing)
        assert code == 2
        assert str(missing) in err


def test_a_whole_model_of_another_network_shares_no_layer_and_exits_with_2(
    file: Path, keras: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    image = keras.Input((32, 32, 3))
    other = keras.Model(image, layers.Dense(4)(layers.Flatten()(layers.Conv2D(4, 3, 8)(image))))
    source = twin(other, pixels=False).save(tmp_path, ".keras")
    code, out, _ = run("verify", file, "--against", "keras", source)
    assert code == 2
    assert "no layer could be compared" in out
    document = json.loads(run("verify", file, "--against", "keras", source, "--json")[1])
    assert document["same"] is None


def test_outputs_are_judged_on_the_engine_s_own_inputs() -> None:
    graph, params = GRAPH, random_params(GRAPH, seed=1)
    x = random_images(graph, seed=2)
    outputs = dict(graph.run(params, x))
    assert all(verdict.same for verdict in judge_layers(graph, params, outputs))

    outputs["conv_dw_4"] = outputs["conv_dw_4"] * np.float32(1.01)  # later layers are computed from something else
    wrong = [verdict.name for verdict in judge_layers(graph, params, outputs) if not verdict.same]
    assert wrong == ["conv_dw_4", "conv_dw_4_bn"]


def test_outputs_that_are_missing_misshapen_or_nan_are_distinguished() -> None:
    graph, params = GRAPH, random_params(GRAPH, seed=1)
    outputs = dict(graph.run(params, random_images(graph, seed=2)))
    del outputs["conv_pw_2"]
    outputs["conv_dw_5"] = outputs["conv_dw_5"][:, 1:]
    outputs["conv_pw_9"][0, 0, 0, 3] = np.nan
    verdicts = {verdict.name: verdict for verdict in judge_layers(graph, params, outputs)}
    assert [name for name, verdict in verdicts.items() if not verdict.compared] == ["conv_pw_2", "conv_pw_2_bn"]
    assert verdicts["conv_pw_2_bn"].note == "no output of conv_pw_2"
    assert verdicts["conv_dw_5"].note == "expected conv_dw_5 (4, 4, 64), got (3, 4, 64)"
    assert not verdicts["conv_dw_5"].same
    assert not verdicts["conv_pw_9"].same
    assert verdicts["conv_pw_9"].ratio == np.inf


def test_a_real_whole_model_of_keras_2_equals_keras_in_every_layer(keras: Any, tf_keras: Any) -> None:
    source = real_file("weights", "vww_96.h5")
    verdicts = compare_with_keras(load(source), source)
    assert len(verdicts) == 84
    assert [verdict.name for verdict in verdicts if not verdict.same] == []


def test_the_page_shows_the_output_for_a_real_network(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = real_file("weights", "mobilenet_v1_0.25_224_imagenet.h5")
    monkeypatch.chdir(tmp_path)
    Path(source.name).symlink_to(source)
    load(source).save("mobilenet_v1.safetensors")
    page = (ROOT / "docs" / "verify.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```text\n\$ npmobilenet (.*?)^```$", page, re.MULTILINE | re.DOTALL)
    command, _, shown = block.partition("\n")
    assert run(*command.split()) == (0, shown, "")
