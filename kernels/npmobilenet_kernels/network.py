"""The whole network in one native call: loops over the plan's steps, and over rows, blocks and panels inside each.

Every thread of the team runs `run` over the same table. A step has units of work; the units are shared out in order,
and nobody starts the next step before all have finished this one. Each output value is computed by the same
instructions in the same order whoever computes it, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from npmobilenet_kernels.lanes import Lanes
from npmobilenet_kernels.scalars import add_now, external, give_way, pause, read, read_now, write
from npmobilenet_kernels.steps import FIELDS, GEMV_PANELS, SCRATCH_HEADER, Field, Kind, Producer
from npmobilenet_kernels.tiles import depthwise_name, gemm_name, gemv_name, simple_name
from npmobilenet_kernels.vector import FLOAT_BYTES

# Called by other compiled code alone: no wrappers for Python. No exceptions: no division here can be by zero.
OPTIONS: Any = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
compiled: Any = njit(**OPTIONS)
SPINS = 2000  # looks at the barrier before the core is offered to somebody else


def build(lanes: Lanes) -> Callable[..., int]:
    """The network's driver for one vector width, as a Python function that Numba compiles.

    Returns:
        run(table, steps, arena, scratch, image, thread, threads, barrier, arrived), all int64:
            table: address of `steps` rows of FIELDS int64; arena, scratch, image: addresses; scratch is the thread's
                own;
            thread, threads: who this is, and how many they are; barrier: address of an int64 that counts arrivals,
            `arrived` before the first thread starts (below 0: the call is off).
            Returns 0, or 1 if the call was off.
    """
    width = lanes.width
    vector = width * FLOAT_BYTES
    panel = vector * lanes.panels

    rows_a, rows_b, rows_c, rows_d, _ = lanes.rows
    gemm_a, gemm_b, gemm_c, gemm_d, gemm_e = (external(gemm_name(rows, lanes)) for rows in lanes.rows)
    stem_rows = lanes.stem_rows
    stem_wide, stem_one = (external(gemm_name(rows, lanes, stem=True)) for rows in (stem_rows, 1))
    gemv_many, gemv_one = (external(gemv_name(panels, lanes)) for panels in (GEMV_PANELS, 1))
    row_31, row_32, row_51, row_52 = (external(depthwise_name(size, s, lanes)) for size in (3, 5) for s in (1, 2))
    pool, scale, add, copy = (
        external(simple_name(name, lanes)) for name in ("pool", "scale_weights", "add_pixels", "scale_and_copy")
    )
    lanes_panels = lanes.panels

    @compiled
    def gemm(rows, pixels, a, segment, depth, b, bias, y, y_block, residual, activation):  # type: ignore[no-untyped-def]
        """One panel of output channels of a 1x1 convolution, over `pixels` pixels; the last tile overlaps the one
        before."""
        segments = depth // width
        tail = depth - segments * width
        first = 0
        while first < pixels:
            first = min(first, pixels - rows)
            here = first * vector
            beside = residual + here if residual != 0 else 0
            call = (a + here, segment, segments, width, tail, b, bias, y + here, y_block, beside, activation)
            if rows == rows_a:
                gemm_a(call)
            elif rows == rows_b:
                gemm_b(call)
            elif rows == rows_c:
                gemm_c(call)
            elif rows == rows_d:
                gemm_d(call)
            else:
                gemm_e(call)
            first += rows

    @compiled
    def depthwise(size, stride, rows, columns, out_columns, left, zero, w, y, activation):  # type: ignore[no-untyped-def]
        call = (rows, columns, out_columns, left, zero, w, y, activation)
        if size == 3:
            if stride == 1:
                row_31(call)
            else:
                row_32(call)
        elif stride == 1:
            row_51(call)
        else:
            row_52(call)

    @compiled
    def stem_row(step, image, lines, row, y, y_block):  # type: ignore[no-untyped-def]
        """One output row of the first convolution, from a copy of its input rows with the zeros at their ends."""
        channels = read(step, Field.IMAGE_CHANNELS)
        left = read(step, Field.IMAGE_LEFT) * channels
        values = read(step, Field.IMAGE_WIDTH) * channels
        right = read(step, Field.IMAGE_RIGHT) * channels
        line = (left + values + right) * FLOAT_BYTES
        size = read(step, Field.FILTER)
        stride = read(step, Field.FILTER_STRIDE)
        top = row * stride - read(step, Field.IMAGE_TOP)
        height = read(step, Field.IMAGE_HEIGHT)
        factors = read(step, Field.IMAGE_SCALE)
        as_it_is = factors + 2 * FLOAT_BYTES  # the factor 1 and the offset 0
        zeros = read(step, Field.ZEROS)
        for u in range(size):
            target = lines + u * line
            if 0 <= top + u < height:
                copy((zeros, left, as_it_is, target))
                copy((image + (top + u) * values * FLOAT_BYTES, values, factors, target + left * FLOAT_BYTES))
                copy((zeros, right, as_it_is, target + (left + values) * FLOAT_BYTES))
            else:
                copy((zeros, left + values + right, as_it_is, target))
        depth = size * channels
        pixels = read(step, Field.SOURCE_WIDTH)
        rows = stem_rows if pixels >= stem_rows else 1
        weights = read(step, Field.PRODUCER_WEIGHTS)
        bias = read(step, Field.PRODUCER_BIAS)
        activation = read(step, Field.PRODUCER_ACTIVATION)
        for n in range(read(step, Field.PRODUCER_PANELS)):
            first = 0
            while first < pixels:
                first = min(first, pixels - rows)
                call = (
                    lines + first * stride * channels * FLOAT_BYTES, line, size, depth, 0,
                    weights + n * size * depth * panel, bias + n * panel,
                    y + n * lanes_panels * y_block + first * vector, y_block, 0, activation,
                )  # fmt: skip
                if rows == stem_rows:
                    stem_wide(call)
                else:
                    stem_one(call)
                first += rows

    @compiled
    def produce_row(step, arena, lines, image, row, y, y_block):  # type: ignore[no-untyped-def]
        """One row of the map that the depthwise layer reads."""
        if read(step, Field.PRODUCER) == Producer.STEM:
            stem_row(step, image, lines, row, y, y_block)
            return
        columns = read(step, Field.SOURCE_WIDTH)
        depth = read(step, Field.PRODUCER_DEPTH)
        source = arena + read(step, Field.SOURCE) + row * columns * vector
        for n in range(read(step, Field.PRODUCER_PANELS)):
            gemm(
                read(step, Field.PRODUCER_ROWS), columns, source, read(step, Field.SOURCE_BLOCK), depth,
                read(step, Field.PRODUCER_WEIGHTS) + n * depth * panel, read(step, Field.PRODUCER_BIAS) + n * panel,
                y + n * lanes_panels * y_block, y_block, 0, read(step, Field.PRODUCER_ACTIVATION),
            )  # fmt: skip

    @compiled
    def strips(step, arena, scratch, image, first, last):  # type: ignore[no-untyped-def]
        """Strips first ... last - 1: the producer's rows go round a ring in cache, and so do the depthwise layer's."""
        height = read(step, Field.HEIGHT)
        out_columns = read(step, Field.WIDTH)
        in_height = read(step, Field.SOURCE_HEIGHT)
        columns = read(step, Field.SOURCE_WIDTH)
        blocks = read(step, Field.BLOCKS)
        size = read(step, Field.SIZE)
        stride = read(step, Field.STRIDE)
        strip_rows = read(step, Field.STRIP_ROWS)
        producer = read(step, Field.PRODUCER)
        zeros = read(step, Field.ZEROS)
        panels = read(step, Field.PANELS)
        target = arena + read(step, Field.TARGET)
        target_block = read(step, Field.TARGET_BLOCK)
        lines = scratch + SCRATCH_HEADER
        kept = lines + read(step, Field.LINES)
        ring = read(step, Field.RING)
        ring_block = ring * columns * vector
        if producer == Producer.NONE:
            ring = in_height
            kept = arena + read(step, Field.SOURCE)
            ring_block = read(step, Field.SOURCE_BLOCK)
        ready = 0
        filtered = scratch + SCRATCH_HEADER + read(step, Field.FILTERED)
        for strip in range(first, last):
            begin = strip * strip_rows
            end = min(begin + strip_rows, height)
            top = begin * stride - read(step, Field.TOP)
            bottom = min((end - 1) * stride - read(step, Field.TOP) + size, in_height)
            if producer != Producer.NONE:
                for row in range(max(top, ready), bottom):
                    produce_row(step, arena, lines, image, row, kept + (row % ring) * columns * vector, ring_block)
                ready = bottom
            out_block = (end - begin) * out_columns * vector
            out = filtered
            if panels == 0:
                out_block = target_block
                out = target + begin * out_columns * vector
            for c in range(blocks):
                w = read(step, Field.WEIGHTS) + c * (1 + size * size) * vector
                for row in range(begin, end):
                    for u in range(size):
                        source_row = row * stride - read(step, Field.TOP) + u
                        if 0 <= source_row < in_height:
                            write(scratch, u, kept + c * ring_block + (source_row % ring) * columns * vector)
                        else:
                            write(scratch, u, zeros)
                    depthwise(
                        size, stride, scratch, columns, out_columns, read(step, Field.LEFT), zeros, w,
                        out + c * out_block + (row - begin) * out_columns * vector, read(step, Field.ACTIVATION),
                    )  # fmt: skip
            depth = read(step, Field.DEPTH)
            here = begin * out_columns * vector
            for n in range(panels):
                beside = read(step, Field.RESIDUAL)
                if beside >= 0:
                    beside += arena + here + n * lanes_panels * target_block
                else:
                    beside = 0
                gemm(
                    read(step, Field.MATRIX_ROWS), (end - begin) * out_columns, filtered, out_block, depth,
                    read(step, Field.MATRIX) + n * depth * panel, read(step, Field.MATRIX_BIAS) + n * panel,
                    target + here + n * lanes_panels * target_block, target_block, beside,
                    read(step, Field.MATRIX_ACTIVATION),
                )  # fmt: skip

    @compiled
    def depthwise_panels(step, arena, scratch, first, last):  # type: ignore[no-untyped-def]
        """Panels of channels first ... last - 1: expanded, filtered and averaged while they are in cache."""
        out_columns = read(step, Field.WIDTH)
        in_height = read(step, Field.SOURCE_HEIGHT)
        columns = read(step, Field.SOURCE_WIDTH)
        size = read(step, Field.SIZE)
        stride = read(step, Field.STRIDE)
        zeros = read(step, Field.ZEROS)
        target_block = read(step, Field.TARGET_BLOCK)
        depth = read(step, Field.PRODUCER_DEPTH)
        blocks = read(step, Field.BLOCKS)
        expanded = scratch + SCRATCH_HEADER
        for n in range(first, last):
            source = arena + read(step, Field.SOURCE)
            source_block = read(step, Field.SOURCE_BLOCK)
            if read(step, Field.PRODUCER) == Producer.POINTWISE:
                gemm(
                    read(step, Field.PRODUCER_ROWS), in_height * columns, source, source_block, depth,
                    read(step, Field.PRODUCER_WEIGHTS) + n * depth * panel, read(step, Field.PRODUCER_BIAS) + n * panel,
                    expanded, in_height * columns * vector, 0, read(step, Field.PRODUCER_ACTIVATION),
                )  # fmt: skip
                source_block = in_height * columns * vector
                source = expanded - n * lanes_panels * source_block
            for c in range(n * lanes_panels, min((n + 1) * lanes_panels, blocks)):
                w = read(step, Field.WEIGHTS) + c * (1 + size * size) * vector
                out = arena + read(step, Field.TARGET) + c * target_block
                for row in range(read(step, Field.HEIGHT)):
                    for u in range(size):
                        source_row = row * stride - read(step, Field.TOP) + u
                        if 0 <= source_row < in_height:
                            write(scratch, u, source + c * source_block + source_row * columns * vector)
                        else:
                            write(scratch, u, zeros)
                    depthwise(
                        size, stride, scratch, columns, out_columns, read(step, Field.LEFT), zeros, w,
                        out + row * out_columns * vector, read(step, Field.ACTIVATION),
                    )  # fmt: skip
                if read(step, Field.AVERAGE) >= 0:
                    pixels = read(step, Field.HEIGHT) * out_columns
                    pool(
                        (out, pixels, read(step, Field.ONE_OVER_PIXELS), arena + read(step, Field.AVERAGE) + c * vector)
                    )

    @compiled
    def pointwise_panels(step, arena, scratch, first, last):  # type: ignore[no-untyped-def]
        """Units first ... last - 1 of a 1x1 convolution; a unit is a panel of output channels for a part of the
        pixels."""
        parts = read(step, Field.PIXEL_PARTS)
        panels = read(step, Field.PANELS)
        depth = read(step, Field.DEPTH)
        pixels = read(step, Field.HEIGHT) * read(step, Field.WIDTH)
        rows = read(step, Field.MATRIX_ROWS)
        groups = (pixels + rows - 1) // rows
        target_block = read(step, Field.TARGET_BLOCK)
        gate = read(step, Field.GATE)
        for unit in range(first, last):
            part = unit // panels
            n = unit - part * panels
            begin = part * groups // parts * rows
            end = min((part + 1) * groups // parts * rows, pixels)
            begin = min(begin, end - rows)
            here = begin * vector
            w = read(step, Field.MATRIX) + n * depth * panel
            if gate >= 0:
                scale((w, arena + gate, depth, scratch))
                w = scratch
            beside = read(step, Field.RESIDUAL)
            if beside >= 0:
                beside += arena + here + n * lanes_panels * target_block
            else:
                beside = 0
            target = arena + read(step, Field.TARGET) + n * lanes_panels * target_block
            gemm(
                rows, end - begin, arena + read(step, Field.SOURCE) + here, read(step, Field.SOURCE_BLOCK), depth,
                w, read(step, Field.MATRIX_BIAS) + n * panel, target + here, target_block, beside,
                read(step, Field.MATRIX_ACTIVATION),
            )  # fmt: skip
            if read(step, Field.AVERAGE) >= 0:
                for j in range(lanes_panels):
                    average = arena + read(step, Field.AVERAGE) + (n * lanes_panels + j) * vector
                    pool((target + j * target_block, pixels, read(step, Field.ONE_OVER_PIXELS), average))

    @compiled
    def dense(step, arena, first, last):  # type: ignore[no-untyped-def]
        """Groups first ... last - 1 of a dense layer's outputs, GEMV_PANELS vectors each where there are as many."""
        depth = read(step, Field.DEPTH)
        blocks = read(step, Field.BLOCKS)
        source = arena + read(step, Field.SOURCE)
        target = arena + read(step, Field.TARGET)
        matrix = read(step, Field.MATRIX)
        bias = read(step, Field.MATRIX_BIAS)
        activation = read(step, Field.MATRIX_ACTIVATION)
        stream = depth * vector
        for unit in range(first, last):
            if blocks >= GEMV_PANELS:
                n = min(unit * GEMV_PANELS, blocks - GEMV_PANELS)
                gemv_many(
                    (source, depth, matrix + n * stream, stream, bias + n * vector, target + n * vector, activation)
                )
            else:
                n = unit
                gemv_one(
                    (source, depth, matrix + n * stream, stream, bias + n * vector, target + n * vector, activation)
                )

    @compiled
    def work(step, arena, scratch, image, first, last):  # type: ignore[no-untyped-def]
        kind = read(step, Field.KIND)
        if kind == Kind.STRIP:
            strips(step, arena, scratch, image, first, last)
        elif kind == Kind.DEPTHWISE:
            depthwise_panels(step, arena, scratch, first, last)
        elif kind == Kind.POINTWISE:
            pointwise_panels(step, arena, scratch, first, last)
        elif kind == Kind.DENSE:
            dense(step, arena, first, last)
        elif kind == Kind.STEM:
            columns = read(step, Field.SOURCE_WIDTH)
            target = arena + read(step, Field.TARGET)
            for row in range(first, last):
                here = target + row * columns * vector
                stem_row(step, image, scratch + SCRATCH_HEADER, row, here, read(step, Field.TARGET_BLOCK))
        else:
            pixels = read(step, Field.HEIGHT) * read(step, Field.WIDTH)
            source = arena + read(step, Field.SOURCE)
            for c in range(first, last):
                here = source + c * read(step, Field.SOURCE_BLOCK)
                if kind == Kind.POOL:
                    average = arena + read(step, Field.TARGET) + c * vector
                    pool((here, pixels, read(step, Field.ONE_OVER_PIXELS), average))
                else:
                    block = c * read(step, Field.TARGET_BLOCK)
                    other = arena + read(step, Field.RESIDUAL) + block
                    add((here, other, pixels, arena + read(step, Field.TARGET) + block))

    @compiled
    def wait(barrier, target):  # type: ignore[no-untyped-def]
        """Return True when `target` arrivals have been counted, False when the call is off."""
        spins = 0
        arrived = read_now(barrier)
        while 0 <= arrived < target:
            pause()
            spins += 1
            if spins > SPINS:
                give_way()
            arrived = read_now(barrier)
        return arrived >= 0

    def run(table, steps, arena, scratch, image, thread, threads, barrier, arrived):  # type: ignore[no-untyped-def]
        for index in range(steps):
            step = table + index * FIELDS * 8
            units = read(step, Field.UNITS)
            work(step, arena, scratch, image, thread * units // threads, (thread + 1) * units // threads)
            if threads > 1:
                add_now(barrier, 1)
                if not wait(barrier, arrived + (index + 1) * threads):
                    return 1
        return 0

    return run
