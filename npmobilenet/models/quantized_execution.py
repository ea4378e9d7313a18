"""Execution of a quantized network, or of a part of it."""

from typing import TYPE_CHECKING

import numpy as np

from npmobilenet.errors import KernelError
from npmobilenet.models.backends import Compiled, check_backend, check_threads, compute_by
from npmobilenet.quantized.running import run
from npmobilenet.quantized.tensors import Network
from npmobilenet.types import Array, Outputs

if TYPE_CHECKING:
    from npmobilenet.compiler.byte_engine import ByteEngine
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

    def compiled() -> Compiled:
        engine = engine_of(model, network)
        return Compiled(engine.is_ready, engine.begin_to_compile, lambda: engine.outputs(x, threads))

    backend = model.backend if backend is None else check_backend(backend)
    outputs = compute_by(backend, compiled, lambda: _reference(model, network, x))
    if len(outputs) == 1:
        return outputs[0]
    return {model.names[number]: y for number, y in zip(network.outputs, outputs, strict=True)}


def engine_of(model: "QuantizedModel", network: Network) -> "ByteEngine":
    """The engine of a network, or of a part of it, created once.

    Raises:
        KernelError: llvmlite is not installed, or this architecture is not supported.
    """
    if network.outputs not in model.engines:
        try:
            from npmobilenet.compiler.byte_engine import ByteEngine

            model.engines[network.outputs] = ByteEngine(network, model.rounding)
        except ImportError as error:
            raise KernelError(f"no compiled kernels: {error}") from error
    return model.engines[network.outputs]


def _reference(model: "QuantizedModel", network: Network, x: Array) -> list[Array]:
    made = [run(network, x[i : i + 1], model.rounding) for i in range(len(x))] or [_nothing(network)]
    return [np.concatenate(values) for values in zip(*made, strict=True)]


def _nothing(network: Network) -> list[Array]:
    """Outputs of no image."""
    image = network.input
    return [y[:0] for y in run(network, np.zeros(image.shape, image.dtype))]
