"""One step of a plan at a time: run by the engine, and computed exactly, with a bound on what rounding may add."""

from dataclasses import replace

import numpy as np

from npmobilenet import reference as ops
from npmobilenet.compiler import engine, passes
from npmobilenet.reference import rounding
from npmobilenet.reference.activations import ACTIVATIONS


def run_step(plan, number, arena, x):
    """Run step `number` of a plan on one image x (H, W, C); it reads and writes the arena."""
    step = plan.steps[number]
    if step.kind is None:
        plan._run_reference(step, arena, x)
    else:
        plan._run_native(number, number + 1, arena, x, None)


def made_by(step):
    """Names of the values that a step makes."""
    return [name for name in (step.target, step.average) if name]


def run_stepwise(plan, x):
    """(step, what it read, what it made) of every step on one image x (H, W, C), the values by name."""
    arena = engine._Arena(plan.arena_bytes, plan.scratch_bytes)
    arena.make_room(1)
    image = plan.ops[0].name
    for number, step in enumerate(plan.steps):
        read = {name: x if name == image else plan._value(name, arena) for name in step.reads}
        run_step(plan, number, arena, x)
        yield step, read, {name: plan._value(name, arena) for name in made_by(step)}


def exact_step(step, read):
    """{name: (exact, bound)} of all operations of a step, from what it really read.

    bound is how far float32 arithmetic may get from exact: that of each operation carries the errors of those before
    it in the same step (running error analysis); what the step reads is taken as it is.
    """
    known = {name: (value[None].astype(np.float64), np.zeros((1, *value.shape))) for name, value in read.items()}
    for op in step.ops:
        inputs, errors = zip(*(known[name] for name in op.reads), strict=True)
        known[op.name] = exact_operation(op, inputs, errors)
    return known


def exact_operation(op, inputs, errors):
    """(exact, bound) of one fused operation, with kernel and bias as they are packed: in float32."""
    if op.kernel is None:
        return passes.apply(op, *inputs), _plain_bound(op, inputs, errors)
    kernel, bias = (array.astype(np.float32).astype(np.float64) for array in (op.kernel, op.bias))
    op = replace(op, kernel=kernel, bias=bias)
    sums = passes.apply(replace(op, activation="linear", residual=None), *inputs[: len(inputs) - bool(op.residual)])
    exact = ACTIVATIONS[op.activation](sums)
    bound = rounding.activation_bound(op.activation, sums, _sums_bound(op, inputs, errors))
    if op.residual:
        exact, bound = exact + inputs[-1], rounding.sum_bound([exact, inputs[-1]], [bound, errors[-1]])
    return exact, bound


def _sums_bound(op, inputs, errors):
    """Bound on the sums of products, before the activation."""
    x, error = inputs[0], errors[0]
    tiny = 0.0
    if op.rescale != (1.0, 0.0):
        x, error = ops.rescale(x, *op.rescale), rounding.rescale_bound(x, *op.rescale, error)
    if op.gate:  # the engine multiplies the weights by it, one rounding more of each term; there it may underflow
        x, error = x * inputs[1], rounding.product_bound([x, inputs[1]], [error, errors[1]])
        tiny = float(np.finfo(np.float32).smallest_normal) * np.abs(inputs[0]).sum()
    window = {"stride": op.stride, "padding": op.zeros}
    if op.kind == "conv":
        return rounding.conv2d_bound(x, op.kernel, op.bias, error, **window) + tiny
    if op.kind == "depthwise":
        filters = op.kernel.reshape(*op.kernel.shape[:2], x.shape[-1], -1)  # (K_h, K_w, C, M)
        return rounding.depthwise_conv2d_bound(x, filters, op.bias, error, **window)
    assert op.kind == "dense"
    return rounding.dense_bound(x, op.kernel, op.bias, error)


def _plain_bound(op, inputs, errors):
    if op.kind == "pool":
        return rounding.global_average_pool_bound(inputs[0], errors[0]).reshape(len(inputs[0]), *op.shape)
    if op.kind == "view":
        return errors[0].reshape(len(errors[0]), *op.shape)
    return op.layer.error_bound(op.arrays, *inputs, input_bounds=errors)
