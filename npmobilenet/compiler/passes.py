"""From a network's layers to fewer, larger operations: the passes of a small compiler.

A `Graph` has a layer for every name in Keras. An engine that followed it would read and write every map three times,
once for the convolution, once for the normalisation, once for the activation. Each pass here is one function from a
list of `Op` to a shorter list, and each can be run, printed and tested alone:

    lower                  one Op a layer; layers that do nothing at inference disappear
    merge_zero_padding     zeros before a convolution become the convolution's own padding
    fold_batch_norm        normalisation becomes part of kernel and bias
    recognise_hard_sigmoid relu6(x + 3) / 6, which Keras writes as three layers, gets its name back
    fuse_activation        the activation is applied where the sum is stored
    fuse_rescaling         the input's scaling happens where the first convolution reads it
    fuse_gate              squeeze-and-excite scales the next convolution's weights instead of its map
    fuse_residual          the residual is added where the sum is stored
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from npmobilenet import reference
from npmobilenet.reference.activations import ACTIVATIONS
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer, Window
from npmobilenet.reference.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Input,
    Multiply,
    Rescaling,
    Reshape,
    ZeroPadding2D,
)
from npmobilenet.types import Array, Pair, Params, Shape

FUSED_ACTIVATIONS = ("linear", "relu", "relu6", "hard_swish", "hard_sigmoid")
SINGLE_ACTIVATIONS = ("softmax", "sigmoid")  # that have a kernel of their own
NO_ZEROS: tuple[Pair, Pair] = ((0, 0), (0, 0))


@dataclass(frozen=True, eq=False)
class Op:
    """One operation of the fused network.

    Attributes:
        kind: "input", "conv", "depthwise", "dense", "pool" (global average), "maximum" (global), "add", "multiply",
            "softmax", "sigmoid", "view" (same values, other shape), or "reference" (one layer, computed by `ops`).
        name: of the last layer that it covers; its output carries this name.
        layers: names of all layers that it covers, in order.
        inputs: names of the outputs that it reads.
        shape: of its output, without the batch axis.
        layer, arrays: the layer itself and its parameters, for kinds that are one layer.
        kernel: in the parameters' dtype; conv (K_h, K_w, c_in, c_out), depthwise (K_h, K_w, C * M), dense (c_in,
            c_out).
        bias: float64, (c_out,).
        stride, zeros: of the window; zeros are ((top, bottom), (left, right)).
        activation: one of FUSED_ACTIVATIONS.
        rescale: (scale, offset) applied to the input first.
        gate: name of a vector that multiplies the input's channels, or None.
        residual: name of a map that is added to the output, after the activation, or None.
        macs: multiply-adds for one image.
    """

    kind: str
    name: str
    layers: tuple[str, ...]
    inputs: tuple[str, ...]
    shape: Shape
    layer: Layer | None = None
    arrays: Mapping[str, Array] = field(default_factory=dict)
    kernel: Array | None = None
    bias: Array | None = None
    stride: int = 1
    zeros: tuple[Pair, Pair] = NO_ZEROS
    activation: str = "linear"
    rescale: tuple[float, float] = (1.0, 0.0)
    gate: str | None = None
    residual: str | None = None
    macs: int = 0

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of everything that it reads, gate and residual included."""
        return (*self.inputs, *(name for name in (self.gate, self.residual) if name))

    @property
    def is_pointwise(self) -> bool:
        """Whether it mixes the channels of single pixels and nothing else."""
        return self.kind == "conv" and self._kernel_shape[:2] == (1, 1) and self.stride == 1 and self.zeros == NO_ZEROS

    @property
    def is_stem(self) -> bool:
        """Whether it has the shape of a published network's first convolution: K x K, stride 2, 3 channels in."""
        return self.kind == "conv" and self.stride == 2 and self._kernel_shape[:3] == (*self._kernel_shape[:1] * 2, 3)

    @property
    def _kernel_shape(self) -> Shape:
        return () if self.kernel is None else self.kernel.shape


Ops = list[Op]
Pass = Callable[[Ops], Ops]


def lower(graph: Graph, params: Mapping[str, Array]) -> Ops:
    """One Op a layer, in the graph's order; dropout and linear activations disappear."""
    ops: Ops = []
    aliases: dict[str, str] = {}
    for layer in graph.layers:
        lowered = _lowered(graph, layer, params, tuple(aliases.get(name, name) for name in layer.inputs))
        ops += lowered
        if not lowered:
            aliases[layer.name] = aliases.get(layer.inputs[0], layer.inputs[0])
    return ops


def merge_zero_padding(ops: Ops) -> Ops:
    """ZeroPadding2D before one convolution: its zeros are added to the convolution's own."""

    def merge(pad: Op, conv: Op) -> Op | None:
        if not (isinstance(pad.layer, ZeroPadding2D) and conv.kind in ("conv", "depthwise")):
            return None
        (top, bottom), (left, right) = pad.layer.padding
        rows, columns = conv.zeros
        zeros = (top + rows[0], bottom + rows[1]), (left + columns[0], right + columns[1])
        return replace(conv, zeros=zeros, inputs=pad.inputs)

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


def fold_batch_norm(ops: Ops) -> Ops:
    """Normalization after a convolution or dense layer becomes part of its kernel and bias.

    (x * w + b) scale + shift  =  x * (w scale) + (b scale + shift)

    Computed in float64, rounded once. Where a folded number exceeds float32, though the layers' own numbers do not,
    the two stay apart.
    """

    def fold(conv: Op, norm: Op) -> Op | None:
        layer = norm.layer
        if not isinstance(layer, BatchNormalization) or conv.kernel is None or conv.bias is None:
            return None
        if conv.activation != "linear":
            return None
        scale, shift = scale_and_shift(norm.arrays, layer.epsilon)
        bias = conv.bias * scale + shift
        room = np.empty_like(conv.kernel)
        with np.errstate(over="ignore"):
            kernel = np.multiply(conv.kernel, scale, out=room, dtype=np.float64, casting="same_kind")
        if not np.isfinite(kernel).all() or np.abs(bias).max() > np.finfo(np.float32).max:
            return None
        return replace(conv, kernel=kernel, bias=bias)

    return _merge_pairs(ops, fold)


def recognise_hard_sigmoid(ops: Ops) -> Ops:
    """Rescaling(1, 3), relu6, Rescaling(1/6, 0) become one activation."""

    def rescales(op: Op, scale: float, offset: float) -> bool:
        layer = op.layer
        return isinstance(layer, Rescaling) and np.allclose((layer.scale, layer.offset), (scale, offset), rtol=1e-6)

    def first(shift: Op, clip: Op) -> Op | None:
        if rescales(shift, 1, 3) and _activation_of(clip) == "relu6":
            return replace(clip, inputs=shift.inputs, kind="shifted relu6", layer=None)
        return None

    def second(clip: Op, scale: Op) -> Op | None:
        if clip.kind == "shifted relu6" and rescales(scale, 1 / 6, 0):
            layer = Activation(name=scale.name, activation="hard_sigmoid", inputs=clip.inputs)
            return replace(scale, inputs=clip.inputs, layer=layer)
        return None

    fused = _merge_pairs(_merge_pairs(ops, first), second)
    return ops if any(op.kind == "shifted relu6" for op in fused) else fused


def fuse_activation(ops: Ops) -> Ops:
    """An activation after a convolution or dense layer is applied to the finished sum."""

    def fuse(conv: Op, activation: Op) -> Op | None:
        name = _activation_of(activation)
        if (
            conv.kind not in ("conv", "depthwise", "dense")
            or conv.activation != "linear"
            or name not in FUSED_ACTIVATIONS
        ):
            return None
        return replace(conv, activation=name)

    return _merge_pairs(ops, fuse)


def fuse_rescaling(ops: Ops) -> Ops:
    """Rescaling of the network's input is done by the usual first convolution as it reads the image."""

    def fuse(rescale: Op, conv: Op) -> Op | None:
        layer = rescale.layer
        if not isinstance(layer, Rescaling) or rescale.inputs != (ops[0].name,) or not conv.is_stem:
            return None
        return replace(conv, rescale=(layer.scale, layer.offset), inputs=rescale.inputs)

    return _merge_pairs(ops, fuse)


def fuse_gate(ops: Ops) -> Ops:
    """x * gate before a pointwise convolution: sum_k (x_k g_k) w_k = sum_k x_k (g_k w_k), and the weights are fewer."""
    shapes = {op.name: op.shape for op in ops}

    def fuse(multiply: Op, conv: Op) -> Op | None:
        if multiply.kind != "multiply" or not conv.is_pointwise or len(multiply.inputs) != 2:
            return None
        x, gate = multiply.inputs
        if shapes[gate] != (1, 1, multiply.shape[-1]) or shapes[x] != multiply.shape or shapes[x] == shapes[gate]:
            return None
        return replace(conv, inputs=(x,), gate=gate)

    return _merge_pairs(ops, fuse)


def fuse_residual(ops: Ops) -> Ops:
    """Add of a map and a convolution that nobody else reads: added as the sum is stored."""
    readers = _readers(ops)
    fused: dict[str, Op] = {}
    dropped: set[str] = set()
    order = {op.name: place for place, op in enumerate(ops)}
    by_name = {op.name: op for op in ops}
    for op in ops:
        if op.kind != "add" or len(op.inputs) != 2:
            continue
        for conv, other in (op.inputs[::-1], op.inputs):
            source = by_name[conv]
            sums = source.kind == "conv" and source.rescale == (1.0, 0.0) and not source.residual
            if sums and readers[conv] == 1 and order[other] < order[conv]:
                fused[op.name] = replace(source, name=op.name, layers=(*source.layers, *op.layers), residual=other)
                dropped.add(conv)
                break
    return [fused.get(op.name, op) for op in ops if op.name not in dropped]


PASSES: tuple[Pass, ...] = (
    merge_zero_padding,
    fold_batch_norm,
    recognise_hard_sigmoid,
    fuse_activation,
    fuse_rescaling,
    fuse_gate,
    fuse_residual,
)


def fuse(graph: Graph, params: Mapping[str, Array]) -> Ops:
    """All passes, in order."""
    ops = lower(graph, params)
    for run in PASSES:
        ops = run(ops)
    return ops


def apply(op: Op, *inputs: Array) -> Array:
    """The operation's output by the functions of `ops`, in the dtype of x: what its kernel must equal.

    Args:
        op: any operation but "input".
        inputs: (N, ...) arrays, one for each name in `op.reads`.
    """
    x, *others = inputs
    if op.kernel is None or op.bias is None:
        return _apply_plain(op, *inputs)
    kernel, bias = op.kernel.astype(x.dtype), op.bias.astype(x.dtype)
    extra = dict(zip(op.reads[len(op.inputs) :], others, strict=True))
    if op.rescale != (1.0, 0.0):
        x = reference.rescale(x, *op.rescale)
    if op.gate:
        x = x * extra[op.gate]
    if op.kind == "conv":
        y = reference.conv2d(x, kernel, bias, stride=op.stride, padding=op.zeros)
    elif op.kind == "depthwise":
        filters = kernel.reshape(*kernel.shape[:2], x.shape[-1], -1)  # (K_h, K_w, C, M)
        y = reference.depthwise_conv2d(x, filters, bias, stride=op.stride, padding=op.zeros)
    else:
        y = reference.dense(x, kernel, bias)
    y = ACTIVATIONS[op.activation](y)
    return y + extra[op.residual] if op.residual else y


def _apply_plain(op: Op, *inputs: Array) -> Array:
    if op.kind == "pool":
        return np.asarray(inputs[0].mean(axis=(1, 2))).reshape(len(inputs[0]), *op.shape)
    if op.kind == "view":
        return inputs[0].reshape(len(inputs[0]), *op.shape)
    assert op.layer is not None
    return op.layer.apply({name: array.astype(inputs[0].dtype) for name, array in op.arrays.items()}, *inputs)


def _merge_pairs(ops: Ops, merge: Callable[[Op, Op], Op | None]) -> Ops:
    """Replace every neighbouring pair, of which the first is read by the second alone, by what `merge` makes of it."""
    readers = _readers(ops)
    done: dict[str, Op] = {}
    for op in ops:
        if op.inputs and (before := done.get(op.inputs[0])) and readers[before.name] == 1:
            merged = merge(before, op)
            if merged is not None:
                done.pop(before.name)
                op = replace(merged, name=op.name, layers=(*before.layers, *op.layers), macs=before.macs + op.macs)
        done[op.name] = op
    return list(done.values())


def _readers(ops: Ops) -> dict[str, int]:
    readers = {op.name: 0 for op in ops}
    for op in ops:
        for name in op.reads:
            readers[name] += 1
    return readers


def _activation_of(op: Op) -> str | None:
    return op.layer.activation if isinstance(op.layer, Activation) else None


def _lowered(graph: Graph, layer: Layer, params: Mapping[str, Array], inputs: tuple[str, ...]) -> Ops:
    """The Ops of one layer: none for a layer that hands its input on, two where its activation has no kernel."""
    shape = graph.shapes[layer.name]
    before = graph.input_shapes(layer)
    op = Op("reference", layer.name, (layer.name,), inputs, shape, layer, macs=graph.macs_of(layer))
    if isinstance(layer, Dropout) or _activation_of(op) == "linear":
        return []
    if isinstance(layer, Input):
        return [replace(op, kind="input", layer=None)]
    arrays = {name: np.asarray(array) for name, array in graph.arrays_of(layer, params).items()}
    if isinstance(layer, BatchNormalization):
        return [replace(op, kind="norm", arrays=arrays)]
    if isinstance(layer, Add | Multiply):
        return [replace(op, kind=layer.type.lower())]
    if isinstance(layer, Activation):
        return [replace(op, kind=_kind_of_activation(layer.activation))]
    if isinstance(layer, GlobalMaxPooling2D):
        return [replace(op, kind="maximum")]
    if _averages_whole_map(layer, before):
        return [replace(op, kind="pool", layer=None)]
    if isinstance(layer, Reshape | Flatten) and prod(before[0]) == before[0][-1] == shape[-1]:
        return [replace(op, kind="view", layer=None)]
    kind = _weighted_kind(layer, before)
    if not isinstance(layer, Conv2D | DepthwiseConv2D | Dense) or kind is None:
        return [replace(op, arrays=arrays)]
    bias = arrays.get("bias", np.zeros(shape[-1])).astype(np.float64)
    kernel = arrays["kernel"]
    if kind == "depthwise":
        kernel = kernel.reshape(*kernel.shape[:2], shape[-1])
    op = replace(op, kind=kind, kernel=kernel, bias=bias, layer=None)
    if isinstance(layer, Window):
        op = replace(op, stride=layer.stride, zeros=layer.zeros(before[0]))
    if layer.activation in FUSED_ACTIVATIONS:
        return [replace(op, activation=layer.activation)]
    sums = f"{layer.name} (sums)"
    activation = Activation(name=layer.name, activation=layer.activation, inputs=(sums,))
    kind = _kind_of_activation(layer.activation)
    return [replace(op, name=sums), Op(kind, layer.name, (), (sums,), shape, activation)]


def _kind_of_activation(name: str) -> str:
    return name if name in SINGLE_ACTIVATIONS else "reference"


def _weighted_kind(layer: Layer, before: tuple[Shape, ...]) -> str | None:
    if isinstance(layer, DepthwiseConv2D):
        return "depthwise"
    if isinstance(layer, Dense):
        return "dense" if len(before[0]) == 1 else None
    return "conv" if isinstance(layer, Conv2D) else None


def _averages_whole_map(layer: Layer, before: tuple[Shape, ...]) -> bool:
    return isinstance(layer, GlobalAveragePooling2D) or (
        isinstance(layer, AveragePooling2D)
        and layer.kernel_size == before[0][:2]
        and layer.zeros(before[0]) == NO_ZEROS
    )
