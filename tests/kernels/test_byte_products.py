"""Matrix products of bytes against the sums as they are written down, on every target of this host."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from npmobilenet_kernels.microkernels.byte_products import (
    STREAMS,
    ByteConvolution,
    BytePointwise,
    ByteStem,
    dense,
    row_sums,
    stem_scratch,
)
from npmobilenet_kernels.runtime.byte_packing import (
    LANES,
    LINE,
    Part,
    Requantization,
    exact_parts,
    pack_byte_matrix,
    pack_dense_constants,
    pack_limits,
    pack_records,
)
from npmobilenet_kernels.runtime.cpu import ByteTarget
from numpy.typing import NDArray

from npmobilenet.quantized.numbers import multiplier, round_away, rounded_once, rounded_twice, rounded_up_twice
from npmobilenet.quantized.tensors import Ints, Options
from npmobilenet.quantized.windows import windows
from tests.helpers.byte_steps import TARGETS, Bytes, Step, runnable_targets
from tests.helpers.strategies import SEEDS

RULES = {"twice": rounded_twice, "once": rounded_once, "up_twice": rounded_up_twice}
KINDS = ("twice", "once", "up_twice", "positive", "narrow", "float", "float_signed", "double")


class Drawn:
    """What a step does with its accumulators: a record of some kind, and the formula.

    Args:
        rng: draws.
        N: output channels.
        terms: products per sum.
        kind: one of KINDS.
    """

    def __init__(self, rng: np.random.Generator, N: int, terms: int, kind: str) -> None:
        self.kind = kind
        self.bias = rng.integers(-20000, 20000, N)
        M = np.exp(rng.normal(np.log(40 / (74 * 74 * np.sqrt(terms))), 0.7, N))
        self.m = multiplier(np.minimum(M, 0.45) if kind in ("positive", "narrow") else M)
        self.o, self.o_negative = rng.normal(0, 0.3, (2, N)).astype(np.float32)
        self.zero = int(rng.integers(0, 256))
        low, high = sorted(int(limit) for limit in rng.integers(0, 256, 2))
        self.low, self.high = (max(low, self.zero), 255) if kind == "positive" else (low, high)
        self.table = rng.permutation(256).astype(np.uint8) if rng.random() < 0.5 else None

    @property
    def M(self) -> NDArray[np.float64]:  # noqa: N802  # as in the formula
        """The multiplier as a real number."""
        M: NDArray[np.float64] = np.ldexp(self.m.q.astype(np.float64), self.m.e - 31).astype(np.float64)
        return M

    def columns(self, correction: Ints | int = 0) -> dict[str, NDArray[np.generic] | int]:
        """Columns of the row; `correction` is what zero points add to the bias."""
        blocks = -(-len(self.bias) // LANES)
        kind, parts = self._record(self.bias + correction)
        records = pack_records(np.full(blocks, kind), parts)
        limits = pack_limits(self.zero, self.low, self.high)
        return {"RECORDS": records, "LIMITS": limits, "TABLE": 0 if self.table is None else self.table}

    def _record(self, bias: Ints) -> tuple[Requantization, Mapping[Part, NDArray[np.generic]]]:
        k = self.M.astype(np.float32)
        match self.kind:
            case "float":
                return Requantization.FLOAT, {Part.BIAS: bias, Part.K: k, Part.O: self.o}
            case "float_signed":
                other = {Part.O_NEGATIVE: self.o_negative, Part.MINUS_C: np.zeros(len(k), np.int64)}
                return Requantization.FLOAT_SIGNED, {Part.BIAS: bias, Part.K: k, Part.O: self.o, **other}
            case "double":
                return Requantization.DOUBLE, {Part.BIAS: bias, Part.M: self.M}
            case "positive":
                return Requantization.POSITIVE, exact_parts(bias, self.m.q, self.m.e, "twice")
            case "narrow":
                return Requantization.NARROW, exact_parts(bias, self.m.q, self.m.e, "twice")
        return Requantization.EXACT, exact_parts(bias, self.m.q, self.m.e, self.kind)

    def __call__(self, sums: Ints) -> Bytes:
        """The bytes of sums (..., N) without bias."""
        acc = sums + self.bias
        y = np.clip(self._steps(acc) + self.zero, self.low, self.high).astype(np.uint8)
        return y if self.table is None else self.table[y]

    def _steps(self, acc: Ints) -> Ints:
        if self.kind in ("float", "float_signed"):
            o = np.where((self.kind == "float_signed") & (acc < 0), self.o_negative, self.o).astype(np.float64)
            exact = acc.astype(np.float32).astype(np.float64) * self.M.astype(np.float32)  # as fma: exact in 48 bits
            nearest: Ints = np.rint((exact + o).astype(np.float32)).astype(np.int64)
            return nearest
        if self.kind == "double":
            return round_away(acc * self.M)
        steps: Ints = RULES["twice" if self.kind in ("positive", "narrow") else self.kind](acc, self.m)
        return steps


def drawn_for(target: ByteTarget, seed: int, N: int, terms: int, kinds: tuple[str, ...] = KINDS[:-1]) -> Drawn:
    """A requantization that a target can do: floats need fused multiply-adds."""
    rng = np.random.default_rng(seed)
    able = [kind for kind in kinds if target.fused or not kind.startswith("float")]
    return Drawn(rng, N, terms, str(rng.choice(able)))


def bytes_of(rng: np.random.Generator, *shape: int) -> Bytes:
    """Any bytes."""
    return rng.integers(0, 256, shape).astype(np.uint8)


def weights_of(rng: np.random.Generator, *shape: int) -> NDArray[np.int8]:
    """Any weights."""
    return rng.integers(-128, 128, shape).astype(np.int8)


@settings(max_examples=20)
@given(SEEDS, TARGETS, st.booleans())
def test_pointwise(seed: int, name: str, parts_first: bool) -> None:
    target, rng = runnable_targets()[name], np.random.default_rng(seed)
    MR = int(rng.choice(target.rows))
    M, K, N = MR + int(rng.integers(0, 40)), int(rng.integers(1, 70)), int(rng.integers(1, 90))
    x, w, requantize = bytes_of(rng, M, 1, K), weights_of(rng, K, N), drawn_for(target, seed, N, K)
    extra = rng.integers(-3000, 3000, M).astype(np.int32) if rng.random() < 0.5 else None
    parts = int(rng.integers(1, 1 - -M // MR))
    step = Step(
        WEIGHTS=pack_byte_matrix(w, target.panel), PANEL_BYTES=-(-K // 4) * LINE * target.panel, SEGMENTS=K // LANES,
        TAIL=-(-(K % LANES) // 4), PARTS_FIRST=parts_first, SUMS=-1 if extra is None else extra, **requantize.columns(),
    )  # fmt: skip
    step.source(x)
    panels = -(-N // (LANES * target.panel))
    y = step.run(BytePointwise(MR, target.panel), name, (M, 1, N), parts, units=parts * panels)
    sums = x.astype(np.int64) @ w.astype(np.int64) + (0 if extra is None else extra[:, None, None])
    np.testing.assert_array_equal(y, requantize(sums))


@settings(max_examples=12)
@given(SEEDS, TARGETS)
def test_first_convolution(seed: int, name: str) -> None:
    target, rng = runnable_targets()[name], np.random.default_rng(seed)
    MR, C, N = int(rng.choice(target.rows)), int(rng.choice([1, 3])), int(rng.integers(1, 70))
    H, W, zero, flip = (int(value) for value in rng.integers((1, 2 * MR, 0, 0), (30, 2 * MR + 60, 256, 2)))
    x, w, requantize = bytes_of(rng, 1, H, W, C), weights_of(rng, 3, 3, C, N), drawn_for(target, seed, N, 9 * C)
    centered = (x ^ (128 * flip)).astype(np.int64) - zero
    options = Options("same", (2, 2))
    sums = sum(view @ w[u, v].astype(np.int64) for u, v, view in windows(centered, (3, 3), options))
    (top, left), (H_out, W_out) = ((max(side % 2, 0) for side in (H, W)), (-(-side // 2) for side in (H, W)))
    pitch = -(-((W + 3) * C + LINE) // LINE) * LINE
    scratch, image = np.zeros(stem_scratch(pitch), np.uint8), np.ascontiguousarray(x)
    step = Step(
        SOURCE_BLOCK=pitch, SOURCE_HEIGHT=H, SOURCE_WIDTH=W, STRIDE=2, TOP=top, LEFT=left, FILTER=3, FILTER_ACROSS=3,
        OFFSETS=np.arange(3) * pitch,
        WEIGHTS=pack_byte_matrix(w.reshape(9 * C, N), target.panel, 3 * C),
        PANEL_BYTES=3 * -(-3 * C // 4) * LINE * target.panel, PADDING=np.full(LINE, zero, np.uint8),
        CONSTANTS=np.full(LINE, 128 * flip, np.uint8), **requantize.columns(-zero * w.astype(np.int64).sum((0, 1, 2))),
    )  # fmt: skip
    kernel = ByteStem(MR, target.panel, C)
    y = step.run(kernel, name, (H_out, W_out, N), units=H_out, scratch=scratch, image=image)
    np.testing.assert_array_equal(y, requantize(np.asarray(sums)[0]))


@settings(max_examples=12)
@given(SEEDS, TARGETS)
def test_convolution_of_a_padded_map(seed: int, name: str) -> None:
    target, rng = runnable_targets()[name], np.random.default_rng(seed)
    MR, stride, K = int(rng.choice(target.rows)), int(rng.choice([1, 2])), int(rng.integers(1, 5))
    H, W, C, N = (int(side) for side in rng.integers((K, MR * stride + K, 1, 1), (12, MR * stride + 14, 40, 70)))
    zero, down = int(rng.integers(0, 256)), int(rng.integers(1, 4))
    x, w, requantize = bytes_of(rng, H, W, C), weights_of(rng, K, K, C, N), drawn_for(target, seed, N, K * K * C)
    views = windows(x[None].astype(np.int64) - zero, (K, K), Options(stride=(down, stride)))
    sums = np.asarray(sum(view @ w[u, v].astype(np.int64) for u, v, view in views))[0]
    blocks = -(-C // LANES)
    padded = np.zeros((K, K, blocks * LANES, N), np.int8)
    padded[:, :, :C] = w
    matrix = padded.reshape(K, K, blocks, LANES, N).transpose(2, 0, 1, 3, 4).reshape(-1, N)
    places = np.indices((blocks, K, K)).reshape(3, -1)
    offsets = np.array([H * W * LANES, W * LANES, LANES]) @ places
    parts, panels = int(rng.integers(1, len(sums) + 1)), -(-N // (LANES * target.panel))
    step = Step(
        WEIGHTS=pack_byte_matrix(matrix, target.panel), PANEL_BYTES=len(matrix) // 4 * LINE * target.panel,
        OFFSETS=offsets, SEGMENTS=offsets.size, STRIDE=down,
        **requantize.columns(-zero * w.astype(np.int64).sum((0, 1, 2))),
    )  # fmt: skip
    step.source(x)
    y = step.run(ByteConvolution(MR, target.panel, stride), name, sums.shape, parts, units=parts * panels)
    np.testing.assert_array_equal(y, requantize(sums))


@settings(max_examples=12)
@given(SEEDS, TARGETS)
def test_dense(seed: int, name: str) -> None:
    target, rng = runnable_targets()[name], np.random.default_rng(seed)
    K, N, factor = int(rng.integers(1, 200)), int(rng.choice([1, 16, 70, 300, 1000])), int(rng.integers(-120, 120))
    x, w, requantize = bytes_of(rng, 1, 1, K), weights_of(rng, K, N), drawn_for(target, seed, N, K, KINDS)
    step = Step(
        WEIGHTS=pack_byte_matrix(w, 1), PANEL_BYTES=-(-K // 4) * LINE, SEGMENTS=K // LANES, TAIL=-(-(K % LANES) // 4),
        CONSTANTS=pack_dense_constants(factor, K), **requantize.columns(),
    )  # fmt: skip
    step.source(x)
    y = step.run(dense, name, (1, 1, N), units=-(-N // (LANES * STREAMS[0])))
    np.testing.assert_array_equal(y, requantize(x.astype(np.int64) @ w + factor * x.astype(np.int64).sum()))


@pytest.mark.parametrize("name", runnable_targets())
@pytest.mark.parametrize("M", [1, 2, 3, 4, 5, 11])
def test_sums_of_pixels(name: str, M: int) -> None:
    rng = np.random.default_rng(M)
    for C in (1, 16, 40):
        x, factor = bytes_of(rng, M, 1, C), int(rng.integers(-120, 120))
        blocks = -(-C // LANES)
        ones = np.zeros((blocks, 4, LANES), np.uint8)
        ones[...] = (np.arange(blocks * LANES) < C).reshape(blocks, 1, LANES)
        constants = np.concatenate([np.full(LANES, factor, np.int32).view(np.uint8), ones.ravel()])
        step = Step(CONSTANTS=constants)
        step.source(x)
        sums = step.run_to(row_sums, name, np.int32, M, blocks=blocks, units=-(-M // 4))
        np.testing.assert_array_equal(sums, factor * x.astype(np.int64).sum((1, 2)))
