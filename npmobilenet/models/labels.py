"""Labels: from the probabilities of a network to the names of its classes.

A label is a pair (wnid, text), as in Keras: the WordNet id of the class and its name, ("n02510455", "giant_panda").
Classes outside ImageNet have no WordNet id; theirs is "".
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from npmobilenet.errors import ShapeError

Label = tuple[str, str]

BACKGROUND: Label = ("", "background")  # output 0 of networks with 1001 classes, as TF-Slim and TFLite have them


@cache
def imagenet_labels() -> tuple[Label, ...]:
    """(wnid, label) of the 1000 ImageNet classes, in the order of the network's outputs.

    Spelled as in Keras (`Egyptian_cat`). WordNet ids are unique, labels are not: there are two cranes (a bird and a
    machine) and two maillots.

    Source: equal to Keras's imagenet_class_index.json; made by scripts/make_imagenet_classes.py.
    """
    from importlib.resources import files

    text = (files("npmobilenet") / "data" / "imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple((wnid, label) for wnid, label in (line.split() for line in text.splitlines()))


def label_pairs(labels: Sequence[str | Label]) -> tuple[Label, ...]:
    """Labels as (wnid, label) pairs; a plain string gets the WordNet id "".

    Args:
        labels: one per class, each a name or a (wnid, name) pair.
    """
    return tuple(("", label) if isinstance(label, str) else (label[0], label[1]) for label in labels)


def decode_predictions(
    probabilities: ArrayLike,
    top: int = 5,
    labels: Sequence[str | Label] | None = None,
    *,
    background: bool = False,
) -> list[list[tuple[str, str, float]]]:
    """Most probable classes of each image, the most probable first.

    Equal probabilities are in the order of the network's outputs, NaN is last. If there are fewer than `top` classes,
    all are returned.

    Args:
        probabilities: (N, classes) one row per image, as `Model.predict` returns them.
        top: number of classes per image.
        labels: one per class, each a name or a (wnid, name) pair; default: the ImageNet classes.
        background: output 0 means "none of the classes" and `labels` starts with output 1.

    Returns:
        For each image a list of (wnid, label, probability).

    Raises:
        ShapeError: probabilities is not 2-D, the number of labels is not that of the classes, or top is below 1.
    """
    names = imagenet_labels() if labels is None else label_pairs(labels)
    return top_classes(probabilities, top, names, background=background)


def top_classes(
    probabilities: ArrayLike, top: int, labels: Sequence[Label], *, background: bool
) -> list[list[tuple[str, str, float]]]:
    """`decode_predictions` for labels that are pairs already; arguments, result and errors are the same."""
    p = np.asarray(probabilities)
    if p.ndim != 2:
        raise ShapeError(
            f"decode_predictions: expected probabilities (N, classes), one row per image, got {p.shape}"
            + (": pass probabilities[None] for a single image" if p.ndim == 1 else "")
        )
    if not isinstance(top, int | np.integer) or top < 1:
        raise ShapeError(f"decode_predictions: expected an integer top of at least 1, got {top!r}")
    _check_labels(p.shape[1], labels, background)
    names = [BACKGROUND, *labels] if background else labels
    best = np.argsort(-p.astype(np.float64), axis=1, kind="stable")[:, :top]  # (N, top)
    return [[(*names[k], float(row[k])) for k in outputs] for row, outputs in zip(p, best, strict=True)]


def _check_labels(classes: int, labels: Sequence[Label], background: bool) -> None:
    known = len(labels) + background
    if known == classes:
        return
    which = "ImageNet" if labels is imagenet_labels() else "labels"
    plus = " with the background" if background else ""
    hint = (
        "for a network with a background class pass background=True"
        if classes == known + 1 and not background
        else "pass labels=[...], one name per class"
    )
    raise ShapeError(f"decode_predictions: probabilities have {classes} classes, {which} has {known}{plus}; {hint}")
