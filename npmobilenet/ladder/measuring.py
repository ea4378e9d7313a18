"""Checks and times of the rungs, in a process of its own, so that BLAS starts with a single thread.

Every rung is compared with float64 first. Then all of them, and the FMA peak, take turns until the time is up, and the
least time of each counts: what else happens on the machine affects all alike.

    python -m npmobilenet.ladder.measuring     reads a `Task`, writes a line per `tick` and the document
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from time import perf_counter
from typing import Any

import numpy as np

from npmobilenet.analysis.segments import excess
from npmobilenet.bench.machine import cpu_name
from npmobilenet.bench.measure import FLOPS
from npmobilenet.errors import NpMobileNetError
from npmobilenet.ladder.all_rungs import all_rungs
from npmobilenet.ladder.bounds import Truth
from npmobilenet.ladder.rungs import Rung
from npmobilenet.ladder.separable_block import SeparableBlock, find_block
from npmobilenet.ladder.sources import module_path
from npmobilenet.reference.graph import Graph

TICK = "tick"
RUNGS, TICKS = 13, 20  # rungs and what stands next to them, and parts of the time: each of these is a tick
TURN, PEAK_TURN = 0.02, 0.1  # seconds that a rung, or the peak, runs before it is the next one's turn; at least one run
IN_ALL = 55.0  # seconds of checks and turns: the turns end earlier if the checks took long
SAMPLED_SECONDS = 1.0  # of all runs of a sampled rung
SINGLE_THREAD = {  # of BLAS libraries, which read it as they are loaded
    "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "BLIS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}  # fmt: skip
MILLI, GIGA = 1e-3, 1e9

Tick = Callable[[], None]


@dataclass(frozen=True)
class Task:
    """What is to be measured: a network, a layer of one of its blocks (None: the most common), threads, seconds."""

    graph: Graph
    layer: str | None
    threads: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Turns:
    """Seconds of everything that takes turns.

    Attributes:
        seconds: the least of each rung, in the order of the rungs.
        peak, peak_all: FMA peak of one thread, and of all, FLOP/s.
        rounds: number of turns of each.
    """

    seconds: Sequence[float]
    peak: float
    peak_all: float
    rounds: int


def measure_apart(task: Task) -> Iterator[dict[str, Any] | None]:
    """Measure in a process of its own.

    Yields:
        None at every tick, RUNGS + TICKS times; then the document of `measure`.

    Raises:
        NpMobileNetError: the process has ended without a document.
    """
    command = [sys.executable, "-m", __name__]
    asked = json.dumps(asdict(task) | {"graph": task.graph.to_json()})
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8",
            env=os.environ | SINGLE_THREAD,
        ) as process:  # fmt: skip
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                with suppress(BrokenPipeError):  # reported below
                    process.stdin.write(asked)
                    process.stdin.close()
                for line in process.stdout:
                    yield None if line.strip() == TICK else _document_or_error(line)
                code = process.wait()
            finally:
                process.kill()
        if code:
            log.seek(0)
            last = (log.read().strip().splitlines() or ["no output"])[-1]
            raise NpMobileNetError(f"ladder: its process ended with exit code {code}: {last}")


def _document_or_error(line: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(line)
    if "error" in document:
        raise NpMobileNetError(document["error"])
    return document


def measure(task: Task, tick: Tick) -> dict[str, Any]:
    """Check and time all rungs in this process.

    Returns:
        What docs/ladder.md lists, but for the model's name.

    Raises:
        KernelError: the engine's kernels cannot be compiled.
    """
    begin = perf_counter()
    block = find_block(task.graph, task.layer)
    rungs = all_rungs(block, task.threads)
    ratios = check_rungs(block, rungs, tick)
    turns = take_turns(rungs, task.threads, min(task.seconds, begin + IN_ALL - perf_counter()), tick)
    entries = _entries(rungs, ratios, turns)
    return {
        **_machine(),
        "versions": _versions(),
        "threads": task.threads,
        "network": task.graph.name,
        "layer": block.separable.graph.name,
        "input": list(block.x.shape[1:]),
        "output": list(block.output_shape),
        "kernel": list(block.filter.kernel_size),
        "stride": block.stride,
        "macs": block.separable.graph.macs,
        "standard_macs": block.standard.graph.macs,
        "peak_flops": turns.peak,
        "peak_flops_all": turns.peak_all,
        "rounds": turns.rounds,
        "rungs": [entry for rung, entry in zip(rungs, entries, strict=True) if not rung.is_side],
        "next_to": [entry for rung, entry in zip(rungs, entries, strict=True) if rung.is_side],
    }


def check_rungs(block: SeparableBlock, rungs: Sequence[Rung], tick: Tick) -> list[float]:
    """Largest difference of each rung from float64, as a multiple of its value's bound; at most 1 if it is right."""
    truths = {id(work): Truth(work, block.x) for work in (block.separable, block.standard)}
    ratios = []
    for rung in rungs:
        truth = truths[id(rung.work)]
        bound = truth.folded_bound if rung.folded else truth.bound
        ratios.append(max(excess(piece.run(), truth.y[piece.place], bound[piece.place]) for piece in rung.pieces))
        tick()
    return ratios


def take_turns(rungs: Sequence[Rung], threads: int, seconds: float, tick: Tick) -> Turns:
    """Least times of all rungs, and the FMA peak, from interleaved turns; at least one each.

    Args:
        rungs: what is timed.
        threads: of the second peak.
        seconds: how long to go on.
        tick: called TICKS times.
    """
    from npmobilenet_kernels.runtime import peak

    bursts = [peak.arithmetic(number) for number in sorted({1, threads})]
    runs: list[Callable[[], object]] = [*(rung.pieces[0].run for rung in rungs), *(burst.run for burst in bursts)]
    limits = [SAMPLED_SECONDS if rung.is_sampled else np.inf for rung in rungs] + [np.inf] * len(bursts)
    turns = [TURN] * len(rungs) + [PEAK_TURN] * len(bursts)
    least, spent = [np.inf] * len(runs), [0.0] * len(runs)
    start, ticks, rounds = perf_counter(), 0, 0
    while rounds == 0 or perf_counter() < start + seconds:
        for number, run in enumerate(runs):
            if spent[number] < limits[number]:
                times = _one_turn(run, turns[number])
                least[number] = min(least[number], *times)
                spent[number] += sum(times)
        rounds += 1
        while ticks < TICKS and perf_counter() >= start + seconds * (ticks + 1) / TICKS:
            tick()
            ticks += 1
    whole = [seconds * rung.macs / rung.pieces[0].macs for rung, seconds in zip(rungs, least, strict=False)]
    peaks = [burst.amount / seconds for burst, seconds in zip(bursts, least[len(rungs) :], strict=True)]
    return Turns(whole, peaks[0], peaks[-1], rounds)


def _one_turn(run: Callable[[], object], length: float) -> list[float]:
    """Seconds of every run in one turn of that length."""
    times: list[float] = []
    while sum(times) < length:
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return times


def _entries(rungs: Sequence[Rung], ratios: Sequence[float], turns: Turns) -> list[dict[str, Any]]:
    """What the document says about every rung, and about what stands next to one.

    `factor` is how many times faster a rung is than the one before; next to a rung, than that rung.
    """
    entries = []
    before: float | None = None
    for rung, ratio, seconds in zip(rungs, ratios, turns.seconds, strict=True):
        flops = FLOPS * rung.macs / seconds
        entries.append({
            "number": rung.number,
            "name": rung.name,
            "changed": rung.changed,
            "ms": seconds / MILLI,
            "gflops": flops / GIGA,
            "share_of_peak": flops / (turns.peak if rung.threads == 1 else turns.peak_all),
            "factor": before / seconds if before else None,
            "within_bound": ratio <= 1,
            "error_over_bound": ratio,
            "sampled": rung.pieces[0].macs if rung.is_sampled else None,
            "macs": rung.macs,
            "code": [module_path(function) for function in rung.code],
        })  # fmt: skip
        before = before if rung.is_side else seconds
    return entries


def _machine() -> dict[str, Any]:
    from npmobilenet_kernels.runtime.cpu import host_target
    from npmobilenet_kernels.runtime.thread_pool import available_cores

    return {"cpu": cpu_name(), "cores": available_cores(), "vector_floats": host_target().width}


def _versions() -> dict[str, str]:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    packages = {name: version(name) for name in ("npmobilenet", "numpy", "numba", "llvmlite")}
    return {"python": platform.python_version(), **packages, "blas": f"{blas['name']} {blas['version']}"}


def _main() -> None:
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries print there, too
    asked = json.loads(sys.stdin.read())
    task = Task(**asked | {"graph": Graph.from_json(asked["graph"])})
    try:
        document = measure(task, lambda: print(TICK, file=replies, flush=True))
    except NpMobileNetError as error:
        document = {"error": str(error)}
    print(json.dumps(document), file=replies, flush=True)


if __name__ == "__main__":
    _main()
