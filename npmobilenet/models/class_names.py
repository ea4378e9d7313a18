"""Names of a network's classes: one per output, or two for a network with one sigmoid output."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from os import PathLike
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from npmobilenet.errors import LabelFileError
from npmobilenet.models.label_file import read_labels
from npmobilenet.models.labels import Label, top_classes
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array

if TYPE_CHECKING:
    from npmobilenet.models.model import Model

LabelsLike: TypeAlias = Sequence[str | Label] | str | PathLike[str]

ONE_CLASS: tuple[Label, ...] = (("", "class 1"),)  # the class whose probability one sigmoid output is


def is_binary(graph: Graph) -> bool:
    """Whether a network ends in one sigmoid: the probability p of class 1, so that 1 - p is that of class 0."""
    return graph.output_shape == (1,) and getattr(graph.layers[-1], "activation", "") == "sigmoid"


def fits(graph: Graph, labels: Sequence[str | Label], background: bool) -> bool:
    """Whether the number of labels is the number of classes."""
    return len(labels) == graph.output_shape[-1] - background or (is_binary(graph) and len(labels) == 2)


def named(
    graph: Graph, probabilities: Array, top: int, labels: Sequence[Label], background: bool
) -> list[list[tuple[str, str, float]]]:
    """The `top` classes of every row (N, outputs), by label or number, the most probable first."""
    if is_binary(graph):
        if len(labels) == 2:
            probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)  # (N, 2)
        labels = labels or ONE_CLASS
    return top_classes(
        probabilities, top, labels or _numbers(graph.output_shape[-1] - background), background=background
    )


def with_labels(model: "Model", labels: LabelsLike) -> "Model":
    """A model with other class names.

    Args:
        model: the model.
        labels: one per class, each a name or a (wnid, name) pair; or a label file, see `read_labels`, which may name
            the background class or leave it out.

    Raises:
        LabelFileError: the file cannot be read, or has another number of names than the model has classes.
        ShapeError: the number of labels is not the number of classes, or the network has no classifier.
    """
    model.check_classifier()
    names = read_labels(labels) if isinstance(labels, str | PathLike) else labels
    for background in (model.background, False):
        if fits(model.graph, names, background):
            return replace(model, labels=names, background=background)
    if not isinstance(labels, str | PathLike):
        return replace(model, labels=names)  # raises
    classes = model.graph.output_shape[-1] - model.background
    raise LabelFileError(
        f"{labels}: {len(names)} names, but {model.graph.name} has {classes} {'class' if classes == 1 else 'classes'}; "
        "expected one name per class, in the order of the network's outputs"
    )


@cache
def _numbers(count: int) -> tuple[Label, ...]:
    """Labels of classes without names."""
    return tuple(("", str(number)) for number in range(count))
