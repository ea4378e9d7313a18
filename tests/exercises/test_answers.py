"""The checker on answers: wrong ones are named with the mistake that was made, right ones pass in whatever style."""

import os
from typing import Any

import numpy as np
import pytest

from npmobilenet.exercises import judgment, plainly
from npmobilenet.exercises.cases import EXERCISES, all_cases, find_exercise
from npmobilenet.exercises.exercise import Draw
from npmobilenet.exercises.marking import check_function
from npmobilenet.exercises.nested import plain
from npmobilenet.reference.convolution import conv2d, depthwise_conv2d, pointwise_conv2d
from tests.exercises import right_answers, wrong_convolutions, wrong_layers

WRONG = wrong_convolutions.ANSWERS + wrong_layers.ANSWERS
RIGHT = right_answers.ANSWERS
SEEDS = range(200) if os.environ.get("NPMOBILENET_NIGHTLY") else range(2)
NAMED = 0.95  # of the wrong answers, by the acceptance of the exercises


@pytest.mark.parametrize(("name", "key", "answer"), WRONG, ids=[f"{name}-{key}" for name, key, _ in WRONG])
def test_a_wrong_answer_is_named(name: str, key: str, answer: Any) -> None:
    verdict = check_function(answer, find_exercise(name), seed=0)
    assert not verdict.all_right()
    assert verdict.finding is not None
    assert verdict.finding.place, verdict.text()
    assert verdict.finding.got != verdict.finding.expected
    assert verdict.mistake is not None, verdict.text()
    assert verdict.mistake[0] == key, verdict.text()


def test_wrong_answers_are_named_on_other_seeds() -> None:
    named = []
    for seed, (name, key, answer) in enumerate(WRONG, 1):
        verdict = check_function(answer, find_exercise(name), seed)
        assert not verdict.all_right(), (seed, name, key)
        assert verdict.finding is not None
        assert verdict.finding.place, verdict.text()
        named.append(verdict.mistake is not None and verdict.mistake[0] == key)
    assert np.mean(named) >= NAMED


def test_there_are_wrong_answers_enough() -> None:
    names = [name for name, _, _ in WRONG]
    assert len(WRONG) >= 80
    assert {exercise.name: names.count(exercise.name) >= 5 for exercise in EXERCISES} == {
        exercise.name: True for exercise in EXERCISES
    }


@pytest.mark.parametrize(("name", "style", "answer"), RIGHT, ids=[f"{name}: {style}" for name, style, _ in RIGHT])
def test_a_right_answer_passes(name: str, style: str, answer: Any) -> None:
    for seed in SEEDS:
        verdict = check_function(answer, find_exercise(name), seed)
        assert verdict.all_right(), verdict.text()


def test_there_are_right_answers_enough() -> None:
    assert len(RIGHT) >= 40
    assert {name for name, _, _ in RIGHT} == {exercise.name for exercise in EXERCISES}


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_every_mistake_can_be_seen(exercise: Any) -> None:
    """Each mistake that the checker knows is wrong in some case, and is named itself."""
    cases = all_cases(exercise, 0)
    for key, _, mistake in exercise.mistakes:
        verdict = judgment.verdict(
            exercise, cases, [judgment.run(mistake, plain(case.args), exercise.arguments) for case in cases]
        )
        assert not verdict.all_right(), key
        if verdict.finding is not None and verdict.finding.kind != "error":
            assert verdict.mistake is not None, (key, verdict.text())
            assert verdict.mistake[0] == key, (key, verdict.text())


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_cases_come_from_the_seed(exercise: Any) -> None:
    first, again, other = ([case.args for case in all_cases(exercise, seed)] for seed in (4, 4, 5))
    assert first == again
    assert first != other


def test_points_are_those_of_the_design() -> None:
    assert sum(exercise.points for exercise in EXERCISES) == 36


def test_the_network_counts_what_the_package_counts() -> None:
    """568,740,352 multiply-adds with the classifier's 1,024,000."""
    case = all_cases(find_exercise("count_macs"), 0)[-1]
    (counts,) = find_exercise("count_macs").expected(case)
    import npmobilenet

    assert sum(counts) == npmobilenet.mobilenet_v1().macs - 1_024_000


@pytest.mark.parametrize("seed", range(3))
def test_the_loops_compute_what_the_package_computes(seed: int) -> None:
    def arrays(*values: Any) -> list[Any]:
        return [np.array(value, np.float64) for value in values]

    for case in all_cases(find_exercise("convolution"), seed):
        (x, w, b), stride = arrays(*case.args[:3]), case.args[3]
        np.testing.assert_allclose(plainly.convolution(*case.args), conv2d(x[None], w, b, stride=stride)[0], atol=1e-12)
    for case in all_cases(find_exercise("depthwise_conv"), seed):
        (x, w), stride = arrays(*case.args[:2]), case.args[2]
        expected = depthwise_conv2d(x[None], w[..., None], stride=stride)[0]
        np.testing.assert_allclose(plainly.depthwise_conv(*case.args), expected, atol=1e-12)
    for case in all_cases(find_exercise("pointwise_conv"), seed):
        x, w = arrays(*case.args)
        np.testing.assert_allclose(plainly.pointwise_conv(*case.args), pointwise_conv2d(x[None], w)[0], atol=1e-12)
    for case in find_exercise("best_separable").cases(Draw(seed)):
        f, m = arrays(*plainly.best_separable(*case.args))
        (k,) = arrays(*case.args)
        for c in range(k.shape[2]):
            u, s, vt = np.linalg.svd(k[:, :, c].reshape(-1, k.shape[3]), full_matrices=False)
            np.testing.assert_allclose(np.outer(f[:, :, c], m[c]), s[0] * np.outer(u[:, 0], vt[0]), atol=1e-9 * s[0])
            assert len(s) == 1 or s[1] <= s[0] / 3 * (1 + 1e-9)  # what its bound is derived from
