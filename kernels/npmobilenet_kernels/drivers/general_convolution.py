"""The step of any other convolution: im2col, in chunks that stay in cache, and a matrix product.

    C (M, N) = act(A (M, K) @ B (K, N) + bias (N,)) + residual (M, N)         M = H W pixels, K = K_h K_w c_in

A is copied as [tap][block of channels][pixel][L], so that the K values of a pixel are in segments like those of a
pointwise convolution of K_h K_w c_in channels. Only a chunk of the segments is copied at a time, few enough
to stay in cache together with their weights; the partial sums are in scratch meanwhile (loop 4 around the micro-kernel
in BLIS, which blocks K).

A unit of work is a group of panels for a part of the pixels, whole tiles.

Sources: Chellapilla, Puri & Simard 2006 (im2col); Dukhan 2019, arXiv:1907.02129, on what its copies cost.
"""

from __future__ import annotations

from npmobilenet_kernels.drivers.compiled import compiled
from npmobilenet_kernels.drivers.panels import panel_count, panel_tile, panel_weights
from npmobilenet_kernels.drivers.step_table import Activation, Field, Product
from npmobilenet_kernels.microkernels.emitter import FLOAT_BYTES
from npmobilenet_kernels.runtime.intrinsics import call, read


@compiled
def im2col_segment(step, arena, index, begin, end, A):  # type: ignore[no-untyped-def]
    """Segment `index`, one tap and block of channels, for output pixels begin ... end - 1, to A: (end - begin, L)."""
    H_in, W_in, W = read(step, Field.SOURCE_HEIGHT), read(step, Field.SOURCE_WIDTH), read(step, Field.WIDTH)
    K_w, stride, blocks = read(step, Field.SIZE_ACROSS), read(step, Field.STRIDE), read(step, Field.BLOCKS)
    top, left, vector = read(step, Field.TOP), read(step, Field.LEFT), read(step, Field.VECTOR)
    zeros, tile, dilation = read(step, Field.ZEROS), read(step, Field.GATHER_TILE), read(step, Field.DILATION)
    tap, c = index // blocks, index % blocks
    u, v = tap // K_w, tap % K_w
    channels = read(step, Field.CHANNELS) - c * (vector // FLOAT_BYTES)
    x = arena + read(step, Field.SOURCE) + c * read(step, Field.SOURCE_BLOCK)

    m = begin
    while m < end:  # rows, or parts of them
        i, j = m // W, m % W
        count = min(W - j, end - m)
        row, column = i * stride + u * dilation - top, j * stride + v * dilation - left
        width = W_in if 0 <= row < H_in else 0
        call(tile, (x + row * W_in * vector, width, column, stride, channels, zeros, count, A))
        A += count * vector
        m += count


@compiled
def partial_product(step, n, done, count, M, A, C, sums):  # type: ignore[no-untyped-def]
    """Panel n of C = sums + A @ B over segments done ... done + count - 1 of the sum.

    Args:
        step: address of the table's row. n: panel.
        A: [count][M][L]; C, sums: [NR / L][M][L], apart, since the last tile overlaps the one before. If sums is 0, the
            sum starts with the bias.
    """
    vector, vectors = read(step, Field.VECTOR), read(step, Field.PANEL)
    blocks = read(step, Field.MATRIX + Product.BLOCKS)
    tile, MR = panel_tile(step, Field.MATRIX, n)
    length, linear = read(step, Field.MATRIX + Product.LENGTH), Activation.LINEAR
    width = min(vectors, blocks - n * vectors)  # vectors of this panel
    B = panel_weights(step, Field.MATRIX, n) + done * length * width * vector
    start = read(step, Field.ZEROS) if sums != 0 else read(step, Field.MATRIX + Product.BIAS) + n * vectors * vector
    block = M * vector

    m = 0
    while m < M:  # loop 1 around the micro-kernel: tiles of MR pixels; the last one overlaps the one before
        m = min(m, M - MR)
        offset = m * vector
        other = sums + offset if sums != 0 else 0
        call(tile, (A + offset, block, count, length, 0, B, start, C + offset, block, other, linear, B, 0))
        m += MR


@compiled
def finish_sums(step, arena, first, last, begin, end, sums):  # type: ignore[no-untyped-def]
    """Epilogue of panels first ... last - 1 and pixels begin ... end - 1; sums: [blocks][end - begin][L]."""
    vector, vectors = read(step, Field.VECTOR), read(step, Field.PANEL)
    blocks = read(step, Field.MATRIX + Product.BLOCKS)
    residual, activation = read(step, Field.RESIDUAL), read(step, Field.MATRIX + Product.ACTIVATION)
    C, C_block = arena + read(step, Field.TARGET), read(step, Field.TARGET_BLOCK)
    M = end - begin

    for j in range(first * vectors, min(last * vectors, blocks)):
        offset = j * C_block + begin * vector
        other = arena + residual + offset if residual >= 0 else 0
        call(read(step, Field.FINISH_TILE), (sums, M, activation, other, C + offset))
        sums += M * vector


@compiled
def convolve_part(step, arena, scratch, first, last, begin, end):  # type: ignore[no-untyped-def]
    """Panels first ... last - 1 of output pixels begin ... end - 1."""
    segments, chunk = read(step, Field.MATRIX + Product.SEGMENTS), read(step, Field.CHUNK)
    M, segment = end - begin, (end - begin) * read(step, Field.VECTOR)
    panel = read(step, Field.PANEL) * segment
    sums = scratch + read(step, Field.SUMS)
    C = sums + read(step, Field.SUMS_BYTES)

    done = 0
    while done < segments:  # loop 4 around the micro-kernel: chunks of K
        count = min(chunk, segments - done)
        for s in range(count):
            im2col_segment(step, arena, done + s, begin, end, scratch + s * segment)
        for n in range(first, last):  # loop 2: panels of NR output channels
            offset = (n - first) * panel
            partial_product(step, n, done, count, M, scratch, C + offset, sums + offset if done > 0 else 0)
        sums, C = C, sums
        done += count
    finish_sums(step, arena, first, last, begin, end, sums)


@compiled
def convolution_parts(step, arena, scratch, first, last):  # type: ignore[no-untyped-def]
    """Units first ... last - 1; `step`: address of the table's row, `arena`, `scratch`: of the memory."""
    M, MR = read(step, Field.HEIGHT) * read(step, Field.WIDTH), read(step, Field.MATRIX + Product.ROWS)
    parts, groups = read(step, Field.PIXEL_PARTS), read(step, Field.PANEL_GROUPS)
    tiles, panels = (M + MR - 1) // MR, panel_count(step, Field.MATRIX)

    for unit in range(first, last):  # loop 3 around the micro-kernel: parts of the pixels; and groups of panels
        part, group = unit // groups, unit % groups
        begin, end = part * tiles // parts * MR, min((part + 1) * tiles // parts * MR, M)
        convolve_part(step, arena, scratch, group * panels // groups, (group + 1) * panels // groups, begin, end)
