"""Threads: many callers, busy and interrupted pools, and the number of threads."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from npmobilenet_kernels.runtime import native
from npmobilenet_kernels.runtime.job import CANCELLED
from npmobilenet_kernels.runtime.thread_pool import ThreadPool, available_cores, shared_pool

from npmobilenet import NpMobileNetError
from npmobilenet.compiler.compilation import kernel_folder
from npmobilenet.compiler.plan import compile_graph
from npmobilenet.compiler.thread_count import default_threads
from npmobilenet.hub.load import load
from tests.helpers.engine_networks import engine_network
from tests.helpers.real_files import ROOT

pytestmark = pytest.mark.usefixtures("kernels_kept", "many_cores")

Run = Callable[[int, int, int, int], int]


def test_many_threads_may_call_one_plan_at_once() -> None:
    graph, params, x, _ = engine_network("v3 small")
    plan = compile_graph(graph, params)
    expected = plan.run(x, threads=1)
    wrong: list[int] = []

    def caller() -> None:
        for threads in (1, 2, 4, 2, 1) * 4:
            if not np.array_equal(plan.run(x, threads=threads), expected):
                wrong.append(threads)

    callers = [threading.Thread(target=caller) for _ in range(5)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert wrong == []


@pytest.fixture(scope="module")
def run() -> Run:
    return native.native((), kernel_folder()).run


def test_an_interrupt_before_the_work_begins_calls_the_other_threads_off(run: Run) -> None:
    left = [threading.Event() for _ in range(3)]

    def interrupted(job: int, number: int, seen: int, patience: int) -> int:
        if number == 0:
            raise KeyboardInterrupt
        result = run(job, number, seen, patience)
        if result == CANCELLED:
            left[number].set()
        return result

    with shared_pool(3, interrupted) as members:
        assert members is not None
        with pytest.raises(KeyboardInterrupt):
            members.compute(0, 1, 0, 0, 0, 0)
        assert all(event.wait(20) for event in left[1:])
    with shared_pool(3, run) as fresh:
        assert fresh is not None
        assert fresh is not members
        assert fresh.is_idle


def test_work_that_fails_on_another_thread_is_reported_here(run: Run) -> None:
    def work(piece: int) -> None:
        if piece == 5:
            raise ValueError("piece 5")

    members = ThreadPool(3, run)
    members.start()
    with pytest.raises(ValueError, match="piece 5"):
        members.for_each(work, 9)
    assert members.is_idle
    members.shut_down()


def test_a_team_does_both_kinds_of_work_in_any_order_awake_or_asleep(run: Run) -> None:
    graph, params, x, _ = engine_network("v3 small")
    plan = compile_graph(graph, params)
    expected = plan.run(x, threads=1)
    rng = np.random.default_rng(0)

    for _ in range(60):
        images = rng.integers(1, 4)  # three images are shared out, fewer are computed together
        np.testing.assert_array_equal(plan.run(x[:images], threads=3), expected[:images])
        time.sleep(rng.choice([0, 1e-4, 2e-4, 1e-3]))


def test_a_busy_team_leaves_the_caller_to_work_alone(run: Run) -> None:
    with shared_pool(2, run) as first, shared_pool(2, run) as second:
        assert first is not None
        assert second is None


def test_the_number_of_threads_is_asked_for_or_what_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPMOBILENET_THREADS", "3")
    assert default_threads() == 3
    monkeypatch.setenv("NPMOBILENET_THREADS", "")
    assert default_threads() == available_cores()
    if hasattr(os, "sched_getaffinity"):
        assert 1 <= available_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("asked", ["many", "0", "-2", "1.5", "²", "10000"])
def test_a_number_of_threads_that_is_none_is_not_ignored(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPMOBILENET_THREADS", asked)
    digits, x = load("digits"), np.zeros((1, 32, 32, 3), np.float32)
    with pytest.raises(NpMobileNetError, match=f"NPMOBILENET_THREADS is '{asked}'; expected a whole number from 1 to"):
        digits.forward(x)
    digits.forward(x, threads=1)  # asks no further


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        (["instructions", "--every", "13"], "raised"),
        (["threads", "--every", "5"], "told"),
        (["signals", "--predictions", "600"], "interrupted"),
    ],
)
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="interrupts itself by a timer's signal")
def test_after_an_interrupt_anywhere_the_next_prediction_is_right(what: list[str], kind: str) -> None:
    command = [sys.executable, "-m", "tests.helpers.interrupts", *what, "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[kind] > 10
