"""Processes that take turns, so that a machine that changes its speed does so for all of them."""

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
    """A process that does one task of `worker`.

    Args:
        task: what it does.
        folder: where its inputs are, and its outputs go.
        threads: of its engine, and cores that it keeps to.
    """

    def __init__(self, task: str, folder: Path, threads: int) -> None:
        self.task = task
        self._complaints = folder / f"{task}.txt"
        with self._complaints.open("wb") as complaints:
            self._process = subprocess.Popen(
                [sys.executable, "-m", worker.__name__, task, str(folder), str(threads)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True,
            )  # fmt: skip

    def wait_until_ready(self) -> None:
        """Return when it has computed once.

        Raises:
            NpMobileNetError: it ended; the message has the last line that it wrote.
        """
        self._answer()

    def turn(self) -> Runs:
        """Seconds of every run of one turn.

        Raises:
            NpMobileNetError: it ended.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # that it has ended is said below
            print("go", file=self._process.stdin, flush=True)
        return [list(map(float, run)) for run in json.loads(self._answer())]

    def end(self) -> None:
        """Let it go, whatever it is doing."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return line
        code = self._process.wait()
        lines = self._complaints.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = lines[-1] if lines else "it said nothing"
        raise NpMobileNetError(f"{self.task}: its process ended with exit code {code}: {said}")


@contextmanager
def workers(tasks: Sequence[str], folder: Path, threads: int) -> Iterator[list[Worker]]:
    """A worker for each task, just started; at the end of the with block they are ended."""
    with ExitStack() as stack:
        started = []
        for task in tasks:
            started.append(Worker(task, folder, threads))
            stack.callback(started[-1].end)
        yield started


def take_turns(members: Sequence[Worker], rounds: int) -> dict[str, Runs]:
    """Runs of every worker, from `rounds` rounds in which each has one turn."""
    runs: dict[str, Runs] = {member.task: [] for member in members}
    turns = [member for _ in range(rounds) for member in members]
    for member in progress_bar(turns, len(turns), "measuring"):
        runs[member.task] += member.turn()
    return runs
