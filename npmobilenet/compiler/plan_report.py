"""A plan as a table for people."""

from npmobilenet_kernels.drivers.step_table import Field, Product

from npmobilenet.compiler.arena import FLOAT_BYTES
from npmobilenet.compiler.plan import Plan
from npmobilenet.types import Shape

HEAD = ("step", "kernel", "layers", "input", "output", "tile", "mult-adds", "weights", "what it covers")
LEFT = {1, 2, 8}  # columns aligned on the left


def report(plan: Plan) -> str:
    """The steps as a table, a line per step."""
    lines = [HEAD, *(_line(plan, number) for number in range(len(plan.steps)))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    total = (
        f"{plan.graph.name}: {len(plan.graph.layers)} layers in {len(plan.steps)} steps, {plan.graph.macs:,} "
        f"multiply-adds; {plan.target.width} floats per vector; activations {plan.arena_bytes:,} bytes, "
        f"scratch {plan.scratch_bytes:,} per thread, weights {plan.weight_bytes:,}"
    )
    return "\n".join([total, "", *(_aligned(line, widths) for line in lines)])


def _aligned(line: tuple[str, ...], widths: list[int]) -> str:
    cells = (
        cell.ljust(width) if column in LEFT else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    )
    return "  ".join(cells).rstrip()


def _line(plan: Plan, number: int) -> tuple[str, ...]:
    step = plan.steps[number]
    shapes = {op.name: op.shape for op in plan.ops}
    parts = " > ".join(f"{op.label} {_sides(op.shape)}" for op in step.ops)
    return (
        str(number),
        step.label,
        str(len(step.layers)),
        _sides(shapes[step.source]),
        _sides(shapes[step.target]),
        _tiles(plan, number),
        f"{step.macs:,}",
        f"{FLOAT_BYTES * step.weight_count:,}",
        f"{step.layers[0]} ... {step.layers[-1]}: {parts}",
    )


def _tiles(plan: Plan, number: int) -> str:
    """Pixels x vectors of the tiles of a step's matrix products."""
    record = plan.table.records[number]
    if record is None:
        return ""
    rows = (record.columns.get(start + Product.ROWS) for start in (Field.PRODUCER, Field.MATRIX))
    return " ".join(f"{n}x{plan.target.panel}" for n in rows if n)


def _sides(shape: Shape) -> str:
    return "x".join(map(str, shape))
