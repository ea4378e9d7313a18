"""Peak rates of the CPU: multiply-adds from registers, and memory reads, each as a burst of work to be timed.

They put a kernel's speed into proportion: a layer at half the peak may be badly written, or bound by memory. Together
they are the roofline (Williams, Waterman & Patterson 2009).
"""

from __future__ import annotations

import ctypes
import functools
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from inspect import signature

import numpy as np

from npmobilenet_kernels.microkernels.emitter import FLOAT_BYTES, Emit, Emitter, Value, Values
from npmobilenet_kernels.runtime.codegen import compile_tiles
from npmobilenet_kernels.runtime.cpu import host_target
from npmobilenet_kernels.runtime.native import load
from npmobilenet_kernels.runtime.packing import Floats

SUMS = 12  # independent sums: two multiply-adds may start per cycle, and each has a latency of four or five
UNROLL = 4  # multiply-adds per sum and round, so that the loop counter costs nothing
FLOATS = SUMS + 2  # vectors that the kernel reads: factor, term, and the initial value of every sum
ROUNDS = 200_000  # of multiply-adds per burst: two milliseconds, much longer than it takes to wake the threads
READ_UNROLL = 16  # vectors read per round
BURST_BYTES = 1 << 24  # minimum that a thread reads per burst


@dataclass(frozen=True)
class Burst:
    """A known amount of work for all threads at once.

    Attributes:
        run: executes it.
        amount: FLOPs (two per multiply-add) or bytes.
    """

    run: Callable[[], object]
    amount: int


def arithmetic(threads: int) -> Burst:
    """Multiply-adds from registers, on every thread."""
    width = host_target().width
    values = np.full((threads, FLOATS, width), 0.5, np.float32)  # s = s / 2 + 1 / 2 converges to 1, never to a denormal
    values[:, 2:] = np.arange(2, FLOATS)[:, None]

    def work(thread: int) -> None:
        _compiled(multiply_adds)(values[thread].ctypes.data, ROUNDS)

    return _burst(work, threads, threads * ROUNDS * UNROLL * SUMS * 2 * width)


def reading(threads: int, size: int) -> Burst:
    """Repeated reads of `size` bytes, split over the threads: from the cache that holds them, or from memory."""
    width = host_target().width
    rounds = -(-size // (threads * READ_UNROLL * width * FLOAT_BYTES))
    values = np.ones((threads, rounds * READ_UNROLL * width), np.float32)  # ones, since untouched zeros share one page
    totals: Floats = np.zeros((threads, width), np.float32)
    once = values[0].nbytes
    passes = -(-BURST_BYTES // once)

    def work(thread: int) -> None:
        _compiled(read_all)(values[thread].ctypes.data, rounds, passes, totals[thread].ctypes.data)

    return _burst(work, threads, threads * passes * once)


def multiply_adds(e: Emitter, values: Value, rounds: Value) -> None:
    """SUMS * UNROLL multiply-adds per round, s = s * factor + term, none of which waits for memory.

    The sum itself is multiplied, so that nothing can be hoisted out of the loop, even if a multiply-add is two
    instructions.

    Args of the kernel:
        values: FLOATS vectors; the sums are written back to the last SUMS of them.
        rounds: number of rounds.
    """
    factor, term = e.load(values), e.load(values, e.bytes)

    def one_round(_: Value, sums: Values) -> Values:
        for _ in range(UNROLL):
            sums = [e.fma(s, factor, term) for s in sums]
        return sums

    starts = [e.load(values, i * e.bytes) for i in range(2, FLOATS)]
    for i, s in enumerate(e.loop(rounds, starts, one_round), start=2):
        e.store(s, values, i * e.bytes)


def read_all(e: Emitter, values: Value, rounds: Value, passes: Value, total: Value) -> None:
    """Sum a piece of memory, repeatedly.

    Args of the kernel:
        values: its address, of rounds * READ_UNROLL vectors; rounds: READ_UNROLL vectors are read in each.
        passes: number of times that all of it is read.
        total: address of the sum, one vector.
    """

    def one_round(_: Value, carried: Values) -> Values:
        address, *sums = carried
        for d in range(READ_UNROLL):
            sums[d % SUMS] = e.plus(sums[d % SUMS], e.load(address, d * e.bytes))
        return [e.add(address, READ_UNROLL * e.bytes), *sums]

    def one_pass(_: Value, sums: Values) -> Values:
        return e.loop(rounds, [values, *sums], one_round)[1:]

    first, *others = e.loop(passes, [e.constant(0)] * SUMS, one_pass)
    for s in others:
        first = e.plus(first, s)
    e.store(first, total)


def _burst(work: Callable[[int], None], threads: int, amount: int) -> Burst:
    pool = ThreadPoolExecutor(threads)
    return Burst(lambda: deque(pool.map(work, range(threads)), maxlen=0), amount)


@functools.cache
def _compiled(emit: Emit) -> Callable[..., None]:
    chosen, name = host_target(), f"npmobilenet_{emit.__name__}"
    address = load(compile_tiles({name: emit}, chosen), [name])[name]
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * (len(signature(emit).parameters) - 1))(address)
