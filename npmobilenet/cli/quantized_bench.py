"""What `npmobilenet bench` measures and prints of a quantized model."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from npmobilenet.bench.machine import cpu_name
from npmobilenet.bench.measure import EngineComparison, Timing
from npmobilenet.bench.measure_bytes import ByteStepTiming, compare_byte_engines, profile_byte_steps
from npmobilenet.bench.runtimes import Runtime
from npmobilenet.cli.shared import counted
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.output import print_line, print_table

GIGA, MILLI, MICRO = 1e9, 1e-3, 1e-6


def compare(model: QuantizedModel, peers: Sequence[Runtime], *, threads: int, rounds: int) -> EngineComparison:
    """The model under its rule, and other runtimes, on one image."""
    return compare_byte_engines(model.computed, model.rounding, peers, threads=threads, rounds=rounds)


def print_comparison(name: str, model: QuantizedModel, comparison: EngineComparison) -> None:
    """Runtimes and their times; how far their outputs are from the rule's."""
    print_table(
        ("engine", "version", "min ms", "median ms", "images/s", "GOP/s", "steps off", ""),
        [_row(comparison, timing) for timing in comparison.timings],
        title=f"{name}: {comparison.macs:,} multiply-adds of 8 bits, rule {model.rule}, "
        f"{counted(comparison.threads, 'thread')}, {counted(comparison.rounds, 'round')}, on {cpu_name()}",
    )


def _row(comparison: EngineComparison, timing: Timing) -> tuple[object, ...]:
    return (
        timing.engine,
        timing.version,
        _scaled(timing.minimum, MILLI, 3),
        _scaled(timing.median, MILLI, 3),
        _scaled(comparison.images(timing)),
        _scaled(comparison.flops(timing), GIGA),
        None if timing.difference is None else int(timing.difference),
        timing.problem,
    )


def profile(model: QuantizedModel, threads: int, rounds: int) -> tuple[list[ByteStepTiming], float]:
    """Steps, and seconds of the network in one call."""
    return profile_byte_steps(model.computed, model.rounding, threads=threads, rounds=rounds)


def print_profile(name: str, steps: Sequence[ByteStepTiming], whole: float, threads: int, rounds: int) -> None:
    """A row for every step of the plan."""
    rows = [
        (
            number, step.kernel, tuple(step.input), tuple(step.output), step.rescaling, _scaled(step.seconds, MICRO),
            _scaled(step.operations, GIGA), step.layers[-1].partition(";")[0],
        )
        for number, step in enumerate(steps)
    ]  # fmt: skip
    print_table(
        ("step", "kernel", "input", "output", "rescaling", "us", "GOP/s", "layer"),
        rows,
        title=f"{name}: {counted(threads, 'thread')}, {counted(rounds, 'round')}, on {cpu_name()}",
    )
    total = sum(step.seconds or 0 for step in steps)
    print_line(f"all steps: {total / MILLI:.3f} ms; the network in one call: {whole / MILLI:.3f} ms")


def profile_document(steps: Sequence[ByteStepTiming], whole: float, threads: int, rounds: int) -> dict[str, Any]:
    """The same for programs."""
    rows = [asdict(step) | {"operations_per_second": step.operations} for step in steps]
    return {"threads": threads, "rounds": rounds, "whole_seconds": whole, "steps": rows}


def _scaled(number: float | None, unit: float = 1, places: int = 1) -> str | None:
    return None if number is None else f"{number / unit:,.{places}f}"
