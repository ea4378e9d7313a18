"""Reports of a memory plan: rows, JSON, a C header, a figure."""

from collections.abc import Iterator
from dataclasses import asdict
from math import prod
from os import PathLike
from typing import TYPE_CHECKING, Any

from npmobilenet.analysis.drawing import new_figure, save_figure
from npmobilenet.analysis.memory_plan import Buffer, MemoryPlan
from npmobilenet.analysis.memory_steps import Piece

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plan_rows(plan: MemoryPlan) -> tuple[tuple[int, str, str, int, int, int], ...]:
    """The plan as rows, one per step: (step, layer type, output, offset, bytes, live bytes)."""
    return tuple(
        (
            number,
            step.layer.type,
            step.writes.tensor + _ranges(step.writes),
            plan.offsets[step.writes.tensor],
            plan.itemsize * prod(step.writes.shape(plan.shapes[step.writes.tensor])),
            live,
        )
        for number, (step, live) in enumerate(zip(plan.steps, plan.live_bytes, strict=True))
    )


def to_json(plan: MemoryPlan, *, model: str | None = None) -> dict[str, Any]:
    """The plan as the JSON document of `npmobilenet memory --json`."""
    return {
        "model": model if model is not None else plan.graph.name,
        "policy": plan.policy,
        "itemsize": plan.itemsize,
        "peak_bytes": plan.peak_bytes,
        "arena_bytes": plan.arena_bytes,
        "macs": plan.macs,
        "outputs": dict(plan.graph.outputs),
        "buffers": [asdict(buffer) | {"tensors": list(buffer.tensors)} for buffer in plan.buffers],
        "steps": [
            dict(zip(("step", "type", "writes", "offset", "bytes", "live_bytes"), row, strict=True))
            for row in plan_rows(plan)
        ],
    }


def to_header(plan: MemoryPlan) -> str:
    """The plan as a C header: size of the arena, and offset and size of every tensor by the name of its layer.

    Returns:
        Self-contained C99 that includes only <stddef.h>.
    """
    names = _c_names(plan)
    offsets = plan.offsets
    lines = [
        f"/* {plan.graph.name}, one image: activations under the policy {plan.policy},",
        f"   {plan.itemsize} bytes per value, offsets in bytes. */",
        "#ifndef NPMOBILENET_ARENA_H",
        "#define NPMOBILENET_ARENA_H",
        "#include <stddef.h>",
        "",
        f"#define ARENA_BYTES {plan.arena_bytes}",
        f"#define ARENA_ALIGN {plan.align}",
        f"#define ARENA_STEPS {len(plan.steps)}",
        f"#define ARENA_TENSORS {len(names)}",
        "",
        *(
            f"#define {name}_OFFSET {offsets[tensor]}\n#define {name}_BYTES {plan.itemsize * prod(plan.shapes[tensor])}"
            for tensor, name in names.items()
        ),
        "",
        "/* first and last: the steps, counted from 0, during which the tensor is live. */",
        "struct arena_tensor { const char *name; size_t offset, bytes; int first, last; };",
        "static const struct arena_tensor arena_tensors[ARENA_TENSORS] = {",
    ]
    for buffer in plan.buffers:
        lines += [
            f'    {{"{tensor}", {names[tensor]}_OFFSET, {names[tensor]}_BYTES, {first}, {last}}},'
            for tensor, first, last in _turns(plan, buffer)
        ]
    return "\n".join([*lines, "};", "", "#endif", ""])


def draw(plan: MemoryPlan, path: str | PathLike[str]) -> None:
    """Draw the plan: a rectangle per buffer over steps and addresses, and the live bytes as a line.

    Args:
        plan: the plan.
        path: output file; its suffix (.png, .svg, .pdf) is the format.

    Raises:
        NpMobileNetError: matplotlib is not installed, or does not support the format.
    """
    save_figure(_figure(plan), path)


def _figure(plan: MemoryPlan) -> "Figure":
    figure = new_figure()
    from matplotlib.patches import Rectangle

    axes = figure.subplots()
    for number, buffer in enumerate(plan.buffers):
        corner = (buffer.first, buffer.offset / 1024)
        width, height = buffer.last - buffer.first + 1, buffer.bytes / 1024
        color = f"C{number % 10}"
        axes.add_patch(Rectangle(corner, width, height, facecolor=color, edgecolor="black", linewidth=0.3))
    axes.stairs([live / 1024 for live in plan.live_bytes], color="black", label="in use")
    axes.set(
        title=f"{plan.graph.name}, {plan.policy}: peak {plan.peak_bytes:,} bytes, arena {plan.arena_bytes:,}",
        xlabel="step",
        ylabel="address (KiB)",
        xlim=(0, len(plan.steps)),
        ylim=(0, plan.arena_bytes / 1024 * 1.05),
    )
    axes.legend(loc="upper right")
    return figure


def _turns(plan: MemoryPlan, buffer: Buffer) -> Iterator[tuple[str, int, int]]:
    """(tensor, first step, last step) for every tensor of a buffer."""
    for tensor in buffer.tensors:
        used = [number for number, step in enumerate(plan.steps) if tensor in step.tensors]
        yield tensor, used[0], buffer.last if tensor == buffer.tensors[-1] else used[-1]


def _c_names(plan: MemoryPlan) -> dict[str, str]:
    """C identifier by tensor name."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for buffer in plan.buffers:
        for tensor in buffer.tensors:
            name = "".join(letter if letter.isalnum() else "_" for letter in tensor).strip("_").upper()
            name = name if name and name[0].isalpha() else f"T_{name}"
            while name in taken:
                name += "_"
            taken.add(name)
            names[tensor] = name
    return names


def _ranges(piece: Piece) -> str:
    rows = "" if piece.rows is None else f"[rows {piece.rows[0]}:{piece.rows[1]}]"
    return rows if piece.channels is None else f"{rows}[channels {piece.channels[0]}:{piece.channels[1]}]"
