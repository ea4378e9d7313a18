"""What a network costs, read off its graph: parameters, multiply-adds, FLOPs, activations, bytes.

A K x K convolution over a map of H_out x W_out pixels takes

    standard     H_out * W_out * K*K * c_in * c_out      multiply-adds
    depthwise    H_out * W_out * K*K * c_in
    pointwise    H_out * W_out *       c_in * c_out

so that the separable pair costs (K*K*c_in + c_in*c_out) / (K*K*c_in*c_out) = 1/c_out + 1/K**2 of the standard one
(Howard et al. 2017, arXiv:1704.04861, section 3.1, where it is written 1/N + 1/D_K**2).

Tools that count "the" cost of a network count different things. Each way of counting that is in use has a name in
`CONVENTIONS`, and the same graph gives all of them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from npmobilenet.reference.graph import (
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
    Graph,
    Input,
    Layer,
    MaxPooling2D,
    Multiply,
    Rescaling,
    Reshape,
)
from npmobilenet.types import Shape

KERNEL_LAYERS = (Conv2D, DepthwiseConv2D, Dense)
VIEWS = (Input, Reshape, Flatten, Dropout)  # hand their input on without moving a byte

FLOPS_A_VALUE = {  # one comparison, exponential or division counts as one operation
    "linear": 0,
    "relu": 1,  # max
    "relu6": 2,  # max, min
    "sigmoid": 4,  # negate, exp, add, divide
    "hard_sigmoid": 4,  # add, max, min, divide
    "hard_swish": 5,  # those, and multiply
    "softmax": 5,  # find the maximum, subtract, exp, add up, divide
}


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs for one image.

    Attributes:
        name, type: as in the graph.
        kind: the group of the paper's table 2, such as "Conv 1x1" or "Conv DW 3x3".
        output_shape: without the batch axis.
        weights: values in its kernel.
        params: all its values: kernel, bias, the four vectors of batch normalisation.
        trainable_params: `params` without moving statistics.
        macs: multiply-adds of the kernel.
        flops: floating-point operations: 2 a multiply-add, and the bias, the normalisation, the activation, pooling,
            sums and products value by value.
        activations: values that it writes.
        bytes_read: its inputs and parameters, each once.
        bytes_written: its output.
    """

    name: str
    type: str
    kind: str
    output_shape: Shape
    weights: int
    params: int
    trainable_params: int
    macs: int
    flops: int
    activations: int
    bytes_read: int
    bytes_written: int

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: FLOPs for each byte that is read or written."""
        return self.flops / max(self.bytes_read + self.bytes_written, 1)


@dataclass(frozen=True)
class Share:
    """The part of one kind of layer in the whole, as in the V1 paper's table 2; shares are in per cent."""

    kind: str
    macs: int
    macs_share: float
    weights: int
    weights_share: float


@dataclass(frozen=True)
class CostTable:
    """The cost of every layer of a network, and of all of them together.

    Attributes:
        model: name of the network.
        itemsize: bytes of one value, 4 for float32.
        rows: one a layer, in the order of the graph.
    """

    model: str
    itemsize: int
    rows: tuple[LayerCost, ...]

    @cached_property
    def total(self) -> LayerCost:
        """The sum of all layers, as one row called "total"."""
        counted = (
            "weights",
            "params",
            "trainable_params",
            "macs",
            "flops",
            "activations",
            "bytes_read",
            "bytes_written",
        )
        sums = {field: sum(getattr(row, field) for row in self.rows) for field in counted}
        return LayerCost(name="total", type="", kind="", output_shape=self.rows[-1].output_shape, **sums)

    @property
    def convolution_macs(self) -> int:
        """Multiply-adds of everything but dense layers."""
        return sum(row.macs for row in self.rows if row.kind != "Fully connected")

    def shares(self) -> tuple[Share, ...]:
        """Multiply-adds and weights by kind of layer, the largest first (Howard et al. 2017, table 2)."""
        kinds = dict.fromkeys(row.kind for row in self.rows if row.weights)
        shares = []
        for kind in kinds:
            macs = sum(row.macs for row in self.rows if row.kind == kind)
            weights = sum(row.weights for row in self.rows if row.kind == kind)
            macs_share, weights_share = 100 * macs / self.total.macs, 100 * weights / self.total.weights
            shares.append(Share(kind, macs, macs_share, weights, weights_share))
        return tuple(sorted(shares, key=lambda share: -share.macs))


def cost_table(graph: Graph, *, itemsize: int = 4) -> CostTable:
    """Count every layer of a graph, for one image.

    Args:
        graph: the network.
        itemsize: bytes of one value: 4 for float32, 2 for float16, 1 for int8.

    Returns:
        Its rows add up to `graph.macs`, `graph.total_params` and `graph.trainable_params`.
    """
    return CostTable(graph.name, itemsize, tuple(_layer_cost(graph, layer, itemsize) for layer in graph.layers))


def kind_of(layer: Layer, *inputs: Shape) -> str:
    """The group of a layer in the V1 paper's table 2: what it is, and the size of its kernel.

    A convolution over a map of 1 x 1 pixel is the fully connected layer that it computes: the classifier of V1 and V3
    in Keras, and both layers of squeeze-and-excite.

    Args:
        layer: any layer.
        inputs: shapes of what it reads.
    """
    if isinstance(layer, Dense) or (isinstance(layer, Conv2D) and inputs[0][:2] == (1, 1)):
        return "Fully connected"
    if isinstance(layer, Conv2D | DepthwiseConv2D):
        K_h, K_w = layer.kernel_size
        return f"Conv {'DW ' if isinstance(layer, DepthwiseConv2D) else ''}{K_h}x{K_w}"
    return layer.type


def to_json(table: CostTable, *, model: str | None = None) -> dict[str, Any]:
    """The table as the JSON document of `npmobilenet cost --json`.

    Args:
        table: from `cost_table`.
        model: what the user called the network; by default the name of the graph.

    Returns:
        {"model", "macs", "params", "trainable_params", ..., "layers": [{"name", "type", "output_shape", "params",
        "macs", ...}, ...], "shares": [...]} of plain values.
    """
    totals = {key: value for key, value in _row_to_json(table.total).items() if key not in ("name", "type", "kind")}
    return {
        "model": model if model is not None else table.model,
        **totals,
        "itemsize": table.itemsize,
        "layers": [_row_to_json(row) for row in table.rows],
        "shares": [asdict(share) for share in table.shares()],
    }


@dataclass(frozen=True)
class Convention:
    """One way of counting.

    Attributes:
        name: what `--convention` calls it.
        unit: what is counted.
        counts: what it adds up, in one line.
        users: who publishes figures counted so.
        count: the graph's figure.
    """

    name: str
    unit: str
    counts: str
    users: str
    count: Callable[[Graph], int]


DEFAULT_CONVENTION = "macs"

CONVENTIONS: Mapping[str, Convention] = {
    convention.name: convention
    for convention in (
        Convention("macs", "multiply-adds", "kernels of convolutions and dense layers, padding included",
                   "V1, V2, V3 papers; TF-Slim; torchvision, which calls them GFLOPS", lambda graph: graph.macs),
        Convention("macs_bias", "multiply-adds", "macs, and 1 for each value that gets a bias",
                   "", lambda graph: graph.macs + _values(graph, _has_bias)),
        Convention("macs_bn", "multiply-adds", "macs, and 1 for each value that is normalised",
                   "", lambda graph: graph.macs + _values(graph, _is_batch_norm)),
        Convention("macs_no_classifier", "multiply-adds", "macs without the last dense layer",
                   "V1 paper, tables 4 (full convolution) and 12", lambda graph: graph.macs - _macs(graph, -1)),
        Convention("macs_convolutions", "multiply-adds", "macs without any dense layer",
                   "V1 paper, table 8, VGG 16", lambda graph: cost_table(graph).convolution_macs),
        Convention("macs_no_stem", "multiply-adds", "macs without the first convolution",
                   "TF-Slim's page on V1, alpha 0.75", lambda graph: graph.macs - _macs(graph, 0)),
        Convention("flops", "operations", "2 for each of macs: the multiplication and the addition",
                   "TF Object Detection; V2 paper, table 5, SSDLite", lambda graph: 2 * graph.macs),
        Convention("all_flops", "operations", "flops, and bias, normalisation, activation, pooling, sums, products",
                   "", lambda graph: cost_table(graph).total.flops),
        Convention("timm", "multiply-adds", "macs, and 2 for each value that is normalised",
                   "timm's benchmark tables (fvcore)", lambda graph: graph.macs + 2 * _values(graph, _is_batch_norm)),
        Convention("thop", "multiply-adds", "macs, and 4 for each value that is normalised",
                   "thop, first versions", lambda graph: graph.macs + 4 * _values(graph, _is_batch_norm)),
        Convention("ptflops", "multiply-adds", "macs, 2 for each value normalised, 1 for each value through a ReLU",
                   "ptflops", lambda graph: graph.macs + 2 * _values(graph, _is_batch_norm) + _values(graph, _is_relu)),
        Convention("weights", "parameters", "kernels",
                   "V1, V2, V3 papers; TF-Slim's page on V2", lambda graph: cost_table(graph).total.weights),
        Convention("weights_bias", "parameters", "kernels and biases: what is left once normalisation is folded",
                   "V3 paper, table 6", lambda graph: _params(graph, ("kernel", "bias"))),
        Convention("trainable", "parameters", "kernels, biases, gamma, beta",
                   "torchvision, timm; Keras's \"Trainable params\"", lambda graph: graph.trainable_params),
        Convention("slim_v1", "parameters", "kernels, biases, three of the four vectors of each normalisation",
                   "TF-Slim's page on V1",
                   lambda graph: graph.trainable_params + _params(graph, ("moving_mean", "moving_variance")) // 2),
        Convention("keras_total", "parameters", "kernels, biases, gamma, beta, moving mean and variance",
                   "Keras's \"Total params\"", lambda graph: graph.total_params),
        Convention("non_trainable", "parameters", "moving mean and variance",
                   "Keras's \"Non-trainable params\"", lambda graph: graph.total_params - graph.trainable_params),
        Convention("keras_bytes", "bytes", "4 for each of keras_total",
                   "Keras's table of applications, \"Size\"", lambda graph: 4 * graph.total_params),
        Convention("keras_depth", "layers", "layers that have parameters",
                   "Keras's table of applications, \"Depth\"",
                   lambda graph: sum(bool(graph.param_shapes_of(layer)) for layer in graph.layers)),
        Convention("activations", "values", "outputs of convolutions and dense layers",
                   "timm's benchmark tables", lambda graph: _values(graph, _has_kernel)),
    )
}  # fmt: skip


def conventions_table(graph: Graph) -> tuple[tuple[str, int, str, str, str], ...]:
    """The graph counted by every convention: (name, figure, unit, what is counted, who uses it), the default first."""
    return tuple(
        (name, convention.count(graph), convention.unit, convention.counts, convention.users)
        for name, convention in CONVENTIONS.items()
    )


@dataclass(frozen=True)
class SeparableCost:
    """A standard convolution beside the depthwise separable one that takes its place, in multiply-adds and weights.

    Attributes:
        H, W: the input map, in pixels.
        c_in, c_out, K, stride: of the convolution; padding is SAME.
    """

    H: int
    W: int
    c_in: int
    c_out: int
    K: int = 3
    stride: int = 1

    @cached_property
    def layers(self) -> dict[str, tuple[Layer, Shape]]:
        """The three convolutions, each with the shape of its input."""
        K, x = (self.K, self.K), (self.H, self.W, self.c_in)
        standard = Conv2D(
            name="standard", filters=self.c_out, kernel_size=K, stride=self.stride, padding="same", use_bias=False
        )
        depthwise = DepthwiseConv2D(name="depthwise", kernel_size=K, stride=self.stride, padding="same", use_bias=False)
        pointwise = Conv2D(name="pointwise", filters=self.c_out, kernel_size=(1, 1), use_bias=False)
        return {
            "standard": (standard, x),
            "depthwise": (depthwise, x),
            "pointwise": (pointwise, depthwise.output_shape(x)),
        }

    @property
    def weights(self) -> dict[str, int]:
        """Weights of the standard, the depthwise and the pointwise kernel, and of the separable pair."""
        return self._each(lambda layer, x: prod(layer.param_shapes(x)["kernel"]))

    @property
    def macs(self) -> dict[str, int]:
        """The same in multiply-adds for one image: every weight meets every output pixel of its channel once."""
        return self._each(lambda layer, x: layer.macs(x))

    def multiplications(self) -> dict[str, int]:
        """The same as `macs`, found by computing the layers on numbers that count their own multiplications."""
        return self._each(count_multiplications)

    @property
    def ratio(self) -> Fraction:
        """Separable to standard, from the counts."""
        return Fraction(self.macs["separable"], self.macs["standard"])

    @property
    def formula(self) -> Fraction:
        """Separable to standard by the paper: 1/c_out + 1/K**2."""
        return Fraction(1, self.c_out) + Fraction(1, self.K**2)

    def _each(self, count: Callable[[Layer, Shape], int]) -> dict[str, int]:
        counts = {name: count(layer, x) for name, (layer, x) in self.layers.items()}
        return counts | {"separable": counts["depthwise"] + counts["pointwise"]}


def count_multiplications(layer: Layer, *inputs: Shape) -> int:
    """Run a layer on numbers that count, and say how many multiplications it did for one image.

    Products with the zeros of the padding are counted too, as `Layer.macs` does.

    Args:
        layer: a layer of `graph`.
        inputs: shapes of what it reads, without the batch axis.
    """
    tally = _Tally()
    params = {name: tally.array(shape) for name, shape in layer.param_shapes(*inputs).items()}
    layer.apply(params, *(tally.array((1, *shape)) for shape in inputs))
    return tally.multiplications


class _Tally:
    """Counts the multiplications of the numbers that it hands out."""

    def __init__(self) -> None:
        self.multiplications = 0

    def array(self, shape: Shape) -> Any:
        ones = np.empty(prod(shape), object)
        ones[:] = [_Counting(self) for _ in ones]
        return ones.reshape(shape)


class _Counting:
    """A number whose value does not matter: it stays itself under + and *, and each * is tallied."""

    __slots__ = ("tally",)

    def __init__(self, tally: _Tally) -> None:
        self.tally = tally

    def __mul__(self, other: object) -> "_Counting":
        self.tally.multiplications += 1
        return self

    def __add__(self, other: object) -> "_Counting":
        return self

    __rmul__ = __mul__
    __radd__ = __add__


def _layer_cost(graph: Graph, layer: Layer, itemsize: int) -> LayerCost:
    inputs, output = graph.input_shapes(layer), graph.shapes[layer.name]
    params = {name: prod(shape) for name, shape in graph.param_shapes_of(layer).items()}
    trainable = sum(size for name, size in params.items() if name not in layer.non_trainable)
    moves = not isinstance(layer, VIEWS)
    return LayerCost(
        name=layer.name,
        type=layer.type,
        kind=kind_of(layer, *inputs),
        output_shape=output,
        weights=params.get("kernel", 0),
        params=sum(params.values()),
        trainable_params=trainable,
        macs=graph.macs_of(layer),
        flops=_flops(layer, graph.macs_of(layer), inputs, output),
        activations=prod(output),
        bytes_read=moves * itemsize * (sum(map(prod, inputs)) + sum(params.values())),
        bytes_written=moves * itemsize * prod(output),
    )


def _flops(layer: Layer, macs: int, inputs: tuple[Shape, ...], output: Shape) -> int:
    values = prod(output)
    if isinstance(layer, KERNEL_LAYERS):
        return 2 * macs + values * (layer.use_bias + FLOPS_A_VALUE[layer.activation])
    if isinstance(layer, Activation):
        return values * FLOPS_A_VALUE[layer.activation]
    if isinstance(layer, BatchNormalization | Rescaling):
        return 2 * values  # once its four vectors are made one factor and one term
    if isinstance(layer, Add | Multiply):
        return values * (len(inputs) - 1)
    if isinstance(layer, GlobalAveragePooling2D):
        return prod(inputs[0])  # H*W - 1 additions and 1 division, or comparisons, for each channel
    if isinstance(layer, AveragePooling2D | MaxPooling2D):
        return values * prod(layer.kernel_size)
    return 0


def _row_to_json(row: LayerCost) -> dict[str, Any]:
    return asdict(row) | {"output_shape": list(row.output_shape), "intensity": row.intensity}


def _values(graph: Graph, chosen: Callable[[Layer], bool]) -> int:
    return sum(prod(graph.shapes[layer.name]) for layer in graph.layers if chosen(layer))


def _params(graph: Graph, arrays: Iterable[str]) -> int:
    return sum(prod(shape) for name, shape in graph.param_shapes.items() if name.rsplit("/", 1)[1] in arrays)


def _macs(graph: Graph, position: int) -> int:
    """Multiply-adds of the layer at a position among those that have any."""
    return [graph.macs_of(layer) for layer in graph.layers if isinstance(layer, KERNEL_LAYERS)][position]


def _has_kernel(layer: Layer) -> bool:
    return isinstance(layer, KERNEL_LAYERS)


def _has_bias(layer: Layer) -> bool:
    return isinstance(layer, KERNEL_LAYERS) and layer.use_bias


def _is_batch_norm(layer: Layer) -> bool:
    return isinstance(layer, BatchNormalization)


def _is_relu(layer: Layer) -> bool:
    return isinstance(layer, Activation) and layer.activation in ("relu", "relu6")
