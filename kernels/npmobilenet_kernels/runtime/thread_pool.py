"""Thread pool: the threads that compute one network together.

Why not `parallel=True`: Numba's own threading layers abort the process when two callers meet (workqueue), die after a
fork (OpenMP), or are one dependency more (TBB). Here each worker is a Python thread that makes one native call for the
whole network, without the interpreter's lock; the workers meet at barriers inside that call (`work_stealing`).

One caller at a time has the pool. A caller that finds it busy computes alone, with bit-exact results.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from npmobilenet_kernels.runtime.job import CANCELLED, LINE, Job

SPIN_LIMIT = 2000  # polls for the next job before a thread goes to sleep: a tenth of a millisecond
CHECK_SECONDS = 0.1  # interval at which a waiting caller checks that the workers are alive
MAX_THREADS = 1024  # that a caller may ask for
SHUT_DOWN = "shut down"
LOST = "a worker thread ended before its part was done; the next call starts a new thread pool"

Run = Callable[[int, int, int, int], int]
Task = Callable[[int], object]
Queue = SimpleQueue[Task | str | None]


class ThreadPool:
    """Daemon threads that wait for work; worker 0 is the calling thread.

    After a job a thread spins for the next one for a moment, inside the native call, and only then sleeps: small
    networks are computed in less time than it takes to wake a thread.

    An exception may be raised between any two instructions: Ctrl-C in the main thread, a lack of memory anywhere. So a
    pool counts as idle only from the last line of one job to the first of the next, and one that is not idle is never
    used again. Its threads may still be computing then, so the memory that they use lives as long as they do.

    Args:
        size: workers, including the caller.
        run: `work_stealing.run`, compiled.

    Attributes:
        job: columns of `job.Job`. CALLS and BARRIER only grow, so that a worker that is slow to leave one call does not
            take part in the next.
    """

    def __init__(self, size: int, run: Run) -> None:
        self.size = size
        self.job = new_job(size)
        self._run = run
        self._calls = 0  # the value that Job.CALLS has, or is about to have
        self._is_idle = False
        self._in_use: object = None
        self._asleep: list[Queue] = []
        self._queues: list[Queue] = [SimpleQueue() for _ in range(size - 1)]

    def start(self) -> None:
        """Start the threads.

        Raises:
            RuntimeError: the system cannot start more threads.
        """
        for number, queue in enumerate(self._queues, start=1):
            name = f"npmobilenet-{number}"
            threading.Thread(target=self._serve, args=(queue, number), name=name, daemon=True).start()
        self._is_idle = True

    @property
    def is_idle(self) -> bool:
        """Whether every job so far was finished and no thread has ended."""
        return self._is_idle and not self.is_cancelled

    @property
    def is_cancelled(self) -> bool:
        """Whether the threads have been told to leave."""
        return bool(self.job[Job.BARRIER] < 0)

    def compute(self, *columns: int, in_use: object = None) -> None:
        """Compute one job on all workers.

        Any exception in this thread, such as an interrupt, cancels the job in the others.

        Args:
            columns: TABLE, STEPS, ARENA, SCRATCH, SCRATCH_BYTES and IMAGE of `job.Job`.
            in_use: owner of the memory at those addresses; it outlives the threads that work there.

        Raises:
            RuntimeError: a thread ended before its part was done.
        """
        try:
            self._is_idle = False
            self._in_use = in_use
            self.job[: Job.ARRIVED + 1] = (*columns, self.size, self.job[Job.BARRIER])
            for queue in self._wake():
                queue.put(None)
            if self._run(self.job.ctypes.data, 0, 0, 0) == CANCELLED:
                raise RuntimeError(LOST)
        except BaseException:
            self.cancel()
            raise
        self._in_use = None
        self._is_idle = True

    def for_each(self, work: Callable[[int], object], pieces: int) -> None:
        """Run work(0) ... work(pieces - 1), each on the next free worker, and return when all are done.

        Raises:
            The first exception that any of them raised; pieces not yet begun by then are skipped.
            RuntimeError: a thread ended before its part was done.
        """
        numbers = count()
        errors: list[BaseException] = []
        done: SimpleQueue[None] = SimpleQueue()

        def task(_: int) -> None:
            try:
                while not errors and not self.is_cancelled and (piece := next(numbers)) < pieces:
                    work(piece)
            except BaseException as error:
                errors.append(error)
            done.put(None)

        try:
            self._is_idle = False
            self.job[Job.STEPS], self.job[Job.THREADS] = 0, self.size
            self._wake()
            self._run(self.job.ctypes.data, 0, 0, 0)  # workers that spin for a job turn to their queues
            for queue in self._queues:
                queue.put(task)
            task(0)
            for _ in range(self.size):
                self._wait_for(done)
            if self.is_cancelled and not errors:
                raise RuntimeError(LOST)
        except BaseException:
            self.cancel()
            raise
        self._is_idle = True
        if errors:
            raise errors[0]

    def cancel(self) -> None:
        """Make the threads leave that compute or spin."""
        self.job[Job.BARRIER] = CANCELLED

    def shut_down(self) -> None:
        """End all threads, including those asleep."""
        self.cancel()
        for queue in self._queues:
            queue.put(SHUT_DOWN)

    def _wait_for(self, done: SimpleQueue[None]) -> None:
        while True:
            try:
                return done.get(timeout=CHECK_SECONDS)
            except Empty:
                if self.is_cancelled:
                    raise RuntimeError(LOST) from None

    def _wake(self) -> list[Queue]:
        """Count one more call; queues of the workers that are asleep, and no longer count as such."""
        self._calls += 1
        woken = []
        while self._asleep:
            woken.append(self._asleep.pop())
        return woken

    def _serve(self, queue: Queue, number: int) -> None:
        try:
            self._take_jobs(queue, number)
        finally:
            self.cancel()  # no thread may wait for one that has ended

    def _has_withdrawn(self, queue: Queue) -> bool:
        """Take this worker off the list of those asleep; False if a caller has already done so."""
        try:
            self._asleep.remove(queue)
        except ValueError:
            return False
        return True

    def _take_jobs(self, queue: Queue, number: int) -> None:
        address, calls = self.job.ctypes.data, 0
        while (result := self._run(address, number, calls, SPIN_LIMIT)) != CANCELLED:
            calls = abs(result)
            if result < 0:
                task = queue.get()
            else:
                self._asleep.append(queue)
                if self._calls > calls and self._has_withdrawn(queue):
                    continue  # the next job is about to begin
                task = queue.get()
                calls += task is not None
            if task == SHUT_DOWN:
                return
            if callable(task):
                task(number)


def new_job(threads: int = 1) -> NDArray[np.int64]:
    """Zeros for the columns of `job.Job`, aligned to a cache line."""
    columns = Job.SHARES + 2 * threads * LINE // 8
    memory = np.zeros(columns + LINE // 8, np.int64)
    skip = -memory.ctypes.data % LINE // 8
    return memory[skip : skip + columns]


class _Caller:
    """Holder of the pool, as long as this object is alive."""


class _SharedPool:
    """The pool of this process, made at its first use and again after a fork."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may predict while its own thread holds the lock
        self._caller: Callable[[], _Caller | None] = _no_caller
        self.pool: ThreadPool | None = None

    def acquire(self, caller: _Caller) -> bool:
        """Lend the pool to this caller; False if another one has it.

        An interrupt can keep any line of the caller from releasing it, but not its object from being collected.
        """
        with self._lock:
            if self._caller() is None:
                self._caller = weakref.ref(caller)
            return self._caller() is caller

    def release(self) -> None:
        """Make the pool available to the next caller."""
        self._caller = _no_caller

    def pool_of(self, size: int, run: Run) -> ThreadPool | None:
        """An idle pool for the caller that has acquired it, or None if no more threads can be started."""
        if self.pool is None or self.pool.size != size or not self.pool.is_idle:
            if self.pool is not None:
                self.pool.shut_down()
            self.pool = ThreadPool(size, run)
            try:
                self.pool.start()
            except RuntimeError:  # can't start new thread
                self.pool.shut_down()
                self.pool = None
        return self.pool


def _no_caller() -> None:
    return None


_shared = _SharedPool()


def _after_fork() -> None:
    global _shared
    _shared = _SharedPool()  # the threads stayed with the parent; its lock may be held


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def shared_pool(size: int, run: Run) -> Iterator[ThreadPool | None]:
    """The process's thread pool for the duration of a with block, or None: compute alone.

    None if one thread suffices, if another caller has the pool, or if no more threads can be started (the interpreter
    is shutting down).

    Args:
        size: maximum number of workers; never more than cores, for they would wait for each other in turn.
        run: `work_stealing.run`, compiled.
    """
    shared, caller = _shared, _Caller()
    size = min(size, available_cores())
    if size < 2 or sys.is_finalizing() or not shared.acquire(caller):
        yield None
        return
    try:
        yield shared.pool_of(size, run)
    finally:
        shared.release()


def available_cores() -> int:
    """Cores that this process may use: its affinity mask and its control group's quota, at least 1."""
    if sys.platform == "emscripten":  # Pyodide cannot start threads
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _quota() or cores))


@functools.cache
def _quota() -> int | None:
    """Cores that the control group grants, rounded up, or None if unlimited."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        folder = Path("/sys/fs/cgroup/cpu")
        try:
            limit, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        except OSError:
            return None
    if not limit.isdigit() or not period.isdigit() or int(period) == 0:  # "max", or -1: no limit
        return None
    return -(-int(limit) // int(period))
