"""What the checker says: windows, shapes, exceptions, NaN, arguments that were changed."""

from typing import Any

import numpy as np
import pytest

from npmobilenet.exercises import check
from npmobilenet.exercises.cases import find_exercise
from npmobilenet.exercises.first_five import judge_source
from npmobilenet.exercises.judgment import Verdict
from npmobilenet.exercises.marking import check_function
from tests.exercises.right_answers import depthwise_taps
from tests.exercises.wrong_convolutions import depthwise, half


def judged(answer: Any, name: str = "depthwise_conv") -> Verdict:
    return check_function(answer, find_exercise(name))


def test_the_window_is_that_of_the_first_wrong_value() -> None:
    lines = judged(lambda x, w, stride: depthwise(x, w, stride, pads=half(len(w)))).lines
    assert lines == [
        "depthwise_conv: wrong in case 2: x 4 x 5 x 2, w 3 x 3 x 2, stride 2, numbers",
        "first wrong value: y[0][0][0] is 0, expected -27",
        "the window that makes it, channel 0 (pixel x weight):",
        "    pad x    -3      -1 x     3       1 x    -4",
        "    pad x    -1      -3 x     4       0 x     1",
        "    pad x     2       4 x    -1       1 x    -4",
        "1 of 12 values are right",
        "what this computes: zeros on both sides, as PyTorch's padding=K//2; TensorFlow puts the odd one at the end",
    ]
    assert -3 - 4 - 12 + 0 - 4 - 4 == -27  # the window's products, -1*3 + 1*-4 + -3*4 + 0*1 + 4*-1 + 1*-4


def test_a_wrong_shape_says_both_and_the_formula() -> None:
    lines = judged(lambda x, w, stride: depthwise(x, w, stride, pads=[(0, 0), (0, 0)])).lines
    assert lines[1:4] == [
        "shape of y: (1, 1, 1), expected (3, 3, 1)",
        "  H_out = ceil(H / stride), W_out = ceil(W / stride); returns (H_out, W_out, C)",
        f"first wrong value: y[0][0][0] is {lines[3].split(' is ')[1].split(',')[0]}, {lines[3].split(', ')[1]}",
    ]
    assert lines[-1].startswith("what this computes: no zeros around x")


def test_another_rank_and_missing_values() -> None:
    assert (
        judged(lambda x, w, stride: depthwise_taps(x, w, stride)[None])
        .lines[3]
        .startswith("first wrong value: y[0][0][0] is a list")
    )
    assert judged(lambda x, w, stride: depthwise_taps(x, w, stride)[:-1]).finding.place == "y[2][0][0]"  # type: ignore[union-attr]
    longer = judged(lambda x, w, stride: np.pad(depthwise_taps(x, w, stride), ((0, 1), (0, 0), (0, 0))))
    assert longer.lines[3] == "first wrong value: y[3][0][0] is 0, expected no such value"
    assert (
        judged(lambda x, w, stride: [[[1]], [[1, 2]]]).lines[1]
        == "shape of y: rows of different lengths, expected (3, 3, 1)"
    )


def test_an_exception_is_shown_with_its_line() -> None:
    def answer(x: Any, w: Any, stride: Any) -> Any:
        rows = [1, 2]
        return rows[stride + len(x)]

    lines = judged(answer).lines
    assert lines[1] == "IndexError: list index out of range"
    assert lines[2].endswith(", in answer")
    assert lines[3] == "    return rows[stride + len(x)]"


def test_nan_is_counted_and_placed() -> None:
    def answer(x: Any, w: Any, stride: Any) -> Any:
        y = depthwise_taps(x, w, stride).astype(float)
        y[1, 1, 0] = np.nan
        y[2, 2, 0] = np.nan
        return y

    verdict = judged(answer)
    assert verdict.finding is not None
    assert verdict.finding.kind == "NaN"
    assert "values that are NaN: 2, the first is y[1][1][0]" in verdict.lines


def test_arguments_must_not_be_changed() -> None:
    def answer(x: Any, w: Any, stride: Any) -> Any:
        y = depthwise_taps(x, w, stride)
        w *= 2
        return y

    verdict = judged(answer)
    assert verdict.finding is not None
    assert verdict.finding.kind == "changed"
    assert verdict.lines[1].startswith("an argument was changed: w[0][0][0] was ")


def test_none_says_that_a_return_is_missing() -> None:
    assert judged(lambda x, w, stride: None).lines[1] == "the function returns None: is a return missing?"
    assert "expected 2 results, (y, slope), got 3 values" in judged(lambda x: (1, 2, 3), "relu6").text()


def test_check_raises_what_graders_take_as_a_failed_test(capsys: pytest.CaptureFixture[str]) -> None:
    def pointwise_conv(x: Any, w: Any) -> Any:
        return x @ w.T

    with pytest.raises(AssertionError, match=r"what this computes: the weights are transposed"):
        check(pointwise_conv)
    pointwise_conv.__code__ = (lambda x, w: x @ w).__code__
    check(pointwise_conv, seed=7)
    assert capsys.readouterr().out == "pointwise_conv: right in all 11 cases\n"


def test_check_knows_the_names() -> None:
    with pytest.raises(ValueError, match=r"no exercise 'other'; exercises: convolution, depthwise_conv"):
        check(lambda x: x, name="other")
    with pytest.raises(AssertionError, match="hard_swish: not begun"):
        check(_not_begun, name="hard_swish")


def _not_begun(x: Any) -> Any:
    raise NotImplementedError


def test_a_program_on_lists_is_judged_as_the_page_does() -> None:
    source = "def pointwise_conv(x, w):\n    return [[p[:] for p in row] for row in x]\n"
    assert judge_source(source, "pointwise_conv").startswith("pointwise_conv: wrong in case 1")
    assert judge_source("x = 1", "pointwise_conv") == "pointwise_conv: there is no function of this name"
    assert judge_source("def f(:", "pointwise_conv").startswith("SyntaxError: invalid syntax")
    late = "def pointwise_conv(x, w):\n    y = []\n    return y[0]\n"
    assert judge_source(late, "pointwise_conv").split("\n")[1:] == [
        "IndexError: list index out of range", "  line 3, in pointwise_conv", "    return y[0]",
    ]  # fmt: skip
