"""Ready for Pyodide: what the package does there, and what it requires.

Pyodide has no wheels of numba and llvmlite, no threads and no subprocesses. The other packages that are blocked here
are for downloads, Keras's files and terminals alone.
"""

import subprocess
from pathlib import Path

from build.util import project_wheel_metadata
from packaging.requirements import Requirement

from tests.helpers.absent_modules import run_without
from tests.helpers.real_files import ROOT, real_file

ABSENT = ("numba", "llvmlite", "h5py", "pooch", "requests", "rich", "typer", "platformdirs", "filelock")
MISSING_FROM_PYODIDE = ("resource",)  # of the standard library
PYODIDE = """
import _thread, os, platform, subprocess, threading

def refuse(*arguments, **options):
    raise RuntimeError("can't start new thread or process")

sys.platform, platform.machine = "emscripten", lambda: "wasm32"
os.cpu_count = lambda: 8  # of the browser
vars(os).pop("sched_getaffinity", None)
_thread.start_new_thread = threading._start_new_thread = threading.Thread.start = subprocess.Popen.__init__ = refuse
"""
PREDICTS = """
import npmobilenet as nm
model = nm.load("digits"{backend})
print(*model.predict([f"examples/digits/{{digit}}.png" for digit in range(10)]).argmax(axis=1))
print(model.classify("examples/digits/7.png", top=1)[0][0][1], model.features("examples/digits/7.png").shape)
"""
ANSWERS = "0 1 2 3 4 5 6 7 8 9\n7 (1, 256)\n"


def in_pyodide(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process that has what Pyodide 314 has."""
    return run_without(ABSENT + MISSING_FROM_PYODIDE, PYODIDE + program)


def test_the_digits_are_predicted_without_a_word() -> None:
    done = in_pyodide(PREDICTS.format(backend=", backend='reference'"))
    assert (done.returncode, done.stdout, done.stderr) == (0, ANSWERS, "")


def test_without_a_backend_chosen_one_warning_says_that_the_reference_computes() -> None:
    done = in_pyodide(PREDICTS.format(backend=""))
    assert (done.returncode, done.stdout) == (0, ANSWERS)
    assert done.stderr.count("Warning") == 1
    assert "NumPy reference" in done.stderr


def test_a_quantized_file_is_read_and_computed() -> None:
    file, photograph = real_file("tflite", "mobilenet_v1_0.25_128_quant.tflite"), real_file("images", "parrot.jpg")
    program = f"""
import npmobilenet as nm
model = nm.load({str(file)!r})
print(model.classify({str(photograph)!r}, top=1)[0][0][1], model.predict_integers({str(photograph)!r}).max())
"""
    done = in_pyodide(program)
    assert (done.returncode, done.stdout) == (0, "macaw 153\n"), done.stderr
    assert done.stderr.count("Warning") == 1
    assert "NumPy reference" in done.stderr


def test_every_layer_is_traced() -> None:
    program = """
import npmobilenet as nm
from npmobilenet.models.preprocessing import prepare
model = nm.load("digits")
outputs = dict(model.trace(model.scale(prepare("examples/digits/7.png", 32, 32)[None])))
print(list(outputs) == [layer.name for layer in model.graph.layers], outputs["predictions"].argmax())
"""
    done = in_pyodide(program)
    assert (done.returncode, done.stdout) == (0, "True 7\n"), done.stderr


def test_golden_data_is_written_and_read(tmp_path: Path) -> None:
    program = f"""
from npmobilenet.cli.main import main
from npmobilenet.porting.golden import GoldenData
pack = {str(tmp_path / "pack")!r}
assert main(["trace", "examples/digits/7.png", "-m", "digits", "-o", pack]) == 0
golden = GoldenData.open(pack)
print(golden.output("predictions").argmax(), golden.damaged())
"""
    done = in_pyodide(program)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["7 []"]), done.stderr


def test_an_answer_is_judged_in_a_cell() -> None:
    program = """
import numpy as np
from npmobilenet.exercises import check
def relu6(x):
    return np.clip(x, 0, 6), (x > 0) * (x < 6)
check(relu6)
try:
    check(lambda x: (np.maximum(x, 0), x > 0), name="relu6")
except AssertionError as error:
    print("what this computes" in str(error))
"""
    done = in_pyodide(program)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["True"]), done.stdout + done.stderr


def installed_on(platform: str) -> set[str]:
    """Packages that the wheel requires on a platform, extras left out."""
    lines = project_wheel_metadata(ROOT, isolated=False).get_all("Requires-Dist")
    assert lines
    requirements = map(Requirement, lines)
    return {
        required.name
        for required in requirements
        if required.marker is None or required.marker.evaluate({"sys_platform": platform, "extra": ""})
    }


def test_the_wheel_requires_no_machine_code_on_emscripten_and_all_of_it_elsewhere() -> None:
    assert installed_on("linux") - installed_on("emscripten") == {"numba", "llvmlite"}
    assert {"numpy", "pillow", "safetensors"} <= installed_on("emscripten") < installed_on("win32")
