"""Compiled kernels of this process: where they are kept, whether they are ready, and who compiles what is missing."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from npmobilenet_kernels.runtime import native
from npmobilenet_kernels.runtime.building import Build, BuildError
from npmobilenet_kernels.runtime.cpu import host_target

from npmobilenet.errors import KernelError
from npmobilenet.files import cache_folder


def kernel_folder() -> Path:
    """Where compiled kernels are kept: below the cache folder."""
    return cache_folder() / "kernels"


def compiled_kernels(symbols: Collection[str]) -> native.Native:
    """The driver and these tiles; what is missing is compiled now.

    Raises:
        KernelError: they cannot be compiled.
    """
    with _kernels_or_error():
        return native.native(symbols, kernel_folder())


def kernels_if_ready(symbols: Collection[str]) -> native.Native | None:
    """The driver and these tiles, if they are here, kept, or just compiled.

    Raises:
        KernelError: they could not be compiled.
    """
    with _kernels_or_error():
        return native.find(symbols, kernel_folder())


def begin_to_compile(symbols: Collection[str]) -> Build:
    """Have another process compile what is missing, if none does so yet; `wait` waits for it.

    Raises:
        KernelError: no process can be started.
    """
    with _kernels_or_error():
        return native.begin(symbols, kernel_folder())


def compilation() -> Build | None:
    """The process that compiles for this one, if there is one."""
    return native.current_build()


def finish_compilation() -> None:
    """Wait until the process that compiles for this one, if there is one, has ended; an interrupt ends it.

    Raises:
        KernelError: it has failed.
    """
    with _kernels_or_error():
        if build := native.current_build():
            build.wait()
        native.collect(kernel_folder())


def compile_kernels() -> Path:
    """Compile all kernels for this CPU and keep them for later processes.

    Returns:
        The folder that they are in, if it can be written.

    Raises:
        KernelError: they cannot be compiled.
    """
    with _kernels_or_error():
        symbols = _all_symbols()
    compiled_kernels(symbols)
    return kernel_folder()


def kernels_are_kept() -> bool:
    """Whether later processes will find all kernels for this CPU."""
    return native.is_kept(_all_symbols(), kernel_folder())


def _all_symbols() -> Collection[str]:
    from npmobilenet_kernels.microkernels.catalog import all_tiles

    return all_tiles(host_target()).keys()


@contextmanager
def _kernels_or_error() -> Iterator[None]:
    try:
        yield
    except (BuildError, ImportError) as error:
        raise KernelError(f"no compiled kernels: {error}") from error
