"""The decorator of the drivers' functions, all of whose arguments are int64: addresses, byte counts and counts."""

from __future__ import annotations

from typing import Any

from numba import njit

# Called by other compiled code alone: no wrappers for Python. No exceptions: no division here can be by zero.
OPTIONS: Any = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
compiled_functions: list[Any] = []  # callees before callers, the order in which their modules are imported


def compiled(function: Any) -> Any:
    """Numba's decorator, for functions of int64; `runtime.codegen` compiles them."""
    compiled_functions.append(njit(**OPTIONS)(function))
    return compiled_functions[-1]
