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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from npmobilenet_kernels.steps import CALLED_OFF, LINE, Job

PATIENCE = 2000  # looks for the next job before a thread goes to sleep: a tenth of a millisecond
DISMISSED = "dismissed"

Run = Callable[[int, int, int, int], int]
Member = Callable[[int], object]


class Team:
    """Daemon threads that wait for work; member 0 is whoever calls.

    After a job a thread looks out for the next one for a moment, inside the native call, and only then sleeps: small
    networks are computed in less time than it takes to wake a thread.

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
        self._asleep: list[SimpleQueue[Member | str | None]] = []
        self._falling_asleep = threading.Lock()
        self._desks: list[SimpleQueue[Member | str | None]] = [SimpleQueue() for _ in range(size - 1)]
        for number, desk in enumerate(self._desks, start=1):
            threading.Thread(target=self._serve, args=(desk, number), name=f"npmobilenet-{number}", daemon=True).start()

    @property
    def is_called_off(self) -> bool:
        """Whether an interrupted call has sent the threads away."""
        return bool(self.job[Job.BARRIER] < 0)

    def together(self, *columns: int) -> None:
        """Compute one job: TABLE, STEPS, ARENA, SCRATCH, SCRATCH_BYTES and IMAGE of `steps.Job`.

        Whatever keeps this thread from its own part, an interrupt above all, calls the others off.
        """
        try:
            self.job[: Job.ARRIVED + 1] = (*columns, self.size, self.job[Job.BARRIER])
            for desk in self._wake():
                desk.put(None)
            self._run(self.job.ctypes.data, 0, 0, 0)
        except BaseException:
            self.job[Job.BARRIER] = CALLED_OFF
            raise

    def share(self, work: Callable[[int], object], pieces: int) -> None:
        """Run work(0) ... work(pieces - 1), each on whichever member is free, and return when all are done.

        Raises:
            The first exception that any of them raised.
        """
        numbers = count()
        done: SimpleQueue[BaseException | None] = SimpleQueue()

        def member(_: int) -> None:
            try:
                while (piece := next(numbers)) < pieces:
                    work(piece)
            except BaseException as error:
                done.put(error)
            else:
                done.put(None)

        try:
            self.job[Job.STEPS], self.job[Job.THREADS] = 0, self.size
            self._wake()
            self._run(self.job.ctypes.data, 0, 0, 0)  # whoever looks out for a job turns to the desk
            for desk in self._desks:
                desk.put(member)
        except BaseException:
            self.job[Job.BARRIER] = CALLED_OFF
            raise
        member(0)
        errors = [done.get() for _ in range(self.size)]
        for error in errors:
            if error is not None:
                raise error

    def dismiss(self) -> None:
        """Let the threads end."""
        self.job[Job.BARRIER] = CALLED_OFF
        for desk in self._desks:
            desk.put(DISMISSED)

    def _wake(self) -> list[SimpleQueue[Member | str | None]]:
        """Count one more call; desks of the members who are asleep, and no longer count as such."""
        with self._falling_asleep:
            self._calls += 1
            woken, self._asleep = self._asleep, []
        return woken

    def _serve(self, desk: SimpleQueue[Member | str | None], number: int) -> None:
        address, seen = self.job.ctypes.data, 0
        while (result := self._run(address, number, seen, PATIENCE)) != CALLED_OFF:
            seen = abs(result)
            if result < 0:
                task = desk.get()
            else:
                with self._falling_asleep:
                    if self._calls > seen:
                        continue  # the next job is about to begin
                    self._asleep.append(desk)
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


class _Office:
    """The team of this process, made when first needed and again after a fork."""

    def __init__(self) -> None:
        self.busy = threading.Lock()
        self.team: Team | None = None


_office = _Office()


def _after_fork() -> None:
    global _office
    _office = _Office()  # the threads stayed with the parent; its lock may have been taken


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def team(size: int, run: Run) -> Iterator[Team | None]:
    """The process's team with `size` members for the length of a with block, or None: compute alone.

    None where one member suffices, where another caller has the team, or where no thread can be started any more
    (the interpreter is shutting down).
    """
    office = _office
    if size < 2 or sys.is_finalizing() or not office.busy.acquire(blocking=False):
        yield None
        return
    try:
        if office.team is None or office.team.size != size or office.team.is_called_off:
            if office.team is not None:
                office.team.dismiss()
                office.team = None
            try:
                office.team = Team(size, run)
            except RuntimeError:  # can't start new thread
                yield None
                return
        yield office.team
    finally:
        office.busy.release()


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
