"""Engines side by side, and the steps of our own plan: what is measured, and what follows from it."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

from npmobilenet.bench.random_weights import expected, pictures
from npmobilenet.bench.runtimes import Peer
from npmobilenet.bench.turns import take_turns, workers
from npmobilenet.bench.worker import OURS, PEAK, READING, STEPS, answer_of, facts_of, write_inputs
from npmobilenet.compiler.passes import fuse
from npmobilenet.errors import NpMobileNetError
from npmobilenet.models.model import Model
from npmobilenet.output import waiting
from npmobilenet.types import Array

TOLERANCE = 2.0**-10  # of the largest output: half of what one rounding to bfloat16 does; float32 stays far below
FLOPS = 2  # of one multiply-add


@dataclass(frozen=True)
class Timing:
    """One engine's answer and speed.

    Attributes:
        engine, version: who.
        difference: largest difference from the float64 reference, as a part of its largest output; None if it did not
            answer.
        least, median: seconds for one batch; None for an engine that was not timed.
        problem: why it was not.
    """

    engine: str
    version: str
    difference: float | None = None
    least: float | None = None
    median: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class Comparison:
    """Engines side by side.

    Attributes:
        macs: multiply-adds of one image. batch: images at a time.
        peak: FLOPs a second from registers on `threads` cores.
        timings: ours first.
    """

    macs: int
    batch: int
    threads: int
    rounds: int
    peak: float
    timings: tuple[Timing, ...]

    @property
    def best_other(self) -> Timing | None:
        """The fastest of the other engines that were timed."""
        return min((timing for timing in self.timings[1:] if timing.least), key=_least, default=None)

    @property
    def ratio(self) -> float | None:
        """Our least time over that of the best other engine; below 1, ours is faster."""
        best, ours = self.best_other, self.timings[0]
        return _least(ours) / _least(best) if best and ours.least else None

    def images(self, timing: Timing) -> float | None:
        """Images a second."""
        return self.batch / timing.least if timing.least else None

    def flops(self, timing: Timing) -> float | None:
        """FLOPs a second, two for a multiply-add."""
        return FLOPS * self.macs * self.batch / timing.least if timing.least else None

    def share_of_peak(self, timing: Timing) -> float | None:
        """FLOPs a second, as a part of the peak."""
        flops = self.flops(timing)
        return flops / self.peak if flops else None


@dataclass(frozen=True)
class StepTiming:
    """One step of our plan.

    Attributes:
        step, kernel, layers, input, output: what it is.
        macs: multiply-adds. weight_bytes: its weights. map_bytes: the maps that it reads and makes, each once.
        seconds: the least time it took; None where that is less than the call takes by which it is timed.
        seconds_of_arithmetic: what its multiply-adds take at the peak.
        seconds_of_reading: what its bytes take: weights at the rate at which all memory of the network is read, since
            all of it has gone by when they are needed again; maps at the rate at which so many bytes are read, since
            the step before has just made them.
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
        """Bytes that it moves at least."""
        return self.weight_bytes + self.map_bytes

    @property
    def bound(self) -> str:
        """What it is bound by: "memory" if its bytes take longer than its multiply-adds, else "arithmetic"."""
        return "memory" if self.seconds_of_reading > self.seconds_of_arithmetic else "arithmetic"

    @property
    def share_of_bound(self) -> float | None:
        """How near it comes: the longer of the two times, over the time that it takes."""
        longer = max(self.seconds_of_arithmetic, self.seconds_of_reading)
        return longer / self.seconds if self.seconds else None

    @property
    def share_of_peak(self) -> float | None:
        """Its multiply-adds a second, as a part of the FMA peak."""
        return self.seconds_of_arithmetic / self.seconds if self.seconds else None

    @property
    def flops(self) -> float | None:
        """FLOPs a second, two for a multiply-add."""
        return FLOPS * self.macs / self.seconds if self.seconds else None


@dataclass(frozen=True)
class Profile:
    """The steps of our plan.

    Attributes:
        peak: FLOPs a second.
        reading: (bytes, bytes a second when so many are read over and over), smallest first.
        working_set: bytes of all weights and activations.
        whole: least seconds for the network in one call.
    """

    threads: int
    rounds: int
    peak: float
    reading: tuple[tuple[int, float], ...]
    working_set: int
    whole: float
    steps: tuple[StepTiming, ...]


def compare_engines(model: Model, peers: Sequence[Peer], *, threads: int, batch: int, rounds: int) -> Comparison:
    """Time our engine and others on the same network, weights and images.

    Each runs in a fresh process that keeps to `threads` cores. Answers come first: an engine that is farther from the
    float64 reference than TOLERANCE is not timed. Then the processes take turns, `rounds` times, and with them one
    that measures the FMA peak.

    Raises:
        NpMobileNetError: a process that was ready ended, or the peak could not be measured.
    """
    x = pictures(model, batch)
    with tempfile.TemporaryDirectory(prefix="npmobilenet-bench-") as name:
        folder = Path(name)
        write_inputs(folder, model, x)
        problems = _exported(model, peers, batch, folder)
        tasks = [OURS, *(peer.name for peer in peers if peer.name not in problems), PEAK]
        with workers(tasks, folder, threads) as started:
            with waiting(f"starting {', '.join(tasks)}"):
                right = expected(model, x)
                for process in started:
                    try:
                        process.wait_until_ready()
                    except NpMobileNetError as error:
                        problems[process.task] = str(error)
            if PEAK in problems:
                raise NpMobileNetError(problems[PEAK])
            timings = [Timing(OURS, version("npmobilenet")), *(Timing(peer.name, peer.version) for peer in peers)]
            judged = [_judged(timing, problems.get(timing.engine), folder, right) for timing in timings]
            wrong = {timing.engine for timing in judged if timing.problem}
            runs = take_turns([process for process in started if process.task not in wrong], rounds)
        peak = facts_of(folder, PEAK)["amount"] / min(runs[PEAK])[0]
    timed = (_with_times(timing, runs.get(timing.engine, [])) for timing in judged)
    return Comparison(model.graph.macs, batch, threads, rounds, peak, tuple(timed))


def profile_steps(model: Model, *, threads: int, rounds: int) -> Profile:
    """Time every step of our plan inside runs of the whole network, one image.

    The least time of each is what counts, less that of a call without a step. FMA peak and reading rate are measured in
    the same rounds, and the network in one call, for comparison with the sum.

    Raises:
        NpMobileNetError: a process ended.
    """
    with tempfile.TemporaryDirectory(prefix="npmobilenet-bench-") as name:
        folder = Path(name)
        write_inputs(folder, model, pictures(model, 1))
        tasks = (OURS, STEPS, PEAK, READING)
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
    *least, call = np.min(runs[STEPS], axis=0).tolist()
    steps = tuple(
        StepTiming(
            **step,
            seconds=seconds - call if seconds > 2 * call else None,
            seconds_of_arithmetic=FLOPS * step["macs"] / peak,
            seconds_of_reading=step["weight_bytes"] / rate(reading, working_set)
            + step["map_bytes"] / rate(reading, step["map_bytes"]),
        )
        for step, seconds in zip(facts[STEPS]["steps"], least, strict=True)
    )
    return Profile(threads, rounds, peak, reading, working_set, min(runs[OURS])[0], steps)


def rate(reading: Sequence[tuple[int, float]], size: int) -> float:
    """Bytes a second at which `size` bytes are read over and over: of the next larger size that was measured."""
    return next((speed for measured, speed in reading if measured >= size), reading[-1][1])


def _exported(model: Model, peers: Sequence[Peer], batch: int, folder: Path) -> dict[str, str]:
    """Write the files that the engines read; why, for those that this network cannot be written for."""
    ops = fuse(model.graph, model.params)
    problems: dict[str, str] = {}
    for peer in peers:
        if not (folder / peer.file).exists():
            try:
                peer.export(ops, batch, folder / peer.file)
            except NpMobileNetError as error:
                problems[peer.name] = str(error)
    return problems


def _judged(timing: Timing, problem: str | None, folder: Path, right: Array) -> Timing:
    """The timing with the answer's difference, and a problem if there is no answer or the difference is too large."""
    if problem:
        return replace(timing, problem=problem)
    y = answer_of(folder, timing.engine)
    if y.shape != right.shape:
        return replace(timing, problem=f"answers otherwise: {y.shape}, not {right.shape}")
    difference = float(np.max(np.abs(y - right)) / np.max(np.abs(right)))
    verdict = "" if difference <= TOLERANCE else f"answers otherwise, by {difference:.2g} of the largest output"
    return replace(timing, difference=difference, problem=verdict)


def _with_times(timing: Timing, runs: Sequence[Sequence[float]]) -> Timing:
    seconds = [run[0] for run in runs]
    return replace(timing, least=min(seconds), median=median(seconds)) if seconds else timing


def _least(timing: Timing) -> float:
    assert timing.least is not None
    return timing.least
