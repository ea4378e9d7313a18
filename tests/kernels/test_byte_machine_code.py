"""The machine code of the kernels on bytes, generated for CPUs that need not be here."""

import functools
import re

import pytest
from llvmlite import binding
from npmobilenet_kernels.microkernels.byte_catalog import all_byte_kernels, byte_name
from npmobilenet_kernels.microkernels.byte_emitter import build_byte_module
from npmobilenet_kernels.runtime import codegen
from npmobilenet_kernels.runtime.cpu import BYTE_AVX512, BYTE_FAMILIES

from tests.kernels.test_machine_code import STACK, innermost_loops

TARGETS = {target.name: (family, target) for family, targets in BYTE_FAMILIES.items() for target in targets}
CALL = re.compile(r"(?m)^\s+(?:callq?|bl)\s")
KERNELS = ("dense", "row_sums", "depthwise3_1_4_1", "byte_mean", "byte_max_pool", "byte_add", "byte_table", "byte_pad")


@functools.cache
def assembly(name: str) -> dict[str, str]:
    """Assembly of some kernels for one target, by kernel."""
    family, target = TARGETS[name]
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = codegen.target_machine(
        binding.Target.from_triple(f"{family}-unknown-linux-gnu"), target.cpu, target.features
    )
    kernels = all_byte_kernels(target)
    chosen = {kernel: byte_name(kernel, target) for kernel in (*KERNELS, f"pointwise_{target.rows[0]}")}
    module = binding.parse_assembly(build_byte_module({name: kernels[name] for name in chosen.values()}, target))
    codegen.optimize(module, machine)
    pieces = re.split(r"(?m)^(?=npmobilenet_\w+:)", machine.emit_assembly(module))[1:]
    by_symbol = {piece.split(":", 1)[0]: piece.split(".Lfunc_end")[0] for piece in pieces}
    return {kernel: by_symbol[symbol] for kernel, symbol in chosen.items()}


def test_kernels_for_arm_call_nothing() -> None:
    """On x86 the kernels of every target run in other tests, where a missing function could not be called."""
    calling = {kernel for kernel, code in assembly("neon").items() if CALL.search(code)}
    assert calling == set()


@pytest.mark.parametrize("name", ["vnni512", "vnni256"])
def test_the_sums_of_a_product_stay_in_registers(name: str) -> None:
    """Of the 31 vectors of 14 x 2 sums, two of weights and one of pixels, one may wait on the stack for one group."""
    target = TARGETS[name][1]
    loops = innermost_loops(assembly(name)[f"pointwise_{target.rows[0]}"])
    counts = [len(re.findall("vpdpbusd", loop)) for loop in loops]
    registers = 1 if target == BYTE_AVX512 else 2  # of 16 sums
    assert max(counts) == 4 * target.rows[0] * target.panel * registers
    assert all(len(STACK.findall(loop)) <= 2 for loop, count in zip(loops, counts, strict=True) if count)
