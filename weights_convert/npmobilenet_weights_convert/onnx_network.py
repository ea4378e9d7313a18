"""ONNX nodes to a graph: channels first or last, batch normalization folded or not, transposes wherever they are.

A value of four axes is always held as a feature map (H, W, C); `axes` is the order in which the file has them. So a
Transpose is no layer but another order, and every operation looks up where the channels are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isclose, prod
from typing import Any

import numpy as np

from npmobilenet.architectures.builder import Builder
from npmobilenet.errors import ShapeError, WeightsError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
    Multiply,
    Rescaling,
    Reshape,
    ZeroPadding2D,
)
from npmobilenet.types import Array, Padding, Pair, Shape
from npmobilenet_weights_convert.onnx_file import OnnxFile, OnnxNode, evaluated

CHANNELS_FIRST, CHANNELS_LAST, VECTOR = "NCHW", "NHWC", "NC"
IMAGE_CHANNELS = (1, 3, 4)
ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "HardSwish": "hard_swish"}
PASSES_ON = ("Identity", "Dropout", "Cast")


@dataclass(frozen=True)
class _Value:
    """A value of the file: the layer that computes it, and the order of its axes in the file."""

    layer: str
    axes: str


def onnx_network(file: OnnxFile, resolution: int) -> tuple[Graph, dict[str, Array], str]:
    """The network of a file: its graph, its parameters, and the order of the axes of its input.

    Args:
        file: the open file.
        resolution: side of the input in pixels where the file does not fix it.

    Raises:
        WeightsError: an operation is not supported, or is used in a way that is not; the message names both.
    """
    axes = _input_axes(file)
    sides = {axis: side or resolution for axis, side in zip(axes, file.input_shape, strict=True)}
    network = _Network(file, (sides["H"], sides["W"], sides["C"]), axes)
    try:
        for node in file.nodes:
            network.add(node)
    except ShapeError as error:
        raise WeightsError(str(error)) from error
    graph = network.graph()
    params = {name: np.ascontiguousarray(network.params[name], np.float32) for name in graph.param_shapes}
    return graph, params, axes


def _input_axes(file: OnnxFile) -> str:
    shape = file.input_shape
    if len(shape) != 4:
        raise WeightsError(f"expected an input of four axes, images, got {file.input} {shape}")
    if shape[1] in IMAGE_CHANNELS:
        return CHANNELS_FIRST
    if shape[3] in IMAGE_CHANNELS:
        return CHANNELS_LAST
    raise WeightsError(f"expected images of 1, 3 or 4 channels, got {file.input} {shape}")


class _Network:
    """The graph while it is built."""

    def __init__(self, file: OnnxFile, shape: tuple[int, int, int], axes: str) -> None:
        self.file = file
        self.builder = Builder("onnx", shape)
        self.params: dict[str, Array] = {}
        self.constants = dict(file.constants)
        self.values = {file.input: _Value(self.builder.last, axes)}
        self.operations: dict[str, Callable[[OnnxNode, _Value], _Value]] = {
            "Conv": self._conv, "BatchNormalization": self._batch_norm, "Clip": self._clip,
            "HardSigmoid": self._hard_sigmoid, "Softmax": self._softmax, "Transpose": self._transpose,
            "GlobalAveragePool": self._global_pool, "ReduceMean": self._reduce_mean, "Gemm": self._gemm,
            "MatMul": self._matmul, "Pad": self._pad, "AveragePool": self._window_pool, "MaxPool": self._window_pool,
            "Flatten": self._flatten, "Reshape": self._reshape, "Squeeze": self._reshape, "Unsqueeze": self._reshape,
            "Add": self._arithmetic, "Sub": self._arithmetic, "Mul": self._arithmetic, "Div": self._arithmetic,
            "Concat": self._concat,
        }  # fmt: skip

    def add(self, node: OnnxNode) -> None:
        """Append the layers of one node."""
        used = [name for name in node.inputs if name]
        if all(name in self.constants for name in used):
            self.constants |= dict(evaluated(self.file, node, self.constants))
            return
        computed = [self.values[name] for name in used if name in self.values]
        if len(computed) + sum(name in self.constants for name in used) < len(used):
            raise WeightsError(f"{node.name}: {node.op} reads {', '.join(used)}, of which not all are computed before")
        first = computed[0]
        if node.op == "Shape":
            self.constants[node.outputs[0]] = np.array(self._file_shape(first), np.int64)
        elif node.op in PASSES_ON:
            self.values[node.outputs[0]] = first
        elif node.op in ACTIVATIONS:
            self.values[node.outputs[0]] = self._activation(node, first, ACTIVATIONS[node.op])
        elif node.op in self.operations:
            self.values[node.outputs[0]] = self.operations[node.op](node, first)
        else:
            raise WeightsError(f"{node.name}: the ONNX operation {node.op} is not supported")

    def graph(self) -> Graph:
        """The layers so far, with the outputs of the file.

        Raises:
            WeightsError: an output is a constant, or a value is computed that is neither read nor an output.
        """
        constant = [name for name in self.file.outputs if name not in self.values]
        if constant:
            raise WeightsError(f"the output {', '.join(constant)} is a constant")
        outputs = tuple((name, self.values[name].layer) for name in self.file.outputs)
        last = self.builder.last
        if len(outputs) == 1 and outputs[0][1] != last:
            raise WeightsError(f"the output {outputs[0][0]} is not the last value that is computed")
        try:
            return self.builder.graph(outputs if len(outputs) > 1 else ())
        except ShapeError as error:
            raise WeightsError(str(error)) from error

    def _refuse(self, node: OnnxNode, what: str) -> WeightsError:
        return WeightsError(f"{node.name}: {node.op} {what} is not supported")

    def _layer(self, node: OnnxNode, kind: type[Layer], x: _Value, axes: str = "", **fields: Any) -> _Value:
        return _Value(self.builder.add(kind, node.outputs[0], inputs=(x.layer,), **fields), axes or x.axes)

    def _shape(self, x: _Value) -> Shape:
        """Shape as held here: (H, W, C) or (C,)."""
        return self.builder.shape_of(x.layer)

    def _file_shape(self, x: _Value) -> Shape:
        """Shape as the file has it, with a batch of one."""
        sides = dict(zip("HWC" if len(x.axes) == 4 else "C", self._shape(x), strict=True)) | {"N": 1}
        return tuple(sides[axis] for axis in x.axes)

    def _constant(self, node: OnnxNode, index: int, default: Any = None) -> Any:
        """An input that must be constant."""
        if index >= len(node.inputs) or not node.inputs[index]:
            return default
        if node.inputs[index] not in self.constants:
            raise self._refuse(node, f"with a computed input {node.inputs[index]}")
        return self.constants[node.inputs[index]]

    def _channels_first(self, node: OnnxNode, x: _Value) -> None:
        if x.axes != CHANNELS_FIRST:
            raise self._refuse(node, f"on axes {x.axes}")

    def _activation(self, node: OnnxNode, x: _Value, activation: str) -> _Value:
        return self._layer(node, Activation, x, activation=activation)

    def _clip(self, node: OnnxNode, x: _Value) -> _Value:
        low = self._constant(node, 1, node.attributes.get("min", -np.inf))
        high = self._constant(node, 2, node.attributes.get("max", np.inf))
        limits = np.asarray(low).item(), np.asarray(high).item()
        if limits == (0, 6):
            return self._activation(node, x, "relu6")
        if limits[0] == 0 and limits[1] > np.finfo(np.float32).max / 2:
            return self._activation(node, x, "relu")
        raise self._refuse(node, f"to {limits}")

    def _hard_sigmoid(self, node: OnnxNode, x: _Value) -> _Value:
        alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
        if not isclose(alpha, 1 / 6, rel_tol=1e-6) or beta != 0.5:
            raise self._refuse(node, f"with alpha {alpha:g}, beta {beta:g}")
        return self._activation(node, x, "hard_sigmoid")

    def _softmax(self, node: OnnxNode, x: _Value) -> _Value:
        axis = node.attributes.get("axis", -1)
        if x.axes[axis] != "C" and prod(self._shape(x)[:-1]) > 1:
            raise self._refuse(node, f"along axis {axis} of {x.axes}")
        return self._activation(node, x, "softmax")

    def _transpose(self, node: OnnxNode, x: _Value) -> _Value:
        order = node.attributes.get("perm", tuple(range(len(x.axes)))[::-1])
        axes = "".join(x.axes[axis] for axis in order)
        if axes[0] != "N":
            raise self._refuse(node, f"of the batch axis ({x.axes} to {axes})")
        return _Value(x.layer, axes)

    def _padding(self, node: OnnxNode) -> Padding:
        automatic = node.attributes.get("auto_pad", b"NOTSET")
        if automatic in (b"SAME_UPPER", b"VALID"):
            return "same" if automatic == b"SAME_UPPER" else "valid"
        if automatic != b"NOTSET":
            raise self._refuse(node, f"with auto_pad {automatic.decode()}")
        top, left, bottom, right = node.attributes.get("pads", (0, 0, 0, 0))
        return ((top, bottom), (left, right)) if any((top, left, bottom, right)) else "valid"

    def _stride(self, node: OnnxNode) -> int:
        strides = tuple(node.attributes.get("strides", (1, 1)))
        if strides[0] != strides[-1]:
            raise self._refuse(node, f"with strides {strides}")
        return int(strides[0])

    def _dilation(self, node: OnnxNode) -> int:
        dilations = tuple(node.attributes.get("dilations", (1, 1)))
        if dilations[0] != dilations[-1]:
            raise self._refuse(node, f"with dilations {dilations}")
        return int(dilations[0])

    def _conv(self, node: OnnxNode, x: _Value) -> _Value:
        self._channels_first(node, x)
        kernel, bias = self._constant(node, 1), self._constant(node, 2)  # (C_out, C_in / groups, K_h, K_w)
        channels, groups, name = self._shape(x)[-1], node.attributes.get("group", 1), node.outputs[0]
        fields = {
            "kernel_size": kernel.shape[2:],
            "stride": self._stride(node),
            "dilation": self._dilation(node),
            "padding": self._padding(node),
            "use_bias": bias is not None,
        }
        if bias is not None:
            self.params[f"{name}/bias"] = bias
        if groups != channels or groups == 1:
            self.params[f"{name}/kernel"] = kernel.transpose(2, 3, 1, 0)  # (K_h, K_w, C_in / groups, C_out)
            return self._layer(node, Conv2D, x, filters=kernel.shape[0], groups=groups, **fields)
        multiplier = kernel.shape[0] // channels
        depthwise = kernel.reshape(channels, multiplier, *kernel.shape[2:])
        self.params[f"{name}/kernel"] = depthwise.transpose(2, 3, 0, 1)  # (K_h, K_w, C, M)
        return self._layer(node, DepthwiseConv2D, x, depth_multiplier=multiplier, **fields)

    def _batch_norm(self, node: OnnxNode, x: _Value) -> _Value:
        if x.axes[1] != "C" or node.attributes.get("training_mode"):
            raise self._refuse(node, f"on axes {x.axes}, or in training mode")
        arrays = [self._constant(node, index) for index in range(1, 5)]
        return self._normalized(node, x, *arrays, epsilon=float(node.attributes.get("epsilon", 1e-5)))

    def _normalized(
        self, node: OnnxNode, x: _Value, gamma: Array, beta: Array, mean: Array, var: Array, *, epsilon: float
    ) -> _Value:
        for array, values in (("gamma", gamma), ("beta", beta), ("moving_mean", mean), ("moving_variance", var)):
            self.params[f"{node.outputs[0]}/{array}"] = values
        return self._layer(node, BatchNormalization, x, epsilon=epsilon)

    def _pad(self, node: OnnxNode, x: _Value) -> _Value:
        pads = self._constant(node, 1, node.attributes.get("pads"))
        value = float(np.max(self._constant(node, 2, node.attributes.get("value", 0.0))))
        mode = node.attributes.get("mode", b"constant")
        if mode != b"constant" or value or len(node.inputs) > 3 or len(x.axes) != 4:
            raise self._refuse(node, f"in mode {mode.decode()} with value {value:g} on axes {x.axes}")
        zeros = {axis: (int(pads[i]), int(pads[i + 4])) for i, axis in enumerate(x.axes)}
        if zeros["N"] != (0, 0) or zeros["C"] != (0, 0):
            raise self._refuse(node, f"of batch or channels ({zeros})")
        return self._layer(node, ZeroPadding2D, x, padding=(zeros["H"], zeros["W"]))

    def _window_pool(self, node: OnnxNode, x: _Value) -> _Value:
        self._channels_first(node, x)
        padding = self._padding(node)
        if node.op == "AveragePool" and padding != "valid" and node.attributes.get("count_include_pad"):
            raise self._refuse(node, "that counts padding")
        if node.attributes.get("ceil_mode"):
            raise self._refuse(node, "in ceil mode")
        if self._dilation(node) != 1:
            raise self._refuse(node, f"with dilations {node.attributes['dilations']}")
        kind = AveragePooling2D if node.op == "AveragePool" else MaxPooling2D
        size: Pair = tuple(node.attributes["kernel_shape"])
        return self._layer(node, kind, x, kernel_size=size, stride=self._stride(node), padding=padding)

    def _global_pool(self, node: OnnxNode, x: _Value) -> _Value:
        self._channels_first(node, x)
        return self._layer(node, GlobalAveragePooling2D, x, keepdims=True)

    def _reduce_mean(self, node: OnnxNode, x: _Value) -> _Value:
        axes = self._constant(node, 1, node.attributes.get("axes", ()))
        reduced, keepdims = {x.axes[int(axis)] for axis in axes}, bool(node.attributes.get("keepdims", 1))
        if reduced != {"H", "W"}:
            raise self._refuse(node, f"over {sorted(reduced)}")
        return self._layer(node, GlobalAveragePooling2D, x, x.axes if keepdims else VECTOR, keepdims=keepdims)

    def _dense(self, node: OnnxNode, x: _Value, kernel: Array, bias: Array | None) -> _Value:
        name = node.outputs[0]
        self.params[f"{name}/kernel"] = kernel
        if bias is not None:
            self.params[f"{name}/bias"] = np.broadcast_to(bias, kernel.shape[1:])
        return self._layer(node, Dense, x, units=kernel.shape[1], use_bias=bias is not None)

    def _gemm(self, node: OnnxNode, x: _Value) -> _Value:
        settings = {name: node.attributes.get(name, 1.0) for name in ("alpha", "beta")}
        if settings != {"alpha": 1, "beta": 1} or node.attributes.get("transA") or x.axes != VECTOR:
            raise self._refuse(node, f"with {settings}, transA, or on axes {x.axes}")
        kernel = self._constant(node, 1)
        return self._dense(node, x, kernel.T if node.attributes.get("transB") else kernel, self._constant(node, 2))

    def _matmul(self, node: OnnxNode, x: _Value) -> _Value:
        kernel = self._constant(node, 1)
        if node.inputs[0] in self.constants or kernel.ndim != 2 or x.axes[-1] != "C":
            raise self._refuse(node, f"of axes {x.axes} and {kernel.shape}")
        return self._dense(node, x, kernel, None)

    def _flatten(self, node: OnnxNode, x: _Value) -> _Value:
        if node.attributes.get("axis", 1) != 1:
            raise self._refuse(node, f"at axis {node.attributes['axis']}")
        return self._vector(node, x)

    def _vector(self, node: OnnxNode, x: _Value) -> _Value:
        """A map as a vector, in the order of the file."""
        if x.axes == VECTOR:
            return x
        if x.axes != CHANNELS_LAST and prod(self._shape(x)[:2]) > 1:
            raise self._refuse(node, f"of a map {self._shape(x)} with axes {x.axes}")
        return self._layer(node, Flatten, x, VECTOR)

    def _reshape(self, node: OnnxNode, x: _Value) -> _Value:
        """Reshape, Squeeze, Unsqueeze: between a vector and a map of one pixel, or no change."""
        before = self._file_shape(x)
        after = self._target(node, before)
        if after == before:
            return x
        if len(after) == 2:
            return self._vector(node, x)
        channels = self._shape(x)[-1]
        if prod(before) == channels and len(after) == 4 and after in ((1, channels, 1, 1), (1, 1, 1, channels)):
            axes = CHANNELS_FIRST if after[1] == channels else CHANNELS_LAST
            return _Value(x.layer, axes) if len(x.axes) == 4 else self._layer(
                node, Reshape, x, axes, target_shape=(1, 1, channels)
            )  # fmt: skip
        raise self._refuse(node, f"from {before} to {after}")

    def _target(self, node: OnnxNode, before: Shape) -> Shape:
        """Shape after the node, with a batch of one."""
        one = np.zeros(before, np.bool_)
        given = self._constant(node, 1, node.attributes.get("axes"))
        if node.op == "Squeeze":
            return np.squeeze(one, None if given is None else tuple(map(int, given))).shape
        if node.op == "Unsqueeze":
            return np.expand_dims(one, tuple(map(int, given))).shape
        sides = [before[i] if side == 0 else int(side) for i, side in enumerate(given)]
        return one.reshape([1, *sides[1:]]).shape  # whatever it says of the batch

    def _concat(self, node: OnnxNode, x: _Value) -> _Value:
        if any(name in self.constants for name in node.inputs):
            raise self._refuse(node, "with constants")
        values = [self.values[name] for name in node.inputs]
        axis = x.axes[node.attributes["axis"]]
        if {value.axes for value in values} != {x.axes} or axis == "N":
            raise self._refuse(node, f"along {axis} of {[value.axes for value in values]}")
        place = {"H": 1, "W": 2, "C": -1}[axis]
        name = self.builder.add(Concatenate, node.outputs[0], inputs=tuple(v.layer for v in values), axis=place)
        return _Value(name, x.axes)

    def _arithmetic(self, node: OnnxNode, x: _Value) -> _Value:
        constant = next((self.constants[name] for name in node.inputs if name in self.constants), None)
        if constant is not None:
            return self._affine(node, x, constant, constant_first=node.inputs[0] in self.constants)
        first, second = (self.values[name] for name in node.inputs)
        if node.op not in ("Add", "Mul") or first.axes != second.axes:
            raise self._refuse(node, f"of axes {first.axes} and {second.axes}")
        if prod(self._shape(first)) < prod(self._shape(second)):
            first, second = second, first
        kind = Add if node.op == "Add" else Multiply
        return _Value(self.builder.add(kind, node.outputs[0], inputs=(first.layer, second.layer)), x.axes)

    def _affine(self, node: OnnxNode, x: _Value, constant: Array, *, constant_first: bool) -> _Value:
        """Sum, difference, product or quotient with a constant, which is one number or one per channel."""
        if constant_first and node.op == "Div":
            raise self._refuse(node, "of a constant by a value")
        values = np.asarray(constant, np.float64)
        scales = {"Add": np.ones_like(values), "Sub": np.full_like(values, -1.0 if constant_first else 1.0)}
        with np.errstate(divide="ignore"):
            scale = scales[node.op] if node.op in scales else values if node.op == "Mul" else 1 / values
        offset = {"Add": values, "Sub": values if constant_first else -values}.get(node.op, np.zeros_like(values))
        if values.size == 1:
            return self._layer(node, Rescaling, x, scale=float(scale.item()), offset=float(offset.item()))
        channels = self._shape(x)[-1]
        aligned: Sequence[int] = (1,) * (len(x.axes) - values.ndim) + values.shape
        if len(aligned) != len(x.axes) or [side for side, axis in zip(aligned, x.axes, strict=True) if axis != "C"] != [
            1
        ] * (len(x.axes) - 1):
            raise self._refuse(node, f"with a constant {values.shape} on axes {x.axes}")
        zero, one = np.zeros(channels), np.ones(channels)
        return self._normalized(node, x, scale.ravel(), offset.ravel(), zero, one, epsilon=0.0)
