"""Names of a network's classes: one per value of its output, or two for a single sigmoid."""

from collections.abc import Sequence
from functools import cache
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import numpy as np

from npmobilenet.errors import ArgumentError, LabelFileError, ShapeError
from npmobilenet.models.interface import Interface, output_names
from npmobilenet.models.label_file import read_labels
from npmobilenet.models.labels import Label, label_pairs, top_classes
from npmobilenet.types import Array

if TYPE_CHECKING:
    from npmobilenet.models.image_model import ImageModel

AnyModel = TypeVar("AnyModel", bound="ImageModel")
LabelsLike: TypeAlias = Sequence[str | Label] | str | PathLike[str]

ONE_CLASS: tuple[Label, ...] = (("", "class 1"),)  # the class whose probability one sigmoid output is


def class_output(network: Interface) -> str:
    """Name of the output that holds classes: of several the only softmax over a vector, or else the only vector.

    Raises:
        ArgumentError: there are several, or none; the message names all outputs.
    """
    if len(network.outputs) == 1:
        return network.outputs[0][0]
    vectors = {layer: name for name, layer in reversed(network.outputs) if len(network.output_shapes[name]) == 1}
    softmax = [name for name in vectors.values() if network.output_activations[name] == "softmax"]
    found = softmax or list(vectors.values())
    if len(found) == 1:
        return found[0]
    outputs = ", ".join(f"{name} {shape}" for name, shape in network.output_shapes.items())
    raise ArgumentError(
        f"{network.name} has {len(network.outputs)} outputs, it is not clear which holds classes: {outputs}"
    )


def class_count(network: Interface) -> int:
    """Number of values of the output that holds classes, 0 if it is a single number; errors as `class_output`."""
    shape = network.output_shapes[class_output(network)]
    return shape[-1] if shape else 0


def is_binary(network: Interface) -> bool:
    """Whether the classes are one sigmoid: the probability p of class 1, so that 1 - p is that of class 0."""
    output = class_output(network)
    return network.output_activations[output] == "sigmoid" and network.output_shapes[output] == (1,)


def fits(network: Interface, labels: Sequence[str | Label], background: bool) -> bool:
    """Whether the number of labels is the number of classes; errors as `class_output`."""
    return len(labels) == class_count(network) - background or (is_binary(network) and len(labels) == 2)


def named(
    network: Interface, probabilities: Array, top: int, labels: Sequence[Label], background: bool
) -> list[list[tuple[str, str, float]]]:
    """The `top` classes of every row (N, outputs), by label or number, the most probable first."""
    if is_binary(network):
        if len(labels) == 2:
            probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)  # (N, 2)
        labels = labels or ONE_CLASS
    return top_classes(probabilities, top, labels or _numbers(class_count(network) - background), background=background)


def with_labels(model: AnyModel, labels: LabelsLike) -> AnyModel:
    """A model with other class names.

    Args:
        model: the model.
        labels: one per class, each a name or a (wnid, name) pair; or a label file, see `read_labels`, which may name
            the background class or leave it out.

    Raises:
        LabelFileError: the file cannot be read, or has another number of names than the model has classes.
        ShapeError: the number of labels is not the number of classes, or the network has no classifier.
        ArgumentError: as `class_output`; `model.with_output` chooses an output.
    """
    model.check_classifier()
    network = model.interface
    names = read_labels(labels) if isinstance(labels, str | PathLike) else labels
    for background in (model.background, False):
        if fits(network, names, background):
            return model.changed(labels=names, background=background)
    if not isinstance(labels, str | PathLike):
        return model.changed(labels=names)  # raises
    classes = class_count(network) - model.background
    raise LabelFileError(
        f"{labels}: {len(names)} names, but {network.name} has {classes} {'class' if classes == 1 else 'classes'}; "
        "expected one name per class, in the order of the network's outputs"
    )


def checked_labels(network: Interface, labels: Sequence[str | Label], background: bool) -> tuple[Label, ...]:
    """Labels of a network as pairs.

    Raises:
        ShapeError: there are some, but not one per class.
        ArgumentError: as `class_output`.
    """
    pairs = label_pairs(labels)
    if pairs and not fits(network, pairs, background):
        classes = class_count(network) - background
        raise ShapeError(f"{network.name}: expected {classes} labels, one per class, got {len(pairs)}")
    return pairs


def one_output(model: AnyModel, name: str | None) -> AnyModel:
    """A model with a single output; arguments and errors as `ImageModel.with_output`."""
    network = model.interface
    classes = class_output(network) if name is None or model.labels else None
    name = name or cast("str", classes)
    if name not in network.output_shapes:
        raise ArgumentError(f"{network.name}: unknown output {name!r}; outputs: {output_names(network)}")
    if len(network.outputs) == 1:
        return model
    owned: dict[str, Any] = {} if name == classes else {"labels": (), "background": False}
    return model.cut_to(name, **owned)


@cache
def _numbers(count: int) -> tuple[Label, ...]:
    """Labels of classes without names."""
    return tuple(("", str(number)) for number in range(count))
