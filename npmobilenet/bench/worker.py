"""One runtime, or one measurement of the machine, in a process of its own.

    python -m npmobilenet.bench.worker TASK FOLDER THREADS

The process is pinned to one core per thread. It runs once, writes its outputs to the folder and prints
`ready`. Then, per line of standard input, it runs for one turn and prints a list of its runs; each is a list of
seconds, since the task `steps` times many steps in one run.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from npmobilenet_kernels.runtime.byte_packing import Requantization

from npmobilenet.bench.runtimes import RUNTIMES
from npmobilenet.compiler.byte_operations import as_stored
from npmobilenet.models.model import Model
from npmobilenet.quantized.rules import Rule, find_rule
from npmobilenet.quantized.tensors import Network
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array

if TYPE_CHECKING:
    from npmobilenet.compiler.byte_plan import BytePlan
    from npmobilenet.compiler.native_plan import NativePlan
    from npmobilenet.compiler.plan import Plan
    from npmobilenet.compiler.step_types import Step

ENGINE = "npmobilenet"
PEAK, READING, STEPS, BYTE_STEPS = "peak", "reading", "steps", "byte-steps"
TURN = 0.4  # seconds
READ_SIZES = tuple(2**k for k in range(14, 27))  # bytes: 16 KiB, 32 KiB, ... 64 MiB
NETWORK, WEIGHTS, IMAGES = "network.json", "weights.npz", "images.npy"
QUANTIZED, RULE = "network.tflite", "rule.txt"

Once = Callable[[], list[float]]


def write_inputs(folder: Path, model: Model, x: Array) -> None:
    """Write the inputs of all tasks: the network, its weights, and scaled images x (N, H, W, C)."""
    (folder / NETWORK).write_text(json.dumps(model.graph.to_json()), encoding="utf-8")
    arrays: dict[str, Any] = dict(model.params)
    np.savez(folder / WEIGHTS, **arrays)
    np.save(folder / IMAGES, x)


def write_byte_inputs(folder: Path, network: Network, rule: Rule, x: Array) -> None:
    """Write the inputs of all tasks: a quantized network, the rule, and images x (N, H, W, C) of the input's type."""
    from npmobilenet_weights_convert.tflite_writer import tflite_bytes

    (folder / QUANTIZED).write_bytes(tflite_bytes(network))
    (folder / RULE).write_text(rule.name, encoding="utf-8")
    np.save(folder / IMAGES, x)


def outputs_of(folder: Path, task: str) -> list[Array]:
    """A runtime's outputs, (N, ...) each."""
    with np.load(folder / f"{task}.npz") as arrays:
        return list(arrays.values())


def facts_of(folder: Path, task: str) -> dict[str, Any]:
    """Facts that a task records about its runs.

    PEAK: amount, the FLOPs of a run. READING: sizes, amounts (the bytes read in a run, per size), and working_set (the
    bytes of all weights and activations, which is one of the sizes). STEPS: steps.
    """
    return dict(json.loads((folder / f"{task}.json").read_text(encoding="utf-8")))


def prepare(task: str, folder: Path, threads: int) -> Once:
    """A function that performs the task once and returns the seconds that it took."""
    if task == PEAK:
        return _prepare_peak(folder, threads)
    if task == READING:
        return _prepare_reading(folder, threads)
    x = np.load(folder / IMAGES)  # (N, H, W, C)
    if task in (STEPS, BYTE_STEPS):
        return _prepare_steps(task, folder, x, threads)
    if task == ENGINE:
        plan = _byte_plan(folder) if (folder / RULE).exists() else _plan(folder)
        run: Callable[[], list[Array]] = lambda: plan.outputs(x, threads)  # noqa: E731  one of two
    else:
        file = RUNTIMES[task].file
        run = RUNTIMES[task].open(folder / file, as_stored(x) if file != QUANTIZED else x, threads)
    np.savez(folder / f"{task}.npz", *run())
    return _timed(run)


def _prepare_peak(folder: Path, threads: int) -> Once:
    from npmobilenet_kernels.runtime import peak

    burst = peak.arithmetic(threads)
    _write_facts(folder, PEAK, {"amount": burst.amount})
    return _timed(burst.run)


def _prepare_reading(folder: Path, threads: int) -> Once:
    from npmobilenet_kernels.runtime import peak

    plan = _plan(folder)
    working_set = plan.weight_bytes + plan.arena_bytes
    sizes = sorted({*READ_SIZES, working_set})
    bursts = [peak.reading(threads, size) for size in sizes]
    amounts = [burst.amount for burst in bursts]
    _write_facts(folder, READING, {"sizes": sizes, "amounts": amounts, "working_set": working_set})
    return lambda: [seconds for burst in bursts for seconds in _timed(burst.run)()]


def _prepare_steps(task: str, folder: Path, x: Array, threads: int) -> Once:
    plan: NativePlan
    if task == STEPS:
        plan = floats = _plan(folder)
        facts = [_facts(floats, number) for number in range(len(plan.steps))]
    else:
        plan = _byte_plan(folder)
        facts = [_byte_facts(plan, step) for step in plan.steps]
    _write_facts(folder, task, {"steps": facts})

    def time_steps() -> list[float]:
        seconds, call = plan.time_steps(x, threads)
        return [*seconds, call]

    return time_steps


def _plan(folder: Path) -> "Plan":
    from npmobilenet.compiler.plan import compile_graph

    graph = Graph.from_json(json.loads((folder / NETWORK).read_text(encoding="utf-8")))
    with np.load(folder / WEIGHTS) as weights:
        return compile_graph(graph, dict(weights))


def _byte_plan(folder: Path) -> "BytePlan":
    from npmobilenet_weights_convert.tflite_file import read_tflite

    from npmobilenet.compiler.byte_plan import compile_network

    network = read_tflite((folder / QUANTIZED).read_bytes())
    return compile_network(network, find_rule((folder / RULE).read_text(encoding="utf-8")))


def _byte_facts(plan: "NativePlan", step: "Step") -> dict[str, Any]:
    kinds = getattr(getattr(step, "requantized", None), "kinds", ())
    shapes = {op.name: op.shape for op in plan.ops}
    return {
        "kernel": step.label,
        "layers": step.layers,
        "input": shapes[step.source],
        "output": shapes[step.target],
        "macs": step.macs,
        "rescaling": " ".join(sorted({Requantization(kind).name.lower() for kind in kinds})),
    }


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
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries print there, too
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    once = prepare(task, folder, threads)
    print("ready", file=replies, flush=True)
    for _ in sys.stdin:
        end = perf_counter() + TURN
        runs = [once()]
        while perf_counter() < end:
            runs.append(once())
        print(json.dumps(runs), file=replies, flush=True)


if __name__ == "__main__":
    _main()
