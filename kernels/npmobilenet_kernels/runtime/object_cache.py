"""Cache of object code for later processes: one file per function, in folders that no other user can write.

    FOLDER/KEY/npmobilenet_gemm_14x2x16.o    SHA-256 of the code, then the code
    FOLDER/KEY/lock                          held by the process that compiles

KEY changes with everything that the code depends on: the sources of this package, LLVM's version, the CPU's
architecture. Machine code is run as it is read, so it is only read from files of this user or of root, in folders that
others cannot write.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
DIGEST = 32  # bytes of a SHA-256
OTHERS = stat.S_IWGRP | stat.S_IWOTH
PART = ".part-"  # prefix of the names of incomplete files
FOLDER_MODE, FILE_MODE = 0o755, 0o644  # before the umask


class UntrustedError(OSError):
    """A file or folder that another user can write."""


@functools.cache
def key() -> str:
    """Digest of everything that object code depends on; computed once per process."""
    import llvmlite
    from llvmlite import binding

    digest = sha256()
    for source in sources():
        digest.update(source.read_bytes() + b"\0")
    for value in (llvmlite.__version__, binding.get_default_triple()):
        digest.update(value.encode() + b"\0")
    return digest.hexdigest()[:24]


def sources() -> list[Path]:
    """The source files of this package, in all its rooms."""
    return sorted(PACKAGE.rglob("*.py"))


def read(folder: Path | None, symbols: Iterable[str]) -> dict[str, bytes]:
    """Object code of those symbols that are cached; what is corrupt, or writable by others, counts as missing."""
    if folder is None:
        return {}
    entries = folder / key()
    try:
        check_folders(entries)
    except OSError:
        return {}
    found = ((symbol, _read_file(entries / f"{symbol}.o")) for symbol in symbols)
    return {symbol: code for symbol, code in found if code is not None}


def write(folder: Path, symbol: str, code: bytes) -> None:
    """Cache the object code of a symbol, atomically.

    Raises:
        OSError: the folder cannot be written.
        UntrustedError: the folder is writable by others, so nothing in it would be read.
    """
    entries = folder / key()
    make_folders(entries)
    check_folders(entries)
    part = entries / f"{PART}{os.urandom(8).hex()}"
    try:
        with open(part, "xb", opener=lambda path, flags: os.open(path, flags, FILE_MODE)) as file:
            file.write(sha256(code).digest() + code)
        part.replace(entries / f"{symbol}.o")
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def remove_parts(entries: Path) -> None:
    """Remove the incomplete files of processes that were ended; only the holder of the lock may do this."""
    for part in entries.glob(f"{PART}*"):
        part.unlink(missing_ok=True)


def make_folders(folder: Path) -> None:
    """Make a folder and its missing parents, none of which others can write, whatever the umask."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(FOLDER_MODE, exist_ok=True)


def check_folders(folder: Path) -> None:
    """Check that only this user and root can create or replace anything at the path `folder`.

    Raises:
        FileNotFoundError: the folder does not exist.
        UntrustedError: another user can.
    """
    if not hasattr(os, "geteuid"):
        return  # Windows: the user's folders are closed to others
    real = folder.resolve(strict=True)
    for path in (real, *real.parents):
        _check(path, path.stat())


def _check(path: Path, status: os.stat_result) -> None:
    """Check owner and mode of a file or folder; a sticky folder such as /tmp is fine."""
    if status.st_uid not in (0, os.geteuid()):
        raise UntrustedError(f"{path} belongs to another user")
    if not status.st_mode & OTHERS or (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX):
        return
    if status.st_mode & stat.S_IWOTH or not _is_private(status.st_gid, status.st_uid):
        raise UntrustedError(f"{path} can be written by others")


@functools.cache
def _is_private(group: int, user: int) -> bool:
    """Whether the group is the user's own, which most systems create for each user."""
    import grp
    import pwd

    try:
        name, entry = pwd.getpwuid(user).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return entry.gr_name == name and set(entry.gr_mem) <= {name}


def _read_file(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            if hasattr(os, "geteuid"):
                _check(path, os.fstat(file.fileno()))
            stored = file.read()
    except OSError:
        return None
    digest, code = stored[:DIGEST], stored[DIGEST:]
    return code if sha256(code).digest() == digest else None
