"""All mistakes inside layers: by layer type, in every layer of a segment at once or in one of them.

A function of the `*_mistakes` modules takes a step of a segment and yields `Variant`s: the steps that would replace it
if the mistake had been made. Nothing is judged there. In a segment with several layers of a type the mistake is made
in all of them, as a wrong epsilon usually is, and also in each of them alone.
"""

from collections.abc import Callable, Iterable, Iterator

from npmobilenet.analysis.segments import Segment, SegmentStep
from npmobilenet.porting.diagnose.mistakes.activation_mistakes import activations, extra_activations, rescalings
from npmobilenet.porting.diagnose.mistakes.variants import Altered, Variant
from npmobilenet.porting.diagnose.mistakes.weight_mistakes import batch_norms, biases, kernels
from npmobilenet.porting.diagnose.mistakes.window_mistakes import dilations, moved_zeros, paddings
from npmobilenet.porting.diagnose.mistakes.wiring_mistakes import joints, orders, poolings
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePooling2D,
    Multiply,
    Rescaling,
    Reshape,
    ZeroPadding2D,
)

Variants = Callable[[Segment, SegmentStep], Iterator[Variant]]
WEIGHTED = (Conv2D, DepthwiseConv2D, Dense)
MISTAKES: tuple[tuple[tuple[type[Layer], ...], Variants], ...] = (
    ((Conv2D, DepthwiseConv2D), paddings),
    ((Conv2D, DepthwiseConv2D), dilations),
    ((ZeroPadding2D,), moved_zeros),
    ((BatchNormalization,), batch_norms),
    ((Activation, *WEIGHTED), activations),
    ((Rescaling,), rescalings),
    ((Add, Multiply), joints),
    (WEIGHTED, biases),
    (WEIGHTED, kernels),
    ((GlobalAveragePooling2D, AveragePooling2D), poolings),
    ((Flatten, Reshape), orders),
    ((BatchNormalization, Add, *WEIGHTED), extra_activations),
)
"""Layer types, and the mistakes that can be made in them, the most common first."""


def everywhere(segment: Segment) -> Iterator[Altered]:
    """Every mistake that could have been made in the segment, each in all layers where it is possible."""
    for variants in _grouped(segment):
        yield _altered(segment, variants)


def alone(segment: Segment) -> Iterator[Altered]:
    """The same mistakes in one of several layers where they are possible."""
    for variants in _grouped(segment):
        if len(variants) > 1:
            yield from (_altered(segment, [variant]) for variant in variants)


def _grouped(segment: Segment) -> Iterable[list[Variant]]:
    groups: dict[tuple[str, str], list[Variant]] = {}
    for variant in _variants(segment):
        groups.setdefault((variant.cause, variant.what), []).append(variant)
    return groups.values()


def _altered(segment: Segment, variants: list[Variant]) -> Altered:
    steps = {name: new for variant in variants for name, new in variant.steps.items()}
    layers = tuple(dict.fromkeys(layer for variant in variants for layer in variant.layers))
    return Altered(variants[0].cause, variants[0].what, layers, segment.altered(steps))


def _variants(segment: Segment) -> Iterator[Variant]:
    for types, variants_of in MISTAKES:
        for step in segment.steps:
            if isinstance(step.layer, types):
                yield from variants_of(segment, step)
