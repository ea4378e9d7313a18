"""`npmobilenet memory`."""

from pathlib import Path
from typing import Annotated

from npmobilenet.analysis.accumulators import accumulator_bytes
from npmobilenet.analysis.memory_plan import POLICIES, MemoryPlan, memory_table, plan
from npmobilenet.analysis.memory_report import draw, plan_rows, to_header
from npmobilenet.analysis.memory_report import to_json as plan_to_json
from npmobilenet.cli.options import Option, UsageError
from npmobilenet.cli.shared import NETWORK, QUANTIZED_BYTES, AsJson, Itemsize, NetworkOptions, reported, sized_graph
from npmobilenet.files import write_atomically
from npmobilenet.output import print_json, print_line, print_table
from npmobilenet.reference.graph import Graph


def memory(
    model: Annotated[str, NETWORK],
    network: NetworkOptions = NetworkOptions(),  # noqa: B008  frozen
    policy: Annotated[str | None, Option(help=f"{', '.join(POLICIES)}. Default: compare all.")] = None,
    parts: Annotated[int, Option(min=1, help="Parts of an inverted residual: t of the V2 paper.")] = 4,
    stripes: Annotated[int, Option(min=1, help="Row bands of the first layers.")] = 4,
    itemsize: Itemsize = None,
    figure: Annotated[
        Path | None, Option("--figure", "--picture", metavar="FILE", help="Draw the plan (.png, .svg or .pdf).")
    ] = None,
    header: Annotated[Path | None, Option(metavar="FILE", help="Write the offsets as a C header.")] = None,
    as_json: AsJson = False,
) -> None:
    """Plan the memory of feature maps: its peak, and the offset of every tensor."""
    if policy is not None and policy not in POLICIES:
        raise UsageError(f"unknown policy {policy!r}; choose from {', '.join(POLICIES)}")
    if policy is None and (figure, header) != (None, None):
        raise UsageError(f"--figure and --header need one plan: --policy {', '.join(POLICIES)}")
    with reported(as_json):
        graph, own_itemsize = sized_graph(model, network)
        accumulators = accumulator_bytes(graph) if own_itemsize == QUANTIZED_BYTES else None
        sizes = {"itemsize": itemsize or own_itemsize, "parts": parts, "stripes": stripes}
        if policy is None:
            _print_policies(model, graph, memory_table(graph, **sizes), accumulators, as_json)
            return
        planned = plan(graph, policy, **sizes)
        if header is not None:
            write_atomically(header, to_header(planned).encode())
        if figure is not None:
            draw(planned, figure)
        if as_json:
            print_json(plan_to_json(planned, model=model) | _in_addition(accumulators))
            return
        print_table(("step", "layer", "writes", "offset", "bytes", "in use"), plan_rows(planned))
        print_line(f"peak {planned.peak_bytes:,} bytes, arena {planned.arena_bytes:,} bytes")
        _print_accumulators(accumulators)


def _print_policies(
    model: str, graph: Graph, plans: tuple[MemoryPlan, ...], accumulators: int | None, as_json: bool
) -> None:
    if as_json:
        measured = ("policy", "peak_bytes", "arena_bytes", "macs")
        policies = [{name: getattr(planned, name) for name in measured} for planned in plans]
        print_json({"model": model, "itemsize": plans[0].itemsize, "policies": policies} | _in_addition(accumulators))
        return
    rows = [
        (
            planned.policy, planned.peak_bytes, planned.arena_bytes, f"{100 * planned.macs / graph.macs - 100:.1f}",
            POLICIES[planned.policy],
        )
        for planned in plans
    ]  # fmt: skip
    print_table(("policy", "peak bytes", "arena bytes", "more macs %", ""), rows)
    _print_accumulators(accumulators)


def _in_addition(accumulators: int | None) -> dict[str, int]:
    """What a quantized network takes in addition to its arena, for JSON."""
    return {} if accumulators is None else {"accumulator_bytes": accumulators}


def _print_accumulators(accumulators: int | None) -> None:
    if accumulators is not None:
        print_line(f"and int32 accumulators: at most {accumulators:,} bytes, for all channels of one pixel")
