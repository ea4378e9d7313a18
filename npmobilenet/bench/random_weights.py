"""Networks with random weights, and images for them."""

from math import prod

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.models.model import Model
from npmobilenet.models.output_rows import concatenated
from npmobilenet.models.preprocessing import choose_scaling
from npmobilenet.models.self_check import synthetic_image
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import BatchNormalization, DepthwiseConv2D
from npmobilenet.types import Array

FEW_PIXELS = 16  # of all images together, from which no channel's statistics can be taken


def random_model(graph: Graph, seed: int = 0) -> Model:
    """A network with random weights, to be measured without a weights file.

    Time does not depend on weights unless values vanish, explode or become denormal, which `random_params` prevents.
    """
    scaling = choose_scaling(graph)
    x = scaling.apply(_sample_pixels(graph, 2).astype(np.float32))
    return Model(graph, random_params(graph, seed, x), scaling)


def random_params(graph: Graph, seed: int, x: Array, dtype: DTypeLike = np.float32) -> dict[str, Array]:
    """Random parameters that keep activations of a moderate size at any depth, by `layer/array`.

    Kernels have unit gain, and moving statistics are near those of the images x (N, H, W, C): unrelated statistics
    would let activations vanish or explode within a few layers. Gammas of up to 3 reach the limit of ReLU6.
    """
    rng = np.random.default_rng(seed)
    params: dict[str, Array] = {}
    for layer in graph.layers:
        for array, shape in graph.param_shapes_of(layer).items():
            if array == "kernel":
                fan_in = prod(shape[:2]) if isinstance(layer, DepthwiseConv2D) else prod(shape[:-1])
                values = rng.normal(0, fan_in**-0.5, shape)
            elif array in ("gamma", "variance"):
                values = rng.uniform(0.5, 3, shape)
            else:
                values = rng.normal(0, 0.5, shape)
            params[f"{layer.name}/{array}"] = values.astype(dtype)
    norms = {layer.inputs[0]: layer.name for layer in graph.layers if isinstance(layer, BatchNormalization)}
    for name, y in graph.run(params, x):  # lazy: a norm is computed after its statistics are set
        if name in norms:
            C = y.shape[-1:]
            rows = y.reshape(-1, *C).astype(np.float64)
            if len(rows) < FEW_PIXELS:  # all channels together, or small variances would multiply rounding errors
                rows = np.broadcast_to(rows.reshape(-1, 1), (rows.size, *C))
            mean = rows.mean(0) + rows.std(0) * rng.normal(0, 0.3, C)
            params[f"{norms[name]}/moving_mean"] = mean.astype(dtype)
            params[f"{norms[name]}/moving_variance"] = (rows.var(0) * rng.uniform(0.5, 2, C) + 1e-4).astype(dtype)
    return params


def sample_images(model: Model, batch: int) -> Array:
    """(batch, H, W, C) scaled float32: the image of the self-check, rolled down by 5 rows per image."""
    return model.scale(_sample_pixels(model.graph, batch))


def reference_outputs(model: Model, x: Array) -> list[Array]:
    """Outputs (N, ...) of the reference in float64 for scaled images x (N, H, W, C), one image at a time."""
    y = concatenated([model.forward(image[None].astype(np.float64)) for image in x])
    return list(y.values()) if isinstance(y, dict) else [y]


def _sample_pixels(graph: Graph, batch: int) -> Array:
    pixels = synthetic_image(graph.input_shape)  # (H, W, C) uint8
    return np.stack([np.roll(pixels, 5 * image, axis=0) for image in range(batch)])
