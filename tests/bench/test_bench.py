"""`npmobilenet bench`: outputs are checked before anything is timed, and derived figures are consistent."""

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_kernels.runtime import codegen, native, peak
from npmobilenet_kernels.runtime.cpu import host_target, host_targets
from npmobilenet_kernels.runtime.thread_pool import available_cores

from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.architectures.ssd import ssd
from npmobilenet.bench import measure, runtimes
from npmobilenet.bench.random_weights import random_model, reference_outputs, sample_images
from npmobilenet.bench.runtimes import RUNTIMES, Runtime
from npmobilenet.bench.turns import workers
from npmobilenet.compiler.ir import Operations, Weighted
from npmobilenet.compiler.passes import fuse
from npmobilenet.compiler.plan import compile_graph
from npmobilenet.errors import NpMobileNetError
from npmobilenet.hub.load import load
from npmobilenet.models.model import Model
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Input, MaxPooling2D
from npmobilenet.types import Array
from tests.helpers import command_line
from tests.helpers.command_line import Result

QUICK = ("--rounds", 1, "--threads", 1)
WIDTHS = sorted(host_targets())
NETWORKS = {
    "V1 of odd size": lambda: mobilenet_v1(alpha=0.25, resolution=(65, 97), classes=11),
    "V2": lambda: mobilenet_v2(alpha=0.35, resolution=96, classes=11),
    "V2 of odd size, without its top": lambda: mobilenet_v2(alpha=0.35, resolution=(65, 97), include_top=False),
    "V3-Large, minimalistic": lambda: mobilenet_v3_large(alpha=0.75, resolution=64, minimalistic=True, classes=11),
    "V3-Small": lambda: mobilenet_v3_small(alpha=0.75, resolution=(65, 97), classes=11),
    "SSDLite on V2": lambda: ssd("mobilenet_v2", 0.35, 96, slots=5),
    "V2 with its last map": lambda: replace(
        mobilenet_v2(alpha=0.35, resolution=96, classes=11),
        outputs=(("map", "out_relu"), ("classes", "predictions"), ("again", "predictions")),
    ),
}


def run(*arguments: object) -> Result:
    return command_line.run("bench", *arguments)


def parsed(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """Each of the other runtimes that is installed."""
    found = RUNTIMES[request.param]
    if not found.is_installed:
        pytest.skip(f"requires {found.name}: {found.install_command}")
    return found


def only_installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda module: object() if module in names else None)


def test_the_command_times_every_runtime_and_its_derived_figures_are_consistent(runtime: Runtime) -> None:
    command = [sys.executable, "-m", "npmobilenet", "bench", "digits", "--against", runtime.name, "--batch", "2"]
    process = subprocess.run(
        [*command, *map(str, QUICK), "--json"], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    report = json.loads(process.stdout)
    assert [entry["engine"] for entry in report["engines"]] == ["npmobilenet", runtime.name]
    assert (report["macs"], report["batch"]) == (load("digits").graph.macs, 2)
    for entry in report["engines"]:
        assert entry["problem"] is None
        assert 0 < entry["difference"] <= measure.TOLERANCE
        assert 0 < entry["least_seconds"] <= entry["median_seconds"]
        assert entry["images_per_second"] == pytest.approx(2 / entry["least_seconds"])
        assert entry["flops"] == pytest.approx(2 * report["macs"] * entry["images_per_second"])
        assert entry["share_of_peak"] == pytest.approx(entry["flops"] / report["peak_flops"])
        assert entry["share_of_peak"] < 1
    own, other = (entry["least_seconds"] for entry in report["engines"])
    assert (report["best_other"], report["ratio"]) == (runtime.name, pytest.approx(own / other))


@pytest.mark.parametrize("network", NETWORKS)
def test_every_runtime_computes_the_same_network(network: str, runtime: Runtime, tmp_path: Path) -> None:
    model = random_model(NETWORKS[network]())
    x = sample_images(model, 2)
    runtime.export(fuse(model.graph, model.params), 2, tmp_path / runtime.file)
    ys = runtime.open(tmp_path / runtime.file, x, 1)()
    for y, expected in zip(ys, reference_outputs(model, x), strict=True):
        assert y.shape == expected.shape
        assert not np.allclose(expected[0], expected[1], atol=10 * measure.TOLERANCE * np.abs(expected).max(), rtol=0)
        np.testing.assert_allclose(y, expected, rtol=0, atol=measure.TOLERANCE * np.abs(expected).max())


def as_bfloat16(weights: Array) -> Array:
    """The upper half of every float32."""
    return (weights.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


def test_a_runtime_that_computes_in_bfloat16_is_detected_and_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="requires ONNX Runtime: pip install npmobilenet[test]")
    exact = RUNTIMES["onnxruntime"]

    def export(ops: Operations, batch: int, path: Path) -> None:
        rounded = [replace(op, kernel=as_bfloat16(op.kernel)) if isinstance(op, Weighted) else op for op in ops]
        exact.export(rounded, batch, path)

    monkeypatch.setitem(RUNTIMES, "onnxruntime", replace(exact, export=export))
    result = run("mobilenet_v2", "--alpha", 0.35, "--resolution", 96, "--against", "onnxruntime", *QUICK, "--json")
    assert result.exit_code == 1
    own, other = json.loads(result.stdout)["engines"]
    assert own["least_seconds"] > 0
    assert (other["least_seconds"], other["share_of_peak"]) == (None, None)
    assert other["difference"] > measure.TOLERANCE
    assert other["problem"].startswith("output differs: relative error ")


def test_a_runtime_without_an_export_of_the_network_is_skipped(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="requires ONNX Runtime: pip install npmobilenet[test]")
    image = Input(name="image", shape=(8, 8, 3))
    graph = Graph("pooled", (image, MaxPooling2D(name="largest", inputs=("image",), kernel_size=(2, 2), stride=2)))
    Model(graph, {}).save(tmp_path / "pooled.safetensors")
    result = run(tmp_path / "pooled.safetensors", "--against", "onnxruntime", *QUICK)
    assert result.exit_code == 1
    assert "largest: MaxPooling2D has no ONNX export" in result.stdout
    assert "fastest other runtime" not in result.stdout


def test_a_runtime_whose_process_ends_is_reported_with_its_last_message(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="requires ONNX Runtime: pip install npmobilenet[test]")

    def export(ops: Any, batch: int, path: Path) -> None:
        path.write_bytes(b"not a network")

    monkeypatch.setitem(RUNTIMES, "onnxruntime", replace(RUNTIMES["onnxruntime"], export=export))
    result = run("digits", "--against", "onnxruntime", *QUICK, "--json")
    assert result.exit_code == 1
    _, other = json.loads(result.stdout)["engines"]
    assert "its process ended with exit code 1" in other["problem"]
    assert "onnxruntime" in other["problem"]


def test_a_requested_runtime_that_is_not_installed_is_an_error_with_its_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only_installed(monkeypatch, "onnxruntime", "onnx")
    result = run("digits", "--against", "onnxruntime,litert", *QUICK)
    assert result.exit_code == 1
    assert "litert is not installed: pip install ai-edge-litert" in result.stderr


def test_without_other_runtimes_npmobilenet_is_timed_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only_installed(monkeypatch)
    result = run("digits", *QUICK)
    assert result.exit_code == 0
    assert "openvino not installed, skipped: pip install openvino onnx" in result.stdout
    assert "fastest other runtime" not in result.stdout
    report = parsed(run("digits", *QUICK, "--json"))
    assert [entry["engine"] for entry in report["engines"]] == ["npmobilenet"]
    assert (report["best_other"], report["ratio"]) == (None, None)
    assert [entry["engine"] for entry in report["not_installed"]] == list(RUNTIMES)


def test_the_steps_are_those_of_the_plan_and_sum_to_the_graph_s_multiply_adds() -> None:
    arguments = ("mobilenet_v1", "--alpha", 0.25, "--resolution", 128, "--steps", *QUICK)
    report = parsed(run(*arguments, "--json"))
    graph = mobilenet_v1(alpha=0.25, resolution=128)
    plan = compile_graph(graph, random_model(graph).params)
    steps = report["steps"]
    assert [step["layers"] for step in steps] == [step.layers for step in plan.steps]
    assert sum(step["macs"] for step in steps) == graph.macs
    folded = sum(op.weight_count for op in plan.ops)
    assert sum(step["weight_bytes"] for step in steps) == 4 * folded
    first = steps[0]  # from the image to 64 x 64 x 16, including the depthwise layer
    assert first["map_bytes"] == 4 * (128 * 128 * 3 + 64 * 64 * 16)
    assert first["weight_bytes"] == 4 * ((3 * 3 * 3 + 1) * 8 + (3 * 3 + 1) * 8 + (8 + 1) * 16)
    for step in steps:
        assert step["bytes"] == step["weight_bytes"] + step["map_bytes"]
        assert step["macs_per_byte"] == step["macs"] / step["bytes"]
        longer = max(step["seconds_of_arithmetic"], step["seconds_of_reading"])
        assert (step["bound"] == "memory") == (longer > step["seconds_of_arithmetic"])
        assert step["seconds"] is None or step["share_of_bound"] == pytest.approx(longer / step["seconds"])
    assert steps[-2]["bound"] == "memory"  # the classifier: every weight is used once
    total = sum(step["seconds"] or 0 for step in steps)
    assert 2 * graph.macs / total < report["peak_flops"]


def test_steps_are_printed_with_their_layers() -> None:
    result = run("mobilenet_v2", "--alpha", 0.35, "--resolution", 96, "--steps", *QUICK)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "mobilenet_v2: 1 thread, 1 round"
    assert lines[2].endswith("Conv1 ... expanded_conv_project_BN")
    graph = mobilenet_v2(alpha=0.35, resolution=96)
    last = len(compile_graph(graph, random_model(graph).params).steps) - 1  # the softmax has no layer of its own
    assert [line.split()[0] for line in lines if line.endswith("predictions")] == [str(last - 1), str(last)]
    assert any(line.startswith("FMA peak: ") for line in lines)


@pytest.mark.parametrize("threads", sorted({1, min(2, available_cores())}))
def test_a_plan_times_each_step_with_a_call_of_its_own(threads: int) -> None:
    model = load("digits")
    plan = compile_graph(model.graph, model.params)
    x = sample_images(model, 1)
    expected = plan.run(x, threads)
    seconds, call = plan.time_steps(x, threads)
    assert len(seconds) == len(plan.steps)
    assert min(seconds) > 0 < call
    np.testing.assert_array_equal(plan.run(x, threads), expected)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_peak_kernels_execute_all_multiply_adds_and_read_all_memory(width: int) -> None:
    tiles: dict[str, Callable[..., None]] = {"multiply_adds": peak.multiply_adds, "read_all": peak.read_all}
    addresses = native.load(codegen.compile_tiles(tiles, host_target(width)), tiles)
    sums = np.full((peak.FLOATS, width), 0.5, np.float32)
    sums[2:] = np.arange(2, peak.FLOATS)[:, None]
    once = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 2)(addresses["multiply_adds"])
    once(sums.ctypes.data, 3)
    starts = np.arange(2, peak.FLOATS, dtype=np.float64)[:, None]
    np.testing.assert_allclose(sums[2:], np.broadcast_to(1 + (starts - 1) / 2 ** (3 * peak.UNROLL), sums[2:].shape))
    values = np.arange(5 * peak.READ_UNROLL * width, dtype=np.float32).reshape(-1, width)
    total = np.zeros(width, np.float32)
    again = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(addresses["read_all"])
    again(values.ctypes.data, 5, 3, total.ctypes.data)
    np.testing.assert_array_equal(total, 3 * values.sum(axis=0))  # integers below 2^24: exact


def test_the_rate_of_a_size_is_that_of_the_next_larger_measured_size() -> None:
    measured = ((16, 9.0), (64, 5.0), (256, 2.0))
    assert [measure.rate(measured, size) for size in (1, 16, 17, 64, 256, 1000)] == [9, 9, 5, 5, 2, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--threads", "1000"], "available to this process"),
        (["digits", "--steps", "--batch", "2"], "do not apply to --steps"),
        (["digits", "--steps", "--against", "litert"], "do not apply to --steps"),
        (["digits", "--rounds", "0"], "rounds"),
        (["digits", "--alpha", "0.5"], "apply only to an architecture"),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_an_unknown_runtime_is_refused_with_the_known_ones() -> None:
    result = run("digits", "--against", "tvm")
    assert result.exit_code == 1
    assert "choose from onnxruntime, litert, openvino" in result.stderr


def test_a_failed_download_suggests_random_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NPMOBILENET_CACHE", str(tmp_path))
    monkeypatch.setenv("NPMOBILENET_MIRROR", "http://127.0.0.1:9")
    result = run("mobilenet_v1_0.25_128", *QUICK)
    assert result.exit_code == 1
    assert "--random" in result.stderr


def test_activations_neither_vanish_nor_explode_with_random_weights() -> None:
    model = random_model(mobilenet_v3_small(resolution=64))
    for name, y in model.trace(sample_images(model, 1)):
        assert np.isfinite(y).all(), name
        assert np.abs(y).max() > 1e-3, name


def test_a_worker_that_cannot_start_reports_the_reason(tmp_path: Path) -> None:
    with workers(["npmobilenet"], tmp_path, 1) as (process,), pytest.raises(NpMobileNetError, match="images"):
        process.wait_until_ready()
