"""A detector: a network with box codes and scores as outputs, and the rule that makes boxes of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike
from typing import Any

import numpy as np

from npmobilenet.detection.coco_names import COCO_NAMES
from npmobilenet.detection.found import Found
from npmobilenet.detection.rules import Rule, rule_from_json, rule_to_json
from npmobilenet.errors import LabelFileError, NpMobileNetError, ShapeError
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
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import ImageLike, ImagesLike, Reading
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array

WHOLE = "keras-dataset"  # stretched, bilinear, without antialiasing: as TensorFlow's and torchvision's detectors


@dataclass(frozen=True, eq=False, repr=False)
class Detector(Model):
    """A model whose two outputs, box codes (A, 4) and scores (A, slots), become boxes on photographs.

    Args:
        rule: anchors, box coder, and what of it is kept. Its number of anchors is that of the outputs.
        names: of the categories, from number 1, as many as there are slots without the background; "" for a number
            that is not in use. Empty: COCO's for 91 slots, otherwise categories are called by their numbers.

    Raises:
        ShapeError: the outputs are no box codes and scores, or the anchors or names are of another number.
        As `Model`.
    """

    rule: Rule = None  # type: ignore[assignment]  # never absent; a field after those of Model needs a default
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.rule is None:
            raise TypeError("a Detector needs a rule")
        if self.resize is None:
            object.__setattr__(self, "resize", WHOLE)
        super().__post_init__()
        codes, scores = detector_outputs(self.graph)
        anchors, slots = self.graph.output_shapes[scores]
        if len(self.rule.anchors) != anchors:
            raise ShapeError(
                f"{self.graph.name}: the rule has {len(self.rule.anchors)} anchors, the outputs {codes} and {scores} "
                f"have {anchors}"
            )
        if not self.names and slots - 1 == len(COCO_NAMES):
            object.__setattr__(self, "names", COCO_NAMES)
        if self.names and len(self.names) != slots - 1:
            raise ShapeError(f"{self.graph.name}: expected {slots - 1} names, got {len(self.names)}")

    @staticmethod
    def of(model: Model, rule: Rule, names: Sequence[str] = ()) -> "Detector":
        """A model with two outputs as a detector: a Keras backbone with heads of your own, for example."""
        plain = {field.name: getattr(model, field.name) for field in fields(Model) if field.init}
        return Detector(**plain, rule=rule, names=names)

    @staticmethod
    def opened(arguments: Mapping[str, Any]) -> "Detector":
        """The detector of a file: the arguments of `Model`, and the document `detection` that `save` wrote."""
        document = arguments["detection"]
        plain = {name: value for name, value in arguments.items() if name != "detection"}
        return Detector(**plain, rule=rule_from_json(document["rule"]), names=tuple(map(str, document["names"])))

    def file_fields(self) -> dict[str, Any]:
        """What the file holds, besides graph and tensors."""
        detection = {"rule": rule_to_json(self.rule), "names": list(self.names)}
        return super().file_fields() | {"detection": detection}

    def with_output(self, name: str | None = None) -> Model:
        """The network with a single output, no detector any more; arguments and errors as `Model.with_output`."""
        plain = {field.name: getattr(self, field.name) for field in fields(Model) if field.init}
        return Model(**plain).with_output(name)

    def with_labels(self, labels: LabelsLike) -> "Detector":
        """The detector with other names of categories.

        Args:
            labels: one per slot, or one per slot without the background; or a label file.

        Raises:
            LabelFileError: the file cannot be read, or the number of names is another one.
        """
        named = read_labels(labels) if isinstance(labels, str | PathLike) else labels
        plain = tuple(name if isinstance(name, str) else name[1] for name in named)
        slots = self.graph.output_shapes[detector_outputs(self.graph)[1]][1]
        if len(plain) not in (slots, slots - 1):
            where = labels if isinstance(labels, str | PathLike) else self.graph.name
            raise LabelFileError(f"{where}: expected {slots - 1} names of categories, got {len(plain)}")
        return replace(self, names=plain[len(plain) - slots + 1 :])

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

        def compute(pixels: Array) -> list[Found]:
            return self.found(self.scale(pixels), backend=backend, threads=threads)

        def named(found: Found, size: tuple[int, int]) -> list[Detection]:
            boxes = self.rule.in_pixels(found.boxes, *size)
            return name_detections(found, boxes, self.names, threshold=threshold, top=top)

        return detect_each(sources, lambda image: photograph(image, self.graph, how), compute, named, threads)

    def found(self, x: Array, *, backend: str | None = None, threads: int | None = None) -> list[Found]:
        """What the rule finds in scaled images (N, H, W, C), one by one; arguments and errors as `forward`."""
        outputs = self.forward(x, backend=backend, threads=threads)
        codes, scores = detector_outputs(self.graph)
        pairs = zip(outputs[codes].astype(np.float32), outputs[scores].astype(np.float32), strict=True)
        return [self.rule.found(*pair) for pair in pairs]


def detector_outputs(graph: Graph) -> tuple[str, str]:
    """Names of the outputs with box codes (A, 4) and with scores (A, slots).

    Raises:
        ShapeError: there are no such outputs, or it is not clear which is which.
    """
    shapes = graph.output_shapes
    codes = [name for name, shape in shapes.items() if len(shape) == 2 and shape[1] == 4]
    if "boxes" in codes:
        codes = ["boxes"]  # the scores of three classes and the background are four as well
    others = [name for name in shapes if name not in codes]
    if len(codes) == len(others) == 1 and shapes[others[0]][:-1] == shapes[codes[0]][:-1]:
        return codes[0], others[0]
    outputs = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    raise ShapeError(f"{graph.name}: expected two outputs, box codes (A, 4) and scores (A, slots), got {outputs}")
