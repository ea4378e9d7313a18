"""Post-processing as torchvision does it.

    boxes        decoded in float32, clipped to the image
    scores       softmax over all slots; the background is dropped
    suppression  per class, of the best 300 of each; then the best 300 of all

Source: torchvision, `detection/ssd.py` (`SSD.postprocess_detections`) with the arguments of `ssdlite320_mobilenet_v3`,
`detection/transform.py` (`resize_boxes`).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from npmobilenet.detection.box_coder import clip_boxes, decode_torchvision
from npmobilenet.detection.found import Found
from npmobilenet.detection.suppression import best_first, suppress_per_class
from npmobilenet.reference.activations import softmax
from npmobilenet.types import Array


@dataclass(frozen=True, eq=False)
class TorchvisionRule:
    """How the outputs of a network trained by torchvision become boxes.

    Attributes:
        anchors: (A, 4) float32: left, top, right, bottom in pixels of the network's input, as `torchvision_anchors`.
        size: (H, W) of the network's input.
        score_threshold: boxes with this score or a lower one are dropped.
        iou_threshold: overlap above which the worse of two boxes of a class is dropped.
        max_detections: largest number of boxes.
        candidates: boxes per class that suppression sees, the best ones.
    """

    background: ClassVar[bool] = True

    anchors: Array
    size: tuple[int, int] = (320, 320)
    score_threshold: float = 0.001
    iou_threshold: float = 0.55
    max_detections: int = 300
    candidates: int = 300

    def found(self, codes: Array, scores: Array) -> Found:
        """Boxes in one image: left, top, right, bottom in pixels of the network's input.

        Args:
            codes: (A, 4) float32: x, y, width, height.
            scores: (A, slots) float32 before the softmax, background first.
        """
        boxes = clip_boxes(decode_torchvision(codes, self.anchors), *self.size)
        probabilities = np.ascontiguousarray(softmax(scores).T[1:])  # (classes, A)
        overlap = np.array([self.iou_threshold])  # float64: as the kernel compares
        judged = _best_of_each(probabilities, self.score_threshold, self.candidates)
        anchors, classes = suppress_per_class(
            boxes, probabilities, judged, overlap, self.max_detections, self.candidates
        )
        return Found(boxes[anchors], classes + 1, probabilities[classes, anchors])

    def in_pixels(self, boxes: Array, height: int, width: int) -> Array:
        """Boxes as (n, 4) left, top, right, bottom in pixels of the photograph."""
        ratio = np.array([width, height], np.float32) / np.array(self.size[::-1], np.float32)
        return boxes * np.tile(ratio, 2)


def _best_of_each(scores: Array, threshold: float, count: int) -> Array:
    """(classes, A) which scores are above the threshold and among the best `count` of their class."""
    above = scores > np.float32(threshold)
    for crowded in np.flatnonzero(above.sum(axis=1) > count):
        above[crowded] = False
        above[crowded, best_first(scores[crowded], count)] = True
    return np.asarray(above)
