"""The commands on quantized files: classify, features, convert, verify."""

import json
import zipfile
from math import prod
from pathlib import Path

import numpy as np
import pytest

import npmobilenet as nm
from npmobilenet.cli.shared import RuleName
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.quantized.rules import RULES
from tests.helpers.command_line import document, run
from tests.helpers.images import random_pixels
from tests.helpers.quantized_models import SIDES, small_model
from tests.helpers.real_files import real_file

PHOTOGRAPHS = ("panda.jpg", "cat.bmp", "parrot.jpg")
V1 = "mobilenet_v1_0.25_128_quant"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A file of the small model."""
    path = tmp_path / "small.safetensors"
    small_model().save(path)
    return path


@pytest.fixture
def tflite() -> Path:
    """A real file: V1 with ImageNet's classes after a background class."""
    return real_file("tflite", f"{V1}.tflite")


def test_every_rule_has_a_name_on_the_command_line() -> None:
    assert [str(rule) for rule in RuleName] == list(RULES)


def test_a_tflite_is_classified_with_names(tflite: Path) -> None:
    files = [real_file("images", name) for name in PHOTOGRAPHS]
    found = document(run("classify", "--model", tflite, "--json", *files))
    labels = [result["predictions"][0]["label"] for result in found]
    assert [label.partition(",")[0] for label in labels] == ["giant panda", "Egyptian cat", "macaw"]
    model = nm.load(tflite)
    for file, result in zip(files, found, strict=True):
        expected = [{"wnid": wnid, "label": label, "probability": p} for wnid, label, p in model.classify(file)[0]]
        assert result["predictions"] == expected


def test_a_rule_changes_the_integers(saved: Path, tmp_path: Path) -> None:
    photograph = real_file("images", "cat.bmp")
    answers = {}
    for rule in ("tflite", "xnnpack", "single"):
        found = document(run("classify", "--model", saved, "--rule", rule, "--json", photograph))
        answers[rule] = {row["label"]: row["probability"] for row in found[0]["predictions"]}
        model = nm.load(saved, rule=rule)
        assert answers[rule] == {label: p for _, label, p in model.classify(photograph)[0]}
    assert document(run("classify", "--model", saved, "--json", photograph))[0]["predictions"] == [
        {"wnid": "", "label": label, "probability": p} for label, p in answers["tflite"].items()
    ]


def test_a_rule_of_a_float_model_is_refused(small_network: Path) -> None:
    result = run("classify", "--model", small_network, "--rule", "xnnpack", real_file("images", "cat.bmp"))
    assert result.exit_code == 1
    assert "rule 'xnnpack': " in result.stderr
    assert "is not quantized, and follows none" in result.stderr
    unknown = run("classify", "--model", small_network, "--rule", "bankers", "x.jpg")
    assert unknown.exit_code == 2
    assert "invalid choice: 'bankers'" in unknown.stderr


def test_features_are_real_numbers(saved: Path, tmp_path: Path) -> None:
    files = [real_file("images", name) for name in PHOTOGRAPHS]
    assert run("features", *files, "-m", saved, "-o", tmp_path / "pooled.npy").exit_code == 0
    model = nm.load(saved)
    assert np.array_equal(np.load(tmp_path / "pooled.npy"), model.features(files))
    assert run("features", *files, "-m", saved, "--layer", "dense", "-o", tmp_path / "dense.npy").exit_code == 0
    x = model.scale(np.stack([model.pixels(file) for file in files]))
    assert np.array_equal(np.load(tmp_path / "dense.npy"), model.layer_output("dense", x))
    unknown = run("features", *files, "-m", saved, "--layer", "denser", "-o", tmp_path / "x.npy")
    assert "small: unknown layer 'denser'; for example: dense" in unknown.stderr


def test_a_tflite_is_converted_and_verified(tflite: Path, tmp_path: Path) -> None:
    out = tmp_path / "v1.safetensors"
    converted = document(run("convert", tflite, "-o", out, "--json"))
    graph = nm.mobilenet_v1(alpha=0.25, resolution=128, classes=1001)
    kernels = {name: shape for name, shape in graph.param_shapes.items() if name.endswith("kernel")}
    folded = sum(prod(shape) + prod(shape[-1:] if shape[3] > 1 else shape[2:]) for shape in kernels.values())
    assert (converted["output"], converted["quantized"], converted["params"]) == (str(out), "uint8", folded)
    assert converted["input_shape"] == [128, 128, 3]
    assert "results are the reference's integers" in converted["engine"]
    verified = document(run("verify", out, "--json"))
    assert verified["same"] is True
    assert verified["self_check"]["checked"] == 31
    assert isinstance(nm.load(out), QuantizedModel)
    photograph = real_file("images", "parrot.jpg")
    answers = [document(run("classify", "--model", file, "--json", photograph)) for file in (tflite, out)]
    assert answers[0] == answers[1]


def test_costs_are_those_of_the_architecture(tflite: Path, tmp_path: Path) -> None:
    graph = nm.mobilenet_v1(alpha=0.25, resolution=128, classes=1001)
    counted = document(run("cost", tflite, "--json"))
    assert (counted["macs"], counted["itemsize"]) == (graph.macs, 1)
    assert document(run("cost", tflite, "--json", "--itemsize", "4"))["itemsize"] == 4
    convolution = counted["layers"][1]
    assert convolution["bytes_written"] == 64 * 64 * 8
    assert convolution["bytes_read"] == 128 * 128 * 3 + 3 * 3 * 3 * 8 + 8


def test_memory_is_planned_in_bytes_and_accumulators_in_addition(tflite: Path) -> None:
    """Peak: the first pointwise convolution reads 64 x 64 x 8 and writes 64 x 64 x 16."""
    planned = document(run("memory", tflite, "--policy", "free", "--json"))
    assert (planned["itemsize"], planned["peak_bytes"]) == (1, 64 * 64 * (8 + 16))
    assert planned["accumulator_bytes"] == 4 * 1001
    printed = run("memory", tflite, "--policy", "free").stdout
    assert "and int32 accumulators: at most 4,004 bytes, for all channels of one pixel" in printed
    float_plan = document(run("memory", "mobilenet_v1", "--alpha", "0.25", "--policy", "free", "--json"))
    assert "accumulator_bytes" not in float_plan


def test_all_memory_policies_of_a_quantized_file(saved: Path) -> None:
    compared = document(run("memory", saved, "--json"))
    assert compared["accumulator_bytes"] == 4 * 16
    assert compared["policies"][1]["peak_bytes"] == 6 * 5 * (8 + 16)
    assert run("memory", saved).stdout.endswith("at most 64 bytes, for all channels of one pixel\n")


def test_verify_names_the_first_layer_that_changed(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    header = int.from_bytes(content[:8], "little")
    start, _ = json.loads(content[8 : 8 + header])["4/values"]["data_offsets"]
    content[8 + header + start + 40] ^= 0x40  # a weight of the depthwise convolution
    saved.write_bytes(bytes(content))
    result = run("verify", saved)
    assert result.exit_code == 1
    assert "checksum mismatch: the file is corrupt" in result.stdout
    assert result.stdout.endswith("first depthwise\n")


def test_verify_against_keras_is_refused(saved: Path) -> None:
    result = run("verify", saved, "--against", "keras", saved)
    assert result.exit_code == 2
    assert "a quantized model, whose integers Keras does not compute" in result.stderr


@pytest.mark.parametrize(
    "command", [("bounds", "cat.bmp", "-m"), ("page", "--model"), ("figures", "growth", "--json", "-m")]
)
def test_commands_for_float_models_say_so(saved: Path, command: tuple[str, ...]) -> None:
    result = run(*command, saved)
    assert result.exit_code != 0
    assert "a quantized model; this takes a float one" in result.stderr


def test_an_export_of_teachable_machine_is_classified_with_its_names(tmp_path: Path) -> None:
    """The archive of the quantized export; its names, and the pixels of its sample script."""
    export = tmp_path / "converted_tflite_quantized.zip"
    with zipfile.ZipFile(export, "w") as archive:
        archive.write(real_file("tflite", "vww_96_int8.tflite"), "model.tflite")
        archive.writestr("labels.txt", "0 empty\n1 person\n")
    photograph = real_file("images", "panda.jpg")
    result = run("classify", "--model", export, "--json", photograph)
    found = document(result)[0]["predictions"]
    assert {row["label"] for row in found} == {"empty", "person"}
    assert "images are resized as by Teachable Machine's sample script" in result.stderr
    model = nm.load(real_file("tflite", "vww_96_int8.tflite"), labels=["empty", "person"])
    ((_, label, probability), _) = model.classify(photograph, resize="teachable-machine")[0]
    assert (found[0]["label"], found[0]["probability"]) == (label, probability)
    assert document(run("convert", export, "-o", tmp_path / "own.safetensors", "--json"))["quantized"] == "int8"
    assert (
        document(run("classify", "--model", tmp_path / "own.safetensors", "--json", photograph))[0]["predictions"]
        == found
    )


@pytest.mark.parametrize("rule", ["tflite", "xnnpack", "single"])
def test_the_kernels_give_the_bits_of_the_reference(saved: Path, rule: str) -> None:
    model = QuantizedModel.open(saved).changed(rule=rule)
    images = np.stack([random_pixels(*SIDES, seed=seed) for seed in range(3)])
    compiled, reference = (model.predict_integers(images, backend=backend) for backend in ("compiled", "reference"))
    assert np.array_equal(compiled, reference)
    x = model.scale(images)
    for name in model.layer_names:
        y, wanted = (model.layer_output(name, x, backend=backend) for backend in ("compiled", "reference"))
        assert np.array_equal(y, wanted)


def test_verify_compares_the_engine_step_by_step(saved: Path) -> None:
    result = run("verify", saved, "--backend", "compiled")
    assert result.exit_code == 0
    assert "results are the reference's integers, " in result.stdout
    engine = document(run("verify", saved, "--backend", "compiled", "--json"))["engine"]
    assert (engine["differing"], engine["first_differing"]) == ([], None)
    assert engine["checked"] >= 6
