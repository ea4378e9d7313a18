"""`npmobilenet bench`: answers are checked before anything is timed, and the figures follow from each other."""

import ctypes
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_kernels import native, peak
from npmobilenet_kernels.lanes import host_lanes, lanes
from npmobilenet_kernels.threads import available_cores

from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.bench import measure, runtimes
from npmobilenet.bench.random_weights import expected, pictures, random_model
from npmobilenet.bench.runtimes import PEERS, Peer
from npmobilenet.bench.turns import workers
from npmobilenet.compiler.passes import fuse
from npmobilenet.compiler.plan import compile_graph
from npmobilenet.errors import NpMobileNetError
from npmobilenet.hub.load import load
from npmobilenet.models.model import Model
from npmobilenet.reference.graph import Graph, Input, MaxPooling2D
from npmobilenet.types import Array
from tests.helpers import command_line
from tests.helpers.command_line import Result

QUICK = ("--rounds", 1, "--threads", 1)
WIDTHS = sorted(host_lanes())
NETWORKS = {
    "V1 of odd size": lambda: mobilenet_v1(alpha=0.25, resolution=(65, 97), classes=11),
    "V2": lambda: mobilenet_v2(alpha=0.35, resolution=96, classes=11),
    "V2 of odd size, without its top": lambda: mobilenet_v2(alpha=0.35, resolution=(65, 97), include_top=False),
    "V3-Large, minimalistic": lambda: mobilenet_v3_large(alpha=0.75, resolution=64, minimalistic=True, classes=11),
    "V3-Small": lambda: mobilenet_v3_small(alpha=0.75, resolution=(65, 97), classes=11),
}


def run(*arguments: object) -> Result:
    return command_line.run("bench", *arguments)


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> Peer:
    """Each of the other engines that is installed."""
    found = PEERS[request.param]
    if not found.is_installed:
        pytest.skip(f"runs {found.name}: {found.how_to_install}")
    return found


def only_installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda module: object() if module in names else None)


def test_the_command_times_every_engine_and_its_figures_follow_from_each_other(peer: Peer) -> None:
    command = [sys.executable, "-m", "npmobilenet", "bench", "digits", "--against", peer.name, "--batch", "2"]
    process = subprocess.run(
        [*command, *map(str, QUICK), "--json"], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    answer = json.loads(process.stdout)
    assert [entry["engine"] for entry in answer["engines"]] == ["npmobilenet", peer.name]
    assert (answer["macs"], answer["batch"]) == (load("digits").graph.macs, 2)
    for entry in answer["engines"]:
        assert entry["problem"] is None
        assert 0 < entry["difference"] <= measure.TOLERANCE
        assert 0 < entry["least_seconds"] <= entry["median_seconds"]
        assert entry["images_per_second"] == pytest.approx(2 / entry["least_seconds"])
        assert entry["flops"] == pytest.approx(2 * answer["macs"] * entry["images_per_second"])
        assert entry["share_of_peak"] == pytest.approx(entry["flops"] / answer["peak_flops"])
        assert entry["share_of_peak"] < 1
    ours, theirs = (entry["least_seconds"] for entry in answer["engines"])
    assert (answer["best_other"], answer["ratio"]) == (peer.name, pytest.approx(ours / theirs))


@pytest.mark.parametrize("network", NETWORKS)
def test_every_engine_is_given_the_same_network(network: str, peer: Peer, tmp_path: Path) -> None:
    model = random_model(NETWORKS[network]())
    x = pictures(model, 2)
    peer.export(fuse(model.graph, model.params), 2, tmp_path / peer.file)
    y = peer.open(tmp_path / peer.file, x, 1)()
    right = expected(model, x)
    assert y.shape == right.shape
    assert not np.allclose(right[0], right[1], atol=10 * measure.TOLERANCE * np.abs(right).max(), rtol=0)
    np.testing.assert_allclose(y, right, rtol=0, atol=measure.TOLERANCE * np.abs(right).max())


def as_bfloat16(weights: Array) -> Array:
    """The upper half of every float32."""
    return (weights.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


def test_an_engine_that_computes_in_bfloat16_is_caught_and_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="runs ONNX Runtime: pip install npmobilenet[test]")
    right = PEERS["onnxruntime"]

    def export(ops: Any, batch: int, path: Path) -> None:
        rounded = [op if op.kernel is None else replace(op, kernel=as_bfloat16(op.kernel)) for op in ops]
        right.export(rounded, batch, path)

    monkeypatch.setitem(PEERS, "onnxruntime", replace(right, export=export))
    result = run("mobilenet_v2", "--alpha", 0.35, "--resolution", 96, "--against", "onnxruntime", *QUICK, "--json")
    assert result.exit_code == 1
    ours, theirs = json.loads(result.stdout)["engines"]
    assert ours["least_seconds"] > 0
    assert (theirs["least_seconds"], theirs["share_of_peak"]) == (None, None)
    assert theirs["difference"] > measure.TOLERANCE
    assert theirs["problem"].startswith("answers otherwise, by ")


def test_a_network_that_an_engine_cannot_be_given_is_timed_without_it(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="runs ONNX Runtime: pip install npmobilenet[test]")
    image = Input(name="image", shape=(8, 8, 3))
    graph = Graph("pooled", [image, MaxPooling2D(name="largest", inputs=("image",), kernel_size=(2, 2), stride=2)])
    Model(graph, {}).save(tmp_path / "pooled.safetensors")
    result = run(tmp_path / "pooled.safetensors", "--against", "onnxruntime", *QUICK)
    assert result.exit_code == 1
    assert "largest: MaxPooling2D is not exported to ONNX" in result.stdout
    assert "npmobilenet takes" not in result.stdout


def test_an_engine_that_ends_is_named_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="runs ONNX Runtime: pip install npmobilenet[test]")

    def export(ops: Any, batch: int, path: Path) -> None:
        path.write_bytes(b"not a network")

    monkeypatch.setitem(PEERS, "onnxruntime", replace(PEERS["onnxruntime"], export=export))
    result = run("digits", "--against", "onnxruntime", *QUICK, "--json")
    assert result.exit_code == 1
    _, theirs = json.loads(result.stdout)["engines"]
    assert "its process ended with exit code 1" in theirs["problem"]
    assert "onnxruntime" in theirs["problem"]


def test_one_asked_for_and_not_installed_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only_installed(monkeypatch, "onnxruntime", "onnx")
    result = run("digits", "--against", "onnxruntime,litert", *QUICK)
    assert result.exit_code == 1
    assert "litert is not installed here: pip install ai-edge-litert" in result.stderr


def test_where_nothing_else_is_installed_ours_is_timed_alone_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only_installed(monkeypatch)
    result = run("digits", *QUICK)
    assert result.exit_code == 0
    assert "openvino is not installed here, and so not timed: pip install openvino onnx" in result.stdout
    assert "npmobilenet takes" not in result.stdout
    answer = document(run("digits", *QUICK, "--json"))
    assert [entry["engine"] for entry in answer["engines"]] == ["npmobilenet"]
    assert (answer["best_other"], answer["ratio"]) == (None, None)
    assert [entry["engine"] for entry in answer["not_installed"]] == list(PEERS)


def test_steps_are_those_of_the_plan_and_their_multiply_adds_those_of_the_graph() -> None:
    arguments = ("mobilenet_v1", "--alpha", 0.25, "--resolution", 128, "--steps", *QUICK)
    answer = document(run(*arguments, "--json"))
    graph = mobilenet_v1(alpha=0.25, resolution=128)
    plan = compile_graph(graph, random_model(graph).params)
    steps = answer["steps"]
    assert [step["layers"] for step in steps] == [step.layers for step in plan.steps]
    assert sum(step["macs"] for step in steps) == graph.macs
    folded = sum(op.weight_count for op in plan.ops)
    assert sum(step["weight_bytes"] for step in steps) == 4 * folded
    first = steps[0]  # from the image to 64 x 64 x 16, by way of the depthwise layer
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
    assert 2 * graph.macs / total < answer["peak_flops"]


def test_steps_are_printed_with_the_layers_that_they_cover() -> None:
    result = run("mobilenet_v2", "--alpha", 0.35, "--resolution", 96, "--steps", *QUICK)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "mobilenet_v2: 1 thread, 1 round"
    assert lines[2].endswith("Conv1 ... expanded_conv_project_BN")
    graph = mobilenet_v2(alpha=0.35, resolution=96)
    last = len(compile_graph(graph, random_model(graph).params).steps) - 1  # the softmax, which has no layer to itself
    assert [line.split()[0] for line in lines if line.endswith("predictions")] == [str(last - 1), str(last)]
    assert any(line.startswith("FMA peak: ") for line in lines)


@pytest.mark.parametrize("threads", sorted({1, min(2, available_cores())}))
def test_a_plan_times_each_of_its_steps_by_a_call(threads: int) -> None:
    model = load("digits")
    plan = compile_graph(model.graph, model.params)
    x = pictures(model, 1)
    right = plan.run(x, threads)
    seconds, call = plan.time_steps(x, threads)
    assert len(seconds) == len(plan.steps)
    assert min(seconds) > 0 < call
    np.testing.assert_array_equal(plan.run(x, threads), right)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_peak_is_measured_by_multiply_adds_that_are_done_and_memory_that_is_read(width: int) -> None:
    tiles = {"multiply_adds": peak.multiply_adds, "read_all": peak.read_all}
    addresses = native.load(native.compile_tiles(tiles, lanes(width)), tiles)
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


def test_the_rate_of_a_size_is_that_of_the_next_larger_one_measured() -> None:
    measured = ((16, 9.0), (64, 5.0), (256, 2.0))
    assert [measure.rate(measured, size) for size in (1, 16, 17, 64, 256, 1000)] == [9, 9, 5, 5, 2, 2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digits", "--threads", "1000"], "this process may use"),
        (["digits", "--steps", "--batch", "2"], "no meaning"),
        (["digits", "--steps", "--against", "litert"], "no meaning"),
        (["digits", "--rounds", "0"], "rounds"),
        (["digits", "--alpha", "0.5"], "only an architecture"),
    ],
)
def test_wrong_use_is_told(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_an_unknown_engine_is_told_with_the_known_ones() -> None:
    result = run("digits", "--against", "tvm")
    assert result.exit_code == 1
    assert "there are onnxruntime, litert, openvino" in result.stderr


def test_a_model_that_cannot_be_fetched_can_be_measured_without_its_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NPMOBILENET_CACHE", str(tmp_path))
    monkeypatch.setenv("NPMOBILENET_MIRROR", "http://127.0.0.1:9")
    result = run("mobilenet_v1_0.25_128", *QUICK)
    assert result.exit_code == 1
    assert "--random" in result.stderr


def test_random_weights_keep_a_network_alive() -> None:
    model = random_model(mobilenet_v3_small(resolution=64))
    for name, y in model.trace(pictures(model, 1)):
        assert np.isfinite(y).all(), name
        assert np.abs(y).max() > 1e-3, name


def test_the_worker_says_why_it_cannot_start(tmp_path: Path) -> None:
    with workers(["npmobilenet"], tmp_path, 1) as (process,), pytest.raises(NpMobileNetError, match="images"):
        process.wait_until_ready()
