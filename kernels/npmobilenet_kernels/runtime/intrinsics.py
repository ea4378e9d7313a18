"""Intrinsics that Numba lacks: memory access by address, calls of micro-kernels, and atomic operations.

Each is one or two LLVM instructions. Addresses and values are int64.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending
from numba.core import types

from npmobilenet_kernels.microkernels.emitter import I64, POINTER, Value, Values, declared

X86 = platform.machine().lower() in ("x86_64", "amd64")
YIELD = "SwitchToThread" if sys.platform == "win32" else "sched_yield"


def intrinsic(emit: Callable[..., Any]) -> Any:
    """Numba's decorator, typed so that callers in compiled code pass no typing context."""
    return extending.intrinsic(emit)


@intrinsic
def call(typing: Any, address: Any, arguments: Any) -> Any:
    """Call the micro-kernel at `address` with a tuple of integers."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, given: Values) -> Value:
        packed = [builder.extract_value(given[1], i) for i in range(len(arguments.types))]
        values = [context.cast(builder, v, t, types.int64) for v, t in zip(packed, arguments.types, strict=True)]
        kind = ir.FunctionType(ir.VoidType(), [I64] * len(values))
        builder.call(builder.inttoptr(given[0], kind.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), codegen


@intrinsic
def read(typing: Any, table: Any, index: Any) -> Any:
    """table[index] of the int64 table at the address `table`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Values) -> Value:
        pointer = builder.inttoptr(values[0], POINTER)
        return builder.load(builder.gep(pointer, [values[1]], source_etype=I64), typ=I64)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def write(typing: Any, table: Any, index: Any, value: Any) -> Any:
    """table[index] = value in the int64 table at the address `table`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Values) -> Value:
        pointer = builder.inttoptr(values[0], POINTER)
        builder.store(values[2], builder.gep(pointer, [values[1]], source_etype=I64))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def load_acquire(typing: Any, address: Any) -> Any:
    """The int64 at `address`, and with it all that the thread wrote before which stored it (acquire)."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Values) -> Value:
        return builder.load_atomic(builder.inttoptr(values[0], POINTER), "acquire", 8, typ=I64)

    return types.int64(types.int64), codegen


@intrinsic
def fetch_add(typing: Any, address: Any, amount: Any) -> Any:
    """Add to the int64 at `address` atomically, and return its previous value (acquire and release)."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Values) -> Value:
        return builder.atomic_rmw("add", builder.inttoptr(values[0], POINTER), values[1], "acq_rel")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def pause(typing: Any) -> Any:
    """Spin-wait hint to the core (x86; nothing elsewhere)."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Values) -> Value:
        if X86:
            builder.call(declared(builder.module, "llvm.x86.sse2.pause", ir.FunctionType(ir.VoidType(), [])), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def sched_yield(typing: Any) -> Any:
    """Offer the core to another thread of the operating system."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Values) -> Value:
        builder.call(declared(builder.module, YIELD, ir.FunctionType(ir.IntType(32), [])), [])
        return context.get_dummy_value()

    return types.void(), codegen
