"""Random parameters and images for a network of any depth."""

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.bench import random_weights
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Rescaling
from npmobilenet.types import Array


def random_params(graph: Graph, seed: int, dtype: DTypeLike = np.float32) -> dict[str, Array]:
    """Arrays by `layer/array`, with the statistics of two random images."""
    return random_weights.random_params(graph, seed, random_images(graph, seed, N=2, dtype=dtype), dtype)


def random_images(graph: Graph, seed: int, N: int = 1, dtype: DTypeLike = np.float32) -> Array:
    """(N, H, W, C): pixels in 0..255 if the network rescales them, otherwise in [-1, 1]; smooth, as photos are."""
    rng = np.random.default_rng([seed, 1])
    H, W, C = graph.input_shape
    x = rng.uniform(-1, 1, (N, H, W, C)).cumsum(axis=1).cumsum(axis=2)
    x = x / np.abs(x).max() + 0.2 * rng.uniform(-1, 1, x.shape)
    x = np.clip(x, -1, 1)
    rescales = any(isinstance(layer, Rescaling) and layer.inputs == (graph.layers[0].name,) for layer in graph.layers)
    return np.ascontiguousarray((x + 1) * 127.5 if rescales else x, dtype)
