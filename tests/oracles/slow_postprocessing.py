"""Post-processing by loops over single numbers, written from its definition."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from npmobilenet.detection.tensorflow_rule import PostProcessing
from npmobilenet.types import Array

F32 = np.float32
Kept = list[tuple[int, int]]
"""(anchor, class) of every box that remains, in order."""


def overlap(a: Any, b: Any) -> Any:
    """Intersection over union of two boxes, rounding every operation to float32."""
    area_a, area_b = F32(a[2] - a[0]) * F32(a[3] - a[1]), F32(b[2] - b[0]) * F32(b[3] - b[1])
    if area_a <= 0 or area_b <= 0:
        return F32(0)
    high = max(F32(min(a[2], b[2]) - max(a[0], b[0])), F32(0))
    wide = max(F32(min(a[3], b[3]) - max(a[1], b[1])), F32(0))
    shared = F32(high * wide)
    return F32(shared / F32(F32(area_a + area_b) - shared))


def greedy(boxes: Array, scores: Sequence[Any], candidates: list[int], threshold: Any, limit: int) -> list[int]:
    """The best candidate is kept, those that overlap it are dropped, and again."""
    left = sorted(candidates, key=lambda anchor: -scores[anchor])  # stable
    kept: list[int] = []
    while left and len(kept) < limit:
        best, *rest = left
        kept.append(best)
        left = [anchor for anchor in rest if not overlap(boxes[best], boxes[anchor]) > threshold]
    return kept


def tflite_kept(boxes: Array, scores: Array, options: PostProcessing) -> Kept:
    """What TensorFlow Lite's operator keeps, one class for each box."""
    threshold, least = F32(options.iou_threshold), F32(options.score_threshold)
    if not options.use_regular_nms:
        best = [max(row) for row in scores]
        above = [anchor for anchor, score in enumerate(best) if score >= least]
        kept = greedy(boxes, best, above, threshold, options.max_detections)
        return [(anchor, list(scores[anchor]).index(best[anchor])) for anchor in kept]
    limit = min(options.detections_per_class, options.max_detections)
    found: Kept = []
    for number in range(scores.shape[1]):
        column = scores[:, number]
        above = [anchor for anchor, score in enumerate(column) if score >= least]
        found += [(anchor, number) for anchor in greedy(boxes, list(column), above, threshold, limit)]
    return sorted(found, key=lambda pair: -scores[pair])[: options.max_detections]


def torchvision_kept(boxes: Array, scores: Array, least: float, threshold: float, candidates: int, limit: int) -> Kept:
    """What torchvision keeps: for each class the best candidates, suppressed; then the best of all.

    Args:
        boxes: (A, 4).
        scores: (A, classes), without the background.
        least, threshold, candidates, limit: as in `TorchvisionRule`.
    """
    found: Kept = []
    for number in range(scores.shape[1]):
        column = scores[:, number]
        above = [anchor for anchor, score in enumerate(column) if score > F32(least)]
        best = sorted(above, key=lambda anchor: -scores[anchor, number])[:candidates]
        found += [(anchor, number) for anchor in greedy(boxes, list(column), best, threshold, len(best))]
    return sorted(found, key=lambda pair: -scores[pair])[:limit]
