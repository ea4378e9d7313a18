"""Atomic writing of files and directories."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` completely or not at all.

    The bytes go to a temporary file in the same directory, which then replaces `path`. Missing directories are created.

    Raises:
        OSError: the directory is not writable.
    """
    import tempfile

    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def folder_written_atomically(path: Path) -> Iterator[Path]:
    """A new directory that replaces `path` once it is complete.

    Yields:
        An empty directory next to `path`. If the body raises, it is removed and `path` stays as it was.

    Raises:
        OSError: the parent directory is not writable.
    """
    import shutil
    import tempfile

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    filled, former = temporary / "filled", temporary / "former"
    try:
        filled.mkdir()
        yield filled
        if path.exists():
            path.replace(former)
        filled.replace(path)
    finally:
        shutil.rmtree(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
