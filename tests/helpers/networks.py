"""Random parameters under which no activation vanishes or explodes, whatever the depth."""

from math import prod

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import BatchNormalization, DepthwiseConv2D
from npmobilenet.types import Array


def random_params(graph: Graph, seed: int, dtype: DTypeLike = np.float32) -> dict[str, Array]:
    """Arrays by `layer/array`: kernels of unit gain, moving statistics near those of a random batch.

    With unrelated statistics the activations would vanish or explode within some layers; gammas up to 3 reach the
    limit of ReLU6.
    """
    rng = np.random.default_rng(seed)
    params = {}
    for layer in graph.layers:
        for array, shape in graph.param_shapes_of(layer).items():
            if array == "kernel":
                fan_in = prod(shape[:2]) if isinstance(layer, DepthwiseConv2D) else prod(shape[:-1])
                values = rng.normal(0, fan_in**-0.5, shape)
            elif array == "gamma":
                values = rng.uniform(0.5, 3, shape)
            else:
                values = rng.normal(0, 0.5, shape)
            params[f"{layer.name}/{array}"] = values.astype(dtype)
    readers = {layer.inputs[0]: layer.name for layer in graph.layers if isinstance(layer, BatchNormalization)}
    for name, y in graph.run(params, random_images(graph, seed, N=2, dtype=dtype)):
        if name in readers:
            C = y.shape[-1:]
            rows = y.reshape(-1, *C).astype(np.float64)
            mean = rows.mean(0) + rows.std(0) * rng.normal(0, 0.3, C)
            params[f"{readers[name]}/moving_mean"] = mean.astype(dtype)
            params[f"{readers[name]}/moving_variance"] = (rows.var(0) * rng.uniform(0.5, 2, C) + 1e-4).astype(dtype)
    return params


def random_images(graph: Graph, seed: int, N: int = 1, dtype: DTypeLike = np.float32) -> Array:
    """(N, H, W, C): pixels in 0..255 if the network rescales inside, else in [-1, 1]; smooth, as photographs are."""
    rng = np.random.default_rng([seed, 1])
    H, W, C = graph.input_shape
    x = rng.uniform(-1, 1, (N, H, W, C)).cumsum(axis=1).cumsum(axis=2)
    x = x / np.abs(x).max() + 0.2 * rng.uniform(-1, 1, x.shape)
    x = np.clip(x, -1, 1)
    rescales = any(layer.type == "Rescaling" and layer.inputs == (graph.layers[0].name,) for layer in graph.layers)
    return np.ascontiguousarray((x + 1) * 127.5 if rescales else x, dtype)
