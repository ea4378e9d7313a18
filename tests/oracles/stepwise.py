"""One step of a plan at a time: run by the engine, and computed exactly, with a bound on rounding."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from npmobilenet import reference
from npmobilenet.compiler import ir
from npmobilenet.compiler.plan import Plan
from npmobilenet.compiler.step_types import Step
from npmobilenet.reference import rounding
from npmobilenet.reference.activations import ACTIVATIONS
from npmobilenet.types import Array

Values = Mapping[str, Array]  # by name, without a batch axis


def run_stepwise(plan: Plan, x: Array) -> Iterator[tuple[Step, Values, Values]]:
    """(step, values read, values made) of every step on one image x (H, W, C)."""
    workspace = plan.new_workspace()
    image = plan.ops[0].name
    for number, step in enumerate(plan.steps):
        read = {name: x if name == image else plan.value(name, workspace) for name in step.reads}
        plan.run_step(number, workspace, x)
        yield step, read, {name: plan.value(name, workspace) for name in step.makes}


def exact_step(step: Step, read: Values) -> dict[str, tuple[Array, Array]]:
    """{name: (exact, bound)} of all operations of a step, from the values it read.

    bound limits the distance of float32 arithmetic from exact: that of each operation includes the errors of those
    before it in the same step (running error analysis); the values read count as exact.
    """
    known = {name: (value[None].astype(np.float64), np.zeros((1, *value.shape))) for name, value in read.items()}
    for op in step.ops:
        inputs, errors = zip(*(known[name] for name in op.reads), strict=True)
        known[op.name] = exact_operation(op, inputs, errors)
    return known


def exact_operation(op: ir.Operation, inputs: Sequence[Array], errors: Sequence[Array]) -> tuple[Array, Array]:
    """(exact, bound) of one fused operation, with kernel and bias as they are packed: in float32."""
    match op:
        case ir.Weighted():
            return _exact_sums(op, inputs, errors)
        case ir.GlobalAverage():
            bound = rounding.global_average_pool_bound(inputs[0], errors[0]).reshape(len(inputs[0]), *op.shape)
        case ir.Alias():
            bound = errors[0].reshape(len(errors[0]), *op.shape)
        case ir.LayerOperation():
            bound = op.layer.error_bound(op.params, *inputs, input_bounds=errors)
        case _:
            raise NotImplementedError(f"no bound on {op.label}")
    return op.evaluate(*inputs), bound


def _exact_sums(op: ir.Weighted, inputs: Sequence[Array], errors: Sequence[Array]) -> tuple[Array, Array]:
    kernel, bias = (array.astype(np.float32).astype(np.float64) for array in (op.kernel, op.bias))
    op = replace(op, kernel=kernel, bias=bias)
    sums = op.sums(*inputs)
    exact = ACTIVATIONS[op.activation](sums)
    bound = rounding.activation_bound(op.activation, sums, _sums_bound(op, inputs, errors))
    if isinstance(op, ir.Conv) and op.residual:
        bound = rounding.sum_bound([exact, inputs[-1]], [bound, errors[-1]])
    return op.evaluate(*inputs), bound


def _sums_bound(op: ir.Weighted, inputs: Sequence[Array], errors: Sequence[Array]) -> Array:
    """Bound on the sums of products, before the activation."""
    x, error = inputs[0], errors[0]
    match op:
        case ir.Conv():
            return _conv_bound(op, inputs, errors)
        case ir.Depthwise():
            filters = op.filters(x.shape[-1])
            return rounding.depthwise_conv2d_bound(x, filters, op.bias, error, **op.window)
        case ir.Dense():
            return rounding.dense_bound(x, op.kernel, op.bias, error)
    raise NotImplementedError(f"no bound on {op.label}")


def _conv_bound(op: ir.Conv, inputs: Sequence[Array], errors: Sequence[Array]) -> Array:
    x, error = inputs[0], errors[0]
    tiny = 0.0
    if op.scaling != ir.NO_SCALING:
        x, error = reference.rescale(x, *op.scaling), rounding.rescale_bound(x, *op.scaling, error)
    if op.gate:  # the engine multiplies the weights by it, one rounding more of each term; there it may underflow
        x, error = x * inputs[1], rounding.product_bound([x, inputs[1]], [error, errors[1]])
        tiny = float(np.finfo(np.float32).smallest_normal) * float(np.abs(inputs[0]).sum())
    return rounding.conv2d_bound(x, op.kernel, op.bias, error, **op.window) + tiny
