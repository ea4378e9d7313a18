"""All exercises, and all their cases: those on lists, and larger ones in float32 with derived bounds."""

from collections.abc import Callable

import numpy as np

from npmobilenet.architectures.mobilenet_v1 import V1
from npmobilenet.errors import ArgumentError
from npmobilenet.exercises.broken_packs import FIND_THE_MISTAKE
from npmobilenet.exercises.exercise import Case, Draw, Exercise
from npmobilenet.exercises.first_five import FIRST_FIVE
from npmobilenet.exercises.layer_exercises import BATCH_NORM, FOLD_BATCH_NORM, SQUEEZE_EXCITE, twice
from npmobilenet.exercises.number_exercises import HARD_SWISH, QUANTIZE, RELU6, SAME_PADDING, WIDTH
from npmobilenet.exercises.residual_exercise import INVERTED_RESIDUAL
from npmobilenet.reference.rounding import conv2d_bound, depthwise_conv2d_bound, pointwise_conv2d_bound

EXERCISES = (
    *FIRST_FIVE, SAME_PADDING, BATCH_NORM, FOLD_BATCH_NORM, RELU6, INVERTED_RESIDUAL, WIDTH,
    SQUEEZE_EXCITE, HARD_SWISH, QUANTIZE, FIND_THE_MISTAKE,
)  # fmt: skip
"""In the order of the lessons. Fourteen; V3's, the twelfth, is two functions."""


def find_exercise(name: str) -> Exercise:
    """An exercise by its name.

    Raises:
        ArgumentError: there is none of that name.
    """
    for exercise in EXERCISES:
        if exercise.name == name:
            return exercise
    raise ArgumentError(f"no exercise {name!r}; exercises: {', '.join(each.name for each in EXERCISES)}")


def all_cases(exercise: Exercise, seed: int) -> list[Case]:
    """The cases of an exercise: those that the page has too, then those of `LARGER`."""
    return exercise.cases(Draw(seed)) + LARGER.get(exercise.name, _no_cases)(Draw(seed + 1))


def _no_cases(draw: Draw) -> list[Case]:
    return []


def _convolutions(draw: Draw) -> list[Case]:
    cases = []
    for H, W, c_in, c_out, K, stride in ((9, 8, 4, 5, 3, 2), (8, 9, 3, 4, 5, 1)):
        x, w, b = draw.reals(H, W, c_in), draw.reals(K, K, c_in, c_out), draw.reals(c_out)
        bound = conv2d_bound(np.array(x)[None], np.array(w), np.array(b), stride=stride)[0]
        says = f"x {H} x {W} x {c_in}, w {K} x {K} x {c_in} x {c_out}, stride {stride}, real numbers"
        cases.append(Case(says, [x, w, b, stride], twice(bound)))
    return cases


def _depthwise(draw: Draw) -> list[Case]:
    cases = []
    for H, W, C, K, stride in ((12, 11, 5, 3, 2), (9, 14, 8, 5, 1)):
        x, w = draw.reals(H, W, C), draw.reals(K, K, C)
        bound = depthwise_conv2d_bound(np.array(x)[None], np.array(w)[..., None], stride=stride)[0]
        says = f"x {H} x {W} x {C}, w {K} x {K} x {C}, stride {stride}, real numbers"
        cases.append(Case(says, [x, w, stride], twice(bound)))
    return cases


def _pointwise(draw: Draw) -> list[Case]:
    cases = []
    for H, W, c_in, c_out in ((7, 6, 16, 12), (5, 9, 12, 16)):
        x, w = draw.reals(H, W, c_in), draw.reals(c_in, c_out)
        bound = pointwise_conv2d_bound(np.array(x)[None], np.array(w))[0]
        cases.append(Case(f"x {H} x {W} x {c_in}, w {c_in} x {c_out}, real numbers", [x, w], twice(bound)))
    return cases


def _network(draw: Draw) -> list[Case]:
    """The convolutions of MobileNetV1 without its classifier."""
    table, C = [["convolution", 32, 3, 2]], 32
    for row in V1:
        table += [["depthwise", C, 3, row.stride], ["pointwise", row.c_out, 1, 1]]
        C = row.c_out
    return [Case("x 224 x 224 x 3, MobileNetV1", [224, 224, 3, table])]


LARGER: dict[str, Callable[[Draw], list[Case]]] = {
    "convolution": _convolutions,
    "depthwise_conv": _depthwise,
    "pointwise_conv": _pointwise,
    "count_macs": _network,
}
"""Cases that are only for CPython."""
