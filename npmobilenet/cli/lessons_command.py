"""`npmobilenet lessons`: exit code 0 done, 2 not."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

from npmobilenet.cli.options import Argument
from npmobilenet.cli.shared import AsJson, Force, reported
from npmobilenet.errors import NpMobileNetError
from npmobilenet.files import write_atomically
from npmobilenet.output import print_json

NOTHING_DONE = 2
EXERCISES_FILE = "exercises.py"


def lessons(
    folder: Annotated[Path, Argument(metavar="DIR", help="Directory to write; created if there is none.")] = Path(
        "lessons"
    ),
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Copy the exercises to a folder."""
    with reported(as_json, NOTHING_DONE):
        path = folder / EXERCISES_FILE
        if path.exists() and not force:
            raise NpMobileNetError(f"{path} already exists; use --force to overwrite it, answers included")
        write_atomically(path, files("npmobilenet.exercises").joinpath("starter.py").read_bytes())
    if as_json:
        print_json({"files": [str(path)]})
    else:
        print(f"{path}: fourteen exercises; npmobilenet check {path} judges them")
