"""What the architectures' arguments have in common, and the check of their ranges."""

from npmobilenet.errors import ArgumentError
from npmobilenet.types import Pair

Resolution = int | Pair
"""Side of a square image in pixels, or (H, W)."""


def sides(resolution: Resolution) -> Pair:
    """(H, W) of a resolution, in pixels."""
    return (resolution, resolution) if isinstance(resolution, int) else resolution


def check_arguments(
    network: str, alpha: float, resolution: Resolution, include_top: bool, classes: int, pooling: str | None
) -> Pair:
    """Check the arguments that all architectures have.

    Args:
        network: name of the architecture, for the message.
        alpha, resolution, include_top, classes, pooling: as for `mobilenet_v1`.

    Returns:
        (H, W) of the image, in pixels.

    Raises:
        ArgumentError: an argument is out of range.
    """
    H, W = sides(resolution)
    if not alpha > 0:
        raise ArgumentError(f"{network}: alpha, the width multiplier, must be > 0, got {alpha}")
    if min(H, W) < 32:
        raise ArgumentError(f"{network}: expected a resolution of at least 32 x 32 pixels, got {(H, W)}")
    if classes < 1:
        raise ArgumentError(f"{network}: expected at least 1 class, got {classes}")
    if pooling not in (None, "avg", "max"):
        raise ArgumentError(f'{network}: pooling must be "avg", "max" or None, got {pooling!r}')
    if pooling and include_top:
        raise ArgumentError(f"{network}: pooling={pooling!r} replaces the classifier; set include_top=False")
    return H, W
