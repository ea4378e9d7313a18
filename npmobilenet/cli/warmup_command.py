"""`npmobilenet warmup`."""

from npmobilenet.cli.shared import COMPILING, reported
from npmobilenet.errors import NpMobileNetError
from npmobilenet.output import print_line, waiting


def warmup() -> None:
    """Compile the kernels for this CPU ahead of their first use."""
    with reported(as_json=False):
        try:
            from npmobilenet.compiler.compilation import compile_kernels, kernels_are_kept
        except ImportError as error:
            raise NpMobileNetError(f"the kernels need llvmlite: {error}") from error
        with waiting(COMPILING):
            folder = compile_kernels()
        if not kernels_are_kept():
            raise NpMobileNetError(
                f"kernels compiled, but the cache directory {folder} is not writable; set NPMOBILENET_CACHE"
            )
        print_line(f"kernels: {folder}")
