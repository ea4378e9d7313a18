"""Micro-kernels without sums: scaling, copying, adding, and the epilogue of sums in memory."""

from __future__ import annotations

from npmobilenet_kernels.microkernels.emitter import FLOAT_BYTES, Emitter, Value, Values
from npmobilenet_kernels.microkernels.fused_activation import activate


def scale_weights(e: Emitter, w: Value, gate: Value, K: Value, vectors: Value, y: Value) -> None:
    """A channel-wise gate of the input, folded into the weights: y[k, :] = gate[k] w[k, :].

    Args of the micro-kernel:
        w, y: one panel of weights, (K, vectors * L); gate: (K,).
    """

    def one_row(k: Value, _: Values) -> Values:
        factor = e.splat(e.add(gate, e.multiply(k, FLOAT_BYTES)))
        start = e.multiply(e.multiply(k, vectors), e.bytes)

        def one_vector(j: Value, _: Values) -> Values:
            offset = e.add(start, e.multiply(j, e.bytes))
            e.store(e.times(e.load(e.add(w, offset)), factor), e.add(y, offset))
            return []

        return e.loop(vectors, [], one_vector)

    e.loop(K, [], one_row)


def scale_and_copy(e: Emitter, x: Value, count: Value, factors: Value, y: Value) -> None:
    """y[i] = x[i] * factors[0] + factors[1] for `count` floats; accesses nothing beyond them."""

    def vectors(e: Emitter, start: Value, rounds: Value) -> None:
        factor, offset = e.splat(factors), e.splat(factors, FLOAT_BYTES)

        def one_vector(index: Value, _: Values) -> Values:
            position = e.add(start, e.multiply(index, e.bytes))
            e.store(e.fma(e.load(e.add(x, position)), factor, offset), e.add(y, position))
            return []

        e.loop(rounds, [], one_vector)

    whole = e.divide(count, e.width)
    vectors(e, e.integer(0), whole)
    vectors(e.with_width(1), e.multiply(whole, e.bytes), e.add(count, e.multiply(whole, -e.width)))


def epilogue(e: Emitter, x: Value, pixels: Value, activation: Value, residual: Value, y: Value) -> None:
    """Epilogue of sums in memory: y[p, :] = act(x[p, :]) + residual[p, :].

    Args of the micro-kernel:
        x, y: one block of channels, (pixels, L); residual: the same, or 0 for none; activation: an `Activation`.
    """

    def one_pixel(index: Value, _: Values) -> Values:
        offset = e.multiply(index, e.bytes)
        result = activate(e, activation, [e.load(e.add(x, offset))])

        def with_residual() -> Values:
            return [e.plus(result[0], e.load(e.add(residual, offset)))]

        (total,) = e.choose(e.compare("!=", residual, 0), with_residual, lambda: result)
        e.store(total, e.add(y, offset))
        return []

    e.loop(pixels, [], one_pixel)


def add_pixels(e: Emitter, x: Value, other: Value, pixels: Value, y: Value) -> None:
    """Sum of two feature maps, one block of channels, (pixels, L): y[p, :] = x[p, :] + other[p, :]."""

    def one_pixel(index: Value, _: Values) -> Values:
        offset = e.multiply(index, e.bytes)
        e.store(e.plus(e.load(e.add(x, offset)), e.load(e.add(other, offset))), e.add(y, offset))
        return []

    e.loop(pixels, [], one_pixel)
