"""The whole network in one native call: loops over the plan's steps, and over rows, blocks and panels inside each.

Every thread of the team runs `run` on the same job, which names the table. A step has units of work; each thread has a
share of them, whoever is ready helps the others, and nobody starts the next step before this one is finished. Each
output value is computed by the same instructions in the same order whoever computes it, so the result does not depend
on the number of threads.

Tiles are called by the addresses in the table, so this file knows neither vector width nor tile sizes.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from npmobilenet_kernels.scalars import add_now, give_way, invoke, pause, read, read_now, write
from npmobilenet_kernels.steps import (
    CALLED_OFF,
    FIELDS,
    LINE,
    SCRATCH_HEADER,
    Activation,
    Field,
    Job,
    Kind,
    Producer,
    Product,
)
from npmobilenet_kernels.vector import FLOAT_BYTES

# Called by other compiled code alone: no wrappers for Python. No exceptions: no division here can be by zero.
OPTIONS: Any = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
compiled_functions: list[Any] = []  # in the order of this file: those that a function calls stand before it
HALF = 1 << 32  # what the upper half of an int64 counts
GRABS = 8  # a thread takes its share of a step in so many goes, so that something is left for whoever is ready
SPINS = 2000  # looks at the barrier before the core is offered to somebody else


def compiled(function: Any) -> Any:
    """Numba's decorator, for functions of int64."""
    compiled_functions.append(njit(**OPTIONS)(function))
    return compiled_functions[-1]


@compiled
def weights_of(step, product, n):  # type: ignore[no-untyped-def]
    """Address of panel n of a product's weights."""
    return read(step, product + Product.WEIGHTS) + n * read(step, product + Product.PANEL_BYTES)


@compiled
def product_panel(step, product, n, pixels, a, segment, w, y, y_block, residual, done):  # type: ignore[no-untyped-def]
    """Panel n of output channels of a matrix product, over `pixels` pixels; the last tile overlaps the one before.

    a: address of the first pixel, `segment` bytes to the next segment of its values; w: weights of panel n;
    y, residual: addresses of the whole output's first pixel, `y_block` bytes from block to block; residual may be 0;
    done: tiles of the panel before these pixels.
    """
    vector = read(step, Field.VECTOR)
    before = n * read(step, Field.PANEL)  # vectors of output channels in the panels before
    last = 0
    if before + read(step, Field.PANEL) >= read(step, product + Product.BLOCKS):
        last = Product.LAST_TILE - Product.TILE
    tile = read(step, product + Product.TILE + last)
    rows = read(step, product + Product.ROWS + last)
    pitch = read(step, product + Product.PITCH)
    segments = read(step, product + Product.SEGMENTS)
    length = read(step, product + Product.LENGTH)
    tail = read(step, product + Product.TAIL)
    bias = read(step, product + Product.BIAS) + before * vector
    activation = read(step, product + Product.ACTIVATION)
    y += before * y_block
    if residual != 0:
        residual += before * y_block
    panel_bytes = read(step, product + Product.PANEL_BYTES)
    following = weights_of(step, product, n + 1)  # beyond the last panel lie the next step's weights
    end = following + panel_bytes
    following += done * read(step, product + Product.FETCHED) % panel_bytes
    first = 0
    while first < pixels:
        first = min(first, pixels - rows)
        here = first * vector
        beside = residual + here if residual != 0 else 0
        source = a + first * pitch
        target = y + here
        invoke(
            tile,
            (source, segment, segments, length, tail, w, bias, target, y_block, beside, activation, following, 0),
        )
        first += rows
        following += read(step, product + Product.FETCHED)
        if following >= end:
            following -= panel_bytes


@compiled
def panels_of(step, product):  # type: ignore[no-untyped-def]
    """Panels of output channels of a matrix product, the narrow one included."""
    panel = read(step, Field.PANEL)
    return (read(step, product + Product.BLOCKS) + panel - 1) // panel


@compiled
def stem_row(step, image, lines, row, y, y_block):  # type: ignore[no-untyped-def]
    """One output row of the first convolution, from a copy of its input rows with the zeros at their ends."""
    channels = read(step, Field.IMAGE_CHANNELS)
    left = read(step, Field.IMAGE_LEFT) * channels
    values = read(step, Field.IMAGE_WIDTH) * channels
    right = read(step, Field.IMAGE_RIGHT) * channels
    line = (left + values + right) * FLOAT_BYTES
    top = row * read(step, Field.FILTER_STRIDE) - read(step, Field.IMAGE_TOP)
    factors = read(step, Field.IMAGE_SCALE)
    as_it_is = factors + 2 * FLOAT_BYTES  # the factor 1 and the offset 0
    zeros = read(step, Field.ZEROS)
    copy = read(step, Field.COPY_TILE)
    for u in range(read(step, Field.FILTER)):
        target = lines + u * line
        if 0 <= top + u < read(step, Field.IMAGE_HEIGHT):
            source = image + (top + u) * values * FLOAT_BYTES
            invoke(copy, (zeros, left, as_it_is, target))
            invoke(copy, (source, values, factors, target + left * FLOAT_BYTES))
            invoke(copy, (zeros, right, as_it_is, target + (left + values) * FLOAT_BYTES))
        else:
            invoke(copy, (zeros, left + values + right, as_it_is, target))
    pixels = read(step, Field.SOURCE_WIDTH)
    for n in range(panels_of(step, Field.PRODUCER)):
        w = weights_of(step, Field.PRODUCER, n)
        product_panel(step, Field.PRODUCER, n, pixels, lines, line, w, y, y_block, 0, 0)


@compiled
def repeat_block(step, c, source, pixels, y):  # type: ignore[no-untyped-def]
    """Block c of a map with every channel several times, from `pixels` pixels of the map at `source`."""
    first = c * (read(step, Field.VECTOR) // FLOAT_BYTES)
    multiplier = read(step, Field.MULTIPLIER)
    channels = read(step, Field.CHANNELS)
    block = read(step, Field.SOURCE_BLOCK)
    invoke(read(step, Field.GATHER_TILE), (source, block, pixels, first, multiplier, channels, y))


@compiled
def produce_row(step, arena, scratch, image, row, y, y_block):  # type: ignore[no-untyped-def]
    """One row of the map that the depthwise layer reads."""
    if read(step, Field.PRODUCER_KIND) == Producer.STEM:
        stem_row(step, image, scratch + SCRATCH_HEADER, row, y, y_block)
        return
    columns = read(step, Field.SOURCE_WIDTH)
    segment = read(step, Field.SOURCE_BLOCK)
    source = arena + read(step, Field.SOURCE) + row * columns * read(step, Field.VECTOR)
    if read(step, Field.PRODUCER_KIND) == Producer.REPEAT:
        for c in range(read(step, Field.BLOCKS)):
            repeat_block(step, c, source, columns, y + c * y_block)
        return
    for n in range(panels_of(step, Field.PRODUCER)):
        w = weights_of(step, Field.PRODUCER, n)
        product_panel(step, Field.PRODUCER, n, columns, source, segment, w, y, y_block, 0, 0)


@compiled
def first_row(step, row):  # type: ignore[no-untyped-def]
    """First input row that output row `row` of the depthwise layer reads; below 0 in the zeros."""
    return row * read(step, Field.STRIDE) - read(step, Field.TOP)


@compiled
def end_row(step, row):  # type: ignore[no-untyped-def]
    """The input row after the last one that output row `row` of the depthwise layer reads."""
    return min(first_row(step, row) + read(step, Field.SIZE), read(step, Field.SOURCE_HEIGHT))


@compiled
def depthwise_row(step, rows, row, source, ring, w, y):  # type: ignore[no-untyped-def]
    """Output row `row` of one block of channels; `source` holds its input rows, row r at place r % ring.

    rows: where to write the addresses of the filter's rows.
    """
    columns = read(step, Field.SOURCE_WIDTH)
    zeros = read(step, Field.ZEROS)
    height = read(step, Field.SOURCE_HEIGHT)
    top = first_row(step, row)
    place = top if ring >= height else top % ring
    for u in range(read(step, Field.SIZE)):
        here = source + place * columns * read(step, Field.VECTOR)
        write(rows, u, here if 0 <= top + u < height else zeros)
        place += 1
        if place == ring:
            place = 0
    left = read(step, Field.LEFT)
    width = read(step, Field.WIDTH)
    activation = read(step, Field.ACTIVATION)
    size = read(step, Field.SIZE)
    across = read(step, Field.SIZE_ACROSS)
    stride = read(step, Field.STRIDE)
    tile = read(step, Field.DEPTHWISE_TILE)
    invoke(tile, (rows, columns, width, left, zeros, w, y, activation, size, across, stride))


@compiled
def filter_of(step, c):  # type: ignore[no-untyped-def]
    """Address of block c of a depthwise layer's bias and weights."""
    taps = read(step, Field.SIZE) * read(step, Field.SIZE_ACROSS)
    return read(step, Field.WEIGHTS) + c * (1 + taps) * read(step, Field.VECTOR)


@compiled
def ring_of(step, scratch):  # type: ignore[no-untyped-def]
    """Address of the ring of input rows that a step keeps."""
    return scratch + SCRATCH_HEADER + read(step, Field.LINES)


@compiled
def strip(step, arena, scratch, begin, end, y, y_block):  # type: ignore[no-untyped-def]
    """Output rows begin ... end - 1, whose input rows are there; y: where row `begin` goes."""
    vector = read(step, Field.VECTOR)
    out_row = read(step, Field.WIDTH) * vector
    panels = panels_of(step, Field.MATRIX)
    if read(step, Field.PRODUCER_KIND) != Producer.NONE:
        source = ring_of(step, scratch)
        ring = read(step, Field.RING)
        source_block = ring * read(step, Field.SOURCE_WIDTH) * vector
    else:
        source = arena + read(step, Field.SOURCE)
        ring = read(step, Field.SOURCE_HEIGHT)
        source_block = read(step, Field.SOURCE_BLOCK)
    filtered, filtered_block = y, y_block
    if panels > 0:
        filtered, filtered_block = scratch + SCRATCH_HEADER + read(step, Field.FILTERED), (end - begin) * out_row
    for c in range(read(step, Field.BLOCKS)):
        w = filter_of(step, c)
        for row in range(begin, end):
            target = filtered + c * filtered_block + (row - begin) * out_row
            depthwise_row(step, scratch, row, source + c * source_block, ring, w, target)
    residual = read(step, Field.RESIDUAL)
    beside = arena + residual + begin * out_row if residual >= 0 else 0
    pixels = (end - begin) * read(step, Field.WIDTH)
    for n in range(panels):
        w = weights_of(step, Field.MATRIX, n)
        product_panel(step, Field.MATRIX, n, pixels, filtered, filtered_block, w, y, y_block, beside, 0)


@compiled
def inner_row(step, arena, scratch, image, row, ready, y, y_block):  # type: ignore[no-untyped-def]
    """Output row `row` of a step whose rows another step asks for one by one; its input has rows up to `ready`."""
    in_row = read(step, Field.SOURCE_WIDTH) * read(step, Field.VECTOR)
    ring = read(step, Field.RING)
    source = ring_of(step, scratch)
    if read(step, Field.PRODUCER_KIND) != Producer.NONE:
        for r in range(max(first_row(step, row), ready), end_row(step, row)):
            produce_row(step, arena, scratch, image, r, source + r % ring * in_row, ring * in_row)
    strip(step, arena, scratch, row, row + 1, y, y_block)


@compiled
def strips(step, arena, scratch, image, first, last, goes_on):  # type: ignore[no-untyped-def]
    """Strips first ... last - 1: the producer's rows go round a ring in cache, and so do the depthwise layer's.

    goes_on: whether this thread has just done the strip before `first`, so that the rows it needed are in the ring.
    """
    vector = read(step, Field.VECTOR)
    out_row = read(step, Field.WIDTH) * vector
    in_row = read(step, Field.SOURCE_WIDTH) * vector
    strip_rows = read(step, Field.STRIP_ROWS)
    kind = read(step, Field.PRODUCER_KIND)
    inner = read(step, Field.INNER)
    source = ring_of(step, scratch)
    ring = read(step, Field.RING)
    ready = end_row(step, first * strip_rows - 1) if goes_on else 0
    for number in range(first, last):
        begin = number * strip_rows
        end = min(begin + strip_rows, read(step, Field.HEIGHT))
        if kind != Producer.NONE:
            for row in range(max(first_row(step, begin), ready), end_row(step, end - 1)):
                y = source + row % ring * in_row
                if kind == Producer.STRIP:
                    known = end_row(inner, row - 1) if ready > 0 else 0
                    inner_row(
                        inner, arena, scratch + read(step, Field.INNER_SCRATCH), image, row, known, y, ring * in_row
                    )
                else:
                    produce_row(step, arena, scratch, image, row, y, ring * in_row)
                ready = row + 1
        target = arena + read(step, Field.TARGET) + begin * out_row
        strip(step, arena, scratch, begin, end, target, read(step, Field.TARGET_BLOCK))


@compiled
def depthwise_panels(step, arena, scratch, first, last):  # type: ignore[no-untyped-def]
    """Panels of channels first ... last - 1: expanded, filtered and averaged while they are in cache."""
    vector = read(step, Field.VECTOR)
    panel = read(step, Field.PANEL)
    out_row = read(step, Field.WIDTH) * vector
    in_height = read(step, Field.SOURCE_HEIGHT)
    in_pixels = in_height * read(step, Field.SOURCE_WIDTH)
    target_block = read(step, Field.TARGET_BLOCK)
    average = read(step, Field.AVERAGE)
    expanded = scratch + SCRATCH_HEADER
    for n in range(first, last):
        source = arena + read(step, Field.SOURCE)
        source_block = read(step, Field.SOURCE_BLOCK)
        if read(step, Field.PRODUCER_KIND) == Producer.POINTWISE:
            w = weights_of(step, Field.PRODUCER, n)
            block = in_pixels * vector
            whole = expanded - n * panel * block  # where the whole expanded map would begin
            product_panel(step, Field.PRODUCER, n, in_pixels, source, source_block, w, whole, block, 0, 0)
            source, source_block = whole, block
        elif read(step, Field.PRODUCER_KIND) == Producer.REPEAT:
            block = in_pixels * vector
            whole = expanded - n * panel * block
            for c in range(n * panel, min((n + 1) * panel, read(step, Field.BLOCKS))):
                repeat_block(step, c, source, in_pixels, whole + c * block)
            source, source_block = whole, block
        for c in range(n * panel, min((n + 1) * panel, read(step, Field.BLOCKS))):
            w = filter_of(step, c)
            out = arena + read(step, Field.TARGET) + c * target_block
            for row in range(read(step, Field.HEIGHT)):
                depthwise_row(step, scratch, row, source + c * source_block, in_height, w, out + row * out_row)
            if average >= 0:
                pixels = read(step, Field.HEIGHT) * read(step, Field.WIDTH)
                scale = read(step, Field.ONE_OVER_PIXELS)
                invoke(read(step, Field.POOL_TILE), (out, pixels, scale, arena + average + c * vector))


@compiled
def pointwise_panels(step, arena, scratch, first, last):  # type: ignore[no-untyped-def]
    """Units first ... last - 1 of a 1x1 convolution; a unit is a panel of output channels for some whole tiles."""
    vector = read(step, Field.VECTOR)
    panel = read(step, Field.PANEL)
    panels = panels_of(step, Field.MATRIX)
    parts = read(step, Field.PIXEL_PARTS)
    blocks = read(step, Field.MATRIX + Product.BLOCKS)
    depth = read(step, Field.MATRIX + Product.SEGMENTS) * read(step, Field.MATRIX + Product.LENGTH)
    depth += read(step, Field.MATRIX + Product.TAIL)
    pixels = read(step, Field.HEIGHT) * read(step, Field.WIDTH)
    rows = read(step, Field.MATRIX + Product.ROWS)
    tiles = (pixels + rows - 1) // rows
    target_block = read(step, Field.TARGET_BLOCK)
    segment = read(step, Field.SOURCE_BLOCK)
    scaled = -1  # panel whose weights are in scratch, times the gate
    gate = read(step, Field.GATE)
    residual = read(step, Field.RESIDUAL)
    average = read(step, Field.AVERAGE)
    for unit in range(first, last):
        if read(step, Field.PARTS_FIRST) != 0:
            part, n = unit % parts, unit // parts
        else:
            part, n = unit // panels, unit % panels
        vectors = min(panel, blocks - n * panel)
        done = part * tiles // parts
        begin = done * rows
        end = min((part + 1) * tiles // parts * rows, pixels)
        here = begin * vector
        w = weights_of(step, Field.MATRIX, n)
        if gate >= 0:
            if scaled != n:
                invoke(read(step, Field.SCALE_TILE), (w, arena + gate, depth, vectors, scratch))
                scaled = n
            w = scratch
        beside = arena + residual + here if residual >= 0 else 0
        source = arena + read(step, Field.SOURCE) + here
        target = arena + read(step, Field.TARGET)
        product_panel(step, Field.MATRIX, n, end - begin, source, segment, w, target + here, target_block, beside, done)
        if average >= 0:
            for j in range(n * panel, n * panel + vectors):
                scale = read(step, Field.ONE_OVER_PIXELS)
                y = arena + average + j * vector
                invoke(read(step, Field.POOL_TILE), (target + j * target_block, pixels, scale, y))


@compiled
def dense(step, arena, first, last):  # type: ignore[no-untyped-def]
    """Groups first ... last - 1 of a dense layer's outputs; the last group overlaps the one before."""
    vector = read(step, Field.VECTOR)
    depth = read(step, Field.MATRIX + Product.LENGTH)
    streams = read(step, Field.GEMV_PANELS)
    source = arena + read(step, Field.SOURCE)
    target = arena + read(step, Field.TARGET)
    for unit in range(first, last):
        n = min(unit * streams, read(step, Field.MATRIX + Product.BLOCKS) - streams)
        w = read(step, Field.MATRIX + Product.WEIGHTS) + n * depth * vector
        bias = read(step, Field.MATRIX + Product.BIAS) + n * vector
        activation = read(step, Field.MATRIX + Product.ACTIVATION)
        tile = read(step, Field.GEMV_TILE)
        invoke(tile, (source, depth, w, depth * vector, bias, target + n * vector, activation))


@compiled
def stem_rows(step, arena, scratch, image, first, last):  # type: ignore[no-untyped-def]
    """Rows first ... last - 1 of the first convolution."""
    row_bytes = read(step, Field.SOURCE_WIDTH) * read(step, Field.VECTOR)
    target = arena + read(step, Field.TARGET)
    for row in range(first, last):
        y = target + row * row_bytes
        stem_row(step, image, scratch + SCRATCH_HEADER, row, y, read(step, Field.TARGET_BLOCK))


@compiled
def blocks_of_a_map(step, arena, first, last):  # type: ignore[no-untyped-def]
    """Blocks first ... last - 1 of a global average, of a sum or of a sigmoid."""
    pixels = read(step, Field.HEIGHT) * read(step, Field.WIDTH)
    for c in range(first, last):
        source = arena + read(step, Field.SOURCE) + c * read(step, Field.SOURCE_BLOCK)
        if read(step, Field.KIND) == Kind.POOL:
            y = arena + read(step, Field.TARGET) + c * read(step, Field.VECTOR)
            invoke(read(step, Field.POOL_TILE), (source, pixels, read(step, Field.ONE_OVER_PIXELS), y))
            continue
        block = c * read(step, Field.TARGET_BLOCK)
        y = arena + read(step, Field.TARGET) + block
        if read(step, Field.KIND) == Kind.ADD:
            invoke(read(step, Field.ADD_TILE), (source, arena + read(step, Field.RESIDUAL) + block, pixels, y))
        else:
            invoke(read(step, Field.CURVE_TILE), (source, pixels, y))


@compiled
def gather_segment(step, arena, index, begin, end, y):  # type: ignore[no-untyped-def]
    """What one tap meets in one block of channels, for output pixels begin ... end - 1; row by row."""
    vector = read(step, Field.VECTOR)
    width = read(step, Field.WIDTH)
    in_width = read(step, Field.SOURCE_WIDTH)
    blocks = read(step, Field.BLOCKS)
    across = read(step, Field.SIZE_ACROSS)
    stride = read(step, Field.STRIDE)
    zeros = read(step, Field.ZEROS)
    tap = index // blocks
    c = index - tap * blocks
    u = tap // across
    v = tap - u * across
    lanes = read(step, Field.CHANNELS) - c * (vector // FLOAT_BYTES)
    source = arena + read(step, Field.SOURCE) + c * read(step, Field.SOURCE_BLOCK)
    pixel = begin
    while pixel < end:
        i = pixel // width
        j = pixel - i * width
        count = min(width - j, end - pixel)
        row = i * stride + u - read(step, Field.TOP)
        column = j * stride + v - read(step, Field.LEFT)
        inside = in_width if 0 <= row < read(step, Field.SOURCE_HEIGHT) else 0
        here = source + row * in_width * vector
        invoke(read(step, Field.GATHER_TILE), (here, inside, column, stride, lanes, zeros, count, y))
        y += count * vector
        pixel += count


@compiled
def product_part(step, n, done, count, pixels, a, y, before):  # type: ignore[no-untyped-def]
    """Segments done ... done + count - 1 of the sums of panel n, added to those at `before`, or to the bias if it is 0.

    The last tile overlaps the one before, so y must be another place than `before`.
    """
    vector = read(step, Field.VECTOR)
    panel = read(step, Field.PANEL)
    tile = read(step, Field.MATRIX + Product.TILE)
    rows = read(step, Field.MATRIX + Product.ROWS)
    vectors = panel
    if (n + 1) * panel >= read(step, Field.MATRIX + Product.BLOCKS):
        tile = read(step, Field.MATRIX + Product.LAST_TILE)
        rows = read(step, Field.MATRIX + Product.LAST_ROWS)
        vectors = read(step, Field.MATRIX + Product.BLOCKS) - n * panel
    length = read(step, Field.MATRIX + Product.LENGTH)
    w = weights_of(step, Field.MATRIX, n) + done * length * vectors * vector
    linear = Activation.LINEAR
    start = read(step, Field.ZEROS) if before != 0 else read(step, Field.MATRIX + Product.BIAS) + n * panel * vector
    segment = pixels * vector
    first = 0
    while first < pixels:
        first = min(first, pixels - rows)
        here = first * vector
        beside = before + here if before != 0 else 0
        source = a + here
        invoke(tile, (source, segment, count, length, 0, w, start, y + here, segment, beside, linear, w, 0))
        first += rows


@compiled
def finish(step, arena, from_panel, to_panel, begin, end, sums):  # type: ignore[no-untyped-def]
    """Activation and residual of finished sums, to where they belong."""
    vector = read(step, Field.VECTOR)
    panel = read(step, Field.PANEL)
    residual = read(step, Field.RESIDUAL)
    activation = read(step, Field.MATRIX + Product.ACTIVATION)
    for c in range(from_panel * panel, min(to_panel * panel, read(step, Field.MATRIX + Product.BLOCKS))):
        place = c * read(step, Field.TARGET_BLOCK) + begin * vector
        beside = arena + residual + place if residual >= 0 else 0
        target = arena + read(step, Field.TARGET) + place
        invoke(read(step, Field.FINISH_TILE), (sums, end - begin, activation, beside, target))
        sums += (end - begin) * vector


@compiled
def conv_parts(step, arena, scratch, first, last):  # type: ignore[no-untyped-def]
    """Units first ... last - 1 of any convolution; a unit is some panels of output channels for some whole tiles.

    The pixels under the filter are gathered as [tap][block of channels][output pixel], so that the values of one output
    pixel lie in segments as those of a 1x1 convolution with K * K times as many channels do. Only so many segments are
    gathered at once as stay in cache, together with the weights that go with them; the sums so far wait in scratch.
    """
    vector = read(step, Field.VECTOR)
    pixels = read(step, Field.HEIGHT) * read(step, Field.WIDTH)
    rows = read(step, Field.MATRIX + Product.ROWS)
    tiles = (pixels + rows - 1) // rows
    panels = panels_of(step, Field.MATRIX)
    segments = read(step, Field.MATRIX + Product.SEGMENTS)
    parts = read(step, Field.PIXEL_PARTS)
    groups = read(step, Field.PANEL_GROUPS)
    chunk = read(step, Field.CHUNK)
    for unit in range(first, last):
        part = unit // groups
        group = unit - part * groups
        begin = part * tiles // parts * rows
        end = min((part + 1) * tiles // parts * rows, pixels)
        from_panel = group * panels // groups
        to_panel = (group + 1) * panels // groups
        segment = (end - begin) * vector
        before, sums = scratch + read(step, Field.SUMS), scratch + read(step, Field.SUMS) + read(step, Field.SUMS_BYTES)
        done = 0
        while done < segments:
            count = min(chunk, segments - done)
            for s in range(count):
                gather_segment(step, arena, done + s, begin, end, scratch + s * segment)
            for n in range(from_panel, to_panel):
                place = (n - from_panel) * read(step, Field.PANEL) * segment
                beside = before + place if done > 0 else 0
                product_part(step, n, done, count, end - begin, scratch, sums + place, beside)
            before, sums = sums, before
            done += count
        finish(step, arena, from_panel, to_panel, begin, end, before)


@compiled
def image_rows(step, arena, image, first, last):  # type: ignore[no-untyped-def]
    """Rows first ... last - 1 of the image, scaled, to a map in blocks of channels."""
    vector = read(step, Field.VECTOR)
    width = read(step, Field.WIDTH)
    channels = read(step, Field.CHANNELS)
    pitch = channels * FLOAT_BYTES
    lanes = vector // FLOAT_BYTES
    scale = read(step, Field.IMAGE_SCALE)
    for row in range(first, last):
        for c in range(read(step, Field.BLOCKS)):
            source = image + row * width * pitch + c * vector
            y = arena + read(step, Field.TARGET) + c * read(step, Field.TARGET_BLOCK) + row * width * vector
            invoke(read(step, Field.GATHER_TILE), (source, pitch, min(lanes, channels - c * lanes), scale, width, y))


@compiled
def softmax_pixels(step, arena, first, last):  # type: ignore[no-untyped-def]
    """Pixels first ... last - 1 of a softmax over the channels."""
    block = read(step, Field.TARGET_BLOCK)
    channels = read(step, Field.CHANNELS)
    for pixel in range(first, last):
        here = pixel * read(step, Field.VECTOR)
        source = arena + read(step, Field.SOURCE) + here
        invoke(read(step, Field.CURVE_TILE), (source, block, channels, arena + read(step, Field.TARGET) + here))


@compiled
def work(step, arena, scratch, image, first, last, goes_on):  # type: ignore[no-untyped-def]
    """Units first ... last - 1 of one step; goes_on: whether this thread has just done the one before."""
    kind = read(step, Field.KIND)
    if kind == Kind.STRIP:
        strips(step, arena, scratch, image, first, last, goes_on)
    elif kind == Kind.DEPTHWISE:
        depthwise_panels(step, arena, scratch, first, last)
    elif kind == Kind.POINTWISE:
        pointwise_panels(step, arena, scratch, first, last)
    elif kind == Kind.DENSE:
        dense(step, arena, first, last)
    elif kind == Kind.STEM:
        stem_rows(step, arena, scratch, image, first, last)
    elif kind == Kind.CONV:
        conv_parts(step, arena, scratch, first, last)
    elif kind == Kind.IMAGE:
        image_rows(step, arena, image, first, last)
    elif kind == Kind.SOFTMAX:
        softmax_pixels(step, arena, first, last)
    else:
        blocks_of_a_map(step, arena, first, last)


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


@compiled
def share_of(job, thread, index):  # type: ignore[no-untyped-def]
    """Address of the int64 that says which units of step `index` are left in a thread's share."""
    threads = read(job, Job.THREADS)
    return job + (Job.SHARES + (index % 2 * threads + thread) * LINE // 8) * 8


@compiled
def deal(job, thread, index, step):  # type: ignore[no-untyped-def]
    """Give a thread its share of a step's units: the first in the lower half of the int64, the end in the upper."""
    threads = read(job, Job.THREADS)
    units = read(step, Field.UNITS)
    first = thread * units // threads
    end = (thread + 1) * units // threads
    write(share_of(job, thread, index), 0, end * HALF + first)


@compiled
def do_units(job, thread, index, step, scratch):  # type: ignore[no-untyped-def]
    """Work on one step until no unit is left: this thread's share from its beginning, then the others' from their ends.

    Whoever takes units adds to the int64 of the share, and sees what was left of it just before: one addition tells
    everybody what is whose, also where more is taken than there is.
    """
    arena, image = read(job, Job.ARENA), read(job, Job.IMAGE)
    threads = read(job, Job.THREADS)
    size = max(1, read(step, Field.UNITS) // (threads * GRABS))
    share = share_of(job, thread, index)
    goes_on = False
    left = add_now(share, size)
    while left % HALF < left // HALF:
        first = left % HALF
        work(step, arena, scratch, image, first, min(first + size, left // HALF), goes_on)
        goes_on = True
        left = add_now(share, size)
    for distance in range(1, threads):
        share = share_of(job, (thread + distance) % threads, index)
        left = read_now(share)
        while left % HALF < left // HALF:
            left = add_now(share, -size * HALF)
            first, end = left % HALF, left // HALF
            if first < end:
                work(step, arena, scratch, image, max(first, end - size), end, False)


@compiled
def take_part(job, thread):  # type: ignore[no-untyped-def]
    """This thread's part of every step; False when the call is off."""
    threads = read(job, Job.THREADS)
    scratch = read(job, Job.SCRATCH) + thread * read(job, Job.SCRATCH_BYTES)
    steps = read(job, Job.STEPS)
    arrived = read(job, Job.ARRIVED)
    for index in range(steps):
        step = read(job, Job.TABLE) + index * FIELDS * 8
        if threads == 1:
            work(step, read(job, Job.ARENA), scratch, read(job, Job.IMAGE), 0, read(step, Field.UNITS), False)
        else:
            if index + 1 < steps:
                deal(job, thread, index + 1, step + FIELDS * 8)
            do_units(job, thread, index, step, scratch)
            barrier = job + Job.BARRIER * 8
            add_now(barrier, 1)
            if not wait(barrier, arrived + (index + 1) * threads):
                return False
    return True


def run(job, thread, seen, patience):  # type: ignore[no-untyped-def]
    """Work through the steps of a job as one member of a team; all arguments are int64.

    Thread 0 announces the job and returns when it is done. The others wait for jobs, one after the other.

    Args:
        job: address of the columns of `steps.Job`.
        thread: who this is.
        seen: jobs that this thread has seen.
        patience: looks for another job before the thread had better sleep.

    Returns:
        For thread 0: 0, or CALLED_OFF when the team was sent away before the job was done. For the others: jobs seen,
        when patience is at an end; the same below 0, when the last of them is not for this function; CALLED_OFF, when
        the team is.
    """
    if thread == 0:
        if read(job, Job.THREADS) > 1:
            if read(job, Job.STEPS) > 0:
                for member in range(read(job, Job.THREADS)):
                    deal(job, member, 0, read(job, Job.TABLE))
            add_now(job + Job.CALLS * 8, 1)
        return 0 if take_part(job, thread) else CALLED_OFF
    looks = 0
    while looks < patience:
        if read_now(job + Job.BARRIER * 8) < 0:
            return CALLED_OFF
        if read_now(job + Job.CALLS * 8) == seen:
            pause()
            looks += 1
        else:
            seen += 1
            if read(job, Job.STEPS) == 0:
                return -seen
            if not take_part(job, thread):
                return CALLED_OFF
            looks = 0
    return seen
