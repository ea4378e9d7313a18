"""Post-processing as TensorFlow does it, to the bit: the operator `TFLite_Detection_PostProcess`.

    boxes    decoded in float64, rounded to float32; never clipped
    scores   sigmoids; the background is ignored, each class is judged for itself
    fast     one suppression for all boxes, each with its best class
    regular  one suppression per class, then the best of all

Source: TensorFlow Lite, `kernels/detection_postprocess.cc`; the configurations of the Object Detection API.
"""

from dataclasses import dataclass

import numpy as np

from npmobilenet.detection.box_coder import SCALES, clip_boxes, decode_tensorflow
from npmobilenet.detection.found import Found
from npmobilenet.detection.suppression import best_first, suppress, suppress_per_class
from npmobilenet.types import Array


@dataclass(frozen=True)
class PostProcessing:
    """Options of the operator, under TensorFlow Lite's names where it has them.

    Attributes:
        score_threshold: boxes with a lower score are dropped.
        iou_threshold: overlap above which the worse of two boxes is dropped.
        max_detections: largest number of boxes.
        max_classes_per_detection: fast suppression: classes that each box is given.
        detections_per_class: regular suppression: largest number of boxes of a class.
        use_regular_nms: whether suppression is regular, not fast.
        scales: divisors of the box codes: y, x, height, width.
    """

    score_threshold: float = 1e-8
    iou_threshold: float = 0.6
    max_detections: int = 100
    max_classes_per_detection: int = 1
    detections_per_class: int = 100
    use_regular_nms: bool = False
    scales: tuple[float, ...] = SCALES

    @property
    def overlap(self) -> Array:
        """The IoU threshold as it is compared, in float32."""
        return np.array([self.iou_threshold], np.float32)


def detection_postprocess(codes: Array, scores: Array, anchors: Array, options: PostProcessing) -> Found:
    """Boxes that remain, ymin, xmin, ymax, xmax in parts of the image.

    Args:
        codes: (A, 4) float32 of the box predictor.
        scores: (A, classes) float32, without the background.
        anchors: (A, 4) float32: center y, center x, height, width.
        options: of the operator.
    """
    boxes = decode_tensorflow(codes, anchors, options.scales)
    return (_regular if options.use_regular_nms else _fast)(boxes, scores, options)


def _fast(boxes: Array, scores: Array, options: PostProcessing) -> Found:
    """Every anchor once, with its best class."""
    best = scores.max(axis=1)  # (A,)
    anchors = np.flatnonzero(best >= np.float32(options.score_threshold))
    anchors = anchors[best_first(best[anchors])]
    kept = anchors[suppress(boxes[anchors], options.overlap, options.max_detections)]
    depth = min(options.max_classes_per_detection, scores.shape[1])
    order = np.argsort(-scores[kept], axis=1, kind="stable")[:, :depth]  # (kept, depth)
    values = np.take_along_axis(scores[kept], order, axis=1)
    return Found(np.repeat(boxes[kept], depth, axis=0), order.reshape(-1) + 1, values.reshape(-1))


def _regular(boxes: Array, scores: Array, options: PostProcessing) -> Found:
    """Every class for itself."""
    by_class = np.ascontiguousarray(scores.T)  # (classes, A)
    judged = by_class >= np.float32(options.score_threshold)
    per_class = min(options.detections_per_class, options.max_detections)
    anchors, classes = suppress_per_class(boxes, by_class, judged, options.overlap, options.max_detections, per_class)
    return Found(boxes[anchors], classes + 1, by_class[classes, anchors])


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)); 0 where the exponential is infinite."""
    y = np.negative(x)
    with np.errstate(over="ignore"):
        np.exp(y, out=y)
    y += 1
    return np.divide(1, y, out=y)


@dataclass(frozen=True, eq=False)
class TensorFlowRule:
    """How the outputs of a network trained by the Object Detection API become boxes.

    Attributes:
        anchors: (A, 4) float32: center y, center x, height, width in parts of the image, as `tensorflow_anchors`.
        options: of the post-processing; the configurations suppress per class.
        background: the first slot of the scores is the background.
        logits: scores are taken before the sigmoid.
    """

    anchors: Array
    options: PostProcessing = PostProcessing(use_regular_nms=True)
    background: bool = True
    logits: bool = True

    def found(self, codes: Array, scores: Array) -> Found:
        """Boxes in one image.

        Args:
            codes: (A, 4) float32: y, x, height, width.
            scores: (A, slots) float32.
        """
        scores = scores[:, 1:] if self.background else scores
        return detection_postprocess(codes, logistic(scores) if self.logits else scores, self.anchors, self.options)

    def in_pixels(self, boxes: Array, height: int, width: int) -> Array:
        """Boxes as (n, 4) left, top, right, bottom in pixels of the photograph, cut off at its sides."""
        corners = boxes[:, [1, 0, 3, 2]] * np.array([width, height, width, height], np.float32)
        return clip_boxes(np.nan_to_num(corners), height, width)
