"""Micro-kernels that rearrange pixels for the others; they move values and compute next to nothing.

A convolution with a K_h x K_w filter is a matrix product, too, once the pixels under its window are in one row of a
matrix (im2col): `im2col_row` copies them for some output pixels, tap by tap, and the micro-kernel of the pointwise
convolution runs over the copy. Each value copied is then used for every output channel, so copying costs a few percent.

Sources: Chellapilla, Puri & Simard 2006, High Performance Convolutional Neural Networks for Document Processing
(im2col); Dukhan 2019, The Indirect Convolution Algorithm, arXiv:1907.02129, which passes addresses of pixels to the
micro-kernel instead of copies, as the depthwise micro-kernels here do with rows.
"""

from __future__ import annotations

from npmobilenet_kernels.microkernels.emitter import FLOAT_BYTES, Emitter, Value, Values


def im2col_row(
    e: Emitter, row: Value, width: Value, first: Value, stride: Value, lanes: Value, zero: Value, count: Value, y: Value
) -> None:
    """The pixels under one tap of a filter along a row: y[j, :] = row[first + j stride, :], zeros outside the row.

    Args of the micro-kernel:
        row: address of one row of a block, (width, L); width: its pixels, 0 for a row outside the image.
        first: column that the first output pixel reads; stride: of the filter.
        lanes: channels in this block; the other lanes, whose content is arbitrary, become 0.
        zero: address of a zero vector.
        count: pixels of y.
        y: (count, L).
    """
    channels = e.lane_mask(lanes)

    def one_pixel(j: Value, _: Values) -> Values:
        column = e.add(e.multiply(stride, j), first)
        pixel = e.load(e.where(e.in_range(column, width), e.add(row, e.multiply(column, e.bytes)), zero))
        e.store(e.where(channels, pixel, e.constant(0)), e.add(y, e.multiply(j, e.bytes)))
        return []

    e.loop(count, [], one_pixel)


def image_pixels(e: Emitter, x: Value, pitch: Value, lanes: Value, factors: Value, count: Value, y: Value) -> None:
    """Interleaved pixels, (count, C), to one block of channels: y[j, c] = x[j, c] * factors[0] + factors[1].

    Args of the micro-kernel:
        x: address of the block's first channel of the first pixel; pitch: bytes from pixel to pixel, 4 C.
        lanes: channels in this block; the other lanes become 0, and nothing is read there.
        factors: scale and offset.
        count: pixels.
        y: (count, L).
    """
    single = e.with_width(1)
    factor, offset = single.splat(factors), single.splat(factors, FLOAT_BYTES)

    def one_pixel(j: Value, _: Values) -> Values:
        source, target = e.add(x, e.multiply(pitch, j)), e.add(y, e.multiply(j, e.bytes))
        e.store(e.constant(0), target)

        def one_channel(c: Value, _: Values) -> Values:
            channel = e.multiply(c, FLOAT_BYTES)
            single.store(single.fma(single.load(e.add(source, channel)), factor, offset), e.add(target, channel))
            return []

        return e.loop(lanes, [], one_channel)

    e.loop(count, [], one_pixel)


def repeat_channels(
    e: Emitter, x: Value, block: Value, pixels: Value, first: Value, multiplier: Value, channels: Value, y: Value
) -> None:
    """Repeated channels, for depthwise filters with a depth multiplier D: y[p, l] = x[p, (first + l) // D].

    Args of the micro-kernel:
        x: address of a map's first vector, [blocks][pixels][L]; block: bytes from block to block.
        pixels: number of pixels to copy.
        first: output channel of lane 0; multiplier: D, with a fast path for the usual value of 2.
        channels: of x; lanes after D * channels get copies of the last one.
        y: (pixels, L), one block of channels.
    """

    def twice() -> Values:
        c = e.divide(first, e.width)
        half = e.divide(c, 2)
        upper = e.compare("!=", e.multiply(half, 2), c)
        source = e.add(x, e.multiply(half, block))

        def one_pixel(p: Value, _: Values) -> Values:
            offset = e.multiply(p, e.bytes)
            v = e.load(e.add(source, offset))
            e.store(e.where(upper, e.interleave(v, 1), e.interleave(v, 0)), e.add(y, offset))
            return []

        return e.loop(pixels, [], one_pixel)

    def any_multiplier() -> Values:
        single, last = e.with_width(1), e.add(channels, -1)

        def one_lane(lane: Value, _: Values) -> Values:
            unclamped = e.divide(e.add(first, lane), multiplier)
            channel = e.where(e.compare("<", unclamped, last), unclamped, last)
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

    e.choose(e.compare("==", multiplier, 2), twice, any_multiplier)
