"""A model quantized after training: ranges from images, integers from ranges, and what that has changed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from npmobilenet.compiler.operator_network import operator_network
from npmobilenet.compiler.passes import fuse
from npmobilenet.errors import ArgumentError, ImageError, NpMobileNetError, WeightsError
from npmobilenet.models.class_names import class_output
from npmobilenet.models.input_steps import with_input_steps
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import ImageLike, Reading, Scaling
from npmobilenet.models.streaming import prepared_batches
from npmobilenet.quantized.agreement import Agreement, compare
from npmobilenet.quantized.calibration import Calibration, Range
from npmobilenet.quantized.post_training import quantized
from npmobilenet.quantized.real_numbers import real_trace
from npmobilenet.quantized.tensors import Network
from npmobilenet.types import Array

Item = TypeVar("Item")
Watch = Callable[[Iterator[Item], str], Iterator[Item]]
INPUT_TYPES = ("int8", "uint8")
FEW_IMAGES = 50
UNIFORM = 1 / 512  # the sum of exponentials, relative to the largest, from which its fixed point overflows


@dataclass(frozen=True)
class Quantized:
    """A quantized network.

    Attributes:
        network: operators on integers.
        scaling: from pixels in 0..255 to the real numbers that its input's integers stand for.
        agreement: with the float model.
        failures: (image, error) of images that could not be read.
        notes: what was assumed.
    """

    network: Network
    scaling: Scaling
    agreement: Agreement
    failures: Sequence[tuple[ImageLike, NpMobileNetError]]
    notes: Sequence[str]


def quantize_model(
    model: Model,
    images: Sequence[ImageLike],
    *,
    calibration: Calibration = Calibration(),  # noqa: B008  frozen
    input_type: str = "int8",
    how: Reading | None = None,
    watch: Watch[Array] = lambda items, label: items,
) -> Quantized:
    """Quantize a model to int8: weights per channel, activations by the ranges that images bring about.

    Images are read twice, in constant memory: for the ranges, and to compare the two networks.

    Args:
        model: the float model.
        images: paths, contents of files, Pillow images or arrays, as for `predict`; typical ones, a hundred or so.
        calibration: how ranges are chosen.
        input_type: "int8", or "uint8" with an operator that changes it to int8.
        how: how images are read; None for the model's way.
        watch: passes on an iterator, for a progress bar; the second argument says what is done.

    Raises:
        ImageError: no image can be read.
        ArgumentError: the input type or the percentile is unknown.
        NpMobileNetError: a layer has no TensorFlow Lite export.
    """
    if input_type not in INPUT_TYPES:
        raise ArgumentError(f"unknown input type {input_type!r}; expected {' or '.join(INPUT_TYPES)}")
    ops, scaling, image = with_input_steps(fuse(model.graph, model.params), model.scaling)
    network = operator_network(ops, name=model.graph.name)
    how = how or Reading(model.resize_rule())
    failures: list[tuple[ImageLike, NpMobileNetError]] = []

    def inputs(label: str) -> Iterator[Array]:
        failures.clear()
        return watch(_inputs(model, images, scaling, how, failures), label)

    seen = _ranges(network, inputs("calibrating"), calibration)
    if not seen:
        raise ImageError(f"no image to calibrate with: {failures[0][1] if failures else 'none was given'}")
    ranges = {number: values.limits(calibration) for number, values in seen.items()}
    result = quantized(network, ranges, image, uint8_input=input_type == "uint8")
    agreement = compare(network, result, inputs("comparing"), _class_output(model, network))
    return Quantized(result, scaling, agreement, failures, _notes(model, network, scaling, seen, agreement.images))


def _inputs(
    model: Model,
    images: Sequence[ImageLike],
    scaling: Scaling,
    how: Reading,
    failures: list[tuple[ImageLike, NpMobileNetError]],
) -> Iterator[Array]:
    """(1, H, W, C) scaled images; those that cannot be read go to `failures`."""
    for batch in prepared_batches(model, images, how, None):
        for source, pixels in batch:
            if isinstance(pixels, NpMobileNetError):
                failures.append((source, pixels))
            else:
                yield scaling.apply(pixels[None].astype(np.float32))


def _ranges(network: Network, inputs: Iterator[Array], calibration: Calibration) -> dict[int, Range]:
    """Values of every tensor, by number; empty without images.

    They are computed in float64, so that the ranges, as float32, are the same on every machine.
    """
    seen: dict[int, Range] = {}
    for x in inputs:
        for operator, y in real_trace(network, x.astype(np.float64)):
            if not np.abs(y).max() <= np.finfo(np.float32).max:
                raise WeightsError(f"{network.label(operator)}: not all of its values are finite in float32")
            number = operator.outputs[0]
            seen.setdefault(number, Range()).add(y, histogram=calibration.method == "percentile")
    return seen


def _class_output(model: Model, network: Network) -> int | None:
    """Number of the tensor that holds probabilities or scores of classes; None if it is not clear which does."""
    try:
        name = class_output(model.graph)
    except ArgumentError:
        return None
    is_vector = len(model.graph.output_shapes[name]) == 1
    return network.outputs[[name for name, _ in model.graph.outputs].index(name)] if is_vector else None


def _notes(model: Model, network: Network, scaling: Scaling, seen: Mapping[int, Range], images: int) -> list[str]:
    notes = []
    if images < FEW_IMAGES:
        notes.append(f"ranges come from {images} image{'' if images == 1 else 's'}; {FEW_IMAGES} or more are usual")
    if scaling != model.scaling:
        notes.append(
            "the input's integers are pixels; what is left of the scaling, at most half a step, is part of the first "
            "layer's bias"
        )
    softmax = [seen[operator.outputs[0]] for operator in network.operators if operator.code == "SOFTMAX"]
    if any(output.least_peak < UNIFORM for output in softmax):
        notes.append(
            f"no class of an image has a probability of 1/{round(1 / UNIFORM)} or more: LiteRT's reference kernel of "
            "SOFTMAX ends the process there; its default and this package do not"
        )
    return notes
