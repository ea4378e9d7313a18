"""Mistakes in which channels, taps, rows or columns a loop visits: shifted by one, or the last one left out."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from npmobilenet.analysis.segments import Segment, SegmentStep, identity
from npmobilenet.porting.diagnose.mistakes.applied import followed_by, preceded_by, rolled
from npmobilenet.porting.diagnose.mistakes.variants import Variant, in_place, with_params
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import BatchNormalization, DepthwiseConv2D
from npmobilenet.types import Array

VECTORS = (4, 8, 16, 32)
"""Channels that a vectorized loop takes at a time; what remains may be forgotten."""


def shifted_arrays(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """Weights, a bias, or arrays of a batch norm, shifted by one channel."""
    for by in (1, -1):
        toward = f"by {abs(by)} channel{'s' * (abs(by) > 1)} {'up' if by > 0 else 'down'}"
        for name, array in step.params.items():
            if array.ndim == 1:
                cause = "bias" if name == "bias" else "batch-norm-arrays"
                yield with_params(step, cause, f"{name} shifted {toward}", **{name: np.roll(array, by)})
        if isinstance(step.layer, BatchNormalization):
            arrays = {name: np.roll(array, by) for name, array in step.params.items()}
            yield with_params(step, "channels-shifted", f"all arrays shifted {toward}", **arrays)
        elif "kernel" in step.params:
            kernel = step.params["kernel"]
            axis = 2 if isinstance(step.layer, DepthwiseConv2D) else kernel.ndim - 1
            filters = np.roll(kernel, by, axis)
            yield with_params(step, "channels-shifted", f"filters shifted {toward}", kernel=filters)
        yield in_place(
            step, "channels-shifted", f"output shifted {toward}",
            *followed_by(step, rolled(by), moves=rolled(by)),
        )  # fmt: skip
        if len(step.layer.inputs) == 1:
            yield in_place(
                step, "channels-shifted", f"input shifted {toward}",
                *preceded_by(step, rolled(by), moves=rolled(by)),
            )  # fmt: skip


def left_out(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """Channels, taps, rows or columns that a loop does not reach."""
    layer, y = step.layer, segment.outputs[step.layer.name]
    C = y.shape[-1]
    for start, end, what in _channel_ranges(C):
        keep = _keep(C, start, end)
        steps = followed_by(step, lambda x, keep=keep: x * keep)
        yield in_place(step, "not-computed", f"output {what} left at 0", *steps)
    if "kernel" in step.params:
        yield from _inputs_left_out(step, layer)
        yield from _taps_left_out(step)
    if y.ndim == 4:
        for what, keep in _borders(y.shape[1], y.shape[2]).items():
            steps = followed_by(step, lambda x, keep=keep: x * keep)
            yield in_place(step, "not-computed", f"{what} of the output left at 0", *steps)


def _inputs_left_out(step: SegmentStep, layer: Layer) -> Iterator[Variant]:
    kernel = step.params["kernel"]
    if isinstance(layer, DepthwiseConv2D):
        return
    C = kernel.shape[-2]
    for start, end, what in _channel_ranges(C):
        kept = kernel * _keep(C, start, end)[:, None]
        yield with_params(step, "not-computed", f"input {what} left out of the sums", kernel=kept)


def _taps_left_out(step: SegmentStep) -> Iterator[Variant]:
    kernel = step.params["kernel"]
    if kernel.ndim != 4 or kernel.shape[:2] == (1, 1):
        return
    H, W = kernel.shape[:2]
    ranges: Mapping[str, tuple[slice, slice]] = {
        "the last row and column of taps": (slice(0, H - 1), slice(0, W - 1)),
        "the last row of taps": (slice(0, H - 1), slice(None)),
        "the last column of taps": (slice(None), slice(0, W - 1)),
        "the first row of taps": (slice(1, H), slice(None)),
        "the first column of taps": (slice(None), slice(1, W)),
        "all taps but the inner ones": (slice(1, H - 1), slice(1, W - 1)),
    }
    for what, kept in ranges.items():
        new = np.zeros_like(kernel)
        new[kept] = kernel[kept]
        yield with_params(step, "not-computed", f"{what} left out", kernel=new)


def _channel_ranges(C: int) -> Iterator[tuple[int, int, str]]:
    """(first, end, description) of channels that may be forgotten."""
    if C < 2:
        return
    yield C - 1, C, "channel (the last)"
    yield 0, 1, "channel (the first)"
    for size in VECTORS:
        if 1 < C % size < C:
            yield C - C % size, C, f"channels (the last {C % size}, what remains after groups of {size})"
    yield C // 2, C, "channels (the second half)"


def _keep(C: int, start: int, end: int) -> Array:
    places = np.arange(C)
    return ((places < start) | (places >= end)).astype(np.float64)


def _borders(H: int, W: int) -> dict[str, Array]:
    if H < 2 or W < 2:
        return {}
    last, first = slice(-1, None), slice(0, 1)
    cleared: dict[str, tuple[tuple[slice, ...], ...]] = {
        "last row": ((last,),),
        "last column": ((slice(None), last),),
        "last row and column": ((last,), (slice(None), last)),
        "first row": ((first,),),
        "first column": ((slice(None), first),),
        "border": ((last,), (first,), (slice(None), last), (slice(None), first)),
    }
    found = {}
    for what, lines in cleared.items():
        mask = np.ones((H, W, 1))
        for line in lines:
            mask[line] = 0
        found[what] = mask
    return found


def repeated_layers(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """A layer that was skipped, or done twice."""
    layer = step.layer
    x, y = segment.outputs[layer.inputs[0]], segment.outputs[layer.name]
    if x.shape != y.shape or len(layer.inputs) != 1:
        return
    yield in_place(step, "missing-layer", "layer left out: its input is passed on", identity(layer))
    first = f"{layer.name}+first"
    once = SegmentStep(replace(layer, name=first), step.params, step.before)
    again = SegmentStep(replace(layer, inputs=(first,)), step.params, step.before)
    yield in_place(step, "layer-twice", "layer applied twice", once, again)
