"""`npmobilenet lessons`: exit code 0 done, 2 not."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

from npmobilenet.cli.options import Argument
from npmobilenet.cli.shared import AsJson, Force, reported
from npmobilenet.errors import NpMobileNetError
from npmobilenet.files import write_atomically
from npmobilenet.output import print_json, print_line

NOTHING_DONE = 2
EXERCISES_FILE = "exercises.py"


def lessons(
    folder: Annotated[Path, Argument(metavar="DIR", help="Directory to write; created if there is none.")] = Path(
        "lessons"
    ),
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Copy the exercises and the lessons, twelve notebooks, to a folder."""
    with reported(as_json, NOTHING_DONE):
        copies = {folder / file.name: file for file in notebooks()}
        copies[folder / EXERCISES_FILE] = files("npmobilenet.exercises").joinpath("starter.py")
        existing = [path for path in copies if path.exists()]
        if existing and not force:
            raise NpMobileNetError(f"{existing[-1]} already exists; use --force to overwrite it, answers included")
        for path, file in copies.items():
            write_atomically(path, file.read_bytes())
    if as_json:
        print_json({"files": [str(path) for path in copies]})
    else:
        print_line(f"{folder}: {len(copies) - 1} notebooks")
        path = folder / EXERCISES_FILE
        print_line(f"{path}: fourteen exercises; npmobilenet check {path} judges them")


def notebooks() -> list[Traversable]:
    """The notebooks of the lessons, in the package or, where it runs from its source, in the repository."""
    packaged = files("npmobilenet.exercises").joinpath("lessons")
    repository = Path(str(files("npmobilenet"))).parent / "lessons"
    folder = packaged if packaged.is_dir() else repository
    return sorted((file for file in folder.iterdir() if file.name.endswith(".ipynb")), key=lambda file: file.name)
