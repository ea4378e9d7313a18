"""Averages and maxima of bytes over the pixels of a feature map."""

from __future__ import annotations

from npmobilenet_kernels.drivers.byte_table import ByteField
from npmobilenet_kernels.microkernels.byte_depthwise import input_row
from npmobilenet_kernels.microkernels.byte_emitter import GROUP, INTS, LANES, VECTOR, ByteEmitter, vector_of
from npmobilenet_kernels.microkernels.byte_requantize import rescaled, store_channels
from npmobilenet_kernels.microkernels.byte_units import block_of_source, block_of_target, block_parts, pixel_address
from npmobilenet_kernels.microkernels.emitter import I8, Value, Values
from npmobilenet_kernels.runtime.byte_packing import RECORD, Part

ONE_PIXEL = vector_of(I8, LANES)


def byte_mean(
    e: ByteEmitter, step: Value, arena: Value, scratch: Value, image: Value, first: Value, last: Value
) -> None:
    """Emit the average over all pixels of a map; a unit is a block.

    The division is the record's: its accumulator is the sum of the bytes and the bias.
    """
    M = e.multiply(e.read(step, ByteField.SOURCE_HEIGHT), e.read(step, ByteField.SOURCE_WIDTH))
    fours = e.divide(M, GROUP)
    ones = e.all_bytes(1)

    def one_unit(number: Value, _: Values) -> Values:
        block = e.add(first, number)
        x = block_of_source(e, step, arena, block)
        record = e.add(e.read(step, ByteField.RECORDS), e.multiply(block, RECORD))

        def four_pixels(index: Value, acc: Values) -> Values:
            return [e.dot(acc[0], e.by_channel(e.load_bytes(e.add(x, e.multiply(index, VECTOR)))), ones)]

        def one_pixel(index: Value, acc: Values) -> Values:
            pixel = e.load_as(ONE_PIXEL, pixel_address(e, x, e.add(e.multiply(fours, GROUP), index)))
            return [e.builder.add(acc[0], e.builder.zext(pixel, INTS))]

        (sums,) = e.loop(fours, [e.start(e.load_as(INTS, record, Part.BIAS))], four_pixels)
        (total,) = e.loop(e.remainder(M, e.integer(GROUP)), [e.total(sums)], one_pixel)
        limits, table = e.read(step, ByteField.LIMITS), e.read(step, ByteField.TABLE)
        store_channels(e, rescaled(e, [total], record), limits, table, block_of_target(e, step, arena, block))
        return []

    e.loop(e.add(last, e.negate(first)), [], one_unit)


def byte_max_pool(
    e: ByteEmitter, step: Value, arena: Value, scratch: Value, image: Value, first: Value, last: Value
) -> None:
    """Emit the largest byte under a window that slides over a map; PADDING is a row of zeros, the zero point is 0."""
    W_in, padding = e.read(step, ByteField.SOURCE_WIDTH), e.read(step, ByteField.PADDING)
    W, limits, table = (e.read(step, field) for field in (ByteField.WIDTH, ByteField.LIMITS, ByteField.TABLE))

    def part(block: Value, begin: Value, end: Value) -> None:
        x, y = block_of_source(e, step, arena, block), block_of_target(e, step, arena, block)

        def one_output(number: Value, _: Values) -> Values:
            row, column = e.add(begin, e.divide(number, W)), e.remainder(number, W)
            across = e.multiply(column, e.read(step, ByteField.STRIDE_ACROSS))
            corner = e.add(across, e.negate(e.read(step, ByteField.LEFT)))

            def one_row(u: Value, carried: Values) -> Values:
                line = input_row(e, step, x, row, u)

                def one_tap(v: Value, carried: Values) -> Values:
                    here = e.add(corner, e.multiply(v, e.read(step, ByteField.DILATION_ACROSS)))
                    address = e.where(e.in_range(here, W_in), pixel_address(e, line, here), padding)
                    pixel, so_far = e.load_as(ONE_PIXEL, address), carried[0]
                    return [e.builder.select(e.builder.icmp_unsigned(">", pixel, so_far), pixel, so_far)]

                return e.loop(e.read(step, ByteField.FILTER_ACROSS), carried, one_tap)

            (largest,) = e.loop(e.read(step, ByteField.FILTER), [e.load_as(ONE_PIXEL, padding)], one_row)
            place = pixel_address(e, y, e.add(e.multiply(row, W), column))
            store_channels(e, [e.builder.zext(largest, INTS)], limits, table, place)
            return []

        e.loop(e.multiply(e.add(end, e.negate(begin)), W), [], one_output)

    block_parts(e, step, e.read(step, ByteField.HEIGHT), first, last, part)
