"""Backends of a model, and checks of the arguments that choose how it is computed."""

import warnings
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from npmobilenet.errors import KernelError, NpMobileNetError, ShapeError
from npmobilenet.types import Array, Outputs

BACKENDS = ("auto", "compiled", "reference")


def check_backend(backend: str) -> str:
    """Return the name of a backend unchanged.

    Raises:
        NpMobileNetError: it is unknown.
    """
    if backend not in BACKENDS:
        raise NpMobileNetError(f"unknown backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    return backend


def check_threads(threads: int | None) -> None:
    """Check that `threads` is a number of threads, or None.

    Raises:
        NpMobileNetError: it is neither.
    """
    from npmobilenet_kernels.runtime.thread_pool import MAX_THREADS

    is_integer = isinstance(threads, int | np.integer) and not isinstance(threads, bool)
    if threads is not None and not (is_integer and 1 <= threads <= MAX_THREADS):
        raise NpMobileNetError(f"threads: expected an integer from 1 to {MAX_THREADS} or None, got {threads!r}")


def check_is_scaled(x: Array, network: str) -> None:
    """Check that x is floating point, as scaled pixels are.

    Raises:
        ShapeError: it is not.
    """
    if x.dtype.kind not in "fO":
        raise ShapeError(
            f"{network}: expected scaled floating-point input, got {x.dtype}; use model.predict for pixels"
        )


@cache
def warn_once(message: str) -> None:
    """Warn of a slower backend, once per process and message."""
    warnings.warn(message, RuntimeWarning, stacklevel=2)


class Compiled(NamedTuple):
    """What compiled kernels do with one batch."""

    is_ready: Callable[[], bool]
    begin_to_compile: Callable[[], None]
    run: Callable[[], Outputs]


def compute_by(backend: str, compiled: Callable[[], Compiled], reference: Callable[[], Outputs]) -> Outputs:
    """The outputs of one batch by a backend.

    Args:
        backend: "compiled" waits for the kernels. "auto" uses the reference until they are ready, has another process
            compile them after that, and warns, once, if there are none.
        compiled, reference: what computes the batch.

    Raises:
        KernelError: "compiled" was requested, and the kernels cannot be built.
    """
    if backend == "reference":
        return reference()
    if backend == "compiled":
        return compiled().run()
    try:
        engine = compiled()
        if engine.is_ready():
            return engine.run()
        y = reference()
        engine.begin_to_compile()  # after the result, so as not to delay it
    except KernelError as error:
        warn_once(f"computing with the NumPy reference, which is slower: {error}")
        y = reference()
    return y
