"""The exponential, and the functions made of it: softmax and sigmoid.

    exp(x) = 2**n exp(r),    n = round(x / ln 2),    r = x - n ln 2,    |r| <= ln(2) / 2

The power of two is made from bits, and exp(r) is the Taylor polynomial of degree 7. Only x <= 0 occurs: the softmax
subtracts its maximum, and the sigmoid can be written with exp(-|x|). So nothing overflows.

The error budget, in units of u = 2**-24, relative to exp(x):

    r         ln 2 is split into HIGH, 10 bits long, and LOW. n HIGH and x - n HIGH are exact (Cody and Waite); the
              rest rounds n LOW <= 0.027 three times (LOW itself, the product, the remainder of ln 2) and r once:
              0.43
    series    the first term of the remainder, 0.3467**8 / 8! / exp(-0.3467): 0.13
    Horner    p_k = c_k + r p_(k+1), coefficient, product and sum rounded: e_k <= |r| (e_(k+1) + p_(k+1)) + p_k + c_k
              for k >= 3, without c_k where it is exact. At r = 0.3467 that gives e_0 = 2.5 for p_0 = 1.41, at
              r = -0.3467 1.4 for 0.71: 2.0 relative
    2**n      exact down to the smallest normal number; below LOWEST exp is flushed to 0

in all less than EXP_ERROR = 3, of the 8 that `npmobilenet.reference.rounding` allows.

Source: Cody & Waite 1980, Software Manual for the Elementary Functions, chapter 6 (the split of ln 2).
"""

from __future__ import annotations

from math import factorial

from npmobilenet_kernels.microkernels.emitter import ROUNDING, Emitter, Value, Values

EXP_ERROR = 3  # units of 2**-24
DEGREE = 7
PER_LN2 = 1.4426950408889634  # 1 / ln 2
HIGH, LOW = 355 / 512, -2.121944400546906e-4  # ln 2 = HIGH + LOW
LOWEST = -87.5  # exp is flushed to 0 below, near the smallest normal number; so n >= -126


def exponential(e: Emitter, x: Value) -> Value:
    """exp(x) for x <= 0 in every lane; exactly 0 below LOWEST and of -inf, NaN of NaN."""
    moved = e.fma(x, e.constant(PER_LN2), e.constant(ROUNDING))
    n = e.minus(moved, e.constant(ROUNDING))
    r = e.fma(n, e.constant(-LOW), e.fma(n, e.constant(-HIGH), x))
    p = e.constant_from_memory(1 / factorial(DEGREE))
    for k in reversed(range(DEGREE)):
        p = e.fma(p, r, e.constant_from_memory(1 / factorial(k)))
    return e.where(e.less(x, e.constant(LOWEST)), e.constant(0), e.times(p, e.power_of_two(moved)))


def softmax(e: Emitter, x: Value, block: Value, channels: Value, y: Value) -> None:
    """Softmax over the channels of one pixel: y[c] = exp(x[c] - max x) / sum_d exp(x[d] - max x).

    Args of the micro-kernel:
        x: address of the pixel's first vector, `block` bytes to that of the next block of L channels; y has the same
            layout. CpuTarget after the last channel are ignored, and become 0.
        channels: C.
    """
    blocks = e.divide(e.add(channels, e.width - 1), e.width)

    def inside(c: Value, offset: Value) -> Value:
        rest = e.add(channels, e.multiply(c, -e.width))
        return e.where(e.lane_mask(rest), e.load(e.add(x, offset)), e.constant(float("-inf")))

    def largest_of(c: Value, carried: Values) -> Values:
        offset, largest = carried
        return [e.add(offset, block), e.larger(largest, inside(c, offset))]

    _, largest = e.loop(blocks, [e.integer(0), e.constant(float("-inf"))], largest_of)
    largest = e.reduce_lanes(largest, e.larger)

    def exponentials(c: Value, carried: Values) -> Values:
        offset, total = carried
        value = exponential(e, e.minus(inside(c, offset), largest))
        e.store(value, e.add(y, offset))
        return [e.add(offset, block), e.plus(total, value)]

    _, total = e.loop(blocks, [e.integer(0), e.constant(0)], exponentials)
    total = e.reduce_lanes(total, e.plus)

    def shares(_: Value, carried: Values) -> Values:
        address = e.add(y, carried[0])
        e.store(e.over(e.load(address), total), address)
        return [e.add(carried[0], block)]

    e.loop(blocks, [e.integer(0)], shares)


def sigmoid(e: Emitter, x: Value, pixels: Value, y: Value) -> None:
    """Sigmoid of one block, (pixels, L): y = 1 / (1 + exp(-x)), by t = exp(-|x|) as 1 / (1 + t) or t / (1 + t)."""

    def one_pixel(index: Value, _: Values) -> Values:
        offset = e.multiply(index, e.bytes)
        v = e.load(e.add(x, offset))
        t = exponential(e, e.minus(e.constant(0), e.magnitude(v)))
        share = e.where(e.less(v, e.constant(0)), t, e.constant(1))
        e.store(e.over(share, e.plus(e.constant(1), t)), e.add(y, offset))
        return []

    e.loop(pixels, [], one_pixel)
