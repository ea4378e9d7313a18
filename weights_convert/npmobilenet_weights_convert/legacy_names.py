"""Names in files of earlier versions of Keras, and their current names."""

import re

Rules = tuple[tuple[str, str], ...]  # (pattern, replacement)

LEGACY_NAMES: dict[str, Rules] = {
    "MobileNetV2 of 2018": (
        (r"mobl0_conv_0_(depthwise|project)", r"expanded_conv_\1"),
        (r"bn0_conv_0_bn_(depthwise|project)", r"expanded_conv_\1_BN"),
        (r"mobl(\d+)_conv_\1_(expand|depthwise|project)", r"block_\1_\2"),
        (r"bn(\d+)_conv_\1_bn_(expand|depthwise|project)", r"block_\1_\2_BN"),
        (r"Logits", r"predictions"),
    ),
    "MobileNetV3 of 2020": (
        (r"Conv(_\d)?", r"conv\1"),
        (r"Conv(_\d)?/BatchNorm", r"conv\1_bn"),
        (r"(expanded_conv(?:_\d+)?)/(expand|depthwise|project)", r"\1_\2"),
        (r"(expanded_conv(?:_\d+)?)/(expand|depthwise|project)/BatchNorm", r"\1_\2_bn"),
        (r"(expanded_conv(?:_\d+)?)/squeeze_excite/Conv(_1)?", r"\1_squeeze_excite_conv\2"),
        (r"Logits", r"logits"),
    ),
}
"""Patterns of layer names, and the current names, by the network and the year of its published files."""

ARRAY_NAMES = {"depthwise_conv2d": {"kernel": ("kernel", "depthwise_kernel")}}
"""Accepted array names by class of layer, where they differ: Keras 2 names a depthwise kernel `depthwise_kernel`."""


def current_name(name: str, rules: Rules) -> str:
    """Current name of a layer; unchanged if no rule matches."""
    for pattern, replacement in rules:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    return name
