"""Limits on what a small file may turn into; they can be raised.

A file of a few bytes can declare an image, an array or an archive member of gigabytes. What comes out of a file is
therefore bounded by its own size: real photographs, weights and dumps are compressed a few times, not thousands.

    NPMOBILENET_MAX_PIXELS     of an image
    NPMOBILENET_MAX_BYTES      of what is unpacked from a file, or declared by it
"""

import os

from npmobilenet.errors import NpMobileNetError

MAX_PIXELS, MAX_BYTES = "NPMOBILENET_MAX_PIXELS", "NPMOBILENET_MAX_BYTES"
SMALL_FILE = 10**6  # bytes
PIXELS_OF_A_SMALL_FILE = 2**25  # 34 million: 0.6 GB while transparent pixels are composited
PIXELS = 2**27  # 134 million: above a 108-megapixel camera, and 0.4 GB decoded
INFLATION = 64  # times the size of a file
LEAST_INFLATED = 2**28  # bytes that any file may turn into: five times the largest MobileNet


def pixel_limit(file_bytes: int | None) -> int:
    """Pixels that an image may have, given the size of its file in bytes; None for an image already in memory.

    Raises:
        NpMobileNetError: NPMOBILENET_MAX_PIXELS is not a number.
    """
    small = file_bytes is not None and file_bytes < SMALL_FILE
    return _raised(MAX_PIXELS, PIXELS_OF_A_SMALL_FILE if small else PIXELS)


def inflated_limit(file_bytes: int) -> int:
    """Bytes that a file of this size may turn into.

    Raises:
        NpMobileNetError: NPMOBILENET_MAX_BYTES is not a number.
    """
    return _raised(MAX_BYTES, max(LEAST_INFLATED, INFLATION * file_bytes))


def check_inflated(what: str, declared: int, file_bytes: int) -> None:
    """Check the size that something in a file declares.

    Raises:
        NpMobileNetError: it is beyond the limit; the message says how to raise it.
    """
    if declared > (limit := inflated_limit(file_bytes)):
        raise NpMobileNetError(
            f"{what}: {declared:,} bytes from a file of {file_bytes:,}, more than the limit of {limit:,}; if that is "
            f"what it holds, set {MAX_BYTES}={declared}"
        )


def _raised(name: str, default: int) -> int:
    value = os.environ.get(name)
    if not value:
        return default
    if not value.isdecimal():
        raise NpMobileNetError(f"{name}: expected a number, got {value!r}")
    return int(value)
