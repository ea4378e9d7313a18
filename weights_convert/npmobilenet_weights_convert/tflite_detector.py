"""A detector in a TensorFlow Lite file: what its post-processing is.

Most files end in the operator `TFLite_Detection_PostProcess`, whose options and anchors are in the file. In one without
it, the anchors can only be assumed: those of the Object Detection API's configurations, if their number fits.
"""

from dataclasses import dataclass
from typing import Any

from npmobilenet.detection.anchors import tensorflow_anchors
from npmobilenet.detection.tensorflow_rule import PostProcessing, TensorFlowRule
from npmobilenet.errors import ShapeError, WeightsError
from npmobilenet.models.detector import Detector
from npmobilenet.models.detects import detector_outputs
from npmobilenet.models.interface import Interface
from npmobilenet.models.model import Model
from npmobilenet.models.quantized_detector import QuantizedDetector
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.quantized.parts import POST_PROCESSING
from npmobilenet.quantized.tensors import Network
from npmobilenet.types import Shape

NUMBERS = ("max_detections", "max_classes_per_detection", "num_classes", "nms_score_threshold", "nms_iou_threshold")
SCALES = ("y_scale", "x_scale", "h_scale", "w_scale")
EXTRA_MAPS = 4


@dataclass(frozen=True)
class FilePostProcessing:
    """The post-processing of a file; `assumed` says what the file does not specify, "" if it specifies everything."""

    rule: TensorFlowRule
    assumed: str = ""


def as_detector(model: Model | QuantizedModel, network: Network) -> Model | QuantizedModel:
    """A model as the detector that it is; any other model as it is.

    Args:
        model: the network up to its heads.
        network: as the file has it.

    Raises:
        WeightsError: the post-processing operator's inputs or options do not fit.
    """
    found = post_processing_of(network, model.interface)
    if found is None:
        return model
    if found.assumed:
        model = model.changed(source={**model.source, "assumed": found.assumed})
    if isinstance(model, QuantizedModel):
        return QuantizedDetector.of(model, found.rule)
    return Detector.of(model, found.rule)


def post_processing_of(network: Network, heads: Interface) -> FilePostProcessing | None:
    """The post-processing of a network; None if the network is no detector.

    Args:
        network: as the file has it.
        heads: what its outputs are without the post-processing.

    Raises:
        WeightsError: the operator's inputs or options do not fit.
    """
    if network.operators and network.operators[-1].code == POST_PROCESSING:
        return FilePostProcessing(_rule_in_file(network))
    return _assumed(heads)


def _rule_in_file(network: Network) -> TensorFlowRule:
    operator = network.operators[-1]
    custom: dict[str, Any] = dict(operator.options.custom)
    missing = [name for name in (*NUMBERS, *SCALES) if not isinstance(custom.get(name), int | float)]
    if missing or len(operator.inputs) != 3:
        raise WeightsError(f"{POST_PROCESSING}: expected three inputs and the options {', '.join(missing)}")
    _, scores, anchors = (network.tensors[number] for number in operator.inputs)
    if anchors.data is None or anchors.data.ndim != 2 or anchors.data.shape[1] != 4:
        raise WeightsError(f"{POST_PROCESSING}: expected anchors (A, 4) as a constant, got {anchors.name}")
    background = scores.shape[-1] - custom["num_classes"] if scores.shape else 1
    if background not in (0, 1):
        raise WeightsError(
            f"{POST_PROCESSING}: expected scores of {custom['num_classes']} classes, with or without the background, "
            f"got {scores.shape[-1]}"
        )
    options = PostProcessing(
        score_threshold=float(custom["nms_score_threshold"]),
        iou_threshold=float(custom["nms_iou_threshold"]),
        max_detections=int(custom["max_detections"]),
        max_classes_per_detection=int(custom["max_classes_per_detection"]),
        detections_per_class=int(custom.get("detections_per_class", 100)),
        use_regular_nms=bool(custom.get("use_regular_nms", False)),
        scales=tuple(float(custom[name]) for name in SCALES),
    )
    if (
        min(*options.scales, options.max_detections, options.max_classes_per_detection, options.detections_per_class)
        <= 0
    ):
        raise WeightsError(f"{POST_PROCESSING}: expected positive scales and numbers of detections, got {options}")
    return TensorFlowRule(anchors.dequantize(anchors.data), options, background=bool(background), logits=False)


def _assumed(heads: Interface) -> FilePostProcessing | None:
    try:
        _, scores = detector_outputs(heads)
    except ShapeError:
        return None
    anchors = tensorflow_anchors(_map_sides(heads.input_shape))
    if len(anchors) != heads.output_shapes[scores][0]:
        return None
    is_probability = heads.output_activations[scores] == "sigmoid"
    return FilePostProcessing(
        TensorFlowRule(anchors, logits=not is_probability),
        "the file has no post-processing: TensorFlow's anchors are assumed, box codes in tenths and fifths, the "
        f"background first{'' if is_probability else ', a sigmoid after the scores'}, and suppression per class",
    )


def _map_sides(image: Shape) -> tuple[tuple[int, int], ...]:
    """(H, W) of the six maps of an image (H, W, C): a 16th of it, and each then half of the one before."""
    H, W = (-(-side // 16) for side in image[:2])
    sides = [(H, W)]
    for _ in range(1 + EXTRA_MAPS):
        H, W = -(-H // 2), -(-W // 2)
        sides.append((H, W))
    return tuple(sides)
