"""Half precision: weights or activations rounded to float16 or bfloat16."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from npmobilenet.analysis.segments import Segment, SegmentStep, Storage, identity
from npmobilenet.compiler.passes import scale_and_shift
from npmobilenet.porting.diagnose.mistakes.variants import Altered
from npmobilenet.reference.layers import BatchNormalization, Conv2D, Dense, DepthwiseConv2D
from npmobilenet.types import Array, Params


def round_float16(x: Array) -> Array:
    """The nearest float16 numbers, as float64."""
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float64)


def round_bfloat16(x: Array) -> Array:
    """The nearest bfloat16 numbers, ties to even, as float64: a float32 whose lower 16 bits are 0."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(x), rounded.view(np.float32), x).astype(np.float64)


def truncate_bfloat16(x: Array) -> Array:
    """The bfloat16 numbers that many ports make, as float64: a float32 with its lower 16 bits cleared."""
    bits = x.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(x), bits.view(np.float32), x).astype(np.float64)


FLOAT16 = Storage("float16", 2.0**-11, 2.0**-25, round_float16)
BFLOAT16 = Storage("bfloat16", 2.0**-8, 2.0**-134, round_bfloat16)
TRUNCATED_BFLOAT16 = replace(BFLOAT16, unit=2.0**-7, round=truncate_bfloat16)


def stored_as(values: Array) -> tuple[Storage, ...]:
    """Ways of rounding to the narrowest format that represents every value exactly; none for trivial arrays."""
    if np.unique(values).size < 8:
        return ()
    if np.array_equal(round_bfloat16(values), values, equal_nan=True):
        return BFLOAT16, TRUNCATED_BFLOAT16
    return (FLOAT16,) if np.array_equal(round_float16(values), values, equal_nan=True) else ()


def roundings(segment: Segment, actual: Array) -> Iterator[Altered]:
    """Weights rounded; activations rounded, if the format represents the port's values (N, ...); or both."""
    stored = stored_as(actual)
    layers = segment.layers or (segment.output,)
    for storage in stored:
        cause = f"{storage.name}-activations"
        inside = replace(segment, storage=storage, parent=None)
        yield Altered(
            cause, f"output rounded to {storage.name}", (segment.output,), replace(inside, stored_inside=False)
        )
        if len(segment.steps) > 1:
            yield Altered(cause, f"activations rounded to {storage.name}", layers, inside)
    for storage, how in ((FLOAT16, "rounded to"), (BFLOAT16, "rounded to"), (TRUNCATED_BFLOAT16, "truncated to")):
        for where, touched, weights in _with_rounded_weights(segment, storage):
            what = f"{where} {how} {storage.name}"
            yield Altered(f"{storage.name}-weights", what, touched, weights)
            if storage in stored:
                both = replace(weights, storage=storage, parent=None)
                yield Altered(f"{storage.name}-weights", f"{what}, activations too", layers, both)


def _with_rounded_weights(segment: Segment, storage: Storage) -> Iterator[tuple[str, tuple[str, ...], Segment]]:
    """(description, layers, segment): kernels in all layers and in each; all arrays; all arrays after folding."""
    kernels = {
        step.layer.name: [_rounded(step, storage, ("kernel",))] for step in segment.steps if "kernel" in step.params
    }
    if kernels:
        yield "kernels", tuple(kernels), segment.altered(kernels)
    if len(kernels) > 1:
        yield from (("kernel", (name,), segment.altered({name: new})) for name, new in kernels.items())
    if any(name != "kernel" for step in segment.steps for name in step.params):
        layers = tuple(step.layer.name for step in segment.steps if step.params)
        yield "weights", layers, _all_rounded(segment, storage)
    folds = _folds(segment)
    if folds:
        folded = segment.altered(folds)
        yield "folded weights", tuple(folds), replace(_all_rounded(folded, storage), parent=segment)


def _all_rounded(segment: Segment, storage: Storage) -> Segment:
    steps = {step.layer.name: [_rounded(step, storage, tuple(step.params))] for step in segment.steps if step.params}
    return segment.altered(steps)


def _rounded(step: SegmentStep, storage: Storage, names: tuple[str, ...]) -> SegmentStep:
    rounded = {name: storage.round(step.params[name]) for name in names}
    return SegmentStep(step.layer, {**step.params, **rounded}, step.before)


def _folds(segment: Segment) -> dict[str, list[SegmentStep]]:
    """Replacement steps by name for every batch norm that can be folded, and its convolution."""
    steps: dict[str, list[SegmentStep]] = {}
    for step in segment.steps:
        norm, source = step.layer, step.layer.inputs[0]
        if isinstance(norm, BatchNormalization) and source in segment:
            conv = _folded(segment[source], norm, step.params)
            if conv is not None:
                steps |= {source: [conv], norm.name: [identity(norm)]}
    return steps


def _folded(conv: SegmentStep, norm: BatchNormalization, params: Params) -> SegmentStep | None:
    """A convolution or dense layer with a batch norm folded into its kernel and bias, None if it has an activation."""
    layer = conv.layer
    if not isinstance(layer, Conv2D | DepthwiseConv2D | Dense) or layer.activation != "linear":
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        scale, shift = scale_and_shift(params, norm.epsilon)  # (C,) each
    w, bias = conv.params["kernel"], conv.params.get("bias", np.zeros(1)) * scale + shift
    kernel = w * scale.reshape(w.shape[2:]) if isinstance(layer, DepthwiseConv2D) else w * scale
    return SegmentStep(replace(layer, use_bias=True), {"kernel": kernel, "bias": bias}, conv.before)
