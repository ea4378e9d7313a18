"""From kernels to machine code: the tiles by LLVM, the driver by Numba, both kept as object code for later processes.

Numba's own cache would do, but reading it means importing Numba and refreshing its target, over two seconds before the
first prediction. Object code needs llvmlite's loader alone. It is made once for each CPU and version:

    tiles    vector.build_module -> LLVM's optimiser -> object code
    driver   network.run -> numba.cfunc -> its LLVM code, of which everything but `run` is made private, so that the
             optimiser finds that no error can occur, and drops all calls into Python -> object code

Where a symbol other than those in `ALLOWED` is left over, or no folder can be written, nothing is kept and Numba's
function is used as it is.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llvmlite
from llvmlite import binding

from npmobilenet_kernels.lanes import Lanes, features, lanes
from npmobilenet_kernels.tiles import all_tiles
from npmobilenet_kernels.vector import Emit, build_module

ARGUMENTS = 4  # of network.run, all int64
ENTRY = "npmobilenet_run"
ALLOWED = {"sched_yield", "SwitchToThread", "memcpy", "memset", "memmove"}  # what frozen code may call: the C library
DIGEST = 32  # bytes of a SHA-256

_loaded: list[Any] = []  # what keeps compiled code in memory
_compiled: dict[int, Native] = {}
_compiling = threading.RLock()


@dataclass(frozen=True)
class Native:
    """Compiled code for one vector width.

    Attributes:
        run: `network.run` as a function of ARGUMENTS integers.
        tiles: addresses of the tiles, by symbol.
    """

    run: Callable[..., int]
    tiles: dict[str, int]


def native(width: int, folder: Path | None = None) -> Native:
    """The compiled code for vectors of `width` floats.

    Args:
        width: floats in a vector.
        folder: where object code is kept from process to process; None keeps nothing.

    Raises:
        ImportError: there is no object code for this CPU, and no Numba to make it.
    """
    with _compiling:
        if width not in _compiled:
            chosen = lanes(width)
            tile_file, driver_file = _kept_files(width, folder)
            code = _read(tile_file)
            if code is None:
                code = compile_tiles(all_tiles(chosen), chosen)
                _write(tile_file, code)
            tiles = load(code, all_tiles(chosen))
            driver = next((known.run for known in _compiled.values()), None) or _driver(driver_file)
            _compiled[width] = Native(driver, tiles)
        return _compiled[width]


def is_kept(width: int, folder: Path | None) -> bool:
    """Whether `native` finds its object code, so that nothing has to be compiled, which takes some ten seconds."""
    return all(_read(file) is not None for file in _kept_files(width, folder))


def compile_tiles(tiles: Mapping[str, Emit], chosen: Lanes) -> bytes:
    """Object code of tiles, by symbol, for this CPU with its features capped at the vector width."""
    _start_llvm()
    module = binding.parse_assembly(build_module(tiles, chosen.width))
    return _object_code(module, chosen)


def load(code: bytes, symbols: Iterable[str]) -> dict[str, int]:
    """Put object code into memory, for good; addresses of its symbols."""
    _start_llvm()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _machine(lanes()))
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _loaded.append(engine)
    return {name: engine.get_function_address(name) for name in symbols}


def kept_file(name: str, chosen: Lanes, folder: Path | None) -> Path | None:
    """Where object code belongs; the file's name changes with everything that the code depends on."""
    if folder is None:
        return None
    sources = sorted(Path(__file__).parent.glob("*.py"))
    depends_on = [
        *(source.read_text(encoding="utf-8") for source in sources), _numba_version(), llvmlite.__version__,
        platform.python_version(), sys.platform, binding.get_host_cpu_name(), features(chosen),
    ]  # fmt: skip
    return folder / f"{name}-{sha256(chr(0).join(depends_on).encode()).hexdigest()[:24]}.o"


def _numba_version() -> str:
    """What says which Numba is installed; importing it, or what reads a package's metadata, would take too long."""
    found = find_spec("numba")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("No module named 'numba'", name="numba")
    try:
        return Path(found.origin).with_name("_version.py").read_text(encoding="utf-8")
    except OSError:  # made without versioneer
        from importlib.metadata import version

        return version("numba")


def _kept_files(width: int, folder: Path | None) -> tuple[Path | None, Path | None]:
    """Where the object code of tiles and driver belongs."""
    chosen = lanes(width)
    return kept_file(f"tiles-{width}", chosen, folder), kept_file("driver", chosen, folder)


def _driver(kept: Path | None) -> Callable[..., int]:
    code = _read(kept)
    if code is None:
        from numba import cfunc, types

        from npmobilenet_kernels.network import run

        compiled = cfunc(types.int64(*[types.int64] * ARGUMENTS), error_model="numpy")(run)
        code = without_python(compiled.inspect_llvm(), compiled.native_name)
        if code is None:
            _loaded.append(compiled)
            return _callable(int(compiled.address or 0))
        _write(kept, code)
    return _callable(load(code, [ENTRY])[ENTRY])


def without_python(assembly: str, entry: str) -> bytes | None:
    """Object code of Numba's function `entry`, as ENTRY, or None if it needs more than the C library."""
    _start_llvm()
    module = binding.parse_assembly(assembly)
    for function in module.functions:
        if function.name == entry:
            function.name = ENTRY
        elif not function.is_declaration:
            function.linkage = "internal"
    code = _object_code(module, lanes())
    needs = {function.name for function in module.functions if function.is_declaration}
    return code if all(name in ALLOWED or name.startswith("llvm.") for name in needs) else None


def _object_code(module: Any, chosen: Lanes) -> bytes:
    """Optimise and translate a module; the tiles are written as they should run: nothing is unrolled or vectorised."""
    module.verify()
    machine = _machine(chosen)
    tuning = binding.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_unrolling = tuning.loop_vectorization = tuning.slp_vectorization = False
    passes = binding.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(module, passes)
    return bytes(machine.emit_object(module))


def _read(path: Path | None) -> bytes | None:
    """What `_write` wrote, or None where there is nothing or not the whole of it."""
    try:
        stored = path.read_bytes() if path else b""
    except OSError:
        return None
    digest, code = stored[:DIGEST], stored[DIGEST:]
    return code if sha256(code).digest() == digest else None


def _write(path: Path | None, code: bytes) -> None:
    """Keep the object code; a file appears whole or not at all, and where none can be written that is said once."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
            part.write(sha256(code).digest() + code)
        Path(part.name).replace(path)
    except OSError as error:
        _say_that_nothing_is_kept(path.parent, error.strerror)


@functools.cache
def _say_that_nothing_is_kept(folder: Path, reason: str) -> None:
    message = (
        f"compiled kernels cannot be kept in {folder} ({reason}), so every process compiles them again, for some ten "
        "seconds; NPMOBILENET_CACHE may name another folder"
    )
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def _callable(address: int) -> Callable[..., int]:
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * ARGUMENTS)(address)


def _machine(chosen: Lanes) -> Any:
    target = binding.Target.from_default_triple()
    return target.create_target_machine(
        cpu=binding.get_host_cpu_name(), features=features(chosen), opt=2, reloc="pic", codemodel="jitdefault", jit=True
    )


@functools.cache
def _start_llvm() -> None:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()


def _after_fork() -> None:
    global _compiling
    _compiling = threading.RLock()  # another thread may have been compiling


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
