"""From kernels to callable machine code: the tiles by LLVM, the driver by Numba, both kept as object code for the next
process.

Numba's own cache would do, but reading it means importing Numba and refreshing its target, over two seconds before the
first prediction. Object code needs llvmlite's loader alone. It is made once for each CPU and version:

    tiles    vector.build_module -> LLVM's optimiser -> object code
    driver   network.build -> numba.cfunc -> its LLVM code, of which everything but `run` is made private, so that the
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
from collections.abc import Callable, Iterable
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llvmlite import binding

from npmobilenet_kernels.lanes import Lanes, features, lanes
from npmobilenet_kernels.tiles import all_tiles
from npmobilenet_kernels.vector import build_module

ARGUMENTS = 9  # of network.build's run, all int64
ALLOWED = {"sched_yield", "SwitchToThread", "memcpy", "memset", "memmove"}  # what frozen code may call: the C library
DIGEST = 32  # bytes of a SHA-256

Network = Callable[..., int]

_loaded: list[Any] = []  # what keeps compiled code in memory
_networks: dict[int, Network] = {}
_compiling = threading.RLock()


def network(width: int, folder: Path | None = None) -> Network:
    """The driver for vectors of `width` floats, as a function of ARGUMENTS integers.

    Args:
        width: floats in a vector.
        folder: where object code is kept from process to process; None keeps nothing.

    Raises:
        ImportError: there is no object code for this CPU, and no Numba to make it.
    """
    with _compiling:
        if width not in _networks:
            _networks[width] = _load_frozen(width, folder) or _compile(width, folder)
        return _networks[width]


def tiles(width: int) -> dict[str, int]:
    """Addresses of the tiles for vectors of `width` floats, by symbol, for tests of single tiles."""
    chosen = lanes(width)
    return load(compile_tiles(chosen), all_tiles(chosen))


def compile_tiles(chosen: Lanes) -> bytes:
    """Object code of every tile, for this CPU with its features capped at the vector width."""
    _start_llvm()
    module = binding.parse_assembly(build_module(all_tiles(chosen), chosen.width))
    return _object_code(module, chosen)


def load(code: bytes, symbols: Iterable[str]) -> dict[str, int]:
    """Put object code into memory, for good; addresses of its symbols, which code loaded later can call by name."""
    _start_llvm()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _machine(lanes()))
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _loaded.append(engine)
    addresses = {name: engine.get_function_address(name) for name in symbols}
    for name, address in addresses.items():
        binding.add_symbol(name, address)
    return addresses


def frozen_file(width: int, folder: Path) -> Path:
    """Where the object code belongs; the name changes with everything that it depends on."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    depends_on = [
        *(source.read_text(encoding="utf-8") for source in sources), version("numba"), version("llvmlite"),
        platform.python_version(), sys.platform, binding.get_host_cpu_name(), features(lanes(width)),
    ]  # fmt: skip
    key = sha256("\0".join(depends_on).encode()).hexdigest()[:24]
    return folder / f"kernels-{width}-{key}.o"


def _compile(width: int, folder: Path | None) -> Network:
    from numba import cfunc, types

    from npmobilenet_kernels.network import build

    chosen = lanes(width)
    tile_code = compile_tiles(chosen)
    load(tile_code, all_tiles(chosen))
    signature = types.int64(*[types.int64] * ARGUMENTS)
    compiled = cfunc(signature, error_model="numpy")(build(chosen))
    driver = _without_python(compiled.inspect_llvm(), compiled.native_name, chosen)
    if driver is not None:
        if folder is not None:
            _write(frozen_file(width, folder), tile_code, driver)
        return _callable(load(driver, [_entry(width)])[_entry(width)])
    _loaded.append(compiled)
    return _callable(int(compiled.address or 0))


def _without_python(assembly: str, entry: str, chosen: Lanes) -> bytes | None:
    """Object code of Numba's function, or None if it still needs more than the C library and the tiles."""
    module = binding.parse_assembly(assembly)
    for function in module.functions:
        if function.name == entry:
            function.name = _entry(chosen.width)
        elif not function.is_declaration:
            function.linkage = "internal"
    code = _object_code(module, chosen)
    known = ALLOWED | set(all_tiles(chosen))
    needs = {function.name for function in module.functions if function.is_declaration}
    return code if all(name in known or name.startswith("llvm.") for name in needs) else None


def _object_code(module: Any, chosen: Lanes) -> bytes:
    """Optimise a module and translate it. The tiles are written as they should be: nothing is unrolled or
    vectorised."""
    module.verify()
    machine = _machine(chosen)
    tuning = binding.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_unrolling = tuning.loop_vectorization = tuning.slp_vectorization = False
    passes = binding.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(module, passes)
    return bytes(machine.emit_object(module))


def _load_frozen(width: int, folder: Path | None) -> Network | None:
    if folder is None:
        return None
    try:
        stored = frozen_file(width, folder).read_bytes()
    except OSError:
        return None
    digest, content = stored[:DIGEST], stored[DIGEST:]
    if sha256(content).digest() != digest:  # cut off or damaged: compiled again, and written again
        return None
    cut = 8 + int.from_bytes(content[:8], "little")
    load(content[8:cut], all_tiles(lanes(width)))
    return _callable(load(content[cut:], [_entry(width)])[_entry(width)])


def _write(path: Path, tile_code: bytes, driver: bytes) -> None:
    """Keep the object code if the folder can be written; a file appears whole or not at all."""
    content = len(tile_code).to_bytes(8, "little") + tile_code + driver
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
            part.write(sha256(content).digest() + content)
        Path(part.name).replace(path)
    except OSError:
        return


def _entry(width: int) -> str:
    return f"npmobilenet_run_x{width}"


def _callable(address: int) -> Network:
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
