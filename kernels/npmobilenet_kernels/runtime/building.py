"""Compiling in a process of its own, which tells this one what came of it.

A thread would hold up everything else here: Numba is Python code and keeps the interpreter's lock, LLVM's lock makes a
fork hang, and nobody can end a thread inside LLVM when the interpreter ends. A process does none of this. If this one
ends first, the other finishes what later processes will find.

Where several processes miss the same code, one compiles and the others wait for what it keeps.
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

ENTRY = "npmobilenet_run"  # symbol of the driver
TURN_SECONDS = 300  # how long to wait for another process that compiles; then compile as well
NICENESS = 10  # of a process that compiles while this one computes with the reference
MARK = b"npmobilenet kernels\n"  # before the answer: whatever a process prints when it starts comes first
PROGRAM = """
import json, sys
job = json.loads(sys.argv[1])
sys.path[:] = job.pop("path")
from npmobilenet_kernels.runtime.building import serve
serve(**job)
"""


class BuildError(RuntimeError):
    """Kernels that cannot be compiled or loaded; the message says why."""


class Build:
    """A process that compiles.

    Args:
        symbols: the driver and tiles.
        folder: where they are kept; None keeps nothing.
        is_waited_for: whether nothing else is to be done meanwhile; otherwise it leaves the cores to all others.

    Attributes:
        not_kept: why the folder has not got all of them; "" if it has.
        is_stopped: whether `stop` was called.

    Raises:
        BuildError: it cannot be started.
    """

    def __init__(self, symbols: Collection[str], folder: Path | None, *, is_waited_for: bool) -> None:
        self.not_kept = ""
        self.is_stopped = False
        self._symbols = frozenset(symbols)
        self._output = self._complaints = b""
        job = {
            "path": [path for path in sys.path if isinstance(path, str)],
            "symbols": sorted(symbols, key=lambda symbol: (symbol != ENTRY, symbol)),  # what may fail comes first
            "folder": None if folder is None else str(folder),
            "niceness": 0 if is_waited_for else NICENESS,
        }
        if not sys.executable or getattr(sys, "frozen", False):
            raise BuildError("this program has no Python interpreter that could compile them")
        import subprocess  # whoever finds its kernels kept does without

        try:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", PROGRAM, json.dumps(job)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(),
                start_new_session=True,  # an interrupt at the terminal is not meant for it
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )  # fmt: skip
            self._reader = threading.Thread(target=self._read, name="npmobilenet-build", daemon=True)
            self._reader.start()
        except (OSError, RuntimeError) as error:
            raise BuildError(f"no process to compile them can be started: {error}") from error

    @property
    def is_done(self) -> bool:
        """Whether the process has ended."""
        return not self._reader.is_alive()

    def wait(self) -> None:
        """Wait until the process has ended; whatever interrupts that ends the process, too."""
        try:
            self._reader.join()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the process; what it has compiled so far is kept."""
        self.is_stopped = True
        self._process.terminate()

    def result(self) -> dict[str, bytes]:
        """Object code by symbol, once the process has ended.

        Raises:
            BuildError: it did not compile them all.
        """
        _, _, answer = self._output.partition(MARK)
        header, _, codes = answer.partition(b"\n")
        if not header:
            *_, last = self._complaints.decode(errors="replace").strip().splitlines() or [""]
            raise BuildError(f"the process that compiled them ended with {self._process.returncode}: {last}")
        found = json.loads(header)
        if found["error"]:
            raise BuildError(found["error"])
        self.not_kept = found["not_kept"]
        pieces, begin = {}, 0
        for symbol, size in found["sizes"].items():
            pieces[symbol] = codes[begin : begin + size]
            begin += size
        if begin != len(codes) or pieces.keys() != self._symbols:
            raise BuildError("the answer of the process that compiled them is cut off")
        return pieces

    def _read(self) -> None:
        self._output, self._complaints = self._process.communicate()


def serve(symbols: list[str], folder: str | None, niceness: int) -> None:
    """What the process does: compile, keep, and write the answer to standard output.

    The answer is MARK, one line of JSON ("sizes" of the pieces by symbol, "not_kept", "error"), and the pieces.
    """
    answer = os.dup(1)
    os.dup2(2, 1)  # nothing else gets into the answer
    if hasattr(os, "nice"):
        os.nice(niceness)
    codes: dict[str, bytes] = {}
    error = not_kept = ""
    try:
        codes, not_kept = build(symbols, None if folder is None else Path(folder))
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}".strip()
    header = {"sizes": {symbol: len(code) for symbol, code in codes.items()}, "not_kept": not_kept, "error": error}
    with suppress(BrokenPipeError), open(answer, "wb") as file:  # noqa: PTH123
        file.write(MARK + json.dumps(header).encode() + b"\n" + b"".join(codes.values()))


def build(symbols: Collection[str], folder: Path | None) -> tuple[dict[str, bytes], str]:
    """Object code by symbol, compiled where it is not kept; and why it could not be kept, "" if it could.

    Each piece is kept as soon as it is there. Whoever else compiles for the folder comes first.
    """
    from npmobilenet_kernels.runtime.native import compile_symbol

    not_kept = ""
    with _turn(folder):
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
def _turn(folder: Path | None) -> Iterator[None]:
    """Wait until no other process compiles for the folder; not where nothing can be kept, or locks do not work."""
    if folder is None:
        yield
        return
    from filelock import FileLock

    place = folder / object_cache.key()
    lock = FileLock(place / "lock")
    with suppress(OSError, NotImplementedError):
        object_cache.make_folders(place)
        object_cache.check_folders(place)
        lock.acquire(timeout=TURN_SECONDS)
        object_cache.remove_parts(place)
    try:
        yield
    finally:
        lock.release()


def _environment() -> dict[str, str]:
    """This process's, without what it tells Numba; LLVM optimises the whole afterwards, so that Numba need not."""
    kept_variables = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    return kept_variables | {"NUMBA_OPT": "0"}
