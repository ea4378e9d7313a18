"""Rung 3, the pointwise step: a 1 x 1 convolution as one matrix product, in cache.

    C (M, N) = act(A (M, K) @ B (K, N) + bias (N,)) + residual (M, N)         M = H W pixels

    A: [K / L][M][L]    B: [N / NR][K][NR]    C, residual: [N / L][M][L]

A gate of the input channels is folded into a copy of the panel's weights: A diag(g) @ B = A @ (diag(g) B). The average
or maximum over all pixels follows each panel while it is in cache.

A unit of work is one panel of NR output channels for one part of the pixels. Parts are whole tiles.

Source: Goto & van de Geijn 2008, Anatomy of High-Performance Matrix Multiplication.
"""

from __future__ import annotations

from npmobilenet_kernels.drivers.compiled import compiled
from npmobilenet_kernels.drivers.panels import panel_count, panel_product, panel_weights
from npmobilenet_kernels.drivers.step_table import Field, Product
from npmobilenet_kernels.runtime.intrinsics import call, read


@compiled
def pool_blocks(step, arena, begin, end):  # type: ignore[no-untyped-def]
    """Average or maximum over all pixels of blocks begin ... end - 1 of the output, if the step has one."""
    pooled = read(step, Field.AVERAGE)
    if pooled < 0:
        return
    M, scale = read(step, Field.HEIGHT) * read(step, Field.WIDTH), read(step, Field.ONE_OVER_PIXELS)
    tile, vector = read(step, Field.POOL_TILE), read(step, Field.VECTOR)
    C, C_block = arena + read(step, Field.TARGET), read(step, Field.TARGET_BLOCK)
    for j in range(begin, end):
        call(tile, (C + j * C_block, M, scale, arena + pooled + j * vector))


@compiled
def pointwise(step, arena, scratch, first, last):  # type: ignore[no-untyped-def]
    """Units first ... last - 1.

    Args:
        step: address of the table's row. arena, scratch: addresses of the activations and of working memory.
        first, last: units.
    """
    vector, vectors = read(step, Field.VECTOR), read(step, Field.PANEL)  # bytes of L floats; NR / L
    blocks = read(step, Field.MATRIX + Product.BLOCKS)  # ceil(N / L)
    M, MR = read(step, Field.HEIGHT) * read(step, Field.WIDTH), read(step, Field.MATRIX + Product.ROWS)
    K = read(step, Field.MATRIX + Product.SEGMENTS) * read(step, Field.MATRIX + Product.LENGTH)
    K += read(step, Field.MATRIX + Product.TAIL)
    A, A_block = arena + read(step, Field.SOURCE), read(step, Field.SOURCE_BLOCK)
    C, C_block = arena + read(step, Field.TARGET), read(step, Field.TARGET_BLOCK)
    gate, residual = read(step, Field.GATE), read(step, Field.RESIDUAL)
    panels, parts = panel_count(step, Field.MATRIX), read(step, Field.PIXEL_PARTS)
    tiles = (M + MR - 1) // MR
    gated = -1  # panel whose weights, times the gate, are in scratch

    for unit in range(first, last):
        if read(step, Field.PARTS_FIRST) != 0:  # loop 2 around the micro-kernel: panels; loop 3: parts of the pixels
            part, n = unit % parts, unit // parts
        else:  # the same loops in the other order
            part, n = unit // panels, unit % panels
        tile = part * tiles // parts
        m, end = tile * MR, min((part + 1) * tiles // parts * MR, M)
        B, end_block = panel_weights(step, Field.MATRIX, n), min((n + 1) * vectors, blocks)
        if gate >= 0:
            if gated != n:
                call(read(step, Field.SCALE_TILE), (B, arena + gate, K, end_block - n * vectors, scratch))
                gated = n
            B = scratch
        offset = m * vector
        other = arena + residual + offset if residual >= 0 else 0
        panel_product(step, Field.MATRIX, n, end - m, A + offset, A_block, B, C + offset, C_block, other, tile)
        pool_blocks(step, arena, n * vectors, end_block)
