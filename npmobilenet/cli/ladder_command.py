"""`npmobilenet ladder`: exit code 0 all rungs are right, 1 one is not, or nothing was measured."""

import os
from pathlib import Path
from typing import Annotated, Any

from npmobilenet.cli.options import Exit, Option, UsageError
from npmobilenet.cli.shared import AsJson, NetworkOptions, available_threads, counted, graph_of, reported
from npmobilenet.output import print_json, print_line, print_note, print_table, progress_bar

LAST = 8  # number of the last rung
SECONDS, LONGEST = 20, 45  # checking, and compiling what is checked, takes ten seconds
GIGA, PERCENT = 1e9, 100


def ladder(
    model: Annotated[
        str, Option("--model", "-m", metavar="M", help="Architecture, known name or file; its weights are not used.")
    ] = "mobilenet_v1",
    network: NetworkOptions = NetworkOptions(),  # noqa: B008  frozen
    layer: Annotated[
        str | None,
        Option("--layer", metavar="L", help="A layer of a separable block (default: the most common block)."),
    ] = None,
    threads: Annotated[int | None, Option(min=1, help="Threads of the last rung (default: all cores).")] = None,
    seconds: Annotated[int, Option(min=1, help=f"Seconds of measuring, at most {LONGEST}.")] = SECONDS,
    show: Annotated[
        int | None, Option("--show", min=0, metavar="RUNG", help="Print the code of a rung, 0 to 8, instead.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Time one depthwise separable block from seven loops to all cores, on this machine.

    The weights are random. Each rung is compared with float64.
    """
    if seconds > LONGEST:
        raise UsageError(f"--seconds {seconds}: expected at most {LONGEST}")
    if show is not None and show > LAST:
        raise UsageError(f"--show {show}: expected a rung from 0 to {LAST}")
    with reported(as_json):
        threads = available_threads(threads)
        from npmobilenet.ladder import measuring, separable_block

        graph = graph_of(model, network)
        block = separable_block.find_block(graph, layer)
        if show is not None:
            _print_code(block, threads, show)
            return
        task = measuring.Task(graph, layer, threads, seconds)
        *_, measured = progress_bar(measuring.measure_apart(task), measuring.RUNGS + measuring.TICKS + 1, "ladder")
        document = {"model": model, **(measured or {})}
    if as_json:
        print_json(document)
    else:
        _print(document)
    wrong = [entry for entry in (*document["rungs"], *document["next_to"]) if not entry["within_bound"]]
    for entry in wrong:
        times = entry["error_over_bound"]
        print_note(f"rung {entry['number']}, {entry['name']}: wrong: {times:.3g} times its bound from float64")
    if wrong:
        raise Exit(1)


def _print_code(block: Any, threads: int, number: int) -> None:
    """Print the functions of a rung, and of what stands next to it, each once."""
    from npmobilenet.ladder.all_rungs import all_rungs
    from npmobilenet.ladder.sources import source_of

    printed = set()
    for rung in all_rungs(block, threads):
        if rung.number != number:
            continue
        print_line(f"rung {rung.number}, {rung.name}" if not rung.is_side else f"next to it: {rung.name}")
        for function in rung.code:
            source = source_of(function)
            if source not in printed:
                print_line(f"\n# {_near(source.file)}, lines {source.first} to {source.last}\n{source.text}")
                printed.add(source)


def _near(file: Path) -> str:
    """A path as seen from this folder, if the file is below it."""
    return os.path.relpath(file) if file.is_relative_to(Path.cwd()) else str(file)


def _print(document: dict[str, Any]) -> None:
    (H, W, C), N = document["input"], document["output"][2]
    K, standard = " x ".join(map(str, document["kernel"])), document["standard_macs"]
    print_line(f"{document['layer']} of {document['model']}")
    print_line(f"{H} x {W} pixels, {C:,} to {N:,} channels, {K}, stride {document['stride']}")
    print_line(f"{document['macs']:,} multiply-adds; as a standard convolution {standard:,}")
    print_line(
        f"{document['cpu']}, {counted(document['cores'], 'core')}, {document['vector_floats']} floats per vector"
    )
    peaks = [f"{document['peak_flops'] / GIGA:.1f} GFLOP/s"]
    if document["threads"] > 1:
        peaks.append(f"with {counted(document['threads'], 'thread')} {document['peak_flops_all'] / GIGA:.1f}")
    print_line(f"FMA peak of 1 thread, in the same {counted(document['rounds'], 'round')}: {', '.join(peaks)}\n")
    rows = []
    for entry in document["rungs"]:
        mark = " *" if entry["sampled"] else ""
        rows.append(_row(f"{entry['number']} {entry['name']}{mark}", entry))
        rows += [_row(f"  {side['name']}", side) for side in document["next_to"] if side["number"] == entry["number"]]
    print_table(("rung", "ms", "GFLOP/s", "% peak", "factor", "right", "what changed"), rows)
    sampled = [rung for rung in document["rungs"] if rung["sampled"]]
    print_line("\n* timed on a part and multiplied")
    for rung in sampled:
        print_line(f"  {rung['number']}: {rung['sampled']:,} of {rung['macs']:,} multiply-adds")
    print_line("factor: times faster than the rung before; indented: than the rung above")


def _row(name: str, entry: dict[str, Any]) -> tuple[object, ...]:
    ms, share = entry["ms"], PERCENT * entry["share_of_peak"]
    return (
        name, _short(ms), f"{entry['gflops']:,.2f}", f"{share:,.2f}",
        _short(entry["factor"]) if entry["factor"] else None, "yes" if entry["within_bound"] else "no",
        entry["changed"],
    )  # fmt: skip


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:,.2f}"
