"""CPU targets: which one a CPU gets, and that its tiles fit every layer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npmobilenet_kernels.runtime import cpu
from npmobilenet_kernels.runtime.cpu import FAMILIES, CpuTarget, host_target, tile_rows

from tests.helpers.kernel_calls import WIDTHS


@given(st.integers(1, 13000), WIDTHS)
def test_a_tile_never_has_more_rows_than_there_are_pixels(pixels: int, width: int) -> None:
    assert tile_rows(pixels, host_target(width).rows) <= pixels


@pytest.mark.parametrize("target", [target for targets in FAMILIES.values() for target in targets])
def test_every_target_has_tiles_for_the_smallest_layers(target: CpuTarget) -> None:
    assert target.rows[-1] == target.narrow_rows[-1] == target.streams[-1] == 1


@pytest.mark.parametrize(
    ("features", "width"),
    [
        (cpu.AVX512.needs, 16),
        (cpu.AVX512.needs - {"avx512vl"}, 8),  # a virtual machine that hides features
        (cpu.AVX2.needs, 8),
        (cpu.AVX2.needs - {"fma"}, 4),
        ((), 4),  # a CPU that LLVM knows nothing of
    ],
)
def test_a_cpu_gets_the_widest_vectors_all_of_whose_instructions_it_has(features: set[str], width: int) -> None:
    assert next(iter(cpu.usable(cpu.FAMILIES["x86_64"], features))) == width


@pytest.mark.parametrize("machine", ["i686", "armv7l", "s390x", "riscv64"])
def test_an_unsupported_architecture_raises_one_sentence_about_it(
    machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    with pytest.raises(ImportError, match=f"not {machine}.*; use the NumPy reference"):
        cpu.family()
