"""Names out: from the probabilities of a network to the classes they stand for.

A label is a pair (wnid, text), as in Keras: the WordNet id of the class and its name, ("n02510455", "giant_panda").
Networks with classes of their own have no WordNet ids; theirs is "".
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from npmobilenet.errors import ShapeError

Label = tuple[str, str]

BACKGROUND: Label = ("", "background")  # output 0 of networks with 1001 classes, as TF-Slim and TFLite have them


@cache
def imagenet_labels() -> tuple[Label, ...]:
    """Return (wnid, label) of the 1000 ImageNet classes, in the order of the network's outputs.

    Spelled as Keras spells them (`Egyptian_cat`). WordNet ids are unique, labels are not: there are two cranes (a bird
    and a machine) and two maillots.

    Source: equal to Keras's imagenet_class_index.json; made by scripts/make_imagenet_classes.py.
    """
    from importlib.resources import files

    text = (files("npmobilenet") / "data" / "imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple((wnid, label) for wnid, label in (line.split() for line in text.splitlines()))


def label_pairs(labels: Sequence[str | Label]) -> tuple[Label, ...]:
    """Return labels as (wnid, label) pairs; a plain string gets the WordNet id "".

    Args:
        labels: one a class, each a name or a (wnid, name) pair.
    """
    return tuple(map(_pair, labels))


def _pair(label: str | Label) -> Label:
    return ("", label) if isinstance(label, str) else (label[0], label[1])


def decode_predictions(
    probabilities: ArrayLike,
    top: int = 5,
    labels: Sequence[str | Label] | None = None,
    *,
    background: bool = False,
) -> list[list[tuple[str, str, float]]]:
    """Return the most probable classes of each image, the best first.

    Equal probabilities come in the order of the network's outputs, NaN comes last. Where there are fewer than `top`
    classes, all of them are given.

    Args:
        probabilities: (N, classes) one row an image, as `Model.predict` returns them.
        top: how many classes to name for each image.
        labels: one a class, each a name or a (wnid, name) pair; the ImageNet classes where not given.
        background: output 0 means "none of the classes" and `labels` starts with output 1.

    Returns:
        For each image a list of (wnid, label, probability).

    Raises:
        ShapeError: probabilities is not 2-D, there is not one label a class, or top is below 1.
    """
    p = np.asarray(probabilities)
    if p.ndim != 2:
        raise ShapeError(
            f"decode_predictions: probabilities have shape {p.shape}; needed is (N, classes), one row an image"
            + (": give probabilities[None] for a single image" if p.ndim == 1 else "")
        )
    if top < 1:
        raise ShapeError(f"decode_predictions: top is {top}; at least 1 class has to be asked for")
    name = _names_of_outputs(p.shape[1], labels, background)
    best = np.argsort(-p.astype(np.float64), axis=1, kind="stable")[:, :top]  # (N, top)
    return [[(*name(output), float(row[output])) for output in outputs] for row, outputs in zip(p, best, strict=True)]


def _names_of_outputs(classes: int, labels: Sequence[str | Label] | None, background: bool) -> Callable[[int], Label]:
    """The label of an output by its number."""
    names = imagenet_labels() if labels is None else labels
    known = len(names) + background
    if known != classes:
        whose = "ImageNet has" if labels is None else "labels has"
        plus = " with the background" if background else ""
        raise ShapeError(
            f"decode_predictions: probabilities have {classes} classes, {whose} {known}{plus}; "
            + (
                "a network with a class for the background needs background=True"
                if classes == known + 1 and not background
                else "give labels=[...], one name a class"
            )
        )

    def name(output: int) -> Label:
        if background and output == 0:
            return BACKGROUND
        return _pair(names[output - background])

    return name
