"""Compilation in a process of its own.

A thread would hold up everything else here: Numba is Python code and holds the interpreter's lock, LLVM's lock makes a
fork hang, and a thread inside LLVM cannot be ended when the interpreter exits. A process has none of these problems. If
this process exits first, the other one still fills the cache.

If several processes lack the same code, one compiles, and the others wait for its entries in the cache.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from npmobilenet_kernels.runtime import object_cache
from npmobilenet_kernels.runtime.job import ENTRY

LOCK_SECONDS = 300  # time to wait for another process that compiles; then compile as well
NICENESS = 10  # of a process that compiles while this one computes with the reference
MARK = b"npmobilenet kernels\n"  # start of the response: a process may print something else at startup
PROGRAM = """
import json, sys
job = json.loads(sys.argv[1])
sys.path[:] = job.pop("path")
from npmobilenet_kernels.runtime.building import serve
serve(**job)
"""


class BuildError(RuntimeError):
    """Kernels cannot be compiled or loaded, for the reason in the message."""


class Build:
    """A compiling process.

    Args:
        symbols: of the driver and micro-kernels.
        folder: cache of object code; None caches nothing.
        is_waited_for: whether the caller does nothing else meanwhile; otherwise the process runs at low priority.

    Attributes:
        not_kept: why not all of them could be cached; "" if they were.
        is_stopped: whether `stop` was called.

    Raises:
        BuildError: the process cannot be started.
    """

    def __init__(self, symbols: Collection[str], folder: Path | None, *, is_waited_for: bool) -> None:
        self.not_kept = ""
        self.is_stopped = False
        self._symbols = frozenset(symbols)
        self._output = self._errors = b""
        job = {
            "path": [path for path in sys.path if isinstance(path, str)],
            "symbols": sorted(symbols, key=lambda symbol: (symbol != ENTRY, symbol)),  # the one that may fail first
            "folder": None if folder is None else str(folder),
            "niceness": 0 if is_waited_for else NICENESS,
        }
        if not sys.executable or getattr(sys, "frozen", False):
            raise BuildError("compiling them takes a Python interpreter, which this frozen program does not have")
        import subprocess  # slow to import, and not used if all kernels are cached

        try:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", PROGRAM, json.dumps(job)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(),
                start_new_session=True,  # an interrupt at the terminal ends the calling process only
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )  # fmt: skip
            self._reader = threading.Thread(target=self._read, name="npmobilenet-build", daemon=True)
            self._reader.start()
        except (OSError, RuntimeError) as error:
            raise BuildError(f"cannot start a process to compile them: {error}") from error

    @property
    def is_done(self) -> bool:
        """Whether the process has ended."""
        return not self._reader.is_alive()

    def wait(self) -> None:
        """Wait until the process has ended; an exception meanwhile, such as an interrupt, stops it."""
        try:
            self._reader.join()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the process; the code compiled so far stays in the cache."""
        self.is_stopped = True
        self._process.terminate()

    def result(self) -> dict[str, bytes]:
        """Object code by symbol, once the process has ended.

        Raises:
            BuildError: not all of them were compiled.
        """
        _, _, response = self._output.partition(MARK)
        header, _, codes = response.partition(b"\n")
        if not header:
            *_, last = self._errors.decode(errors="replace").strip().splitlines() or [""]
            raise BuildError(f"the process that compiled them exited with status {self._process.returncode}: {last}")
        found = json.loads(header)
        if found["error"]:
            raise BuildError(found["error"])
        self.not_kept = found["not_kept"]
        pieces, begin = {}, 0
        for symbol, size in found["sizes"].items():
            pieces[symbol] = codes[begin : begin + size]
            begin += size
        if begin != len(codes) or pieces.keys() != self._symbols:
            raise BuildError("the output of the process that compiled them is truncated")
        return pieces

    def _read(self) -> None:
        self._output, self._errors = self._process.communicate()


def serve(symbols: list[str], folder: str | None, niceness: int) -> None:
    """Main function of the process: compile, cache, and write the response to standard output.

    The response is MARK, one line of JSON ("sizes" of the pieces by symbol, "not_kept", "error"), and the pieces.
    """
    response = os.dup(1)
    os.dup2(2, 1)  # keeps all other output out of the response
    if hasattr(os, "nice"):
        os.nice(niceness)
    codes: dict[str, bytes] = {}
    error = not_kept = ""
    try:
        codes, not_kept = build(symbols, None if folder is None else Path(folder))
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}".strip()
    header = {"sizes": {symbol: len(code) for symbol, code in codes.items()}, "not_kept": not_kept, "error": error}
    with suppress(BrokenPipeError), open(response, "wb") as file:  # noqa: PTH123
        file.write(MARK + json.dumps(header).encode() + b"\n" + b"".join(codes.values()))


def build(symbols: Collection[str], folder: Path | None) -> tuple[dict[str, bytes], str]:
    """Compile the symbols that are not cached yet, and cache each at once; one process per folder at a time.

    Args:
        symbols: of the driver and micro-kernels.
        folder: cache of object code; None caches nothing.

    Returns:
        Object code by symbol; and why not all of it could be cached, "" if it was.
    """
    from npmobilenet_kernels.runtime.codegen import compile_symbol

    not_kept = ""
    with _locked(folder):
        codes = object_cache.read(folder, symbols)
        for symbol in symbols:
            if symbol in codes:
                continue
            codes[symbol] = compile_symbol(symbol)
            try:
                if folder is not None:
                    object_cache.write(folder, symbol, codes[symbol])
            except OSError as error:
                not_kept = error.strerror or str(error)
    return codes, not_kept


@contextmanager
def _locked(folder: Path | None) -> Iterator[None]:
    """Hold the folder's lock; do without if nothing can be cached or the file system has no locks."""
    if folder is None:
        yield
        return
    from filelock import FileLock

    entries = folder / object_cache.key()
    lock = FileLock(entries / "lock")
    with suppress(OSError, NotImplementedError):
        object_cache.make_folders(entries)
        object_cache.check_folders(entries)
        lock.acquire(timeout=LOCK_SECONDS)
        object_cache.remove_parts(entries)
    try:
        yield
    finally:
        lock.release()


def _environment() -> dict[str, str]:
    """This process's environment without Numba's variables; LLVM optimizes the whole afterwards, so Numba need not."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    return inherited | {"NUMBA_OPT": "0"}
