"""What an exercise is made of, and the numbers of its cases, drawn from a seed; in CPython and in MicroPython alike."""

from npmobilenet.exercises.nested import filled, number, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

EXACT = 1e-9
"""Whole numbers are right if they are equal; a sum that goes through a Fourier transform is off by less than this, and
every mistake by at least 1/4."""


class Draw:
    """Numbers from a seed, the same in every Python."""

    def __init__(self, seed: int) -> None:
        self.state = (seed * 2654435761 + 40503) & 0xFFFFFFFF
        for _ in range(4):
            self.below(2)

    def below(self, n: int) -> int:
        """A whole number in 0..n-1."""
        self.state = (1664525 * self.state + 1013904223) & 0xFFFFFFFF
        return (self.state >> 10) % n

    def between(self, low: int, high: int) -> int:
        """A whole number in low..high."""
        return low + self.below(high - low + 1)

    def numbers(self, *shape: int, unit: float = 1) -> list:
        """Nested lists of multiples of a unit, -4 to 4 of them, few of them 0."""
        return filled(shape, lambda *_: unit * (self.between(1, 4) if self.below(2) else -self.between(0, 4)))

    def reals(self, *shape: int) -> list:
        """Nested lists of numbers in -2..2, which float32 holds."""
        return filled(shape, lambda *_: (self.below(65537) - 32768) / 16384)


class Case:
    """Arguments for a function.

    Args:
        says: the case in words.
        args: the arguments, nested lists and numbers.
        bound: what each value may be off by: a number, or nested lists of the shape of the results.
    """

    def __init__(self, says: str, args: list, bound: "Any" = EXACT) -> None:
        self.says = says
        self.args = args
        self.bound = bound
        self.expected: list | None = None  # what is right, once it has been asked for


class Exercise:
    """A function to write.

    Args:
        name, points: the function's name, and what it is worth.
        arguments, results: names of its parameters, and of what it returns.
        formula: the shape of the result.
        right: the function that is right.
        cases: draw -> cases.
        mistakes: (key, text, function that makes it).
        how: (args, index, theirs) -> lines that show how a value is made; the index begins with the result's number.
        read: (answer, args) -> values that are compared; it raises ValueError for what cannot be read.
        diagnose: (args, theirs) -> (key, text) of a mistake that no function makes, or None.
        whole: whether arrays among its arguments are of whole numbers.
    """

    def __init__(
        self,
        name: str,
        points: int,
        arguments: tuple,
        results: tuple,
        formula: str,
        right: "Callable[..., Any]",
        cases: "Callable[[Draw], list]",
        mistakes: list,
        how: "Callable[[list, tuple, Any], list]",
        read: "Callable[[Any, list], list] | None" = None,
        diagnose: "Callable[[list, list], tuple | None] | None" = None,
        whole: bool = False,
    ) -> None:
        self.name = name
        self.points = points
        self.arguments = arguments
        self.results = results
        self.formula = formula
        self.right = right
        self.cases = cases
        self.mistakes = mistakes
        self.how = how
        self.read = read or self._parts
        self.diagnose = diagnose
        self.whole = whole

    def _parts(self, answer: "Any", args: list) -> list:
        """The results, as a list of one value each."""
        if answer is None:
            raise ValueError("the function returns None: is a return missing?")
        if len(self.results) == 1:
            return [answer]
        if not isinstance(answer, list) or len(answer) != len(self.results):
            got = f"{len(answer)} values" if isinstance(answer, list) else number(answer)
            raise ValueError(f"expected {len(self.results)} results, ({', '.join(self.results)}), got {got}")
        return answer

    def expected(self, case: Case) -> list:
        """What is right in a case."""
        if case.expected is None:
            case.expected = self.read(plain(self.right(*case.args)), case.args)
        return case.expected
