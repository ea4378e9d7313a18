"""Mistakes in the position of sliding windows: padding, the phase of strides, and dilation."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from npmobilenet.analysis.segments import Segment, SegmentStep
from npmobilenet.porting.diagnose.mistakes.variants import Variant, in_place
from npmobilenet.reference.layer import Window
from npmobilenet.reference.layers import Conv2D, DepthwiseConv2D, ZeroPadding2D
from npmobilenet.reference.shapes import output_size, same_padding
from npmobilenet.types import Array, Pair

Pads = tuple[Pair, Pair]
"""Zeros around a map: ((top, bottom), (left, right)); a negative number crops."""

SLIM = "TensorFlow's SAME, as in TF-Slim; Keras's V1 pads at the end only, which differs on maps of odd size"


def paddings(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """Zeros elsewhere than TensorFlow places them, or windows that start at other pixels."""
    layer = step.layer
    if not isinstance(layer, Window) or layer.kernel_size == (1, 1) or step.before is not None:
        return
    source, own = padding_of(segment, layer)
    layers = (layer.name,) if source in layer.inputs else (*layer.inputs, layer.name)
    size, K, stride = segment.outputs[source].shape[1:3], layer.extent, layer.stride
    seen = {_grid(size, K, stride, own)}
    for cause, zeros, name in _paddings(size, layer, own, merged=source not in layer.inputs):
        grid = _grid(size, K, stride, zeros)
        if grid not in seen:
            seen.add(grid)
            what = f"padding {zeros} instead of {own}: {name}"
            yield Variant(cause, what, layers, {layer.name: (with_padding(step, source, zeros),)})
    for mode in ("edge", "reflect") if any(map(any, own)) else ():
        what = f"padding repeats pixels ({mode}) instead of zeros"
        yield Variant("padding", what, layers, {layer.name: (with_padding(step, source, own, mode),)})


def _paddings(size: tuple[int, ...], layer: Window, own: Pads, *, merged: bool) -> Iterator[tuple[str, Pads, str]]:
    """(cause, padding, description); `merged`: a ZeroPadding2D precedes the layer."""
    K, stride = layer.extent, layer.stride
    same = same_padding(size[0], K[0], stride), same_padding(size[1], K[1], stride)
    phase = "stride-phase" if stride > 1 else "padding"
    if merged:
        yield "same-padding", same, SLIM
    symmetric = (K[0] // 2, K[0] // 2), (K[1] // 2, K[1] // 2)
    yield "symmetric-padding", symmetric, f"symmetric, as PyTorch's padding={K[0] // 2}"
    yield "padding", same, "TensorFlow's SAME"
    yield "padding", (own[0][::-1], own[1][::-1]), "the odd zero at the start"
    yield "padding", ((0, 0), (0, 0)), "none"
    yield phase, _shifted(own, -1), "windows start one pixel later"
    yield phase, _shifted(own, 1), "windows start one pixel earlier"


def dilations(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """A dilated convolution with its taps closer together or farther apart, of the same output size."""
    layer = step.layer
    assert isinstance(layer, Conv2D | DepthwiseConv2D)
    if layer.dilation == 1 or layer.padding != "same" or step.before is not None:
        return
    for dilation in sorted({1, layer.dilation // 2, layer.dilation * 2} - {layer.dilation}):
        what = f"dilation {dilation} instead of {layer.dilation}"
        other = replace(layer, dilation=dilation)
        yield in_place(step, "dilation", what, SegmentStep(other, step.params))


def moved_zeros(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """A padding layer with zeros elsewhere; `paddings` covers those before a window."""
    layer = step.layer
    assert isinstance(layer, ZeroPadding2D)
    if any(isinstance(reader.layer, Window) for reader in segment.consumers(layer.name)):
        return
    (top, bottom), (left, right) = layer.padding
    side = max(top, bottom, left, right)
    paddings = (
        ("symmetric-padding", ((side, side), (side, side)), "symmetric"),
        ("padding", ((bottom, top), (right, left)), "the odd zero at the start"),
        ("padding", ((0, 0), (0, 0)), "none"),
    )
    for cause, zeros, name in paddings:
        if zeros != layer.padding:
            what = f"padding {zeros} instead of {layer.padding}: {name}"
            yield in_place(step, cause, what, SegmentStep(replace(layer, padding=zeros), {}))


def padding_of(segment: Segment, layer: Window) -> tuple[str, Pads]:
    """Name of the unpadded input of a window, and its padding, including that of a padding layer before it."""
    source = layer.inputs[0]
    (top, bottom), (left, right) = layer.zeros(segment.outputs[source].shape[1:])
    if source in segment and isinstance(pad := segment[source].layer, ZeroPadding2D):
        (above, below), (before, after) = pad.padding
        return pad.inputs[0], ((top + above, bottom + below), (left + before, right + after))
    return source, ((top, bottom), (left, right))


def with_padding(step: SegmentStep, source: str, zeros: Pads, mode: str = "constant") -> SegmentStep:
    """The step of a window that reads `source` with another padding."""
    assert isinstance(step.layer, Window)
    layer = replace(step.layer, padding="valid", inputs=(source,))
    return SegmentStep(layer, step.params, lambda x: _padded(x, zeros, mode))


def _shifted(zeros: Pads, by: int) -> Pads:
    (top, bottom), (left, right) = zeros
    return (top + by, bottom - by), (left + by, right - by)


def _grid(size: tuple[int, ...], K: Pair, stride: int, zeros: Pads) -> tuple[int, ...]:
    """Start and number of windows along each axis: paddings equal in both are equivalent."""
    sides = zip(size, K, zeros, strict=True)
    return tuple(number for n, k, pad in sides for number in (pad[0], output_size(n, k, stride, pad)))


def _padded(x: Array, zeros: Pads, mode: Any) -> Array:
    rows, columns = (slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(zeros, x.shape[1:3], strict=True))
    width = ((0, 0), *((max(a, 0), max(b, 0)) for a, b in zeros), (0, 0))
    y: Array = np.pad(x[:, rows, columns], width, mode=mode)
    return y
