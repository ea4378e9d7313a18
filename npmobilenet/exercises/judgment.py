"""The judgment of an answer: the first wrong value, how it is made, and the mistake that gives the same values.

In CPython and in MicroPython alike.
"""

import sys

from npmobilenet.exercises.exercise import EXACT, Case, Draw, Exercise
from npmobilenet.exercises.nested import at, is_number, number, places, plain, shape_of, subscript

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ROUNDING = 1e-5  # of the largest value: float32 leaves 6 to 7 digits, and every mistake changes an earlier one
CASES_THAT_NAME = 3  # a mistake is named if it gives the same wrong values in this number of cases


class Outcome:
    """What became of a call.

    Args:
        value: the answer, arrays as nested lists.
        error: lines about an exception, or about a process that ended.
        kind: "value", "error", "slow", "not begun".
        changed: a line about an argument that the function has changed.
    """

    def __init__(self, kind: str, value: "Any" = None, error: list | None = None, changed: str = "") -> None:
        self.kind = kind
        self.value = value
        self.error = error or []
        self.changed = changed


class Finding:
    """Why a case is not right.

    Args:
        kind: "value", "shape", "NaN", "changed", "unreadable", or the kind of the outcome.
        lines: the finding in words.
        place, got, expected: first wrong value, as text.
    """

    def __init__(self, kind: str, lines: list, place: str = "", got: str = "", expected: str = "") -> None:
        self.kind = kind
        self.lines = lines
        self.place = place
        self.got = got
        self.expected = expected


class Verdict:
    """The judgment of one exercise.

    Args:
        exercise: which.
        right: whether each case is right.
        case: number of the first case that is not, from 1; 0 if there is none.
        finding: why it is not.
        mistake: (key, text) of the mistake that gives the same values, or None.
        begun: False for a function that raises NotImplementedError.
    """

    def __init__(
        self,
        exercise: Exercise,
        right: list,
        case: int = 0,
        finding: Finding | None = None,
        mistake: "tuple | None" = None,
        begun: bool = True,
    ) -> None:
        self.exercise = exercise
        self.right = right
        self.case = case
        self.finding = finding
        self.mistake = mistake
        self.begun = begun
        self.lines = [f"{exercise.name}: right in all {len(right)} cases" if begun else f"{exercise.name}: not begun"]

    def all_right(self) -> bool:
        return self.begun and all(self.right)

    def text(self) -> str:
        """The judgment in words."""
        return "\n".join(self.lines)


def run(function: "Callable[..., Any]", args: list, names: tuple, source: "list | None" = None) -> Outcome:
    """Call a function; its arguments must be as they were afterwards.

    Args:
        function: what is judged.
        args: its arguments, which no one else holds.
        names: their names.
        source: lines of the program, if `linecache` does not know them.
    """
    before = plain(args)
    try:
        value = plain(function(*args))
    except NotImplementedError:
        return Outcome("not begun", error=["NotImplementedError: not begun"])
    except (Exception, SystemExit) as error:
        return Outcome("error", error=raised(error, source))
    return Outcome("value", value, changed=first_change(before, plain(args), names))


def first_change(before: list, after: list, names: tuple) -> str:
    """A line about the first argument that has changed."""
    for k in range(len(names)):
        if before[k] != after[k]:
            for index, value in places(before[k]):
                if at(after[k], index) != value and value == value:
                    place = subscript(names[k], index)
                    return f"{place} was {number(value)}, and is {number(at(after[k], index))} after the call"
            if shape_of(before[k]) != shape_of(after[k]):
                return f"{names[k]} had the shape {shape_of(before[k])}, and has {shape_of(after[k])} after the call"
    return ""


def raised(error: BaseException, source: "list | None" = None) -> list:
    """An exception, and the line of the program that it comes from."""
    message = str(error)
    lines = [f"{type(error).__name__}: {message}" if message else type(error).__name__]
    calls = frames(error)[1:]  # the first is `run`
    own = [call for call in calls if call[0] == calls[0][0]]  # without those of libraries
    if own:
        _, line, function = own[-1]
        lines.append(f"  line {line}, in {function}")
        text = source_line(own[-1][0], line, source)
        if text:
            lines.append(f"    {text}")
    return lines


def frames(error: BaseException) -> list:
    """(file, line, function) of every call on the way to an exception, outermost first."""
    found = []
    if hasattr(sys, "print_exception"):  # MicroPython
        import io

        text = io.StringIO()
        sys.print_exception(error, text)
        for line in text.getvalue().split("\n"):
            if line.startswith('  File "') and ", in " in line:
                file, rest = line[8:].split('", line ')
                found.append((file, int(rest.split(", in ")[0]), rest.split(", in ")[1]))
        return found
    step = error.__traceback__
    while step:
        found.append((step.tb_frame.f_code.co_filename, step.tb_lineno, step.tb_frame.f_code.co_name))
        step = step.tb_next
    return found


def source_line(file: str, line: int, source: "list | None") -> str:
    """Text of one line of a program."""
    if source is not None:
        return source[line - 1].strip() if 0 < line <= len(source) else ""
    try:
        import linecache
    except ImportError:  # MicroPython
        return ""
    return linecache.getline(file, line).strip()


def is_right(theirs: "Any", right: "Any", bound: float) -> bool:
    if not is_number(right):
        return bool(theirs == right)
    return is_number(theirs) and abs(theirs - right) <= bound


def bound_at(bound: "Any", index: tuple) -> float:
    """The bound of a value, from nested lists of bounds; a number stands for all values below it."""
    for k in index:
        if not isinstance(bound, list):
            break
        bound = bound[k]
    return bound


def judge_case(exercise: Exercise, case: Case, outcome: Outcome) -> Finding | None:
    """Why an outcome is not right; None if it is."""
    if outcome.kind != "value":
        return Finding(outcome.kind, outcome.error)
    try:
        theirs = exercise.read(outcome.value, case.args)
    except ValueError as error:
        return Finding("unreadable", [str(error)])
    expected = exercise.expected(case)
    values = [(index, right, at(theirs, index)) for index, right in places(expected)]
    wrong = [entry for entry in values if not is_right(entry[2], entry[1], bound_at(case.bound, entry[0]))]
    shapes = shape_lines(exercise, theirs, expected)
    if not wrong and not shapes:
        if not outcome.changed:
            return None
        return Finding("changed", [f"an argument was changed: {outcome.changed}"], outcome.changed.split(" ")[0])
    lines, kind = shapes, "shape" if shapes else "value"
    index, right, got = wrong[0] if wrong else first_beyond(theirs, expected)
    place = _name(exercise, index)
    digits = 6 if number(got) != number(right) else 9 if number(got, 9) != number(right, 9) else 17
    shown, expected_text = number(got, digits), number(right, digits) if wrong else "no such value"
    lines.append(f"first wrong value: {place} is {shown}, expected {expected_text}")
    nans = [entry for entry in places(theirs) if is_number(entry[1]) and entry[1] != entry[1]]
    if nans:
        kind = "NaN"
        lines.append(f"values that are NaN: {len(nans)}, the first is {_name(exercise, nans[0][0])}")
    if wrong:
        lines += exercise.how(case.args, index, theirs)
    if len(values) > 1:
        lines.append(f"{len(values) - len(wrong)} of {len(values)} values are right")
    if outcome.changed:
        lines.append(f"an argument was changed: {outcome.changed}")
    return Finding(kind, lines, place, shown, expected_text)


def _name(exercise: Exercise, index: tuple) -> str:
    return subscript(exercise.results[index[0]], index[1:])


def shape_lines(exercise: Exercise, theirs: list, expected: list) -> list:
    """A line for the first result whose shape is wrong, and one with the formula of the right one."""
    for k in range(len(expected)):
        got, right = shape_of(theirs[k]), shape_of(expected[k])
        if got != right:
            shape = "rows of different lengths" if got is None else got
            return [f"shape of {exercise.results[k]}: {shape}, expected {right}", f"  {exercise.formula}"]
    return []


def first_beyond(theirs: list, expected: list) -> tuple:
    """(index, None, value) of the first value where none is expected."""
    for index, value in places(theirs):
        if at(expected, index) is None:
            return index, None, value
    return (0,), None, None


def explain(exercise: Exercise, cases: list, outcomes: list, first: int) -> "tuple | None":
    """(key, text) of the mistake that gives the same values in the case and in two more: the one with most of them."""
    best, named = 0, None
    for key, text, mistake in exercise.mistakes:
        evidence, refuted = 0, False
        for k in range(first, first + len(cases)):
            case, outcome = cases[k % len(cases)], outcomes[k % len(cases)]
            agrees = agreement(exercise, case, outcome, mistake)
            if agrees is False or (agrees is None and k == first):
                refuted = True
                break
            evidence += agrees is True
        if evidence > best and (evidence >= CASES_THAT_NAME or not refuted):
            best, named = evidence, (key, text)
    if named or exercise.diagnose is None:
        return named
    args = cases[first].args
    return exercise.diagnose(args, exercise.read(outcomes[first].value, args))


def agreement(exercise: Exercise, case: Case, outcome: Outcome, mistake: "Callable[..., Any]") -> "bool | None":
    """Whether a mistake gives the same values; None where it cannot be seen, since it changes nothing or fails."""
    if outcome.kind != "value":
        return None
    try:
        made = exercise.read(plain(mistake(*plain(case.args))), case.args)
    except (ValueError, IndexError, TypeError, ZeroDivisionError):
        return None
    expected = exercise.expected(case)
    if same(made, expected, expected):
        return None
    try:
        return same(exercise.read(outcome.value, case.args), made, expected)
    except ValueError:
        return False


def same(theirs: list, made: list, expected: list) -> bool:
    """Whether results are those of a mistake, up to `ROUNDING` of the largest value, made or expected."""
    for k in range(len(made)):
        if shape_of(theirs[k]) != shape_of(made[k]):
            return False
        values = [value for _, value in places(made[k])] + [value for _, value in places(expected[k])]
        numbers = [abs(value) for value in values if is_number(value) and abs(value) < float("inf")]
        bound = ROUNDING * max(numbers + [EXACT])
        if not all(is_right(at(theirs[k], index), value, bound) for index, value in places(made[k])):
            return False
    return True


def verdict(exercise: Exercise, cases: list, outcomes: list) -> Verdict:
    """The judgment of all outcomes of an exercise."""
    if all(outcome.kind == "not begun" for outcome in outcomes):
        return Verdict(exercise, [False] * len(cases), begun=False)
    findings = [judge_case(exercise, cases[k], outcomes[k]) for k in range(len(cases))]
    right = [finding is None for finding in findings]
    if all(right):
        return Verdict(exercise, right)
    first = right.index(False)
    finding = findings[first]
    assert finding is not None
    mistake = explain(exercise, cases, outcomes, first) if outcomes[first].kind == "value" else None
    found = Verdict(exercise, right, first + 1, finding, mistake)
    found.lines = [f"{exercise.name}: wrong in case {first + 1}: {cases[first].says}"] + finding.lines
    if mistake:
        found.lines.append(f"what this computes: {mistake[1]}")
    elif outcomes[first].kind == "value" and finding.kind != "changed":
        found.lines.append("no known mistake gives these values")
    return found


def judge(exercise: Exercise, function: "Callable[..., Any]", seed: int = 0, source: "list | None" = None) -> Verdict:
    """Judge a function on lists."""
    cases = exercise.cases(Draw(seed))
    outcomes = [run(function, plain(case.args), exercise.arguments, source) for case in cases]
    return verdict(exercise, cases, outcomes)
