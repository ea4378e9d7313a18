"""Where every value of a plan is stored, and for how long."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from npmobilenet.compiler.arena import ALIGNMENT, FLOAT32, Memory, Place, allocate
from npmobilenet.compiler.blocking import ceil_div, round_up
from npmobilenet.compiler.ir import Operations, outputs_of, stored_names
from npmobilenet.compiler.step_types import Step


def place(
    ops: Operations, steps: Sequence[Step], width: int, dtype: np.dtype[Any] = FLOAT32, margin: int = 0
) -> Memory:
    """A place in the arena for every value that a step makes.

    Args:
        ops: the fused operations.
        steps: the steps, in order.
        width: values per vector.
        dtype: of the values.
        margin: bytes before the first value and after the last that kernels may read.
    """
    stored = stored_names(ops)
    shapes = {op.name: op.shape for op in ops}
    made = {name: number for number, step in enumerate(steps) for name in step.makes}
    last = dict(made)
    for number, step in enumerate(steps):
        last |= {stored[name]: number for name in step.reads if stored[name] in made}
    last |= {stored[name]: len(steps) for output in outputs_of(ops) for name in output.inputs}
    blocks = {name: ceil_div(shapes[name][-1], width) for name in made}
    block_bytes = {name: prod(shapes[name][:-1]) * width * dtype.itemsize for name in made}
    sizes = {name: round_up(blocks[name] * block_bytes[name], ALIGNMENT) for name in made}
    offsets, size = allocate(sizes, {name: (made[name], last[name]) for name in made})
    places = {name: Place(offsets[name] + margin, blocks[name], shapes[name]) for name in made}
    return Memory(places, round_up(size, ALIGNMENT) + 2 * margin, width, stored, dtype)
