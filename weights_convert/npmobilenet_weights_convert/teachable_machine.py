"""Teachable Machine's exports: keras_model.h5, recognized by its structure, and the pixels of its sample script."""

from typing import Any

TEACHABLE_MACHINE_RESIZE = "teachable-machine"
TEACHABLE_MACHINE_NOTES = {
    "range": "pixels are scaled to [-1, 1] (--range changes it)",
    "resize": "images are resized as by Teachable Machine's sample script: cover, center crop, Lanczos (--resize "
    "changes it)",
}
FUNCTIONAL = ("Functional", "Model")


def is_teachable_machine(config: dict[str, Any] | None) -> bool:
    """Whether a config is that of a Teachable Machine export.

    It is a Sequential of two: MobileNetV2 as a functional model with GlobalAveragePooling2D, and the trained head, a
    Dense with ReLU and a Dense with softmax and no bias.
    """
    outer = _layers(config)
    if [kind for kind, _ in outer] != ["Sequential", "Sequential"]:
        return False
    base, head = (_layers({"class_name": kind, "config": inner}) for kind, inner in outer)
    if [kind for kind, _ in head] != ["Dense", "Dense"] or len(base) != 2:
        return False
    (network, _), (pooling, _) = base
    (_, hidden), (_, classifier) = head
    return (
        network in FUNCTIONAL
        and pooling == "GlobalAveragePooling2D"
        and hidden.get("activation") == "relu"
        and classifier.get("activation") == "softmax"
        and not classifier.get("use_bias", True)
    )


def _layers(entry: dict[str, Any] | None) -> list[tuple[str, dict[str, Any]]]:
    """(class, config) of the layers of a Sequential, its input layer left out; empty for anything else."""
    inner = (entry or {}).get("config")
    if (entry or {}).get("class_name") != "Sequential" or not isinstance(inner, dict | list):
        return []
    layers = inner if isinstance(inner, list) else inner.get("layers") or []  # a list until Keras 2.2.2
    return [(layer["class_name"], layer["config"]) for layer in layers if layer["class_name"] != "InputLayer"]
