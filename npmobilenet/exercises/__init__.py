"""Fourteen exercises that mark themselves: functions to write, cases from a seed, and the mistake that was made."""

from collections.abc import Callable
from typing import Any

IN_MICROPYTHON = ("nested", "exercise", "plainly", "judgment", "convolution_exercises", "first_five")
"""Modules of this folder that run unchanged in MicroPython, each after those that it imports."""


def check(function: Callable[..., Any], seed: int = 0, name: str | None = None) -> None:
    """Judge a function in a notebook cell: one line if it is right, an error with the judgment if it is not.

    nbgrader and otter take the error as a failed test. The function runs in this process, without limits.

    Args:
        function: the answer.
        seed: of the cases.
        name: of the exercise; None for the function's own.

    Raises:
        AssertionError: it is not right, or not begun.
        ArgumentError: there is no exercise of its name.
    """
    from npmobilenet.exercises.cases import find_exercise
    from npmobilenet.exercises.marking import check_function

    verdict = check_function(function, find_exercise(name or function.__name__), seed)
    if not verdict.all_right():
        raise AssertionError(verdict.text())
    print(verdict.text())
