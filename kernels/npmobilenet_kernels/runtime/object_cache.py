"""Object code kept from process to process: one file a function, in folders that nobody else can write.

    FOLDER/KEY/npmobilenet_gemm_14x2x16.o    SHA-256 of the code, then the code
    FOLDER/KEY/lock                          held by the process that compiles

KEY changes with everything that the code depends on: the sources of this package, LLVM's version, the CPU. Machine
code is run as it is read, so it is only read from files of this user or of root, in folders that others cannot write.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

DIGEST = 32  # bytes of a SHA-256
OTHERS = stat.S_IWGRP | stat.S_IWOTH
PART = ".part-"  # how the name of a file begins that is being written
FOLDER_MODE, FILE_MODE = 0o755, 0o644  # less what the umask takes away


class UntrustedError(OSError):
    """A file or folder that somebody else can write."""


@functools.cache
def key() -> str:
    """What changes with everything that object code depends on; computed once a process."""
    import llvmlite
    from llvmlite import binding

    digest = sha256()
    for source in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(source.read_bytes() + b"\0")
    for value in (llvmlite.__version__, binding.get_default_triple()):
        digest.update(value.encode() + b"\0")
    return digest.hexdigest()[:24]


def read(folder: Path | None, symbols: Iterable[str]) -> dict[str, bytes]:
    """Object code of those symbols that are kept; what is damaged, or open to others, counts as not kept."""
    if folder is None:
        return {}
    place = folder / key()
    try:
        check_folders(place)
    except OSError:
        return {}
    found = ((symbol, _read_file(place / f"{symbol}.o")) for symbol in symbols)
    return {symbol: code for symbol, code in found if code is not None}


def write(folder: Path, symbol: str, code: bytes) -> None:
    """Keep the object code of a symbol: the whole of it, or nothing.

    Raises:
        OSError: the folder cannot be written.
        UntrustedError: nothing in it would be read.
    """
    place = folder / key()
    make_folders(place)
    check_folders(place)
    part = place / f"{PART}{os.urandom(8).hex()}"
    try:
        with open(part, "xb", opener=lambda path, flags: os.open(path, flags, FILE_MODE)) as file:
            file.write(sha256(code).digest() + code)
        part.replace(place / f"{symbol}.o")
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def remove_parts(place: Path) -> None:
    """Remove what processes left behind that were ended while they wrote; only for whoever holds the lock."""
    for part in place.glob(f"{PART}*"):
        part.unlink(missing_ok=True)


def make_folders(folder: Path) -> None:
    """Make a folder and those above it, none of which others can write, whatever the umask."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(FOLDER_MODE, exist_ok=True)


def check_folders(folder: Path) -> None:
    """Check that only this user and root can put anything at the place of `folder`.

    Raises:
        FileNotFoundError: there is no such folder.
        UntrustedError: somebody else can.
    """
    if not hasattr(os, "geteuid"):
        return  # Windows: the user's folders are closed to others
    real = folder.resolve(strict=True)
    for path in (real, *real.parents):
        _check(path, path.stat())


def _check(path: Path, status: os.stat_result) -> None:
    """Check owner and mode of a file or folder; a folder like /tmp, where each may move his own only, will do."""
    if status.st_uid not in (0, os.geteuid()):
        raise UntrustedError(f"{path} belongs to another user")
    if not status.st_mode & OTHERS or (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX):
        return
    if status.st_mode & stat.S_IWOTH or not _is_private(status.st_gid, status.st_uid):
        raise UntrustedError(f"{path} can be written by others")


@functools.cache
def _is_private(group: int, user: int) -> bool:
    """Whether the group is the user's own, as many systems give one to each user."""
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
