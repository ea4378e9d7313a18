"""Rung 4, threads: the steps of a network in one native call per thread, with work stealing inside every step.

Every thread of the pool runs `run` on the same job. A step has units of work; each thread has a share of them, a thread
whose share is used up steals units from the others, and a barrier separates the steps. Each output value is computed by
the same instructions in the same order by whichever thread, so the result does not depend on the number of threads.

A share is [begin, end) in one int64, begin in the low word and end in the high word:

    owner    fetch-and-add of +size: takes units begin ... begin + size - 1
    thief    fetch-and-add of -size END: takes units end - size ... end - 1

One atomic addition both claims units and returns the interval from which they were claimed, so no two threads compute
the same unit, even if more is claimed than is left.

Source: Blumofe & Leiserson 1999, Scheduling Multithreaded Computations by Work Stealing. (Theirs are deques of tasks;
here a share is an interval, since all units of a step are known when it begins.)
"""

from __future__ import annotations

from npmobilenet_kernels.drivers.compiled import compiled
from npmobilenet_kernels.drivers.dispatch import compute_units
from npmobilenet_kernels.drivers.step_table import FIELDS, Field
from npmobilenet_kernels.runtime.intrinsics import fetch_add, load_acquire, pause, read, sched_yield, write
from npmobilenet_kernels.runtime.job import CANCELLED, LINE, Job

END = 1 << 32  # the high word of a share
CHUNKS_PER_SHARE = 8  # a thread claims its share of a step in this number of chunks, so that some are left to steal
SPINS_BEFORE_YIELD = 2000  # polls of the barrier before the core is offered to another thread


@compiled
def wait(barrier, target):  # type: ignore[no-untyped-def]
    """True once `target` arrivals have been counted, False if the job is cancelled."""
    spins = 0
    arrived = load_acquire(barrier)
    while 0 <= arrived < target:
        pause()
        spins += 1
        if spins > SPINS_BEFORE_YIELD:
            sched_yield()
        arrived = load_acquire(barrier)
    return arrived >= 0


@compiled
def share_of(job, thread, index):  # type: ignore[no-untyped-def]
    """Address of a thread's share of step `index`, which has a cache line of its own."""
    threads = read(job, Job.THREADS)
    return job + (Job.SHARES + (index % 2 * threads + thread) * LINE // 8) * 8


@compiled
def assign_units(job, thread, index, step):  # type: ignore[no-untyped-def]
    """Initialize a thread's share of a step: an equal part of its units."""
    threads = read(job, Job.THREADS)
    units = read(step, Field.UNITS)
    begin = thread * units // threads
    end = (thread + 1) * units // threads
    write(share_of(job, thread, index), 0, end * END + begin)


@compiled
def steal_units(job, thread, index, step, scratch, size):  # type: ignore[no-untyped-def]
    """Compute units of the other threads' shares, `size` at a time from their ends, until none is left."""
    arena, image, threads = read(job, Job.ARENA), read(job, Job.IMAGE), read(job, Job.THREADS)
    for distance in range(1, threads):
        share = share_of(job, (thread + distance) % threads, index)
        left = load_acquire(share)
        while left % END < left // END:
            left = fetch_add(share, -size * END)
            begin, end = left % END, left // END
            if begin < end:
                compute_units(step, arena, scratch, image, max(begin, end - size), end, False)


@compiled
def compute_step(job, thread, index, step, scratch):  # type: ignore[no-untyped-def]
    """Compute units of one step until none is left: this thread's share from its beginning, then stolen ones."""
    arena, image, threads = read(job, Job.ARENA), read(job, Job.IMAGE), read(job, Job.THREADS)
    size = max(1, read(step, Field.UNITS) // (threads * CHUNKS_PER_SHARE))
    share = share_of(job, thread, index)
    continues = False
    left = fetch_add(share, size)
    while left % END < left // END:
        begin = left % END
        compute_units(step, arena, scratch, image, begin, min(begin + size, left // END), continues)
        continues = True
        left = fetch_add(share, size)
    steal_units(job, thread, index, step, scratch, size)


@compiled
def take_part(job, thread):  # type: ignore[no-untyped-def]
    """Compute this thread's part of every step; False if the job is cancelled."""
    threads, steps, arrived = read(job, Job.THREADS), read(job, Job.STEPS), read(job, Job.ARRIVED)
    arena, image = read(job, Job.ARENA), read(job, Job.IMAGE)
    scratch = read(job, Job.SCRATCH) + thread * read(job, Job.SCRATCH_BYTES)
    barrier = job + Job.BARRIER * 8
    for index in range(steps):
        step = read(job, Job.TABLE) + index * FIELDS * 8
        if threads == 1:
            compute_units(step, arena, scratch, image, 0, read(step, Field.UNITS), False)
        else:
            if index + 1 < steps:
                assign_units(job, thread, index + 1, step + FIELDS * 8)
            compute_step(job, thread, index, step, scratch)
            fetch_add(barrier, 1)
            if not wait(barrier, arrived + (index + 1) * threads):
                return False
    return True


@compiled
def announce(job):  # type: ignore[no-untyped-def]
    """Assign the units of the first step and start the job for the threads that spin."""
    if read(job, Job.STEPS) > 0:
        for thread in range(read(job, Job.THREADS)):
            assign_units(job, thread, 0, read(job, Job.TABLE))
    fetch_add(job + Job.CALLS * 8, 1)


def run(job, thread, calls, spin_limit):  # type: ignore[no-untyped-def]
    """Compute a job as one thread of a pool; all arguments are int64.

    Thread 0 announces the job and returns when it is done. The others wait for jobs, one after the other.

    Args:
        job: address of the columns of `job.Job`.
        thread: number of this thread.
        calls: jobs that this thread has seen.
        spin_limit: polls for another job before the thread should sleep.

    Returns:
        For thread 0: 0, or CANCELLED if the job was cancelled. For the others: the number of jobs seen, once the spin
        limit is reached; its negative, if the last of them has no steps but a task in the thread's queue; CANCELLED, if
        the pool is.
    """
    if thread == 0:
        if read(job, Job.THREADS) > 1:
            announce(job)
        return 0 if take_part(job, thread) else CANCELLED
    spins = 0
    while spins < spin_limit:
        if load_acquire(job + Job.BARRIER * 8) < 0:
            return CANCELLED
        if load_acquire(job + Job.CALLS * 8) == calls:
            pause()
            spins += 1
        else:
            calls += 1
            if read(job, Job.STEPS) == 0:
                return -calls
            if not take_part(job, thread):
                return CANCELLED
            spins = 0
    return calls
