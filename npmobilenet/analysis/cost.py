"""Costs of a network, from its graph: parameters, multiply-adds, FLOPs, activations, bytes.

A K x K convolution over a map of H_out x W_out pixels takes

    standard     H_out * W_out * K*K * c_in * c_out      multiply-adds
    depthwise    H_out * W_out * K*K * c_in
    pointwise    H_out * W_out *       c_in * c_out

so that the separable pair costs (K*K*c_in + c_in*c_out) / (K*K*c_in*c_out) = 1/c_out + 1/K**2 of the standard one
(Howard et al. 2017, arXiv:1704.04861, section 3.1, where it is written 1/N + 1/D_K**2).

Tools that count "the" cost of a network count different things: see `conventions`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from math import prod
from typing import Any
from warnings import warn

from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.types import Shape


@dataclass(frozen=True)
class LayerCost:
    """Cost of one layer per image.

    Attributes:
        name, type: as in the graph.
        kind: its group in the V1 paper's table 2, such as "Conv 1x1" or "Conv DW 3x3".
        output_shape: without the batch axis.
        weights: number of values in its kernel.
        param_count: number of all its values: kernel, bias, the four vectors of batch normalization.
        trainable_params: the same without moving statistics.
        macs: multiply-adds of the kernel.
        flops: floating-point operations: 2 per multiply-add, and bias, normalization, activation, pooling, sums and
            products value by value.
        activations: number of values that it writes.
        bytes_read: its inputs and parameters, each once.
        bytes_written: its output.
    """

    name: str
    type: str
    kind: str
    output_shape: Shape
    weights: int
    param_count: int
    trainable_params: int
    macs: int
    flops: int
    activations: int
    bytes_read: int
    bytes_written: int

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: FLOPs per byte read or written."""
        return self.flops / max(self.bytes_read + self.bytes_written, 1)

    @property
    def params(self) -> int:
        """Former name of `param_count`."""
        warn("LayerCost.params is now LayerCost.param_count", DeprecationWarning, stacklevel=2)
        return self.param_count


@dataclass(frozen=True)
class Share:
    """Share of one kind of layer in the total, in percent, as in the V1 paper's table 2."""

    kind: str
    macs: int
    macs_share: float
    weights: int
    weights_share: float


@dataclass(frozen=True)
class CostTable:
    """Costs of all layers of a network, and their total.

    Attributes:
        model: name of the network.
        itemsize: bytes per value, 4 for float32.
        rows: one per layer, in the order of the graph.
        outputs: shape of every output by its name, without the batch axis.
    """

    model: str
    itemsize: int
    rows: tuple[LayerCost, ...]
    outputs: Mapping[str, Shape]

    @cached_property
    def total(self) -> LayerCost:
        """Sum over all layers, as a row with the name "total"; of several outputs it has the last one's shape."""
        counted = (
            "weights",
            "param_count",
            "trainable_params",
            "macs",
            "flops",
            "activations",
            "bytes_read",
            "bytes_written",
        )
        sums = {field: sum(getattr(row, field) for row in self.rows) for field in counted}
        return LayerCost(name="total", type="", kind="", output_shape=[*self.outputs.values()][-1], **sums)

    @property
    def convolution_macs(self) -> int:
        """Multiply-adds without fully connected layers."""
        return sum(row.macs for row in self.rows if row.kind != "Fully connected")

    def shares(self) -> tuple[Share, ...]:
        """Multiply-adds and weights by kind of layer, largest first (Howard et al. 2017, table 2)."""
        kinds = dict.fromkeys(row.kind for row in self.rows if row.weights)
        shares = []
        for kind in kinds:
            macs = sum(row.macs for row in self.rows if row.kind == kind)
            weights = sum(row.weights for row in self.rows if row.kind == kind)
            macs_share, weights_share = 100 * macs / self.total.macs, 100 * weights / self.total.weights
            shares.append(Share(kind, macs, macs_share, weights, weights_share))
        return tuple(sorted(shares, key=lambda share: -share.macs))


def cost_table(graph: Graph, *, itemsize: int = 4) -> CostTable:
    """Costs of every layer of a graph, per image.

    Args:
        graph: the network.
        itemsize: bytes per value: 4 for float32, 2 for float16, 1 for int8.

    Returns:
        Its rows add up to `graph.macs`, `graph.total_params` and `graph.trainable_params`.
    """
    rows = tuple(_layer_cost(graph, layer, itemsize) for layer in graph.layers)
    return CostTable(graph.name, itemsize, rows, graph.output_shapes)


def to_json(table: CostTable, *, model: str | None = None) -> dict[str, Any]:
    """JSON document of `npmobilenet cost --json`.

    Args:
        table: from `cost_table`.
        model: name of the network; by default that of the graph.

    Returns:
        {"model", "macs", "params", "trainable_params", ..., "outputs": {name: shape}, "layers": [{"name", "type",
        "output_shape", "params", "macs", ...}, ...], "shares": [...]} of plain values.
    """
    totals = {key: value for key, value in _row_to_json(table.total).items() if key not in ("name", "type", "kind")}
    return {
        "model": model if model is not None else table.model,
        **totals,
        "itemsize": table.itemsize,
        "outputs": {name: list(shape) for name, shape in table.outputs.items()},
        "layers": [_row_to_json(row) for row in table.rows],
        "shares": [asdict(share) for share in table.shares()],
    }


def _layer_cost(graph: Graph, layer: Layer, itemsize: int) -> LayerCost:
    inputs, output = graph.input_shapes(layer), graph.shapes[layer.name]
    params = {name: prod(shape) for name, shape in graph.param_shapes_of(layer).items()}
    trainable = sum(size for name, size in params.items() if name not in layer.non_trainable)
    moves = not layer.is_view
    return LayerCost(
        name=layer.name,
        type=layer.type,
        kind=layer.kind(*inputs),
        output_shape=output,
        weights=params.get("kernel", 0),
        param_count=sum(params.values()),
        trainable_params=trainable,
        macs=graph.macs_of(layer),
        flops=layer.flops(*inputs),
        activations=prod(output),
        bytes_read=moves * itemsize * (sum(map(prod, inputs)) + sum(params.values())),
        bytes_written=moves * itemsize * prod(output),
    )


def _row_to_json(row: LayerCost) -> dict[str, Any]:
    values = {"params" if field == "param_count" else field: value for field, value in asdict(row).items()}
    return values | {"output_shape": list(row.output_shape), "intensity": row.intensity}
