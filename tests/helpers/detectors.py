"""Small detectors with drawn weights."""

import numpy as np

from npmobilenet.architectures.ssd import map_sides, ssd
from npmobilenet.detection.anchors import tensorflow_anchors, torchvision_anchors
from npmobilenet.detection.tensorflow_rule import TensorFlowRule
from npmobilenet.detection.torchvision_rule import TorchvisionRule
from npmobilenet.detection.worlds import Rule
from npmobilenet.models.detector import Detector
from tests.helpers.networks import random_params


def small_detector(world: str = "tensorflow", slots: int = 5, seed: int = 0) -> Detector:
    """SSDLite on MobileNetV2 0.35 at 96 x 96."""
    graph = ssd("mobilenet_v2", 0.35, 96, slots=slots, world=world)  # type: ignore[arg-type]
    sides = map_sides(graph)
    rule: Rule = TensorFlowRule(tensorflow_anchors(sides))
    if world == "torchvision":
        rule = TorchvisionRule(torchvision_anchors(sides, 96, 96), (96, 96))
    params = {name: values.astype(np.float32) for name, values in random_params(graph, seed).items()}
    return Detector(graph, params, post_processing=rule)
