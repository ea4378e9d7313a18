"""A small team of threads that compute one network together.

Why not `parallel=True`: Numba's own thread layers abort the process when two callers meet (workqueue), die after a
fork (OpenMP), or are one dependency more (TBB). Here each member is a Python thread that makes one native call for the
whole network, without the interpreter's lock; the members meet at barriers inside that call (`network.py`).

One caller at a time has the team. Whoever comes while it is busy computes alone, which gives the same bits.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from queue import SimpleQueue

import numpy as np

CALLED_OFF = -(1 << 62)  # barrier value that makes every member leave

Member = Callable[[int], object]


class Team:
    """Daemon threads that wait for work; member 0 is whoever calls.

    Attributes:
        size: members, the caller included.
        barrier: one int64, the number of arrivals so far. It only grows, so that a member who is slow to leave
            the last barrier of one call is not caught by the next call.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = np.zeros(1, np.int64)
        self._desks: list[SimpleQueue[Member | None]] = [SimpleQueue() for _ in range(size - 1)]
        for number, desk in enumerate(self._desks, start=1):
            threading.Thread(target=_serve, args=(desk, number), name=f"npmobilenet-{number}", daemon=True).start()

    def together(self, member: Member) -> None:
        """Run member(0) here and member(1) ... member(size - 1) on the others; members meet at native barriers.

        Whatever keeps this thread from its own part, an interrupt above all, calls the others off.
        """
        try:
            for desk in self._desks:
                desk.put(member)
            member(0)
        except BaseException:
            self.barrier[0] = CALLED_OFF
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

        for desk in self._desks:
            desk.put(member)
        member(0)
        errors = [done.get() for _ in range(self.size)]
        for error in errors:
            if error is not None:
                raise error

    def dismiss(self) -> None:
        """Let the threads end."""
        for desk in self._desks:
            desk.put(None)


def _serve(desk: SimpleQueue[Member | None], number: int) -> None:
    while (member := desk.get()) is not None:
        member(number)


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
def team(size: int) -> Iterator[Team | None]:
    """The process's team with `size` members for the length of a with block, or None: compute alone.

    None where one member suffices, where another caller has the team, or where no thread can be started any more
    (the interpreter is shutting down).
    """
    office = _office
    if size < 2 or sys.is_finalizing() or not office.busy.acquire(blocking=False):
        yield None
        return
    try:
        if office.team is None or office.team.size != size or office.team.barrier[0] < 0:
            if office.team is not None:
                office.team.dismiss()
                office.team = None
            try:
                office.team = Team(size)
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
