"""A PyTorch file to a `Model`: which package's MobileNet it is, and what that package does otherwise than Keras.

The state dict does not specify everything: timm's tf_mobilenetv3_large_100 and mobilenetv3_large_100 have the same
arrays and another padding, epsilon and normalization. What tells them apart is timm's config.json next to the file,
else the file's name, as published; else it is assumed, and the assumption reported.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import floor
from pathlib import Path
from typing import Any

from npmobilenet.errors import WeightsError
from npmobilenet.models.class_names import LabelsLike, with_labels
from npmobilenet.models.detector import Detector
from npmobilenet.models.labels import Label, imagenet_labels
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Scaling
from npmobilenet.models.resizing import torch_resize
from npmobilenet.types import Array
from npmobilenet_weights_convert.keras_file import corruption_reported
from npmobilenet_weights_convert.recognize import DEFAULT_RESOLUTION, IMAGENET_CLASSES
from npmobilenet_weights_convert.torch_detector import is_torch_detector, torch_detector
from npmobilenet_weights_convert.torch_file import read_state_dict
from npmobilenet_weights_convert.torch_names import NetworkNames
from npmobilenet_weights_convert.torch_networks import Convention, is_minimal, recognize_torch, torch_network

IMAGENET = IMAGENET_MEAN, IMAGENET_STD
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
UNSCALED = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

PART = 0.875
"""Part of the short side that is kept: 224 of 256. timm's crop_pct."""
SHORT_SIDE_232 = ("7ebf99e0", "5c1a4163")
"""Hashes in the names of torchvision's IMAGENET1K_V2 files, whose images were resized to 232 instead of 256."""
TIMM_PARTS = {"mobilenetv1_125": 0.9, "mobilenetv3_large_100.ra4": 0.95}
"""crop_pct of timm's networks that have another one than `PART`, by the beginning of their names."""


@dataclass(frozen=True)
class Transform:
    """How a package prepares images: short side resized, center crop, pixels / 255 normalized."""

    mean: Sequence[float]
    std: Sequence[float]
    part: float
    crop: tuple[int, int]
    interpolation: str

    def resize_note(self, world: str) -> str:
        """How images are resized, in words."""
        name, is_exact = torch_resize(self.interpolation, self.part)
        nearest = "" if is_exact else f", for which {name} is used"
        return (
            f"images are resized as by {world}: short side to {floor(min(self.crop) / self.part)} "
            f"({self.interpolation}), center crop {self.crop[0]} x {self.crop[1]}{nearest}; images of this size are "
            "used unchanged (--resize changes it)"
        )

    def range_note(self, world: str) -> str:
        """How pixels are scaled, in words."""
        mean, std = (f"({', '.join(f'{value:g}' for value in values)})" for values in (self.mean, self.std))
        return f"pixels are normalized as by {world}: mean {mean}, std {std} (--range changes it)"


@dataclass(frozen=True)
class Published:
    """What is known about a file from outside of its arrays.

    Attributes:
        name: of the network, such as tf_mobilenetv3_large_100; "" if unknown.
        config: timm's pretrained_cfg.
        labels: class names, if the config has them.
    """

    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


def read_torch_model(
    path: Path, data: bytes, *, scaling: Scaling | None, labels: LabelsLike | None, resize: str | None
) -> Model:
    """Read a PyTorch file.

    Args:
        path: the file, for its name and a config.json next to it.
        data: its contents.
        scaling: from pixels in 0..255 to the network's input; by default the package's own.
        labels: one per class; by default the config's, or the ImageNet classes of a network with 1000 outputs.
        resize: how images are resized; by default the package's own rule.

    Raises:
        WeightsError: the file is corrupt, contains anything but tensors, or is no MobileNet of torchvision or timm.
    """
    with corruption_reported(str(path)):
        arrays = read_state_dict(data)
        detector = _detector(path, data, arrays) if is_torch_detector(arrays) else None
        if detector is None:
            names = recognize_torch(arrays)
            published = _published(path, names)
            convention = _convention(names, published)
            transform = _transform(names, published, path.name)
            graph, params = torch_network(names, arrays, convention, transform.crop)
    if detector is not None:
        return _as_asked(detector, scaling, labels, resize)
    classes = graph.output_shape[-1] if names.classifier else 0
    own: Sequence[str | Label] = published.labels if len(published.labels) == classes else ()
    own = own or (imagenet_labels() if classes == IMAGENET_CLASSES else ())
    padding = "TensorFlow's SAME padding" if convention.same else "symmetric padding"
    notes = [f"{names.world}'s network: {padding}, epsilon {convention.epsilon:g}"]
    if classes:
        notes.append(f"a {'softmax' if classes > 1 else 'sigmoid'} was appended to the classifier")
    source = {
        "file": path.name,
        "sha256": sha256(data).hexdigest(),
        "keras_version": "",
        "matched_by": f"{names.world}'s names",
        "notes": "; ".join(notes),
    }
    if assumed := _assumed(names, published):
        source["assumed"] = assumed
    if scaling is None:
        scaling = Scaling.normalizing(transform.mean, transform.std)
        source["range"] = transform.range_note(names.world)
    if resize is None:
        resize, _ = torch_resize(transform.interpolation, transform.part)
        source["resize"] = transform.resize_note(names.world)
    model = Model(graph, params, scaling, own, source=source, resize=resize)
    return model if labels is None else with_labels(model, labels)


def _detector(path: Path, data: bytes, arrays: Mapping[str, Array]) -> Detector:
    source = {
        "file": path.name,
        "sha256": sha256(data).hexdigest(),
        "keras_version": "",
        "matched_by": "torchvision's names",
        "notes": "torchvision's detector: symmetric padding, softmax, suppression per class; images are stretched",
    }
    return torch_detector(arrays, source)


def _as_asked(found: Detector, scaling: Scaling | None, labels: LabelsLike | None, resize: str | None) -> Detector:
    """A detector with what the caller specified."""
    if scaling is not None:
        found = replace(found, scaling=scaling)
    if resize is not None:
        found = replace(found, resize=resize)
    return found if labels is None else found.with_labels(labels)


def _published(path: Path, names: NetworkNames) -> Published:
    """timm's config.json in the file's folder, else the file's name."""
    name = path.name.lower() if names.arch.replace("_", "") in path.name.lower().replace("_", "") else ""
    try:
        document = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return Published(name)
    if names.world != "timm" or not isinstance(document, dict) or "architecture" not in document:
        return Published(name)
    config = document.get("pretrained_cfg", document)
    found = document.get("label_names") or config.get("label_names") or ()
    return Published(str(document["architecture"]).lower(), config, tuple(map(str, found)))


def _is_tensorflow(names: NetworkNames, published: Published) -> bool:
    """Whether it is one of timm's tf_*, whose weights were trained in TensorFlow."""
    return names.world == "timm" and (published.name.startswith("tf_") or is_minimal(names))


def _convention(names: NetworkNames, published: Published) -> Convention:
    if _is_tensorflow(names, published):
        return Convention(same=True, epsilon=1e-3)
    return Convention(same=False, epsilon=1e-3 if names.arch.startswith("mobilenet_v3") else 1e-5)


def _transform(names: NetworkNames, published: Published, file: str) -> Transform:
    crop = DEFAULT_RESOLUTION, DEFAULT_RESOLUTION
    if names.world == "torchvision":
        part = crop[0] / 232 if any(digest in file for digest in SHORT_SIDE_232) else PART
        return Transform(*IMAGENET, part, crop, "bilinear")
    mean, std = HALF if _is_tensorflow(names, published) or names.arch == "mobilenetv1" else IMAGENET
    interpolation = "bilinear" if _is_tensorflow(names, published) else "bicubic"
    if "miil" in published.name:
        (mean, std), interpolation = UNSCALED, "bilinear"
    if published.name.startswith("mobilenetv3_large_100.ra4"):
        mean, std = HALF
    config = published.config
    part = next((part for name, part in TIMM_PARTS.items() if published.name.startswith(name)), PART)
    try:
        mean, std = tuple(config.get("mean", mean)), tuple(config.get("std", std))
        crop = tuple(config.get("input_size", (3, *crop))[-2:])
        part = float(config.get("crop_pct", part))
        if not 0 < part <= 1:
            raise ValueError(f"expected crop_pct in (0, 1], got {part:g}")
        return Transform(mean, std, part, crop, str(config.get("interpolation", interpolation)))
    except (TypeError, ValueError) as error:
        raise WeightsError(f"config.json next to the file: {error}") from error


def _assumed(names: NetworkNames, published: Published) -> str:
    """What neither the arrays nor a name nor a config specify."""
    if names.world == "timm" and names.hidden is not None and not is_minimal(names) and not published.name:
        return (
            f"the file does not specify whether it is timm's {names.arch} or tf_{names.arch}, which pad and normalize "
            f"otherwise; {names.arch} is assumed. Put timm's config.json next to the file, or begin its name with the "
            "network's"
        )
    return ""
