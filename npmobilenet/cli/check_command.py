"""`npmobilenet check`: exit code 0 all right, 1 something wrong, 2 nothing to judge."""

import json
from pathlib import Path
from typing import Annotated

from npmobilenet.cli.options import Argument, Exit, Option
from npmobilenet.cli.shared import AsJson, reported
from npmobilenet.errors import ArgumentError
from npmobilenet.exercises.cases import EXERCISES
from npmobilenet.exercises.marking import Mark, ProgramError, mark_program
from npmobilenet.files import write_atomically
from npmobilenet.output import print_json, print_line, print_note

SOMETHING_WRONG, NOTHING_TO_JUDGE = 1, 2


def check(
    file: Annotated[Path, Argument(metavar="FILE", help="Python file with functions named as the exercises.")],
    only: Annotated[
        list[str] | None, Option("--only", metavar="NAME", help="Exercise to judge; may be repeated. Default: all.")
    ] = None,
    seed: Annotated[int, Option(min=0, help="Seed of the cases.")] = 0,
    points: Annotated[bool, Option("--points", help="Points for the cases that are right, in whole numbers.")] = False,
    as_json: AsJson = False,
    gradescope: Annotated[
        Path | None, Option("--gradescope", metavar="FILE", help="Write Gradescope's results.json.")
    ] = None,
    timeout: Annotated[float, Option(min=1, help="Seconds for each exercise.")] = 10.0,
    allow_package: Annotated[
        bool, Option("--allow-package", help="Let the file import npmobilenet, which is blocked otherwise.")
    ] = False,
) -> None:
    """Judge a file of exercises: the first wrong value, how it is made, and the mistake."""
    names = only or [exercise.name for exercise in EXERCISES]
    with reported(as_json, NOTHING_TO_JUDGE):
        if not file.is_file():
            raise ArgumentError(f"{file}: no such file (current directory: {Path.cwd()})")
        try:
            marks = mark_program(file, names, seed=seed, parts=points, timeout=timeout, allow_package=allow_package)
        except ProgramError as error:
            if gradescope is not None:
                _write_gradescope(gradescope, [], str(error))
            raise ArgumentError(f"{file} cannot be run\n{error}") from None
        if gradescope is not None:
            _write_gradescope(gradescope, marks)
    if as_json:
        print_json(_document(file, seed, marks))
    else:
        _print(marks)
    if all(mark.status == "not begun" for mark in marks):
        print_note(f"npmobilenet: {file}: nothing to judge; functions: {', '.join(names)}")
        raise Exit(NOTHING_TO_JUDGE)
    if any(mark.status == "wrong" for mark in marks):
        raise Exit(SOMETHING_WRONG)


def _document(file: Path, seed: int, marks: list[Mark]) -> dict[str, object]:
    return {
        "file": str(file),
        "seed": seed,
        "points": sum(mark.points for mark in marks),
        "max_points": sum(mark.exercise.points for mark in marks),
        "exercises": [mark.to_json() for mark in marks],
    }


def _print(marks: list[Mark]) -> None:
    begun = [mark for mark in marks if mark.status != "not begun"]
    for mark in begun:
        first, *rest = mark.text().split("\n")
        print_line("\n".join([first, *(f"  {line}" for line in rest)]))
        if rest:
            print_line()
    open_ones = [mark.exercise.name for mark in marks if mark.status == "not begun"]
    if open_ones and begun:
        print_line(f"not begun: {', '.join(open_ones)}")
    if begun:
        print_line(f"points: {sum(mark.points for mark in marks)} of {sum(mark.exercise.points for mark in marks)}")


def _write_gradescope(path: Path, marks: list[Mark], problem: str = "") -> None:
    """Write `results.json` as Gradescope's autograder reads it."""
    tests = [
        {
            "name": mark.exercise.name,
            "score": mark.points,
            "max_score": mark.exercise.points,
            "status": "passed" if mark.status == "right" else "failed",
            "output": mark.text(),
        }
        for mark in marks
    ]
    document: dict[str, object] = {"output": problem, "score": 0} if problem else {"tests": tests}
    write_atomically(path, json.dumps(document, indent=2).encode())
