"""Marks of a student's program: its functions called in a process of their own, and judged here."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from npmobilenet.exercises import student_process
from npmobilenet.exercises.call_arguments import call_arguments
from npmobilenet.exercises.cases import all_cases, find_exercise
from npmobilenet.exercises.exercise import Case, Exercise
from npmobilenet.exercises.judgment import Outcome, Verdict, run, verdict

STARTING = 60.0  # seconds for Python, NumPy and SciPy, on a busy machine
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class ProgramError(Exception):
    """A program that cannot be run; its lines say why."""


@dataclass(frozen=True)
class Mark:
    """The verdict on one exercise, and what it is worth.

    Attributes:
        exercise: which.
        verdict: None if the program has no function of its name.
        parts: whether cases that are right count when others are wrong.
    """

    exercise: Exercise
    verdict: Verdict | None
    parts: bool = False

    @property
    def status(self) -> str:
        """right, wrong, or not begun."""
        if self.verdict is None or not self.verdict.begun:
            return "not begun"
        return "right" if self.verdict.all_right() else "wrong"

    @property
    def points(self) -> int:
        """All points for all cases; with parts, those that the share of right cases reaches."""
        if self.verdict is None:
            return 0
        right, cases = sum(self.verdict.right), len(self.verdict.right)
        return self.exercise.points * right // cases if self.parts or right == cases else 0

    def text(self) -> str:
        """The verdict in words."""
        return f"{self.exercise.name}: not begun" if self.verdict is None else self.verdict.text()

    def to_json(self) -> dict[str, Any]:
        """A document of plain values."""
        found = self.verdict
        document: dict[str, Any] = {
            "name": self.exercise.name,
            "status": self.status,
            "points": self.points,
            "max_points": self.exercise.points,
        }
        if found is None or not found.begun:
            return document
        document |= {"cases": len(found.right), "right": sum(found.right)}
        if found.finding is not None:
            finding = found.finding
            wrong = (
                {"place": finding.place, "got": finding.got, "expected": finding.expected} if finding.place else None
            )
            document |= {
                "case": found.case,
                "kind": finding.kind,
                "first_wrong": wrong,
                "mistake": found.mistake and found.mistake[0],
                "text": found.text(),
            }
        return document


class StudentProcess:
    """A process that runs a program, and is started again after a call that took too long.

    Args:
        program: path of the file.
        allow_package: whether it may import this package.
        timeout: seconds for running the program, and for all calls of an exercise.
    """

    def __init__(self, program: Path, *, allow_package: bool = False, timeout: float = 10) -> None:
        self.program = program.resolve()
        self.allow_package = allow_package
        self.timeout = timeout
        self._folder = tempfile.TemporaryDirectory()
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()

    def __enter__(self) -> "StudentProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        self._folder.cleanup()

    def functions(self) -> list[str]:
        """Names of the program's functions.

        Raises:
            ProgramError: it cannot be run.
        """
        package = "allowed" if self.allow_package else "blocked"
        self._process = subprocess.Popen(
            [sys.executable, "-P", student_process.__file__, str(self.program), package],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self._folder.name,
            env=os.environ | ENVIRONMENT,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._lines = queue.Queue()
        threading.Thread(target=_read, args=(self._process, self._lines), daemon=True).start()
        document = self._answer(STARTING + self.timeout)
        if document is None:
            raise ProgramError(f"the program did not end within {self.timeout:g} s, or ended its process")
        if "error" in document:
            raise ProgramError("\n".join(document["error"]))
        return list(document["functions"])

    def outcomes(self, exercise: Exercise, cases: Sequence[Case], *, as_lists: bool) -> list[Outcome]:
        """Outcome of every case; once a call takes too long or ends the process, that of all further ones."""
        if self._process is None:
            self.functions()
        deadline = time.monotonic() + self.timeout
        found: list[Outcome] = []
        for number, case in enumerate(cases):
            call = {
                "name": exercise.name,
                "arguments": exercise.arguments,
                "args": case.args,
                "number": number,
                "as_lists": as_lists,
                "whole": exercise.whole,
            }
            self._send(call)
            document = self._answer(deadline - time.monotonic())
            if document is None:
                outcome = self._end()
                return [*found, *[outcome] * (len(cases) - number)]
            found.append(Outcome(**document))
        return found

    def _send(self, call: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(call) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:  # it has ended; `_answer` sees that
            return

    def _answer(self, seconds: float) -> dict[str, Any] | None:
        """The next line of the process; None if there is none in time."""
        try:
            line = self._lines.get(timeout=max(seconds, 0))
        except queue.Empty:
            return None
        document: dict[str, Any] | None = None if line is None else json.loads(line)
        return document

    def _end(self) -> Outcome:
        """What became of a call without an answer."""
        assert self._process is not None
        try:
            code = self._process.wait(0.2)
        except subprocess.TimeoutExpired:
            self._kill()
            return Outcome("slow", error=[f"too slow: all cases together may take {self.timeout:g} s"])
        self._kill()
        return Outcome("ended", error=[f"the process ended with exit code {code}"])

    def _kill(self) -> None:
        """End the process and those that it has started."""
        process, self._process = self._process, None
        if process is None:
            return
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()


def _read(process: "subprocess.Popen[str]", lines: "queue.Queue[str | None]") -> None:
    """Put every line of a process into a queue, and None at its end."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.put(line)
    except ValueError:  # closed
        pass
    lines.put(None)


def mark_program(
    program: Path,
    names: Sequence[str],
    *,
    seed: int = 0,
    parts: bool = False,
    timeout: float = 10,
    allow_package: bool = False,
) -> list[Mark]:
    """Marks of a program.

    Args:
        program: path of the file.
        names: exercises.
        seed: of the cases.
        parts: see `Mark`.
        timeout: seconds for each exercise.
        allow_package: whether the program may import this package.

    Raises:
        ArgumentError: there is no exercise of a name.
        ProgramError: the program cannot be run.
    """
    exercises = [find_exercise(name) for name in names]
    with StudentProcess(program, allow_package=allow_package, timeout=timeout) as process:
        functions = process.functions()
        return [
            Mark(each, _judged(process, each, seed) if each.name in functions else None, parts) for each in exercises
        ]


def _judged(process: StudentProcess, exercise: Exercise, seed: int) -> Verdict:
    cases = all_cases(exercise, seed)
    return judged_in_both_forms(
        lambda as_lists: _verdict(exercise, cases, process.outcomes(exercise, cases, as_lists=as_lists))
    )


def _verdict(exercise: Exercise, cases: list[Case], outcomes: list[Outcome]) -> Verdict:
    """The verdict, without NumPy's warnings of what a mistake computes."""
    with np.errstate(all="ignore"):
        return verdict(exercise, cases, outcomes)


def judged_in_both_forms(judged: Callable[[bool], Verdict]) -> Verdict:
    """The verdict on a function that is given arrays or, if it is not right with them, lists.

    Args:
        judged: the verdict, with lists or with arrays.
    """
    with_arrays = judged(False)
    if with_arrays.all_right() or not with_arrays.begun:
        return with_arrays
    assert with_arrays.finding is not None
    if with_arrays.finding.kind == "slow":
        return with_arrays
    with_lists = judged(True)
    if with_lists.all_right() or (with_arrays.finding.kind == "error" and with_lists.case > with_arrays.case):
        return with_lists
    return with_arrays


def check_function(function: Callable[..., Any], exercise: Exercise, seed: int = 0) -> Verdict:
    """The verdict on a function of this process, without limits."""
    cases = all_cases(exercise, seed)

    def judged(as_lists: bool) -> Verdict:
        outcomes = []
        for number, case in enumerate(cases):
            args = call_arguments(case.args, number, as_lists=as_lists, whole=exercise.whole)
            outcomes.append(run(function, args, exercise.arguments))
        return _verdict(exercise, cases, outcomes)

    return judged_in_both_forms(judged)
