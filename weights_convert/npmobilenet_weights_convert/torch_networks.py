"""MobileNets of torchvision and timm: from the arrays of a state dict to a graph with its parameters.

The tables of strides, kernels and activations are those of `architectures`; widths and classes come from the arrays.
What differs from Keras, and is followed, is `Convention`: padding, epsilon, and the images that the weights were
trained on. Layers have Keras's names, so that two ports of one network can be compared layer by layer.

Source: torchvision 0.29 (`torchvision.models.mobilenetv2`, `mobilenetv3`), timm 1.0 (`timm.models.efficientnet`,
`mobilenetv3`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, repeat

import numpy as np

from npmobilenet.architectures.builder import Builder
from npmobilenet.architectures.mobilenet_v1 import V1
from npmobilenet.architectures.mobilenet_v2 import V2
from npmobilenet.architectures.mobilenet_v3 import V3_LARGE, V3_SMALL, InvertedResidual
from npmobilenet.errors import WeightsError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Add, BatchNormalization, Conv2D, DepthwiseConv2D, Flatten, Multiply
from npmobilenet.reference.shapes import make_divisible
from npmobilenet.types import Array, Padding, Shape
from npmobilenet_weights_convert.recognize import ALPHAS, PUBLISHED_ALPHAS
from npmobilenet_weights_convert.torch_names import BlockNames, ConvNorm, NetworkNames, network_names

NOT_WEIGHTS = ".num_batches_tracked"


@dataclass(frozen=True)
class Convention:
    """What a package does otherwise than Keras.

    Attributes:
        same: pad as TensorFlow's SAME; else (K - 1) // 2 zeros on every side.
        epsilon: of every batch normalization.
    """

    same: bool
    epsilon: float


def recognize_torch(arrays: Mapping[str, Array]) -> NetworkNames:
    """The names of the MobileNet in a state dict.

    Raises:
        WeightsError: it is none of torchvision's or timm's.
    """
    names = network_names(arrays.keys())
    if names is None:
        shown = ", ".join(list(arrays)[:4])
        raise WeightsError(
            "expected the state dict of a MobileNet V1, V2 or V3 as torchvision (features.0.0.weight, ...) or timm "
            f"(conv_stem.weight, blocks.0.0.conv_dw.weight, ...) name it, got {shown}, ..."
        )
    return names


def is_minimal(names: NetworkNames) -> bool:
    """Whether a V3 has no squeeze-and-excitation, as only timm's tf_mobilenetv3_*_minimal_100 have not."""
    return names.hidden is not None and not any(block.squeeze for block in names.blocks)


def torch_network(
    names: NetworkNames, arrays: Mapping[str, Array], convention: Convention, size: tuple[int, int]
) -> tuple[Graph, dict[str, Array]]:
    """The network of a state dict: its graph and parameters.

    Args:
        names: of `recognize_torch`.
        arrays: the state dict, kernels as (out, in, H, W).
        convention: of the package.
        size: (H, W) of the input.

    Raises:
        WeightsError: the arrays do not fit the network; the message names them.
    """
    rows = tuple(_rows(names))
    if len(rows) != len(names.blocks):
        raise WeightsError(f"{names.world} {names.arch}: expected {len(rows)} blocks, got {len(names.blocks)}")
    net = _Network(names, arrays, convention, size)
    alpha = net.width_multiplier(rows)
    net.build(rows)
    net.check_left_over()
    graph = replace(net.builder.graph(), name=f"{names.world}_{names.arch}_{alpha:.2f}")
    return graph, {name: np.ascontiguousarray(net.params[name]) for name in graph.param_shapes}


def _rows(names: NetworkNames) -> Iterator[InvertedResidual]:
    """A row of the table for every block; V1's blocks are rows without expansion."""
    if names.arch == "mobilenetv1":
        yield from (InvertedResidual(3, 1, row.c_out, False, "relu6", row.stride) for row in V1)
    elif names.arch in ("mobilenet_v2", "mobilenetv2"):
        repeats = names.stages if names.stages and len(names.stages) == len(V2) else [row.repeat for row in V2]
        for row, count in zip(V2, repeats, strict=True):
            for stride in chain([row.stride], repeat(1, count - 1)):
                yield InvertedResidual(3, row.expand, row.c_out, False, "relu6", stride)
    else:
        table = V3_LARGE if names.arch.endswith("large") else V3_SMALL
        minimal = is_minimal(names)
        yield from (replace(row, K=3, se=False, act="relu") if minimal else row for row in table)


def checked_array(arrays: Mapping[str, Array], name: str, shape: Shape) -> Array:
    """An array of a state dict as float32.

    Raises:
        WeightsError: it is missing, of another shape, not finite, or a negative variance.
    """
    if name not in arrays:
        raise WeightsError(f"missing: {name}")
    if arrays[name].shape != shape:
        raise WeightsError(f"wrong shape: expected {name} {shape}, got {arrays[name].shape}")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(arrays[name], np.float32)
    if not np.isfinite(values).all():
        raise WeightsError(f"not finite: {name} has {np.count_nonzero(~np.isfinite(values))} NaN or infinite values")
    if name.endswith(".running_var") and (values < 0).any():
        raise WeightsError(f"negative: {name} has variances down to {values.min():g}")
    return values


class _Network:
    """The graph and the parameters while they are built."""

    def __init__(
        self, names: NetworkNames, arrays: Mapping[str, Array], convention: Convention, size: tuple[int, int]
    ) -> None:
        self.names = names
        self.arrays = arrays
        self.convention = convention
        self.params: dict[str, Array] = {}
        self.used: set[str] = set()
        self.act = "relu6"
        if names.hidden is not None:
            self.act = "relu" if is_minimal(names) else "hard_swish"
        channels = self._shape(f"{names.stem[0]}.weight", 4)[1]
        self.builder = Builder(names.arch, (*size, channels))

    def width_multiplier(self, rows: tuple[InvertedResidual, ...]) -> float:
        """The alpha under which every block has the channels of the paper's table.

        Raises:
            WeightsError: there is none, so that the network is another one with similar names.
        """
        widths = [self._shape(f"{block.project[0]}.weight", 4)[0] for block in self.names.blocks]
        for alpha in sorted(ALPHAS, key=lambda alpha: alpha not in PUBLISHED_ALPHAS and round(alpha * 100) % 10 > 0):
            if widths == [make_divisible(row.c_out * alpha) for row in rows]:
                return alpha
        raise WeightsError(
            f"{self.names.world} {self.names.arch}: the blocks have {', '.join(map(str, widths))} channels, which are "
            f"no multiple of the paper's {', '.join(str(row.c_out) for row in rows)}; this is another network with "
            "similar names"
        )

    def build(self, rows: tuple[InvertedResidual, ...]) -> None:
        """All layers."""
        net, names = self.builder, self.names
        stem, stem_bn, first, last, last_bn = {
            "mobilenetv1": ("conv1", "conv1_bn", "conv1_relu", "Conv_1", "Conv_1_bn"),
            "mobilenetv2": ("Conv1", "bn_Conv1", "Conv1_relu", "Conv_1", "Conv_1_bn"),
        }.get(names.arch.replace("_v2", "v2"), ("conv", "conv_bn", "", "conv_1", "conv_1_bn"))
        self._conv_norm(names.stem, stem, stem_bn, K=3, stride=2)
        net.activation(self.act, first)
        for number, (row, block) in enumerate(zip(rows, names.blocks, strict=True)):
            if names.arch == "mobilenetv1":
                self._separable(number + 1, row, block)
            else:
                self._inverted_residual(number, row, block)
        if names.last is not None:
            self._conv_norm(names.last, last, last_bn, K=1)
            net.activation(self.act)
        net.global_pool(keepdims=True)
        if names.hidden is not None:
            self._conv(names.hidden, "conv_2", K=1, bias=True)
            net.activation(self.act)
        if names.classifier is not None:
            self._conv(names.classifier, "logits", K=1, bias=True)
        net.add(Flatten, net.numbered("flatten"))
        if names.classifier is not None:
            outputs = net.shape[-1]
            net.activation("softmax" if outputs > 1 else "sigmoid", "predictions")

    def _separable(self, number: int, row: InvertedResidual, block: BlockNames) -> None:
        if block.expand or block.squeeze:
            raise WeightsError(f"{block.depthwise[0]}: expected a depthwise separable block of V1")
        self._depthwise_norm(block.depthwise, f"conv_dw_{number}", f"conv_dw_{number}_bn", row)
        self.builder.activation("relu6", f"conv_dw_{number}_relu")
        self._conv_norm(block.project, f"conv_pw_{number}", f"conv_pw_{number}_bn", K=1)
        self.builder.activation("relu6", f"conv_pw_{number}_relu")

    def _inverted_residual(self, number: int, row: InvertedResidual, block: BlockNames) -> None:
        net = self.builder
        entry, c_in = net.last, net.shape[2]
        is_v2 = self.names.hidden is None
        prefix = (f"block_{number}_" if is_v2 else f"expanded_conv_{number}_") if number else "expanded_conv_"
        bn = "_BN" if is_v2 else "_bn"
        if (block.expand is not None) != (number > 0) or (block.squeeze is not None) != row.se:
            raise WeightsError(
                f"{block.depthwise[0]}: expected a block {'with' if number else 'without'} expansion and "
                f"{'with' if row.se else 'without'} squeeze-and-excitation; this is another network with similar names"
            )
        if block.expand is not None:
            self._conv_norm(block.expand, f"{prefix}expand", f"{prefix}expand{bn}", K=1)
            net.activation(row.act, f"{prefix}expand_relu" if is_v2 else "")
        self._depthwise_norm(block.depthwise, f"{prefix}depthwise", f"{prefix}depthwise{bn}", row)
        net.activation(row.act, f"{prefix}depthwise_relu" if is_v2 else "")
        if block.squeeze is not None:
            self._squeeze_excite(block.squeeze, f"{prefix}squeeze_excite_")
        self._conv_norm(block.project, f"{prefix}project", f"{prefix}project{bn}", K=1)
        if row.stride == 1 and c_in == net.shape[2]:
            net.add(Add, f"{prefix}add", inputs=(entry, net.last))

    def _squeeze_excite(self, names: tuple[str, str], prefix: str) -> None:
        net, entry = self.builder, self.builder.last
        net.global_pool(keepdims=True, name=f"{prefix}avg_pool")
        self._conv(names[0], f"{prefix}conv", K=1, bias=True)
        net.activation("relu", f"{prefix}relu")
        self._conv(names[1], f"{prefix}conv_1", K=1, bias=True)
        net.activation("hard_sigmoid", f"{prefix}gate")
        net.add(Multiply, f"{prefix}mul", inputs=(entry, net.last))

    def _conv_norm(self, names: ConvNorm, conv: str, bn: str, K: int, stride: int = 1) -> None:
        self._conv(names[0], conv, K, stride)
        self._norm(names[1], bn)

    def _depthwise_norm(self, names: ConvNorm, conv: str, bn: str, row: InvertedResidual) -> None:
        padding, channels = self._padding(row.K, row.stride), self.builder.shape[2]
        kernel = self._take(f"{names[0]}.weight", (channels, 1, row.K, row.K))
        self.params[f"{conv}/kernel"] = kernel.transpose(2, 3, 0, 1)  # (K, K, C, 1)
        self.builder.add(
            DepthwiseConv2D, conv, kernel_size=(row.K, row.K), stride=row.stride, padding=padding, use_bias=False
        )
        self._norm(names[1], bn)

    def _conv(self, name: str, conv: str, K: int, stride: int = 1, *, bias: bool = False) -> None:
        """A convolution, or a fully connected layer of PyTorch on a map of 1 x 1 pixel."""
        weight = f"{name}.weight"
        linear = self.arrays[weight].ndim == 2 if weight in self.arrays else False
        shape = self._shape(weight, 2 if linear else 4)
        kernel = self._take(weight, (shape[0], self.builder.shape[2], *(() if linear else (K, K))))
        kernel = kernel.reshape(*kernel.shape[:2], K, K)
        self.params[f"{conv}/kernel"] = kernel.transpose(2, 3, 1, 0)  # (K, K, C_in, C_out)
        if bias:
            self.params[f"{conv}/bias"] = self._take(f"{name}.bias", shape[:1])
        self.builder.add(
            Conv2D, conv, filters=shape[0], kernel_size=(K, K), stride=stride, padding=self._padding(K, stride),
            use_bias=bias,
        )  # fmt: skip

    def _norm(self, name: str, bn: str) -> None:
        parts = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
        for keras, torch in parts.items():
            self.params[f"{bn}/{keras}"] = self._take(f"{name}.{torch}", self.builder.shape[2:])
        self.builder.add(BatchNormalization, bn, epsilon=self.convention.epsilon)

    def _padding(self, K: int, stride: int) -> Padding:
        if self.convention.same or stride == 1:
            return "same"
        side = (K - 1) // 2
        return (side, side), (side, side)

    def _shape(self, name: str, rank: int) -> Shape:
        if name not in self.arrays:
            raise WeightsError(f"{self.names.world} {self.names.arch}: missing: {name}")
        if self.arrays[name].ndim != rank:
            raise WeightsError(f"wrong shape: expected {name} with {rank} axes, got {self.arrays[name].shape}")
        return self.arrays[name].shape

    def _take(self, name: str, shape: Shape) -> Array:
        """An array of the state dict, as float32."""
        if self._shape(name, len(shape)) != shape:
            raise WeightsError(f"wrong shape: expected {name} {shape}, got {self.arrays[name].shape}")
        self.used.add(name)
        return checked_array(self.arrays, name, shape)

    def check_left_over(self) -> None:
        """Raise WeightsError if an array of the file has no place in the network."""
        rest = [name for name in self.arrays if name not in self.used and not name.endswith(NOT_WEIGHTS)]
        if rest:
            raise WeightsError(
                f"{len(rest)} arrays have no place in {self.names.world} {self.names.arch}:\n  "
                + "\n  ".join(rest[:10])
            )
