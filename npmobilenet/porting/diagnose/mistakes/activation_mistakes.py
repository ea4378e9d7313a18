"""Mistakes in activations: another function, none, one too many; and in rescaling layers."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from npmobilenet.analysis.segments import Segment, SegmentStep, chain, identity
from npmobilenet.porting.diagnose.mistakes.variants import Variant, in_place
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Multiply,
    Rescaling,
)

FUNCTIONS: dict[str, tuple[Layer, ...]] = {
    "linear": (Dropout(name=""),),
    "relu": (Activation(name="", activation="relu"),),
    "relu6": (Activation(name="", activation="relu6"),),
    "hard_swish": (Activation(name="", activation="hard_swish"),),
    "hard_sigmoid": (Activation(name="", activation="hard_sigmoid"),),
    "clip(0.2 x + 0.5, 0, 1)": (
        Rescaling(name="", scale=1.2, offset=3.0),
        Activation(name="", activation="relu6"),
        Rescaling(name="", scale=1 / 6),
    ),
    "sigmoid": (Activation(name="", activation="sigmoid"),),
    "softmax": (Activation(name="", activation="softmax"),),
}
GATED = {"x * clip(0.2 x + 0.5, 0, 1)": "clip(0.2 x + 0.5, 0, 1)", "swish": "sigmoid"}
RANGES = (("[0, 1]", 1 / 255, 0.0), ("[-1, 1]", 1 / 127.5, -1.0), ("0..255 / 128 - 1", 1 / 128, -1.0))
"""Common input ranges for pixels in 0..255: name, scale, offset."""


def activations(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """Another function, or none; also inside a convolution or dense layer with an activation of its own."""
    layer = step.layer
    assert isinstance(layer, Activation | Conv2D | DepthwiseConv2D | Dense)
    own = layer.activation
    before: tuple[SegmentStep, ...] = ()
    source = layer.inputs[0]
    if not isinstance(layer, Activation):
        if own == "linear":
            return
        source = f"{layer.name}+sums"
        before = (SegmentStep(replace(layer, name=source, activation="linear"), step.params, step.before),)
    yield from _other_functions(step, source, own, before)
    if own == "softmax":
        twice = chain(replace(layer, inputs=(source,)), *FUNCTIONS["softmax"] * 2)
        yield in_place(step, "doubled-softmax", "softmax applied twice", *before, *twice)


def _other_functions(
    step: SegmentStep, source: str, own: str, before: tuple[SegmentStep, ...] = ()
) -> Iterator[Variant]:
    """Every other function of `source` under the step's name, after the steps `before`."""
    name = step.layer.name
    layer = replace(step.layer, inputs=(source,))
    for other, layers in FUNCTIONS.items():
        if other != own:
            yield _function(step, own, other, *before, *chain(layer, *layers))
    for other, gate in GATED.items():
        gates = chain(replace(layer, name=f"{name}+gate"), *FUNCTIONS[gate])
        product = SegmentStep(Multiply(name=name, inputs=(source, f"{name}+gate")), {})
        yield _function(step, own, other, *before, *gates, product)


def _function(step: SegmentStep, own: str, other: str, *steps: SegmentStep) -> Variant:
    if other == "linear":
        cause = "missing-softmax" if own == "softmax" else "missing-activation"
        return in_place(step, cause, f"no {own}", *steps)
    cause = "hard-sigmoid" if "0.2" in other else "activation"
    return in_place(step, cause, f"{other} instead of {own}", *steps)


def extra_activations(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """An activation after a layer without one, such as a linear bottleneck or a residual sum."""
    layer = step.layer
    inside = getattr(layer, "activation", "linear")
    if inside != "linear" or any(
        isinstance(r.layer, Activation | BatchNormalization) for r in segment.consumers(layer.name)
    ):
        return
    bare = f"{layer.name}+linear"
    linear = SegmentStep(replace(layer, name=bare), step.params, step.before)
    for name in ("relu6", "relu", "hard_swish"):
        extra = SegmentStep(Activation(name=layer.name, activation=name, inputs=(bare,)), {})
        yield in_place(step, "extra-activation", f"{name} after a layer without an activation", linear, extra)


def rescalings(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """A rescaling left out or done twice; and another function for a hard sigmoid of three layers."""
    layer = step.layer
    assert isinstance(layer, Rescaling)
    source = _hard_sigmoid_input(segment, layer)
    if source is not None:
        yield from _other_functions(step, source, "hard_sigmoid")
    yield in_place(step, "rescaling", "rescaling missing", identity(layer))
    yield in_place(step, "rescaling", "rescaling done twice", *chain(layer, layer, layer))
    for name, scale, offset in RANGES:
        if not np.allclose((scale, offset), (layer.scale, layer.offset), rtol=1e-6):
            new = SegmentStep(replace(layer, scale=scale, offset=offset), {})
            yield in_place(step, "input-range", f"pixels scaled to {name}", new)


def _hard_sigmoid_input(segment: Segment, layer: Rescaling) -> str | None:
    """Name of x in relu6(x + 3) / 6 spelled as three layers, if `layer` is the last of them."""
    clip = segment[layer.inputs[0]].layer if layer.inputs[0] in segment else None
    if not (isinstance(clip, Activation) and clip.activation == "relu6" and clip.inputs[0] in segment):
        return None
    shift = segment[clip.inputs[0]].layer
    if not isinstance(shift, Rescaling):
        return None
    factors = (shift.scale, shift.offset, layer.scale, layer.offset)
    return shift.inputs[0] if np.allclose(factors, (1, 3, 1 / 6, 0), rtol=1e-6) else None
