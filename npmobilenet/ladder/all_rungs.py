"""The table of the rungs, and of the entries that stand next to them."""

from collections.abc import Callable
from typing import Any

from npmobilenet_kernels import blocked, loops
from npmobilenet_kernels.drivers import band, depthwise, general_convolution, pointwise
from npmobilenet_kernels.drivers.step_table import Kind
from npmobilenet_kernels.microkernels.catalog import all_tiles
from npmobilenet_kernels.runtime import work_stealing

from npmobilenet.compiler.passes import fold_batch_norm
from npmobilenet.compiler.plan import Plan
from npmobilenet.compiler.step_types import KernelStep
from npmobilenet.exercises import plainly
from npmobilenet.ladder import rungs
from npmobilenet.ladder.rungs import SAMPLE, Piece, Run, Rung
from npmobilenet.ladder.separable_block import SeparableBlock, Work
from npmobilenet.reference import convolution

STANDARD = "standard"
DRIVERS: dict[Kind, Callable[..., Any]] = {
    Kind.STRIP: band.bands,
    Kind.DEPTHWISE: depthwise.depthwise_panels,
    Kind.POINTWISE: pointwise.pointwise,
    Kind.CONV: general_convolution.convolution_parts,
}


def all_rungs(block: SeparableBlock, threads: int) -> list[Rung]:
    """The nine rungs in order, each followed by what stands next to it; the last one with this number of threads.

    Raises:
        KernelError: the engine's kernels cannot be compiled.
    """
    return [*_in_python(block), *_in_numpy(block), *_compiled(block), *_in_the_engine(block, threads)]


def _in_python(block: SeparableBlock) -> list[Rung]:
    H, W, N = block.output_shape
    sums = block.standard.graph.macs // (H * W * N)  # of one output value
    channels = min(max(SAMPLE // sums, 1), N)
    pixels = (H // 2, W // 2), (0, 0)  # the second one reads padding, and is not timed
    values = [
        Piece(rungs.seven_loops(block, at, channels), (0, at[0], at[1], slice(channels)), channels * sums)
        for at in pixels
    ]
    pixel_macs = block.separable.graph.macs // (H * W)
    whole = [Piece(rungs.apart(block, at), (0, *at), pixel_macs) for at in pixels]
    return [
        Rung(0, "seven loops", "the definition", block.standard, values, (plainly.convolution, rungs.seven_loops)),
        Rung(
            1, "apart", "1/N + 1/K²", block.separable, whole,
            (plainly.depthwise_conv, plainly.pointwise_conv, rungs.apart),
        ),
    ]  # fmt: skip


def _in_numpy(block: SeparableBlock) -> list[Rung]:
    separable, standard = rungs.shifted_copies(block), rungs.standard_shifted_copies(block)
    shared = convolution.taps
    return [
        _whole(
            2, "shifted copies", "NumPy, BLAS", block.separable, separable,
            (convolution.depthwise_conv2d, convolution.pointwise_conv2d, shared, rungs.shifted_copies),
        ),
        _whole(
            2, STANDARD, "", block.standard, standard,
            (convolution.conv2d, shared, rungs.standard_shifted_copies), is_side=True,
        ),
    ]  # fmt: skip


def _compiled(block: SeparableBlock) -> list[Rung]:
    textbook = rungs.textbook_depthwise, rungs.textbook_pointwise
    plain = loops.depthwise, loops.pointwise
    return [
        _whole(
            3, "textbook order", "compiled loops", block.separable, rungs.compiled_loops(block, *textbook),
            (*textbook, rungs.compiled_loops),
        ),
        _whole(
            4, "right order", "along rows", block.separable, rungs.compiled_loops(block, *plain),
            (*plain, rungs.compiled_loops),
        ),
        _whole(
            4, STANDARD, "", block.standard, rungs.standard_compiled_loops(block),
            (loops.convolution, rungs.standard_compiled_loops), is_side=True,
        ),
        _whole(
            4, "folded", "weights scaled", block.separable, rungs.folded_loops(block, rungs.plain_product),
            (fold_batch_norm, *plain, rungs.plain_product, rungs.folded_loops), folded=True, is_side=True,
        ),
        _whole(
            5, "folded, blocked", "tiles from bias", block.separable,
            rungs.folded_loops(block, rungs.blocked_product),
            (blocked.pointwise, blocked.pack, rungs.blocked_product, rungs.folded_loops), folded=True,
        ),
    ]  # fmt: skip


def _in_the_engine(block: SeparableBlock, threads: int) -> list[Rung]:
    apart, one, standard = rungs.layer_plans(block), rungs.plan_of(block.separable), rungs.plan_of(block.standard)
    run = rungs.engine
    return [
        _whole(
            6, "register tiles", "in registers", block.separable, run(block, apart, 1),
            (*_tiles(*apart), run), folded=True,
        ),
        _whole(
            7, "fused", "maps not copied", block.separable, run(block, [one], 1),
            (*_drivers(one), run), folded=True,
        ),
        _whole(
            7, STANDARD, "", block.standard, run(block, [standard], 1),
            (*_drivers(standard), run), folded=True, is_side=True,
        ),
        _whole(
            8, "all cores", f"threads: {threads}", block.separable, run(block, [one], threads),
            (work_stealing.compute_step, work_stealing.steal_units, run), folded=True, threads=threads,
        ),
    ]  # fmt: skip


def _whole(
    number: int, name: str, changed: str, work: Work, run: Run, code: tuple[Callable[..., Any], ...], **options: Any
) -> Rung:
    """A rung that computes everything."""
    return Rung(number, name, changed, work, [Piece(run, ..., work.graph.macs)], code, **options)


def _tiles(*plans: Plan) -> list[Callable[..., Any]]:
    """The micro-kernels of convolutions that plans call, as functions or classes."""
    found: dict[str, Callable[..., Any]] = {}
    for plan in plans:
        tiles = all_tiles(plan.target)
        for symbol in sorted(plan.table.symbols):
            emit = tiles[symbol]
            code = emit if hasattr(emit, "__name__") else type(emit)
            if "image" not in symbol:  # the copy of the input into blocks
                found[code.__name__] = code
    return list(found.values())


def _drivers(plan: Plan) -> list[Callable[..., Any]]:
    """The drivers of a plan's convolutions."""
    kinds = [step.kind for step in plan.steps if isinstance(step, KernelStep)]
    return [DRIVERS[kind] for kind in dict.fromkeys(kinds) if kind in DRIVERS]
