"""Single steps on bytes, as kernels compute them, on maps between guards."""

import ctypes
import functools
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from npmobilenet_kernels.drivers.byte_table import ByteField
from npmobilenet_kernels.drivers.step_table import FIELDS
from npmobilenet_kernels.microkernels.byte_emitter import build_byte_module
from npmobilenet_kernels.microkernels.emitter import Emit
from npmobilenet_kernels.runtime import codegen, native
from npmobilenet_kernels.runtime.byte_packing import (
    Part,
    Requantization,
    exact_parts,
    from_byte_blocks,
    pack_limits,
    pack_records,
    to_byte_blocks,
)
from npmobilenet_kernels.runtime.cpu import BYTE_AVX512, BYTE_AVXVNNI, ByteTarget, host_byte_targets
from numpy.typing import ArrayLike, NDArray

from npmobilenet.quantized.numbers import multiplier, rounded_twice
from npmobilenet.quantized.tensors import Ints
from tests.helpers.guard_pages import GuardedBuffer

Bytes = NDArray[np.uint8]
INTEGER_KINDS = (Requantization.EXACT, Requantization.POSITIVE, Requantization.NARROW)
KINDS = st.sampled_from([*INTEGER_KINDS, Requantization.FLOAT, Requantization.FLOAT_SIGNED])
UNTOUCHED = 0xA5
MARGIN = 256


@functools.cache
def runnable_targets() -> dict[str, ByteTarget]:
    """The byte targets of this host, by name.

    A CPU with AVX-512 VNNI has the instructions of AVX-VNNI on vectors of 256 bits in another encoding.
    """
    targets = host_byte_targets()
    if BYTE_AVX512.name not in targets:
        return targets
    encoded = replace(BYTE_AVXVNNI, cpu=BYTE_AVX512.cpu, features=BYTE_AVX512.features)
    return {encoded.name: encoded, **targets}


TARGETS = st.sampled_from(sorted(runnable_targets()))


class Step:
    """One row of the table and what it refers to.

    Args:
        columns: of the row. Arrays are passed by address.
    """

    def __init__(self, **columns: ArrayLike) -> None:
        self._held: list[Bytes] = []
        self.row = np.zeros(FIELDS, np.int64)
        self.row[ByteField.SUMS] = -1
        self.set(**columns)

    def set(self, **columns: ArrayLike) -> None:
        """Write columns of the row, by name."""
        for name, value in columns.items():
            array = np.asarray(value)
            if array.ndim:
                array = aligned(array)
                self._held.append(array)
            self.row[ByteField[name]] = array.ctypes.data if array.ndim else int(array)

    def source(self, x: Bytes, prefix: str = "SOURCE") -> None:
        """An input (H, W, C), between pages that must not be read; its address is the arena's 0."""
        blocks = to_byte_blocks(x)
        buffer = GuardedBuffer(blocks.size, at_end=True)
        self._buffers = [*getattr(self, "_buffers", []), buffer]
        np.frombuffer(buffer.floats, np.uint8)[:] = blocks.ravel()
        buffer.forbid_writing()
        self.row[ByteField[prefix]] = buffer.address
        self.row[ByteField[f"{prefix}_BLOCK"]] = blocks[0].size
        if prefix == "SOURCE":
            self.row[[ByteField.SOURCE_HEIGHT, ByteField.SOURCE_WIDTH]] = x.shape[:2]

    def run(
        self, emit: Emit, target: str, shape: tuple[int, int, int], parts: int = 1, units: int = 0,
        scratch: Bytes | None = None, image: Bytes | None = None,
    ) -> Bytes:  # fmt: skip
        """The output (H, W, C) of the kernel, computed in two calls.

        Args:
            emit: the kernel.
            target: name of a byte target.
            shape: of the output.
            parts: of every block; by default units are blocks x parts.
            units: of the step.
            scratch, image: working memory, and the network's input.
        """
        H, W, C = shape
        blocks = -(-C // 16)
        memory = np.full(2 * MARGIN + blocks * H * W * 16, UNTOUCHED, np.uint8)
        self.set(
            TARGET=memory.ctypes.data + MARGIN, TARGET_BLOCK=H * W * 16, HEIGHT=H, WIDTH=W, PIXELS=H * W, BLOCKS=blocks,
            PARTS=parts, UNITS=units or blocks * parts,
        )  # fmt: skip
        self._call(emit, target, scratch, image)
        assert (memory[:MARGIN] == UNTOUCHED).all(), "written before the output"
        assert (memory[-MARGIN:] == UNTOUCHED).all(), "written after the output"
        return from_byte_blocks(memory[MARGIN:-MARGIN].reshape(blocks, H * W, 16), shape)

    def run_to(
        self, emit: Emit, target: str, dtype: type[np.generic], count: int, blocks: int, units: int
    ) -> NDArray[np.generic]:
        """`count` numbers of a type that the kernel makes of `blocks` blocks of its input."""
        y = np.full(count + 2 * MARGIN, UNTOUCHED, dtype)
        self.set(TARGET=y[MARGIN:].ctypes.data, PIXELS=count, BLOCKS=blocks, UNITS=units)
        self._call(emit, target, None, None)
        assert (y[:MARGIN] == UNTOUCHED).all(), "written before the output"
        assert (y[-MARGIN:] == UNTOUCHED).all(), "written after the output"
        return y[MARGIN:-MARGIN]

    def _call(self, emit: Emit, target: str, scratch: Bytes | None, image: Bytes | None) -> None:
        count = int(self.row[ByteField.UNITS])
        kernel = compiled(emit, target)
        memory = [0 if array is None else array.ctypes.data for array in (scratch, image)]
        for first, last in ((count // 2, count), (0, count // 2)):
            kernel(self.row.ctypes.data, 0, *memory, first, last)


class Drawn:
    """Requantization of C channels, drawn: as the kernels have it, and by its formula.

    Attributes:
        columns: of a step.
    """

    def __init__(self, rng: np.random.Generator, C: int, kind: Requantization, target: str, bias: Ints) -> None:
        self._kind, self._zero = kind, int(rng.integers(0, 256))
        low, high = sorted(rng.integers(0, 256, 2))
        self._limits = (max(low, self._zero), max(high, self._zero)) if kind == Requantization.POSITIVE else (low, high)
        self._m = multiplier(np.exp(rng.uniform(-9, -3, C)))
        k = (self._m.q * 2.0 ** (self._m.e - 31.0)).astype(np.float32)
        o, o_negative = rng.uniform(-0.5, 0.5, (2, C)).astype(np.float32) * runnable_targets()[target].fused
        limit = rng.integers(-1000, 1000, C)
        self._floats = (k, o, o_negative if kind == Requantization.FLOAT_SIGNED else o, limit)
        parts = {Part.BIAS: bias, Part.K: k, Part.O: o, Part.O_NEGATIVE: o_negative, Part.MINUS_C: limit}
        if kind in INTEGER_KINDS:
            parts = exact_parts(bias, self._m.q, self._m.e, "twice")
        self._table = rng.permutation(256).astype(np.uint8) if rng.integers(2) else np.arange(256, dtype=np.uint8)
        self.columns: dict[str, ArrayLike] = {
            "RECORDS": pack_records(np.full(-(-C // 16), kind), parts),
            "LIMITS": pack_limits(self._zero, *self._limits),
            "TABLE": self._table if (np.diff(self._table) != 1).any() else 0,
        }

    def __call__(self, acc: Ints) -> Bytes:
        """The bytes that accumulators (..., C) become."""
        if self._kind in INTEGER_KINDS:
            steps = rounded_twice(acc, self._m)
        else:
            k, positive, negative, limit = self._floats
            o = np.where(acc < limit, negative, positive)
            steps = np.rint((acc.astype(np.longdouble) * k + o).astype(np.float32)).astype(np.int64)
        return self._table[np.clip(steps + self._zero, *self._limits)]


@functools.cache
def compiled(emit: Emit, target: str) -> "ctypes._CFunctionType":
    """A kernel as a function of six integers."""
    chosen = runnable_targets()[target]
    name = f"npmobilenet_byte_tested_{target}"
    code = codegen.object_code(build_byte_module({name: emit}, chosen), chosen)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 6)(native.load(code, [name])[name])


def aligned(values: NDArray[np.generic]) -> Bytes:
    """The bytes of an array, at the beginning of a cache line."""
    data = np.ascontiguousarray(values).view(np.uint8).ravel()
    memory = np.zeros(data.size + 64, np.uint8)
    skip = -memory.ctypes.data % 64
    memory[skip : skip + data.size] = data
    return memory[skip : skip + data.size]
