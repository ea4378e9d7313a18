"""Rescaling in float32: where it is proven, it is the rule's for every accumulator in reach."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet.compiler.proofs import FloatRescaling, FloatSum, Reach, first_accumulators, prove, prove_sum, reach_of
from npmobilenet.quantized.merges import add
from npmobilenet.quantized.rescaling import Rescaling
from npmobilenet.quantized.rules import RULES, Rounding
from npmobilenet.quantized.tensors import Ints, Options, Quantization, Tensor
from npmobilenet.types import Array

ROUNDINGS: tuple[Rounding, ...] = ("twice", "once", "up_twice", "float64", "float32", "mantissa")
LIMITS = st.sampled_from([(0, 255), (-128, 127), (-96, 159), (0, 40), (-255, 0)])


def fused(d: Array, k: np.float32, o: np.float32) -> Array:
    """rint(fma(d, k, o)) by rational numbers: exact, rounded to float32 once, halves to even."""
    exact = [Fraction(float(x)) * Fraction(float(k)) + Fraction(float(o)) for x in d]
    return np.asarray(np.rint(np.array([_float32(value) for value in exact])))


def _float32(value: Fraction) -> np.float32:
    """The nearest float32, halves to even."""
    near = np.float32(float(value))
    candidates = sorted(
        {near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))},
        key=lambda x: (abs(Fraction(float(x)) - value), int(np.float32(x).view(np.int32)) & 1),
    )
    return np.float32(candidates[0])


@given(
    st.sampled_from(ROUNDINGS), LIMITS, st.floats(-9, 0.7), st.integers(-3000, 3000), st.integers(1, 4000),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_all_accumulators(
    rounding: Rounding, limits: tuple[int, int], log2_M: float, least: int, count: int, seed: int
) -> None:
    """Every accumulator in reach, of eight channels with factors from 2^-9 to 2^0.7."""
    rng = np.random.default_rng(seed)
    M = 2.0 ** (log2_M + rng.uniform(-0.5, 0.5, 8))
    rescale = Rescaling(M, rounding)
    reach = Reach(np.full(8, least), np.full(8, least + count))
    found = prove(rescale, reach, limits)
    acc = np.arange(least, least + count + 1)[:, None]
    expected, y = np.clip(rescale(acc + np.zeros(8, np.int64)), *limits), np.clip(found(acc), *limits)
    assert np.array_equal(y[:, found.proven], expected[:, found.proven])


def test_where_float32_runs_out_of_places() -> None:
    """Factors about 2^-10, where steps are as fine as float32 near 128: some channels cannot be proven, none is wrong.

    All accumulators are too many here: both sides of every step are looked at.
    """
    rescale = Rescaling(2.0 ** np.linspace(-11, -9, 24), "twice")
    reach = Reach(np.full(24, -(2**18)), np.full(24, 2**18))
    found = prove(rescale, reach, (-128, 127))
    edges = first_accumulators(rescale, reach, np.arange(-127, 128)[:, None])
    for acc in (edges - 2, edges - 1, edges, edges + 1):
        expected, y = np.clip(rescale(acc), -128, 127), np.clip(found(acc), -128, 127)
        assert np.array_equal(y[:, found.proven], expected[:, found.proven])
    assert 4 < found.proven.sum() < 24


@given(st.sampled_from(ROUNDINGS[:2]), st.floats(-8, -2), st.integers(0, 2**32 - 1))
def test_one_rounding_of_product_and_sum(rounding: Rounding, log2_M: float, seed: int) -> None:
    """The emulation by float64 is what one rounded multiplication and addition gives, by rational numbers."""
    rescale = Rescaling(np.array([2.0**log2_M]), rounding)
    found = prove(rescale, Reach(np.array([-(2**17)]), np.array([2**17])), (-128, 127))
    acc = np.random.default_rng(seed).integers(-(2**17), 2**17, 50)
    o = np.where(acc < 0, found.o_negative[0], found.o[0])
    exact = np.array([fused(np.array([d]), found.k[0], b)[0] for d, b in zip(acc - found.c[0], o, strict=True)])
    assert np.array_equal(exact + found.middle, found(acc[:, None])[:, 0])


@pytest.mark.parametrize("rounding", ROUNDINGS[:4])
def test_steps_begin_where_the_rule_says(rounding: Rounding) -> None:
    """The least accumulator of each step, by looking at all of them."""
    rescale = Rescaling(np.array([0.0131, 0.3, 0.9, 1.7]), rounding)
    reach = Reach(np.full(4, -5000), np.full(4, 5000))
    acc = np.arange(-5000, 5001)[:, None] + np.zeros(4, np.int64)
    y = rescale(acc)
    steps = np.arange(-60, 61)[:, None]
    expected = np.where(y.max(0) >= steps, acc[(y[None] >= steps[:, None]).argmax(1), 0], 5001)
    assert np.array_equal(first_accumulators(rescale, reach, steps), expected)


def test_what_rounds_twice_needs_two_offsets() -> None:
    """Negative accumulators begin their steps elsewhere; one offset does for results that are never negative."""
    rescale = Rescaling(np.full(100, 2.0**-7) * np.linspace(1, 1.99, 100), "twice")
    reach = Reach(np.full(100, -(2**16)), np.full(100, 2**16))
    signed, positive = prove(rescale, reach, (-128, 127)), prove(rescale, reach, (0, 255))
    assert signed.proven.mean() > 0.9
    assert signed.needs_sign[signed.proven].mean() > 0.5
    assert positive.proven.mean() > 0.9
    assert not positive.needs_sign[positive.proven].any()


def test_what_cannot_be_proven() -> None:
    """So fine steps that float32 cannot tell them apart are left to integers; a channel without steps is a constant."""
    M = np.array([2.0**-18 * 1.37, 2.0**-40])
    found = prove(Rescaling(M, "twice"), Reach(np.full(2, -(2**30)), np.full(2, 2**30)), (-128, 127))
    assert found.proven.tolist() == [False, True]
    assert found(np.array([[2**30, 2**30]]))[0, 1] == 0


def test_reach() -> None:
    """Every input at the end of its range that a weight prefers, the zero points subtracted."""
    how = Quantization(np.ones(1, np.float32), np.array([3]))
    w = Tensor("w", (2, 2), np.dtype(np.uint8), how, np.array([[4, 0], [3, 5]], np.uint8))
    x = Tensor("x", (1, 2), np.dtype(np.int8), Quantization(np.ones(1, np.float32), np.array([-28])))
    reach = reach_of(w, np.array([10, 0]), x)  # weights 1 and -3, 0 and 2; inputs from -100 to 155
    assert reach.least.tolist() == [10 - 100 - 3 * 155, -200]
    assert reach.most.tolist() == [10 + 155 + 300, 310]


def _sum(rule: str, s1: float, s2: float, sy: float) -> tuple[Ints, FloatSum | None]:
    """All sums of two bytes under a rule, and what has been proven."""

    def tensor(scale: float) -> Tensor:
        zero = np.array([int(100 * scale) % 256])
        return Tensor("x", (), np.dtype(np.uint8), Quantization(np.array([scale], np.float32), zero))

    x1, x2 = (x.astype(np.uint8) for x in np.divmod(np.arange(2**16), 256))
    one, two, out = tensor(s1), tensor(s2), tensor(sy)
    pair = [Tensor("x", x.shape, t.dtype, t.quantization, x) for x, t in ((x1, one), (x2, two))]
    y = add(pair, out, Options(), RULES[rule]) - out.zero_point
    limits = (-out.zero_point, 255 - out.zero_point)
    return np.clip(y, *limits), prove_sum(y, limits, (s1 / sy, s2 / sy))


@given(st.sampled_from(["tflite", "single", "xnnpack"]), *[st.floats(0.02, 0.5)] * 3)
def test_sums(rule: str, s1: float, s2: float, sy: float) -> None:
    """Sums of all pairs of bytes, wherever one in float32 is found."""
    y, found = _sum(rule, s1, s2, sy)
    if found is not None:
        x1, x2 = (x.astype(np.float32) for x in np.divmod(np.arange(2**16), 256))
        assert np.array_equal(np.clip(found(x1, x2), y.min(), y.max()), y)


def test_most_sums_are_found() -> None:
    """Scales as in real networks."""
    rng = np.random.default_rng(0)
    scales = rng.uniform((0.1, 0.1, 0.2), (0.3, 0.3, 0.4), (12, 3))
    found = [_sum("tflite", s1, s2, sy)[1] for s1, s2, sy in scales]
    assert sum(one is not None for one in found) >= 8


def test_nothing_is_assumed_of_a_result() -> None:
    """A rescaling is a description: it can be applied to any accumulator."""
    k, o, o_negative = (np.array([value], np.float32) for value in (0.5, 0, 0.25))
    found = FloatRescaling(np.array([5]), k, o, o_negative, 3, np.array([True]))
    assert found(np.array([[-4], [5], [9]])).tolist() == [[-1], [3], [5]]


def test_a_rule_whose_left_shift_leaves_32_bits_is_not_proven() -> None:
    """Such a rule does not rise with the accumulator; the search for its steps would not end."""
    rescale = Rescaling(np.full(3, 2.0**12), "twice")
    found = prove(rescale, Reach(np.full(3, -(2**20)), np.full(3, 2**20)), (-128, 127))
    assert not found.proven.any()
