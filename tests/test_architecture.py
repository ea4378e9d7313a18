"""The floor plan of docs/architecture.md: imports point downward, one meaning per name, short files and functions."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.helpers.real_files import ROOT

PACKAGES = {
    "npmobilenet_kernels": ROOT / "kernels" / "npmobilenet_kernels",
    "npmobilenet": ROOT / "npmobilenet",
    "npmobilenet_weights_convert": ROOT / "weights_convert" / "npmobilenet_weights_convert",
}
FLOORS = [  # bottom to top
    "kernels",
    "base",
    "reference",
    "detection",
    "quantized",
    "architectures",
    "compiler",
    "models",
    "analysis",
    "weights_convert",
    "hub",
    "porting",
    "bench",
    "exercises",
    "ladder",
    "figures",
    "page",
    "cli",
    "facade",
]
ROOMS = {
    "npmobilenet_kernels": "kernels",
    "npmobilenet_weights_convert": "weights_convert",
    "npmobilenet": "facade",
    "npmobilenet.__main__": "facade",
    "npmobilenet.former_modules": "facade",
    "npmobilenet.sklearn": "facade",
}
LONGEST_FILE, LONGEST_FUNCTION = 400, 60  # lines


class Arrow(NamedTuple):
    """One import: from a module to a module."""

    source: str
    target: str


def modules() -> dict[str, Path]:
    """Path of every module of the three packages by its dotted name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


def room(module: str) -> str:
    """Floor of a module: its package, or its folder in `npmobilenet`; files next to the folders are base."""
    package, _, rest = module.partition(".")
    if package != "npmobilenet" or module in ROOMS:
        return ROOMS[module if module in ROOMS else package]
    folder, _, _ = rest.partition(".")
    return folder if folder in FLOORS else "base"


def arrows() -> Iterator[Arrow]:
    """Every import between modules of the three packages, wherever it stands: lazy and type-checking ones included."""
    known = modules()
    for module, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for target in imported(node):
                if target.partition(".")[0] in PACKAGES:
                    yield Arrow(module, target if target in known else target.rpartition(".")[0])


def imported(node: ast.AST) -> list[str]:
    """Names that a statement imports, a module's members included."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.module, "imports are absolute"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def test_imports_point_downward() -> None:
    upward = [arrow for arrow in arrows() if FLOORS.index(room(arrow.target)) > FLOORS.index(room(arrow.source))]
    assert upward == []


def test_the_page_names_every_floor_from_top_to_bottom() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^\| \*\*(\w+)\*\* \|", page) == FLOORS[::-1]


def test_no_module_name_is_used_twice() -> None:
    names = Counter(path.name for path in modules().values() if path.stem not in ("__init__", "__main__"))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_file_is_longer_than_a_few_screens() -> None:
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in modules().items()}
    assert {module: length for module, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{module}.{node.name}: {length}"
        for module, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and (length := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert long == []
