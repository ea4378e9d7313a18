"""One engine, or one measurement of the machine, in a process of its own that does nothing else.

    python -m npmobilenet.bench.worker TASK FOLDER THREADS

The process keeps to as many cores as it has threads. It computes once, writes what came out to the folder and says
`ready`. Then, for every line that it is sent, it works for a turn and answers with a list of its runs; each is a list
of seconds, since the task `steps` times many things in one run.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from npmobilenet.bench.runtimes import PEERS
from npmobilenet.models.model import Model
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array

if TYPE_CHECKING:
    from npmobilenet.compiler.plan import Plan

OURS = "npmobilenet"
PEAK, READING, STEPS = "peak", "reading", "steps"
TURN = 0.4  # seconds
READ_SIZES = tuple(2**k for k in range(14, 27))  # bytes: 16 KiB, 32 KiB, ... 64 MiB
NETWORK, WEIGHTS, IMAGES = "network.json", "weights.npz", "images.npy"

Once = Callable[[], list[float]]


def write_inputs(folder: Path, model: Model, x: Array) -> None:
    """Write what the tasks need: the network, its weights, and scaled images x (N, H, W, C)."""
    (folder / NETWORK).write_text(json.dumps(model.graph.to_json()), encoding="utf-8")
    arrays: dict[str, Any] = dict(model.params)
    np.savez(folder / WEIGHTS, **arrays)
    np.save(folder / IMAGES, x)


def answer_of(folder: Path, task: str) -> Array:
    """What an engine computed, (N, ...)."""
    return np.asarray(np.load(folder / f"{task}.npy"))


def facts_of(folder: Path, task: str) -> dict[str, Any]:
    """What a task says about its work.

    PEAK: amount, FLOPs of a run. READING: sizes, amounts of bytes read in a run for each of them, and working_set, the
    bytes of all weights and activations, which is one of the sizes. STEPS: steps.
    """
    return dict(json.loads((folder / f"{task}.json").read_text(encoding="utf-8")))


def prepare(task: str, folder: Path, threads: int) -> Once:
    """Get ready for a task; a function that does it once and answers with the seconds that it took."""
    if task == PEAK:
        from npmobilenet_kernels import peak

        burst = peak.arithmetic(threads)
        _write_facts(folder, task, {"amount": burst.amount})
        return _timed(burst.run)
    if task == READING:
        from npmobilenet_kernels import peak

        plan = _plan(folder)
        working_set = plan.weight_bytes + plan.arena_bytes
        sizes = sorted({*READ_SIZES, working_set})
        bursts = [peak.reading(threads, size) for size in sizes]
        amounts = [burst.amount for burst in bursts]
        _write_facts(folder, task, {"sizes": sizes, "amounts": amounts, "working_set": working_set})
        return lambda: [seconds for burst in bursts for seconds in _timed(burst.run)()]
    x = np.load(folder / IMAGES)
    if task == STEPS:
        plan = _plan(folder)
        _write_facts(folder, task, {"steps": [_facts(plan, number) for number in range(len(plan.steps))]})

        def time_steps() -> list[float]:
            seconds, call = plan.time_steps(x, threads)
            return [*seconds, call]

        return time_steps
    run = _plan_run(folder, x, threads) if task == OURS else PEERS[task].open(folder / PEERS[task].file, x, threads)
    np.save(folder / f"{task}.npy", run())
    return _timed(run)


def _plan(folder: Path) -> "Plan":
    from npmobilenet.compiler.plan import compile_graph

    graph = Graph.from_json(json.loads((folder / NETWORK).read_text(encoding="utf-8")))
    with np.load(folder / WEIGHTS) as weights:
        return compile_graph(graph, dict(weights))


def _plan_run(folder: Path, x: Array, threads: int) -> Callable[[], Array]:
    plan = _plan(folder)
    return lambda: plan.run(x, threads)


def _facts(plan: "Plan", number: int) -> dict[str, Any]:
    from npmobilenet.compiler.arena import FLOAT_BYTES
    from npmobilenet.compiler.step_types import ReferenceStep

    step = plan.steps[number]
    shapes = {op.name: op.shape for op in plan.ops}
    return {
        "step": number,
        "kernel": "ops" if isinstance(step, ReferenceStep) else step.label,
        "layers": step.layers,
        "input": shapes[step.source],
        "output": shapes[step.target],
        "macs": step.macs,
        "weight_bytes": FLOAT_BYTES * step.weight_count,
        "map_bytes": plan.map_bytes(step),
    }


def _write_facts(folder: Path, task: str, facts: dict[str, Any]) -> None:
    (folder / f"{task}.json").write_text(json.dumps(facts), encoding="utf-8")


def _timed(run: Callable[[], object]) -> Once:
    def once() -> list[float]:
        start = perf_counter()
        run()
        return [perf_counter() - start]

    return once


def _main() -> None:
    task, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    once = prepare(task, folder, threads)
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        end = perf_counter() + TURN
        runs = [once()]
        while perf_counter() < end:
            runs.append(once())
        print(json.dumps(runs), file=answers, flush=True)


if __name__ == "__main__":
    _main()
