"""Code generation: from micro-kernels and drivers to object code.

    micro-kernels  emitter.build_module -> LLVM's optimizer -> object code
    driver         work_stealing.run -> Numba, which need not optimize -> its LLVM code, in which every function but
                   `run` becomes private, so that LLVM proves that no exception can occur, and drops all calls into
                   Python -> object code

Every function is one piece of object code, which `object_cache` keeps for later processes and `native` loads, by
llvmlite alone. Numba's own cache would do, but reading it means importing Numba and refreshing its target.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from llvmlite import binding

from npmobilenet_kernels.microkernels.byte_emitter import build_byte_module
from npmobilenet_kernels.microkernels.emitter import Emit, build_module
from npmobilenet_kernels.runtime.cpu import ByteTarget, CpuTarget, family, host_byte_targets, host_target
from npmobilenet_kernels.runtime.job import ARGUMENTS, ENTRY

ALLOWED = {"sched_yield", "SwitchToThread", "memcpy", "memset", "memmove"}  # C library functions that it may call


def compile_symbol(symbol: str) -> bytes:
    """Object code of the driver or of a micro-kernel.

    A micro-kernel's symbol ends with its vector width, that of a kernel on bytes with its target.

    Raises:
        NotImplementedError: Numba's code for the driver calls more than the C library.
    """
    from npmobilenet_kernels.microkernels.byte_catalog import PREFIX, all_byte_kernels
    from npmobilenet_kernels.microkernels.catalog import all_tiles

    if symbol == ENTRY:
        return compile_driver()
    if symbol.startswith(PREFIX):
        byte_target = host_byte_targets()[symbol.rsplit("_", 1)[1]]
        return compile_byte_kernels({symbol: all_byte_kernels(byte_target)[symbol]}, byte_target)
    target = host_target(int(symbol.rsplit("x", 1)[1]))
    return compile_tiles({symbol: all_tiles(target)[symbol]}, target)


def compile_driver() -> bytes:
    """Object code of `work_stealing.run`, as ENTRY.

    Numba would compile a function again for every literal argument. So each is compiled ahead of time for integers,
    callees before callers, and then for nothing else.

    Raises:
        NotImplementedError: Numba's code calls more than the C library.
    """
    from inspect import signature

    from numba import cfunc, types

    from npmobilenet_kernels.drivers.compiled import compiled_functions
    from npmobilenet_kernels.runtime import work_stealing

    for function in compiled_functions:
        function.compile((types.int64,) * len(signature(function.py_func).parameters))
        function.disable_compile()
    compiled = cfunc(types.int64(*[types.int64] * ARGUMENTS), error_model="numpy")(work_stealing.run)
    return without_python(compiled.inspect_llvm(), compiled.native_name)


def compile_tiles(tiles: Mapping[str, Emit], target: CpuTarget) -> bytes:
    """Object code of micro-kernels, by symbol, for this CPU with its features capped at the vector width."""
    return object_code(build_module(tiles, target.width), target)


def compile_byte_kernels(kernels: Mapping[str, Emit], target: ByteTarget) -> bytes:
    """Object code of kernels on bytes, by symbol."""
    return object_code(build_byte_module(kernels, target), target)


def without_python(assembly: str, entry: str) -> bytes:
    """Object code of Numba's function `entry`, as ENTRY.

    Args:
        assembly: Numba's LLVM code. entry: the function's name in it.

    Raises:
        NotImplementedError: it calls more than the C library.
    """
    start_llvm()
    module = binding.parse_assembly(assembly)
    for function in module.functions:
        if function.name == entry:
            function.name = ENTRY
        elif not function.is_declaration:
            function.linkage = "internal"
    code = _object_code(module, family()[-1])  # it computes addresses, so the instructions of any CPU will do
    calls = {function.name for function in module.functions if function.is_declaration}
    if more := sorted(name for name in calls if name not in ALLOWED and not name.startswith("llvm.")):
        raise NotImplementedError(f"Numba's code calls {', '.join(more)}, which is not in the C library")
    return code


def object_code(assembly: str, target: CpuTarget | ByteTarget) -> bytes:
    """Object code of a module in LLVM assembly."""
    start_llvm()
    return _object_code(binding.parse_assembly(assembly), target)


def _object_code(module: Any, target: CpuTarget | ByteTarget) -> bytes:
    module.verify()
    machine = machine_for(target)
    optimize(module, machine)
    return bytes(machine.emit_object(module))


def optimize(module: Any, machine: Any) -> None:
    """Optimize a module in place; micro-kernels are final in form: nothing is unrolled or vectorized."""
    tuning = binding.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_unrolling = tuning.loop_vectorization = tuning.slp_vectorization = False
    passes = binding.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(module, passes)


def machine_for(target: CpuTarget | ByteTarget) -> Any:
    """LLVM's code generator for this machine's architecture."""
    return target_machine(binding.Target.from_default_triple(), target.cpu, target.features)


def target_machine(target: Any, cpu: str, features: str) -> Any:
    """LLVM's code generator for a target triple, CPU model and feature string.

    The code is for its place in memory ("static"): LLVM mixes up the tables of several position-independent pieces.
    """
    return target.create_target_machine(
        cpu=cpu, features=features, opt=2, reloc="static", codemodel="jitdefault", jit=True
    )


@functools.cache
def start_llvm() -> None:
    """Initialize LLVM's code generator, once per process."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
