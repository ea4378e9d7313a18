"""The input of a quantized network: integers that are pixels, where one scale and one offset belong to all channels."""

from dataclasses import replace

import numpy as np

from npmobilenet.compiler import ir
from npmobilenet.models.preprocessing import Scaling
from npmobilenet.quantized.post_training import covering
from npmobilenet.quantized.tensors import Quantization
from npmobilenet.reference.layers import ChannelRescaling, Normalization, Rescaling
from npmobilenet.reference.normalization import SMALLEST_DEVIATION
from npmobilenet.types import Array

LARGEST_PIXEL = 255


def with_input_steps(ops: ir.Operations, scaling: Scaling) -> tuple[ir.Operations, Scaling, Quantization]:
    """Let one step of the input be one step of a pixel, where one scale and offset belong to all channels.

    Scaling is S p + O of a pixel p, layers that rescale the input included; O / S is rarely an integer. With
    z = round(-O / S) the integers stand for S (p - z), and the rest, d = O + z S, is at most half a step: it becomes
    part of the first convolution's bias, d sum(w). That is exact but for the padding, which stands for d in place of 0.

    Returns:
        The operations, the scaling from pixels to their input, and how that is quantized.
    """
    image = ops[0].name
    ops, scaling = _without_rescaling(ops, scaling)
    readers = [number for number, op in enumerate(ops) if image in op.reads]
    first = ops[readers[0]]
    if isinstance(scaling.scale, float | int) and isinstance(scaling.offset, float | int) and scaling.scale > 0:
        S, O = scaling.scale, scaling.offset  # noqa: E741
        z = float(np.rint(-O / S))
        d = O + z * S
        if 0 <= z <= LARGEST_PIXEL and isinstance(first, ir.Conv) and len(readers) == 1 and not first.residual:
            bias = first.bias + d * first.kernel.sum((0, 1, 2), dtype=np.float64)
            moved = [replace(op, bias=bias) if op is first else op for op in ops]
            how = Quantization(np.array([S], np.float32), np.array([int(z) - 128]))
            return moved, Scaling(S, -z * S), how
    return ops, scaling, covering(*scaling.limits())


def _without_rescaling(ops: ir.Operations, scaling: Scaling) -> tuple[ir.Operations, Scaling]:
    """The input's own scaling and that of the first layers as one, if nothing else reads the input."""
    image = ops[0].name
    while len(readers := [op for op in ops if image in op.reads]) == 1 and (affine := _affine(readers[0])) is not None:
        (first,) = readers
        scaling = _after(scaling, *affine)
        if isinstance(first, ir.Conv):
            ops = [replace(op, scaling=ir.NO_SCALING) if op is first else op for op in ops]
        else:
            ops = [replace(op, inputs=tuple(image if name == first.name else name for name in op.inputs)) for op in ops]
            ops = [op for op in ops if op.name != first.name]
    return ops, scaling


def _affine(op: ir.Operation) -> tuple[Array, Array] | None:
    """Scale and offset, () or (C,), by which an operation changes its input before anything else, if it does."""
    if isinstance(op, ir.Conv) and op.scaling != ir.NO_SCALING:
        return np.asarray(op.scaling[0]), np.asarray(op.scaling[1])
    if isinstance(op, ir.LayerOperation):
        match op.layer:
            case Rescaling(scale=scale, offset=offset) | ChannelRescaling(scale=scale, offset=offset):
                return np.asarray(scale), np.asarray(offset)
            case Normalization():
                deviation = np.sqrt(op.params["variance"].astype(np.float64))
                factors = 1 / np.maximum(deviation, SMALLEST_DEVIATION)
                return factors, -op.params["mean"] * factors
    return None


def _after(scaling: Scaling, scale: Array, offset: Array) -> Scaling:
    S, O = np.asarray(scaling.scale) * scale, np.asarray(scaling.offset) * scale + offset  # noqa: E741
    if S.ndim == O.ndim == 0:
        return Scaling(float(S), float(O))
    C = max(S.size, O.size)
    return Scaling(*(tuple(np.broadcast_to(value, C).tolist()) for value in (S, O)))
