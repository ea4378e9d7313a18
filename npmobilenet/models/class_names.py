"""Names of a network's classes: one per value of its output, or two for a single sigmoid."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from npmobilenet.errors import ArgumentError, LabelFileError
from npmobilenet.models.label_file import read_labels
from npmobilenet.models.labels import Label, top_classes
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.transforms import subgraph_to
from npmobilenet.types import Array

if TYPE_CHECKING:
    from npmobilenet.models.model import Model

LabelsLike: TypeAlias = Sequence[str | Label] | str | PathLike[str]

ONE_CLASS: tuple[Label, ...] = (("", "class 1"),)  # the class whose probability one sigmoid output is


def class_output(graph: Graph) -> str:
    """Name of the output that holds classes: of several the only softmax over a vector, or else the only vector.

    Raises:
        ArgumentError: there are several, or none; the message names all outputs.
    """
    if len(graph.outputs) == 1:
        return graph.outputs[0][0]
    vectors = {layer: name for name, layer in reversed(graph.outputs) if len(graph.shapes[layer]) == 1}
    softmax = [name for layer, name in vectors.items() if getattr(graph[layer], "activation", "") == "softmax"]
    found = softmax or list(vectors.values())
    if len(found) == 1:
        return found[0]
    outputs = ", ".join(f"{name} {shape}" for name, shape in graph.output_shapes.items())
    raise ArgumentError(
        f"{graph.name} has {len(graph.outputs)} outputs, it is not clear which holds classes: {outputs}"
    )


def class_count(graph: Graph) -> int:
    """Number of values of the output that holds classes; errors as `class_output`."""
    return graph.output_shapes[class_output(graph)][-1]


def is_binary(graph: Graph) -> bool:
    """Whether the classes are one sigmoid: the probability p of class 1, so that 1 - p is that of class 0."""
    output = class_output(graph)
    sigmoid = getattr(graph[dict(graph.outputs)[output]], "activation", "") == "sigmoid"
    return sigmoid and graph.output_shapes[output] == (1,)


def fits(graph: Graph, labels: Sequence[str | Label], background: bool) -> bool:
    """Whether the number of labels is the number of classes; errors as `class_output`."""
    return len(labels) == class_count(graph) - background or (is_binary(graph) and len(labels) == 2)


def named(
    graph: Graph, probabilities: Array, top: int, labels: Sequence[Label], background: bool
) -> list[list[tuple[str, str, float]]]:
    """The `top` classes of every row (N, outputs), by label or number, the most probable first."""
    if is_binary(graph):
        if len(labels) == 2:
            probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)  # (N, 2)
        labels = labels or ONE_CLASS
    return top_classes(probabilities, top, labels or _numbers(class_count(graph) - background), background=background)


def with_labels(model: "Model", labels: LabelsLike) -> "Model":
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
    names = read_labels(labels) if isinstance(labels, str | PathLike) else labels
    for background in (model.background, False):
        if fits(model.graph, names, background):
            return replace(model, labels=names, background=background)
    if not isinstance(labels, str | PathLike):
        return replace(model, labels=names)  # raises
    classes = class_count(model.graph) - model.background
    raise LabelFileError(
        f"{labels}: {len(names)} names, but {model.graph.name} has {classes} {'class' if classes == 1 else 'classes'}; "
        "expected one name per class, in the order of the network's outputs"
    )


def one_output(model: "Model", name: str | None) -> "Model":
    """A model with a single output; arguments and errors as `Model.with_output`."""
    layers = dict(model.graph.outputs)
    classes = class_output(model.graph) if name is None or model.labels else None
    name = classes if name is None else name
    if name not in layers:
        raise ArgumentError(f"{model.graph.name}: unknown output {name!r}; outputs: {model.graph.output_names}")
    if len(layers) == 1:
        return model
    graph = replace(subgraph_to(model.graph, layers[name]), outputs=((name, layers[name]),))
    params = {array: model.params[array] for array in graph.param_shapes}
    owned: dict[str, Any] = {} if name == classes else {"labels": (), "background": False}
    one = replace(model, graph=graph, params=params, **owned)
    one.__dict__["engines"] = model.engines  # by layer, so that every call finds the same
    return one


@cache
def _numbers(count: int) -> tuple[Label, ...]:
    """Labels of classes without names."""
    return tuple(("", str(number)) for number in range(count))
