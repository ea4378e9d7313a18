"""The job: the int64 values that all threads of a native call share, and that call itself.

    run(job, thread, seen, spins) -> int64          `job` is the address of the columns of `Job`

A thread claims units of work and reports its arrival by atomic additions to these columns. What several threads write
has a cache line of its own, so that no thread takes a line away from another that only reads.
"""

from __future__ import annotations

from enum import IntEnum, auto

ENTRY = "npmobilenet_run"  # symbol of `work_stealing.run`, the driver
ARGUMENTS = 4  # of `run`, all int64
LINE = 64  # bytes of a cache line
CANCELLED = -(1 << 62)  # value of Job.BARRIER that makes every thread leave


class Job(IntEnum):
    """Columns of a job: one image to compute, by `Job.THREADS` threads."""

    TABLE = 0  # address of the first step's row
    STEPS = auto()  # rows; 0: nothing to compute
    ARENA = auto()  # address of the activations
    SCRATCH = auto()  # address of the first thread's working memory
    SCRATCH_BYTES = auto()  # to that of the next thread
    IMAGE = auto()  # address of the input, (H, W, C)
    THREADS = auto()
    ARRIVED = auto()  # value of BARRIER before the first step
    CALLS = 16  # jobs so far
    BARRIER = 32  # arrivals so far, after all steps of all jobs, or CANCELLED
    SHARES = 48  # units left to every thread, in this step and in the next one; a cache line each
