"""Detections: boxes with names on photographs, and the stream that makes them.

photograph (any size)  --stretched-->  network  -->  boxes and scores  --rule-->  boxes on the photograph
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from npmobilenet.detection.found import Found
from npmobilenet.errors import ImageError, NpMobileNetError
from npmobilenet.models.image_file import GRAY, RGB, upright
from npmobilenet.models.interface import Interface
from npmobilenet.models.preprocessing import ImageLike, Reading, network_pixels
from npmobilenet.models.resizing import STRETCH, resized_image
from npmobilenet.models.streaming import in_order, threads_for
from npmobilenet.types import Array

STRETCHED = ("keras", "keras-dataset")


@dataclass(frozen=True)
class Detection:
    """One object on a photograph.

    Attributes:
        box: left, top, right, bottom in pixels of the photograph, upright, within its sides.
        label: name of the category, or its number if it has none.
        score: in 0..1.
        category: number of the category, from 1; in networks for COCO, COCO's.
    """

    box: tuple[float, float, float, float]
    label: str
    score: float
    category: int


@dataclass(frozen=True, eq=False)
class Photograph:
    """An image as the network takes it, and the size that it had.

    Attributes:
        pixels: (H, W, C) of the network, in 0..255.
        size: (height, width) of the upright photograph.
    """

    pixels: Array
    size: tuple[int, int]


Boxes: TypeAlias = Callable[[Array, int, int], Array]
"""From boxes of a rule, and the height and width of a photograph, to (n, 4) left, top, right, bottom in its pixels."""


def photograph(image: ImageLike, network: Interface, how: Reading) -> Photograph:
    """Read one image for a detector; arguments and errors as `network_pixels`."""
    if isinstance(image, np.ndarray):
        pixels = network_pixels(image, network, how)
        return Photograph(pixels, (image.shape[0], image.shape[1]))
    H, W, C = network.input_shape
    with upright(image, GRAY if C == 1 else RGB, how.transparent_as) as opened:
        return Photograph(resized_image(opened, H, W, how.resize), (opened.height, opened.width))


def check_stretch(resize: str) -> None:
    """Raise ImageError unless a resize stretches the whole image, so that boxes can be taken back to it."""
    if resize not in STRETCHED and not resize.startswith(STRETCH):
        raise ImageError(
            f"resize '{resize}' cuts the image; a detector takes the whole: choose {', '.join(STRETCHED)} or {STRETCH}*"
        )


def detect_each(
    sources: Iterable[ImageLike],
    read: Callable[[ImageLike], Photograph],
    compute: Callable[[Array], Found],
    named: Callable[[Found, tuple[int, int]], list[Detection]],
    threads: int | None,
) -> Iterator[tuple[ImageLike, list[Detection] | NpMobileNetError]]:
    """Detections of any number of images in constant memory; a bad image does not affect the others.

    Args:
        sources: images; read a few ahead, in the caller's thread.
        read: from a source to what the network takes; called in other threads.
        compute: from pixels (1, H, W, C) to what was found; images one by one, so that no result depends on others.
        named: from what was found, and the size of the photograph, to detections.
        threads: maximum number of threads that decode; None for the default.

    Yields:
        (source, detections or error), in order.
    """

    def prepare(source: ImageLike) -> Photograph | NpMobileNetError:
        try:
            return read(source)
        except NpMobileNetError as error:
            return error

    for source, image in in_order(prepare, sources, threads_for(threads)):
        yield source, named(compute(image.pixels[None]), image.size) if isinstance(image, Photograph) else image


def name_detections(
    found: Found, boxes: Array, names: Sequence[str], *, threshold: float, top: int | None
) -> list[Detection]:
    """The detections of one image, the best first.

    Args:
        found: what was found.
        boxes: (n, 4) its boxes in pixels of the photograph.
        names: of the categories, from number 1.
        threshold: lowest score that is kept.
        top: largest number that is kept; None for all.
    """
    return [
        Detection(
            (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
            category_name(names, int(category)),
            float(score),
            int(category),
        )
        for box, category, score in zip(boxes, found.categories, found.scores, strict=True)
        if score >= threshold
    ][:top]


def category_name(names: Sequence[str], category: int) -> str:
    """Name of a category, or its number as text."""
    return (names[category - 1] if 0 < category <= len(names) else "") or str(category)
