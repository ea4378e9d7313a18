"""torchvision's detector `ssdlite320_mobilenet_v3_large`: from its state dict to a `Detector`.

    backbone.features.0.0 ... 0.12      stem and twelve blocks; 0.13 the expansion of the next, the first tap
    backbone.features.1.0 ... 1.3       the rest of that block, two more, the last convolution: the second tap
    backbone.extra.0 ... 3              the extra maps
    head.regression_head.module_list.0 ... 5, head.classification_head.module_list.0 ... 5

The graph is that of `architectures.ssd`; what is here is where the state dict keeps its arrays.

Source: torchvision 0.29, `torchvision.models.detection.ssdlite`.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from npmobilenet.architectures.mobilenet_v3 import V3_LARGE
from npmobilenet.architectures.ssd import EXTRA_MAPS, map_sides, ssd
from npmobilenet.detection.anchors import torchvision_anchors
from npmobilenet.detection.torchvision_rule import TorchvisionRule
from npmobilenet.errors import WeightsError
from npmobilenet.models.detector import Detector
from npmobilenet.models.preprocessing import Scaling
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import BatchNormalization, DepthwiseConv2D
from npmobilenet.types import Array, Shape
from npmobilenet_weights_convert.torch_networks import NOT_WEIGHTS, checked_array

RESOLUTION = 320
ANCHORS = 6  # per pixel of every map
SPLIT = 12  # the block whose expansion is the first tap
CLASS_HEAD = "head.classification_head.module_list.0.1.weight"
LAST_CONV = "backbone.features.1.3.0.weight"
REDUCED_LAST = 480
NORMALIZATION = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
MEAN = STD = (0.5, 0.5, 0.5)


def is_torch_detector(arrays: Mapping[str, Array]) -> bool:
    """Whether a state dict is of one of torchvision's detectors."""
    return any(name.startswith("head.classification_head.") for name in arrays)


def torch_detector(arrays: Mapping[str, Array], source: Mapping[str, str]) -> Detector:
    """The detector of a state dict.

    Args:
        arrays: the state dict, kernels as (out, in, H, W).
        source: what it was read from.

    Raises:
        WeightsError: it is another detector, or its arrays do not fit; the message names them.
    """
    if CLASS_HEAD not in arrays or LAST_CONV not in arrays:
        raise WeightsError("expected torchvision's ssdlite320_mobilenet_v3_large, got another detector of torchvision")
    slots, rest = divmod(len(arrays[CLASS_HEAD]), ANCHORS)
    if rest or slots < 2:
        raise WeightsError(f"expected {ANCHORS} scores per class in {CLASS_HEAD}, got {arrays[CLASS_HEAD].shape}")
    reduced = len(arrays[LAST_CONV]) == REDUCED_LAST
    graph = ssd("mobilenet_v3_large", resolution=RESOLUTION, slots=slots, reduced_tail=reduced, world="torchvision")
    places = dict(_places())
    params: dict[str, Array] = {}
    used: set[str] = set()
    for layer in graph.layers:
        for array, shape in graph.param_shapes_of(layer).items():
            name = f"{places[layer.name]}.{_torch_array(layer, array)}"
            params[f"{layer.name}/{array}"] = _in_keras_layout(layer, arrays, name, shape)
            used.add(name)
    left = [name for name in arrays if name not in used and not name.endswith(NOT_WEIGHTS)]
    if left:
        names = "\n  ".join(left[:10])
        raise WeightsError(f"{len(left)} arrays have no place in ssdlite320_mobilenet_v3_large:\n  {names}")
    size = RESOLUTION, RESOLUTION
    rule = TorchvisionRule(torchvision_anchors(map_sides(graph), *size), size)
    return Detector(graph, params, Scaling.normalizing(MEAN, STD), source=source, post_processing=rule)


def _torch_array(layer: Layer, array: str) -> str:
    """PyTorch's name of an array of a layer."""
    return NORMALIZATION[array] if isinstance(layer, BatchNormalization) else array.replace("kernel", "weight")


def _in_keras_layout(layer: Layer, arrays: Mapping[str, Array], name: str, shape: Shape) -> Array:
    """An array of the state dict, whose kernels are (out, in, K, K) or (C, 1, K, K), in Keras's layout."""
    if len(shape) != 4:
        return checked_array(arrays, name, shape)
    axes = (2, 3, 0, 1) if isinstance(layer, DepthwiseConv2D) else (2, 3, 1, 0)
    stored = tuple(shape[axes.index(axis)] for axis in range(4))
    return np.ascontiguousarray(checked_array(arrays, name, stored).transpose(axes))


def _places() -> Iterator[tuple[str, str]]:
    """(layer, its place in the state dict) of every layer with parameters."""
    yield from _unit("conv", "conv_bn", "backbone.features.0.0")
    for number, row in enumerate(V3_LARGE):
        prefix = f"expanded_conv_{number}_" if number else "expanded_conv_"
        parts = [*(["expand"] if number else []), "depthwise", *(["squeeze_excite"] if row.se else []), "project"]
        for part, place in zip(parts, _block_places(number, len(parts)), strict=True):
            if part == "squeeze_excite":
                yield f"{prefix}squeeze_excite_conv", f"{place}.fc1"
                yield f"{prefix}squeeze_excite_conv_1", f"{place}.fc2"
            else:
                yield from _unit(f"{prefix}{part}", f"{prefix}{part}_bn", place)
    yield from _unit("conv_1", "conv_1_bn", f"backbone.features.1.{len(V3_LARGE) - SPLIT}")
    for number in range(len(EXTRA_MAPS)):
        for unit, part in enumerate(("reduce", "depthwise", "pointwise")):
            name = f"extra_{number + 1}_{part}"
            yield from _unit(name, f"{name}_bn", f"backbone.extra.{number}.{unit}")
    for prefix, head in (("box", "regression_head"), ("class", "classification_head")):
        for number in range(2 + len(EXTRA_MAPS)):
            place, name = f"head.{head}.module_list.{number}", f"{prefix}_{number + 1}"
            yield from _unit(f"{name}_depthwise", f"{name}_depthwise_bn", f"{place}.0")
            yield f"{name}_conv", f"{place}.1"


def _block_places(number: int, parts: int) -> list[str]:
    """Place of every part of a block."""
    if number == SPLIT:
        return ["backbone.features.0.13", *(f"backbone.features.1.0.{part}" for part in range(1, parts))]
    block = f"0.{number + 1}" if number < SPLIT else f"1.{number - SPLIT}"
    return [f"backbone.features.{block}.block.{part}" for part in range(parts)]


def _unit(conv: str, bn: str, place: str) -> Iterator[tuple[str, str]]:
    """A convolution and the normalization after it."""
    yield conv, f"{place}.0"
    yield bn, f"{place}.1"
