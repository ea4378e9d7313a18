"""Execution of a model, or of the part of it up to a layer, by the engine or by the reference."""

from typing import TYPE_CHECKING

import numpy as np

from npmobilenet.errors import KernelError, NpMobileNetError
from npmobilenet.models.backends import Compiled, check_backend, check_is_scaled, check_threads, compute_by
from npmobilenet.reference.transforms import subgraph_to
from npmobilenet.types import Array, Outputs

if TYPE_CHECKING:
    from npmobilenet.compiler.engine import Engine
    from npmobilenet.models.model import Model

Layers = tuple[str, ...]
"""The layers of all outputs of a network, for the whole of it; or else one layer, for the part of it up to there."""


def compute(model: "Model", layers: Layers, x: Array, backend: str | None, threads: int | None) -> Outputs:
    """The network's output, or that of a layer (N, ...).

    Args:
        model: the network.
        layers: what is computed.
        x: (N, H, W, C) scaled images.
        backend, threads: as for `Model.predict`.

    Raises:
        as `Model.forward`.
    """
    check_threads(threads)
    check_is_scaled(x, model.graph.name)
    backend = model.backend if backend is None else check_backend(backend)
    if x.dtype != np.float32:
        if backend == "compiled":
            raise NpMobileNetError(f"the compiled backend expects float32, got {x.dtype}; use the reference backend")
        backend = "reference"

    def compiled() -> Compiled:
        engine = engine_of(model, layers)
        number, size = engine.threads(threads), engine.size(x)
        return Compiled(
            lambda: engine.is_ready(*size), lambda: engine.begin_to_compile(*size), lambda: engine.run(x, number)
        )

    return compute_by(backend, compiled, lambda: _reference(model, layers, x))


def engine_of(model: "Model", layers: Layers) -> "Engine":
    """The engine, created once.

    Raises:
        KernelError: llvmlite is not installed, or this architecture is not supported.
    """
    if layers not in model.engines:
        try:
            from npmobilenet.compiler.engine import Engine

            graph = model.graph if layers == model.graph.output_layers else subgraph_to(model.graph, layers[0])
            model.engines[layers] = Engine(graph, model.params_as(np.dtype(np.float32)))
        except ImportError as error:
            raise KernelError(f"no compiled kernels: {error}") from error
    return model.engines[layers]


def _reference(model: "Model", layers: Layers, x: Array) -> Outputs:
    if layers == model.graph.output_layers:
        return model.graph.output(model.params_as(x.dtype), x)
    return next(y for name, y in model.trace(x) if name == layers[0])
