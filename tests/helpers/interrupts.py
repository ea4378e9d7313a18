"""A program that is interrupted while it predicts: by an exception at every instruction of the pool, and by signals.

    python -m tests.helpers.interrupts instructions --every 1
    python -m tests.helpers.interrupts threads --every 1
    python -m tests.helpers.interrupts signals --predictions 100000 --seed 0

Prints counts as JSON; the suite runs short forms. After each interrupt the next prediction must be right. A prediction
that hangs for a minute ends the process with all stacks.
"""

import argparse
import faulthandler
import json
import signal
import sys
import threading
from collections import Counter
from itertools import count
from types import FrameType
from typing import Any

import npmobilenet_kernels.runtime.thread_pool as pool
import numpy as np

from npmobilenet.architectures import mobilenet_v1
from npmobilenet.compiler import arena
from npmobilenet.compiler import plan as compiled_plan
from npmobilenet.compiler.plan import compile_graph
from tests.helpers import networks

CORES = 3  # that the pool believes in, whatever the machine has
MINUTE = 60
LINES = 60  # that a thread goes through in four predictions, about

AGAIN = 2e-5  # seconds between the signals of one alarm
WATCHED = {pool.__file__, compiled_plan.__file__, arena.__file__}

graph = mobilenet_v1(0.25, 64)
x = networks.random_images(graph, 0, N=2 * CORES)
plan = compile_graph(graph, networks.random_params(graph, 0))
expected = plan.run(x, threads=1)


class InjectedError(Exception):
    """An exception at a place where none is expected."""


class Tracer:
    """Raises InjectedError at one event of the files watched, counted from 0.

    Args:
        place: number of that event.
        event: "line" or "opcode".
        watched: names of the files, as in a code object.
    """

    def __init__(self, place: int, event: str, watched: set[str]) -> None:
        self.left = place
        self.event = event
        self.watched = watched
        self.hit: str | None = None
        self.thread = threading.current_thread()  # that was hit

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in self.watched:
            return None
        frame.f_trace_opcodes = self.event == "opcode"
        if event == self.event and self.hit is None:
            if self.left == 0:
                self.thread = threading.current_thread()
                self.hit = f"{frame.f_code.co_name}:{frame.f_lineno}"
                raise InjectedError(self.hit)
            self.left -= 1
        return self


def predict(images: int, threads: int = CORES) -> None:
    """One prediction, which must be right."""
    y = plan.run(x[:images], threads)
    if not np.array_equal(y, expected[:images]):
        raise SystemExit("a wrong prediction")


def watch() -> None:
    faulthandler.dump_traceback_later(MINUTE, exit=True)


def instructions(every: int, seed: int) -> Counter[str]:
    """An exception at every n-th instruction of the pool and of the engine's way to it, on the thread that calls."""
    counts: Counter[str] = Counter()
    for images in (1, 2 * CORES):  # computed together, and shared out
        for is_new in (False, True):  # with the existing pool, and with a new one
            for place in count(seed % every, every):
                watch()
                if is_new:
                    predict(images, CORES - 1)
                tracer = Tracer(place, "opcode", WATCHED)
                try:
                    sys.settrace(tracer)
                    predict(images)
                except InjectedError:
                    counts["raised"] += 1
                finally:
                    sys.settrace(None)
                if tracer.hit is None:
                    break
                counts["injected"] += 1
                predict(images)
                predict(2 * CORES + 1 - images)
                if pool._shared._caller() is not None:
                    raise SystemExit(f"the pool is held for good after {tracer.hit}")
    return counts


def lines_of_the_threads(every: int, seed: int) -> Counter[str]:
    """An exception at every n-th line of a thread that waits for work; the caller that computes then gets an error."""
    counts: Counter[str] = Counter()
    threading.excepthook = lambda _: None
    for images in (1, 2 * CORES):
        for place in range(seed % every, LINES, every):
            watch()
            tracer = Tracer(place, "line", {pool.__file__})

            def of_the_first(frame: FrameType, event: str, argument: object, tracer: Tracer = tracer) -> Any:
                if threading.current_thread().name != "npmobilenet-1" or frame.f_code.co_name == "_serve":
                    return None
                return tracer(frame, event, argument)

            predict(images, CORES - 1)
            lives = False
            threading.settrace(of_the_first)
            try:
                for _ in range(4):
                    predict(images)
            except RuntimeError:
                counts["told"] += 1
            except InjectedError:
                counts["raised here"] += 1
                lives = True
            finally:
                threading.settrace(None)
            if tracer.hit is None:
                tracer.hit = "never"
            else:
                counts["injected"] += 1
                if not lives:
                    tracer.thread.join()
            predict(images)
            predict(2 * CORES + 1 - images)
    return counts


class Alarm:
    """Answers SIGALRM as Ctrl-C is answered, while the engine or the pool is at work, as often as it is set to."""

    def __init__(self) -> None:
        self.left = 0
        signal.signal(signal.SIGALRM, self.ring)

    def set(self, delay: float, strikes: int) -> None:
        self.left = strikes
        signal.setitimer(signal.ITIMER_REAL, delay)

    def ring(self, number: int, frame: FrameType | None) -> None:
        while frame is not None and frame.f_code.co_filename not in WATCHED:
            frame = frame.f_back
        if frame is not None and self.left > 0:
            self.left -= 1
            signal.setitimer(signal.ITIMER_REAL, AGAIN if self.left else 0)
            raise KeyboardInterrupt


def signals(predictions: int, seed: int) -> Counter[str]:
    """Signals at random moments, up to three in a row, so that the second one finds the first one being answered."""
    counts: Counter[str] = Counter()
    sys.unraisablehook = lambda _: None  # an interrupt while a generator is closed is printed and lost
    rng = np.random.default_rng(seed)
    alarm = Alarm()
    delays = rng.exponential(1e-3, predictions)
    strikes = rng.integers(1, 4, predictions)
    images = rng.choice([1, 2, 2 * CORES], predictions)
    for number in range(predictions):
        if number % 1000 == 0:
            watch()
        try:
            if number % 2 == 0:  # the other half show what the interrupts have left
                alarm.set(delays[number], int(strikes[number]))
            predict(images[number])
            counts["right"] += 1
        except KeyboardInterrupt:
            counts["interrupted"] += 1
            counts["more than once"] += int(strikes[number]) - alarm.left > 1
        signal.setitimer(signal.ITIMER_REAL, 0)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["instructions", "threads", "signals"])
    parser.add_argument("--predictions", type=int, default=2000)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    pool.available_cores = lambda: CORES
    if arguments.what == "instructions":
        counts = instructions(arguments.every, arguments.seed)
    elif arguments.what == "threads":
        counts = lines_of_the_threads(arguments.every, arguments.seed)
    else:
        counts = signals(arguments.predictions, arguments.seed)
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
