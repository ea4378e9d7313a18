"""Running a network in the arena of a memory plan, which shows that the plan is right."""

from collections.abc import Mapping
from math import prod

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.analysis.memory_plan import MemoryPlan
from npmobilenet.analysis.memory_steps import MemoryStep
from npmobilenet.errors import ShapeError
from npmobilenet.reference.layers import DepthwiseConv2D, Input
from npmobilenet.types import Array, Outputs, Params


def run_in_arena(plan: MemoryPlan, params: Params, x: Array) -> Outputs:
    """The network's output, computed in one block of `arena_bytes` in which every tensor is a view at its offset.

    The block is filled with NaN first, so that a read before a write shows.

    Args:
        plan: its `itemsize` is that of the dtype of x.
        params: arrays by `layer/array`, of the dtype of x.
        x: (1, H, W, C), one scaled image.

    Returns:
        (1, *output_shape), a copy; {name: output} of several outputs.

    Raises:
        ShapeError: x is not one image of the plan's size and itemsize.
    """
    if x.shape != (1, *plan.graph.input_shape) or x.dtype.itemsize != plan.itemsize:
        raise ShapeError(
            f"memory: expected x of shape {(1, *plan.graph.input_shape)} with {plan.itemsize} bytes per value, "
            f"got {x.shape} with {x.dtype.itemsize}"
        )
    views = _views(plan, x.dtype)
    for step in plan.steps:
        if isinstance(step.layer, Input):
            step.writes.of(views[step.writes.tensor])[...] = x
        else:
            _run_step(step, params, views)
    return plan.graph.result({layer: views[layer].copy() for layer in plan.graph.output_layers})


def _run_step(step: MemoryStep, params: Params, views: Mapping[str, Array]) -> None:
    layer = step.layer
    inputs = [piece.of(views[piece.tensor]) for piece in step.reads]
    y = step.writes.of(views[step.writes.tensor])
    arrays = {
        name: _part(step, name, params[f"{layer.name}/{name}"])
        for name in layer.param_shapes(*(x.shape[1:] for x in inputs))
    }
    if step.scratch is not None and isinstance(layer, DepthwiseConv2D):
        _depthwise_in_place(layer, arrays, inputs[0], y, views[step.scratch][0])
    elif step.sums and step.part is not None and step.part[0] > 0:
        y += layer.apply(arrays, *inputs)
    else:
        y[...] = layer.apply(arrays, *inputs)


def _part(step: MemoryStep, name: str, array: Array) -> Array:
    """Channels of a parameter that a step uses."""
    if step.part is None:
        return array
    channels = slice(*step.part)
    if name == "kernel" and (step.sums or step.layer.channelwise):
        return array[:, :, channels]
    return array if step.sums else array[..., channels]


def _depthwise_in_place(layer: DepthwiseConv2D, params: Params, x: Array, y: Array, held: Array) -> None:
    """Row by row into memory that x (1, H, W, C) and y share; `held` (rows, W, C) is a ring buffer of rows of x."""
    H, W, C = x.shape[1:]
    ring = len(held)
    read = 0
    for i in range(y.shape[1]):
        (first, last), rows = layer.rows_read((i, i + 1), (H, W, C))
        while read < last:
            held[read % ring] = x[0, read]
            read += 1
        window = np.stack([held[row % ring] for row in range(first, last)])[None]  # (1, <= ring, W, C)
        y[:, i : i + 1] = layer.on_rows(rows, (H, W, C)).apply(params, window)


def _views(plan: MemoryPlan, dtype: DTypeLike) -> dict[str, Array]:
    arena = np.full(-(-plan.arena_bytes // plan.itemsize), np.nan, dtype)
    views = {}
    for tensor, offset in plan.offsets.items():
        start, size = offset // plan.itemsize, prod(plan.shapes[tensor])
        views[tensor] = arena[start : start + size].reshape(1, *plan.shapes[tensor])
    return views
