"""Timings of runtimes on a quantized network.

LiteRT reads the TensorFlow Lite file, ONNX Runtime and OpenVINO the same integers in QDQ form. npmobilenet must give
the integers of the reference; the others round differently by one step here and there, and how far their outputs are
from the reference is part of the result.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from npmobilenet.bench.export_qdq import write_qdq
from npmobilenet.bench.measure import EngineComparison, Timing, untimed, wait_for_all, with_times
from npmobilenet.bench.runtimes import Runtime
from npmobilenet.bench.turns import take_turns, workers
from npmobilenet.bench.worker import BYTE_STEPS, ENGINE, facts_of, outputs_of, write_byte_inputs
from npmobilenet.compiler.byte_lowering import multiply_adds
from npmobilenet.compiler.byte_operations import SIGN_BIT, as_stored
from npmobilenet.errors import NpMobileNetError
from npmobilenet.models.self_check import synthetic_image
from npmobilenet.output import waiting
from npmobilenet.quantized.rules import Rule
from npmobilenet.quantized.running import run
from npmobilenet.quantized.tensors import Network
from npmobilenet.types import Array

LIKENESS = (
    0.7  # least correlation of another runtime's outputs with ours: 0.84 and more, with other weights 0.48 and less
)


@dataclass(frozen=True)
class ByteStepTiming:
    """Timing of one step of a plan on bytes.

    Attributes:
        kernel, layers, input, output, macs, rescaling: of the step; `rescaling` names how results are requantized.
        seconds: its minimum time; None if below the overhead of a call.
    """

    kernel: str
    layers: tuple[str, ...]
    input: tuple[int, ...]
    output: tuple[int, ...]
    macs: int
    rescaling: str
    seconds: float | None

    @property
    def operations(self) -> float | None:
        """Operations per second, two per multiply-add."""
        return 2 * self.macs / self.seconds if self.seconds else None


def compare_byte_engines(
    network: Network, rule: Rule, runtimes: Sequence[Runtime], *, threads: int, rounds: int
) -> EngineComparison:
    """Time npmobilenet under a rule, and other runtimes, on one image; method as of `compare_engines`.

    Raises:
        NpMobileNetError: a process ended while measuring.
    """
    x = sample_integers(network)
    with tempfile.TemporaryDirectory(prefix="npmobilenet-bench-") as name:
        folder = Path(name)
        write_byte_inputs(folder, network, rule, x)
        problems = _export(network, runtimes, folder)
        tasks = [ENGINE, *(runtime.name for runtime in runtimes if runtime.name not in problems)]
        with workers(tasks, folder, threads) as started:
            with waiting(f"starting {', '.join(tasks)}"):
                expected = [as_stored(y) for y in run(network, x, rule)]
                problems |= wait_for_all(started)
            judged = [_judged(timing, problems.get(timing.engine), folder, expected) for timing in untimed(runtimes)]
            wrong = {timing.engine for timing in judged if timing.problem}
            runs = take_turns([process for process in started if process.task not in wrong], rounds)
    timed = tuple(with_times(timing, runs.get(timing.engine, [])) for timing in judged)
    return EngineComparison(multiply_adds(network), 1, threads, rounds, None, timed)


def profile_byte_steps(
    network: Network, rule: Rule, *, threads: int, rounds: int
) -> tuple[list[ByteStepTiming], float]:
    """Minimum time of every step of the plan within runs of the whole network, and seconds of the network in one call.

    Raises:
        NpMobileNetError: a process ended.
    """
    with tempfile.TemporaryDirectory(prefix="npmobilenet-bench-") as name:
        folder = Path(name)
        write_byte_inputs(folder, network, rule, sample_integers(network))
        with workers((ENGINE, BYTE_STEPS), folder, threads) as started:
            with waiting("starting"):
                for process in started:
                    process.wait_until_ready()
            runs = take_turns(started, rounds)
        facts = facts_of(folder, BYTE_STEPS)["steps"]
    *minima, call = np.min(runs[BYTE_STEPS], axis=0).tolist()
    steps = [
        ByteStepTiming(**fact, seconds=seconds - call if seconds > call else None)
        for fact, seconds in zip(facts, minima, strict=True)
    ]
    return steps, min(runs[ENGINE])[0]


def sample_integers(network: Network) -> Array:
    """(1, H, W, C) of the input's type: the image of the self-check."""
    image = network.input
    x = synthetic_image(image.shape[1:])[None].astype(np.uint8)
    return (x ^ SIGN_BIT).view(np.int8) if image.dtype == np.int8 else x


def _export(network: Network, runtimes: Sequence[Runtime], folder: Path) -> dict[str, str]:
    """Write the runtimes' files; returns the problem by name of each runtime without one."""
    problems: dict[str, str] = {}
    for runtime in runtimes:
        path = folder / runtime.file
        if not path.exists():
            try:
                write_qdq(network, path)
            except NpMobileNetError as error:
                problems[runtime.name] = str(error)
    return problems


def _judged(timing: Timing, problem: str | None, folder: Path, expected: list[Array]) -> Timing:
    """The timing with the largest difference in steps, and a problem if it is too large."""
    if problem:
        return replace(timing, problem=problem)
    ys = [as_stored(y) for y in outputs_of(folder, timing.engine)]
    shapes, got = [exact.shape for exact in expected], [y.shape for y in ys]
    if got != shapes:
        return replace(timing, problem=f"output differs: expected shapes {shapes}, got {got}")
    steps = max(int(np.abs(y.astype(int) - exact).max()) for y, exact in zip(ys, expected, strict=True))
    if timing.engine == ENGINE:
        problem = "" if steps == 0 else f"output differs by {steps} steps"
    else:
        alike = all(_is_like(y, exact) for y, exact in zip(ys, expected, strict=True))
        problem = "" if alike else f"output differs by {steps} steps, and does not follow the reference's"
    return replace(timing, difference=steps, problem=problem)


def _is_like(y: Array, exact: Array) -> bool:
    """Whether values rise and fall with those of the reference; a constant must be the same."""
    if exact.min() == exact.max():
        return np.array_equal(y, exact)
    return y.min() < y.max() and bool(np.corrcoef(y.ravel(), exact.ravel())[0, 1] >= LIKENESS)
