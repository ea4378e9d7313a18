"""The lessons: a notebook is its script; every cell runs offline with the package, NumPy and matplotlib alone."""

import ast
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from scripts.write_notebooks import notebook
from tests.helpers.absent_modules import run_without
from tests.helpers.real_files import ROOT

SCRIPTS = sorted((ROOT / "lessons").glob("*.py"))
LONGEST = 60  # seconds of one lesson
HEAVY = ("tensorflow", "keras", "tf_keras", "onnxruntime", "onnx", "sklearn", "torch", "scipy")
RUN = """
import socket

def refuse(*args, **options):
    raise OSError("a lesson needs the network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse

import matplotlib
matplotlib.use("Agg")
import json
from pathlib import Path

space = {{"__name__": "__main__"}}
for number, cell in enumerate(json.loads(Path({path!r}).read_text(encoding="utf-8"))["cells"]):
    if cell["cell_type"] != "code":
        continue
    code = compile("".join(cell["source"]), f"cell {{number}}", "exec")
    if "raises-exception" not in cell["metadata"].get("tags", []):
        exec(code, space)
        continue
    try:
        exec(code, space)
    except AssertionError as error:
        assert "not begun" in str(error), error
    else:
        raise SystemExit(f"cell {{number}}: an exercise without an answer was found right")
"""


def test_there_are_twelve() -> None:
    assert [path.name[:2] for path in SCRIPTS] == [f"{number:02}" for number in range(1, 13)]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_notebook_is_the_script(path: Path) -> None:
    expected = notebook(path)
    assert path.with_suffix(".ipynb").read_text(encoding="utf-8") == expected, "run python scripts/write_notebooks.py"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_its_exercises_are_those_of_the_starter(path: Path) -> None:
    starter = functions(ROOT / "npmobilenet" / "exercises" / "starter.py")
    own = functions(path)
    assert {name: own[name] for name in own.keys() & starter.keys()} == {
        name: starter[name] for name in own.keys() & starter.keys()
    }


def functions(path: Path) -> dict[str, str]:
    """Functions of a file by name, as text."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: ast.unparse(node) for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_notebook_runs_offline(path: Path) -> None:
    done = run_without(HEAVY, RUN.format(path=str(path.with_suffix(".ipynb"))))
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not os.environ.get("NPMOBILENET_NIGHTLY"), reason="fills an environment: NPMOBILENET_NIGHTLY=1")
def test_the_notebooks_run_with_the_wheel_and_matplotlib_alone(tmp_path: Path) -> None:
    wheel = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(wheel, check=True, capture_output=True)
    venv.create(tmp_path / "environment", with_pip=True)
    python = str(tmp_path / "environment" / "bin" / "python")
    (built,) = tmp_path.glob("*.whl")
    subprocess.run([python, "-m", "pip", "install", "-q", f"{built}[plot]"], check=True, capture_output=True)
    for path in SCRIPTS:
        program = RUN.format(path=str(path.with_suffix(".ipynb")))
        subprocess.run([python, "-c", program], check=True, cwd=tmp_path, timeout=LONGEST, capture_output=True)
