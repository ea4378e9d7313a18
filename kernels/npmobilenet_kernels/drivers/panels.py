"""Loop 1 around the micro-kernel: one panel of output channels, by tiles of MR pixels. All matrix products use it.

    C (M, NR) = act(A (M, K) @ B (K, NR) + bias (NR,)) + residual (M, NR)

    A: [segments][M][length]    the K values of a pixel in segments: blocks of channels, or rows under a filter
    B: [K][NR]                  one panel of the packed weights
    C: [NR / L][M][L]           feature map in blocks of L channels

A product's columns of the table begin at `product`, one of Field.PRODUCER and Field.MATRIX. The last panel has a tile
of its own, which may be narrower.
"""

from __future__ import annotations

from npmobilenet_kernels.drivers.compiled import compiled
from npmobilenet_kernels.drivers.step_table import Field, Product
from npmobilenet_kernels.runtime.intrinsics import call, read


@compiled
def panel_count(step, product):  # type: ignore[no-untyped-def]
    """ceil(N / NR), panels of output channels."""
    vectors = read(step, Field.PANEL)
    return (read(step, product + Product.BLOCKS) + vectors - 1) // vectors


@compiled
def panel_weights(step, product, n):  # type: ignore[no-untyped-def]
    """Address of panel n of the weights, [K][NR]."""
    return read(step, product + Product.WEIGHTS) + n * read(step, product + Product.PANEL_BYTES)


@compiled
def panel_tile(step, product, n):  # type: ignore[no-untyped-def]
    """Micro-kernel of panel n, and its MR."""
    last = 0
    if (n + 1) * read(step, Field.PANEL) >= read(step, product + Product.BLOCKS):
        last = Product.LAST_TILE - Product.TILE
    return read(step, product + Product.TILE + last), read(step, product + Product.ROWS + last)


@compiled
def panel_product(step, product, n, M, A, segment, B, C, C_block, residual, tiles):  # type: ignore[no-untyped-def]
    """Panel n of C for M pixels.

    Args:
        step: address of the table's row; product: first column of the product.
        n: panel. M: pixels.
        A: address of the first pixel; segment: bytes from segment to segment.
        B: address of the panel's weights.
        C, residual: addresses of the first pixel of the whole output, of all panels, C_block bytes from block to block;
            residual is 0 for none.
        tiles: tiles of this panel computed before, which have prefetched the beginning of the next panel.
    """
    vector, block = read(step, Field.VECTOR), n * read(step, Field.PANEL)
    tile, MR = panel_tile(step, product, n)
    pitch = read(step, product + Product.PITCH)
    segments, length = read(step, product + Product.SEGMENTS), read(step, product + Product.LENGTH)
    tail = read(step, product + Product.TAIL)
    bias = read(step, product + Product.BIAS) + block * vector
    activation = read(step, product + Product.ACTIVATION)
    panel_bytes, prefetched = read(step, product + Product.PANEL_BYTES), read(step, product + Product.FETCHED)
    following = panel_weights(step, product, n + 1)  # after the last panel, these are the next step's weights
    end = following + panel_bytes
    C += block * C_block
    if residual != 0:
        residual += block * C_block

    following += tiles * prefetched % panel_bytes
    m = 0
    while m < M:  # loop 1 around the micro-kernel: tiles of MR pixels; the last one overlaps the one before
        m = min(m, M - MR)
        offset = m * vector
        source, other = A + m * pitch, residual + offset if residual != 0 else 0
        call(
            tile,
            (source, segment, segments, length, tail, B, bias, C + offset, C_block, other, activation, following, 0),
        )
        m += MR
        following += prefetched
        if following >= end:
            following -= panel_bytes
