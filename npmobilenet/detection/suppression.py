"""Non-maximum suppression: of boxes that overlap, the best stays.

Greedy: the best box is kept, every other that overlaps it by more than a threshold is dropped, and again with the rest.
Overlap is intersection over union (IoU).

Sources: TensorFlow Lite, `detection_postprocess.cc` (`ComputeIntersectionOverUnion`); torchvision, `ops/boxes.py` and
`csrc/ops/cpu/nms_kernel.cpp`.
"""

import numpy as np
from numpy.typing import NDArray

from npmobilenet.types import Array

Indices = NDArray[np.intp]

FIRST = 512  # boxes that are sorted at first; usually enough of them are kept


def suppress(
    boxes: Array, threshold: Array, limit: int, classes: Indices | None = None, per_class: int | None = None
) -> Indices:
    """Greedy suppression of boxes that are sorted, the best first.

    Args:
        boxes: (n, 4) two corners, float32.
        threshold: (1,) IoU above which the worse of two boxes is dropped; compared in its dtype or float32, whichever
            is wider.
        limit: largest number of boxes that are kept.
        classes: (n,); boxes of different classes do not suppress each other. None: all are of one class.
        per_class: largest number that is kept of each class; None: `limit`.

    Returns:
        (kept,) indices in order.
    """
    kept: list[int] = []
    columns = np.ascontiguousarray(boxes.T)  # (4, n)
    labels = np.zeros(len(boxes), np.intp) if classes is None else classes
    room = [limit if per_class is None else per_class] * (int(labels.max(initial=0)) + 1)
    dropped = np.zeros(len(boxes), np.bool_)
    with np.errstate(over="ignore", invalid="ignore"):  # of wild boxes, whose overlap is NaN or 0
        area = areas(columns)
        for best, label in enumerate(labels.tolist()):
            if dropped[best] or not room[label]:
                continue
            if len(kept) == limit:
                break
            kept.append(best)
            room[label] -= 1
            rest = slice(best + 1, None)
            overlaps = iou(columns[:, best, None], columns[:, rest], area[best], area[rest]) > threshold
            dropped[rest] |= overlaps if classes is None else overlaps & (labels[rest] == label)
    return np.array(kept, np.intp)


def areas(boxes: Array) -> Array:
    """(n,) areas of boxes (4, n); infinity for one without area, so that its overlaps are 0."""
    product = (boxes[2] - boxes[0]) * (boxes[3] - boxes[1])
    return np.where(product > 0, product, np.float32(np.inf))


def iou(box: Array, boxes: Array, area: Array, others: Array) -> Array:
    """Intersection over union in float32; 0 or NaN with a box that has no area.

    Args:
        box: (4, 1) two corners.
        boxes: (4, n) two corners.
        area: of `box`, by `areas`.
        others: (n,) of `boxes`.

    Returns:
        (n,).
    """
    sides = np.maximum(np.minimum(box[2:], boxes[2:]) - np.maximum(box[:2], boxes[:2]), np.float32(0))
    shared = sides[0] * sides[1]
    return np.asarray(shared / (area + others - shared))


def suppress_per_class(
    boxes: Array, scores: Array, judged: Array, threshold: Array, limit: int, per_class: int
) -> tuple[Indices, Indices]:
    """Suppression per class, and the best of all classes.

    Boxes of all classes are walked together, the best first, until enough are kept: what comes later cannot change what
    was kept before. So few of them have to be sorted.

    Args:
        boxes: (A, 4) two corners, float32.
        scores: (classes, A).
        judged: (classes, A) which boxes can be of the class at all.
        threshold, limit, per_class: as for `suppress`.

    Returns:
        (kept,) anchors and (kept,) classes, the best first; equal scores by class, then by anchor.
    """
    candidates = np.flatnonzero(judged)
    values = scores.reshape(-1)[candidates]
    for count in (FIRST, len(values)):
        order = candidates[best_first(values, count)]
        classes, anchors = np.divmod(order, len(boxes))
        kept = suppress(boxes[anchors], threshold, limit, classes, per_class)
        if len(kept) == limit or len(order) < count:
            break
    return anchors[kept], classes[kept]


def best_first(scores: Array, limit: int | None = None) -> Indices:
    """Indices of scores (n,) from the highest to the lowest, equal ones in their order; the first `limit` of them."""
    if limit is None or limit >= len(scores):
        return np.argsort(-scores, kind="stable")
    least = np.partition(scores, len(scores) - limit)[len(scores) - limit]
    above = np.flatnonzero(scores >= least)
    return above[np.argsort(-scores[above], kind="stable")][:limit]
