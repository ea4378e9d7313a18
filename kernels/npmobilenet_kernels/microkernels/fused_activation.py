"""The activation that ends a sum, while it is still in registers."""

from __future__ import annotations

from npmobilenet_kernels.drivers.step_table import Activation
from npmobilenet_kernels.microkernels.emitter import Emitter, Value, Values


def activate(e: Emitter, activation: Value, x: Values) -> Values:
    """The activation, chosen at run time by its number, of every vector in x.

    relu6(x) = min(max(x, 0), 6)    hard_sigmoid(x) = relu6(x + 3) / 6    hard_swish(x) = x hard_sigmoid(x)
    """
    zero, three, six = e.constant(0), e.constant(3), e.constant(6)

    def clamped() -> Values:
        limit = e.where(e.compare("==", activation, Activation.RELU), e.constant(float("inf")), six)
        return [e.clamp(v, zero, limit) for v in x]

    def gate(v: Value) -> Value:
        return e.times(e.clamp(e.plus(v, three), zero, six), e.constant(1 / 6))

    def hard() -> Values:
        swish = e.compare("==", activation, Activation.HARD_SWISH)
        return e.choose(swish, lambda: [e.times(v, gate(v)) for v in x], lambda: [gate(v) for v in x])

    def nonlinear() -> Values:
        return e.choose(e.compare("<=", activation, Activation.RELU6), clamped, hard)

    return e.choose(e.compare("==", activation, Activation.LINEAR), lambda: x, nonlinear)
