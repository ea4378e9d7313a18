"""Tiles that bring pixels into the order that other tiles want them in; they move values and compute next to nothing.

A convolution with a K x K filter is a matrix product, too, once the K * K pixels under the window lie behind each
other: `gather_pixels` copies them for some output pixels, tap by tap, and the tile of the 1x1 convolution runs over the
copy. Each value copied is then used for every output channel, so copying costs a few per cent.
"""

from __future__ import annotations

from npmobilenet_kernels.microkernels.emitter import FLOAT_BYTES, Emitter, Value, Values


def gather_pixels(
    e: Emitter, row: Value, width: Value, first: Value, stride: Value, lanes: Value, zero: Value, count: Value, y: Value
) -> None:
    """What one tap of a filter meets, along a row: y[j, :] = row[first + j stride, :], zeros outside the row.

    Args of the tile:
        row: one row of a map, a vector a pixel; width: its pixels, 0 for a row outside the image.
        first: column that the first output pixel reads; stride: of the filter.
        lanes: channels that there are in this block; the others, which may hold anything, become 0.
        zero: address of a zero vector.
        count: pixels of y.
    """
    channels = e.first_lanes(lanes)

    def one_pixel(j: Value, _: Values) -> Values:
        column = e.add(e.multiply(stride, j), first)
        pixel = e.load(e.where(e.below(column, width), e.add(row, e.multiply(column, e.bytes)), zero))
        e.store(e.where(channels, pixel, e.constant(0)), e.add(y, e.multiply(j, e.bytes)))
        return []

    e.loop(count, [], one_pixel)


def image_pixels(e: Emitter, x: Value, pitch: Value, lanes: Value, factors: Value, count: Value, y: Value) -> None:
    """Pixels as they come, (count, C), to one block of channels: y[j, c] = x[j, c] * factors[0] + factors[1].

    Args of the tile:
        x: the block's first channel of the first pixel; pitch: bytes from pixel to pixel, 4 C.
        lanes: channels that there are in this block; those behind become 0, and nothing is read there.
        factors: scale and offset.
    """
    single = e.with_width(1)
    factor, offset = single.splat(factors), single.splat(factors, FLOAT_BYTES)

    def one_pixel(j: Value, _: Values) -> Values:
        source, target = e.add(x, e.multiply(pitch, j)), e.add(y, e.multiply(j, e.bytes))
        e.store(e.constant(0), target)

        def one_channel(c: Value, _: Values) -> Values:
            here = e.multiply(c, FLOAT_BYTES)
            single.store(single.fma(single.load(e.add(source, here)), factor, offset), e.add(target, here))
            return []

        return e.loop(lanes, [], one_channel)

    e.loop(count, [], one_pixel)


def repeat_channels(
    e: Emitter, x: Value, block: Value, pixels: Value, first: Value, multiplier: Value, channels: Value, y: Value
) -> None:
    """Every channel several times, for depthwise filters with a depth multiplier: y[p, l] = x[p, (first + l) / M].

    Args of the tile:
        x: a map's first vector; block: bytes from block to block of its channels; pixels: to be copied.
        first: output channel of lane 0; multiplier: M, twice by itself since that is what networks have.
        channels: of x; lanes behind M * channels get copies of the last one.
        y: one block of channels.
    """

    def twice() -> Values:
        c = e.divide(first, e.width)
        whole = e.divide(c, 2)
        upper = e.compare("!=", e.multiply(whole, 2), c)
        source = e.add(x, e.multiply(whole, block))

        def one_pixel(p: Value, _: Values) -> Values:
            offset = e.multiply(p, e.bytes)
            v = e.load(e.add(source, offset))
            e.store(e.where(upper, e.doubled(v, 1), e.doubled(v, 0)), e.add(y, offset))
            return []

        return e.loop(pixels, [], one_pixel)

    def often() -> Values:
        single, last = e.with_width(1), e.add(channels, -1)

        def one_lane(lane: Value, _: Values) -> Values:
            wanted = e.divide(e.add(first, lane), multiplier)
            channel = e.where(e.compare("<", wanted, last), wanted, last)
            c = e.divide(channel, e.width)
            inside = e.multiply(e.add(channel, e.multiply(c, -e.width)), FLOAT_BYTES)
            source = e.add(e.add(x, e.multiply(c, block)), inside)
            target = e.add(y, e.multiply(lane, FLOAT_BYTES))

            def one_pixel(p: Value, _: Values) -> Values:
                offset = e.multiply(p, e.bytes)
                single.store(single.load(e.add(source, offset)), e.add(target, offset))
                return []

            return e.loop(pixels, [], one_pixel)

        return e.loop(e.width, [], one_lane)

    e.choose(e.compare("==", multiplier, 2), twice, often)
