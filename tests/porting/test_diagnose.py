"""The diagnosis of correct implementations, of dumps in any format and of corrupt ones, and its command."""

import csv
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npmobilenet import load
from npmobilenet.analysis.segments import segment_to
from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_small
from npmobilenet.errors import DumpError
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import RAW, SYMMETRIC
from npmobilenet.porting.diagnose import Diagnosis, Finding, diagnose, explain
from npmobilenet.porting.diagnose.dump_matching import match, read_mapping
from npmobilenet.porting.diagnose.dumps import read_dump
from npmobilenet.porting.diagnose.mistakes.precision_mistakes import round_bfloat16, round_float16, truncate_bfloat16
from npmobilenet.porting.golden import GoldenData
from npmobilenet.porting.golden_writer import write_golden_data
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array
from tests.helpers import command_line
from tests.helpers.command_line import Result
from tests.helpers.networks import random_images, random_params
from tests.helpers.onnx_files import onnx_file

NETWORKS = {
    "V1": (mobilenet_v1(alpha=0.25, resolution=64, classes=12), SYMMETRIC),
    "V2": (mobilenet_v2(alpha=0.35, resolution=64, classes=12), SYMMETRIC),
    "V3": (mobilenet_v3_small(alpha=0.75, resolution=64, classes=12), RAW),
}
ALPHAS = {"V1": 0.25, "V2": 0.35, "V3": 0.75}
ACTIVATIONS = ("Activation", "Add", "Multiply")


@cache
def network(family: str) -> tuple[Model, Array, dict[str, Array]]:
    """(model, input, every layer's output in float32)."""
    graph, scaling = NETWORKS[family]
    model = Model(graph, random_params(graph, 11), scaling)
    x = random_images(graph, 5)
    return model, x, dict(model.trace(x))


def altered(model: Model, **changes: dict[str, Any]) -> Model:
    """The network with fields of some layers changed: {layer name: {field: value}}."""
    layers = tuple(replace(layer, **changes.get(layer.name, {})) for layer in model.graph.layers)
    return replace(model, graph=Graph(model.graph.name, layers), stored_check=None)


def first_wrong(diagnosis: Diagnosis) -> Finding:
    assert diagnosis.first is not None
    return diagnosis.first


def with_epsilon(model: Model, epsilon: float) -> Model:
    norms = [layer.name for layer in model.graph.layers if layer.type == "BatchNormalization"]
    return altered(model, **{name: {"epsilon": epsilon} for name in norms})


def activations_of(model: Model, outputs: Mapping[str, Array]) -> dict[str, Array]:
    return {name: y for name, y in outputs.items() if model.graph[name].type in ACTIVATIONS}


# Correct implementations: rounding is not a mistake.


@pytest.mark.parametrize("family", NETWORKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kept", ["all", "activations", "last"])
def test_rounding_is_no_difference(family: str, dtype: str, kept: str) -> None:
    model, x, _ = network(family)
    outputs = dict(model.trace(x.astype(dtype)))
    dump = {
        "all": outputs,
        "activations": activations_of(model, outputs),
        "last": {"predictions": outputs["predictions"]},
    }[kept]
    diagnosis = diagnose(model, x, dump)
    assert diagnosis.exit_code == 0
    assert {finding.layer for finding in diagnosis.compared} == dump.keys()


@pytest.mark.parametrize("family", NETWORKS)
def test_keras_is_the_same(family: str, keras: Any, tmp_path: Path) -> None:
    model, x, _ = network(family)
    network_in_keras = in_keras(keras, family, model)
    network_in_keras.save(tmp_path / "network.keras")
    dump = read_dump(tmp_path / "network.keras", model, x)
    diagnosis = diagnose(model, x, dump.arrays)
    assert diagnosis.exit_code == 0, diagnosis.first
    assert len(diagnosis.compared) >= len(model.graph.layers) - 1  # Keras's input layer has no output


def in_keras(keras: Any, family: str, model: Model) -> Any:
    """The same network built by keras.applications."""
    keras.backend.clear_session()
    name = {"V1": "MobileNet", "V2": "MobileNetV2", "V3": "MobileNetV3Small"}[family]
    built = getattr(keras.applications, name)(
        input_shape=model.graph.input_shape, alpha=ALPHAS[family], weights=None, classes=12
    )
    for layer in model.graph.layers:
        arrays = [model.params[f"{layer.name}/{array}"] for array in model.graph.param_shapes_of(layer)]
        if arrays:
            built.get_layer(layer.name).set_weights(arrays)
    return built


def test_a_wrong_epsilon_and_a_wrong_activation_in_keras_are_named(keras: Any) -> None:
    model, x, _ = network("V2")
    built = in_keras(keras, "V2", model)

    def mistaken(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name == "block_5_depthwise_BN":
            config["epsilon"] = 1e-5
        if layer.name == "block_9_expand_relu":
            config["max_value"] = None
        return type(layer).from_config(config)

    clone = keras.models.clone_model(built, clone_function=mistaken)
    clone.set_weights(built.get_weights())
    from npmobilenet_weights_convert.run_in_keras import layer_outputs

    diagnosis = diagnose(model, x, layer_outputs(clone, x))
    named = {finding.layer: finding.explanations[0].cause for finding in diagnosis.wrong}
    assert named == {"block_5_depthwise_BN": "epsilon", "block_9_expand_relu": "activation"}
    later = next(finding for finding in diagnosis.findings if finding.layer == "predictions")
    assert later.status == "inherits"


NUMBERS: dict[str, int] = {}


def numbered(name: str) -> str:
    return f"t{NUMBERS.setdefault(name, len(NUMBERS))}"


@pytest.mark.parametrize("names", [str, numbered], ids=["layer names", "numbered"])
def test_onnxruntime_is_the_same_whatever_its_tensors_are_called(names: Callable[[str], str], tmp_path: Path) -> None:
    model, x, _ = network("V2")
    dump = read_dump(onnx_file(tmp_path / "network.onnx", model, names=names), model, x)
    matched = match(dict(model.trace(x.astype(np.float64))), dump.arrays)
    diagnosis = diagnose(model, x, matched.arrays)
    assert matched.how == ("by name" if names is str else "by order and shape")
    assert {layer: name for layer, name in matched.names.items() if name.removesuffix("/map") != names(layer)} == {}
    assert diagnosis.exit_code == 0, diagnosis.first
    assert len(diagnosis.compared) == len(model.graph.layers) - 1
    assert any("channels first" in note for note in diagnosis.notes)


def test_a_wrong_epsilon_in_an_onnx_file_is_named(tmp_path: Path) -> None:
    model, x, _ = network("V2")
    dump = read_dump(onnx_file(tmp_path / "network.onnx", model, epsilon=1e-5), model, x)
    diagnosis = diagnose(model, x, match(dict(model.trace(x.astype(np.float64))), dump.arrays).arrays)
    assert (first_wrong(diagnosis).layer, first_wrong(diagnosis).explanations[0].cause) == ("bn_Conv1", "epsilon")
    assert {finding.type for finding in diagnosis.wrong} == {"BatchNormalization"}


# The pieces.


def test_the_tolerance_of_a_single_layer_is_its_bound() -> None:
    model, _, outputs = network("V2")
    params = {name: array.astype(np.float64) for name, array in model.params.items()}
    given = {name: y.astype(np.float64) for name, y in outputs.items()}
    layer = model.graph["block_3_expand"]
    segment = segment_to(model.graph, params, layer.name, given)
    arrays = model.graph.arrays_of(layer, params)
    np.testing.assert_array_equal(segment.tolerance(), layer.error_bound(arrays, given[layer.inputs[0]]))
    assert segment.layers == (layer.name,)


def test_an_error_of_twice_the_tolerance_in_one_value_is_detected() -> None:
    model, x, outputs = network("V1")
    arrays = {"kernel": model.params["conv_pw_3/kernel"]}
    bound = model.graph["conv_pw_3"].error_bound(arrays, outputs["conv_dw_3_relu"])
    y = outputs["conv_pw_3"].astype(np.float64)
    y[0, 2, 3, 4] += 2 * bound[0, 2, 3, 4]
    names = list(outputs)
    dump = {name: outputs[name] for name in names[: names.index("conv_pw_3")]} | {"conv_pw_3": y}
    diagnosis = diagnose(model, x, dump)
    first = first_wrong(diagnosis)
    assert first.layer == "conv_pw_3"
    assert first.times_tolerance is not None
    assert 1 < first.times_tolerance <= 3


def test_layers_after_a_wrong_one_inherit_and_are_not_wrong() -> None:
    model, x, _ = network("V1")
    wrong = altered(model, conv_dw_5_bn={"epsilon": 0.1})
    diagnosis = diagnose(model, x, dict(wrong.trace(x)))
    status = {finding.layer: finding.status for finding in diagnosis.findings}
    names = list(status)
    at = names.index("conv_dw_5_bn")
    assert {status[name] for name in names[:at]} == {"same"}
    assert status["conv_dw_5_bn"] == "wrong"
    assert {status[name] for name in names[at + 1 :]} == {"inherits"}
    assert first_wrong(diagnosis).explanations[0].what == "epsilon 0.1 instead of 0.001"


def test_an_unknown_mistake_is_reported_without_a_cause() -> None:
    model, x, outputs = network("V1")
    noise = np.random.default_rng(0).normal(0, 0.1, outputs["conv_pw_6_bn"].shape)
    wrong = dict(model.trace(x)) | {"conv_pw_6_bn": outputs["conv_pw_6_bn"] + noise}
    wrong["conv_pw_6_relu"] = np.clip(wrong["conv_pw_6_bn"], 0, 6)
    diagnosis = diagnose(model, x, {name: y for name, y in wrong.items() if "_7" not in name})
    assert first_wrong(diagnosis).layer == "conv_pw_6_bn"
    assert not first_wrong(diagnosis).explained
    assert diagnosis.exit_code == 1


def test_the_effort_on_a_dump_of_noise_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, outputs = network("V1")
    rng = np.random.default_rng(0)
    monkeypatch.setattr(explain, "TOTAL_EFFORT", 1e9)
    diagnosis = diagnose(model, x, {name: rng.normal(size=y.shape) for name, y in outputs.items() if y.ndim == 4})
    assert len(diagnosis.wrong) == len(diagnosis.compared)
    assert not any(finding.explained for finding in diagnosis.wrong)
    assert diagnosis.wrong[-1].untried > 0


@pytest.mark.parametrize(
    ("rounded", "step", "expected"),
    [
        (round_bfloat16, 2.0**-7, [0, 0, 1, 2, 2, 2, 2]),
        (round_float16, 2.0**-10, [0, 0, 1, 2, 2, 2, 2]),
        (truncate_bfloat16, 2.0**-7, [0, 0, 1, 1, 1, 2, 2]),
    ],
)
def test_half_precision_rounds_ties_to_even_or_truncates(
    rounded: Callable[[Array], Array], step: float, expected: list[int]
) -> None:
    steps = np.array([0.0, 0.5, 1.0, 1.5, 1.75, 2.25, 2.5])
    np.testing.assert_array_equal(rounded(1 + step * steps), 1 + step * np.array(expected))
    np.testing.assert_array_equal(rounded(np.array([np.nan, np.inf, -np.inf])), [np.nan, np.inf, -np.inf])


def test_values_stored_in_float16_are_allowed_their_rounding() -> None:
    model, x, outputs = network("V1")
    assert diagnose(model, x, {name: y.astype(np.float16) for name, y in outputs.items()}).exit_code == 0
    wrong = {name: y.astype(np.float16) for name, y in with_epsilon(model, 1e-2).trace(x)}
    assert first_wrong(diagnose(model, x, wrong)).explanations[0].cause == "epsilon"


@pytest.mark.parametrize(
    "stored",
    [
        lambda y: np.moveaxis(y, -1, 1),
        lambda y: np.moveaxis(y, -1, 1)[0],
        lambda y: y[0],
        lambda y: np.moveaxis(y, 0, -1),
    ],
    ids=["NCHW", "CHW", "HWC", "HWCN"],
)
def test_any_order_of_axes_is_read(stored: Callable[[Array], Array]) -> None:
    model, x, _ = network("V3")
    wrong = altered(model, expanded_conv_2_expand_bn={"epsilon": 0.1})
    diagnosis = diagnose(model, x, {name: stored(y) for name, y in wrong.trace(x)})
    assert [finding.layer for finding in diagnosis.wrong] == ["expanded_conv_2_expand_bn"]


def test_square_maps_are_not_transposed_after_a_mistake_that_moved_their_values() -> None:
    model, x, _ = network("V1")
    pads = [layer.name for layer in model.graph.layers if layer.type == "ZeroPadding2D"]
    wrong = altered(model, **{name: {"padding": ((1, 1), (1, 1))} for name in pads})
    dump = {name: np.moveaxis(y, -1, 1) for name, y in activations_of(model, dict(wrong.trace(x))).items()}
    diagnosis = diagnose(model, x, dump)
    assert [finding.layer for finding in diagnosis.wrong] == [f"conv_dw_{block}_relu" for block in (2, 4, 6, 12)]
    assert {finding.explanations[0].cause for finding in diagnosis.wrong} == {"symmetric-padding"}


def test_an_additional_first_class_is_explained_as_background() -> None:
    model, x, outputs = network("V1")
    p = outputs["predictions"]
    with_background = np.concatenate([np.full((1, 1), 0.25, np.float32), p * np.float32(0.75)], axis=1)
    first = first_wrong(diagnose(model, x, outputs | {"predictions": with_background}))
    assert (first.status, first.explanations[0].cause) == ("shape", "class-offset")


def test_an_array_that_nothing_after_it_was_computed_from_is_not_wrong() -> None:
    """As a hook dumps it in PyTorch, where `ReLU6(inplace=True)` overwrites the output of the batch norm."""
    model, x, outputs = network("V1")
    diagnosis = diagnose(model, x, outputs | {"conv_pw_6_bn": outputs["conv_pw_6_relu"]})
    found = next(finding for finding in diagnosis.findings if finding.layer == "conv_pw_6_bn")
    assert (diagnosis.exit_code, found.status) == (0, "unused")


# Matching by name, order and mapping.


@pytest.mark.parametrize("family", NETWORKS)
def test_nameless_activations_are_matched_by_order_and_shape(family: str) -> None:
    model, x, outputs = network(family)
    kept = activations_of(model, outputs)
    nameless = {f"tensor_{number}": np.moveaxis(y, -1, 1) for number, y in enumerate(kept.values())}
    matched = match(dict(model.trace(x.astype(np.float64))), nameless)
    assert matched.how == "by order and shape"
    assert len(matched.arrays) == len(kept)  # V3's relu6(x + 3) may be taken for x + 3 where nothing is cut off
    assert all(np.array_equal(np.moveaxis(y, 1, -1), outputs[name]) for name, y in matched.arrays.items())


def test_a_layer_between_slashes_is_a_name() -> None:
    model, x, outputs = network("V1")
    dump = {f"model/{name}/Out:0": y for name, y in outputs.items()} | {"model/conv1/Conv2D:0": outputs["conv1"]}
    matched = match(dict(model.trace(x.astype(np.float64))), dump)
    assert matched.how == "by name"
    assert matched.names["conv_dw_4_relu"] == "model/conv_dw_4_relu/Out:0"
    assert list(matched.arrays) == list(outputs)


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_a_mapping_file_names_the_layers(ending: str, tmp_path: Path) -> None:
    outputs = network("V1")[2]
    pairs = {f"blob{number}": name for number, name in enumerate(outputs) if name.endswith("relu")}
    path = tmp_path / f"names.{ending}"
    with path.open("w", newline="") as file:
        if ending == "json":
            json.dump(pairs, file)
        else:
            csv.writer(file).writerows([("name in the dump", "layer"), *pairs.items()])
    dump = {name: outputs[layer] for name, layer in pairs.items()} | {"other": np.zeros(3)}
    matched = match(outputs, dump, read_mapping(path))
    assert matched.names == {layer: name for name, layer in pairs.items()}
    assert matched.left_over == ("other",)


def test_all_problems_of_a_mapping_are_reported() -> None:
    _, _, outputs = network("V1")
    pairs = {"a": "conv1", "b": "conv1", "c": "conv_99", "d": "conv1_relu"}
    with pytest.raises(DumpError) as error:
        match(outputs, {"a": outputs["conv1"], "b": outputs["conv1"], "c": np.zeros(1)}, pairs)
    for complaint in ("no array 'd'", "no layer 'conv_99'", "two arrays are mapped to 'conv1'"):
        assert complaint in str(error.value)


# Dumps, intact and corrupt, with the command.


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Golden data of the digits network."""
    folder = tmp_path_factory.mktemp("packs") / "pack"
    rng = np.random.default_rng(0)
    write_golden_data(load("digits"), rng.integers(0, 256, (40, 32, 3), dtype=np.uint8), folder)
    return folder


def digits_outputs(pack: Path, model: Model | None = None) -> dict[str, Array]:
    opened = GoldenData.open(pack)
    return dict((model or opened.model()).trace(opened.input()))


def run(*arguments: object) -> Result:
    return command_line.run("compare", *arguments)


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    entries: dict[str, Any] = dict(arrays)
    np.savez(path, **entries)


def write_safetensors(path: Path, arrays: Mapping[str, Array]) -> None:
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(y) for name, y in arrays.items()}, path)


def write_folder(path: Path, arrays: Mapping[str, Array]) -> None:
    path.mkdir()
    for name, y in arrays.items():
        np.save(path / f"{name}.npy", y)


WRITERS = {"dump.npz": write_npz, "dump.safetensors": write_safetensors, "dump": write_folder}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_dump_is_the_same_or_different(name: str, pack: Path, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    WRITERS[name](tmp_path / "good" / name, digits_outputs(pack))
    WRITERS[name](tmp_path / "bad" / name, digits_outputs(pack, with_epsilon(load("digits"), 1e-5)))
    code, out, _ = run(pack, tmp_path / "good" / name)
    assert code == 0
    assert "91 of 91 layers" in out
    assert "equal: every layer" in out
    code, out, _ = run(pack, tmp_path / "bad" / name)
    assert code == 1
    assert "first wrong layer: conv1_bn" in out
    assert "epsilon 1e-05 instead of 0.001" in out


def test_golden_data_equals_itself(pack: Path) -> None:
    assert run(pack, pack)[0] == 0


def test_json_holds_everything_and_nothing_else(pack: Path, tmp_path: Path) -> None:
    write_npz(tmp_path / "dump.npz", digits_outputs(pack, with_epsilon(load("digits"), 1e-5)))
    code, out, _ = run(pack, tmp_path / "dump.npz", "--json")
    document = json.loads(out)
    assert code == 1
    assert (document["same"], document["first_wrong"], document["cause"]) == (False, "conv1_bn", "epsilon")
    layer = next(layer for layer in document["layers"] if layer["layer"] == "conv1_bn")
    assert layer["status"] == "wrong"
    assert layer["explanations"][0]["fits"] is True


def test_a_model_to_run_requires_no_image(tmp_path: Path, keras: Any) -> None:
    model, _, _ = network("V1")
    model.save(tmp_path / "reference.safetensors")
    in_keras(keras, "V1", model).save(tmp_path / "port.keras")
    assert run("-m", tmp_path / "reference.safetensors", tmp_path / "port.keras")[0] == 0


def test_layers_that_are_missing_nan_or_of_another_shape_are_reported_and_the_others_compared(
    pack: Path, tmp_path: Path
) -> None:
    outputs = digits_outputs(pack)
    outputs["conv_dw_2"] = outputs["conv_dw_2"].copy()
    outputs["conv_dw_2"][0, 1, 2, 3] = np.nan
    outputs["conv_pw_3"] = outputs["conv_pw_3"][:, :-1]
    del outputs["conv_dw_5"]
    write_npz(tmp_path / "dump.npz", outputs)
    code, out, _ = run(pack, tmp_path / "dump.npz", "--json")
    found = {layer["layer"]: layer for layer in json.loads(out)["layers"]}
    assert code == 1
    assert (found["conv_dw_2"]["status"], found["conv_dw_2"]["note"]) == ("wrong", "1 of 1024 values are NaN")
    assert found["conv_pw_3"]["status"] == "shape"
    assert found["conv_pw_3"]["note"].startswith("expected shape (1, 8, 8, 32), got (1, 7, 8, 32)")
    assert found["conv_dw_5"]["status"] == "missing"
    assert found["conv_dw_5_bn"]["covers"] == ["conv_dw_5", "conv_dw_5_bn"]
    assert {found[name]["status"] for name in ("conv1", "conv_dw_1_bn")} == {"same"}
    assert {found[name]["status"] for name in ("conv_dw_5_bn", "conv_pw_5_bn")} <= {"same", "inherits"}


def test_a_corrupt_array_of_a_folder_does_not_affect_the_others(pack: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "dump", digits_outputs(pack))
    damaged = tmp_path / "dump" / "conv_dw_4.npy"
    damaged.write_bytes(damaged.read_bytes()[:150])
    code, out, _ = run(pack, tmp_path / "dump")
    assert code == 0
    assert "90 of 91 layers" in out
    assert "note: conv_dw_4: cannot be read" in out


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "spoil", "complaint"),
    [
        ("dump.npz", half, "corrupt or truncated"),
        ("dump.safetensors", half, "corrupt or truncated"),
        ("dump.npz", lambda path: path.unlink(), "no such file"),
        ("dump.npz", lambda path: write_npz(path, {"a": np.zeros(3), "b": np.ones((5, 5))}), "none of its 2 arrays"),
        ("dump.npz", lambda path: write_npz(path, {"conv1": np.array(["text"])}), "no array to compare"),
        ("dump.npz", lambda path: write_npz(path, {"conv1": np.array([{}], object)}), "no array to compare"),
    ],
    ids=["half an npz", "half a safetensors", "no file", "no layer", "text", "pickle"],
)
def test_where_nothing_can_be_compared_the_exit_code_is_2(
    name: str, spoil: Callable[[Path], object], complaint: str, pack: Path, tmp_path: Path
) -> None:
    WRITERS[name](tmp_path / name, digits_outputs(pack))
    spoil(tmp_path / name)
    code, out, err = run(pack, tmp_path / name)
    assert (code, out) == (2, "")
    assert complaint in err
    assert str(tmp_path / name) in err


def test_an_unknown_suffix_and_an_empty_folder_are_refused(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "dump.mat").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    assert run(pack, tmp_path / "dump.mat")[0] == 2
    assert run(pack, tmp_path / "empty")[0] == 2


def test_wrong_options_are_refused(pack: Path) -> None:
    assert run(pack)[0] == 2
    assert run(pack, pack, "--dtype", "int8")[0] == 2
    code, _, err = run("-m", "digits", pack / "npz")
    assert code == 2
    assert "--image" in err


@pytest.mark.parametrize("dumped", ["every layer", "activations"])
def test_v1_padded_as_tf_slim_does_on_maps_of_odd_side_is_named(dumped: str) -> None:
    """At 112 x 112 Keras's V1 ends in 3 x 3 pixels and TF-Slim's, which pads by SAME, in 4 x 4."""
    graph = mobilenet_v1(0.25, 112, classes=3)
    model = Model(graph, random_params(graph, 5))
    slim = altered(model, **{"conv_pad_12": {"padding": ((1, 1), (1, 1))}})
    x = random_images(graph, 6)
    assert graph.shapes["conv_dw_12"][:2] == (3, 3)
    assert slim.graph.shapes["conv_dw_12"][:2] == (4, 4)
    dump = {name: y for name, y in slim.trace(x) if dumped == "every layer" or name.endswith("relu")}
    first = first_wrong(diagnose(model, x, {name: y for name, y in dump.items() if name != "conv_pad_12"}))
    assert first.layer == {"every layer": "conv_dw_12", "activations": "conv_dw_12_relu"}[dumped]
    best = first.explanations[0]
    assert best.cause == "same-padding"
    assert best.fits
    assert "TF-Slim" in best.what


BROKEN: dict[str, Callable[[dict[str, Array]], dict[str, Array]]] = {
    "one value is infinite": lambda y: y | {"conv_dw_3": with_infinity(y["conv_dw_3"])},
    "a single number": lambda y: y | {"conv_dw_3": np.array(3, np.float32)},
    "a flattened input": lambda y: y | {"input_layer": y["input_layer"].ravel()},
}


def with_infinity(y: Array) -> Array:
    broken = y.copy()
    broken.flat[0] = np.inf
    return broken


@pytest.mark.parametrize("kind", BROKEN)
def test_what_broken_ports_produce_is_named_and_the_rest_compared(kind: str) -> None:
    model, x, y = network("V1")
    broken = BROKEN[kind](y)
    (layer,) = (name for name in y if broken[name] is not y[name])
    found = diagnose(model, x, broken)
    assert [finding.layer for finding in found.wrong] == [layer]
    assert "infinite" in found.wrong[0].note or "expected shape" in found.wrong[0].note
    assert len(found.compared) >= len(y) - 1


def test_a_dump_of_flattened_arrays_is_compared_as_far_as_it_goes() -> None:
    model, x, y = network("V1")
    found = diagnose(model, x, {name: array.ravel() for name, array in y.items()}, seconds=2)
    assert first_wrong(found).layer == "input_layer"
    assert found.exit_code == 1


def test_a_text_in_an_npz_is_a_note(tmp_path: Path) -> None:
    model, x, y = network("V1")
    arrays: dict[str, Any] = {**y}
    np.savez(tmp_path / "dump.npz", **arrays)
    with zipfile.ZipFile(tmp_path / "dump.npz", "a") as archive:
        archive.writestr("README.txt", "made by hand")
    dump = read_dump(tmp_path / "dump.npz", model, x)
    assert dump.notes == ("README.txt: not an array",)
    assert dump.arrays.keys() == y.keys()
