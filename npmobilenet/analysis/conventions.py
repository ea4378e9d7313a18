"""Conventions for counting a network's cost.

Tools that count "the" cost of a network count different things. Each convention in use has a name in `CONVENTIONS`, and
the same graph gives all of them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod

from npmobilenet.analysis.cost import cost_table
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import KernelLayer, Layer
from npmobilenet.reference.layers import Activation, BatchNormalization


@dataclass(frozen=True)
class Convention:
    """A convention for counting.

    Attributes:
        name: for `--convention`.
        unit: what is counted.
        counts: the terms of the sum, in one line.
        users: publications and tools that count like this.
        count: figure of a graph.
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
        Convention("macs_bias", "multiply-adds", "macs, and 1 per value with a bias",
                   "", lambda graph: graph.macs + _values(graph, _has_bias)),
        Convention("macs_bn", "multiply-adds", "macs, and 1 per normalized value",
                   "", lambda graph: graph.macs + _values(graph, _is_batch_norm)),
        Convention("macs_no_classifier", "multiply-adds", "macs without the last dense layer",
                   "V1 paper, tables 4 (full convolution) and 12", lambda graph: graph.macs - _macs(graph, -1)),
        Convention("macs_convolutions", "multiply-adds", "macs without any dense layer",
                   "V1 paper, table 8, VGG 16", lambda graph: cost_table(graph).convolution_macs),
        Convention("macs_no_stem", "multiply-adds", "macs without the first convolution",
                   "TF-Slim's page on V1, alpha 0.75", lambda graph: graph.macs - _macs(graph, 0)),
        Convention("flops", "operations", "2 per multiply-add: the multiplication and the addition",
                   "TF Object Detection; V2 paper, table 5, SSDLite", lambda graph: 2 * graph.macs),
        Convention("all_flops", "operations", "flops, and bias, normalization, activation, pooling, sums, products",
                   "", lambda graph: cost_table(graph).total.flops),
        Convention("timm", "multiply-adds", "macs, and 2 per normalized value",
                   "timm's benchmark tables (fvcore)", lambda graph: graph.macs + 2 * _values(graph, _is_batch_norm)),
        Convention("thop", "multiply-adds", "macs, and 4 per normalized value",
                   "thop, first versions", lambda graph: graph.macs + 4 * _values(graph, _is_batch_norm)),
        Convention("ptflops", "multiply-adds", "macs, 2 per normalized value, 1 per value through a ReLU",
                   "ptflops", lambda graph: graph.macs + 2 * _values(graph, _is_batch_norm) + _values(graph, _is_relu)),
        Convention("weights", "parameters", "kernels",
                   "V1, V2, V3 papers; TF-Slim's page on V2", lambda graph: cost_table(graph).total.weights),
        Convention("weights_bias", "parameters", "kernels and biases: what remains after batch norm folding",
                   "V3 paper, table 6", lambda graph: _params(graph, ("kernel", "bias"))),
        Convention("trainable", "parameters", "kernels, biases, gamma, beta",
                   "torchvision, timm; Keras's \"Trainable params\"", lambda graph: graph.trainable_params),
        Convention("slim_v1", "parameters", "kernels, biases, three of the four vectors of each normalization",
                   "TF-Slim's page on V1",
                   lambda graph: graph.trainable_params + _params(graph, ("moving_mean", "moving_variance")) // 2),
        Convention("keras_total", "parameters", "kernels, biases, gamma, beta, moving mean and variance",
                   "Keras's \"Total params\"", lambda graph: graph.total_params),
        Convention("non_trainable", "parameters", "moving mean and variance",
                   "Keras's \"Non-trainable params\"", lambda graph: graph.total_params - graph.trainable_params),
        Convention("keras_bytes", "bytes", "4 per parameter of keras_total",
                   "Keras's table of applications, \"Size\"", lambda graph: 4 * graph.total_params),
        Convention("keras_depth", "layers", "layers that have parameters",
                   "Keras's table of applications, \"Depth\"",
                   lambda graph: sum(bool(graph.param_shapes_of(layer)) for layer in graph.layers)),
        Convention("activations", "values", "outputs of convolutions and dense layers",
                   "timm's benchmark tables", lambda graph: _values(graph, _has_kernel)),
    )
}  # fmt: skip


def conventions_table(graph: Graph) -> tuple[tuple[str, int, str, str, str], ...]:
    """The graph counted by every convention: (name, figure, unit, counts, users), the default first."""
    return tuple(
        (name, convention.count(graph), convention.unit, convention.counts, convention.users)
        for name, convention in CONVENTIONS.items()
    )


def _values(graph: Graph, chosen: Callable[[Layer], bool]) -> int:
    return sum(prod(graph.shapes[layer.name]) for layer in graph.layers if chosen(layer))


def _params(graph: Graph, arrays: Iterable[str]) -> int:
    return sum(prod(shape) for name, shape in graph.param_shapes.items() if name.rsplit("/", 1)[1] in arrays)


def _macs(graph: Graph, position: int) -> int:
    """Multiply-adds of the layer at a position among those with a kernel."""
    return [graph.macs_of(layer) for layer in graph.layers if isinstance(layer, KernelLayer)][position]


def _has_kernel(layer: Layer) -> bool:
    return isinstance(layer, KernelLayer)


def _has_bias(layer: Layer) -> bool:
    return isinstance(layer, KernelLayer) and layer.use_bias


def _is_batch_norm(layer: Layer) -> bool:
    return isinstance(layer, BatchNormalization)


def _is_relu(layer: Layer) -> bool:
    return isinstance(layer, Activation) and layer.activation in ("relu", "relu6")
