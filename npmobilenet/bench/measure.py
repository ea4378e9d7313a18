"""Timings of runtimes and of the steps of a plan, and figures derived from them."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

from npmobilenet.bench.random_weights import reference_outputs, sample_images
from npmobilenet.bench.runtimes import Runtime
from npmobilenet.bench.turns import Worker, take_turns, workers
from npmobilenet.bench.worker import ENGINE, PEAK, READING, STEPS, facts_of, outputs_of, write_inputs
from npmobilenet.compiler.passes import fuse
from npmobilenet.errors import NpMobileNetError
from npmobilenet.models.model import Model
from npmobilenet.output import waiting
from npmobilenet.types import Array

TOLERANCE = 2.0**-10  # relative to the largest output: half of one rounding to bfloat16; float32 stays far below
FLOPS = 2  # of one multiply-add


@dataclass(frozen=True)
class Timing:
    """Output error and speed of one runtime.

    Attributes:
        engine, version: name and version of the runtime.
        difference: maximum difference from the float64 reference, relative to its largest output; None without output.
        minimum, median: seconds per batch; None if not timed.
        problem: the reason it was not timed.
    """

    engine: str
    version: str
    difference: float | None = None
    minimum: float | None = None
    median: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class EngineComparison:
    """Timings of several runtimes.

    Attributes:
        macs: multiply-adds per image.
        batch: batch size.
        peak: FMA peak from registers on `threads` cores, FLOP/s; None where it is not what bounds the engine.
        timings: npmobilenet first.
    """

    macs: int
    batch: int
    threads: int
    rounds: int
    peak: float | None
    timings: tuple[Timing, ...]

    @property
    def best_other(self) -> Timing | None:
        """The fastest other runtime."""
        return min((timing for timing in self.timings[1:] if timing.minimum), key=_minimum, default=None)

    @property
    def ratio(self) -> float | None:
        """Minimum time of npmobilenet over that of the fastest other runtime; below 1, npmobilenet is faster."""
        best, own = self.best_other, self.timings[0]
        return _minimum(own) / _minimum(best) if best and own.minimum else None

    def images(self, timing: Timing) -> float | None:
        """Throughput, images/s."""
        return self.batch / timing.minimum if timing.minimum else None

    def flops(self, timing: Timing) -> float | None:
        """FLOP/s, two per multiply-add."""
        return FLOPS * self.macs * self.batch / timing.minimum if timing.minimum else None

    def share_of_peak(self, timing: Timing) -> float | None:
        """FLOP/s as a fraction of the peak."""
        flops = self.flops(timing)
        return flops / self.peak if flops and self.peak else None


@dataclass(frozen=True)
class StepTiming:
    """Timing of one step of a plan.

    Attributes:
        step, kernel: its number, and the kind of its kernel.
        layers: the layers that it computes.
        input, output: shapes.
        macs: multiply-adds.
        weight_bytes: size of its weights.
        map_bytes: size of the feature maps that it reads and writes, each once.
        seconds: its minimum time; None if below the overhead of a call.
        seconds_of_arithmetic: time of its multiply-adds at the peak.
        seconds_of_reading: time to read its bytes: weights at the rate of the network's whole working set, all of
            which is read before the same weights are read again; maps at the rate of their own size, since the
            previous step has just written them.
    """

    step: int
    kernel: str
    layers: tuple[str, ...]
    input: tuple[int, ...]
    output: tuple[int, ...]
    macs: int
    weight_bytes: int
    map_bytes: int
    seconds: float | None
    seconds_of_arithmetic: float
    seconds_of_reading: float

    @property
    def bytes(self) -> int:
        """Minimum memory traffic in bytes."""
        return self.weight_bytes + self.map_bytes

    @property
    def bound(self) -> str:
        """ "memory" if its bytes take longer than its multiply-adds, else "arithmetic"."""
        return "memory" if self.seconds_of_reading > self.seconds_of_arithmetic else "arithmetic"

    @property
    def share_of_bound(self) -> float | None:
        """The longer of the two times, as a fraction of the measured time."""
        longer = max(self.seconds_of_arithmetic, self.seconds_of_reading)
        return longer / self.seconds if self.seconds else None

    @property
    def share_of_peak(self) -> float | None:
        """Multiply-adds per second as a fraction of the FMA peak."""
        return self.seconds_of_arithmetic / self.seconds if self.seconds else None

    @property
    def flops(self) -> float | None:
        """FLOP/s, two per multiply-add."""
        return FLOPS * self.macs / self.seconds if self.seconds else None


@dataclass(frozen=True)
class Profile:
    """Timings of all steps of a plan.

    Attributes:
        peak: FMA peak, FLOP/s.
        reading: (bytes, bytes/s when that amount is read repeatedly), smallest first.
        working_set: bytes of all weights and activations.
        whole: minimum seconds of the network in one call.
    """

    threads: int
    rounds: int
    peak: float
    reading: tuple[tuple[int, float], ...]
    working_set: int
    whole: float
    steps: tuple[StepTiming, ...]


def compare_engines(
    model: Model, runtimes: Sequence[Runtime], *, threads: int, batch: int, rounds: int
) -> EngineComparison:
    """Time npmobilenet and other runtimes on the same network, weights and images.

    Each runs in a new process pinned to `threads` cores. Outputs are checked first: a runtime that differs from the
    float64 reference by more than TOLERANCE is not timed. Then the processes take turns, `rounds` times, together with
    one that measures the FMA peak.

    Raises:
        NpMobileNetError: a process ended while measuring, or the peak could not be measured.
    """
    x = sample_images(model, batch)
    with tempfile.TemporaryDirectory(prefix="npmobilenet-bench-") as name:
        folder = Path(name)
        write_inputs(folder, model, x)
        problems = _export(model, runtimes, batch, folder)
        tasks = [ENGINE, *(runtime.name for runtime in runtimes if runtime.name not in problems), PEAK]
        with workers(tasks, folder, threads) as started:
            with waiting(f"starting {', '.join(tasks)}"):
                expected = reference_outputs(model, x)
                problems |= wait_for_all(started)
            if PEAK in problems:
                raise NpMobileNetError(problems[PEAK])
            judged = [_judged(timing, problems.get(timing.engine), folder, expected) for timing in untimed(runtimes)]
            wrong = {timing.engine for timing in judged if timing.problem}
            runs = take_turns([process for process in started if process.task not in wrong], rounds)
        peak = facts_of(folder, PEAK)["amount"] / min(runs[PEAK])[0]
    timed = (with_times(timing, runs.get(timing.engine, [])) for timing in judged)
    return EngineComparison(model.graph.macs, batch, threads, rounds, peak, tuple(timed))


def profile_steps(model: Model, *, threads: int, rounds: int) -> Profile:
    """Time every step of the plan within runs of the whole network, one image.

    The minimum time of each step counts, minus that of a call without a step. FMA peak, reading rate and the network
    in one call are measured in the same rounds.

    Raises:
        NpMobileNetError: a process ended.
    """
    with tempfile.TemporaryDirectory(prefix="npmobilenet-bench-") as name:
        folder = Path(name)
        write_inputs(folder, model, sample_images(model, 1))
        tasks = (ENGINE, STEPS, PEAK, READING)
        with workers(tasks, folder, threads) as started:
            with waiting(f"starting {', '.join(tasks)}"):
                for process in started:
                    process.wait_until_ready()
            runs = take_turns(started, rounds)
        facts = {task: facts_of(folder, task) for task in (STEPS, PEAK, READING)}
    peak = facts[PEAK]["amount"] / min(runs[PEAK])[0]
    rates = np.array(facts[READING]["amounts"]) / np.min(runs[READING], axis=0)
    reading = tuple(zip(facts[READING]["sizes"], rates.tolist(), strict=True))
    working_set = facts[READING]["working_set"]
    *minima, call = np.min(runs[STEPS], axis=0).tolist()
    steps = tuple(
        StepTiming(
            **step,
            seconds=seconds - call if seconds > 2 * call else None,
            seconds_of_arithmetic=FLOPS * step["macs"] / peak,
            seconds_of_reading=step["weight_bytes"] / rate(reading, working_set)
            + step["map_bytes"] / rate(reading, step["map_bytes"]),
        )
        for step, seconds in zip(facts[STEPS]["steps"], minima, strict=True)
    )
    return Profile(threads, rounds, peak, reading, working_set, min(runs[ENGINE])[0], steps)


def rate(reading: Sequence[tuple[int, float]], size: int) -> float:
    """Bytes/s for `size` bytes read repeatedly: the rate of the next larger measured size."""
    return next((speed for measured, speed in reading if measured >= size), reading[-1][1])


def _export(model: Model, runtimes: Sequence[Runtime], batch: int, folder: Path) -> dict[str, str]:
    """Write the runtimes' files; returns the problem by name of each runtime without one."""
    ops = fuse(model.graph, model.params)
    problems: dict[str, str] = {}
    for runtime in runtimes:
        if not (folder / runtime.file).exists():
            try:
                runtime.export(ops, batch, folder / runtime.file)
            except NpMobileNetError as error:
                problems[runtime.name] = str(error)
    return problems


def wait_for_all(started: Sequence[Worker]) -> dict[str, str]:
    """The problem by task of each process that ended before it was ready."""
    problems: dict[str, str] = {}
    for process in started:
        try:
            process.wait_until_ready()
        except NpMobileNetError as error:
            problems[process.task] = str(error)
    return problems


def _judged(timing: Timing, problem: str | None, folder: Path, expected: list[Array]) -> Timing:
    """The timing with the largest difference of an output, and a problem if there is none or it is too large."""
    if problem:
        return replace(timing, problem=problem)
    ys = outputs_of(folder, timing.engine)
    shapes, got = [exact.shape for exact in expected], [y.shape for y in ys]
    if got != shapes:
        return replace(timing, problem=f"output differs: expected shapes {shapes}, got {got}")
    difference = max(
        float(np.max(np.abs(y - exact)) / np.max(np.abs(exact))) for y, exact in zip(ys, expected, strict=True)
    )
    verdict = "" if difference <= TOLERANCE else f"output differs: relative error {difference:.2g}"
    return replace(timing, difference=difference, problem=verdict)


def untimed(runtimes: Sequence[Runtime]) -> list[Timing]:
    """A timing without times of npmobilenet and of each runtime."""
    others = [Timing(runtime.name, runtime.version) for runtime in runtimes]
    return [Timing(ENGINE, version("npmobilenet")), *others]


def with_times(timing: Timing, runs: Sequence[Sequence[float]]) -> Timing:
    """The timing with the times of runs."""
    seconds = [run[0] for run in runs]
    return replace(timing, minimum=min(seconds), median=median(seconds)) if seconds else timing


def _minimum(timing: Timing) -> float:
    assert timing.minimum is not None
    return timing.minimum
