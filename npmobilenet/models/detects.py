"""What every detector does with images, whatever computes its two outputs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from os import PathLike
from typing import Any, Self, cast

import numpy as np

from npmobilenet.detection.coco_names import COCO_NAMES
from npmobilenet.detection.found import Found
from npmobilenet.detection.worlds import Rule, rule_from_json, rule_to_json
from npmobilenet.errors import LabelFileError, NpMobileNetError, ShapeError
from npmobilenet.models.class_names import AnyModel, LabelsLike, with_labels
from npmobilenet.models.detections import (
    Detection,
    check_stretch,
    detect_each,
    name_detections,
    photograph,
)
from npmobilenet.models.image_file import WHITE
from npmobilenet.models.interface import Interface
from npmobilenet.models.label_file import read_labels
from npmobilenet.models.preprocessing import ImageLike, ImagesLike, Reading
from npmobilenet.types import Array, Outputs

WHOLE = "keras-dataset"  # stretched, bilinear, without antialiasing: as TensorFlow's and torchvision's detectors


class Detects:
    """A network whose outputs become boxes on photographs.

    Attributes:
        post_processing: anchors, box coder, and what of it is kept.
        category_names: of the categories, from number 1; "" for a number that is not in use.
    """

    post_processing: Rule
    category_names: Sequence[str]
    resize: str | None

    @property
    def interface(self) -> Interface:
        """The network seen from outside."""
        raise NotImplementedError

    def scale(self, pixels: Array) -> Array:
        """Pixels (N, H, W, C) in 0..255 as the network's input."""
        raise NotImplementedError

    def resize_rule(self, resize: str | None = None) -> str:
        """The resize: the requested one, or the model's own."""
        raise NotImplementedError

    def forward(self, x: Array, *, backend: str | None = None, threads: int | None = None) -> Outputs:
        """Box codes and scores, by the names of the outputs."""
        raise NotImplementedError

    @property
    def categories(self) -> int:
        """Number of categories: slots of the scores without the background."""
        _, scores = detector_outputs(self.interface)
        return self.interface.output_shapes[scores][1] - self.post_processing.background

    def settle(self) -> None:
        """Choose what is left open, the resize and the names, and check that everything fits.

        Raises:
            ShapeError: the outputs are no box codes and scores, or the anchors or names are of another number.
        """
        if self.post_processing is None:
            raise TypeError(f"a {type(self).__name__} needs its post-processing")
        codes, scores = detector_outputs(self.interface)
        anchors, _ = self.interface.output_shapes[scores]
        if len(self.post_processing.anchors) != anchors:
            raise ShapeError(
                f"{self.interface.name}: the rule has {len(self.post_processing.anchors)} anchors, the outputs {codes} "
                f"and {scores} have {anchors}"
            )
        names = tuple(self.category_names) or (COCO_NAMES if self.categories == len(COCO_NAMES) else ())
        if names and len(names) != self.categories:
            raise ShapeError(f"{self.interface.name}: expected {self.categories} names of categories, got {len(names)}")
        object.__setattr__(self, "category_names", names)
        if self.resize is None:
            object.__setattr__(self, "resize", WHOLE)

    def detection_to_json(self) -> dict[str, Any]:
        """Rule and names, which `detection_from_json` reads."""
        return {"rule": rule_to_json(self.post_processing), "names": list(self.category_names)}

    def found(self, x: Array, *, backend: str | None = None, threads: int | None = None) -> list[Found]:
        """What the rule finds in images (N, H, W, C) of the network's input; arguments and errors as `forward`."""
        outputs = self.forward(x, backend=backend, threads=threads)
        codes, scores = detector_outputs(self.interface)
        pairs = zip(outputs[codes].astype(np.float32), outputs[scores].astype(np.float32), strict=True)
        return [self.post_processing.found(*pair) for pair in pairs]

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
        changed: Self = replace(cast("Any", self), category_names=plain[len(plain) - self.categories :])
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
            boxes = self.post_processing.in_pixels(found.boxes, *size)
            return name_detections(found, boxes, self.category_names, threshold=threshold, top=top)

        return detect_each(sources, lambda image: photograph(image, self.interface, how), compute, named, threads)


def relabeled(model: AnyModel, labels: LabelsLike) -> AnyModel:
    """A model with other names: of a detector's categories, or of classes."""
    return model.with_labels(labels) if isinstance(model, Detects) else with_labels(model, labels)


def detection_from_json(document: Mapping[str, Any]) -> dict[str, Any]:
    """The rule and the names of a document of `detection_to_json`, as arguments of a detector."""
    names = tuple(map(str, document["names"]))
    return {"post_processing": rule_from_json(document["rule"]), "category_names": names}


def plain_fields(model: Any, kind: type[Any]) -> dict[str, Any]:
    """The arguments with which a model of the class `kind` is made again."""
    return {field.name: getattr(model, field.name) for field in fields(kind) if field.init}


def detector_outputs(network: Interface) -> tuple[str, str]:
    """Names of the outputs with box codes (A, 4) and with scores (A, slots).

    Raises:
        ShapeError: there are no such outputs, or it is not clear which is which.
    """
    shapes = network.output_shapes
    codes = [name for name, shape in shapes.items() if len(shape) == 2 and shape[1] == 4]
    if len(codes) == 2:
        codes = codes[:1]  # the scores of three classes and the background are four as well
    others = [name for name in shapes if name not in codes]
    if len(codes) == len(others) == 1 and shapes[others[0]][:-1] == shapes[codes[0]][:-1]:
        return codes[0], others[0]
    outputs = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    raise ShapeError(f"{network.name}: expected two outputs, box codes (A, 4) and scores (A, slots), got {outputs}")
