"""The emitter of instructions on bytes: products, requantization, packing.

A vector is 16 channels on every CPU, as 16 sums of 32 bits; LLVM splits it where registers are narrower. Four bytes of
a pixel times four weights of each of 16 channels are one `dot`:

    acc[c] += u[0] s[c, 0] + u[1] s[c, 1] + u[2] s[c, 2] + u[3] s[c, 3]          u unsigned, s signed
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llvmlite import ir

from npmobilenet_kernels.microkernels.emitter import I8, I32, I64, Emit, Emitter, Value, Values, declared, module_of
from npmobilenet_kernels.runtime.cpu import ByteTarget

LANES = 16  # channels of a vector
GROUP = 4  # bytes of one dot
VECTOR = LANES * GROUP  # bytes of a vector of weights, or of four pixels
I16 = ir.IntType(16)
I1 = ir.IntType(1)
F64 = ir.DoubleType()


def vector_of(kind: Any, lanes: int) -> Any:
    """Type of a vector."""
    return ir.VectorType(kind, lanes)


BYTES, INTS, LONGS = vector_of(I8, VECTOR), vector_of(I32, LANES), vector_of(I64, LANES // 2)


class ByteEmitter(Emitter):
    """Builder of one LLVM function on bytes.

    Args:
        builder: llvmlite's IRBuilder.
        target: the CPU.
    """

    def __init__(self, builder: ir.IRBuilder, target: ByteTarget) -> None:
        super().__init__(builder, LANES)
        self.target = target

    def remainder(self, count: Value, divisor: Value | int) -> Value:
        """count % divisor of numbers that are not negative."""
        return self.builder.srem(count, self._value(divisor))

    def subtract(self, left: Value, right: Value) -> Value:
        """left - right."""
        return self.builder.sub(left, right)

    def leading_zeros(self, value: Value) -> Value:
        """Zeros before the first one of a positive number of 32 bits."""
        kind = ir.FunctionType(I64, [I64, I1])
        zeros = self.builder.call(declared(self.builder.module, "llvm.ctlz.i64", kind), [value, ir.Constant(I1, 1)])
        return self.add(zeros, -32)

    def smaller(self, left: Value, right: Value) -> Value:
        """min(left, right)."""
        return self.where(self.compare("<", left, right), left, right)

    def shifted_left(self, value: Value, bits: Value) -> Value:
        """value << bits, fewer than 64."""
        return self.builder.shl(value, bits)

    # Memory

    def load_as(self, kind: Any, address: Value, offset: int = 0) -> Value:
        """A value of any type, wherever it lies."""
        return self.builder.load(self._pointer(address, offset), typ=kind, align=1)

    def store_any(self, value: Value, address: Value, offset: int = 0) -> None:
        """Write a value of any type."""
        self.builder.store(value, self._pointer(address, offset), align=1)

    def load_bytes(self, address: Value, offset: int = 0) -> Value:
        """64 bytes."""
        return self.load_as(BYTES, address, offset)

    def splat_group(self, address: Value, offset: int = 0) -> Value:
        """Four bytes, 16 times."""
        return self.builder.bitcast(self.splat_int(address, offset), BYTES)

    def splat_int(self, address: Value, offset: int = 0) -> Value:
        """The integer of 32 bits at address + offset, in every lane."""
        return self.spread(self.load_as(I32, address, offset), LANES)

    def spread(self, scalar: Value, lanes: int) -> Value:
        """A scalar in every lane."""
        kind = vector_of(scalar.type, lanes)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
        return self._shuffled(one, [0] * lanes)

    def ints(self, value: int) -> Value:
        """The integer `value` in every lane."""
        return ir.Constant(INTS, [value] * LANES)

    def longs(self, value: int) -> Value:
        """The integer `value` in eight lanes of 64 bits."""
        return ir.Constant(LONGS, [value] * (LANES // 2))

    def flipped(self, x: Value, bits: Value) -> Value:
        """x with some bits turned over."""
        return self.builder.xor(x, bits)

    def first_lane(self, x: Value) -> Value:
        """Lane 0 as a scalar."""
        return self.builder.extract_element(x, ir.Constant(I32, 0))

    def store_lane(self, x: Value, lane: Value, address: Value) -> Values:
        """Write one lane, chosen at run time; returns no values, as a loop's body does."""
        self.store_any(self.builder.extract_element(x, self.builder.trunc(lane, I32)), address)
        return []

    def quad_sums(self, x: Value) -> Value:
        """Sums of four neighboring lanes each, of 16 integers."""
        quarters = [self._shuffled(x, [GROUP * lane + part for lane in range(LANES // GROUP)]) for part in range(GROUP)]
        return self.builder.add(self.builder.add(*quarters[:2]), self.builder.add(*quarters[2:]))

    def all_bytes(self, value: int) -> Value:
        """The byte `value` 64 times."""
        return ir.Constant(BYTES, [value] * VECTOR)

    def load_masked(self, address: Value, mask: Value, otherwise: Value) -> Value:
        """64 bytes at an address, of which only those in a mask of 64 bits are read; `otherwise` where it has none."""
        name = "llvm.masked.load.v64i8.p0"
        pointer = self._pointer(address, 0)
        kind = ir.FunctionType(BYTES, [pointer.type, I32, vector_of(I1, VECTOR), BYTES])
        bits = self.builder.bitcast(mask, vector_of(I1, VECTOR))
        return self.builder.call(
            declared(self.builder.module, name, kind), [pointer, ir.Constant(I32, 1), bits, otherwise]
        )

    # Products

    def start(self, bias: Value) -> Value:
        """Sums of no products yet, of 16 channels' bias."""
        if self.target.dot.startswith("vnni"):
            return bias
        order = [lane // 2 if lane % 2 == 0 else LANES for lane in range(2 * LANES)]
        mask = ir.Constant(vector_of(I32, 2 * LANES), order)
        return self.builder.shuffle_vector(bias, self.ints(0), mask)

    def dot(self, sums: Value, u: Value, s: Value) -> Value:
        """sums + the products of 64 unsigned bytes u and 64 signed bytes s, four to a channel."""
        match self.target.dot:
            case "vnni512":
                return self._vpdpbusd(512, sums, u, s)
            case "vnni256":
                halves = [self._vpdpbusd(256, *(self.part(x, half, 2) for x in (sums, u, s))) for half in range(2)]
                return self.joined(halves)
            case "maddwd":
                return self.builder.add(sums, self._pairs(u, s))
            case _:
                return self.builder.add(sums, self._widened(u, s))

    def total(self, sums: Value) -> Value:
        """Sums of 16 channels: `dot` may keep two per channel."""
        if sums.type.count == LANES:
            return sums
        halves = [self._shuffled(sums, [2 * lane + half for lane in range(LANES)]) for half in range(2)]
        return self.builder.add(*halves)

    def _vpdpbusd(self, bits: int, sums: Value, u: Value, s: Value) -> Value:
        kind = vector_of(I32, bits // 32)
        function = declared(self.builder.module, f"llvm.x86.avx512.vpdpbusd.{bits}", ir.FunctionType(kind, [kind] * 3))
        return self.builder.call(function, [sums, *(self.builder.bitcast(x, kind) for x in (u, s))])

    def _pairs(self, u: Value, s: Value) -> Value:
        """Sums of two products each, (32,), by vpmaddwd."""
        name, lanes = ("llvm.x86.avx2.pmadd.wd", 16) if self.target.needs else ("llvm.x86.sse2.pmadd.wd", 8)
        kind = ir.FunctionType(vector_of(I32, lanes // 2), [vector_of(I16, lanes)] * 2)
        function = declared(self.builder.module, name, kind)
        parts = VECTOR // lanes
        sums = []
        for number in range(parts):
            wide = vector_of(I16, lanes)
            a = self.builder.zext(self.part(u, number, parts), wide)
            b = self.builder.sext(self.part(s, number, parts), wide)
            sums.append(self.builder.call(function, [a, b]))
        return self.joined(sums)

    def _widened(self, u: Value, s: Value) -> Value:
        """Sums of two products each, (32,), by ordinary multiplications."""
        wide = vector_of(I32, VECTOR)
        products = self.builder.mul(self.builder.zext(u, wide), self.builder.sext(s, wide))
        halves = [self._shuffled(products, [2 * lane + half for lane in range(2 * LANES)]) for half in range(2)]
        return self.builder.add(*halves)

    # Shuffles

    def part(self, x: Value, number: int, parts: int) -> Value:
        """One of several equal parts of a vector."""
        lanes = x.type.count // parts
        return self._shuffled(x, range(number * lanes, (number + 1) * lanes))

    def joined(self, parts: Sequence[Value]) -> Value:
        """Vectors one after another; their number is a power of two."""
        if len(parts) == 1:
            return parts[0]
        lanes = parts[0].type.count
        pairs = [
            self.builder.shuffle_vector(a, b, ir.Constant(vector_of(I32, 2 * lanes), list(range(2 * lanes))))
            for a, b in zip(parts[::2], parts[1::2], strict=True)
        ]
        return self.joined(pairs)

    def by_channel(self, pixels: Value) -> Value:
        """Four pixels of 16 channels, (4, 16) bytes, as 16 channels of four pixels, (16, 4)."""
        return self._shuffled(pixels, [LANES * (place % GROUP) + place // GROUP for place in range(VECTOR)])

    # Conversions

    def to_float(self, x: Value) -> Value:
        """Integers as floats."""
        return self.builder.sitofp(x, self.vector)

    def nearest(self, x: Value) -> Value:
        """The nearest integers of 32 bits to floats, halves to even."""
        x86 = {"vnni512": 16, "vnni256": 8, "maddwd": 8 if self.target.needs else 4}
        lanes = x86.get(self.target.dot)
        if lanes == 16:
            return self._nearest_16(x)
        if lanes is None:
            kind = ir.FunctionType(self.vector, [self.vector])
            rounded = self.builder.call(declared(self.builder.module, "llvm.rint.v16f32", kind), [x])
            return self.builder.fptosi(rounded, INTS)
        name = {8: "llvm.x86.avx.cvt.ps2dq.256", 4: "llvm.x86.sse2.cvtps2dq"}[lanes]
        part = ir.FunctionType(vector_of(I32, lanes), [vector_of(x.type.element, lanes)])
        function = declared(self.builder.module, name, part)
        parts = LANES // lanes
        return self.joined([self.builder.call(function, [self.part(x, number, parts)]) for number in range(parts)])

    def _nearest_16(self, x: Value) -> Value:
        name = "llvm.x86.avx512.mask.cvtps2dq.512"
        kind = ir.FunctionType(INTS, [self.vector, INTS, I16, I32])
        arguments = [x, self.ints(0), ir.Constant(I16, -1), ir.Constant(I32, 4)]  # all lanes; the current rounding
        return self.builder.call(declared(self.builder.module, name, kind), arguments)

    def even_lanes(self, x: Value) -> Value:
        """Lanes 0, 2, ... of 16 integers, with their sign in 64 bits."""
        wide, bits = self.builder.bitcast(x, LONGS), self.longs(32)
        return self.builder.ashr(self.builder.shl(wide, bits), bits)

    def odd_lanes(self, x: Value) -> Value:
        """Lanes 1, 3, ... of 16 integers, with their sign in 64 bits."""
        return self.builder.ashr(self.builder.bitcast(x, LONGS), self.longs(32))

    def interleaved(self, even: Value, odd: Value) -> Value:
        """The low halves of eight even and eight odd lanes of 64 bits, as 16 integers."""
        return self.blended(even, self.builder.shl(odd, self.longs(32)))

    def blended(self, even: Value, odd: Value) -> Value:
        """The low halves of eight lanes of 64 bits, and the high halves of eight others, as 16 integers."""
        low, high = (self.builder.bitcast(x, INTS) for x in (even, odd))
        order = [lane if lane % 2 == 0 else LANES + lane for lane in range(LANES)]
        return self.builder.shuffle_vector(low, high, ir.Constant(INTS, order))

    def high_halves(self, even: Value, odd: Value) -> Value:
        """The high halves of eight even and eight odd lanes of 64 bits, as 16 integers."""
        order = [lane + 1 if lane % 2 == 0 else LANES + lane for lane in range(LANES)]
        low, high = (self.builder.bitcast(x, INTS) for x in (even, odd))
        return self.builder.shuffle_vector(low, high, ir.Constant(INTS, order))

    # Packing

    def clip_signed(self, x: Value, low: Value, high: Value) -> Value:
        """min(max(x, low), high) of integers."""
        raised = self.builder.select(self.builder.icmp_signed("<", x, low), low, x)
        return self.builder.select(self.builder.icmp_signed(">", raised, high), high, raised)

    def packed(self, pixels: Sequence[Value], limits: Value) -> Value:
        """Four pixels' steps of 16 channels as bytes: zero point added, clipped, pixel after pixel.

        Args:
            pixels: four vectors of 16 integers.
            limits: address of the zero point as 32 int16, the least byte 64 times, and the largest byte 64 times.
        """
        if self.target.dot == "vnni512":
            return self._packed_512(pixels, limits)
        zero = self.builder.sext(self.load_as(vector_of(I16, LANES), limits), INTS)
        low, high = (self.builder.zext(self.load_as(vector_of(I8, LANES), limits, 64 * n), INTS) for n in (1, 2))
        clipped = [self.clip_signed(self._plus_zero(x, zero), low, high) for x in pixels]
        return self.joined([self.builder.trunc(x, vector_of(I8, LANES)) for x in clipped])

    def limits(self, address: Value) -> tuple[Value, Value, Value]:
        """Zero points and limits in registers, to be given to `packed` instead of their address with AVX-512."""
        shorts = self.load_as(vector_of(I16, 2 * LANES), address)
        return shorts, self.load_bytes(address, VECTOR), self.load_bytes(address, 2 * VECTOR)

    def _plus_zero(self, x: Value, zero: Value) -> Value:
        """x + zero, of integers that 16 bits hold: beyond them the result is clipped anyway."""
        return self.builder.add(self.clip_signed(x, self.ints(-(2**15)), self.ints(2**15 - 1)), zero)

    def _packed_512(self, pixels: Sequence[Value], limits: Value) -> Value:
        """By vpackssdw and vpackuswb, which take four channels of each pixel at a time, and one vpermd."""
        shorts = vector_of(I16, 2 * LANES)
        pack_ints = self._binary("llvm.x86.avx512.packssdw.512", shorts, INTS)
        plus = self._binary("llvm.sadd.sat.v32i16", shorts, shorts)
        pack_shorts = self._binary("llvm.x86.avx512.packuswb.512", BYTES, shorts)
        zero, low, high = limits if isinstance(limits, tuple) else self.limits(limits)
        pairs = [plus(pack_ints(a, b), zero) for a, b in zip(pixels[::2], pixels[1::2], strict=True)]
        q = pack_shorts(*pairs)
        q = self.builder.select(self.builder.icmp_unsigned("<", q, low), low, q)
        q = self.builder.select(self.builder.icmp_unsigned(">", q, high), high, q)
        order = [GROUP * (place % GROUP) + place // GROUP for place in range(LANES)]
        return self.builder.bitcast(self._shuffled(self.builder.bitcast(q, INTS), order), BYTES)

    def _binary(self, name: str, result: Any, operand: Any) -> Callable[[Value, Value], Value]:
        function = declared(self.builder.module, name, ir.FunctionType(result, [operand] * 2))
        return lambda a, b: self.builder.call(function, [a, b])

    def store_pixels(self, q: Value, count: int, address: Value, table: Value) -> None:
        """Store `count` of four pixels, each byte replaced by that of a table of 256, unless its address is 0."""
        if self.target.dot == "vnni512":
            found = self.choose(self.compare("!=", table, 0), lambda: [self._looked_up(q, table)], lambda: [q])
            self._store_first(found[0], count, address)
            return

        def as_they_are() -> Values:
            self._store_first(q, count, address)
            return []

        self.choose(self.compare("!=", table, 0), lambda: self._store_looked_up(q, count, address, table), as_they_are)

    def _store_looked_up(self, q: Value, count: int, address: Value, table: Value) -> Values:
        """Store table[q] byte by byte: nothing but results, since tiles of two threads may overlap."""
        with self.builder.goto_entry_block():
            place = self.builder.ptrtoint(self.builder.alloca(BYTES), I64)
        self.store_any(q, place)

        def one_byte(index: Value, _: Values) -> Values:
            byte = self.builder.zext(self.load_as(I8, self.add(place, index)), I64)
            self.store_any(self.load_as(I8, self.add(table, byte)), self.add(address, index))
            return []

        return self.loop(count * LANES, [], one_byte)

    def _store_first(self, q: Value, count: int, address: Value) -> None:
        place = 0
        for pixels in (4, 2, 1):
            if count & pixels:
                part = self._shuffled(q, range(place * LANES, (place + pixels) * LANES))
                self.store_any(part, address, place * LANES)
                place += pixels

    def _looked_up(self, q: Value, table: Value) -> Value:
        """table[q] by two permutations of 128 bytes each."""
        name = "llvm.x86.avx512.vpermi2var.qi.512"
        function = declared(self.builder.module, name, ir.FunctionType(BYTES, [BYTES] * 3))
        quarters = [self.load_as(BYTES, table, VECTOR * n) for n in range(4)]
        low, high = (self.builder.call(function, [a, q, b]) for a, b in (quarters[:2], quarters[2:]))
        is_high = self.builder.icmp_signed("<", q, ir.Constant(BYTES, [0] * VECTOR))
        return self.builder.select(is_high, high, low)


def build_byte_module(kernels: Mapping[str, Emit], target: ByteTarget) -> str:
    """LLVM assembly of a module with one function per kernel on bytes; see `emitter.module_of`."""
    return module_of(kernels, lambda builder: ByteEmitter(builder, target))
