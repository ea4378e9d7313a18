"""The band step: expansion, depthwise and projection, fused over bands of a few output rows.

    x (H_in, W_in, C) = act(expansion of the source)      a pointwise convolution, the stem, another band, or none
    f (H, W, C)       = act(depthwise convolution of x)
    y (H, W, N)       = act(f @ B (C, N) + bias) + residual     or f itself, without a projection

Neither x nor f is ever in memory as a whole. A band of f is in scratch, [C / L][rows][W][L], and so are the rows of x
that it reads, in a ring buffer, [C / L][ring][W_in][L]. Each row of x is computed once per thread that reads it:

    invariant: rows [ready - ring, ready) of the producer's output are in scratch, row r at slot r mod ring
               (of these, rows before the first one that this thread has read, or below 0, do not exist)

For a 3 x 3 filter, stride 1, and bands of three rows, ring = 5:

    slot                    0    1    2    3    4
                         +----+----+----+----+----+
    output rows 6 ... 8  |  5 |  6 |  7 |  8 |  9 |      ready = 10: rows [5, 10)
                         +----+----+----+----+----+
    output rows 9 ... 11 | 10 | 11 | 12 |  8 |  9 |      ready = 13: rows [8, 13); 10, 11, 12 are new, 8 and 9 reused
                         +----+----+----+----+----+

The depthwise micro-kernel gets a table of row addresses, so the order of the slots does not matter to it. A unit of
work is a band. The producer of a band's rows may be a band step itself, of single rows, with a ring of its own.

Source: Dukhan 2019, The Indirect Convolution Algorithm, arXiv:1907.02129 (rows by address).
"""

from __future__ import annotations

from npmobilenet_kernels.drivers.compiled import compiled
from npmobilenet_kernels.drivers.depthwise import depthwise_row, end_row, filter_weights, first_row, repeat_block
from npmobilenet_kernels.drivers.panels import panel_count, panel_product, panel_weights
from npmobilenet_kernels.drivers.stem import stem_row
from npmobilenet_kernels.drivers.step_table import SCRATCH_HEADER, Field, Producer
from npmobilenet_kernels.runtime.intrinsics import read


@compiled
def ring_buffer(step, scratch):  # type: ignore[no-untyped-def]
    """Address of a step's ring buffer, [C / L][ring][W_in][L]."""
    return scratch + SCRATCH_HEADER + read(step, Field.LINES)


@compiled
def produce_row(step, arena, scratch, image, row, x, x_block):  # type: ignore[no-untyped-def]
    """One row of the producer's output, (W_in, C), at x, by a producer that is no band step."""
    vector, W_in, producer = read(step, Field.VECTOR), read(step, Field.SOURCE_WIDTH), read(step, Field.PRODUCER_KIND)
    A, A_block = arena + read(step, Field.SOURCE) + row * W_in * vector, read(step, Field.SOURCE_BLOCK)

    if producer == Producer.STEM:
        stem_row(step, image, scratch + SCRATCH_HEADER, row, x, x_block)
    elif producer == Producer.REPEAT:
        for c in range(read(step, Field.BLOCKS)):
            repeat_block(step, c, A, W_in, x + c * x_block)
    else:
        for n in range(panel_count(step, Field.PRODUCER)):  # loop 2 around the micro-kernel: panels
            B = panel_weights(step, Field.PRODUCER, n)
            panel_product(step, Field.PRODUCER, n, W_in, A, A_block, B, x, x_block, 0, 0)


@compiled
def filter_rows(step, arena, scratch, begin, end, f, f_block):  # type: ignore[no-untyped-def]
    """Rows begin ... end - 1 of f at `f`, from x in the ring buffer, or in the arena if there is no producer."""
    W_in, row_bytes = read(step, Field.SOURCE_WIDTH), read(step, Field.WIDTH) * read(step, Field.VECTOR)
    if read(step, Field.PRODUCER_KIND) != Producer.NONE:
        x, ring = ring_buffer(step, scratch), read(step, Field.RING)
        x_block = ring * W_in * read(step, Field.VECTOR)
    else:
        x, ring = arena + read(step, Field.SOURCE), read(step, Field.SOURCE_HEIGHT)
        x_block = read(step, Field.SOURCE_BLOCK)

    for c in range(read(step, Field.BLOCKS)):
        w = filter_weights(step, c)
        for row in range(begin, end):
            depthwise_row(step, scratch, row, x + c * x_block, ring, w, f + c * f_block + (row - begin) * row_bytes)


@compiled
def band(step, arena, scratch, begin, end, y, y_block):  # type: ignore[no-untyped-def]
    """Output rows begin ... end - 1, whose input rows are ready; y: address of row `begin` of the output."""
    M, row_bytes = (end - begin) * read(step, Field.WIDTH), read(step, Field.WIDTH) * read(step, Field.VECTOR)
    residual, panels = read(step, Field.RESIDUAL), panel_count(step, Field.MATRIX)
    other = arena + residual + begin * row_bytes if residual >= 0 else 0
    f, f_block = y, y_block
    if panels > 0:
        f, f_block = scratch + SCRATCH_HEADER + read(step, Field.FILTERED), (end - begin) * row_bytes

    filter_rows(step, arena, scratch, begin, end, f, f_block)
    for n in range(panels):  # loop 2 around the micro-kernel: panels of NR output channels
        B = panel_weights(step, Field.MATRIX, n)
        panel_product(step, Field.MATRIX, n, M, f, f_block, B, y, y_block, other, 0)


@compiled
def inner_row(step, arena, scratch, image, row, ready, y, y_block):  # type: ignore[no-untyped-def]
    """Output row `row` of a band step that produces rows for another one; `ready` as in the invariant."""
    row_bytes = read(step, Field.SOURCE_WIDTH) * read(step, Field.VECTOR)
    x, ring = ring_buffer(step, scratch), read(step, Field.RING)

    if read(step, Field.PRODUCER_KIND) != Producer.NONE:
        for r in range(max(first_row(step, row), ready), end_row(step, row)):
            produce_row(step, arena, scratch, image, r, x + r % ring * row_bytes, ring * row_bytes)
    band(step, arena, scratch, row, row + 1, y, y_block)


@compiled
def fill_ring(step, arena, scratch, image, begin, end, ready):  # type: ignore[no-untyped-def]
    """Produce the input rows of output rows begin ... end - 1 that are not in the ring buffer; returns `ready`."""
    row_bytes, producer = read(step, Field.SOURCE_WIDTH) * read(step, Field.VECTOR), read(step, Field.PRODUCER_KIND)
    x, ring = ring_buffer(step, scratch), read(step, Field.RING)
    inner, inner_scratch = read(step, Field.INNER), scratch + read(step, Field.INNER_SCRATCH)

    for row in range(max(first_row(step, begin), ready), end_row(step, end - 1)):
        slot = x + row % ring * row_bytes
        if producer == Producer.STRIP:
            inner_ready = end_row(inner, row - 1) if ready > 0 else 0
            inner_row(inner, arena, inner_scratch, image, row, inner_ready, slot, ring * row_bytes)
        else:
            produce_row(step, arena, scratch, image, row, slot, ring * row_bytes)
        ready = row + 1
    return ready


@compiled
def bands(step, arena, scratch, image, first, last, continues):  # type: ignore[no-untyped-def]
    """Bands first ... last - 1.

    Args:
        step: address of the table's row. arena, scratch, image: addresses of the activations, of this thread's working
            memory, and of the input.
        first, last: bands.
        continues: whether this thread has just computed the band before `first`, so that its rows are in the ring.
    """
    H, rows = read(step, Field.HEIGHT), read(step, Field.STRIP_ROWS)
    row_bytes = read(step, Field.WIDTH) * read(step, Field.VECTOR)
    y, y_block = arena + read(step, Field.TARGET), read(step, Field.TARGET_BLOCK)
    ready = end_row(step, first * rows - 1) if continues else 0

    for number in range(first, last):
        begin, end = number * rows, min((number + 1) * rows, H)
        if read(step, Field.PRODUCER_KIND) != Producer.NONE:
            ready = fill_ring(step, arena, scratch, image, begin, end, ready)
        band(step, arena, scratch, begin, end, y + begin * row_bytes, y_block)
