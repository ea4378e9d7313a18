"""Global pooling: average and maximum over the pixels of one block of L channels."""

from __future__ import annotations

from npmobilenet_kernels.microkernels.emitter import Emitter, Value, Values

PARTIAL_SUMS = 4  # of the average, since an addition has a latency of four cycles


def pool(e: Emitter, x: Value, pixels: Value, scale: Value, y: Value) -> None:
    """Global average: y[:] = scale[0] * sum_p x[p, :], in PARTIAL_SUMS sums.

    Args of the micro-kernel:
        x: (pixels, L); scale: address of 1 / pixels; y: (L,).
    """

    def rounds(count: Value, depth: int, x: Value, sums: Values) -> Values:
        def one_round(_: Value, carried: Values) -> Values:
            x, *sums = carried
            sums = [e.plus(s, e.load(x, d * e.bytes)) if d < depth else s for d, s in enumerate(sums)]
            return [e.add(x, depth * e.bytes), *sums]

        return e.loop(count, [x, *sums], one_round)

    whole = e.divide(pixels, PARTIAL_SUMS)
    x, *sums = rounds(whole, PARTIAL_SUMS, x, [e.constant(0)] * PARTIAL_SUMS)
    _, *sums = rounds(e.add(pixels, e.multiply(whole, -PARTIAL_SUMS)), 1, x, sums)
    total = e.plus(e.plus(sums[0], sums[1]), e.plus(sums[2], sums[3]))
    e.store(e.times(total, e.splat(scale)), y)


def largest(e: Emitter, x: Value, pixels: Value, _scale: Value, y: Value) -> None:
    """Global maximum, with the arguments of `pool`: y[:] = max_p x[p, :]. NaN stays NaN."""

    def one_pixel(index: Value, carried: Values) -> Values:
        return [e.larger(e.load(e.add(x, e.multiply(index, e.bytes))), carried[0])]

    (result,) = e.loop(pixels, [e.constant(float("-inf"))], one_pixel)
    e.store(result, y)
