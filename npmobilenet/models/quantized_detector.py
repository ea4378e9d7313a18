"""A detector on integers: a quantized network with box codes and scores as outputs, and a rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from npmobilenet.detection.worlds import Rule
from npmobilenet.models.detects import Detects, detection_from_json, plain_fields
from npmobilenet.models.quantized_model import QuantizedModel


@dataclass(frozen=True, eq=False, repr=False)
class QuantizedDetector(QuantizedModel, Detects):
    """A quantized model whose two outputs become boxes on photographs.

    Codes and scores are the real numbers, float32, that the integers of the outputs stand for, as for TensorFlow Lite's
    operator.

    Args:
        post_processing, category_names: as of `Detector`.

    Raises:
        As `QuantizedModel` and `Detector`.
    """

    post_processing: Rule = None  # type: ignore[assignment]  # never absent; a field after others needs a default
    category_names: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settle()

    @staticmethod
    def of(model: QuantizedModel, post_processing: Rule, category_names: Sequence[str] = ()) -> "QuantizedDetector":
        """A quantized model with two outputs as a detector."""
        plain = plain_fields(model, QuantizedModel)
        return QuantizedDetector(**plain, post_processing=post_processing, category_names=category_names)

    @staticmethod
    def opened(arguments: Mapping[str, Any]) -> "QuantizedDetector":
        """The detector of a file: the arguments of `QuantizedModel`, and the document `detection` that `save` wrote."""
        plain = {name: value for name, value in arguments.items() if name != "detection"}
        return QuantizedDetector(**plain, **detection_from_json(arguments["detection"]))

    def file_fields(self) -> dict[str, Any]:
        """What the file holds, besides the network."""
        return super().file_fields() | {"detection": self.detection_to_json()}

    def cut_to(self, output: str, **changes: Any) -> Any:
        """The network with one output, no detector any more, and with fields changed."""
        return QuantizedModel(**plain_fields(self, QuantizedModel)).cut_to(output, **changes)
