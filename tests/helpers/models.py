"""A small model with random weights, and pixels for it."""

from typing import Any

import numpy as np

from npmobilenet.architectures import mobilenet_v1
from npmobilenet.models.model import Model
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array
from tests.helpers.networks import random_params

NETWORK = mobilenet_v1(alpha=0.25, resolution=(48, 32), classes=4)


def some_model(graph: Graph = NETWORK, **fields: Any) -> Model:
    """A model that is bit-exact in every call: kernels that get ready meanwhile change nothing."""
    return Model(graph, random_params(graph, seed=1), **{"backend": "compiled"} | fields)


def some_pixels(*shape: int) -> Array:
    """Random uint8 pixels of a shape."""
    return np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
