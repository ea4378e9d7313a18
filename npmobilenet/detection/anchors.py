"""Anchors: the boxes that every pixel of a feature map stands for, before the network has seen the image.

Both worlds use six maps, the scales 0.2, 0.35, 0.5, 0.65, 0.8, 0.95 of the image's side, and 1.0 after the last. They
differ in the first map, in the order within a pixel, and in the number that stands for a third.

Sources: TensorFlow's Object Detection API, `multiple_grid_anchor_generator.py` (`create_ssd_anchors`), with the
published configurations; torchvision, `detection/anchor_utils.py` (`DefaultBoxGenerator`).
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from npmobilenet.types import Array

SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)  # of each map, and the one after the last
RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333)  # width over height; the configurations have 0.3333, not a third
FIRST_MAP = ((0.1, 1.0), (0.2, 2.0), (0.2, 0.5))  # (scale, ratio)

Sides = Sequence[tuple[int, int]]
"""(H, W) of every map."""


def tensorflow_anchors(maps: Sides) -> Array:
    """Anchors of TensorFlow's Object Detection API.

    Returns:
        (A, 4) float32: center y, center x, height, width, in parts of the image.
    """
    return np.concatenate([
        _on_map(sides, [(scale / sqrt(ratio), scale * sqrt(ratio)) for scale, ratio in _shapes(number)])
        for number, sides in enumerate(maps)
    ]).astype(np.float32)  # fmt: skip


def _shapes(number: int) -> list[tuple[float, float]]:
    """(scale, ratio) of the anchors in one pixel of a map."""
    if number == 0:
        return list(FIRST_MAP)
    scale = SCALES[number]
    return [*((scale, ratio) for ratio in RATIOS), (sqrt(scale * SCALES[number + 1]), 1.0)]


def _on_map(sides: tuple[int, int], shapes: Sequence[tuple[float, float]]) -> Array:
    """(H * W * shapes, 4): every (height, width) at the center of every pixel, row by row."""
    H, W = sides
    y, x = ((np.arange(side) + 0.5) / side for side in sides)  # (H,), (W,)
    anchors = np.empty((H, W, len(shapes), 4))
    anchors[..., 0], anchors[..., 1] = y[:, None, None], x[:, None]
    anchors[..., 2:] = shapes
    return anchors.reshape(-1, 4)


def torchvision_anchors(maps: Sides, height: int, width: int) -> Array:
    """Anchors of torchvision's ssdlite320, in float32 throughout as there.

    Args:
        maps: (H, W) of every map.
        height, width: of the network's input, in pixels.

    Returns:
        (A, 4) float32: left, top, right, bottom, in pixels of the network's input.
    """
    size = np.array([width, height], np.float32)
    found = []
    for number, (H, W) in enumerate(maps):
        y, x = ((np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side) for side in (H, W))
        shapes = np.clip(np.array(_torchvision_shapes(number), np.float32), 0, 1)  # (6, 2): width, height
        center = np.stack(np.broadcast_arrays(x, y[:, None]), axis=-1)[:, :, None]  # (H, W, 1, 2)
        half = np.float32(0.5) * shapes
        corners = np.concatenate([(center - half) * size, (center + half) * size], axis=-1)  # (H, W, 6, 4)
        found.append(corners.reshape(-1, 4))
    return np.concatenate(found)


def _torchvision_shapes(number: int) -> list[tuple[float, float]]:
    """(width, height) of the anchors in one pixel: two squares, then each ratio and its inverse."""
    scale, between = SCALES[number], sqrt(SCALES[number] * SCALES[number + 1])
    shapes = [(scale, scale), (between, between)]
    for ratio in (2, 3):
        long, short = scale * sqrt(ratio), scale / sqrt(ratio)
        shapes += [(long, short), (short, long)]
    return shapes
