"""The commands that count: cost and memory."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from npmobilenet.analysis.cost import CostTable, conventions_table, cost_table
from npmobilenet.analysis.cost import to_json as cost_to_json
from npmobilenet.analysis.memory_plan import POLICIES, Plan, memory_table, plan
from npmobilenet.analysis.memory_report import draw, plan_rows, to_header
from npmobilenet.analysis.memory_report import to_json as plan_to_json
from npmobilenet.analysis.paper_tables import paper_tables
from npmobilenet.cli.options import Argument, Option, UsageError
from npmobilenet.cli.shared import Alpha, AsJson, Minimalistic, NoTop, Resolution, graph_of, reported
from npmobilenet.files import write_atomically
from npmobilenet.output import print_json, print_table
from npmobilenet.reference.graph import Graph

Network = Annotated[str, Argument(metavar="ARCH|M", help="An architecture, a known name, a file or digits.")]
Itemsize = Annotated[int, Option(min=1, help="Bytes of one value: 4 for float32, 2 for float16, 1 for int8.")]


def cost(
    model: Annotated[
        str | None, Argument(metavar="ARCH|M", help="An architecture, a known name, a file or digits.")
    ] = None,
    alpha: Alpha = None,
    resolution: Resolution = None,
    minimalistic: Minimalistic = False,
    no_top: NoTop = False,
    per_layer: Annotated[bool, Option("--per-layer", help="A row for every layer.")] = False,
    traffic: Annotated[bool, Option("--traffic", help="Activations, bytes and FLOPs instead.")] = False,
    kinds: Annotated[bool, Option("--kinds", help="Shares by kind of layer, as in the V1 paper.")] = False,
    convention: Annotated[bool, Option("--convention", help="The same network, counted in every way.")] = False,
    tables: Annotated[bool, Option("--tables", help="The papers' tables, recounted. Takes no model.")] = False,
    itemsize: Itemsize = 4,
    as_json: AsJson = False,
) -> None:
    """Count parameters, multiply-adds, FLOPs and bytes."""
    if (model is None) != tables:
        raise UsageError("a network to count, or --tables for the papers' tables, is needed, and not both")
    if sum((per_layer or traffic, kinds, convention, tables)) > 1:
        raise UsageError("--per-layer with --traffic, --kinds, --convention and --tables are different answers")
    if tables and (alpha, resolution, minimalistic, no_top) != (None, None, False, False):
        raise UsageError("--tables is about the papers' networks, which have no options")
    with reported(as_json):
        if model is None:
            _print_paper_tables(as_json)
            return
        graph = graph_of(model, alpha, resolution, minimalistic, no_top)
        table = cost_table(graph, itemsize=itemsize)
        if as_json:
            document = cost_to_json(table, model=model)
            names = ("name", "count", "unit", "counts", "users")
            counted = [dict(zip(names, row, strict=True)) for row in conventions_table(graph)]
            print_json(document | ({"conventions": counted} if convention else {}))
        elif convention:
            print_table(("convention", "count", "of", "what is counted", "who prints it"), conventions_table(graph))
        elif kinds:
            rows = [
                (share.kind, share.macs, f"{share.macs_share:.2f}", share.weights, f"{share.weights_share:.2f}")
                for share in table.shares()
            ]
            print_table(("kind", "multiply-adds", "%", "weights", "%"), rows)
        else:
            _print_layers(table, per_layer, traffic)


def memory(
    model: Network,
    alpha: Alpha = None,
    resolution: Resolution = None,
    minimalistic: Minimalistic = False,
    no_top: NoTop = False,
    policy: Annotated[str | None, Option(help=f"{', '.join(POLICIES)}. Default: compare all.")] = None,
    parts: Annotated[int, Option(min=1, help="Parts of an inverted residual: t of the V2 paper.")] = 4,
    stripes: Annotated[int, Option(min=1, help="Stripes of the first layers.")] = 4,
    itemsize: Itemsize = 4,
    picture: Annotated[Path | None, Option(metavar="FILE", help="Draw the plan (.png, .svg, .pdf).")] = None,
    header: Annotated[Path | None, Option(metavar="FILE", help="Write offsets as a C header.")] = None,
    as_json: AsJson = False,
) -> None:
    """Plan the memory that activations need: its peak, and where every tensor goes."""
    if policy is not None and policy not in POLICIES:
        raise UsageError(f"{policy} is not a policy; there are {', '.join(POLICIES)}")
    if policy is None and (picture, header) != (None, None):
        raise UsageError(f"a picture or header is of one plan; choose it by --policy ({', '.join(POLICIES)})")
    with reported(as_json):
        graph = graph_of(model, alpha, resolution, minimalistic, no_top)
        if policy is None:
            _print_policies(model, graph, memory_table(graph, itemsize=itemsize, parts=parts, stripes=stripes), as_json)
            return
        planned = plan(graph, policy, itemsize=itemsize, parts=parts, stripes=stripes)
        if header is not None:
            write_atomically(header, to_header(planned).encode())
        if picture is not None:
            draw(planned, picture)
        if as_json:
            print_json(plan_to_json(planned, model=model))
            return
        print_table(("step", "layer", "writes", "offset", "bytes", "in use"), plan_rows(planned))
        print(f"peak {planned.peak_bytes:,} bytes, arena {planned.arena_bytes:,} bytes")


def _print_layers(table: CostTable, per_layer: bool, traffic: bool) -> None:
    rows = (*(table.rows if per_layer else ()), table.total)
    if traffic:
        print_table(
            ("layer", "type", "activations", "bytes read", "bytes written", "FLOPs", "FLOPs/byte"),
            [
                (
                    row.name, row.type, row.activations, row.bytes_read, row.bytes_written, row.flops,
                    f"{row.intensity:.2f}",
                )
                for row in rows
            ],
        )  # fmt: skip
    else:
        print_table(
            ("layer", "type", "output", "parameters", "multiply-adds"),
            [(row.name, row.type, row.output_shape, row.params, row.macs) for row in rows],
        )


def _print_paper_tables(as_json: bool) -> None:
    found = paper_tables()
    if as_json:
        print_json([asdict(table) for table in found])
        return
    for number, table in enumerate(found):
        if number:
            print()
        print_table(table.header, table.rows, title=table.title)


def _print_policies(model: str, graph: Graph, plans: tuple[Plan, ...], as_json: bool) -> None:
    if as_json:
        measured = ("policy", "peak_bytes", "arena_bytes", "macs")
        policies = [{name: getattr(planned, name) for name in measured} for planned in plans]
        print_json({"model": model, "itemsize": plans[0].itemsize, "policies": policies})
        return
    rows = [
        (
            planned.policy, planned.peak_bytes, planned.arena_bytes, f"{100 * planned.macs / graph.macs - 100:.1f}",
            POLICIES[planned.policy],
        )
        for planned in plans
    ]  # fmt: skip
    print_table(("policy", "peak bytes", "arena bytes", "more macs %", ""), rows)
