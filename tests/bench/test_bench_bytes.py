"""`npmobilenet bench` of quantized networks: what other runtimes get is the same network, and answers are checked."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from npmobilenet_weights_convert.tflite_file import read_tflite

from npmobilenet.bench import measure_bytes
from npmobilenet.bench.export_qdq import write_qdq
from npmobilenet.bench.measure_bytes import compare_byte_engines, sample_integers
from npmobilenet.bench.runtimes import RUNTIMES
from npmobilenet.compiler.byte_lowering import multiply_adds
from npmobilenet.compiler.byte_operations import as_stored
from npmobilenet.quantized.rules import TFLITE
from npmobilenet.quantized.running import run
from npmobilenet.quantized.tensors import Network
from npmobilenet.types import Array
from tests.helpers import command_line
from tests.helpers.drawn_operators import DrawnOperator, drawn_operator
from tests.helpers.one_image import after_identities
from tests.helpers.real_files import real_file

pytest.importorskip("onnxruntime", reason="requires runtimes to compare with: pip install npmobilenet[bench]")
pytest.importorskip("openvino", reason="requires runtimes to compare with: pip install npmobilenet[bench]")

QUICK = ("--threads", 1, "--rounds", 1)
ROUNDED_ELSEWHERE = 1  # step by which one operator's output may differ: it is rounded in float32
SEVERAL_LAYERS = 4  # steps, after some thirty layers
CODES = (
    "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "ADD", "SUB", "MUL",
    "HARD_SWISH", "LOGISTIC", "QUANTIZE", "RELU", "RELU6", "PAD",
)  # fmt: skip


def network_of(name: str) -> Network:
    return read_tflite(real_file("tflite", f"{name}.tflite").read_bytes())


def outputs(network: Network, x: Array, path: Path, runtime: str) -> list[Array]:
    """What a runtime computes of the exported network."""
    write_qdq(network, path)
    return RUNTIMES[runtime].open(path, as_stored(x), 1)()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["vww_96_int8", "mobilenet_v1_0.25_128_quant"])
def test_real_networks(name: str, runtime: str, tmp_path: Path) -> None:
    network = network_of(name)
    x = sample_integers(network)
    (y,), (expected,) = outputs(network, x, tmp_path / "network.onnx", runtime), run(network, x)
    assert np.abs(y.astype(int) - as_stored(expected)).max() <= SEVERAL_LAYERS
    assert expected.min() < expected.max()


@pytest.mark.parametrize("code", CODES)
def test_operators(code: str, tmp_path: Path) -> None:
    """Drawn operators, int8 and uint8: nearly all values are the same, none is off by more than a rounding.

    Hard swish has a 16-bit formula of its own in TensorFlow Lite, which is off by up to some steps itself.
    """
    for dtype in (np.dtype(np.int8), np.dtype(np.uint8)):
        drawn = (drawn_operator(code, seed, dtype) for seed in itertools.count())
        of_one_image = (one for one in drawn if one.inputs[0].shape[0] == 1)
        for one in itertools.islice(of_one_image, 4):
            network, x = after_identities(_of_one_quantization(one))
            (y,), (expected,) = outputs(network, x, tmp_path / "network.onnx", "onnxruntime"), run(network, x)
            off = np.abs(y.reshape(expected.shape).astype(int) - as_stored(expected))
            assert off.max() <= ROUNDED_ELSEWHERE or code == "HARD_SWISH", network.operators[-1]
            assert off.mean() < 0.5


def _of_one_quantization(drawn: DrawnOperator) -> DrawnOperator:
    """The same with inputs that all stand for the same real numbers, as the image does from which they come."""
    tensors, (first, *others) = list(drawn.network.tensors), drawn.network.inputs
    for number in others:
        tensors[number] = replace(tensors[number], quantization=tensors[first].quantization)
    return replace(drawn, network=replace(drawn.network, tensors=tuple(tensors)))


def test_answers_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of npmobilenet every bit; a runtime with other weights is not timed."""
    network = network_of("mobilenet_v1_0.25_128_quant")
    honest: Callable[[Network, Path], None] = write_qdq

    def with_other_weights(network: Network, path: Path) -> None:
        tensors = [
            tensor if tensor.data is None or tensor.data.ndim != 4 else replace(tensor, data=np.roll(tensor.data, 1, 0))
            for tensor in network.tensors
        ]
        honest(replace(network, tensors=tuple(tensors)), path)

    monkeypatch.setattr(measure_bytes, "write_qdq", with_other_weights)
    peers = [RUNTIMES["litert"], RUNTIMES["onnxruntime"]]
    own, litert, onnx = compare_byte_engines(network, TFLITE, peers, threads=1, rounds=1).timings
    assert (own.difference, own.problem) == (0, "")
    assert own.minimum
    assert litert.minimum
    assert "output differs by" in onnx.problem
    assert onnx.minimum is None


def test_command_compares() -> None:
    path = real_file("tflite", "vww_96_int8.tflite")
    result = command_line.run("bench", path, *QUICK, "--against", "litert,onnxruntime", "--json")
    document = json.loads(result.stdout)
    assert document["macs"] == multiply_adds(network_of("vww_96_int8")) == 7_489_664
    assert [engine["engine"] for engine in document["engines"]] == ["npmobilenet", "litert", "onnxruntime"]
    assert document["engines"][0]["difference"] == 0
    own, *others = (engine["least_seconds"] for engine in document["engines"])
    assert document["ratio"] == own / min(others)
    assert document["peak_flops"] is None
    table = command_line.run("bench", path, *QUICK, "--against", "litert", "--batch", 1).stdout
    assert "7,489,664 multiply-adds of 8 bits, rule tflite, 1 thread, 1 round" in table
    refused = command_line.run("bench", path, *QUICK, "--batch", 2)
    assert "--batch does not apply to a quantized model" in refused.stderr


def test_command_times_steps() -> None:
    path = real_file("tflite", "vww_96_int8.tflite")
    document = json.loads(command_line.run("bench", path, *QUICK, "--steps", "--json").stdout)
    assert sum(step["macs"] for step in document["steps"]) == 7_489_664
    assert document["steps"][0]["kernel"] == "stem"
    assert document["whole_seconds"] > 0
    table = command_line.run("bench", path, *QUICK, "--steps").stdout
    assert "depthwise" in table
    assert "the network in one call" in table
