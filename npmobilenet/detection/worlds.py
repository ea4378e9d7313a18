"""The two rules of post-processing, and how the file of a model keeps them."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
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
        y, x, h, w = map(float, options.pop("scales"))
        checked = PostProcessing(**_checked(options, PostProcessing), scales=(y, x, h, w))
        return TensorFlowRule(anchors.astype(np.float32), checked, **_checked(fields, TensorFlowRule))
    H, W = fields.pop("size")
    return TorchvisionRule(anchors.astype(np.float32), (int(H), int(W)), **_checked(fields, TorchvisionRule))


def _checked(values: Mapping[str, Any], kind: type[Any]) -> Mapping[str, Any]:
    """Values of fields, each of the type of the field's default, and numbers of boxes and classes positive.

    Raises:
        KeyError, TypeError, ValueError: another field, type or number.
    """
    defaults = {field.name: field.default for field in dataclass_fields(kind)}
    for name, value in values.items():
        if type(value) is not type(defaults[name]):
            raise TypeError(f"{name}: expected {type(defaults[name]).__name__}, got {value!r}")
        if type(value) is int and value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    return values
