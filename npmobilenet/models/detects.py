"""What every detector does with images, whatever computes its two outputs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, Self, cast

from npmobilenet.detection.found import Found
from npmobilenet.detection.worlds import Rule
from npmobilenet.errors import LabelFileError, NpMobileNetError
from npmobilenet.models.class_names import LabelsLike
from npmobilenet.models.detections import (
    Detection,
    check_stretch,
    detect_each,
    name_detections,
    photograph,
)
from npmobilenet.models.image_file import WHITE
from npmobilenet.models.label_file import read_labels
from npmobilenet.models.preprocessing import ImageLike, ImagesLike, Reading
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array


class Detects:
    """A network whose outputs become boxes on photographs.

    Attributes:
        rule: anchors, box coder, and what of it is kept.
        names: of the categories, from number 1; "" for a number that is not in use.
    """

    rule: Rule
    names: Sequence[str]

    @property
    def interface(self) -> Graph:
        """The network seen from outside."""
        raise NotImplementedError

    @property
    def categories(self) -> int:
        """Number of categories: slots of the scores without the background."""
        raise NotImplementedError

    def scale(self, pixels: Array) -> Array:
        """Pixels (N, H, W, C) in 0..255 as the network's input."""
        raise NotImplementedError

    def resize_rule(self, resize: str | None = None) -> str:
        """The resize: the requested one, or the model's own."""
        raise NotImplementedError

    def found(self, x: Array, *, backend: str | None = None, threads: int | None = None) -> list[Found]:
        """What the rule finds in each image of the network's input."""
        raise NotImplementedError

    def with_labels(self, labels: LabelsLike) -> Self:
        """The detector with other names of categories.

        Args:
            labels: one per category, with or without one for the background before them; or a label file.

        Raises:
            LabelFileError: the file cannot be read, or the number of names is another one.
        """
        named = read_labels(labels) if isinstance(labels, str | PathLike) else labels
        plain = tuple(name if isinstance(name, str) else name[1] for name in named)
        if len(plain) not in (self.categories, self.categories + 1):
            where = f"{labels}: " if isinstance(labels, str | PathLike) else ""
            raise LabelFileError(f"{where}expected {self.categories} names of categories, got {len(plain)}")
        changed: Self = replace(cast("Any", self), names=plain[len(plain) - self.categories :])
        return changed

    def detect(
        self,
        images: ImagesLike,
        *,
        threshold: float = 0.0,
        top: int | None = None,
        resize: str | None = None,
        backend: str | None = None,
        threads: int | None = None,
    ) -> list[list[Detection]]:
        """Objects on images.

        Args:
            images: as for `predict`; the whole image is stretched to the network's size.
            threshold: lowest score; the rule has one of its own.
            top: largest number per image; None for all that the rule keeps.
            resize: one that stretches; None for the model's own.
            backend, threads: as `predict`.

        Returns:
            For each image its detections, the best first.

        Raises:
            ImageError: an image cannot be read, or the resize cuts it.
            As `predict`.
        """
        from npmobilenet.models.streaming import each_image

        found = []
        for _, result in self.detect_each(
            each_image(images), threshold=threshold, top=top, resize=resize, backend=backend, threads=threads
        ):
            if isinstance(result, NpMobileNetError):
                raise result
            found.append(result)
        return found

    def detect_each(
        self,
        sources: Iterable[ImageLike],
        *,
        threshold: float = 0.0,
        top: int | None = None,
        resize: str | None = None,
        backend: str | None = None,
        threads: int | None = None,
        transparent_as: str | None = WHITE,
    ) -> Iterator[tuple[ImageLike, list[Detection] | NpMobileNetError]]:
        """Objects on any number of images in constant memory; other arguments and errors as `detect`.

        Args:
            sources: as for `predict_each`.
            transparent_as: as for `predict_each`.

        Yields:
            (source, detections), or the error of an image that cannot be read, in order.
        """
        how = Reading(self.resize_rule(resize), transparent_as=transparent_as)
        how.check()
        check_stretch(how.resize)

        def compute(pixels: Array) -> Found:
            (found,) = self.found(self.scale(pixels), backend=backend, threads=threads)
            return found

        def named(found: Found, size: tuple[int, int]) -> list[Detection]:
            boxes = self.rule.in_pixels(found.boxes, *size)
            return name_detections(found, boxes, self.names, threshold=threshold, top=top)

        return detect_each(sources, lambda image: photograph(image, self.interface, how), compute, named, threads)
