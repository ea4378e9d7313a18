"""From kernels to machine code, and into this process.

    tiles    vector.build_module -> LLVM's optimiser -> object code
    driver   network.run -> Numba, which need not optimise -> its LLVM code, of which everything but `run` is made
             private, so that LLVM finds that no error can occur, and drops all calls into Python -> object code

Every function is one piece of object code, kept for later processes (`kept`) and loaded by llvmlite alone. What is
missing is compiled by a process of its own (`building`), so that this one never imports Numba, and can fork, be
interrupted and end meanwhile. Numba's own cache would do, but reading it means importing Numba and refreshing its
target.
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

from npmobilenet_kernels.microkernels.emitter import Emit, build_module
from npmobilenet_kernels.runtime import object_cache
from npmobilenet_kernels.runtime.building import ENTRY, Build, BuildError
from npmobilenet_kernels.runtime.cpu import Lanes, family, lanes

ARGUMENTS = 4  # of network.run, all int64
ALLOWED = {"sched_yield", "SwitchToThread", "memcpy", "memset", "memmove"}  # what frozen code may call: the C library


@dataclass(frozen=True)
class Native:
    """Compiled code in this process.

    Attributes:
        run: `network.run` as a function of ARGUMENTS integers.
        tiles: addresses of the tiles, by symbol.
    """

    run: Callable[..., int]
    tiles: Mapping[str, int]


class _Process:
    """What this process has of compiled code."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # held over fork, so that no child finds LLVM's own lock taken
        self.held: list[Any] = []  # what must not be collected: code in memory
        self.addresses: dict[str, int] = {}
        self.run: Callable[..., int] | None = None
        self.build: Build | None = None
        self.failure: BuildError | None = None


_process = _Process()


def native(symbols: Collection[str] = (), folder: Path | None = None) -> Native:
    """The driver and these tiles, compiled now where they are not kept.

    Args:
        symbols: of tiles.
        folder: where object code is kept from process to process; None keeps nothing.

    Raises:
        BuildError: they cannot be compiled.
    """
    _process.failure = None
    while (found := find(symbols, folder)) is None:
        begin(symbols, folder, is_waited_for=True).wait()
    return found


def find(symbols: Collection[str], folder: Path | None) -> Native | None:
    """The driver and these tiles if they are here, kept, or just compiled; None if they have to be compiled.

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
    """Take over what the process that compiles has done, if it has ended.

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
            _say_that_nothing_is_kept(folder, build.not_kept)


def begin(symbols: Collection[str], folder: Path | None, *, is_waited_for: bool = False) -> Build:
    """Have another process compile what is missing; the one that is at it already, if there is one.

    Args:
        symbols, folder: as `native`.
        is_waited_for: whether nothing else is to be done meanwhile.

    Raises:
        BuildError: no process can be started.
    """
    with _process.lock:
        if _process.build is None:
            _process.build = Build(_missing(symbols), folder, is_waited_for=is_waited_for)
        return _process.build


def current_build() -> Build | None:
    """The process that compiles for this one, if there is one."""
    return _process.build


def is_kept(symbols: Iterable[str], folder: Path | None) -> bool:
    """Whether later processes will find the driver and these tiles in the folder."""
    wanted = {ENTRY, *symbols}
    return len(object_cache.read(folder, wanted)) == len(wanted)


def compile_symbol(symbol: str) -> bytes:
    """Object code of the driver or of a tile; the width of a tile's vectors is in its symbol.

    Raises:
        NotImplementedError: Numba's code for the driver needs more than the C library.
    """
    from npmobilenet_kernels.microkernels.tiles import all_tiles

    if symbol == ENTRY:
        return compile_driver()
    chosen = lanes(int(symbol.rsplit("x", 1)[1]))
    return compile_tiles({symbol: all_tiles(chosen)[symbol]}, chosen)


def compile_driver() -> bytes:
    """Object code of `network.run`, as ENTRY.

    Numba would compile a function again for every literal that it is called with. So each is compiled ahead for
    integers, those that it calls first, and then for nothing else.
    """
    from inspect import signature

    from numba import cfunc, types

    from npmobilenet_kernels.drivers import network

    for function in network.compiled_functions:
        function.compile((types.int64,) * len(signature(function.py_func).parameters))
        function.disable_compile()
    compiled = cfunc(types.int64(*[types.int64] * ARGUMENTS), error_model="numpy")(network.run)
    return without_python(compiled.inspect_llvm(), compiled.native_name)


def compile_tiles(tiles: Mapping[str, Emit], chosen: Lanes) -> bytes:
    """Object code of tiles, by symbol, for this CPU with its features capped at the vector width."""
    _start_llvm()
    module = binding.parse_assembly(build_module(tiles, chosen.width))
    return _object_code(module, chosen)


def load(code: bytes, symbols: Iterable[str]) -> dict[str, int]:
    """Put object code into memory, for good; addresses of its symbols."""
    return load_all([code], symbols)


def load_all(codes: Iterable[bytes], symbols: Iterable[str]) -> dict[str, int]:
    """Put pieces of object code into memory, for good; addresses of symbols in them."""
    with _process.lock:
        _start_llvm()
        engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _machine(lanes()))
        for code in codes:
            engine.add_object_file(binding.ObjectFileRef.from_data(code))
        engine.finalize_object()
        _process.held.append(engine)
        return {name: engine.get_function_address(name) for name in symbols}


def without_python(assembly: str, entry: str) -> bytes:
    """Object code of Numba's function `entry`, as ENTRY.

    Raises:
        NotImplementedError: it needs more than the C library.
    """
    _start_llvm()
    module = binding.parse_assembly(assembly)
    for function in module.functions:
        if function.name == entry:
            function.name = ENTRY
        elif not function.is_declaration:
            function.linkage = "internal"
    code = _object_code(module, family()[-1])  # it computes addresses, so any machine's instructions will do
    needs = {function.name for function in module.functions if function.is_declaration}
    if more := sorted(name for name in needs if name not in ALLOWED and not name.startswith("llvm.")):
        raise NotImplementedError(f"Numba's code calls {', '.join(more)}, which is not in the C library")
    return code


def optimize(module: Any, machine: Any) -> None:
    """Optimise a module in place; the tiles are written as they should run: nothing is unrolled or vectorised."""
    tuning = binding.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_unrolling = tuning.loop_vectorization = tuning.slp_vectorization = False
    passes = binding.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(module, passes)


def _object_code(module: Any, chosen: Lanes) -> bytes:
    module.verify()
    machine = _machine(chosen)
    optimize(module, machine)
    return bytes(machine.emit_object(module))


@functools.cache
def _say_that_nothing_is_kept(folder: Path, reason: str) -> None:
    message = (
        f"compiled kernels cannot be kept in {folder} ({reason}), so every process compiles them again, for some "
        "seconds; NPMOBILENET_CACHE may name another folder"
    )
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def _callable(address: int) -> Callable[..., int]:
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * ARGUMENTS)(address)


def target_machine(target: Any, cpu: str, features: str) -> Any:
    """LLVM's code generator.

    The code is for its place in memory ("static"): LLVM mixes up the tables of several position-independent pieces.
    """
    return target.create_target_machine(
        cpu=cpu, features=features, opt=2, reloc="static", codemodel="jitdefault", jit=True
    )


def _machine(chosen: Lanes) -> Any:
    return target_machine(binding.Target.from_default_triple(), chosen.cpu, chosen.features)


@functools.cache
def _start_llvm() -> None:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()


def _missing(symbols: Iterable[str]) -> set[str]:
    return {ENTRY, *symbols} - _process.addresses.keys()


def _adopt(codes: Mapping[str, bytes]) -> None:
    """Load object code, by symbol.

    Raises:
        BuildError: LLVM does not take it.
    """
    if not codes:
        return
    try:
        _process.addresses |= load_all(codes.values(), codes)
    except Exception as error:
        raise BuildError(f"{type(error).__name__}: {error}") from error


def _native(symbols: Iterable[str]) -> Native:
    if _process.run is None:  # one for all: whoever computes is told apart by it
        _process.run = _callable(_process.addresses[ENTRY])
    return Native(_process.run, {symbol: _process.addresses[symbol] for symbol in symbols})


def _in_child() -> None:
    _process.lock = threading.RLock()
    if _process.build is not None:  # it answers the parent
        _process.held.append(_process.build)
        _process.build = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _process.lock.acquire(),
        after_in_parent=lambda: _process.lock.release(),
        after_in_child=_in_child,
    )
