"""The steps without weights: global pooling, sum, sigmoid, softmax, and the input as a feature map.

feature maps: [C / L][H W][L]
"""

from __future__ import annotations

from npmobilenet_kernels.drivers.compiled import compiled
from npmobilenet_kernels.drivers.step_table import Field, Kind
from npmobilenet_kernels.microkernels.emitter import FLOAT_BYTES
from npmobilenet_kernels.runtime.intrinsics import call, read


@compiled
def map_blocks(step, arena, first, last):  # type: ignore[no-untyped-def]
    """Blocks first ... last - 1 of global pooling, of a sum, or of a sigmoid."""
    kind, vector = read(step, Field.KIND), read(step, Field.VECTOR)
    M, scale = read(step, Field.HEIGHT) * read(step, Field.WIDTH), read(step, Field.ONE_OVER_PIXELS)
    x, x_block = arena + read(step, Field.SOURCE), read(step, Field.SOURCE_BLOCK)
    y, y_block = arena + read(step, Field.TARGET), read(step, Field.TARGET_BLOCK)
    other = arena + read(step, Field.RESIDUAL)

    for c in range(first, last):
        source, offset = x + c * x_block, c * y_block
        if kind == Kind.POOL:
            call(read(step, Field.POOL_TILE), (source, M, scale, y + c * vector))
        elif kind == Kind.ADD:
            call(read(step, Field.ADD_TILE), (source, other + offset, M, y + offset))
        else:
            call(read(step, Field.CURVE_TILE), (source, M, y + offset))


@compiled
def softmax_pixels(step, arena, first, last):  # type: ignore[no-untyped-def]
    """Pixels first ... last - 1 of a softmax over the channels."""
    vector, block, channels = read(step, Field.VECTOR), read(step, Field.TARGET_BLOCK), read(step, Field.CHANNELS)
    x, y = arena + read(step, Field.SOURCE), arena + read(step, Field.TARGET)

    for m in range(first, last):
        call(read(step, Field.CURVE_TILE), (x + m * vector, block, channels, y + m * vector))


@compiled
def image_rows(step, arena, image, first, last):  # type: ignore[no-untyped-def]
    """Rows first ... last - 1 of the interleaved input, (H, W, C), scaled, to a feature map."""
    vector, W, channels = read(step, Field.VECTOR), read(step, Field.WIDTH), read(step, Field.CHANNELS)
    y, y_block = arena + read(step, Field.TARGET), read(step, Field.TARGET_BLOCK)
    scale, tile = read(step, Field.IMAGE_SCALE), read(step, Field.GATHER_TILE)
    pitch, lanes = channels * FLOAT_BYTES, vector // FLOAT_BYTES

    for row in range(first, last):
        for c in range(read(step, Field.BLOCKS)):
            source, target = image + row * W * pitch + c * vector, y + c * y_block + row * W * vector
            call(tile, (source, pitch, min(lanes, channels - c * lanes), scale, W, target))
