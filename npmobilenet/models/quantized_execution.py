"""Execution of a quantized network, or of a part of it."""

from typing import TYPE_CHECKING

import numpy as np

from npmobilenet.errors import KernelError
from npmobilenet.models.backends import check_backend, check_threads, warn_once
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
    outputs = _outputs(model, network, x, model.backend if backend is None else check_backend(backend), threads)
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


def _outputs(model: "QuantizedModel", network: Network, x: Array, backend: str, threads: int | None) -> list[Array]:
    """The outputs by kernels or by the reference, bit for bit the same."""
    if backend == "compiled":
        return engine_of(model, network).outputs(x, threads)
    if backend == "reference":
        return _reference(model, network, x)
    try:
        engine = engine_of(model, network)
        if engine.is_ready():
            return engine.outputs(x, threads)
        ys = _reference(model, network, x)
        engine.begin_to_compile()  # after the result, so as not to delay it
    except KernelError as error:
        warn_once(f"computing with the NumPy reference, which is slower: {error}")
        ys = _reference(model, network, x)
    return ys


def _reference(model: "QuantizedModel", network: Network, x: Array) -> list[Array]:
    made = [run(network, x[i : i + 1], model.rounding) for i in range(len(x))] or [_nothing(network)]
    return [np.concatenate(values) for values in zip(*made, strict=True)]


def _nothing(network: Network) -> list[Array]:
    """Outputs of no image."""
    image = network.input
    return [y[:0] for y in run(network, np.zeros(image.shape, image.dtype))]
