"""The command quantize: what it writes and prints."""

import json
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from npmobilenet_weights_convert.tflite_file import read_tflite
from npmobilenet_weights_convert.tflite_writer import tflite_bytes

from npmobilenet.hub.load import load
from npmobilenet.models.model import Model
from npmobilenet.models.quantized_model import QuantizedModel
from tests.helpers.absent_modules import run_without
from tests.helpers.command_line import document, run
from tests.helpers.real_files import ROOT

DIGITS = ROOT / "examples" / "digits"
FRAMEWORKS = ("tensorflow", "keras", "tf_keras", "ai_edge_litert", "flatbuffers", "onnx", "torch")


def test_a_table_says_how_far_each_layer_is_off(tmp_path: Path) -> None:
    result = run("quantize", "digits", "--images", DIGITS, "-o", tmp_path / "d.safetensors")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split(maxsplit=2) == ["layer", "operator", "signal to noise, dB"]
    assert lines[1].split()[:2] == ["conv1_relu", "CONV_2D"]
    assert 30 < float(lines[1].split()[2]) < 60
    assert "same class       10 of 10 images" in lines
    assert f"float bytes      {4 * load('digits').graph.total_params:,}" in lines
    assert f"quantized bytes  {(tmp_path / 'd.safetensors').stat().st_size:,}" in lines
    assert "digits: ranges come from 10 images; 50 or more are usual" in result.stderr


def test_both_files_hold_the_same_network(tmp_path: Path) -> None:
    """Our file with labels and scaling, and a `.tflite` that LiteRT runs."""
    for suffix in ("safetensors", "tflite"):
        assert run("quantize", "digits", "--images", DIGITS, "-o", tmp_path / f"d.{suffix}").exit_code == 0
    model, data = QuantizedModel.open(tmp_path / "d.safetensors"), (tmp_path / "d.tflite").read_bytes()
    assert tflite_bytes(model.network) == tflite_bytes(read_tflite(data))
    assert model.labels == load("digits").labels
    assert model.failed_checks() == []
    images = sorted(DIGITS.glob("*.png"))
    assert model.predict(images).argmax(1).tolist() == load("digits").predict(images).argmax(1).tolist()
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    pixels = load("digits").pixels(images[4]).astype(int) - 128
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels[None].astype(np.int8))
    interpreter.invoke()
    assert interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).argmax() == 4


def test_json_has_everything_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for path in sorted(DIGITS.glob("*.png"))[:3]:
        (tmp_path / "photos" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "photos" / "broken.png").write_bytes(b"nothing")
    answer = document(run(
        "quantize", "digits", "--images", tmp_path / "photos", "-o", tmp_path / "d.tflite", "--json",
        "--calibration", "percentile", "--percentile", "99.9", "--input", "uint8",
    ))  # fmt: skip
    assert answer["output"] == str(tmp_path / "d.tflite")
    assert (answer["calibration"], answer["percentile"], answer["input"]) == ("percentile", 99.9, "uint8")
    assert (answer["images"], answer["same_class"]) == (3, 3)
    assert answer["failed_images"] == [str(tmp_path / "photos" / "broken.png")]
    assert answer["quantized_bytes"] == (tmp_path / "d.tflite").stat().st_size < answer["float_bytes"] / 2
    assert [layer["name"] for layer in answer["layers"]][-1] == "predictions"
    assert read_tflite((tmp_path / "d.tflite").read_bytes()).input.dtype == np.uint8


def test_it_needs_no_framework(tmp_path: Path) -> None:
    program = (
        "from npmobilenet.cli.main import main\n"
        f"main(['quantize', 'digits', '--images', {str(DIGITS)!r}, '-o', {str(tmp_path / 'd.tflite')!r}, '--json'])"
    )
    done = run_without(FRAMEWORKS, program)
    assert json.loads(done.stdout)["same_class"] == 10
    assert read_tflite((tmp_path / "d.tflite").read_bytes()).is_quantized


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("-o", "d.onnx"), "--output d.onnx: expected a name that ends in .safetensors or .tflite", 2),
        (("-o", "d.tflite", "--percentile", "99"), "--percentile applies to --calibration percentile", 2),
        (
            ("-o", "d.tflite", "--calibration", "percentile", "--percentile", "101"),
            "--percentile: expected more than 50 and at most 100, got 101",
            2,
        ),
        (("-o", "there.tflite"), "there.tflite already exists; use --force to overwrite", 1),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: tuple[str, ...], message: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.tflite").write_text("precious")
    result = run("quantize", "digits", "--images", DIGITS, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["there.tflite"]
    assert Path("there.tflite").read_text() == "precious"


def test_force_overwrites(tmp_path: Path) -> None:
    (tmp_path / "d.tflite").write_text("old")
    assert run("quantize", "digits", "--images", DIGITS, "-o", tmp_path / "d.tflite", "--force").exit_code == 0
    assert read_tflite((tmp_path / "d.tflite").read_bytes()).is_quantized


def test_the_range_of_the_option_is_that_of_the_file(tmp_path: Path, small_network: Path) -> None:
    arguments = ("--images", DIGITS, "-o", tmp_path / "q.safetensors", "--range", "0..1")
    result = run("quantize", small_network, *arguments)
    assert result.exit_code == 0
    assert "the file does not specify how images are resized; crop is assumed" in result.stderr
    model = QuantizedModel.open(tmp_path / "q.safetensors")
    assert model.scaling.scale == pytest.approx(1 / 255)
    assert model.labels == Model.open(small_network).labels
