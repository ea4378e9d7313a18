"""Rarer mistakes, tried if the common ones do not explain a layer."""

from collections.abc import Callable, Iterator

import numpy as np

from npmobilenet.analysis.segments import Segment, SegmentStep
from npmobilenet.porting.diagnose.mistakes.channel_mistakes import left_out, repeated_layers, shifted_arrays
from npmobilenet.porting.diagnose.mistakes.fitted_functions import fitted_functions
from npmobilenet.porting.diagnose.mistakes.fitted_mistakes import affine
from npmobilenet.porting.diagnose.mistakes.foreign_mistakes import Surroundings, foreign
from npmobilenet.porting.diagnose.mistakes.formula_mistakes import (
    bias_after_activation,
    normalizations,
    other_functions,
    softmaxes,
)
from npmobilenet.porting.diagnose.mistakes.variants import Altered, Variant, with_params
from npmobilenet.porting.diagnose.mistakes.window_loops import means, padding_values, strides
from npmobilenet.types import Array

BITS = (8, 7, 4)
FRACTIONS = (4, 5, 6, 7, 8, 10, 12)


def quantized_weights(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """Kernels rounded to few bits with one scale, or one per channel; or to a fixed point."""
    if "kernel" not in step.params:
        return
    w = step.params["kernel"]
    depthwise = step.layer.type == "DepthwiseConv2D"
    axes = tuple(range(2)) if depthwise else tuple(range(w.ndim - 1))
    for bits in BITS:
        for where, largest in (
            ("one scale", np.abs(w).max()),
            ("a scale per channel", np.abs(w).max(axes, keepdims=True)),
        ):
            scale = np.maximum(largest, 1e-30) / (2 ** (bits - 1) - 1)
            what = f"kernel rounded to {bits} bits with {where}"
            yield with_params(step, "quantized-weights", what, kernel=np.rint(w / scale) * scale)
    for bits in FRACTIONS:
        what = f"kernel rounded to multiples of 2**-{bits}"
        yield with_params(step, "quantized-weights", what, kernel=np.rint(w * 2**bits) / 2**bits)
        yield with_params(
            step,
            "quantized-weights",
            f"kernel cut off to multiples of 2**-{bits}",
            kernel=np.trunc(w * 2**bits) / 2**bits,
        )


IN_LAYERS: tuple[Callable[[Segment, SegmentStep], Iterator[Variant]], ...] = (
    normalizations,
    softmaxes,
    padding_values,
    means,
    strides,
    repeated_layers,
    other_functions,
    bias_after_activation,
    shifted_arrays,
    left_out,
    quantized_weights,
)


def further(segment: Segment, actual: Array, surroundings: Surroundings) -> Iterator[Altered]:
    """Every rarer mistake in a segment, those with numbers fitted to the port's output last."""
    yield from fitted_functions(segment, actual)
    for variants in IN_LAYERS:
        for step in segment.steps:
            for variant in variants(segment, step):
                yield Altered(variant.cause, variant.what, variant.layers, segment.altered(variant.steps))
    yield from foreign(segment, surroundings)
    if actual.shape == segment.y.shape:
        yield from affine(segment, actual)
