"""`npmobilenet dump`: the layers of a model file, from its own runtime, as `compare` reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npmobilenet import load
from npmobilenet.compiler.passes import fuse
from tests.helpers.command_line import Result, run
from tests.helpers.real_files import ROOT, real_file

IMAGE = ROOT / "examples" / "digits" / "3.png"


def dumped(file: Path, output: Path, *options: object) -> Result:
    return run("dump", file, IMAGE, "-o", output, *options)


def test_a_file_of_tensorflow_lite_is_equal_to_itself(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="requires ai-edge-litert: pip install npmobilenet[bench]")
    file = real_file("tflite", "vww_96_float.tflite")
    result = dumped(file, tmp_path / "dump.npz")
    assert result.exit_code == 0, result.stderr
    with np.load(tmp_path / "dump.npz") as arrays:
        assert len(arrays.files) == 31
        assert arrays[arrays.files[-1]].shape == (1, 2)
    compared = run("compare", "-m", file, "-i", IMAGE, tmp_path / "dump.npz")
    assert compared.exit_code == 0, compared.stdout


def test_a_quantized_file_of_tensorflow_lite_is_equal_to_itself(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="requires ai-edge-litert: pip install npmobilenet[bench]")
    file = real_file("tflite", "vww_96_int8.tflite")
    result = dumped(file, tmp_path / "dump.npz")
    assert result.exit_code == 0, result.stderr
    with np.load(tmp_path / "dump.npz") as arrays:
        assert {arrays[name].dtype.name for name in arrays.files} == {"int8"}
    compared = run("compare", "-m", file, "-i", IMAGE, tmp_path / "dump.npz", "--rule", "tflite")
    assert compared.exit_code == 0, compared.stdout


def test_the_integers_of_another_file_are_not_dumped(tmp_path: Path) -> None:
    network = tmp_path / "network.onnx"
    network.write_bytes(b"")
    result = dumped(network, tmp_path / "dump.npz", "-m", real_file("tflite", "vww_96_int8.tflite"))
    assert "only the layers of .tflite files can be dumped as integers" in result.stderr


def test_an_onnx_file_is_equal_to_the_network_that_it_was_exported_from(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="requires onnxruntime: pip install npmobilenet[test]")
    from npmobilenet.bench.export_onnx import write_onnx

    model = load("digits")
    write_onnx(fuse(model.graph, model.params), 1, tmp_path / "digits.onnx")
    result = dumped(tmp_path / "digits.onnx", tmp_path / "dump.npz", "-m", "digits")
    assert result.exit_code == 0, result.stderr
    compared = run("compare", "-m", "digits", "-i", IMAGE, tmp_path / "dump.npz")
    assert compared.exit_code == 0, compared.stdout
    assert "equal: every layer" in compared.stdout


def test_a_keras_file_is_equal_to_itself(tmp_path: Path, keras: Any) -> None:
    built = keras.applications.MobileNet((32, 32, 3), alpha=0.25, weights=None, classes=5)
    built.save(tmp_path / "network.keras")
    result = dumped(tmp_path / "network.keras", tmp_path / "dump.npz")
    assert result.exit_code == 0, result.stderr
    compared = run("compare", "-m", tmp_path / "network.keras", "-i", IMAGE, tmp_path / "dump.npz")
    assert compared.exit_code == 0, compared.stdout


def test_wrong_files_are_refused_and_nothing_is_overwritten(tmp_path: Path) -> None:
    existing = tmp_path / "dump.npz"
    existing.write_bytes(b"kept")
    network = tmp_path / "network.onnx"
    network.write_bytes(b"no model")
    for file, output, complaint in (
        (network, existing, "--force overwrites it"),
        (network, tmp_path / "dump.csv", "ends in .npz"),
        (tmp_path / "network.pth", tmp_path / "new.npz", "expected one of .tflite"),
        (network, tmp_path / "new.npz", str(network)),
    ):
        result = dumped(file, output)
        assert result.exit_code == 2
        assert complaint in result.stderr
    assert existing.read_bytes() == b"kept"
    assert not (tmp_path / "new.npz").exists()


def test_compare_takes_the_effort_in_seconds(tmp_path: Path) -> None:
    assert run("compare", tmp_path, tmp_path, "--effort", "-1").exit_code == 2


def test_compare_says_what_is_known_where_no_mistake_fits(tmp_path: Path) -> None:
    """Half of the difference is a wrong epsilon, the rest is noise."""
    model = load("digits")
    pixels = np.random.default_rng(0).integers(0, 256, model.graph.input_shape, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    outputs = dict(model.trace(model.scale(pixels[None])))
    y = outputs["conv1_bn"]
    arrays: dict[str, Any] = {"conv1": outputs["conv1"]}
    arrays["conv1_bn"] = y * 1.5 + 0.02 * np.random.default_rng(1).normal(size=y.shape)
    np.savez(tmp_path / "dump.npz", **arrays)
    result = run("compare", "-m", "digits", "-i", tmp_path / "image.png", tmp_path / "dump.npz")
    assert result.exit_code == 1
    assert "first wrong layer: conv1_bn" in result.stdout
    assert "no known mistake explains the difference" in result.stdout
    assert "nearest, not explaining: " in result.stdout
    assert "dump next: what the port passes to conv1_bn" in result.stdout
    assert result.stdout.index("no known mistake") < result.stdout.index("nearest, not explaining")
