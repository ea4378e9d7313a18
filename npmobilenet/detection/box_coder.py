"""Box coder: what the box predictor says about an anchor, as a box.

    center  =  anchor's center  +  code / 10 * anchor's side
    side    =  anchor's side * exp(code / 5)

Sources: TensorFlow Lite, `detection_postprocess.cc` (`DecodeCenterSizeBoxes`); torchvision, `detection/_utils.py`
(`BoxCoder.decode_single`). They round and order differently.
"""

from math import log

import numpy as np

from npmobilenet.types import Array

SCALES = (10.0, 10.0, 5.0, 5.0)  # of center y, center x, height, width
LARGEST = log(1000 / 16)  # torchvision's bound of the exponent


def decode_tensorflow(codes: Array, anchors: Array, scales: tuple[float, ...] = SCALES) -> Array:
    """Boxes of TensorFlow Lite: computed in float64, with centers, half sides and corners rounded to float32.

    Args:
        codes: (A, 4) float32: y, x, height, width.
        anchors: (A, 4) float32: center y, center x, height, width.
        scales: divisors of the codes, float32 values.

    Returns:
        (A, 4) float32: ymin, xmin, ymax, xmax.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # wild codes give infinite boxes, as there
        parts = codes.astype(np.float64) / np.array(scales, np.float32).astype(np.float64)  # (A, 4)
        center, side = (anchors[:, axes].astype(np.float64) for axes in (slice(0, 2), slice(2, 4)))
        middle = (parts[:, :2] * side + center).astype(np.float32)
        half = (0.5 * np.exp(parts[:, 2:]) * side).astype(np.float32)
        return np.concatenate([middle - half, middle + half], axis=1)


def decode_torchvision(codes: Array, anchors: Array) -> Array:
    """Boxes of torchvision: in float32, with the exponent of the sides bounded.

    Args:
        codes: (A, 4) float32: x, y, width, height.
        anchors: (A, 4) float32: left, top, right, bottom.

    Returns:
        (A, 4) float32: left, top, right, bottom, in the unit of the anchors.
    """
    side = anchors[:, 2:] - anchors[:, :2]
    center = anchors[:, :2] + np.float32(0.5) * side
    middle = codes[:, :2] / np.float32(SCALES[0]) * side + center
    half = np.float32(0.5) * (np.exp(np.minimum(codes[:, 2:] / np.float32(SCALES[2]), np.float32(LARGEST))) * side)
    return np.concatenate([middle - half, middle + half], axis=1)


def clip_boxes(boxes: Array, height: float, width: float) -> Array:
    """Boxes (n, 4) left, top, right, bottom within an image of height x width."""
    return np.clip(boxes, np.float32(0), np.array([width, height, width, height], np.float32))
