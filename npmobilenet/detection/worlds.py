"""The two rules of post-processing, and how the file of a model keeps them."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from npmobilenet.detection.tensorflow_rule import PostProcessing, TensorFlowRule
from npmobilenet.detection.torchvision_rule import TorchvisionRule

Rule: TypeAlias = TensorFlowRule | TorchvisionRule

WORLDS: dict[str, type[Rule]] = {"tensorflow": TensorFlowRule, "torchvision": TorchvisionRule}


def rule_to_json(rule: Rule) -> dict[str, Any]:
    """The rule as a JSON document, which `rule_from_json` reads; anchors are float32, little endian, in base 64."""
    document = {"world": next(world for world, kind in WORLDS.items() if isinstance(rule, kind)), **vars(rule)}
    document["anchors"] = b64encode(rule.anchors.astype("<f4").tobytes()).decode()
    if isinstance(rule, TensorFlowRule):
        document["options"] = vars(rule.options)
    return document


def rule_from_json(document: Mapping[str, Any]) -> Rule:
    """The rule of a document of `rule_to_json`.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    fields = dict(document)
    kind = WORLDS[fields.pop("world")]
    anchors = np.frombuffer(b64decode(fields.pop("anchors"), validate=True), "<f4").reshape(-1, 4)
    if not np.isfinite(anchors).all():
        raise ValueError("anchors that are not finite")
    if kind is TensorFlowRule:
        options = dict(fields.pop("options"))
        options["scales"] = tuple(map(float, options["scales"]))
        return TensorFlowRule(anchors.astype(np.float32), PostProcessing(**options), **fields)
    H, W = fields.pop("size")
    return TorchvisionRule(anchors.astype(np.float32), (int(H), int(W)), **fields)
