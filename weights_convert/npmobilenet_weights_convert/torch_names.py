"""Where torchvision and timm keep the arrays of a MobileNet: names of a state dict, by their place in the network.

torchvision V2   features.0.0 (conv), features.0.1 (batch norm); features.3.conv.0.0; features.18.0; classifier.1
torchvision V3   features.0.0; features.3.block.0.0, block.2.fc1, ...; features.16.0; classifier.0, classifier.3
timm             conv_stem, bn1; blocks.2.1.conv_pw, bn1, conv_dw, bn2, se.conv_reduce, conv_pwl, bn3; conv_head;
                 classifier
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

ConvNorm = tuple[str, str]
"""A convolution and the batch normalization after it."""


@dataclass(frozen=True)
class BlockNames:
    """A block: every unit that it has; V1's and the first block's pointwise convolution is `project`."""

    depthwise: ConvNorm
    project: ConvNorm
    expand: ConvNorm | None = None
    squeeze: tuple[str, str] | None = None  # two convolutions with bias


@dataclass(frozen=True)
class NetworkNames:
    """A network. `stages` counts the blocks of every stage, where the names tell them apart."""

    world: str
    arch: str
    stem: ConvNorm
    blocks: tuple[BlockNames, ...]
    stages: tuple[int, ...] | None
    last: ConvNorm | None
    hidden: str | None
    classifier: str | None


def network_names(names: Collection[str]) -> NetworkNames | None:
    """The names of a MobileNet's units in a state dict; None if the state dict is of neither package."""
    if "features.0.0.weight" in names:
        return _torchvision(names)
    return _timm(names) if "conv_stem.weight" in names else None


def _torchvision(names: Collection[str]) -> NetworkNames | None:
    numbers = sorted({int(found[1]) for name in names if (found := re.match(r"features\.(\d+)\.", name))})
    is_v3 = any(".block." in name for name in names)
    blocks = [_torchvision_v3_block(names, i) if is_v3 else _torchvision_v2_block(names, i) for i in numbers[1:-1]]
    known = tuple(block for block in blocks if block is not None)
    if len(known) < len(blocks) or not known:
        return None
    last = f"features.{numbers[-1]}"
    classifier = "classifier.3" if is_v3 else "classifier.1"
    arch = ("mobilenet_v3_large" if len(known) > 11 else "mobilenet_v3_small") if is_v3 else "mobilenet_v2"
    return NetworkNames(
        "torchvision", arch, ("features.0.0", "features.0.1"), known, None, (f"{last}.0", f"{last}.1"),
        "classifier.0" if is_v3 else None, classifier if f"{classifier}.weight" in names else None,
    )  # fmt: skip


def _torchvision_v2_block(names: Collection[str], i: int) -> BlockNames | None:
    p = f"features.{i}.conv"
    if f"{p}.3.weight" in names:
        return BlockNames((f"{p}.1.0", f"{p}.1.1"), (f"{p}.2", f"{p}.3"), (f"{p}.0.0", f"{p}.0.1"))
    return BlockNames((f"{p}.0.0", f"{p}.0.1"), (f"{p}.1", f"{p}.2")) if f"{p}.2.weight" in names else None


def _torchvision_v3_block(names: Collection[str], i: int) -> BlockNames | None:
    p = f"features.{i}.block"
    units = [f"{p}.{j}" for j in range(4) if f"{p}.{j}.0.weight" in names]
    gates = [f"{p}.{j}" for j in range(4) if f"{p}.{j}.fc1.weight" in names]
    squeeze = (f"{gates[0]}.fc1", f"{gates[0]}.fc2") if gates else None
    pairs = [(f"{unit}.0", f"{unit}.1") for unit in units]
    if len(pairs) == 3:
        return BlockNames(pairs[1], pairs[2], pairs[0], squeeze)
    return BlockNames(pairs[0], pairs[1], None, squeeze) if len(pairs) == 2 else None


def _timm(names: Collection[str]) -> NetworkNames | None:
    places = sorted({(int(m[1]), int(m[2])) for name in names if (m := re.match(r"blocks\.(\d+)\.(\d+)\.", name))})
    last: ConvNorm | None = None
    if places and f"blocks.{places[-1][0]}.{places[-1][1]}.conv.weight" in names:
        p = "blocks.{}.{}".format(*places.pop())
        last = f"{p}.conv", f"{p}.bn1"
    blocks = tuple(_timm_block(names, f"blocks.{stage}.{i}") for stage, i in places)
    if not blocks or any(f"{unit}.weight" not in names for b in blocks for unit in (b.depthwise[0], b.project[0])):
        return None
    hidden = None
    if last is not None:
        arch = "mobilenetv3_large" if len(blocks) > 11 else "mobilenetv3_small"
        hidden = "conv_head" if "conv_head.weight" in names else None
    else:
        arch = "mobilenetv2" if any(block.expand for block in blocks) else "mobilenetv1"
        last = ("conv_head", "bn2") if "conv_head.weight" in names else None
    stages = tuple(sum(stage == s for stage, _ in places) for s in range(places[-1][0] + 1))
    classifier = "classifier" if "classifier.weight" in names else None
    return NetworkNames("timm", arch, ("conv_stem", "bn1"), blocks, stages, last, hidden, classifier)


def _timm_block(names: Collection[str], p: str) -> BlockNames:
    se = f"{p}.se.conv_reduce"
    squeeze = (se, f"{p}.se.conv_expand") if f"{se}.weight" in names else None
    if f"{p}.conv_pwl.weight" in names:
        expand = f"{p}.conv_pw", f"{p}.bn1"
        return BlockNames((f"{p}.conv_dw", f"{p}.bn2"), (f"{p}.conv_pwl", f"{p}.bn3"), expand, squeeze)
    return BlockNames((f"{p}.conv_dw", f"{p}.bn1"), (f"{p}.conv_pw", f"{p}.bn2"), None, squeeze)
