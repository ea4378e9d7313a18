"""`npmobilenet cost`."""

from dataclasses import asdict
from typing import Annotated

from npmobilenet.analysis.conventions import conventions_table
from npmobilenet.analysis.cost import CostTable, LayerCost, cost_table
from npmobilenet.analysis.cost import to_json as cost_to_json
from npmobilenet.analysis.paper_tables import paper_tables
from npmobilenet.cli.options import Option, UsageError
from npmobilenet.cli.shared import NETWORK, AsJson, Itemsize, NetworkOptions, reported, sized_graph
from npmobilenet.output import print_json, print_line, print_table


def cost(
    model: Annotated[str | None, NETWORK] = None,
    network: NetworkOptions = NetworkOptions(),  # noqa: B008  frozen
    per_layer: Annotated[bool, Option("--per-layer", help="One row per layer.")] = False,
    traffic: Annotated[bool, Option("--traffic", help="Activations, bytes and FLOPs instead.")] = False,
    kinds: Annotated[bool, Option("--kinds", help="Shares by kind of layer, as in the V1 paper.")] = False,
    convention: Annotated[bool, Option("--convention", help="Counts under every convention in use.")] = False,
    tables: Annotated[bool, Option("--tables", help="The tables of the papers, recounted (no model).")] = False,
    itemsize: Itemsize = None,
    as_json: AsJson = False,
) -> None:
    """Count parameters, multiply-adds, FLOPs and bytes."""
    if (model is None) != tables:
        raise UsageError("expected either a network or --tables")
    if sum((per_layer or traffic, kinds, convention, tables)) > 1:
        raise UsageError("--per-layer/--traffic, --kinds, --convention and --tables exclude each other")
    if tables and network.any_given():
        raise UsageError("--tables takes no options of a network")
    with reported(as_json):
        if model is None:
            _print_paper_tables(as_json)
            return
        graph, own_itemsize = sized_graph(model, network)
        table = cost_table(graph, itemsize=itemsize or own_itemsize)
        if as_json:
            document = cost_to_json(table, model=model)
            names = ("name", "count", "unit", "counts", "users")
            counted = [dict(zip(names, row, strict=True)) for row in conventions_table(graph)]
            print_json(document | ({"conventions": counted} if convention else {}))
        elif convention:
            print_table(("convention", "count", "unit", "counted", "used by"), conventions_table(graph))
        elif kinds:
            rows = [
                (share.kind, share.macs, f"{share.macs_share:.2f}", share.weights, f"{share.weights_share:.2f}")
                for share in table.shares()
            ]
            print_table(("kind", "multiply-adds", "%", "weights", "%"), rows)
        else:
            _print_layers(table, per_layer, traffic)


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
            [(row.name, row.type, _output(table, row), row.param_count, row.macs) for row in rows],
        )


def _output(table: CostTable, row: LayerCost) -> object:
    """Shape of the output of a layer, or of all outputs of the network by name if it has several."""
    if row is table.total and len(table.outputs) > 1:
        return ", ".join(f"{name} {shape}" for name, shape in table.outputs.items())
    return row.output_shape


def _print_paper_tables(as_json: bool) -> None:
    found = paper_tables()
    if as_json:
        print_json([asdict(table) for table in found])
        return
    for number, table in enumerate(found):
        if number:
            print_line()
        print_table(table.header, table.rows, title=table.title)
