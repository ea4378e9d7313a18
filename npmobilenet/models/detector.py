"""A detector that computes with real numbers: a network with box codes and scores as outputs, and a rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from npmobilenet.detection.worlds import Rule
from npmobilenet.models.detects import Detects, detection_from_json, plain_fields
from npmobilenet.models.model import Model


@dataclass(frozen=True, eq=False, repr=False)
class Detector(Model, Detects):
    """A model whose two outputs, box codes (A, 4) and scores (A, slots), become boxes on photographs.

    Args:
        post_processing: anchors, box coder, and what of it is kept. Its number of anchors is that of the outputs.
        category_names: from number 1, one per slot without the background; "" for a number that is not in use. Empty:
            COCO's for 90, otherwise categories are called by their numbers.

    Raises:
        ShapeError: the outputs are no box codes and scores, or the anchors or names are of another number.
        As `Model`.
    """

    post_processing: Rule = None  # type: ignore[assignment]  # never absent; a field after those of Model needs a default
    category_names: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settle()

    @staticmethod
    def of(model: Model, post_processing: Rule, category_names: Sequence[str] = ()) -> "Detector":
        """A model with two outputs as a detector: a Keras backbone with heads of your own, for example."""
        plain = plain_fields(model, Model)
        return Detector(**plain, post_processing=post_processing, category_names=category_names)

    @staticmethod
    def opened(arguments: Mapping[str, Any]) -> "Detector":
        """The detector of a file: the arguments of `Model`, and the document `detection` that `save` wrote."""
        plain = {name: value for name, value in arguments.items() if name != "detection"}
        return Detector(**plain, **detection_from_json(arguments["detection"]))

    def file_fields(self) -> dict[str, Any]:
        """What the file holds, besides graph and tensors."""
        return super().file_fields() | {"detection": self.detection_to_json()}

    def cut_to(self, output: str, **changes: Any) -> Any:
        """The network with one output, no detector any more, and with fields changed."""
        return Model(**plain_fields(self, Model)).cut_to(output, **changes)
