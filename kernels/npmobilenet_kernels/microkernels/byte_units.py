"""Units of work of kernels on bytes, and addresses in a step's feature maps."""

from __future__ import annotations

from collections.abc import Callable

from npmobilenet_kernels.drivers.byte_table import ByteField
from npmobilenet_kernels.microkernels.byte_emitter import GROUP, LANES, ByteEmitter
from npmobilenet_kernels.microkernels.emitter import Value, Values


def block_parts(
    e: ByteEmitter, step: Value, count: Value, first: Value, last: Value, part: Callable[[Value, Value, Value], None]
) -> None:
    """Units first ... last - 1, of which each block of 16 channels has ByteField.PARTS.

    Args:
        e: the emitter.
        step: address of the table's row.
        count: rows or pixels of a block, which the parts share.
        first, last: units.
        part: part(block, begin, end) emits rows or pixels begin ... end - 1 of a block.
    """
    parts = e.read(step, ByteField.PARTS)

    def one_unit(number: Value, _: Values) -> Values:
        unit = e.add(first, number)
        block, own = e.divide(unit, parts), e.remainder(unit, parts)
        begin = e.divide(e.multiply(own, count), parts)
        part(block, begin, e.divide(e.multiply(e.add(own, 1), count), parts))
        return []

    e.loop(e.add(last, e.negate(first)), [], one_unit)


def block_of_source(e: ByteEmitter, step: Value, arena: Value, block: Value) -> Value:
    """Address of a block of the input."""
    return e.add(e.add(arena, e.read(step, ByteField.SOURCE)), e.multiply(e.read(step, ByteField.SOURCE_BLOCK), block))


def block_of_target(e: ByteEmitter, step: Value, arena: Value, block: Value) -> Value:
    """Address of a block of the output."""
    return e.add(e.add(arena, e.read(step, ByteField.TARGET)), e.multiply(e.read(step, ByteField.TARGET_BLOCK), block))


def pixels_by_four(e: ByteEmitter, begin: Value, end: Value, some: Callable[[Value, int], None]) -> None:
    """Pixels begin ... end - 1, four at a time and the rest one by one: some(first, count) emits `count` of them."""
    fours = e.divide(e.add(end, e.negate(begin)), GROUP)
    rest = e.add(begin, e.multiply(fours, GROUP))

    def at(start: Value, count: int) -> Callable[[Value, Values], Values]:
        def one(number: Value, _: Values) -> Values:
            some(e.add(start, e.multiply(number, count)), count)
            return []

        return one

    e.loop(fours, [], at(begin, GROUP))
    e.loop(e.add(end, e.negate(rest)), [], at(rest, 1))


def pixel_address(e: ByteEmitter, block: Value, pixel: Value) -> Value:
    """Address of a pixel of a block."""
    return e.add(block, e.multiply(pixel, LANES))
