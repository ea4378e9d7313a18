"""Image files at the command line: files as given, and those in directories."""

from collections.abc import Iterator
from pathlib import Path

from npmobilenet.errors import ImageError
from npmobilenet.models.image_file import file_suffixes
from npmobilenet.output import print_note

NAMED = 5  # skipped files that are named; more are counted


def image_files(names: list[str], recursive: bool) -> Iterator[str]:
    """Files as given, and the image files in directories, sorted; a note on standard error about skipped ones.

    Args:
        names: files, directories, or "-".
        recursive: include the directories in directories.

    Raises:
        ImageError: a directory without images.
    """
    for name in names:
        if name == "-" or not Path(name).is_dir():
            yield name
        else:
            yield from map(str, _in_directory(Path(name), recursive))


def _in_directory(directory: Path, recursive: bool) -> list[Path]:
    inside = sorted(directory.rglob("*") if recursive else directory.iterdir())
    directories = [path for path in inside if path.is_dir()]
    files = [path for path in inside if not path.is_dir()]
    images = [path for path in files if path.suffix.lower() in file_suffixes() and not path.name.startswith(".")]
    skipped = [str(path.relative_to(directory)) for path in files if path not in set(images)]
    not_searched = "" if recursive or not directories else _counted(directories, "subdirector", "y", "ies")
    if not images:
        raise ImageError(
            f"{directory}: no images in this directory ({', '.join(sorted(file_suffixes()))})"
            + (f"; {not_searched} not searched: --recursive" if not_searched else "")
        )
    if skipped:
        more = f" and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
        shown = ", ".join(skipped[:NAMED])
        print_note(f"npmobilenet: {directory}: skipped {_counted(skipped, 'file', '', 's')}: {shown}{more}")
    if not_searched:
        print_note(f"npmobilenet: {directory}: {not_searched} not searched; --recursive includes them")
    return images


def _counted(items: list[Path] | list[str], noun: str, one: str, several: str) -> str:
    return f"{len(items)} {noun}{one if len(items) == 1 else several}"
