"""The two rules of post-processing under their names, as the file of a model keeps them."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

from npmobilenet.detection.tensorflow_rule import PostProcessing, TensorFlowRule
from npmobilenet.detection.torchvision_rule import TorchvisionRule

Rule: TypeAlias = TensorFlowRule | TorchvisionRule


def rule_to_json(rule: Rule) -> dict[str, Any]:
    """The rule as a JSON document, which `rule_from_json` reads."""
    world = "tensorflow" if isinstance(rule, TensorFlowRule) else "torchvision"
    return {"world": world, **asdict(rule)}


def rule_from_json(document: Mapping[str, Any]) -> Rule:
    """The rule of a document of `rule_to_json`.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    fields = {key: value for key, value in document.items() if key != "world"}
    fields["maps"] = tuple((int(H), int(W)) for H, W in fields["maps"])
    if document["world"] == "tensorflow":
        options = dict(fields["options"])
        options["scales"] = tuple(map(float, options["scales"]))
        return TensorFlowRule(fields["maps"], PostProcessing(**options))
    if document["world"] != "torchvision":
        raise ValueError(f"expected the world tensorflow or torchvision, got {document['world']!r}")
    H, W = fields["size"]
    return TorchvisionRule(**{**fields, "size": (int(H), int(W))})
