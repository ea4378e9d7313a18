"""A detector: a network with box codes and scores as outputs, and the rule that makes boxes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from npmobilenet.detection.coco_names import COCO_NAMES
from npmobilenet.detection.found import Found
from npmobilenet.detection.worlds import Rule, rule_from_json, rule_to_json
from npmobilenet.errors import ShapeError
from npmobilenet.models.detects import Detects
from npmobilenet.models.model import Model
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array

WHOLE = "keras-dataset"  # stretched, bilinear, without antialiasing: as TensorFlow's and torchvision's detectors


@dataclass(frozen=True, eq=False, repr=False)
class Detector(Model, Detects):
    """A model whose two outputs, box codes (A, 4) and scores (A, slots), become boxes on photographs.

    Args:
        rule: anchors, box coder, and what of it is kept. Its number of anchors is that of the outputs.
        names: of the categories, from number 1: one per slot without the background; "" for a number that is not in
            use. Empty: COCO's for 91 slots, otherwise categories are called by their numbers.

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
        anchors, _ = self.graph.output_shapes[scores]
        if len(self.rule.anchors) != anchors:
            raise ShapeError(
                f"{self.graph.name}: the rule has {len(self.rule.anchors)} anchors, the outputs {codes} and {scores} "
                f"have {anchors}"
            )
        object.__setattr__(self, "names", checked_names(self.graph.name, self.names, self.categories))

    @property
    def interface(self) -> Graph:
        """The network seen from outside."""
        return self.graph

    @property
    def categories(self) -> int:
        """Number of categories: slots of the scores without the background."""
        _, scores = detector_outputs(self.graph)
        return self.graph.output_shapes[scores][1] - self.rule.background

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

    def found(self, x: Array, *, backend: str | None = None, threads: int | None = None) -> list[Found]:
        """What the rule finds in scaled images (N, H, W, C), one by one; arguments and errors as `forward`."""
        outputs = self.forward(x, backend=backend, threads=threads)
        codes, scores = detector_outputs(self.graph)
        pairs = zip(outputs[codes].astype(np.float32), outputs[scores].astype(np.float32), strict=True)
        return [self.rule.found(*pair) for pair in pairs]


def checked_names(network: str, names: Sequence[str], categories: int) -> tuple[str, ...]:
    """Names of the categories: those given, or COCO's for 90, or none.

    Raises:
        ShapeError: another number of names.
    """
    if not names:
        return COCO_NAMES if categories == len(COCO_NAMES) else ()
    if len(names) != categories:
        raise ShapeError(f"{network}: expected {categories} names of categories, got {len(names)}")
    return tuple(names)


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
