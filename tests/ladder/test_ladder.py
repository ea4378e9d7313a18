"""The ladder: every rung is compared with float64 before its time is shown, and each is code of this repository."""

import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npmobilenet.architectures import mobilenet_v1, mobilenet_v2
from npmobilenet.architectures.baselines import squeezenet
from npmobilenet.compiler.plan import compile_graph
from npmobilenet.errors import ArgumentError, NpMobileNetError
from npmobilenet.exercises import plainly
from npmobilenet.ladder import measuring, rungs
from npmobilenet.ladder.all_rungs import all_rungs
from npmobilenet.ladder.bounds import Truth
from npmobilenet.ladder.measuring import Task, check_rungs
from npmobilenet.ladder.rungs import Rung
from npmobilenet.ladder.separable_block import SeparableBlock, find_block
from npmobilenet.ladder.sources import module_path, source_of
from npmobilenet.reference.convolution import conv2d
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Conv2D, DepthwiseConv2D, Input
from npmobilenet.types import Array
from tests.helpers import command_line
from tests.helpers.command_line import Result, document
from tests.helpers.real_files import ROOT
from tests.helpers.tolerances import SMALL

pytestmark = pytest.mark.usefixtures("kernels_kept")
SMALL_V1 = "-m", "mobilenet_v1", "--alpha", 0.25, "--resolution", 64, "--layer", "conv_dw_1"
SAMPLED = {0, 1}  # loops in Python
PYTHON_OVER_COMPILED = 5  # at least: measured 60, interleaved, on the smallest block of this file


def own_graph() -> Graph:
    """Biases, activations inside the layers, a 5 x 5 kernel without padding."""
    depthwise = DepthwiseConv2D(name="dw", inputs=("in",), kernel_size=(5, 5), stride=2, activation="relu")
    pointwise = Conv2D(name="pw", inputs=("dw",), filters=21, kernel_size=(1, 1), activation="hard_swish")
    return Graph("own", (Input(name="in", shape=(9, 12, 5)), depthwise, pointwise))


BLOCKS = {
    "most common": lambda: find_block(mobilenet_v1(alpha=0.25, resolution=32)),
    "zeros before, stride 2": lambda: find_block(mobilenet_v1(alpha=0.25, resolution=64), "conv_pw_2"),
    "odd size": lambda: find_block(mobilenet_v1(alpha=0.25, resolution=(33, 47)), "conv_dw_4_bn"),
    "linear, an odd zero": lambda: find_block(mobilenet_v2(alpha=0.35, resolution=(65, 96)), "block_3_pad"),
    "biases": lambda: find_block(own_graph()),
}


def run(*arguments: object) -> Result:
    return command_line.run("ladder", *arguments)


def all_entries(report: Any) -> list[Any]:
    return [*report["rungs"], *report["next_to"]]


@pytest.fixture(scope="module")
def report(kernels_kept: None) -> Any:
    """A real run, in a process of its own."""
    return document(run(*SMALL_V1, "--seconds", 1, "--threads", 1, "--json"))


@pytest.fixture
def block() -> SeparableBlock:
    return find_block(mobilenet_v1(alpha=0.25, resolution=64), "conv_dw_1")


@pytest.mark.parametrize("case", BLOCKS)
def test_every_rung_equals_float64_within_its_bound(case: str) -> None:
    block = BLOCKS[case]()
    ladder = all_rungs(block, threads=2)
    ratios = check_rungs(block, ladder, lambda: None)
    assert [rung.number for rung in ladder if not rung.is_side] == list(range(9))
    assert {rung.name: ratio for rung, ratio in zip(ladder, ratios, strict=True) if not ratio <= 1} == {}


@pytest.mark.parametrize("case", BLOCKS)
def test_the_bounds_are_small_enough_to_see_a_mistake(case: str) -> None:
    block = BLOCKS[case]()
    for work, terms in ((block.separable, 1), (block.standard, prod(block.filter.kernel_size))):
        truth = Truth(work, block.x)
        for bound in (truth.bound, truth.folded_bound):
            assert bound.max() < terms * SMALL * np.abs(truth.y).max()


def test_rungs_that_are_not_sampled_compute_the_whole_block(block: SeparableBlock) -> None:
    for rung in all_rungs(block, threads=1):
        shapes = [piece.run().shape for piece in rung.pieces]
        if rung.number in SAMPLED and not rung.is_side:
            assert rung.is_sampled
            assert all(shape[1:3] == (1, 1) for shape in shapes)
        else:
            assert not rung.is_sampled
            assert shapes == [(1, *block.output_shape)]


def flipped(x: Any, w: Any, stride: int, padding: Any) -> Any:
    """A depthwise convolution whose kernel is flipped."""
    return UNFLIPPED(x, [row[::-1] for row in w[::-1]], stride, padding)


def without_bias(A: Array, B: Array, bias: Array, C: Array) -> None:
    C[:] = A @ B


UNFLIPPED = plainly.depthwise_conv


def scaled(x: Array, w: Array, **window: Any) -> Array:
    return 1.01 * conv2d(x, w, **window)


MISTAKES: dict[str, tuple[object, str, object, tuple[int, str]]] = {
    "a flipped kernel": (plainly, "depthwise_conv", flipped, (1, "apart")),
    "no bias": (rungs, "blocked_product", without_bias, (5, "folded, blocked")),
    "one percent": (rungs, "conv2d", scaled, (2, "standard")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_rung_is_found(block: SeparableBlock, mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, name, wrong, expected = MISTAKES[mistake]
    monkeypatch.setattr(place, name, wrong)
    ladder = all_rungs(block, threads=1)
    ratios = check_rungs(block, ladder, lambda: None)
    wrong = [(rung.number, rung.name) for rung, ratio in zip(ladder, ratios, strict=True) if not ratio <= 1]
    assert wrong == [expected]


def test_an_engine_with_other_weights_is_found(block: SeparableBlock, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(graph: Graph, params: dict[str, Array]) -> Any:
        return compile_graph(graph, {name: np.roll(array, 1, -1) for name, array in params.items()})

    monkeypatch.setattr(rungs, "compile_graph", other)
    ladder = all_rungs(block, threads=1)
    ratios = check_rungs(block, ladder, lambda: None)
    wrong = {(rung.number, rung.name) for rung, ratio in zip(ladder, ratios, strict=True) if not ratio <= 1}
    assert wrong == {(6, "register tiles"), (7, "fused"), (7, "standard"), (8, "all cores")}


def in_this_process(task: Task) -> Iterator[Any]:
    yield measuring.measure(task, lambda: None)


def test_the_command_reports_a_wrong_rung_and_its_exit_code_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "measure_apart", in_this_process)
    monkeypatch.setattr(measuring, "take_turns", lambda rungs, *_: measuring.Turns([1.0] * len(rungs), 1e9, 1e9, 1))
    monkeypatch.setattr(rungs, "blocked_product", without_bias)
    result = run(*SMALL_V1, "--threads", 1)
    assert result.exit_code == 1
    assert result.stderr.startswith("rung 5, folded, blocked: wrong: ")
    assert len(result.stderr.splitlines()) == 1
    assert [line.split()[0] for line in result.stdout.splitlines() if " no " in line] == ["5"]


def every_rung(block: SeparableBlock) -> Iterator[tuple[Rung, Any]]:
    for rung in all_rungs(block, threads=1):
        assert rung.code
        for function in rung.code:
            yield rung, function


def test_the_code_of_every_rung_is_in_the_repository(block: SeparableBlock) -> None:
    for rung, function in every_rung(block):
        path, _, lines = module_path(function).partition(":")
        first, last = map(int, lines.split("-"))
        folder = ROOT / "kernels" if path.startswith("npmobilenet_kernels") else ROOT
        text = (folder / path).read_text(encoding="utf-8").splitlines(keepends=True)
        assert "".join(text[first - 1 : last]) == source_of(function).text, rung.name


@pytest.mark.parametrize("number", range(9))
def test_show_prints_the_code_of_a_rung_with_file_and_lines(number: int, block: SeparableBlock) -> None:
    result = run(*SMALL_V1, "--show", number)
    assert result.exit_code == 0
    shown = [(rung, function) for rung, function in every_rung(block) if rung.number == number]
    for _, function in shown:
        source = source_of(function)
        assert source.text in result.stdout
        assert f"{source.file.name}, lines {source.first} to {source.last}\n" in result.stdout


def test_what_stands_next_to_a_rung(report: Any) -> None:
    standard = [side["number"] for side in report["next_to"] if side["name"] == "standard"]
    assert standard == [2, 4, 7]
    assert {side["name"] for side in report["next_to"]} == {"standard", "folded"}
    assert len(all_entries(report)) == measuring.RUNGS


def test_the_figures_of_the_document_are_consistent(report: Any) -> None:
    assert report["model"] == "mobilenet_v1"
    assert report["layer"] == "conv_dw_1 + conv_pw_1"
    assert (report["input"], report["output"], report["kernel"], report["stride"]) == (
        [32, 32, 8], [32, 32, 16], [3, 3], 1,
    )  # fmt: skip
    assert report["macs"] == 32 * 32 * (9 * 8 + 8 * 16)
    assert report["standard_macs"] == 32 * 32 * 9 * 8 * 16
    assert report["rounds"] > 1
    assert set(report["versions"]) == {"python", "npmobilenet", "numpy", "numba", "llvmlite", "blas"}
    milliseconds = {rung["number"]: rung["ms"] for rung in report["rungs"]}
    for entry in all_entries(report):
        number, is_side = entry["number"], entry in report["next_to"]
        is_standard = entry["name"] in ("standard", "seven loops")
        assert entry["macs"] == report["standard_macs" if is_standard else "macs"]
        assert entry["gflops"] == pytest.approx(2 * entry["macs"] / entry["ms"] / 1e6)
        peak = report["peak_flops_all" if number == 8 else "peak_flops"]
        assert entry["share_of_peak"] == pytest.approx(1e9 * entry["gflops"] / peak)
        before = milliseconds.get(number if is_side else number - 1)
        assert entry["factor"] == (before and pytest.approx(before / entry["ms"]))
        assert entry["within_bound"] is True
        assert bool(entry["sampled"]) == (number in SAMPLED)
        assert entry["code"]


def test_compiled_loops_are_faster_than_loops_in_python(report: Any) -> None:
    milliseconds = [rung["ms"] for rung in report["rungs"]]
    assert milliseconds[1] > PYTHON_OVER_COMPILED * milliseconds[4]


def test_the_table_fits_a_terminal_and_marks_samples(report: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = [entry | {"ms": 123_456.7, "factor": 12_345.6} for entry in report["rungs"]]
    shown = {key: value for key, value in report.items() if key != "model"} | {"rungs": slow, "threads": 64}
    monkeypatch.setattr(measuring, "measure_apart", lambda task: iter([None, shown]))
    result = run(*SMALL_V1)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if " * " in line] == ["0", "1"]
    assert max(len(entry["changed"]) for entry in all_entries(report)) <= 15, "rich leaves more space between columns"


def test_turns_end_when_there_is_no_time_left(block: SeparableBlock) -> None:
    ladder, ticks = all_rungs(block, threads=1), []
    turns = measuring.take_turns(ladder, 1, -1.0, lambda: ticks.append(1))
    assert (turns.rounds, len(ticks), len(turns.seconds)) == (1, measuring.TICKS, len(ladder))
    assert np.isfinite(turns.seconds).all()


def test_the_page_takes_the_document(report: Any, tmp_path: Path) -> None:
    path, page = tmp_path / "times.json", tmp_path / "page.html"
    path.write_text(json.dumps(report), encoding="utf-8")
    assert command_line.run("page", "--ladder", path, "-o", page).exit_code == 0
    assert json.dumps(report["rungs"], ensure_ascii=False, separators=(",", ":")) in page.read_text(encoding="utf-8")


def test_the_most_common_block_is_the_one_of_14_x_14_x_512() -> None:
    block = find_block(mobilenet_v1())
    assert (block.depthwise, block.x.shape, block.output_shape) == ("conv_dw_7", (1, 14, 14, 512), (14, 14, 512))
    assert (block.separable.graph.macs, block.standard.graph.macs) == (52_283_392, 462_422_016)


def test_errors_name_what_was_expected() -> None:
    with pytest.raises(ArgumentError, match=r"got 'conv_9'; its blocks are conv_dw_1 \+ conv_pw_1, .*, and 5 more"):
        find_block(mobilenet_v1(alpha=0.25), "conv_9")
    with pytest.raises(ArgumentError, match="expected a depthwise convolution followed by a pointwise one"):
        find_block(squeezenet())
    assert "expected at most 45" in run("--seconds", 46).stderr
    assert "expected a rung from 0 to 8" in run("--show", 9).stderr


def test_a_process_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(mobilenet_v1(alpha=0.25, resolution=32), "conv_9", 1, 1)
    with pytest.raises(NpMobileNetError, match="got 'conv_9'"):
        list(measuring.measure_apart(task))
    monkeypatch.setattr(measuring, "SINGLE_THREAD", {"PYTHONHOME": "/nowhere"})
    with pytest.raises(NpMobileNetError, match="its process ended with exit code 1"):
        list(measuring.measure_apart(task))
