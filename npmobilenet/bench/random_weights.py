"""What is measured: a network, with its own weights or with made-up ones, and pictures for it."""

from math import prod

import numpy as np

from npmobilenet.models.model import Model, made_up_pixels
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import BatchNormalization, DepthwiseConv2D
from npmobilenet.types import Array


def random_model(graph: Graph, seed: int = 0) -> Model:
    """A network with random weights, which no file is needed for.

    Time does not depend on the weights unless values die out, explode or become denormal. So kernels have unit gain,
    and the moving statistics are those that the made-up picture has at each normalisation.
    """
    from npmobilenet_weights_convert.converter import choose_scaling

    rng = np.random.default_rng(seed)
    params: dict[str, Array] = {}
    for layer in graph.layers:
        for array, shape in graph.param_shapes_of(layer).items():
            values = rng.normal(0, 0.2, shape)
            if array == "kernel":
                fan_in = prod(shape[:2]) if isinstance(layer, DepthwiseConv2D) else prod(shape[:-1])
                values = rng.normal(0, fan_in**-0.5, shape)
            elif array in ("gamma", "moving_variance"):
                values = rng.uniform(0.7, 1.3, shape)
            params[f"{layer.name}/{array}"] = values.astype(np.float32)
    model = Model(graph, params, choose_scaling(graph))
    normalisations = {layer.inputs[0]: layer.name for layer in graph.layers if isinstance(layer, BatchNormalization)}
    for name, y in graph.run(params, pictures(model, 1)):  # a layer is computed when it is asked for
        if name in normalisations:
            params[f"{normalisations[name]}/moving_mean"] = y.mean(axis=tuple(range(y.ndim - 1)))
            params[f"{normalisations[name]}/moving_variance"] = y.var(axis=tuple(range(y.ndim - 1))) + np.float32(1e-3)
    return model


def pictures(model: Model, batch: int) -> Array:
    """(batch, H, W, C) scaled float32: the picture of the self-check, for each image some rows further down."""
    pixels = made_up_pixels(model.graph.input_shape)
    return model.scale(np.stack([np.roll(pixels, 5 * image, axis=0) for image in range(batch)]))


def expected(model: Model, x: Array) -> Array:
    """What the reference answers in float64, image by image."""
    return np.concatenate([model.forward(image[None].astype(np.float64)) for image in x])
