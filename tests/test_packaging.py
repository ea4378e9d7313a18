"""What gets installed, how light it is to import, and that the README says what CI runs."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.helpers.real_files import ROOT

HEAVY = [
    "numba",
    "llvmlite",
    "h5py",
    "PIL",
    "pooch",
    "safetensors",
    "tensorflow",
    "keras",
    "npmobilenet_weights_convert",
    "rich",
]


def loaded_by(statement: str) -> list[str]:
    """Which of the heavy modules a fresh process holds after `statement`."""
    program = f"import sys\n{statement}\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import npmobilenet") == []


def test_the_help_loads_nothing_heavy() -> None:
    program = (
        "import contextlib, io\n"
        "from npmobilenet.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as shown:\n"
        "    sys.argv = ['npmobilenet', '--help']; main()\n"
        "assert 'classify' in shown.getvalue()"
    )
    assert loaded_by(program) == []


def test_counting_a_network_loads_nothing_heavy() -> None:
    assert loaded_by("import npmobilenet\nnpmobilenet.mobilenet_v3_large().macs") == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_three_packages_and_nothing_else_at_its_top(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "npmobilenet",
        "npmobilenet_kernels",
        "npmobilenet_weights_convert",
    }


def test_the_wheel_holds_the_data_and_says_that_it_is_typed(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "npmobilenet/data/digits.safetensors",
        "npmobilenet/data/imagenet_classes.txt",
        "npmobilenet/py.typed",
    } <= names


def test_the_wheel_holds_the_page_and_the_lessons(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    page = {path.relative_to(ROOT).as_posix() for path in (ROOT / "npmobilenet" / "page").rglob("*") if path.is_file()}
    assert {name for name in page if "__pycache__" not in name} <= names
    lessons = {path.name for path in (ROOT / "lessons").glob("*.ipynb")}
    assert lessons == {
        name.rpartition("/")[2] for name in names if re.fullmatch(r"npmobilenet/exercises/lessons/.*\.ipynb", name)
    }


def test_the_version_is_the_one_of_the_changelog() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = [line.strip() for line in (ROOT / "README.md").read_text().splitlines() if "scripts/test" in line]
    assert commands[0] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_without_numba_the_reference_computes_and_says_so_once() -> None:
    program = (
        "import sys, warnings\n"
        "sys.modules['llvmlite'] = sys.modules['numba'] = None\n"
        "import npmobilenet as nm\n"
        f"image = {str(ROOT / 'examples' / 'digits' / '7.png')!r}\n"
        "with warnings.catch_warnings(record=True) as told:\n"
        "    warnings.simplefilter('always')\n"
        "    answers = [nm.load('digits').classify(image, top=1)[0][0][1] for _ in range(2)]\n"
        "print(*answers, len(told), 'NumPy reference' in str(told[0].message))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["7", "7", "1", "True"]
