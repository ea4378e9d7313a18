"""Crops of Keras's image layers, as pixels removed at ((top, bottom), (left, right))."""

from npmobilenet.types import Pair, Shape

Crop = tuple[Pair, Pair]


def center_crop(shape: Shape, height: int, width: int) -> Crop | None:
    """What CenterCrop removes from (H, W, C); None if the map is smaller than the crop."""
    H, W, _ = shape
    return (_around(H, height), _around(W, width)) if height <= H and width <= W else None


def aspect_crop(shape: Shape, height: int, width: int) -> Crop:
    """What `crop_to_aspect_ratio` and `smart_resize` remove from (H, W, C): the rest has the ratio height to width."""
    H, W, _ = shape
    kept = max(min(H, W * height // width), 1), max(min(W, H * width // height), 1)
    return _around(H, kept[0]), _around(W, kept[1])


def _around(size: int, kept: int) -> Pair:
    """Pixels removed before and after; an odd one is removed at the end."""
    before = (size - kept) // 2
    return before, size - kept - before
