"""Files written atomically, and the folder of all caches."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """Folder of downloads, converted models and compiled kernels, absolute; it may not exist yet.

    NPMOBILENET_CACHE if set, else the operating system's cache folder for this user.
    """
    if named := os.environ.get("NPMOBILENET_CACHE"):
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("npmobilenet")).absolute()


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path`, completely or not at all.

    The bytes are written to a temporary file in the same folder, which then replaces `path` atomically. Missing folders
    are created.

    Raises:
        OSError: the folder is not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:  # with the mode that the umask gives
            file.write(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def folder_written_atomically(path: Path) -> Iterator[Path]:
    """Fill a new folder that becomes `path` when it is complete; a former folder of that name is removed.

    Yields:
        An empty folder next to `path`. If the body raises, it is removed and `path` is unchanged. An interrupt between
        the two renames puts the former folder back.

    Raises:
        OSError: the folder is not writable.
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
        if former.exists() and not path.exists():
            former.replace(path)
        shutil.rmtree(temporary)
