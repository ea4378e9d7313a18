"""What works without most dependencies, as docs/install.md says: the other packages are not found."""

import subprocess
from pathlib import Path

import pytest

from npmobilenet.hub.load import load
from tests.helpers.absent_modules import run_without

PROGRAM = """
{before}
from npmobilenet.cli.main import main
sys.exit(main(["classify", "examples/digits/7.png", "--model", "digits", "--top", "1", "--backend", {backend!r}]))
"""
ABSENT = {"numba", "h5py", "pooch", "requests", "filelock", "platformdirs", "rich"}


def classify(absent: set[str], backend: str, before: str = "") -> subprocess.CompletedProcess[str]:
    return run_without(absent, PROGRAM.format(backend=backend, before=before))


def test_numpy_pillow_and_safetensors_classify_with_the_reference() -> None:
    done = classify(ABSENT | {"llvmlite"}, "reference")
    assert (done.returncode, done.stdout.split()[-1], done.stderr) == (0, "7", "")


@pytest.mark.usefixtures("kernels_kept")
def test_with_llvmlite_and_kept_kernels_the_engine_computes() -> None:
    load("digits", backend="compiled").compile()
    done = classify(ABSENT, "compiled")
    assert (done.returncode, done.stdout.split()[-1], done.stderr) == (0, "7", "")


def test_without_kernels_the_refusal_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPMOBILENET_CACHE", str(tmp_path))
    done = classify(ABSENT | {"llvmlite"}, "compiled")
    assert done.returncode == 1
    assert "No module named 'llvmlite'" in done.stderr


def test_on_another_architecture_the_reference_answers_and_one_sentence_says_why() -> None:
    riscv = "import platform; platform.machine = lambda: 'riscv64'"
    answered, refused = classify(set(), "auto", riscv), classify(set(), "compiled", riscv)
    assert (answered.returncode, answered.stdout.split()[-1], refused.returncode) == (0, "7", 1)
    for done in (answered, refused):
        assert "64-bit x86 and ARM, not riscv64" in done.stderr
