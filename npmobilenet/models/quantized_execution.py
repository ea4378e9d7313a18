"""Execution of a quantized network, or of a part of it."""

from typing import TYPE_CHECKING

import numpy as np

from npmobilenet.errors import KernelError
from npmobilenet.models.backends import check_backend, check_threads
from npmobilenet.quantized.running import run
from npmobilenet.quantized.tensors import Network
from npmobilenet.types import Array, Outputs

if TYPE_CHECKING:
    from npmobilenet.models.quantized_model import QuantizedModel


def compute(model: "QuantizedModel", network: Network, x: Array, backend: str | None, threads: int | None) -> Outputs:
    """Integers of the outputs, (N, ...) each.

    Args:
        model: whose rule and names count.
        network: the whole of what is computed, or a part.
        x: (N, H, W, C) of the input's type.
        backend, threads: as for `QuantizedModel.predict`.

    Raises:
        as `QuantizedModel.forward`.
    """
    check_threads(threads)
    if (model.backend if backend is None else check_backend(backend)) == "compiled":
        raise KernelError("no compiled kernels for quantized networks; use the reference backend")
    made = [run(network, x[i : i + 1], model.rounding) for i in range(len(x))] or [_nothing(network)]
    outputs = [np.concatenate(values) for values in zip(*made, strict=True)]
    if len(outputs) == 1:
        return outputs[0]
    return {model.names[number]: y for number, y in zip(network.outputs, outputs, strict=True)}


def _nothing(network: Network) -> list[Array]:
    """Outputs of no image."""
    image = network.input
    return [y[:0] for y in run(network, np.zeros(image.shape, image.dtype))]
