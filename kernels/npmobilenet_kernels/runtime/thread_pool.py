"""A small team of threads that compute one network together.

Why not `parallel=True`: Numba's own thread layers abort the process when two callers meet (workqueue), die after a
fork (OpenMP), or are one dependency more (TBB). Here each member is a Python thread that makes one native call for the
whole network, without the interpreter's lock; the members meet at barriers inside that call (`network.py`).

One caller at a time has the team. Whoever comes while it is busy computes alone, which gives the same bits.
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

PATIENCE = 2000  # looks for the next job before a thread goes to sleep: a tenth of a millisecond
ROLL_CALL = 0.1  # seconds after which whoever waits for the others sees whether they are still there
MOST = 1024  # threads that anybody may ask for
DISMISSED = "dismissed"
LOST = "a thread of the team ended before its part was done; the next call has a new team"

Run = Callable[[int, int, int, int], int]
Member = Callable[[int], object]


class Team:
    """Daemon threads that wait for work; member 0 is whoever calls.

    After a job a thread looks out for the next one for a moment, inside the native call, and only then sleeps: small
    networks are computed in less time than it takes to wake a thread.

    An exception may come between any two instructions: Ctrl-C in the main thread, a lack of memory anywhere. So a team
    counts as idle only from the last line of one job to the first of the next, and one that is not idle is never used
    again. Its threads may still be at work then, so the memory that they work in lives as long as they do.

    Args:
        size: members, the caller included.
        run: `network.run`, compiled.

    Attributes:
        job: columns of `steps.Job`. CALLS and BARRIER only grow, so that a member who is slow to leave one call is not
            caught by the next.
    """

    def __init__(self, size: int, run: Run) -> None:
        self.size = size
        self.job = new_job(size)
        self._run = run
        self._calls = 0  # what Job.CALLS is, or is about to be
        self._is_idle = False
        self._in_use: object = None
        self._asleep: list[SimpleQueue[Member | str | None]] = []
        self._desks: list[SimpleQueue[Member | str | None]] = [SimpleQueue() for _ in range(size - 1)]

    def start(self) -> None:
        """Start the threads.

        Raises:
            RuntimeError: the system grants no more of them.
        """
        for number, desk in enumerate(self._desks, start=1):
            threading.Thread(target=self._serve, args=(desk, number), name=f"npmobilenet-{number}", daemon=True).start()
        self._is_idle = True

    @property
    def is_idle(self) -> bool:
        """Whether every job so far was finished and no thread has ended."""
        return self._is_idle and not self.is_called_off

    @property
    def is_called_off(self) -> bool:
        """Whether the threads have been sent away."""
        return bool(self.job[Job.BARRIER] < 0)

    def together(self, *columns: int, in_use: object = None) -> None:
        """Compute one job: TABLE, STEPS, ARENA, SCRATCH, SCRATCH_BYTES and IMAGE of `steps.Job`.

        Whatever keeps this thread from its own part, an interrupt above all, calls the others off.

        Args:
            columns: of `steps.Job`.
            in_use: what owns the memory that they address; it outlives the threads that work there.

        Raises:
            RuntimeError: a thread ended before its part was done.
        """
        try:
            self._is_idle = False
            self._in_use = in_use
            self.job[: Job.ARRIVED + 1] = (*columns, self.size, self.job[Job.BARRIER])
            for desk in self._wake():
                desk.put(None)
            if self._run(self.job.ctypes.data, 0, 0, 0) == CANCELLED:
                raise RuntimeError(LOST)
        except BaseException:
            self.call_off()
            raise
        self._in_use = None
        self._is_idle = True

    def share(self, work: Callable[[int], object], pieces: int) -> None:
        """Run work(0) ... work(pieces - 1), each on whichever member is free, and return when all are done.

        Raises:
            The first exception that any of them raised; pieces that nobody has begun by then are left out.
            RuntimeError: a thread ended before its part was done.
        """
        numbers = count()
        errors: list[BaseException] = []
        done: SimpleQueue[None] = SimpleQueue()

        def member(_: int) -> None:
            try:
                while not errors and not self.is_called_off and (piece := next(numbers)) < pieces:
                    work(piece)
            except BaseException as error:
                errors.append(error)
            done.put(None)

        try:
            self._is_idle = False
            self.job[Job.STEPS], self.job[Job.THREADS] = 0, self.size
            self._wake()
            self._run(self.job.ctypes.data, 0, 0, 0)  # whoever looks out for a job turns to the desk
            for desk in self._desks:
                desk.put(member)
            member(0)
            for _ in range(self.size):
                self._wait_for(done)
            if self.is_called_off and not errors:
                raise RuntimeError(LOST)
        except BaseException:
            self.call_off()
            raise
        self._is_idle = True
        if errors:
            raise errors[0]

    def call_off(self) -> None:
        """Send the threads away that are at work or look out for it."""
        self.job[Job.BARRIER] = CANCELLED

    def dismiss(self) -> None:
        """Let all threads end, those that are asleep included."""
        self.call_off()
        for desk in self._desks:
            desk.put(DISMISSED)

    def _wait_for(self, done: SimpleQueue[None]) -> None:
        while True:
            try:
                return done.get(timeout=ROLL_CALL)
            except Empty:
                if self.is_called_off:
                    raise RuntimeError(LOST) from None

    def _wake(self) -> list[SimpleQueue[Member | str | None]]:
        """Count one more call; desks of the members who are asleep, and no longer count as such."""
        self._calls += 1
        woken = []
        while self._asleep:
            woken.append(self._asleep.pop())
        return woken

    def _serve(self, desk: SimpleQueue[Member | str | None], number: int) -> None:
        try:
            self._look_out(desk, number)
        finally:
            self.call_off()  # nobody shall wait for a thread that has ended

    def _is_up(self, desk: SimpleQueue[Member | str | None]) -> bool:
        """Whether a member who was about to sleep got up before anybody saw it at its desk."""
        try:
            self._asleep.remove(desk)
        except ValueError:
            return False
        return True

    def _look_out(self, desk: SimpleQueue[Member | str | None], number: int) -> None:
        address, seen = self.job.ctypes.data, 0
        while (result := self._run(address, number, seen, PATIENCE)) != CANCELLED:
            seen = abs(result)
            if result < 0:
                task = desk.get()
            else:
                self._asleep.append(desk)
                if self._calls > seen and self._is_up(desk):
                    continue  # the next job is about to begin
                task = desk.get()
                seen += task is not None
            if task == DISMISSED:
                return
            if callable(task):
                task(number)


def new_job(threads: int = 1) -> NDArray[np.int64]:
    """Zeros for the columns of `steps.Job`, from the beginning of a cache line on."""
    columns = Job.SHARES + 2 * threads * LINE // 8
    room = np.zeros(columns + LINE // 8, np.int64)
    skip = -room.ctypes.data % LINE // 8
    return room[skip : skip + columns]


class _Caller:
    """Whoever has the team, as long as this object lives."""


class _Office:
    """The team of this process, made when first needed and again after a fork."""

    def __init__(self) -> None:
        self._door = threading.RLock()  # a signal's handler may predict while its own thread is at the door
        self._caller: Callable[[], _Caller | None] = _nobody
        self.team: Team | None = None

    def admits(self, caller: _Caller) -> bool:
        """Whether the team is this caller's from now on.

        An interrupt can keep any line of the caller from telling that it has left, but not its object from dying.
        """
        with self._door:
            if self._caller() is None:
                self._caller = weakref.ref(caller)
            return self._caller() is caller

    def leave(self) -> None:
        """The team is the next caller's."""
        self._caller = _nobody

    def team_of(self, size: int, run: Run) -> Team | None:
        """An idle team, or None where no thread can be started any more; for who is admitted."""
        if self.team is None or self.team.size != size or not self.team.is_idle:
            if self.team is not None:
                self.team.dismiss()
            self.team = Team(size, run)
            try:
                self.team.start()
            except RuntimeError:  # can't start new thread
                self.team.dismiss()
                self.team = None
        return self.team


def _nobody() -> None:
    return None


_office = _Office()


def _after_fork() -> None:
    global _office
    _office = _Office()  # the threads stayed with the parent; its lock may have been taken


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def team(size: int, run: Run) -> Iterator[Team | None]:
    """The process's team for the length of a with block, or None: compute alone.

    None where one member suffices, where another caller has the team, or where no thread can be started any more
    (the interpreter is shutting down).

    Args:
        size: members, at most: never more than cores, for they would wait for each other by turns.
        run: `network.run`, compiled.
    """
    office, caller = _office, _Caller()
    size = min(size, available_cores())
    if size < 2 or sys.is_finalizing() or not office.admits(caller):
        yield None
        return
    try:
        yield office.team_of(size, run)
    finally:
        office.leave()


def available_cores() -> int:
    """Cores that this process may use: its affinity mask and its control group's quota, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _quota() or cores))


@functools.cache
def _quota() -> int | None:
    """Cores that the control group grants, rounded up, or None where it sets no limit."""
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
