"""`npmobilenet bench`: exit code 0 all measured, 1 not all, or not at all."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any

from npmobilenet.architectures import ARCHITECTURES
from npmobilenet.bench.machine import cpu_name
from npmobilenet.bench.measure import EngineComparison, Profile, Timing, compare_engines, profile_steps
from npmobilenet.bench.random_weights import random_model
from npmobilenet.bench.runtimes import RUNTIMES, select_runtimes
from npmobilenet.cli import quantized_bench
from npmobilenet.cli.options import Argument, Exit, Option, UsageError
from npmobilenet.cli.shared import (
    DEFAULT_MODEL,
    AsJson,
    NetworkOptions,
    available_threads,
    compile_with_notice,
    counted,
    graph_of,
    load_any_with_notes,
    reported,
)
from npmobilenet.errors import DownloadError, KernelError
from npmobilenet.models.model import Model
from npmobilenet.models.opening import Loaded
from npmobilenet.output import print_json, print_line, print_table

ROUNDS = 7
GIGA, MILLI, MICRO, PERCENT = 1e9, 1e-3, 1e-6, 1e-2


def bench(
    model: Annotated[
        str, Argument(metavar="[ARCH|M]", help="Architecture, known name, file or digits.")
    ] = DEFAULT_MODEL,
    network: NetworkOptions = NetworkOptions(),  # noqa: B008  frozen
    random: Annotated[bool, Option("--random", help="Random weights, without a download; implied by ARCH.")] = False,
    threads: Annotated[
        int | None, Option(min=1, help="Threads, and cores, of every engine (default: all cores).")
    ] = None,
    batch: Annotated[int | None, Option(min=1, help="Batch size (default: 1).")] = None,
    against: Annotated[
        str | None, Option(metavar="NAMES", help=f"{', '.join(RUNTIMES)} (default: those installed).")
    ] = None,
    rounds: Annotated[int, Option(min=1, help="Interleaved rounds.")] = ROUNDS,
    steps: Annotated[bool, Option("--steps", help="Time the steps of the engine's plan instead, one image.")] = False,
    as_json: AsJson = False,
) -> None:
    """Benchmark against other runtimes and the CPU's FMA peak (interleaved), or, with --steps, by step."""
    if steps and (batch, against) != (None, None):
        raise UsageError("--batch and --against do not apply to --steps, which times the engine's plan on one image")
    with reported(as_json):
        threads = available_threads(threads)
        peers = [] if steps else select_runtimes(against)
        measured = _network(model, network, random)
        with suppress(KernelError):  # reported as the engine's problem
            compile_with_notice(measured)
        facts = {"model": model, "random_weights": random or model in ARCHITECTURES, "cpu": cpu_name()}
        if steps:
            _time_steps(model, measured, facts, threads, rounds, as_json)
            return
        if isinstance(measured, Model):
            comparison = compare_engines(measured, peers, threads=threads, batch=batch or 1, rounds=rounds)
        elif batch not in (None, 1):
            raise UsageError("--batch does not apply to a quantized model, whose file computes one image at a time")
        else:
            comparison = quantized_bench.compare(measured, peers, threads=threads, rounds=rounds)
        absent = [] if against else [peer for peer in RUNTIMES.values() if peer not in peers]
        if as_json:
            missing = [{"engine": peer.name, "install": peer.install_command} for peer in absent]
            print_json(facts | _comparison_document(comparison) | {"not_installed": missing})
        else:
            if isinstance(measured, Model):
                _print_comparison(model, comparison)
            else:
                quantized_bench.print_comparison(model, measured, comparison)
            best = comparison.best_other
            if best and comparison.ratio:
                print_line(_verdict(comparison.ratio, best.engine))
            for peer in absent:
                print_line(f"{peer.name} not installed, skipped: {peer.install_command}")
    if any(timing.problem for timing in comparison.timings):
        raise Exit(1)


def _time_steps(
    name: str, model: Loaded, facts: Mapping[str, object], threads: int, rounds: int, as_json: bool
) -> None:
    """Time the steps of the plan, and print them."""
    if not isinstance(model, Model):
        steps, whole = quantized_bench.profile(model, threads, rounds)
        if as_json:
            print_json({**facts, **quantized_bench.profile_document(steps, whole, threads, rounds)})
        else:
            quantized_bench.print_profile(name, steps, whole, threads, rounds)
        return
    profile = profile_steps(model, threads=threads, rounds=rounds)
    if as_json:
        print_json({**facts, **_profile_document(profile)})
    else:
        _print_profile(name, profile)


def _network(model: str, options: NetworkOptions, random: bool) -> Loaded:
    if random or model in ARCHITECTURES or options.any_given():
        return random_model(graph_of(model, options))
    try:
        return load_any_with_notes(model)
    except DownloadError as error:
        raise DownloadError(f"{error}\n--random benchmarks this network without its weights") from error


def _verdict(ratio: float, fastest: str) -> str:
    """One line: how the engine compares with the fastest of the others."""
    factor = f"{max(ratio, 1 / ratio):.2f}x {'faster' if ratio < 1 else 'slower'}"
    return f"npmobilenet is {factor} than {fastest}, the fastest other runtime"


def _print_comparison(model: str, comparison: EngineComparison) -> None:
    threads = counted(comparison.threads, "thread")
    print_table(
        ("engine", "version", "min ms", "median ms", "images/s", "GFLOP/s", "% of peak", ""),
        [_row(comparison, timing) for timing in comparison.timings],
        title=f"{model}: {comparison.macs:,} multiply-adds, batch {comparison.batch}, {threads}, "
        f"{counted(comparison.rounds, 'round')}",
    )
    assert comparison.peak is not None
    print_line(
        f"FMA peak of {threads}, measured in the same rounds: {comparison.peak / GIGA:.1f} GFLOP/s on {cpu_name()}"
    )


def _row(comparison: EngineComparison, timing: Timing) -> tuple[object, ...]:
    return (
        timing.engine, timing.version, _scaled(timing.minimum, MILLI, 3), _scaled(timing.median, MILLI, 3),
        _scaled(comparison.images(timing)), _scaled(comparison.flops(timing), GIGA),
        _scaled(comparison.share_of_peak(timing), PERCENT), timing.problem,
    )  # fmt: skip


def _scaled(number: float | None, unit: float = 1, places: int = 1) -> str | None:
    return None if number is None else f"{number / unit:,.{places}f}"


def _comparison_document(comparison: EngineComparison) -> dict[str, Any]:
    return {
        "macs": comparison.macs,
        "batch": comparison.batch,
        "threads": comparison.threads,
        "rounds": comparison.rounds,
        "peak_flops": comparison.peak,
        "engines": [
            {
                "engine": timing.engine,
                "version": timing.version,
                "difference": timing.difference,
                "least_seconds": timing.minimum,
                "median_seconds": timing.median,
                "images_per_second": comparison.images(timing),
                "flops": comparison.flops(timing),
                "share_of_peak": comparison.share_of_peak(timing),
                "problem": timing.problem or None,
            }
            for timing in comparison.timings
        ],
        "best_other": comparison.best_other.engine if comparison.best_other else None,
        "ratio": comparison.ratio,
    }


def _print_profile(model: str, profile: Profile) -> None:
    rows = [
        (
            step.step, step.kernel, tuple(step.input), tuple(step.output), _scaled(step.seconds, MICRO),
            _scaled(step.flops, GIGA), _scaled(step.share_of_peak, PERCENT), step.bytes,
            f"{step.macs / step.bytes:.2f}", step.bound, _scaled(step.share_of_bound, PERCENT),
            step.layers[0] if len(step.layers) == 1 else f"{step.layers[0]} ... {step.layers[-1]}",
        )
        for step in profile.steps
    ]  # fmt: skip
    print_table(
        ("step", "kernel", "input", "output", "us", "GFLOP/s", "% of peak", "bytes", "macs/byte", "bound by",
         "% of bound", "layers"),
        rows,
        title=f"{model}: {counted(profile.threads, 'thread')}, {counted(profile.rounds, 'round')}",
    )  # fmt: skip
    total = sum(step.seconds or 0 for step in profile.steps)
    print_line(f"all steps: {total / MILLI:.3f} ms; the network in one call: {profile.whole / MILLI:.3f} ms")
    print_line(f"FMA peak: {profile.peak / GIGA:.1f} GFLOP/s on {cpu_name()}")
    print_line(f"weights and activations: {profile.working_set:,} bytes\n")
    print_table(("bytes read repeatedly", "GB/s"), [(size, _scaled(rate, GIGA)) for size, rate in profile.reading])


def _profile_document(profile: Profile) -> dict[str, Any]:
    return {
        "threads": profile.threads,
        "rounds": profile.rounds,
        "peak_flops": profile.peak,
        "reading": [{"size": size, "bytes_per_second": speed} for size, speed in profile.reading],
        "working_set": profile.working_set,
        "whole_seconds": profile.whole,
        "steps": [
            asdict(step)
            | {
                "bytes": step.bytes,
                "flops": step.flops,
                "share_of_peak": step.share_of_peak,
                "macs_per_byte": step.macs / step.bytes,
                "bound": step.bound,
                "share_of_bound": step.share_of_bound,
            }
            for step in profile.steps
        ],
    }
