"""Float64 results, and how far rounding may take a rung from them.

layer by layer   the layers' own bounds, each carried through the next (`Layer.error_bound`)
folded           those of the convolutions with the batch normalization folded in, twice: the weights are rounded
                 once more, and n + 1 roundings are at most 2 n
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from npmobilenet.compiler.ir import Conv, Weighted, Window
from npmobilenet.compiler.passes import fuse
from npmobilenet.ladder.separable_block import Work
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Conv2D, DepthwiseConv2D
from npmobilenet.types import Array, Params

FOLDED_FACTOR = 2


@dataclass(frozen=True, eq=False)
class Truth:
    """The exact output of some layers for one input, and its bounds.

    Attributes:
        work: the layers.
        x: (1, H, W, C).
    """

    work: Work
    x: Array

    @cached_property
    def y(self) -> Array:
        """The output in float64, (1, H_out, W_out, c_out)."""
        y = self.work.graph.output(self._params, self.x.astype(np.float64))
        assert isinstance(y, np.ndarray)
        return y

    @cached_property
    def bound(self) -> Array:
        """Bound for float32, layer by layer."""
        return _carried(self.work.graph, self._params, self.x)

    @cached_property
    def folded_bound(self) -> Array:
        """Bound for float32 with folded weights."""
        layers: list[Layer] = [self.work.graph.layers[0]]
        params: dict[str, Array] = {}
        for op in fuse(self.work.graph, self._params):
            if isinstance(op, Weighted):
                layer, kernel = _folded_layer(op, layers[-1].name)
                layers.append(layer)
                params |= {f"{op.name}/kernel": kernel, f"{op.name}/bias": op.bias}
        return FOLDED_FACTOR * _carried(Graph("folded", tuple(layers)), params, self.x)

    @property
    def _params(self) -> dict[str, Array]:
        return {name: array.astype(np.float64) for name, array in self.work.params.items()}


def _folded_layer(op: Weighted, source: str) -> tuple[Layer, Array]:
    """A convolution with everything folded in as one layer, and its kernel."""
    assert isinstance(op, Window)
    common: dict[str, Any] = {
        "name": op.name, "inputs": (source,), "kernel_size": op.kernel.shape[:2], "stride": op.stride,
        "padding": op.padding, "activation": op.activation,
    }  # fmt: skip
    if isinstance(op, Conv):
        return Conv2D(filters=op.shape[-1], **common), op.kernel
    return DepthwiseConv2D(**common), op.kernel[..., None]


def _carried(graph: Graph, params: Params, x: Array) -> Array:
    """Bound on the error of the output of a chain of layers, in float32, from an exact input."""
    y, error = x.astype(np.float64), np.zeros(x.shape)
    for layer in graph.layers[1:]:
        arrays = graph.arrays_of(layer, params)
        error = layer.error_bound(arrays, y, input_bounds=[error])
        y = layer.apply(arrays, y)
    return error
