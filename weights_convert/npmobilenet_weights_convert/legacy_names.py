"""Names of earlier Keras versions, and the current ones.

Weight files keep the names of the year when they were written; Keras itself loads them by order.
"""

import re

LEGACY_NAMES: dict[str, tuple[tuple[str, str], ...]] = {
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
"""Layer names of earlier Keras versions by family: patterns, and the current name."""

LEAVES = {"depthwise_conv2d": {"kernel": ("kernel", "depthwise_kernel")}}
"""Array names by layer class: the current name, and all accepted ones; Keras 2 has `depthwise_kernel`."""


def current_name(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    """The current name of a layer by the rules of one family; the name itself if no rule applies."""
    for pattern, replacement in rules:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    return name
