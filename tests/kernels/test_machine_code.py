"""The machine code of the tiles, generated for CPUs that need not be here: no innermost loop touches the stack.

What LLVM is told depends on the kind of vector alone. So one look at the code of each kind covers every CPU; the named
ones show which kind they take, and that the code has no instruction which they lack.
"""

import functools
import itertools
import re

import pytest
from llvmlite import binding
from npmobilenet_kernels.microkernels.catalog import all_tiles
from npmobilenet_kernels.microkernels.emitter import build_module
from npmobilenet_kernels.microkernels.symbols import gemm_name
from npmobilenet_kernels.runtime import codegen, cpu

KINDS = {"avx512": cpu.AVX512, "avx2": cpu.AVX2, "sse2": cpu.SSE2, "neon": cpu.NEON}
TRIPLES = {"neon": "aarch64-unknown-linux-gnu"}
CPUS = {
    **dict.fromkeys(("skylake-avx512", "icelake-server", "sapphirerapids", "znver4", "znver5", "x86-64-v4"), "avx512"),
    **dict.fromkeys(("haswell", "alderlake", "znver2", "znver3", "x86-64-v3"), "avx2"),
    **dict.fromkeys(("cortex-a72", "neoverse-n1", "apple-m1"), "neon"),
}
STACK = re.compile(r"\(%rsp|\[sp\b")  # in x86's and in ARM's assembly
LABEL = re.compile(r"(?m)^(\.LBB\w+):")


@functools.cache
def assembly(kind: str, cpu: str | None = None) -> dict[str, str]:
    """Assembly of every tile of one kind of vector, by symbol; `cpu` takes the place of the pinned model."""
    chosen = KINDS[kind]
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple(TRIPLES.get(kind, "x86_64-unknown-linux-gnu"))
    machine = codegen.target_machine(target, cpu or chosen.cpu, chosen.features)
    module = binding.parse_assembly(build_module(all_tiles(chosen), chosen.width))
    codegen.optimize(module, machine)
    pieces = re.split(r"(?m)^(?=npmobilenet_\w+:)", machine.emit_assembly(module))[1:]
    return {piece.split(":", 1)[0]: piece.split(".Lfunc_end")[0] for piece in pieces}


def innermost_loops(code: str) -> list[str]:
    """The basic blocks that jump back to their own beginning, up to that jump."""
    _, *pieces = LABEL.split(code)
    blocks = zip(pieces[::2], pieces[1::2], strict=True)
    return [block[: jump.end()] for label, block in blocks for jump in re.finditer(rf"{re.escape(label)}\b", block)]


@pytest.mark.parametrize("kind", KINDS)
def test_no_tile_touches_the_stack_in_its_innermost_loop(kind: str) -> None:
    code = assembly(kind)
    assert set(code) == set(all_tiles(KINDS[kind]))
    touching = {name for name, tile in code.items() for loop in innermost_loops(tile) if STACK.search(loop)}
    assert touching == set()


@pytest.mark.parametrize("kind", KINDS)
def test_the_sums_of_a_product_are_found_in_its_innermost_loop(kind: str) -> None:
    """The loop that the test above reads is the one that matters: `unroll` multiply-adds per sum of the tile."""
    chosen = KINDS[kind]
    for rows, half in itertools.product(chosen.rows, {False, chosen.halves}):
        loops = innermost_loops(assembly(kind)[gemm_name(rows, chosen.panel, chosen, half=half)])
        most = max(len(re.findall(r"(?m)^\s+(?:vfmadd|mulps|fmla)", loop)) for loop in loops)
        assert most == chosen.unroll * rows * chosen.panel, (rows, half)


def test_half_a_vector_is_multiplied_in_half_a_register() -> None:
    chosen = cpu.AVX512
    loops = innermost_loops(assembly("avx512")[gemm_name(chosen.rows[0], chosen.panel, chosen, half=True)])
    loop = max(loops, key=len)
    assert len(re.findall(r"vfmadd.*%zmm", loop)) == len(re.findall(r"vfmadd.*%ymm", loop))
    assert not re.search(r"vbroadcastss\s+%xmm", loop)  # one load made two widths


@pytest.mark.parametrize("cpu", [cpu for cpu, kind in CPUS.items() if kind != "neon"])
def test_code_written_for_a_named_cpu_uses_the_same_vectors(cpu: str) -> None:
    """LLVM itself, told the CPU's name, has every instruction of the kind that the CPU's features select."""
    kind = CPUS[cpu]
    register = {"avx512": "%zmm", "avx2": "%ymm"}[kind]
    name = f"npmobilenet_gemm_{KINDS[kind].rows[0]}x2x{KINDS[kind].width}"
    loops = innermost_loops(assembly(kind, cpu)[name])
    assert any("vfmadd" in loop and register in loop for loop in loops)
