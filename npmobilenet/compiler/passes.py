"""Fusion: the passes of a small compiler, which make fewer, larger operations of a network's layers.

A `Graph` has a layer for every name in Keras. An engine that followed it would read and write every feature map three
times, once for the convolution, once for the normalization, once for the activation. Each pass is one function from a
list of operations to a shorter list, and each can be run, printed and tested by itself:

    remove_identities      dropout and linear activations are dropped
    merge_zero_padding     zeros before a convolution become the convolution's own padding
    fold_batch_norm        normalization becomes part of kernel and bias
    recognize_hard_sigmoid relu6(x + 3) / 6, which Keras writes as three layers, gets its name back
    fuse_activation        the activation is applied where the sum is stored
    fuse_rescaling         the input's scaling happens where the first convolution reads it
    fuse_gate              squeeze-and-excite scales the next convolution's weights instead of its map
    fuse_residual          the residual is added where the sum is stored
    join_outputs           maps that are reshaped and concatenated for an output are read from where they are
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from npmobilenet.compiler.ir import (
    FUSED_ACTIVATIONS,
    NO_SCALING,
    Activate,
    Add,
    Alias,
    BatchNorm,
    Conv,
    Joined,
    LayerOperation,
    Multiply,
    Operation,
    Operations,
    Output,
    Pad,
    Rescale,
    Weighted,
    Window,
    consumer_counts,
)
from npmobilenet.compiler.lowering import lower
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Activation, Concatenate, Reshape
from npmobilenet.types import Array, Params

Pass = Callable[[Operations], Operations]


def remove_identities(ops: Operations) -> Operations:
    """An alias that keeps the shape is dropped; what reads it reads its input."""
    shapes = {op.name: op.shape for op in ops}
    sources: dict[str, str] = {}
    kept: Operations = []
    for op in ops:
        op = replace(op, inputs=tuple(sources.get(name, name) for name in op.inputs))
        if isinstance(op, Alias) and not isinstance(op, Output) and shapes[op.inputs[0]] == op.shape:
            sources[op.name] = op.inputs[0]
        else:
            kept.append(op)
    return kept


def merge_zero_padding(ops: Operations) -> Operations:
    """ZeroPadding2D before one convolution: its zeros are added to the convolution's own."""

    def merge(pad: Operation, conv: Operation) -> Operation | None:
        if not (isinstance(pad, Pad) and isinstance(conv, Window)):
            return None
        (top, bottom), (left, right) = pad.layer.padding
        rows, columns = conv.padding
        padding = (top + rows[0], bottom + rows[1]), (left + columns[0], right + columns[1])
        return replace(conv, padding=padding, inputs=pad.inputs)

    return _merge_pairs(ops, merge)


def scale_and_shift(params: Params, epsilon: float) -> tuple[Array, Array]:
    """Batch normalization as y = x * scale + shift.

    gamma (x - mean) / sqrt(var + epsilon) + beta:  scale = gamma / sqrt(var + epsilon),  shift = beta - mean scale

    Args:
        params: moving_mean, moving_variance and, if the layer has them, gamma and beta, each (C,).
        epsilon: added to the variance.

    Returns:
        (scale, shift), each (C,), float64.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), algorithm 2.
    """
    arrays = {name: array.astype(np.float64) for name, array in params.items()}
    scale = arrays.get("gamma", 1.0) / np.sqrt(arrays["moving_variance"] + epsilon)
    return scale, arrays.get("beta", 0.0) - arrays["moving_mean"] * scale


def fold_batch_norm(ops: Operations) -> Operations:
    """Normalization after a convolution or dense layer becomes part of its kernel and bias.

    (x * w + b) scale + shift  =  x * (w scale) + (b scale + shift)

    Computed in float64, rounded once. Where a folded number exceeds float32, though the layers' own numbers do not,
    the two stay apart.
    """

    def fold(conv: Operation, norm: Operation) -> Operation | None:
        if not (isinstance(norm, BatchNorm) and isinstance(conv, Weighted)) or conv.activation != "linear":
            return None
        scale, shift = scale_and_shift(norm.params, norm.layer.epsilon)
        bias = conv.bias * scale + shift
        room = np.empty_like(conv.kernel)
        with np.errstate(over="ignore"):
            kernel = np.multiply(conv.kernel, scale, out=room, dtype=np.float64, casting="same_kind")
        if not np.isfinite(kernel).all() or np.abs(bias).max() > np.finfo(np.float32).max:
            return None
        return replace(conv, kernel=kernel, bias=bias)

    return _merge_pairs(ops, fold)


def recognize_hard_sigmoid(ops: Operations) -> Operations:
    """Rescaling(1, 3), relu6, Rescaling(1/6, 0) become one activation."""
    by_name = {op.name: op for op in ops}
    consumers = consumer_counts(ops)
    found: dict[str, Operation] = {}
    dropped: set[str] = set()
    for scale in ops:
        if not _rescales(scale, 1 / 6, 0):
            continue
        clip = by_name[scale.inputs[0]]
        if not (isinstance(clip, Activate) and clip.layer.activation == "relu6"):
            continue
        shift = by_name[clip.inputs[0]]
        if _rescales(shift, 1, 3) and consumers[clip.name] == consumers[shift.name] == 1:
            layers = (*shift.layers, *clip.layers, *scale.layers)
            layer = Activation(name=scale.name, activation="hard_sigmoid", inputs=shift.inputs)
            found[scale.name] = replace(clip, name=scale.name, layers=layers, inputs=shift.inputs, layer=layer)
            dropped |= {clip.name, shift.name}
    return [found.get(op.name, op) for op in ops if op.name not in dropped]


def fuse_activation(ops: Operations) -> Operations:
    """An activation after a convolution or dense layer is applied to the finished sum."""

    def fuse(conv: Operation, activation: Operation) -> Operation | None:
        if not (isinstance(conv, Weighted) and isinstance(activation, Activate)) or conv.activation != "linear":
            return None
        name = activation.layer.activation
        return replace(conv, activation=name) if name in FUSED_ACTIVATIONS else None

    return _merge_pairs(ops, fuse)


def fuse_rescaling(ops: Operations) -> Operations:
    """The usual first convolution scales the network's input as it reads the image."""
    image = ops[0].name

    def fuse(rescale: Operation, conv: Operation) -> Operation | None:
        if not (isinstance(rescale, Rescale) and isinstance(conv, Conv)):
            return None
        if rescale.inputs != (image,) or not conv.is_stem:
            return None
        return replace(conv, scaling=(rescale.layer.scale, rescale.layer.offset), inputs=rescale.inputs)

    return _merge_pairs(ops, fuse)


def fuse_gate(ops: Operations) -> Operations:
    """x * gate before a pointwise convolution: sum_k (x_k g_k) w_k = sum_k x_k (g_k w_k), and the weights are fewer."""
    shapes = {op.name: op.shape for op in ops}

    def fuse(multiply: Operation, conv: Operation) -> Operation | None:
        if not (isinstance(multiply, Multiply) and isinstance(conv, Conv)):
            return None
        if not conv.is_pointwise or len(multiply.inputs) != 2:
            return None
        x, gate = multiply.inputs
        if shapes[gate] != (1, 1, multiply.shape[-1]) or shapes[x] != multiply.shape or shapes[x] == shapes[gate]:
            return None
        return replace(conv, inputs=(x,), gate=gate)

    return _merge_pairs(ops, fuse)


def fuse_residual(ops: Operations) -> Operations:
    """The sum of a map and a convolution that nothing else reads: added as the convolution is stored."""
    consumers = consumer_counts(ops)
    by_name = {op.name: op for op in ops}
    order = {op.name: place for place, op in enumerate(ops)}
    fused: dict[str, Operation] = {}
    dropped: set[str] = set()
    for op in ops:
        if not isinstance(op, Add) or len(op.inputs) != 2:
            continue
        for name, other in (op.inputs[::-1], op.inputs):
            conv = by_name[name]
            if not isinstance(conv, Conv) or conv.scaling != NO_SCALING or conv.residual:
                continue
            if consumers[name] == 1 and order[other] < order[name]:
                fused[op.name] = replace(conv, name=op.name, layers=(*conv.layers, *op.layers), residual=other)
                dropped.add(name)
                break
    return [fused.get(op.name, op) for op in ops if op.name not in dropped]


def join_outputs(ops: Operations) -> Operations:
    """An output that concatenates maps, each reshaped to rows, reads the maps themselves."""
    consumers = consumer_counts(ops)
    by_name = {op.name: op for op in ops}

    def only_here(op: Operation, kind: type[Layer]) -> bool:
        return isinstance(op, LayerOperation) and isinstance(op.layer, kind) and consumers[op.name] == 1

    joined: dict[str, Joined] = {}
    dropped: set[str] = set()
    for output in (op for op in ops if isinstance(op, Output)):
        whole = by_name[output.inputs[0]]
        parts = [by_name[name] for name in whole.inputs]
        if (
            only_here(whole, Concatenate)
            and len(whole.shape) == 2
            and all(only_here(part, Reshape) and part.shape[-1] == whole.shape[-1] for part in parts)
        ):
            sources = tuple(part.inputs[0] for part in parts)
            layers = tuple(layer for op in (*parts, whole) for layer in op.layers)
            joined[output.name] = Joined(name=output.name, layers=layers, inputs=sources, shape=output.shape)
            dropped |= {whole.name, *whole.inputs}
    return [joined.get(op.name, op) for op in ops if op.name not in dropped]


PASSES: tuple[Pass, ...] = (
    remove_identities,
    merge_zero_padding,
    fold_batch_norm,
    recognize_hard_sigmoid,
    fuse_activation,
    fuse_rescaling,
    fuse_gate,
    fuse_residual,
    join_outputs,
)


def fuse(graph: Graph, params: Params) -> Operations:
    """Lowering and all passes, in order.

    Args:
        graph: the network.
        params: arrays by `layer/array`.
    """
    ops = lower(graph, params)
    for run in PASSES:
        ops = run(ops)
    return ops


def _merge_pairs(ops: Operations, merge: Callable[[Operation, Operation], Operation | None]) -> Operations:
    """Replace each pair, the first of which only the second reads, by what `merge` makes of it, if anything."""
    consumers = consumer_counts(ops)
    done: dict[str, Operation] = {}
    for op in ops:
        if op.inputs and (before := done.get(op.inputs[0])) and consumers[before.name] == 1:
            merged = merge(before, op)
            if merged is not None:
                done.pop(before.name)
                op = replace(merged, name=op.name, layers=(*before.layers, *op.layers), macs=before.macs + op.macs)
        done[op.name] = op
    return list(done.values())


def _rescales(op: Operation, scale: float, offset: float) -> bool:
    return isinstance(op, Rescale) and np.allclose((op.layer.scale, op.layer.offset), (scale, offset), rtol=1e-6)
