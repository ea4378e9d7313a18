"""From a step's kind to its driver."""

from __future__ import annotations

from npmobilenet_kernels.drivers.band import bands
from npmobilenet_kernels.drivers.byte_table import ByteField
from npmobilenet_kernels.drivers.compiled import compiled
from npmobilenet_kernels.drivers.dense import dense
from npmobilenet_kernels.drivers.depthwise import depthwise_panels
from npmobilenet_kernels.drivers.general_convolution import convolution_parts
from npmobilenet_kernels.drivers.per_block import image_rows, map_blocks, softmax_pixels
from npmobilenet_kernels.drivers.pointwise import pointwise
from npmobilenet_kernels.drivers.stem import stem_rows
from npmobilenet_kernels.drivers.step_table import Field, Kind
from npmobilenet_kernels.runtime.intrinsics import call, read


@compiled
def compute_units(step, arena, scratch, image, first, last, continues):  # type: ignore[no-untyped-def]
    """Units first ... last - 1 of one step.

    Args:
        step: address of the table's row. arena, scratch, image: addresses of the activations, of this thread's working
            memory, and of the input.
        first, last: units.
        continues: whether this thread has just computed the unit before `first`.
    """
    kind = read(step, Field.KIND)
    if kind == Kind.STRIP:
        bands(step, arena, scratch, image, first, last, continues)
    elif kind == Kind.DEPTHWISE:
        depthwise_panels(step, arena, scratch, first, last)
    elif kind == Kind.POINTWISE:
        pointwise(step, arena, scratch, first, last)
    elif kind == Kind.DENSE:
        dense(step, arena, first, last)
    elif kind == Kind.STEM:
        stem_rows(step, arena, scratch, image, first, last)
    elif kind == Kind.CONV:
        convolution_parts(step, arena, scratch, first, last)
    elif kind == Kind.BYTES:
        call(read(step, ByteField.KERNEL), (step, arena, scratch, image, first, last))
    elif kind == Kind.IMAGE:
        image_rows(step, arena, image, first, last)
    elif kind == Kind.SOFTMAX:
        softmax_pixels(step, arena, first, last)
    else:
        map_blocks(step, arena, first, last)
