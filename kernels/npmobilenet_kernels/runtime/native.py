"""Native code of this process: the driver and the micro-kernels in memory, whether cached or compiled just now.

What the cache lacks is compiled by a process of its own (`building`), so that this one never imports Numba, and can
fork, be interrupted and exit meanwhile.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llvmlite import binding

from npmobilenet_kernels.runtime import object_cache
from npmobilenet_kernels.runtime.building import Build, BuildError
from npmobilenet_kernels.runtime.codegen import machine_for, start_llvm
from npmobilenet_kernels.runtime.cpu import host_target
from npmobilenet_kernels.runtime.job import ARGUMENTS, ENTRY


@dataclass(frozen=True)
class Native:
    """Compiled code in this process.

    Attributes:
        run: the driver, as a function of ARGUMENTS integers.
        tiles: addresses of the micro-kernels, by symbol.
    """

    run: Callable[..., int]
    tiles: Mapping[str, int]


class _Process:
    """Compiled code of this process, and its compilation."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # held over fork, so that no child finds LLVM's own lock taken
        self.held: list[Any] = []  # must not be collected: code in memory
        self.addresses: dict[str, int] = {}
        self.run: Callable[..., int] | None = None
        self.build: Build | None = None
        self.failure: BuildError | None = None


_process = _Process()


def native(symbols: Collection[str] = (), folder: Path | None = None) -> Native:
    """The driver and these micro-kernels, compiled now unless they are cached.

    Args:
        symbols: of micro-kernels.
        folder: cache of object code for later processes; None caches nothing.

    Raises:
        BuildError: they cannot be compiled.
    """
    _process.failure = None
    while (found := find(symbols, folder)) is None:
        begin(symbols, folder, is_waited_for=True).wait()
    return found


def find(symbols: Collection[str], folder: Path | None) -> Native | None:
    """The driver and these micro-kernels if in memory, cached or just compiled; None if they have to be compiled.

    Raises:
        BuildError: they could not be compiled, or not be loaded.
    """
    with _process.lock:
        if not _missing(symbols):
            return _native(symbols)
        if _process.failure is not None:
            raise _process.failure
        try:
            _adopt(object_cache.read(folder, _missing(symbols)))
        except BuildError as error:
            _process.failure = error
            raise
        collect(folder)
        return None if _missing(symbols) else _native(symbols)


def collect(folder: Path | None) -> None:
    """Load what the compiling process has compiled, if it has ended.

    Raises:
        BuildError: it has failed.
    """
    with _process.lock:
        build = _process.build
        if build is None or not build.is_done:
            return
        _process.build = None
        try:
            _adopt({} if build.is_stopped else build.result())
        except BuildError as error:
            _process.failure = error
            raise
        if build.not_kept and folder is not None:
            _warn_not_cached(folder, build.not_kept)


def begin(symbols: Collection[str], folder: Path | None, *, is_waited_for: bool = False) -> Build:
    """Start a process that compiles what is missing, unless one is already running.

    Args:
        symbols, folder: as `native`.
        is_waited_for: whether the caller does nothing else meanwhile.

    Returns:
        The running process.

    Raises:
        BuildError: no process can be started.
    """
    with _process.lock:
        if _process.build is None:
            _process.build = Build(_missing(symbols), folder, is_waited_for=is_waited_for)
        return _process.build


def current_build() -> Build | None:
    """The process that compiles for this one, if any."""
    return _process.build


def is_kept(symbols: Iterable[str], folder: Path | None) -> bool:
    """Whether the driver and these micro-kernels are cached for later processes."""
    wanted = {ENTRY, *symbols}
    return len(object_cache.read(folder, wanted)) == len(wanted)


def load(code: bytes, symbols: Iterable[str]) -> dict[str, int]:
    """Load object code into memory, for good.

    Returns:
        Addresses by symbol.
    """
    return load_all([code], symbols)


def load_all(codes: Iterable[bytes], symbols: Iterable[str]) -> dict[str, int]:
    """Load pieces of object code into memory, for good.

    Returns:
        Addresses by symbol.
    """
    with _process.lock:
        start_llvm()
        engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine_for(host_target()))
        for code in codes:
            engine.add_object_file(binding.ObjectFileRef.from_data(code))
        engine.finalize_object()
        _process.held.append(engine)
        return {name: engine.get_function_address(name) for name in symbols}


@functools.cache
def _warn_not_cached(folder: Path, reason: str) -> None:
    message = (
        f"compiled kernels cannot be cached in {folder} ({reason}), so every process compiles them again, for some "
        "seconds; set NPMOBILENET_CACHE to a writable directory"
    )
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def _callable(address: int) -> Callable[..., int]:
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * ARGUMENTS)(address)


def _missing(symbols: Iterable[str]) -> set[str]:
    return {ENTRY, *symbols} - _process.addresses.keys()


def _adopt(codes: Mapping[str, bytes]) -> None:
    """Load object code, by symbol.

    Raises:
        BuildError: LLVM rejects it.
    """
    if not codes:
        return
    try:
        _process.addresses |= load_all(codes.values(), codes)
    except Exception as error:
        raise BuildError(f"{type(error).__name__}: {error}") from error


def _native(symbols: Iterable[str]) -> Native:
    if _process.run is None:  # one object for all plans, so that the thread pool can compare it
        _process.run = _callable(_process.addresses[ENTRY])
    return Native(_process.run, {symbol: _process.addresses[symbol] for symbol in symbols})


def _in_child() -> None:
    _process.lock = threading.RLock()
    if _process.build is not None:  # its output belongs to the parent
        _process.held.append(_process.build)
        _process.build = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _process.lock.acquire(),
        after_in_parent=lambda: _process.lock.release(),
        after_in_child=_in_child,
    )
