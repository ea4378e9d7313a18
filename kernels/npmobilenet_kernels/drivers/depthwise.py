"""The depthwise step: one block of channels at a time, on a feature map that fits into cache.

    y[i, j, c] = act(bias[c] + sum_{u, v} x[i stride + u D - top, j stride + v D - left, c] w[u, v, c])

    D: the dilation, pixels from tap to tap
    x: [C / L][H_in W_in][L]    w: [C / L][1 + K_h K_w][L]    y: [C / L][H W][L]

Its input may be the output of a pointwise convolution, the expansion, of which a thread then computes one panel of
channels into scratch, filters it at once, and never writes it to the arena. A unit of work is a panel of channels.
"""

from __future__ import annotations

from npmobilenet_kernels.drivers.compiled import compiled
from npmobilenet_kernels.drivers.panels import panel_product, panel_weights
from npmobilenet_kernels.drivers.pointwise import pool_blocks
from npmobilenet_kernels.drivers.step_table import SCRATCH_HEADER, Field, Producer
from npmobilenet_kernels.microkernels.emitter import FLOAT_BYTES
from npmobilenet_kernels.runtime.intrinsics import call, read, write


@compiled
def first_row(step, row):  # type: ignore[no-untyped-def]
    """First input row of output row `row`; below 0 in the padding."""
    return row * read(step, Field.STRIDE) - read(step, Field.TOP)


@compiled
def end_row(step, row):  # type: ignore[no-untyped-def]
    """The row after the last input row of output row `row`, at most H_in."""
    extent = (read(step, Field.SIZE) - 1) * read(step, Field.DILATION) + 1
    return min(first_row(step, row) + extent, read(step, Field.SOURCE_HEIGHT))


@compiled
def filter_weights(step, c):  # type: ignore[no-untyped-def]
    """Address of block c of the bias and weights, [1 + K_h K_w][L]."""
    taps = read(step, Field.SIZE) * read(step, Field.SIZE_ACROSS)
    return read(step, Field.WEIGHTS) + c * (1 + taps) * read(step, Field.VECTOR)


@compiled
def depthwise_row(step, rows, row, x, ring, w, y):  # type: ignore[no-untyped-def]
    """Output row `row` of one block of channels, (W, L).

    Args:
        step: address of the table's row.
        rows: working memory for the addresses of K_h input rows.
        x: input rows, [ring][W_in][L], of which row r is at slot r mod ring.
        w: bias and weights, [1 + K_h K_w][L]. y: output row.
    """
    H_in, W_in, W = read(step, Field.SOURCE_HEIGHT), read(step, Field.SOURCE_WIDTH), read(step, Field.WIDTH)
    K_h, K_w, stride = read(step, Field.SIZE), read(step, Field.SIZE_ACROSS), read(step, Field.STRIDE)
    left, zeros, vector = read(step, Field.LEFT), read(step, Field.ZEROS), read(step, Field.VECTOR)
    activation, tile = read(step, Field.ACTIVATION), read(step, Field.DEPTHWISE_TILE)
    dilation, top = read(step, Field.DILATION), first_row(step, row)

    for u in range(K_h):
        source = top + u * dilation
        slot = source if ring >= H_in else source % ring
        write(rows, u, x + slot * W_in * vector if 0 <= source < H_in else zeros)
    call(tile, (rows, W_in, W, left, zeros, w, y, activation, K_h, K_w, stride, dilation))


@compiled
def repeat_block(step, c, x, pixels, y):  # type: ignore[no-untyped-def]
    """Block c of the input of a filter with depth multiplier, (pixels, L), from the feature map at x."""
    first, multiplier = c * (read(step, Field.VECTOR) // FLOAT_BYTES), read(step, Field.MULTIPLIER)
    block, channels = read(step, Field.SOURCE_BLOCK), read(step, Field.CHANNELS)
    call(read(step, Field.GATHER_TILE), (x, block, pixels, first, multiplier, channels, y))


@compiled
def depthwise_panels(step, arena, scratch, first, last):  # type: ignore[no-untyped-def]
    """Panels of channels first ... last - 1: expanded, filtered and pooled while they are in cache."""
    vector, vectors, blocks = read(step, Field.VECTOR), read(step, Field.PANEL), read(step, Field.BLOCKS)
    H, H_in = read(step, Field.HEIGHT), read(step, Field.SOURCE_HEIGHT)
    M_in, row_bytes = H_in * read(step, Field.SOURCE_WIDTH), read(step, Field.WIDTH) * vector
    source, source_block = arena + read(step, Field.SOURCE), read(step, Field.SOURCE_BLOCK)
    y, y_block = arena + read(step, Field.TARGET), read(step, Field.TARGET_BLOCK)
    producer, expanded_block = read(step, Field.PRODUCER_KIND), M_in * vector

    for n in range(first, last):
        x, x_block, end = source, source_block, min((n + 1) * vectors, blocks)
        if producer != Producer.NONE:
            x_block = expanded_block
            x = scratch + SCRATCH_HEADER - n * vectors * x_block  # where the whole expanded feature map would begin
        if producer == Producer.POINTWISE:
            B = panel_weights(step, Field.PRODUCER, n)
            panel_product(step, Field.PRODUCER, n, M_in, source, source_block, B, x, x_block, 0, 0)
        elif producer == Producer.REPEAT:
            for c in range(n * vectors, end):
                repeat_block(step, c, source, M_in, x + c * x_block)
        for c in range(n * vectors, end):
            w = filter_weights(step, c)
            for row in range(H):
                depthwise_row(step, scratch, row, x + c * x_block, H_in, w, y + c * y_block + row * row_bytes)
        pool_blocks(step, arena, n * vectors, end)
