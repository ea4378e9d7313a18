"""The stem step: direct convolution of an interleaved image, row by row.

    C (M, N) = act(A (M, K) @ B (K, N) + bias (N,))         M = W pixels of one row, K = K_h K_w c_in

The values under one row of the filter are contiguous in an interleaved image, (H_in, W_in, c_in). So a pixel's K values
are K_h segments of K_w c_in values, and the micro-kernel of the matrix product reads them from a copy of K_h input
rows in scratch, scaled and with the zero padding at their ends. From pixel to pixel it advances by stride c_in floats.

A unit of work is an output row.
"""

from __future__ import annotations

from npmobilenet_kernels.drivers.compiled import compiled
from npmobilenet_kernels.drivers.panels import panel_count, panel_product, panel_weights
from npmobilenet_kernels.drivers.step_table import SCRATCH_HEADER, Field
from npmobilenet_kernels.microkernels.emitter import FLOAT_BYTES
from npmobilenet_kernels.runtime.intrinsics import call, read


@compiled
def copy_rows(step, image, lines, row):  # type: ignore[no-untyped-def]
    """The input rows of output row `row`, scaled and padded, to `lines`: (K_h, line); returns the bytes of a line."""
    c_in, H_in = read(step, Field.IMAGE_CHANNELS), read(step, Field.IMAGE_HEIGHT)
    left, right = read(step, Field.IMAGE_LEFT) * c_in, read(step, Field.IMAGE_RIGHT) * c_in
    values = read(step, Field.IMAGE_WIDTH) * c_in
    factors, zeros, copy = read(step, Field.IMAGE_SCALE), read(step, Field.ZEROS), read(step, Field.COPY_TILE)
    identity = factors + 2 * FLOAT_BYTES  # the factor 1 and the offset 0
    top = row * read(step, Field.FILTER_STRIDE) - read(step, Field.IMAGE_TOP)
    line = (left + values + right) * FLOAT_BYTES

    for u in range(read(step, Field.FILTER)):
        target = lines + u * line
        if 0 <= top + u < H_in:
            source = image + (top + u) * values * FLOAT_BYTES
            call(copy, (zeros, left, identity, target))
            call(copy, (source, values, factors, target + left * FLOAT_BYTES))
            call(copy, (zeros, right, identity, target + (left + values) * FLOAT_BYTES))
        else:
            call(copy, (zeros, left + values + right, identity, target))
    return line


@compiled
def stem_row(step, image, lines, row, C, C_block):  # type: ignore[no-untyped-def]
    """One output row, (W, N), at C; `lines`: working memory for its input rows."""
    W = read(step, Field.SOURCE_WIDTH)
    line = copy_rows(step, image, lines, row)
    for n in range(panel_count(step, Field.PRODUCER)):  # loop 2 around the micro-kernel: panels of NR output channels
        B = panel_weights(step, Field.PRODUCER, n)
        panel_product(step, Field.PRODUCER, n, W, lines, line, B, C, C_block, 0, 0)


@compiled
def stem_rows(step, arena, scratch, image, first, last):  # type: ignore[no-untyped-def]
    """Rows first ... last - 1."""
    row_bytes = read(step, Field.SOURCE_WIDTH) * read(step, Field.VECTOR)
    C, C_block = arena + read(step, Field.TARGET), read(step, Field.TARGET_BLOCK)
    for row in range(first, last):
        stem_row(step, image, scratch + SCRATCH_HEADER, row, C + row * row_bytes, C_block)
