"""Register tiles: the innermost loops of every layer, as vector instructions.

Activations lie in memory as [C / W][H * W_map][W]: blocks of W channels, one vector a pixel. The distance from pixel
to pixel is then the constant 4 W bytes, and one vector instruction handles W channels of a pixel, in every layer.

Each tile is an emitter: it writes one LLVM function that `network.py` calls from its loops, by the name that `*_name`
gives it. The arguments are addresses and counts, in bytes and elements. The plain loops that these must equal are in
`plain.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from npmobilenet_kernels.curves import sigmoid, softmax
from npmobilenet_kernels.gather import gather_pixels, image_pixels, repeat_channels
from npmobilenet_kernels.lanes import Lanes
from npmobilenet_kernels.steps import LINE, Activation
from npmobilenet_kernels.vector import ADDRESS_BYTES, FLOAT_BYTES, Emit, Emitter, Value, Values

DEPTHWISE_PIXELS = (8, 7, 4)  # output pixels of one depthwise tile: 7 divides the maps of images of 224, 8 those of 128
DEPTHWISE_ENDS = {  # zeros on the left and right of a row, by size and stride: SAME for odd and even widths
    (3, 1): [(1, 1)],
    (3, 2): [(0, 1), (1, 1)],
    (5, 1): [(2, 2)],
    (5, 2): [(1, 2), (2, 2)],
}
STEM_CHANNELS = 3  # the first convolution that has a tile: RGB, a pixel of its output two pixels of the image further
STEM_PITCH = 2 * STEM_CHANNELS * FLOAT_BYTES
POOL_ROWS = 4  # partial sums of the average: one addition waits four cycles for the one before it
GEMV_AHEAD = 2048  # bytes of each stream of a dense layer's weights that are on their way
GEMV_SPLIT = 4  # partial sums over k for a single panel


def gemm_name(rows: int, panel: int, lanes: Lanes, *, stem: bool = False, half: bool = False) -> str:
    """Symbol of a tile of the matrix product; half: whether the last of its vectors is."""
    return f"npmobilenet_{'stem' if stem else 'gemm'}_{rows}x{panel}{'half' if half else ''}x{lanes.width}"


def gemv_name(streams: int, lanes: Lanes) -> str:
    """Symbol of a dense layer's tile."""
    return f"npmobilenet_gemv_{streams}x{lanes.width}"


def depthwise_name(size: int, stride: int, lanes: Lanes, pixels: int, left: int, right: int) -> str:
    """Symbol of the depthwise row for so many pixels a tile and so many zeros at its ends."""
    return f"npmobilenet_depthwise_{size}x{size}s{stride}_{pixels}_{left}_{right}x{lanes.width}"


def depthwise_choice(sides: tuple[int, ...], stride: int, left: int, right: int, width: int, lanes: Lanes) -> str:
    """Symbol of the best depthwise row.

    Args:
        sides, stride: of the filter.
        left: columns of zeros on the left; right: columns beyond the right end that the last output reads.
        width: output columns.
    """
    beside = max(-(-left // stride), -(-right // stride))  # outputs at an end that read zeros
    fitting = [pixels for pixels in DEPTHWISE_PIXELS if width == pixels or width >= pixels + beside]
    size = sides[0]
    if sides != (size, size) or (left, right) not in DEPTHWISE_ENDS.get((size, stride), []) or not fitting:
        return simple_name("depthwise_row", lanes)
    pixels = min(fitting, key=lambda pixels: -(-width // pixels) * (pixels + 1))
    return depthwise_name(size, stride, lanes, pixels, left, right)


def simple_name(operation: str, lanes: Lanes) -> str:
    """Symbol of a tile that there is only one of: pool, largest, scale_weights, add_pixels, softmax, ..."""
    return f"npmobilenet_{operation}_x{lanes.width}"


def all_tiles(lanes: Lanes) -> dict[str, Emit]:
    """Every tile for one kind of CPU, by symbol."""
    tiles = {}
    choices = ((lanes.panel, lanes.rows, lanes.stem_rows[0]), (1, lanes.narrow_rows, lanes.stem_rows[1]))
    for panel, choice, stem_rows in choices:
        for half in {False, lanes.halves}:
            for rows in choice:
                name = gemm_name(rows, panel, lanes, half=half)
                tiles[name] = gemm_tile(rows, panel, unroll=lanes.unroll, by_lane=lanes.by_lane, half=half)
            for rows in (stem_rows, 1):
                name = gemm_name(rows, panel, lanes, stem=True, half=half)
                tiles[name] = gemm_tile(rows, panel, STEM_PITCH, STEM_CHANNELS, half=half)
    for streams in lanes.streams:
        tiles[gemv_name(streams, lanes)] = gemv_tile(streams, GEMV_SPLIT if streams == 1 else 1)
    for (size, stride), ends in DEPTHWISE_ENDS.items():
        for fixed in ((pixels, *zeros) for zeros in ends for pixels in DEPTHWISE_PIXELS):
            tiles[depthwise_name(size, stride, lanes, *fixed)] = depthwise_row_fixed(size, stride, *fixed)
    simple = (
        pool, largest, scale_weights, add_pixels, scale_and_copy, gather_pixels, image_pixels, repeat_channels, softmax,
        sigmoid, depthwise_row, finish_pixels,
    )  # fmt: skip
    return tiles | {simple_name(emit.__name__, lanes): emit for emit in simple}


def activate(e: Emitter, activation: Value, x: Values) -> Values:
    """The activation, chosen by its number at run time, of every vector in x.

    relu6(x) = min(max(x, 0), 6)    hard_sigmoid(x) = relu6(x + 3) / 6    hard_swish(x) = x hard_sigmoid(x)
    """
    zero, three, six = e.constant(0), e.constant(3), e.constant(6)

    def clamped() -> Values:
        limit = e.where(e.compare("==", activation, Activation.RELU), e.constant(float("inf")), six)
        return [e.clamp(v, zero, limit) for v in x]

    def gate(v: Value) -> Value:
        return e.times(e.clamp(e.plus(v, three), zero, six), e.constant(1 / 6))

    def hard() -> Values:
        swish = e.compare("==", activation, Activation.HARD_SWISH)
        return e.choose(swish, lambda: [e.times(v, gate(v)) for v in x], lambda: [gate(v) for v in x])

    def curved() -> Values:
        return e.choose(e.compare("<=", activation, Activation.RELU6), clamped, hard)

    return e.choose(e.compare("==", activation, Activation.LINEAR), lambda: x, curved)


def gemm_tile(
    rows: int, panels: int, pitch: int | None = None, unroll: int = 4, *, by_lane: bool = False, half: bool = False
) -> Emit:
    """A tile of a matrix product: `rows` pixels by `panels` vectors of output channels.

        y[i, :] = act(bias[:] + sum_k a[i, k] b[k, :]) + residual[i, :]

    The accumulators stay in registers for the whole sum. The values a[i, k] of one pixel lie in segments of memory:
    for a 1x1 convolution the blocks of W channels, for a first convolution the rows of its filter.

    Args of the tile:
        a: address of a[0, 0]; segment: bytes from one segment to the next.
        segments: number of whole segments; length: their values, a multiple of `unroll`; tail: values of one more,
            shorter one.
        b: weights (K, panels * W); bias: (panels * W,).
        y: output, pixel to pixel 4 W bytes; y_block: bytes to the next block of W channels. The residual, unless its
            address is 0, has the same layout.
        activation: its number.
        following: what the next tiles will read from far away, fetched meanwhile, a line a round.
        apart: 0. Half vectors load their pixels from so much further on, and LLVM must not know that they are the same:
            two loads take less time than what it does to make two widths of one.

    Args:
        rows: pixels. panels: vectors of output channels.
        pitch: bytes from a[i, k] to a[i + 1, k]; None for 4 W.
        unroll: values of k a round.
        by_lane: load the values of a pixel as vectors, and take their lanes.
        half: compute the lower half alone of each pixel's last vector; the upper one is as of zeros.
    """

    def emit(
        e: Emitter, a: Value, segment: Value, segments: Value, length: Value, tail: Value,
        b: Value, bias: Value, y: Value, y_block: Value, residual: Value, activation: Value, following: Value,
        apart: Value,
    ) -> None:  # fmt: skip
        step = e.bytes if pitch is None else pitch
        tile = [(i, j) for i in range(rows) for j in range(panels)]
        parts = [e] * (panels - half) + [e.with_width(e.width // 2)] * half  # what computes vector j of a pixel

        def multiply_add(a: Value, b: Value, depth: int, accumulators: Values) -> Values:
            sums = dict(zip(tile, accumulators, strict=True))
            vectors = [e.load(a, i * step) for i in range(rows)] if by_lane and depth == e.width else []
            for k in range(depth):
                w = [part.load(b, (k * panels + j) * e.bytes) for j, part in enumerate(parts)]
                for i in range(rows):  # a pixel is loaded where it is used: LLVM keeps this order, and few registers
                    x = e.lane(vectors[i], k) if vectors else e.splat(a, i * step + k * FLOAT_BYTES)
                    for j, part in enumerate(parts):
                        x_j = x if part is e else part.splat(e.add(a, apart), i * step + k * FLOAT_BYTES)
                        sums[i, j] = part.fma(x_j, w[j], sums[i, j])
            return list(sums.values())

        def rounds(count: Value, depth: int, start: Values) -> Values:
            fetched = LINE if depth == unroll and pitch is None else 0  # a first convolution's weights stay near

            def one_round(_: Value, carried: Values) -> Values:
                a, b, following, *accumulators = carried
                if fetched:
                    e.fetch(following)
                accumulators = multiply_add(a, b, depth, accumulators)
                a, b = e.add(a, depth * FLOAT_BYTES), e.add(b, depth * panels * e.bytes)
                return [a, b, e.add(following, fetched), *accumulators]

            return e.loop(count, start, one_round)

        def one_segment(_: Value, carried: Values) -> Values:
            _, *others = rounds(e.divide(length, unroll), unroll, carried)
            return [e.add(carried[0], segment), *others]

        start = [part.load(bias, j * e.bytes) for j, part in enumerate(parts)]
        carried = e.loop(segments, [a, b, following, *(start[j] for _, j in tile)], one_segment)
        _, _, _, *sums = rounds(tail, 1, carried)
        result = activate(e, activation, [e.filled_up(v) for v in sums])
        blocks = [y] if panels == 1 else [y, e.add(y, y_block)]

        def with_residual() -> Values:
            first = residual
            addresses = [first] if panels == 1 else [first, e.add(first, y_block)]
            return [e.plus(v, e.load(addresses[j], i * e.bytes)) for (i, j), v in zip(tile, result, strict=True)]

        result = e.choose(e.compare("!=", residual, 0), with_residual, lambda: result)
        for (i, j), v in zip(tile, result, strict=True):
            e.store(v, blocks[j], i * e.bytes)

    return emit


def gemv_tile(panels: int, split: int) -> Emit:
    """One row of a matrix product, for dense layers: `panels` vectors of outputs, each from its own stream of weights.

        y[:] = act(bias[:] + sum_k x[k] b[k, :])

    Args of the tile:
        x: (K,) contiguous; k: K; b: weights of the first panel (K, W), `panel` bytes to the next; bias, y: contiguous.
    """

    def emit(e: Emitter, x: Value, k: Value, b: Value, panel: Value, bias: Value, y: Value, activation: Value) -> None:
        starts = [e.add(b, e.multiply(panel, j)) for j in range(panels)]

        def rounds(count: Value, depth: int, x: Value, offset: Value, sums: Values) -> Values:
            def one_round(_: Value, carried: Values) -> Values:
                x, offset, *sums = carried
                for d in range(depth):
                    v = e.splat(x, d * FLOAT_BYTES)
                    for j in range(panels):
                        slot = j * split + d % split
                        stream = e.add(starts[j], offset)
                        if depth > 1 and d * e.bytes % LINE == 0:
                            e.fetch(stream, GEMV_AHEAD + d * e.bytes)
                        sums[slot] = e.fma(v, e.load(stream, d * e.bytes), sums[slot])
                return [e.add(x, depth * FLOAT_BYTES), e.add(offset, depth * e.bytes), *sums]

            return e.loop(count, [x, offset, *sums], one_round)

        first = [e.load(bias, j * e.bytes) if s == 0 else e.constant(0) for j in range(panels) for s in range(split)]
        whole = e.divide(k, 4)
        x, offset, *sums = rounds(whole, 4, x, e.integer(0), first)
        _, _, *sums = rounds(e.add(k, e.multiply(whole, -4)), 1, x, offset, sums)
        totals = []
        for j in range(panels):
            total = sums[j * split]
            for s in range(1, split):
                total = e.plus(total, sums[j * split + s])
            totals.append(total)
        for j, v in enumerate(activate(e, activation, totals)):
            e.store(v, y, j * e.bytes)

    return emit


def depthwise_row(
    e: Emitter, rows: Value, width: Value, out_width: Value, left: Value, zero: Value, w: Value, y: Value,
    activation: Value, size: Value, across: Value, stride: Value,
) -> None:  # fmt: skip
    """One output row of any depthwise convolution, for one block of W channels, pixel by pixel.

        y[j, :] = act(bias[:] + sum_{u, v} x[row u, j stride + v - left, :] w[u, v, :])

    Args of the tile:
        rows: (size,) addresses of the input rows; a row outside the image is one of zeros.
        width: input columns; out_width: output columns; left: columns of zeros on the left.
        zero: address of a zero vector.
        w: bias (W,), then weights (size, across, W).
        y: output row; activation: its number.
        size, across, stride: rows and columns of the filter, and its step.
    """

    def one_pixel(j: Value, _: Values) -> Values:
        corner = e.add(e.multiply(stride, j), e.negate(left))

        def one_row(u: Value, carried: Values) -> Values:
            row = e.read(e.add(rows, e.multiply(u, ADDRESS_BYTES)), 0)

            def one_tap(v: Value, carried: Values) -> Values:
                total, weight = carried
                here = e.add(corner, v)
                x = e.load(e.where(e.below(here, width), e.add(row, e.multiply(here, e.bytes)), zero))
                return [e.fma(x, e.load(weight), total), e.add(weight, e.bytes)]

            return e.loop(across, carried, one_tap)

        total, _ = e.loop(size, [e.load(w), e.add(w, e.bytes)], one_row)
        _store_pixels(e, activate(e, activation, [total]), y, j)
        return []

    e.loop(out_width, [], one_pixel)


def depthwise_row_fixed(size: int, stride: int, pixels: int, left: int, right: int) -> Emit:
    """`depthwise_row` for known zeros at the ends, `pixels` outputs at a time: the ends are tiles that leave taps out.

    Args of the tile: those of `depthwise_row`; `left`, `zero` and those behind `activation` are not used.

    Args:
        size, stride: of the filter.
        pixels: outputs of a tile. The row has as many, or so many more that no tile touches both ends.
        left: columns of zeros on the left; right: columns beyond the right end that the last output reads.
    """
    beside = -(-right // stride)  # outputs at the right end that read zeros

    def emit(
        e: Emitter, rows: Value, width: Value, out_width: Value, _left: Value, _zero: Value, w: Value, y: Value,
        activation: Value, _size: Value, _across: Value, _stride: Value,
    ) -> None:  # fmt: skip
        def tile(first: Value, no_left: int, no_right: int) -> Values:
            """Outputs first ... first + pixels - 1; so many columns are missing at either end of what they read."""
            start = e.multiply(e.add(e.multiply(first, stride), -left), e.bytes)
            reach = (pixels - 1) * stride + size

            def column(row: Value, c: int) -> Value | None:
                return e.load(e.add(row, start), c * e.bytes) if no_left <= c < reach - no_right else None

            below = e.add(e.read(rows, size - 1), e.multiply(width, e.bytes))
            for c in range(no_left, reach - no_right):
                if stride == 1:  # the row that the next output row needs; with stride 2 too many to pay
                    e.fetch(e.add(below, start), c * e.bytes)
            sums = _filtered(e, size, stride, pixels, rows, w, column)
            _store_pixels(e, activate(e, activation, sums), y, first)
            return []

        def several() -> Values:
            tile(e.integer(0), left, 0)
            last = e.add(out_width, -pixels)
            inside = e.add(last, -beside)

            def one_tile(index: Value, _: Values) -> Values:
                first = e.multiply(e.add(index, 1), pixels)
                return tile(e.where(e.compare("<", first, inside), first, inside), 0, 0)

            e.loop(e.divide(e.add(last, -1), pixels), [], one_tile)
            return tile(last, 0, right)

        e.choose(e.compare("==", out_width, pixels), lambda: tile(e.integer(0), left, right), several)

    return emit


def _filtered(
    e: Emitter, size: int, stride: int, pixels: int, rows: Value, w: Value, column: Callable[[Value, int], Value | None]
) -> Values:
    """Sums for neighbouring outputs; column(row, c) is the vector in column c of those that they read, or None."""
    sums = [e.load(w)] * pixels  # the bias
    for u in range(size):
        row = e.read(rows, u)
        x = [column(row, c) for c in range((pixels - 1) * stride + size)]
        for v in range(size):
            weight = e.load(w, (1 + u * size + v) * e.bytes)
            here = x[v::stride]
            sums = [s if x_j is None else e.fma(x_j, weight, s) for x_j, s in zip(here, sums, strict=False)]
    return sums


def _store_pixels(e: Emitter, x: Values, y: Value, first: Value) -> None:
    target = e.add(y, e.multiply(first, e.bytes))
    for j, v in enumerate(x):
        e.store(v, target, j * e.bytes)


def pool(e: Emitter, x: Value, pixels: Value, scale: Value, y: Value) -> None:
    """Global average of one block of channels: y[:] = scale[0] * sum_p x[p, :], in POOL_ROWS partial sums."""

    def rounds(count: Value, depth: int, x: Value, sums: Values) -> Values:
        def one_round(_: Value, carried: Values) -> Values:
            x, *sums = carried
            sums = [e.plus(s, e.load(x, d * e.bytes)) if d < depth else s for d, s in enumerate(sums)]
            return [e.add(x, depth * e.bytes), *sums]

        return e.loop(count, [x, *sums], one_round)

    whole = e.divide(pixels, POOL_ROWS)
    x, *sums = rounds(whole, POOL_ROWS, x, [e.constant(0)] * POOL_ROWS)
    _, *sums = rounds(e.add(pixels, e.multiply(whole, -POOL_ROWS)), 1, x, sums)
    total = e.plus(e.plus(sums[0], sums[1]), e.plus(sums[2], sums[3]))
    e.store(e.times(total, e.splat(scale)), y)


def largest(e: Emitter, x: Value, pixels: Value, _scale: Value, y: Value) -> None:
    """Global maximum of one block of channels, by the arguments of `pool`: y[:] = max_p x[p, :]. NaN stays NaN."""

    def one_pixel(index: Value, carried: Values) -> Values:
        return [e.larger(e.load(e.add(x, e.multiply(index, e.bytes))), carried[0])]

    (result,) = e.loop(pixels, [e.constant(float("-inf"))], one_pixel)
    e.store(result, y)


def scale_weights(e: Emitter, w: Value, gate: Value, k: Value, panel: Value, y: Value) -> None:
    """Squeeze-and-excite, folded into the next product: y[k, :] = gate[k] w[k, :], for weights of `panel` vectors."""

    def one_row(index: Value, _: Values) -> Values:
        factor = e.splat(e.add(gate, e.multiply(index, FLOAT_BYTES)))
        start = e.multiply(e.multiply(index, panel), e.bytes)

        def one_vector(j: Value, _: Values) -> Values:
            offset = e.add(start, e.multiply(j, e.bytes))
            e.store(e.times(e.load(e.add(w, offset)), factor), e.add(y, offset))
            return []

        return e.loop(panel, [], one_vector)

    e.loop(k, [], one_row)


def scale_and_copy(e: Emitter, x: Value, count: Value, factors: Value, y: Value) -> None:
    """Copy `count` floats as y = x * factors[0] + factors[1]; reads and writes nothing beyond them."""

    def vectors(e: Emitter, start: Value, rounds: Value) -> None:
        factor, offset = e.splat(factors), e.splat(factors, FLOAT_BYTES)

        def one_vector(index: Value, _: Values) -> Values:
            here = e.add(start, e.multiply(index, e.bytes))
            e.store(e.fma(e.load(e.add(x, here)), factor, offset), e.add(y, here))
            return []

        e.loop(rounds, [], one_vector)

    whole = e.divide(count, e.width)
    vectors(e, e.integer(0), whole)
    vectors(e.with_width(1), e.multiply(whole, e.bytes), e.add(count, e.multiply(whole, -e.width)))


def finish_pixels(e: Emitter, x: Value, pixels: Value, activation: Value, residual: Value, y: Value) -> None:
    """What is left to do to sums, one block of channels: y[p, :] = act(x[p, :]) + residual[p, :], if it is not 0."""

    def one_pixel(index: Value, _: Values) -> Values:
        offset = e.multiply(index, e.bytes)
        result = activate(e, activation, [e.load(e.add(x, offset))])

        def with_residual() -> Values:
            return [e.plus(result[0], e.load(e.add(residual, offset)))]

        (total,) = e.choose(e.compare("!=", residual, 0), with_residual, lambda: result)
        e.store(total, e.add(y, offset))
        return []

    e.loop(pixels, [], one_pixel)


def add_pixels(e: Emitter, x: Value, other: Value, pixels: Value, y: Value) -> None:
    """Sum of two maps, one block of channels: y[p, :] = x[p, :] + other[p, :]."""

    def one_pixel(index: Value, _: Values) -> Values:
        offset = e.multiply(index, e.bytes)
        e.store(e.plus(e.load(e.add(x, offset)), e.load(e.add(other, offset))), e.add(y, offset))
        return []

    e.loop(pixels, [], one_pixel)
