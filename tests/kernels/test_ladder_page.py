"""kernels/README.md names every module of the package, and no other, and quotes a run of `npmobilenet ladder`."""

import json
import re
from pathlib import Path

import npmobilenet_kernels

PACKAGE = Path(npmobilenet_kernels.__file__).parent
ROOT = Path(__file__).parents[2]


def test_the_page_names_every_module_and_no_other() -> None:
    page = (ROOT / "kernels" / "README.md").read_text(encoding="utf-8")
    named = {Path(match).name for match in re.findall(r"`([\w/]+\.py)`", page)}
    modules = {path.name for path in PACKAGE.rglob("*.py")} - {"__init__.py"}
    assert named == modules


def test_the_rungs_are_in_the_files_that_the_table_names() -> None:
    page = (ROOT / "kernels" / "README.md").read_text(encoding="utf-8")
    rungs = re.findall(r"^\| (\d) \| `([\w/]+\.py)`", page, re.MULTILINE)
    assert [number for number, _ in rungs] == ["0", "1", "2", "3", "4"]
    assert [file for _, file in rungs if not (PACKAGE / file).is_file()] == []


def test_the_speeds_are_those_of_the_recorded_run() -> None:
    page = (ROOT / "kernels" / "README.md").read_text(encoding="utf-8")
    run = json.loads((ROOT / "npmobilenet" / "data" / "ladder-times.json").read_text(encoding="utf-8"))
    speeds = re.findall(r"^\| \d \| `[\w/]+\.py`.*\| (\d+) \|$", page, re.MULTILINE)
    assert [int(speed) for speed in speeds] == [round(rung["gflops"]) for rung in run["rungs"][4:]]
    assert f"{run['peak_flops'] / 1e9:.0f} GFLOP/s" in page
    assert run["cpu"] in page
