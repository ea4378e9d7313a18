"""Mistakes in which windows slide, and over what a mean is taken."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from npmobilenet.analysis.segments import Segment, SegmentStep
from npmobilenet.porting.diagnose.mistakes.applied import Applied, Function
from npmobilenet.porting.diagnose.mistakes.variants import Variant, in_place, scaled
from npmobilenet.porting.diagnose.mistakes.window_mistakes import Pads, padding_of
from npmobilenet.reference.layer import Window
from npmobilenet.reference.layers import Conv2D, DepthwiseConv2D, GlobalAveragePooling2D
from npmobilenet.reference.shapes import same_padding
from npmobilenet.types import Array

VALUES = (-1.0, 1.0, 0.5, -0.5, 128.0, 127.5, 255.0, -128.0, 6.0, 1e-3)
"""Numbers with which maps are padded by mistake; any other is fitted."""


def padding_values(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """Another number than zero around the map."""
    layer = step.layer
    if not isinstance(layer, Window) or step.before is not None:
        return
    source, zeros = padding_of(segment, layer)
    if not any(map(any, zeros)):
        return
    for value in VALUES:
        yield padded_with(step, source, zeros, value, layer.inputs if source not in layer.inputs else ())
    x = segment.outputs[source]
    mean, least = x.mean(), x.min()
    for number, name in (
        (mean, "the mean of the map"),
        (least, "the least value of the map"),
        (x.max(), "the largest value of the map"),
    ):
        if number:
            yield padded_with(
                step, source, zeros, float(number), layer.inputs if source not in layer.inputs else (), name
            )
    yield _wrapped(step, source, zeros)


def padded_with(
    step: SegmentStep, source: str, zeros: Pads, value: float, pads: tuple[str, ...] = (), name: str = ""
) -> Variant:
    """The window on a map padded with a number."""
    layer = step.layer
    assert isinstance(layer, Window)
    width = ((0, 0), *((max(a, 0), max(b, 0)) for a, b in zeros), (0, 0))
    padded = Applied(
        name=f"{layer.name}+padded", inputs=(source,), function=lambda x: np.pad(x, width, constant_values=value),
        moves=lambda error: np.pad(error, width),
    )  # fmt: skip
    window = SegmentStep(replace(layer, padding="valid", inputs=(padded.name,)), step.params)
    what = f"padding of {value:.6g} instead of 0{': ' + name if name else ''}"
    return Variant("padding-value", what, (*pads, layer.name), {layer.name: (SegmentStep(padded, {}), window)})


def _wrapped(step: SegmentStep, source: str, zeros: Pads) -> Variant:
    layer = step.layer
    assert isinstance(layer, Window)
    width = ((0, 0), *((max(a, 0), max(b, 0)) for a, b in zeros), (0, 0))
    padded = Applied(
        name=f"{layer.name}+padded", inputs=(source,), function=lambda x: np.pad(x, width, mode="wrap"),
        moves=lambda error: np.pad(error, width, mode="wrap"),
    )  # fmt: skip
    window = SegmentStep(replace(layer, padding="valid", inputs=(padded.name,)), step.params)
    what = "the map wraps around: reads past a row's end reach the next row's start"
    return Variant("padding", what, (layer.name,), {layer.name: (SegmentStep(padded, {}), window)})


def strides(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """Dilation for stride, or another stride along with it."""
    layer = step.layer
    if not isinstance(layer, Conv2D | DepthwiseConv2D) or step.before is not None or layer.kernel_size == (1, 1):
        return
    source, zeros = padding_of(segment, layer)
    size = segment.outputs[source].shape[1:3]
    for stride, dilation in {(layer.stride, 2), (1, 2), (1, layer.stride), (2, 1), (1, 1), (layer.stride, 3)} - {
        (layer.stride, layer.dilation)
    }:
        changed = replace(layer, stride=stride, dilation=dilation, padding="valid", inputs=(source,))
        K = changed.extent
        same = same_padding(size[0], K[0], stride), same_padding(size[1], K[1], stride)
        (top, bottom), (left, right) = zeros
        h, w = ((k - 1) // 2 for k in layer.kernel_size)
        more = (top + h, bottom + h), (left + w, right + w)
        for pads in dict.fromkeys((same, more, zeros)):
            what = f"stride {stride}, dilation {dilation} instead of stride {layer.stride}, dilation {layer.dilation}"
            new = replace(changed, padding=pads)
            yield in_place(
                step, "dilation" if dilation != layer.dilation else "stride", what, SegmentStep(new, step.params)
            )


def means(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """A mean over a part of the map, and other poolings."""
    layer = step.layer
    if not isinstance(layer, GlobalAveragePooling2D):
        return
    _, H, W, _ = segment.outputs[layer.inputs[0]].shape
    seen = {(0, H, 0, W)}
    for (top, bottom), rows in _ranges(H):
        for (left, right), columns in _ranges(W):
            if (top, bottom, left, right) in seen or not (rows == columns or "all" in (rows, columns)):
                continue
            seen.add((top, bottom, left, right))

            def cropped(x: Array, a: int = top, b: int = bottom, c: int = left, d: int = right) -> Array:
                return x[:, a:b, c:d]

            what = f"mean over rows {top} to {bottom - 1}, columns {left} to {right - 1} of {H} x {W} only"
            yield in_place(step, "pooling", what, SegmentStep(layer, {}, cropped))
            factor = (bottom - top) * (right - left) / (H * W)
            whole = scaled(SegmentStep(layer, {}, cropped), factor)
            yield in_place(step, "pooling", f"{what}, divided by {H * W}", *whole)

    def shape(y: Array) -> Array:
        return y[:, None, None, :] if layer.keepdims else y

    for name, function in POOLINGS.items():
        pooled = Applied(
            name=layer.name,
            inputs=layer.inputs,
            function=lambda x, f=function: shape(f(x)),
            slope=float(H * W),
            moves=lambda e: shape(e.max((1, 2))),
            size=lambda x: shape(np.abs(x).max((1, 2))),
        )
        yield in_place(step, "pooling", f"{name} instead of the mean", SegmentStep(pooled, {}))


POOLINGS: dict[str, Function] = {
    "the minimum": lambda x: x.min((1, 2)),
    "the median": lambda x: np.median(x, (1, 2)),
    "the root mean square": lambda x: np.sqrt((x**2).mean((1, 2))),
    "the mean of the positive values": lambda x: np.where(x > 0, x, 0).sum((1, 2)) / np.maximum((x > 0).sum((1, 2)), 1),
    "the pixel at the center": lambda x: x[:, x.shape[1] // 2, x.shape[2] // 2],
    "the deviation": lambda x: x.std((1, 2)),
    "the mean over all channels": lambda x: np.broadcast_to(x.mean((1, 2, 3))[:, None], (len(x), x.shape[3])),
}


def _ranges(n: int) -> list[tuple[tuple[int, int], str]]:
    """Parts of an axis, and their kinds."""
    found = [((0, n), "all")]
    if n > 1:
        found += [((0, n - 1), "short"), ((1, n), "late"), ((0, 1), "one"), ((n - 1, n), "last")]
    if n > 2:
        found += [((1, n - 1), "inner"), ((0, n // 2), "half"), ((0, n - 2), "two")]
    found += [((0, k), f"{k}") for k in (7, 6, 4) if k < n]
    return found
