"""`npmobilenet check` and `npmobilenet lessons`: a student's file in a process of its own."""

import ast
import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from npmobilenet.exercises import check
from npmobilenet.exercises.cases import EXERCISES
from tests.helpers.command_line import document, run
from tests.helpers.real_files import ROOT

RIGHT = """
import numpy as np

def pointwise_conv(x, w):
    print("seen by the student")
    return x @ w

def hard_swish(x):
    return x * np.clip(x + 3, 0, 6) / 6

def relu6(x):
    raise NotImplementedError
"""
WRONG = """
def pointwise_conv(x, w):
    return x @ w.T

def hard_swish(x):
    return [v * min(max(v + 3, 0), 6) / 6 for v in x]
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return tmp_path / "exercises.py"


def test_right_answers(program: Path) -> None:
    program.write_text(RIGHT)
    result = run("check", program)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:2] == ["pointwise_conv: right in all 11 cases", "hard_swish: right in all 6 cases"]
    assert lines[2].startswith("not begun: convolution, depthwise_conv, count_macs")
    assert lines[3:] == ["points: 3 of 36"]


def test_wrong_answers_and_points(program: Path) -> None:
    program.write_text(WRONG)
    result = run("check", program)
    assert result.exit_code == 1
    assert "  what this computes: the weights are transposed: w[d][c] in place of w[c][d]" in result.stdout
    assert result.stdout.endswith("points: 1 of 36\n")
    parts = document(run("check", program, "--points", "--json", "--only", "pointwise_conv"), exit_code=1)
    (marked,) = parts["exercises"]
    assert marked["status"] == "wrong"
    assert marked["points"] == marked["max_points"] * marked["right"] // marked["cases"]
    assert marked["mistake"] == "transposed"
    assert marked["first_wrong"]["place"].startswith("y[0][0][")


def test_the_seed_chooses_the_cases(program: Path) -> None:
    program.write_text(WRONG)
    one, again, other = (run("check", program, "--seed", seed).stdout for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_nothing_to_judge(program: Path) -> None:
    program.write_text("x = 1\n")
    result = run("check", program)
    assert result.exit_code == 2
    assert "nothing to judge; functions: convolution, depthwise_conv" in result.stderr
    assert run("check", program.parent / "none.py").exit_code == 2
    assert "no exercise 'conv'; exercises: convolution" in run("check", program, "--only", "conv").stderr


def test_a_program_that_cannot_be_run(program: Path) -> None:
    program.write_text("import numpy\n\nnumbers = [1, 2][5]\n")
    result = run("check", program)
    assert result.exit_code == 2
    assert result.stderr.split("\n")[1:4] == [
        "IndexError: list index out of range",
        "  line 3, in <module>",
        "    numbers = [1, 2][5]",
    ]
    program.write_text("def f(:\n")
    assert "SyntaxError" in run("check", program).stderr


def test_limits(program: Path) -> None:
    """Too slow, too large, ended, blocked: each only spoils its own exercise."""
    program.write_text(
        "def same_padding(size, K, stride):\n    while size > 9 or K != 3 or stride != 2: pass\n"
        "def width(channels, alpha, network):\n    return bytearray(1 << 40)\n"
        "def relu6(x):\n    import os\n    os._exit(3)\n"
        "def hard_swish(x):\n    import npmobilenet.reference.activations as a\n    return a.hard_swish(x)\n"
        "def pointwise_conv(x, w):\n    import os\n    assert os.listdir() == []\n    return x @ w\n"
    )
    result = document(run("check", program, "--timeout", 1, "--json"), exit_code=1)
    found = {each["name"]: each for each in result["exercises"]}
    assert found["same_padding"]["kind"] == "slow"
    assert "too slow: all cases together may take 1 s" in found["same_padding"]["text"]
    assert "MemoryError" in found["width"]["text"]
    assert "the process ended with exit code 3" in found["relu6"]["text"]
    assert "npmobilenet cannot be imported in an exercise" in found["hard_swish"]["text"]
    assert found["pointwise_conv"]["status"] == "right"
    allowed = document(run("check", program, "--allow-package", "--json", "--only", "hard_swish"))
    assert allowed["points"] == 1


def test_the_package_cannot_be_read_from_loaded_modules(program: Path) -> None:
    program.write_text(
        "import sys\ndef hard_swish(x):\n    return [m for m in sys.modules if m.startswith('npmobilenet')]\n"
    )
    (marked,) = document(run("check", program, "--json", "--only", "hard_swish"), exit_code=1)["exercises"]
    assert "shape of y: (0,), expected (9,)" in marked["text"]


def test_gradescope(program: Path, tmp_path: Path) -> None:
    program.write_text(WRONG)
    results = tmp_path / "results" / "results.json"
    run("check", program, "--gradescope", results)
    tests = {test["name"]: test for test in json.loads(results.read_text())["tests"]}
    assert list(tests) == [exercise.name for exercise in EXERCISES]
    assert sum(test["max_score"] for test in tests.values()) == 36
    assert (tests["hard_swish"]["score"], tests["hard_swish"]["status"]) == (1, "passed")
    assert (tests["pointwise_conv"]["score"], tests["pointwise_conv"]["status"]) == (0, "failed")
    assert "the weights are transposed" in tests["pointwise_conv"]["output"]
    program.write_text("1 / 0")
    run("check", program, "--gradescope", results)
    assert json.loads(results.read_text())["score"] == 0
    assert "ZeroDivisionError" in json.loads(results.read_text())["output"]


def test_all_graders_give_the_same_points(program: Path, tmp_path: Path) -> None:
    """nbgrader and otter take an AssertionError in a cell as no points, and none as all."""
    program.write_text(WRONG)
    results = tmp_path / "results.json"
    by_json = document(run("check", program, "--seed", 7, "--json", "--gradescope", results), exit_code=1)
    cells: dict[str, Any] = {}
    exec(WRONG, cells)
    for marked, test in zip(by_json["exercises"], json.loads(results.read_text())["tests"], strict=True):
        assert marked["points"] == test["score"]
        if marked["name"] in cells:
            passes: Any = nullcontext() if marked["points"] else pytest.raises(AssertionError)
            with passes as error:
                check(cells[marked["name"]], seed=7)
            assert marked["points"] or str(error.value) == marked["text"]


def test_lists_are_tried_where_arrays_do_not_fit(program: Path) -> None:
    program.write_text("def hard_swish(x):\n    return [v * min(max(v + 3, 0), 6) / 6 for v in x + []]\n")
    assert run("check", program, "--only", "hard_swish").exit_code == 0


def test_lessons_are_copied_once(tmp_path: Path) -> None:
    folder = tmp_path / "hw"
    assert run("lessons", folder).exit_code == 0
    assert [path.name for path in sorted(folder.glob("*.ipynb"))] == [
        path.name for path in sorted((ROOT / "lessons").glob("*.ipynb"))
    ]
    text = (folder / "exercises.py").read_text()
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    assert [function.name for function in functions] == [exercise.name for exercise in EXERCISES]
    for function, exercise in zip(functions, EXERCISES, strict=True):
        assert tuple(argument.arg for argument in function.args.args) == exercise.arguments
    refused = run("lessons", folder)
    assert refused.exit_code == 2
    assert "already exists; use --force to overwrite it, answers included" in refused.stderr
    assert run("lessons", folder, "--force", "--json").exit_code == 0
    assert run("check", folder / "exercises.py").exit_code == 2


def test_the_package_itself_imports_no_exercise() -> None:
    program = "import sys, npmobilenet; print([m for m in sys.modules if 'exercises' in m])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
