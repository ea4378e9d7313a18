"""Rules: how each implementation of 8-bit arithmetic rounds. Operators take one as an argument.

All of them sum exactly and agree on what a result stands for; they differ in the last step, by 1 where they differ.
"""

from dataclasses import dataclass
from typing import Literal

Rounding = Literal["twice", "once", "up_twice", "float32", "float64", "mantissa"]
"""How an accumulator becomes an output, see `rescaling`: a multiplier of 31 bits, rounded twice, once, or twice with
halves up; a product in float32 or float64; a multiplier of 24 bits, rounded once."""


@dataclass(frozen=True)
class Rule:
    """One row of the table.

    Args:
        name: for people and commands.
        followed_by: whose arithmetic this is.
        convolution: standard and depthwise convolution.
        dense: fully connected layers.
        elementwise: products, averages over axes, RELU and RELU6 of their own, change of scale.
        add: sums of two tensors: with multipliers rounded twice or once, or XNNPACK's with a common shift.
        logistic: a table of 256 values, computed in float32 or in float64, or fixed point with 4 integer bits.
        hard_swish: precision of sx / sy: float32 or float64.
        relu6: with a change of scale, or a clip of the integers alone.
        softmax: fixed point with 5 integer bits, or a table of exponentials in float32.
    """

    name: str
    followed_by: str
    convolution: Rounding = "twice"
    dense: Rounding = "float64"
    elementwise: Literal["twice", "once", "float32"] = "twice"
    add: Literal["twice", "once", "common_shift"] = "twice"
    logistic: Literal["float32", "float64", "fixed_point"] = "float32"
    hard_swish: Literal["float32", "float64"] = "float32"
    relu6: Literal["rescaled", "clipped"] = "rescaled"
    softmax: Literal["fixed_point", "table"] = "fixed_point"


RULES = {
    rule.name: rule
    for rule in (
        Rule("tflite", "TensorFlow Lite's reference kernels, and tf.lite without a delegate"),
        Rule(
            "xnnpack",
            "LiteRT as it runs by default, on x86 and for int8 on ARM",
            convolution="float32",
            dense="float32",
            elementwise="float32",
            add="common_shift",
            logistic="float64",
            softmax="table",
        ),
        Rule(
            "tflm",
            "TensorFlow Lite Micro, and CMSIS-NN as it is built by default",
            dense="twice",
            logistic="fixed_point",
            hard_swish="float64",
            relu6="clipped",
        ),
        Rule(
            "single",
            "builds with TFLITE_SINGLE_ROUNDING or CMSIS_NN_USE_SINGLE_ROUNDING",
            convolution="once",
            dense="once",
            elementwise="once",
            add="once",
        ),
        Rule(
            "neon",
            "TensorFlow Lite's optimized convolutions and dense layers without a delegate",
            convolution="up_twice",
            dense="up_twice",
        ),
        Rule(
            "xnnpack-arm-uint8",
            "LiteRT as it runs by default, for uint8 on ARM (read in its source, not run)",
            convolution="mantissa",
            dense="mantissa",
            elementwise="float32",
            add="common_shift",
            logistic="float64",
            softmax="table",
        ),
    )
}
TFLITE = RULES["tflite"]


def find_rule(name: str) -> Rule:
    """A rule by its name.

    Raises:
        ArgumentError: there is none of that name.
    """
    from npmobilenet.errors import ArgumentError

    if name not in RULES:
        raise ArgumentError(f"unknown rule {name!r}; expected {', '.join(RULES)}")
    return RULES[name]
