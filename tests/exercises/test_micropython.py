"""The five first exercises judged in MicroPython and in CPython: the same text."""

import contextlib
import io
import subprocess
from pathlib import Path
from typing import Any

import pytest

from npmobilenet.exercises import IN_MICROPYTHON
from npmobilenet.exercises.cases import find_exercise
from npmobilenet.exercises.first_five import FIRST_FIVE, judge_source
from npmobilenet.exercises.marking import check_function
from tests.helpers.browsers import program
from tests.helpers.real_files import ROOT

MICROPYTHON = ROOT / "npmobilenet" / "page" / "vendor" / "micropython-1.27.0" / "micropython.mjs"
FOLDER = ROOT / "npmobilenet" / "exercises"

LOOPS = """
def depthwise_conv(x, w, stride):
    H, W, C, K = len(x), len(x[0]), len(x[0][0]), len(w)
    {before}
    y = []
    for i in range({rows}):
        row = []
        for j in range({columns}):
            pixel = []
            for c in range(C):
                total = 0
                for u in range(K):
                    for v in range(K):
                        r, s = i * stride + u - top, j * stride + v - left
                        if {inside}:
                            total {adds} x[r][s][c] * {weight}
                pixel.append({value})
            row.append(pixel)
        y.append(row)
    return y
"""
PARTS = {
    "before": "top, left = (max((-(-n // stride) - 1) * stride + K - n, 0) // 2 for n in (H, W))",
    "rows": "-(-H // stride)",
    "columns": "-(-W // stride)",
    "inside": "0 <= r < H and 0 <= s < W",
    "adds": "+=",
    "weight": "w[u][v][c]",
    "value": "total",
}


def depthwise(**changed: str) -> str:
    return LOOPS.format(**(PARTS | changed))


DEPTHWISE = [
    depthwise(weight="w[K - 1 - u][K - 1 - v][c]"),
    depthwise(weight="w[v][u][c]"),
    depthwise(weight="w[u][v][0]"),
    depthwise(before="top = left = K // 2"),
    depthwise(before="top = left = 0"),
    depthwise(inside="r < H and s < W"),
    depthwise(adds="="),
    depthwise(value="total / (K * K)"),
    depthwise(value="total / 3"),
    depthwise(rows="H", columns="W"),
    depthwise(value="float('nan') if i == j == 0 else total"),
    depthwise(before="top = left = 0; x[0][0][0] = 9"),
    depthwise(weight="w[u][v][c + 1]"),
    depthwise(rows="-(-H // stride) - 1"),
]
OTHERS = [
    ("convolution", "def convolution(x, w, b, stride):\n"
     "    return [[[0 * d for d in b] for p in r[::stride]] for r in x[::stride]]"),
    ("convolution", "def convolution(x, w, b, stride):\n    pass"),
    ("pointwise_conv", "def pointwise_conv(x, w):\n    return [[[sum(p[c] * w[d][c] for c in range(len(w)))"
     " for d in range(len(w[0]))] for p in r] for r in x]"),
    ("pointwise_conv", "def pointwise_conv(x, w):\n    return [[[sum(p)] for p in r] for r in x]"),
    ("count_macs", "def count_macs(H, W, C, table):\n    return [H * W * K * K * c for kind, c, K, s in table]"),
    ("count_macs", "def count_macs(H, W, C, table):\n    return 7"),
    ("best_separable", "def best_separable(k):\n    K, C, N = len(k), len(k[0][0]), len(k[0][0][0])\n"
     "    f = [[[sum(k[u][v][c]) / N for c in range(C)] for v in range(K)] for u in range(K)]\n"
     "    return f, [[sum(k[u][v][c][d] for u in range(K) for v in range(K)) for d in range(N)] for c in range(C)]"),
    ("best_separable", "def best_separable(k):\n    return k, 3"),
]  # fmt: skip
PROGRAMS = [("depthwise_conv", source) for source in (depthwise(), *DEPTHWISE)] + OTHERS

SCRIPT = f"""
from npmobilenet.exercises.exercise import Draw
from npmobilenet.exercises.first_five import FIRST_FIVE, judge_source
from npmobilenet.exercises.judgment import judge

for name, source in {PROGRAMS!r}:
    for seed in (0, 5):
        print(judge_source(source, name, seed))
for exercise in FIRST_FIVE:
    print(judge(exercise, exercise.right, 11).text())
    print(exercise.cases(Draw(123))[1].args)
"""


def test_micropython_says_what_cpython_says(tmp_path: Path) -> None:
    node = program("node", "nodejs")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    arguments: list[str | Path] = [
        node,
        Path(__file__).parent / "in_micropython.mjs",
        MICROPYTHON,
        FOLDER,
        ",".join(IN_MICROPYTHON),
        script,
    ]
    found = subprocess.run(arguments, capture_output=True, text=True, check=False)
    with contextlib.redirect_stdout(io.StringIO()) as expected:
        exec(compile(SCRIPT, "script.py", "exec"), {})
    assert found.returncode == 0, found.stdout + found.stderr
    assert _without_messages(found.stdout) == _without_messages(expected.getvalue())
    assert expected.getvalue().count("right in all") == 2 + len(FIRST_FIVE)


def _without_messages(text: str) -> list[str]:
    """Lines without the messages of Python's own exceptions, which differ in words."""
    return [line.partition(": ")[0] if "Error: " in line else line for line in text.splitlines()]


@pytest.mark.parametrize(("name", "source"), PROGRAMS[1:])
def test_the_command_says_what_the_page_says(name: str, source: str) -> None:
    """The same first wrong value, window and mistake, though the command hands out arrays and has more cases."""
    space: dict[str, Any] = {}
    exec(source, space)
    shown = check_function(space[name], find_exercise(name)).lines
    expected = judge_source(source, name).splitlines()
    if "Error: " in judge_source(source, name):
        shown, expected = shown[:1], expected[:1]
    assert shown == expected


def test_the_modules_import_only_each_other() -> None:
    for name in IN_MICROPYTHON:
        for line in (FOLDER / f"{name}.py").read_text().splitlines():
            if line.startswith(("import", "from")):
                assert line == "import sys" or line.split()[1].removeprefix("npmobilenet.exercises.") in IN_MICROPYTHON
