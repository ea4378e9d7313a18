"""Tiles that bring pixels into the order that other tiles want them in; they move values and compute next to nothing.

A convolution with a K x K filter is a matrix product, too, once the K * K pixels under the window lie behind each
other: `gather_pixels` copies them for some output pixels, tap by tap, and the tile of the 1x1 convolution runs over the
copy. Each value copied is then used for every output channel, so copying costs a few per cent.
"""

from __future__ import annotations

from npmobilenet_kernels.vector import FLOAT_BYTES, Emitter, Value, Values


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
