"""Softmax of the bytes of one pixel: with their largest known, 256 exponentials; with the sum known, 256 results.

    y[c] = t[d],   d = max(x) - x[c],   t[d] from exp[d] / sum over c of exp[max(x) - x[c]]

The exponentials come with the plan. Scratch holds the 256 results.
"""

from __future__ import annotations

from collections.abc import Callable

from npmobilenet_kernels.drivers.byte_table import ByteField
from npmobilenet_kernels.microkernels.byte_emitter import INTS, LANES, LONGS, ByteEmitter, vector_of
from npmobilenet_kernels.microkernels.emitter import F32, FLOAT_BYTES, I8, I32, I64, Value, Values
from npmobilenet_kernels.runtime.byte_packing import LogitTable

BYTES = 256
EIGHT = LANES // 2
FORTY_EIGHT_17THS, THIRTY_TWO_17THS = 1515870810, 1010580540  # in Q2.29: Newton's first guess of 1 / x, 1/2 <= x <= 1
RESULT_BITS = 8
Body = Callable[[Value, Values], Values]


def softmax_fixed(
    e: ByteEmitter, step: Value, arena: Value, scratch: Value, image: Value, first: Value, last: Value
) -> None:
    """Emit gemmlowp's softmax in fixed point; a step has one unit.

    CONSTANTS: 256 exponentials in Q0.31, and what each adds to the sum, in Q12.19, of fewer than 4096 channels.
    """
    constants = e.read(step, ByteField.CONSTANTS)

    def one_unit(_: Value, __: Values) -> Values:
        x, largest = _input(e, step, arena)

        def add(d: Value, sums: Values) -> Values:
            place = e.add(constants, e.add(e.multiply(d, FLOAT_BYTES), BYTES * FLOAT_BYTES))
            return [e.add(sums[0], e.builder.sext(e.load_as(I32, place), I64))]

        (total,) = _over_channels(e, step, x, largest, [e.integer(0)], add)
        zeros = e.leading_zeros(total)
        reciprocal = e.spread(_reciprocal(e, e.builder.ashr(e.builder.shl(total, zeros), e.integer(1))), EIGHT)
        shift = e.add(e.negate(zeros), 12 + 31 - RESULT_BITS)
        half = e.spread(e.builder.shl(e.integer(1), e.add(shift, -1)), EIGHT)

        def eight(index: Value, _: Values) -> Values:
            place = e.add(constants, e.multiply(index, EIGHT * FLOAT_BYTES))
            exponentials = e.builder.sext(e.load_as(vector_of(I32, EIGHT), place), LONGS)
            products = e.builder.add(e.builder.mul(exponentials, reciprocal), e.longs(2**30))
            steps = e.builder.add(e.builder.ashr(products, e.longs(31)), half)
            steps = e.builder.ashr(steps, e.spread(shift, EIGHT))
            steps = e.builder.select(e.builder.icmp_signed(">", steps, e.longs(BYTES - 1)), e.longs(BYTES - 1), steps)
            e.store_any(e.builder.trunc(steps, vector_of(I8, EIGHT)), e.add(scratch, e.multiply(index, EIGHT)))
            return []

        e.loop(BYTES // EIGHT, [], eight)
        _look_up(e, step, arena, scratch, x, largest)
        return []

    e.loop(e.add(last, e.negate(first)), [], one_unit)


def softmax_table(
    e: ByteEmitter, step: Value, arena: Value, scratch: Value, image: Value, first: Value, last: Value
) -> None:
    """Emit the softmax of 256 exponentials in float32, added in the order of the channels; a step has one unit.

    CONSTANTS: as `byte_packing.LogitTable` places them.
    """
    constants = e.read(step, ByteField.CONSTANTS)

    def one_unit(_: Value, __: Values) -> Values:
        x, largest = _input(e, step, arena)

        def add(d: Value, sums: Values) -> Values:
            return [e.builder.fadd(sums[0], e.load_as(F32, e.add(constants, e.multiply(d, FLOAT_BYTES))))]

        zero = e.builder.sitofp(e.builder.trunc(e.integer(0), I32), F32)
        (total,) = _over_channels(e, step, x, largest, [zero], add)
        total = e.builder.fmul(total, e.load_as(F32, constants, LogitTable.SCALE))
        divisor, half = e.spread(total, LANES), e.constant(0.5)
        nearest = e.compare("!=", e.builder.zext(e.load_as(I32, constants, LogitTable.NEAREST), I64), 0)
        offset = e.splat_int(constants, LogitTable.ZERO)

        def sixteen(index: Value, _: Values) -> Values:
            p = e.over(e.load(e.add(constants, e.multiply(index, LANES * FLOAT_BYTES))), divisor)
            whole = e.builder.fptosi(p, INTS)
            rest = e.builder.fcmp_ordered(">=", e.minus(p, e.to_float(whole)), half)
            away = e.builder.add(whole, e.builder.zext(rest, INTS))
            steps = e.where(nearest, away, e.builder.fptosi(e.plus(p, half), INTS))
            steps = e.clip_signed(e.builder.add(steps, offset), e.ints(0), e.ints(BYTES - 1))
            e.store_any(e.builder.trunc(steps, vector_of(I8, LANES)), e.add(scratch, e.multiply(index, LANES)))
            return []

        e.loop(BYTES // LANES, [], sixteen)
        _look_up(e, step, arena, scratch, x, largest)
        return []

    e.loop(e.add(last, e.negate(first)), [], one_unit)


def _input(e: ByteEmitter, step: Value, arena: Value) -> tuple[Value, Value]:
    """Address of the pixel, and its largest byte."""
    x = e.add(arena, e.read(step, ByteField.SOURCE))

    def one(c: Value, carried: Values) -> Values:
        byte = _byte(e, x, c)
        return [e.where(e.compare(">", byte, carried[0]), byte, carried[0])]

    return x, e.loop(e.read(step, ByteField.CHANNELS), [e.integer(0)], one)[0]


def _over_channels(e: ByteEmitter, step: Value, x: Value, largest: Value, start: Values, body: Body) -> Values:
    """A loop over the channels: body(d, carried), d below the largest byte."""

    def one(c: Value, carried: Values) -> Values:
        return body(e.add(largest, e.negate(_byte(e, x, c))), carried)

    return e.loop(e.read(step, ByteField.CHANNELS), start, one)


def _look_up(e: ByteEmitter, step: Value, arena: Value, results: Value, x: Value, largest: Value) -> None:
    y = e.add(arena, e.read(step, ByteField.TARGET))

    def one(c: Value, _: Values) -> Values:
        d = e.add(largest, e.negate(_byte(e, x, c)))
        e.store_any(e.load_as(I8, e.add(results, d)), e.add(y, c))
        return []

    e.loop(e.read(step, ByteField.CHANNELS), [], one)


def _byte(e: ByteEmitter, x: Value, c: Value) -> Value:
    return e.builder.zext(e.load_as(I8, e.add(x, c)), I64)


def _product(e: ByteEmitter, a: Value, b: Value) -> Value:
    """a b / 2^31 to the nearest integer, halves up."""
    return e.builder.ashr(e.add(e.multiply(a, b), 2**30), e.integer(31))


def _reciprocal(e: ByteEmitter, half: Value) -> Value:
    """1 / (1 + a) in Q0.31 of (1 + a) / 2 in Q0.31, by three steps of Newton's iteration."""
    x = e.add(_product(e, half, e.integer(-THIRTY_TWO_17THS)), FORTY_EIGHT_17THS)
    for _ in range(3):
        error = e.add(e.negate(_product(e, half, x)), 2**29)
        x = e.add(x, _saturated(e, e.builder.shl(_product(e, x, error), e.integer(2))))
    return _saturated(e, e.builder.shl(x, e.integer(1)))


def _saturated(e: ByteEmitter, x: Value) -> Value:
    """x in 32 bits."""
    least, greatest = e.integer(-(2**31)), e.integer(2**31 - 1)
    raised = e.where(e.compare("<", x, least), least, x)
    return e.where(e.compare(">", raised, greatest), greatest, raised)
