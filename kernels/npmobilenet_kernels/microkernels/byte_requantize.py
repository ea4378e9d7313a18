"""From sums of products to bytes: requantization by a record, and packing.

EXACT     ((acc << left) q + R - N [acc < 0]) >> T      any rule with a multiplier of 31 bits: it is in R, N, T
NARROW    (((acc q + R) >> 31) + n [acc < 0]) >> (T - 31)    the same without a left shift, in 32 bits
POSITIVE  ((acc q + R) >> 32) >> (T - 32)               the same where negative results are clipped, T > 32
FLOAT     rint(fma(float32(acc), k, o))                 where it has been proven equal, or is the rule
DOUBLE    float64(acc) M, halves away from zero         dense layers of TensorFlow Lite
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from npmobilenet_kernels.microkernels.byte_emitter import F64, INTS, LANES, LONGS, ByteEmitter, vector_of
from npmobilenet_kernels.microkernels.emitter import Value, Values
from npmobilenet_kernels.runtime.byte_packing import LINE, Part, Requantization


def rescaled(e: ByteEmitter, sums: Sequence[Value], record: Value, *, dense: bool = False) -> Values:
    """Steps of the output, 16 integers a vector.

    Args:
        e: the emitter.
        sums: accumulators of several pixels for the same 16 channels, bias included.
        record: address of the channels' record.
        dense: whether it may be of the kind DOUBLE.
    """
    kind = e.read(record, 0)

    def others() -> Values:
        return e.choose(e.compare("==", kind, Requantization.POSITIVE), positives, rarer)

    def positives() -> Values:
        return _positive(e, record)(sums)

    def rarer() -> Values:
        return e.choose(e.compare("==", kind, Requantization.FLOAT_SIGNED), signed_floats, rarest)

    def signed_floats() -> Values:
        return _float_signed(e, record)(sums)

    def rarest() -> Values:
        return e.choose(e.compare("==", kind, Requantization.NARROW), lambda: _narrow(e, record)(sums), general)

    def general() -> Values:
        exact = e.compare("==", kind, Requantization.EXACT)
        return e.choose(exact, integers, doubles) if dense else integers()

    def integers() -> Values:
        return _exact(e, sums, record)

    def doubles() -> Values:
        return [_double(e, acc, record) for acc in sums]

    return e.choose(e.compare("==", kind, Requantization.FLOAT), lambda: _float(e, record)(sums), others)


Steps = Callable[[Sequence[Value]], Values]  # from accumulators, as `rescaled`


def steps_with_constants(e: ByteEmitter, record: Value) -> list[tuple[Requantization, Callable[[], Steps]]]:
    """For the kinds that most records have: `rescaled` in two parts, of which the first loads the record's numbers.

    A loop that does the first part before it begins keeps the numbers in registers.
    """
    return [
        (Requantization.FLOAT, lambda: _float(e, record)),
        (Requantization.POSITIVE, lambda: _positive(e, record)),
        (Requantization.FLOAT_SIGNED, lambda: _float_signed(e, record)),
        (Requantization.NARROW, lambda: _narrow(e, record)),
    ]


def _float(e: ByteEmitter, record: Value) -> Steps:
    k, o = e.load(record, Part.K), e.load(record, Part.O)
    return lambda sums: [e.nearest(e.fma(e.to_float(acc), k, o)) for acc in sums]


def _float_signed(e: ByteEmitter, record: Value) -> Steps:
    k, positive, negative = (e.load(record, part) for part in (Part.K, Part.O, Part.O_NEGATIVE))
    limit = e.load_as(INTS, record, Part.MINUS_C)
    return lambda sums: [
        e.nearest(e.fma(e.to_float(acc), k, e.where(e.builder.icmp_signed("<", acc, limit), negative, positive)))
        for acc in sums
    ]


def _positive(e: ByteEmitter, record: Value) -> Steps:
    q, R = ([e.load_as(LONGS, record, part + LINE * odd) for odd in range(2)] for part in (Part.Q, Part.R))
    T = e.load_as(INTS, record, Part.T)

    def steps(sums: Sequence[Value]) -> Values:
        results = []
        for acc in sums:
            lanes = e.even_lanes(acc), e.odd_lanes(acc)
            products = [e.builder.add(e.builder.mul(x, q[odd]), R[odd]) for odd, x in enumerate(lanes)]
            results.append(e.builder.ashr(e.high_halves(*products), T))
        return results

    return steps


def _narrow(e: ByteEmitter, record: Value) -> Steps:
    q, R = ([e.load_as(LONGS, record, part + LINE * odd) for odd in range(2)] for part in (Part.Q, Part.R))
    N, T = (e.load_as(INTS, record, part) for part in (Part.N, Part.T))

    def steps(sums: Sequence[Value]) -> Values:
        results = []
        for acc in sums:
            lanes = e.even_lanes(acc), e.odd_lanes(acc)
            even, odd = (e.builder.add(e.builder.mul(x, q[odd]), R[odd]) for odd, x in enumerate(lanes))
            shifted = e.blended(e.builder.lshr(even, e.longs(31)), e.builder.shl(odd, e.longs(1)))
            negative = e.builder.and_(e.builder.ashr(acc, e.ints(31)), N)
            results.append(e.builder.ashr(e.builder.add(shifted, negative), T))
        return results

    return steps


def _exact(e: ByteEmitter, sums: Sequence[Value], record: Value) -> Values:
    left = e.load_as(INTS, record, Part.LEFT)
    constants = [
        [e.load_as(LONGS, record, part + LINE * odd) for part in (Part.Q, Part.R, Part.N, Part.T)] for odd in range(2)
    ]
    results = []
    for acc in sums:
        shifted = e.builder.shl(acc, left)
        halves = [
            _shifted_product(e, lanes, *own)
            for lanes, own in zip((e.even_lanes(shifted), e.odd_lanes(shifted)), constants, strict=True)
        ]
        results.append(e.interleaved(*halves))
    return results


def _shifted_product(e: ByteEmitter, a: Value, q: Value, R: Value, N: Value, T: Value) -> Value:
    """(a q + R + N [a q < 0]) >> T in 64 bits."""
    product = e.builder.mul(a, q)
    negative = e.builder.ashr(product, e.longs(63))
    rounding = e.builder.add(R, e.builder.and_(negative, N))
    return e.builder.ashr(e.builder.add(product, rounding), T)


def _double(e: ByteEmitter, acc: Value, record: Value) -> Value:
    """round(acc M): the whole part, and one more where the rest is a half or more."""
    halves = []
    lanes = LANES // 2
    kind = vector_of(F64, lanes)
    half = ir.Constant(kind, [ir.Constant(F64, 0.5)] * lanes)
    for number in range(2):
        M = e.load_as(kind, record, Part.M + LINE * number)
        product = e.builder.fmul(e.builder.sitofp(e.part(acc, number, 2), kind), M)
        integers = vector_of(INTS.element, lanes)
        whole = e.builder.fptosi(product, integers)
        rest = e.builder.fsub(product, e.builder.sitofp(whole, kind))
        up = e.builder.zext(e.builder.fcmp_ordered(">=", rest, half), integers)
        down = e.builder.zext(e.builder.fcmp_ordered("<=", rest, e.builder.fneg(half)), integers)
        halves.append(e.builder.sub(e.builder.add(whole, up), down))
    return e.joined(halves)


def store_channels(e: ByteEmitter, steps: Sequence[Value], limits: Value, table: Value, address: Value) -> None:
    """Write consecutive pixels of 16 channels: zero point added, clipped, and looked up in a table.

    Args:
        e: the emitter.
        steps: 16 integers for each pixel.
        limits, table: see `ByteEmitter.packed` and `ByteEmitter.store_pixels`.
        address: of the first pixel.
    """
    for first in range(0, len(steps), 4):
        four = list(steps[first : first + 4])
        count = len(four)
        q = e.packed(four + four[-1:] * (4 - count), limits)
        e.store_pixels(q, count, e.add(address, first * LANES), table)
