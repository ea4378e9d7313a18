"""How the kernels requantize what a layer has summed: a record per 16 channels, in float32 where that is proven equal.

Steps are counted from the zero point of the output; a middle step is taken off them in every record, and added to the
zero point that the kernels add, so that float32 has a bit more for the rest.
"""

from dataclasses import dataclass

import numpy as np
from npmobilenet_kernels.runtime.byte_packing import (
    LANES,
    Bytes,
    Part,
    Requantization,
    exact_parts,
    pack_limits,
    pack_records,
)
from numpy.typing import NDArray

from npmobilenet.compiler.blocking import ceil_div
from npmobilenet.compiler.proofs import FloatRescaling, Reach, RisingFunction, prove
from npmobilenet.quantized.rescaling import FIXED_POINT, Rescaling, mantissa
from npmobilenet.quantized.tensors import Ints
from npmobilenet.types import Array, Pair

BITS = 32  # of an accumulator
NARROW = 31  # bits that NARROW drops before it shifts
HIGH = 32  # bits that POSITIVE drops before it shifts
LARGEST_SHIFT = 55  # by which a middle step can be shifted in 64 bits


@dataclass(frozen=True, eq=False)
class Requantized:
    """What the kernels are told.

    Attributes:
        records: (blocks, RECORD) bytes.
        limits: zero point, least and largest byte.
        kinds: (blocks,) of `Requantization`.
    """

    records: Bytes
    limits: Bytes
    kinds: NDArray[np.int64]


def requantize(
    rescale: Rescaling | RisingFunction, reach: Reach, correction: Ints, limits: Pair, zero: int, *, fused: bool
) -> Requantized | None:
    """Records of a layer, or None if the kernels cannot compute the rule's results.

    Args:
        rescale: the rule's, from accumulators to steps.
        reach: of the accumulators.
        correction: (C,) what is added to the sums of products of bytes, so that they become accumulators.
        limits: least and largest step, counted from the zero point.
        zero: byte of the zero point.
        fused: whether the CPU rounds a product and a sum once.
    """
    C = len(correction)
    if rescale.rounding == "float32":
        found = prove(rescale, reach, limits)
        return _floats(found, correction, limits, zero) if found.proven.all() else None
    found = prove(rescale, reach, limits) if fused else _nothing(C)
    if found.proven.all():
        return _floats(found, correction, limits, zero)
    if isinstance(rescale, RisingFunction):
        return None
    M = np.broadcast_to(rescale.M, C)
    if rescale.rounding == "float64":
        kinds = np.full(ceil_div(C, LANES), Requantization.DOUBLE)
        return _packed(kinds, {Part.BIAS: correction, Part.M: M}, limits, zero)
    integers = _without_constants(_integers(rescale, M), found)
    if (integers[Part.T] > LARGEST_SHIFT).any():
        found = _nothing(C)
    return _mixed(found, integers, reach, correction, limits, zero)


def _nothing(C: int) -> FloatRescaling:
    """No channel proven, and no middle step."""
    zeros, floats = np.zeros(C, np.int64), np.zeros(C, np.float32)
    return FloatRescaling(zeros, floats, floats, floats, 0, np.zeros(C, np.bool_))


def _integers(rescale: Rescaling, M: NDArray[np.float64]) -> dict[Part, Ints]:
    """The rule's multipliers in integers; `exact_parts` explains them."""
    zeros = np.zeros(len(M), np.int64)
    if rescale.rounding == "mantissa":
        m, t = mantissa(M)
        return {Part.LEFT: zeros, Part.Q: m, Part.R: np.left_shift(1, t - 1), Part.N: zeros, Part.T: t}
    assert rescale.rounding in FIXED_POINT
    multiplier = Rescaling(M, rescale.rounding).multiplier
    return exact_parts(zeros, multiplier.q, multiplier.e, rescale.rounding)


def _without_constants(integers: dict[Part, Ints], found: FloatRescaling) -> dict[Part, Ints]:
    """The same, with channels whose result is always the same as a constant: their own shifts are the largest."""
    is_constant = found.proven & (found.k == 0)
    step = np.rint(found.o).astype(np.int64) + found.middle
    nothing = np.zeros_like(step)
    constant = {**dict.fromkeys(integers, nothing), Part.R: step << HIGH, Part.T: nothing + HIGH}
    return {part: np.where(is_constant, constant[part], values) for part, values in integers.items()}


def _floats(found: FloatRescaling, correction: Ints, limits: Pair, zero: int) -> Requantized:
    signed = _by_block(found.needs_sign).any(1)
    kinds = np.where(signed, Requantization.FLOAT_SIGNED, Requantization.FLOAT)
    return _packed(kinds, _float_parts(found, correction), limits, zero, found.middle)


def _mixed(
    found: FloatRescaling, integers: dict[Part, Ints], reach: Reach, correction: Ints, limits: Pair, zero: int
) -> Requantized:
    """Blocks all of whose channels are proven in float32, the others in integers."""
    proven = np.all(_by_block(found.proven, fill=True), axis=1)
    is_float = np.repeat(proven, LANES)[: len(correction)]
    # the sign of an accumulator matters where a rule rounds twice, unless negative ones are clipped to the zero point
    high = (integers[Part.T] >= HIGH) & (integers[Part.LEFT] == 0) & ((integers[Part.N] == 0) | (limits[0] >= 0))
    shifted = found.middle << np.where(is_float, 0, integers[Part.T])
    exact = {**integers, Part.BIAS: correction, Part.R: integers[Part.R] - shifted}
    kinds = np.select(
        [
            proven & _by_block(found.needs_sign).any(1),
            proven,
            _by_block(high, fill=True).all(1),
            _by_block(_is_narrow(exact, reach), fill=True).all(1),
        ],
        [Requantization.FLOAT_SIGNED, Requantization.FLOAT, Requantization.POSITIVE, Requantization.NARROW],
        Requantization.EXACT,
    )
    records = np.where(
        proven[:, None], pack_records(kinds, _float_parts(found, correction)), pack_records(kinds, exact)
    )
    return _with_limits(records, kinds, limits, zero, found.middle)


def _is_narrow(integers: dict[Part, Ints], reach: Reach) -> Array:
    """(C,) where 32 bits hold all products, shifted by 31, and one less."""
    ends = [(acc * integers[Part.Q] + integers[Part.R]) >> NARROW for acc in (reach.least, reach.most)]
    T = integers[Part.T] - NARROW
    fits = (ends[0] > -(1 << 31)) & (ends[1] < 1 << 31) & (T >= 0) & (T < BITS) & (integers[Part.LEFT] == 0)
    is_narrow: Array = fits & np.isin(integers[Part.N], [0, -(1 << NARROW)])
    return is_narrow


def _float_parts(found: FloatRescaling, correction: Ints) -> dict[Part, NDArray[np.generic]]:
    return {
        Part.BIAS: correction - found.c,
        Part.K: found.k,
        Part.O: found.o,
        Part.O_NEGATIVE: found.o_negative,
        Part.MINUS_C: -found.c,
    }


def _packed(
    kinds: NDArray[np.int64], parts: dict[Part, NDArray[np.generic]], limits: Pair, zero: int, middle: int = 0
) -> Requantized:
    return _with_limits(pack_records(kinds, parts), kinds, limits, zero, middle)


def _with_limits(records: Bytes, kinds: NDArray[np.int64], limits: Pair, zero: int, middle: int) -> Requantized:
    low, high = (limit + zero for limit in limits)
    return Requantized(records, pack_limits(zero + middle, low, high), kinds)


def _by_block(values: NDArray[np.bool_], *, fill: bool = False) -> NDArray[np.bool_]:
    """(C,) -> (blocks, 16), filled up."""
    padded = np.full(ceil_div(len(values), LANES) * LANES, fill)
    padded[: len(values)] = values
    return padded.reshape(-1, LANES)
