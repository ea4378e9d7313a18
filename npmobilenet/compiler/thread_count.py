"""The number of threads that compute."""

import os

from npmobilenet_kernels.runtime.thread_pool import MAX_THREADS, available_cores

from npmobilenet.errors import NpMobileNetError


def default_threads() -> int:
    """NPMOBILENET_THREADS, or the number of cores that this process may use.

    Raises:
        NpMobileNetError: NPMOBILENET_THREADS is set, but not to a number of threads.
    """
    asked = os.environ.get("NPMOBILENET_THREADS", "").strip()
    if asked and not (asked.isdecimal() and 0 < int(asked) <= MAX_THREADS):
        raise NpMobileNetError(f"NPMOBILENET_THREADS is {asked!r}; expected a whole number from 1 to {MAX_THREADS}")
    return int(asked) if asked else available_cores()
