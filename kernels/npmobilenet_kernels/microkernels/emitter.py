"""The emitter of vector instructions: the only file that knows how LLVM spells them.

Numba compiles Python loops well, but leaves the choice of vector registers to LLVM, which does not find the register
tile of a matrix product (see the ladder in `kernels/README.md`). So the micro-kernels are functions of an `Emitter`:
each call of a method adds one vector instruction to the function being built, and a kernel reads like its formula.

    acc[i] = e.fma(e.splat(a[i]), w, acc[i])            acc[i][:] += a[i] * w[:]

Addresses are 64-bit integers, in bytes. A vector has L = `width` lanes, floats: 16 with AVX-512, 8 with AVX2, 4 with
NEON or SSE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

from llvmlite import ir

F32 = ir.FloatType()
I64 = ir.IntType(64)
I32 = ir.IntType(32)
I8 = ir.IntType(8)
POINTER = ir.PointerType()
FLOAT_BYTES = 4
ADDRESS_BYTES = 8
ROUNDING = 1.5 * 2**23  # added to a small float, it leaves the nearest integer in the last bits

Value = Any  # llvmlite's ir.Value; its stubs are not typed
Values = list[Value]
Emit = Callable[..., None]


class Emitter:
    """Builder of one LLVM function out of vector instructions.

    Args:
        builder: llvmlite's IRBuilder, positioned at the next instruction.
        width: L, lanes of a vector.
    """

    def __init__(self, builder: ir.IRBuilder, width: int) -> None:
        self.builder = builder
        self.width = width
        self.vector = ir.VectorType(F32, width)
        self.bytes = width * FLOAT_BYTES

    def with_width(self, width: int) -> Emitter:
        """An emitter at the same position of the same function, for vectors of another width."""
        return Emitter(self.builder, width)

    # Integers and addresses

    def integer(self, value: int) -> Value:
        """The 64-bit constant `value`."""
        return ir.Constant(I64, value)

    def add(self, base: Value, offset: Value | int) -> Value:
        """base + offset; addresses are counted in bytes."""
        return self.builder.add(base, self._value(offset)) if not _is_zero(offset) else base

    def multiply(self, base: Value, factor: Value | int) -> Value:
        """base * factor."""
        return self.builder.mul(base, self._value(factor))

    def divide(self, count: Value, divisor: Value | int) -> Value:
        """count / divisor, rounded toward zero."""
        return self.builder.sdiv(count, self._value(divisor))

    def negate(self, value: Value) -> Value:
        """-value."""
        return self.builder.neg(value)

    def where(self, condition: Value, yes: Value, no: Value) -> Value:
        """`yes` if the condition holds, else `no`, without a branch."""
        return self.builder.select(condition, yes, no)

    def compare(self, relation: str, left: Value, right: Value | int) -> Value:
        """Signed comparison of two integers, `relation` one of < <= == != >= >."""
        return self.builder.icmp_signed(relation, left, self._value(right))

    def in_range(self, index: Value, count: Value) -> Value:
        """0 <= index < count, as one unsigned comparison."""
        return self.builder.icmp_unsigned("<", index, count)

    def _value(self, value: Value | int) -> Value:
        return self.integer(value) if isinstance(value, int) else value

    # Memory

    def load(self, address: Value, offset: int = 0) -> Value:
        """The vector at address + offset bytes."""
        return self.builder.load(self._pointer(address, offset), typ=self.vector, align=FLOAT_BYTES)

    def store(self, vector: Value, address: Value, offset: int = 0) -> None:
        """Write the vector to address + offset bytes."""
        self.builder.store(vector, self._pointer(address, offset), align=FLOAT_BYTES)

    def read(self, table: Value, index: int) -> Value:
        """table[index] of a table of 64-bit integers."""
        return self.builder.load(self._pointer(table, ADDRESS_BYTES * index), typ=I64)

    def splat(self, address: Value, offset: int = 0) -> Value:
        """The float at address + offset bytes, in every lane."""
        return self._spread(self.builder.load(self._pointer(address, offset), typ=F32, align=FLOAT_BYTES))

    def prefetch(self, address: Value, offset: int = 0) -> None:
        """Prefetch the cache line at address + offset bytes into the second-level cache; any address is allowed."""
        kind = ir.FunctionType(ir.VoidType(), [POINTER, *[I32] * 3])
        to_read, second, data = (ir.Constant(I32, value) for value in (0, 2, 1))
        function = declared(self.builder.module, "llvm.prefetch.p0", kind)
        self.builder.call(function, [self._pointer(address, offset), to_read, second, data])

    def constant(self, value: float) -> Value:
        """The number `value` in every lane."""
        return ir.Constant(self.vector, [ir.Constant(F32, value)] * self.width)

    def constant_from_memory(self, value: float) -> Value:
        """The number `value` in every lane, loaded at every use: for loops with more constants than registers.

        It is a variable, and as far as LLVM knows any store may change it. So it is not kept in a register for the
        whole loop nor, once registers run out, on the stack.
        """
        name = f"npmobilenet_{float(value).hex()}x{self.width}"
        variable = self.builder.module.globals.get(name)
        if variable is None:
            variable = ir.GlobalVariable(self.builder.module, self.vector, name)
            variable.initializer = self.constant(value)
            variable.linkage = "weak"
        return self.builder.load(variable, typ=self.vector)

    def _pointer(self, address: Value, offset: int) -> Value:
        pointer = self.builder.inttoptr(address, POINTER)
        return self.builder.gep(pointer, [self.integer(offset)], source_etype=I8) if offset else pointer

    def lane(self, vector: Value, number: int) -> Value:
        """Lane `number` of the vector, in every lane."""
        return self._shuffled(vector, [number] * self.width)

    def _shuffled(self, vector: Value, order: Sequence[int]) -> Value:
        mask = ir.Constant(ir.VectorType(I32, len(order)), list(order))
        return self.builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)

    def _spread(self, scalar: Value) -> Value:
        one = self.builder.insert_element(ir.Constant(self.vector, ir.Undefined), scalar, ir.Constant(I32, 0))
        return self.lane(one, 0)

    # Arithmetic

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, with one rounding if the CPU has the instruction, with two if not (SSE)."""
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fmuladd.v{self.width}f32"
        return self.builder.call(declared(self.builder.module, name, kind), [a, b, c])

    def plus(self, a: Value, b: Value) -> Value:
        """a + b in every lane."""
        return self.builder.fadd(a, b)

    def times(self, a: Value, b: Value) -> Value:
        """a * b in every lane."""
        return self.builder.fmul(a, b)

    def minus(self, a: Value, b: Value) -> Value:
        """a - b in every lane."""
        return self.builder.fsub(a, b)

    def over(self, a: Value, b: Value) -> Value:
        """a / b in every lane."""
        return self.builder.fdiv(a, b)

    def larger(self, a: Value, b: Value) -> Value:
        """max(a, b) in every lane; NaN if either is NaN, as with np.maximum."""
        takes_a = self.builder.or_(self.builder.fcmp_ordered(">", a, b), self.builder.fcmp_unordered("uno", a, a))
        return self.builder.select(takes_a, a, b)

    def less(self, a: Value, b: Value) -> Value:
        """Mask of the lanes with a < b; false for NaN."""
        return self.builder.fcmp_ordered("<", a, b)

    def magnitude(self, x: Value) -> Value:
        """|x| in every lane."""
        kind = ir.FunctionType(self.vector, [self.vector])
        return self.builder.call(declared(self.builder.module, f"llvm.fabs.v{self.width}f32", kind), [x])

    def power_of_two(self, n: Value) -> Value:
        """2**n for the integers n, -126 <= n <= 127, that floats of the size of `ROUNDING` hold in their last bits.

        A float's exponent is 127 + n, in the bits from 23 on.
        """
        integers = ir.VectorType(I32, self.width)
        shift, one = (ir.Constant(integers, [value] * self.width) for value in (23, 127 << 23))
        bits = self.builder.add(self.builder.shl(self.builder.bitcast(n, integers), shift), one)
        return self.builder.bitcast(bits, self.vector)

    def reduce_lanes(self, x: Value, combine: Callable[[Value, Value], Value]) -> Value:
        """All lanes of x, combined in a binary tree, in every lane of the result."""
        distance = self.width // 2
        while distance:
            x = combine(x, self._shuffled(x, [(lane + distance) % self.width for lane in range(self.width)]))
            distance //= 2
        return x

    def zero_extend(self, x: Value) -> Value:
        """x, which has at most `width` lanes, extended with zeros to all of them."""
        lanes = x.type.count
        if lanes == self.width:
            return x
        order = ir.Constant(ir.VectorType(I32, self.width), [min(lane, lanes) for lane in range(self.width)])
        return self.builder.shuffle_vector(x, ir.Constant(x.type, None), order)

    def interleave(self, x: Value, half: int) -> Value:
        """One half of x interleaved with itself: every lane of the lower (0) or upper (1) half twice."""
        return self._shuffled(x, [(half * self.width + lane) // 2 for lane in range(self.width)])

    def lane_mask(self, count: Value) -> Value:
        """Mask of the first `count` lanes, -2**31 <= count < 2**31, a condition for `where`; empty for count <= 0."""
        wide = ir.VectorType(I32, self.width)
        one = self.builder.insert_element(
            ir.Constant(wide, ir.Undefined), self.builder.trunc(count, I32), ir.Constant(I32, 0)
        )
        return self.builder.icmp_signed("<", ir.Constant(wide, list(range(self.width))), self.lane(one, 0))

    def clamp(self, x: Value, low: Value, high: Value) -> Value:
        """min(max(x, low), high); NaN stays NaN, as with np.maximum and np.minimum.

        Written as (low > x) ? low : x, which is exactly x86's maxps: no extra instruction for NaN.
        """
        raised = self.builder.select(self.builder.fcmp_ordered(">", low, x), low, x)
        return self.builder.select(self.builder.fcmp_ordered("<", high, raised), high, raised)

    # Control

    def loop(self, count: Value | int, carried: Sequence[Value], body: Callable[[Value, Values], Values]) -> Values:
        """A loop: body(index, carried), count times; the carried values stay in registers.

        Args:
            count: number of rounds, an integer value; none if it is negative.
            carried: initial values.
            body: emits one round and returns the values for the next.

        Returns:
            The carried values after the last round.
        """
        builder = self.builder
        before = builder.block
        head, inside, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(I64)
        phis = [builder.phi(value.type) for value in carried]
        for phi, value in zip([index, *phis], [self.integer(0), *carried], strict=True):
            phi.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", index, self._value(count)), inside, after)
        builder.position_at_end(inside)
        following = body(index, phis)
        for phi, value in zip([index, *phis], [self.add(index, 1), *following], strict=True):
            phi.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return phis

    def choose(self, condition: Value, yes: Callable[[], Values], no: Callable[[], Values]) -> Values:
        """A branch: the values of `yes` if the condition holds, else those of `no`; only that side runs."""
        builder = self.builder
        sides, after = (
            [builder.append_basic_block("yes"), builder.append_basic_block("no")],
            builder.append_basic_block("both"),
        )
        builder.cbranch(condition, *sides)
        ends, results = [], []
        for side, emit in zip(sides, (yes, no), strict=True):
            builder.position_at_end(side)
            results.append(emit())
            ends.append(builder.block)
            builder.branch(after)
        builder.position_at_end(after)
        phis = [builder.phi(value.type) for value in results[0]]
        for end, values in zip(ends, results, strict=True):
            for phi, value in zip(phis, values, strict=True):
                phi.add_incoming(value, end)
        return phis


def build_module(kernels: Mapping[str, Emit], width: int) -> str:
    """LLVM assembly of a module with one function per kernel, for vectors of `width` lanes; see `module_of`."""
    return module_of(kernels, lambda builder: Emitter(builder, width))


def module_of(kernels: Mapping[str, Emit], emitter: Callable[[ir.IRBuilder], Emitter]) -> str:
    """LLVM assembly of a module with one function per kernel, (int64, ...) -> void.

    Args:
        kernels: by symbol; emit(e, *values) emits the function body, `values` being the function's arguments.
        emitter: of one function, from its builder.

    Returns:
        LLVM assembly.
    """
    module = ir.Module("npmobilenet")
    for name, emit in kernels.items():
        arguments = len(signature(emit).parameters) - 1
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * arguments), name)
        function.attributes.add("nounwind")
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        emit(emitter(builder), *function.args)
        builder.ret_void()
    return str(module)


def declared(module: ir.Module, name: str, kind: ir.FunctionType) -> Value:
    """The module's declaration of an external function."""
    return module.globals.get(name) or ir.Function(module, kind, name)


def _is_zero(offset: Value | int) -> bool:
    return isinstance(offset, int) and offset == 0
