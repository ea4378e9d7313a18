"""Worker processes that take turns (interleaved runs), so that changes of the CPU's speed affect all alike."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from npmobilenet.bench import worker
from npmobilenet.errors import NpMobileNetError
from npmobilenet.output import progress_bar

Runs = list[list[float]]


class Worker:
    """A process that performs one task of `worker`.

    Args:
        task: a runtime's name, or another task of `worker`.
        folder: directory of its inputs and outputs.
        threads: number of threads, and of cores to which the process is pinned.
    """

    def __init__(self, task: str, folder: Path, threads: int) -> None:
        self.task = task
        self._log = folder / f"{task}.txt"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", worker.__name__, task, str(folder), str(threads)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip

    def wait_until_ready(self) -> None:
        """Return once the first run is complete.

        Raises:
            NpMobileNetError: the process ended; the message has the last line that it wrote.
        """
        self._reply()

    def turn(self) -> Runs:
        """Seconds of every run in one turn.

        Raises:
            NpMobileNetError: the process ended.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # reported by _reply
            print("go", file=self._process.stdin, flush=True)
        return [list(map(float, run)) for run in json.loads(self._reply())]

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.communicate()

    def _reply(self) -> str:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return line
        code = self._process.wait()
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        message = lines[-1] if lines else "no output"
        raise NpMobileNetError(f"{self.task}: its process ended with exit code {code}: {message}")


@contextmanager
def workers(tasks: Sequence[str], folder: Path, threads: int) -> Iterator[list[Worker]]:
    """One new worker per task; they are killed at the end of the with block."""
    with ExitStack() as stack:
        started = []
        for task in tasks:
            started.append(Worker(task, folder, threads))
            stack.callback(started[-1].end)
        yield started


def take_turns(members: Sequence[Worker], rounds: int) -> dict[str, Runs]:
    """Runs of every worker by task, from `rounds` rounds with one turn per worker."""
    runs: dict[str, Runs] = {member.task: [] for member in members}
    turns = [member for _ in range(rounds) for member in members]
    for member in progress_bar(turns, len(turns), "measuring"):
        runs[member.task] += member.turn()
    return runs
