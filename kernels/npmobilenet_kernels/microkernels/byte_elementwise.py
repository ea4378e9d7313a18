"""Sums, products and tables of bytes, pixel by pixel, and padding; a unit is a part of the pixels of a block."""

from __future__ import annotations

from npmobilenet_kernels.drivers.byte_table import ByteField
from npmobilenet_kernels.microkernels.byte_emitter import GROUP, INTS, LANES, ByteEmitter, vector_of
from npmobilenet_kernels.microkernels.byte_requantize import rescaled, store_channels
from npmobilenet_kernels.microkernels.byte_units import (
    block_of_source,
    block_of_target,
    block_parts,
    pixel_address,
    pixels_by_four,
)
from npmobilenet_kernels.microkernels.emitter import FLOAT_BYTES, I8, I64, Value, Values
from npmobilenet_kernels.runtime.byte_packing import RECORD, Part

ONE_PIXEL = vector_of(I8, LANES)


def byte_add(
    e: ByteEmitter, step: Value, arena: Value, scratch: Value, image: Value, first: Value, last: Value
) -> None:
    """Emit the sum of two maps, rint(fma(x1, a, fma(x2, b, o))); CONSTANTS: a, b, o in float32.

    Whether that is the rule's sum is for the caller to prove, for all 65,536 pairs of bytes.
    """
    constants = e.read(step, ByteField.CONSTANTS)
    a, b, o = (e.splat(constants, n * FLOAT_BYTES) for n in range(3))
    limits, table = e.read(step, ByteField.LIMITS), e.read(step, ByteField.TABLE)

    def part(block: Value, begin: Value, end: Value) -> None:
        x, y = block_of_source(e, step, arena, block), block_of_target(e, step, arena, block)
        other, pitch = _other(e, step, arena, block)

        def some(pixel: Value, count: int) -> None:
            steps = []
            for i in range(count):
                x1 = _ints(e, pixel_address(e, x, e.add(pixel, i)))
                x2 = _ints(e, e.add(other, e.multiply(e.add(pixel, i), pitch)))
                steps.append(e.nearest(e.fma(e.to_float(x1), a, e.fma(e.to_float(x2), b, o))))
            store_channels(e, steps, limits, table, pixel_address(e, y, pixel))

        pixels_by_four(e, begin, end, some)

    block_parts(e, step, e.read(step, ByteField.PIXELS), first, last, part)


def byte_multiply(
    e: ByteEmitter, step: Value, arena: Value, scratch: Value, image: Value, first: Value, last: Value
) -> None:
    """Emit the product of two maps, or of a map and one pixel; CONSTANTS: both zero points as int32.

    The record's accumulator is (x1 - z1) (x2 - z2) and the bias.
    """
    constants = e.read(step, ByteField.CONSTANTS)
    z1, z2 = (e.splat_int(constants, n * FLOAT_BYTES) for n in range(2))
    limits, table = e.read(step, ByteField.LIMITS), e.read(step, ByteField.TABLE)

    def part(block: Value, begin: Value, end: Value) -> None:
        x, y = block_of_source(e, step, arena, block), block_of_target(e, step, arena, block)
        other, pitch = _other(e, step, arena, block)
        record = e.add(e.read(step, ByteField.RECORDS), e.multiply(block, RECORD))
        bias = e.load_as(INTS, record, Part.BIAS)

        def some(pixel: Value, count: int) -> None:
            products = []
            for i in range(count):
                x1 = e.builder.sub(_ints(e, pixel_address(e, x, e.add(pixel, i))), z1)
                x2 = e.builder.sub(_ints(e, e.add(other, e.multiply(e.add(pixel, i), pitch))), z2)
                products.append(e.builder.add(bias, e.builder.mul(x1, x2)))
            store_channels(e, rescaled(e, products, record), limits, table, pixel_address(e, y, pixel))

        pixels_by_four(e, begin, end, some)

    block_parts(e, step, e.read(step, ByteField.PIXELS), first, last, part)


def byte_table(
    e: ByteEmitter, step: Value, arena: Value, scratch: Value, image: Value, first: Value, last: Value
) -> None:
    """Emit a map of bytes replaced by those of TABLE."""
    table = e.read(step, ByteField.TABLE)

    def part(block: Value, begin: Value, end: Value) -> None:
        x, y = block_of_source(e, step, arena, block), block_of_target(e, step, arena, block)

        def some(pixel: Value, count: int) -> None:
            parts = [e.load_as(ONE_PIXEL, pixel_address(e, x, e.add(pixel, i))) for i in range(count)]
            q = e.joined(parts + parts[-1:] * (GROUP - count))
            e.store_pixels(q, count, pixel_address(e, y, pixel), table)

        pixels_by_four(e, begin, end, some)

    block_parts(e, step, e.read(step, ByteField.PIXELS), first, last, part)


def byte_pairs(
    e: ByteEmitter, step: Value, arena: Value, scratch: Value, image: Value, first: Value, last: Value
) -> None:
    """Emit any function of two maps, byte by byte: CONSTANTS is its table of 256 x 256 bytes, by the first map's."""
    table = e.read(step, ByteField.CONSTANTS)

    def part(block: Value, begin: Value, end: Value) -> None:
        x, y = block_of_source(e, step, arena, block), block_of_target(e, step, arena, block)
        other, pitch = _other(e, step, arena, block)

        def one_pixel(number: Value, _: Values) -> Values:
            pixel = e.add(begin, number)
            places = [pixel_address(e, x, pixel), e.add(other, e.multiply(pixel, pitch))]
            target = pixel_address(e, y, pixel)

            def one_byte(lane: Value, _: Values) -> Values:
                x1, x2 = (e.builder.zext(e.load_as(I8, e.add(place, lane)), I64) for place in places)
                result = e.load_as(I8, e.add(table, e.add(e.multiply(x1, 256), x2)))
                e.store_any(result, e.add(target, lane))
                return []

            e.loop(LANES, [], one_byte)
            return []

        e.loop(e.add(end, e.negate(begin)), [], one_pixel)

    block_parts(e, step, e.read(step, ByteField.PIXELS), first, last, part)


def byte_pad(
    e: ByteEmitter, step: Value, arena: Value, scratch: Value, image: Value, first: Value, last: Value
) -> None:
    """Emit a map with pixels added on its sides; the parts are of the output's rows, PADDING is one added pixel."""
    W_in, W, H_in = (e.read(step, f) for f in (ByteField.SOURCE_WIDTH, ByteField.WIDTH, ByteField.SOURCE_HEIGHT))
    top, left, padding = (e.read(step, f) for f in (ByteField.TOP, ByteField.LEFT, ByteField.PADDING))

    def part(block: Value, begin: Value, end: Value) -> None:
        x, y = block_of_source(e, step, arena, block), block_of_target(e, step, arena, block)

        def one_row(number: Value, _: Values) -> Values:
            row = e.add(begin, number)
            source = e.add(row, e.negate(top))
            line, is_image = pixel_address(e, x, e.multiply(source, W_in)), e.in_range(source, H_in)
            target = pixel_address(e, y, e.multiply(row, W))

            def one_pixel(column: Value, _: Values) -> Values:
                here = e.add(column, e.negate(left))
                inside = e.builder.and_(is_image, e.in_range(here, W_in))
                pixel = e.load_as(ONE_PIXEL, e.where(inside, pixel_address(e, line, here), padding))
                e.store_any(pixel, pixel_address(e, target, column))
                return []

            e.loop(W, [], one_pixel)
            return []

        e.loop(e.add(end, e.negate(begin)), [], one_row)

    block_parts(e, step, e.read(step, ByteField.HEIGHT), first, last, part)


def _other(e: ByteEmitter, step: Value, arena: Value, block: Value) -> tuple[Value, Value]:
    """Address of a block of the second input, and bytes from pixel to pixel of it."""
    place = e.add(e.read(step, ByteField.OTHER), e.multiply(e.read(step, ByteField.OTHER_BLOCK), block))
    return e.add(arena, place), e.read(step, ByteField.OTHER_PITCH)


def _ints(e: ByteEmitter, address: Value) -> Value:
    return e.builder.zext(e.load_as(ONE_PIXEL, address), INTS)
