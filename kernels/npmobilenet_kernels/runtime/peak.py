"""What the CPU can do at most: multiply-adds from registers, and reading memory, each as a burst of work to be timed.

A kernel's speed says little without them: a layer at half the peak may be badly written, or waiting for its weights.
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
from npmobilenet_kernels.runtime.cpu import lanes
from npmobilenet_kernels.runtime.native import compile_tiles, load
from npmobilenet_kernels.runtime.packing import Floats

SUMS = 12  # independent sums: two multiply-adds may start in a cycle, and each takes four to five
UNROLL = 4  # multiply-adds of every sum in a round, so that counting the rounds costs nothing
FLOATS = SUMS + 2  # vectors that the tile reads: factor, term, and where every sum starts
ROUNDS = 200_000  # of multiply-adds in a burst: two milliseconds, much longer than waking the threads takes
READ_UNROLL = 16  # vectors read in a round
BURST_BYTES = 1 << 24  # that a thread reads in a burst, at least


@dataclass(frozen=True)
class Burst:
    """A known amount of work for all threads at once.

    Attributes:
        run: does it.
        amount: FLOPs (two for a multiply-add) or bytes.
    """

    run: Callable[[], object]
    amount: int


def arithmetic(threads: int) -> Burst:
    """Multiply-adds from registers, on every thread."""
    width = lanes().width
    values = np.full((threads, FLOATS, width), 0.5, np.float32)  # s = s / 2 + 1 / 2 goes to 1, never to a denormal
    values[:, 2:] = np.arange(2, FLOATS)[:, None]

    def work(thread: int) -> None:
        _tile(multiply_adds)(values[thread].ctypes.data, ROUNDS)

    return _burst(work, threads, threads * ROUNDS * UNROLL * SUMS * 2 * width)


def reading(threads: int, size: int) -> Burst:
    """Reading `size` bytes over and over, a part on every thread: from the cache that holds so many, or from memory."""
    width = lanes().width
    rounds = -(-size // (threads * READ_UNROLL * width * FLOAT_BYTES))
    values = np.ones((threads, rounds * READ_UNROLL * width), np.float32)  # written: untouched zeros share one page
    totals: Floats = np.zeros((threads, width), np.float32)
    once = values[0].nbytes
    passes = -(-BURST_BYTES // once)

    def work(thread: int) -> None:
        _tile(read_all)(values[thread].ctypes.data, rounds, passes, totals[thread].ctypes.data)

    return _burst(work, threads, threads * passes * once)


def multiply_adds(e: Emitter, values: Value, rounds: Value) -> None:
    """SUMS * UNROLL multiply-adds a round, s = s * factor + term, none of which waits for memory.

    What is multiplied is the sum, so that no part can be computed ahead of the loop, also where a multiply-add is two
    instructions.

    Args of the tile:
        values: FLOATS vectors; the sums are written back to the last SUMS of them.
        rounds: how many.
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
    """Add up a piece of memory, again and again.

    Args of the tile:
        values: its address; rounds: READ_UNROLL vectors are read in each.
        passes: how often all of it is read.
        total: where the sum goes, one vector.
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
def _tile(emit: Emit) -> Callable[..., None]:
    chosen, name = lanes(), f"npmobilenet_{emit.__name__}"
    address = load(compile_tiles({name: emit}, chosen), [name])[name]
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * (len(signature(emit).parameters) - 1))(address)
