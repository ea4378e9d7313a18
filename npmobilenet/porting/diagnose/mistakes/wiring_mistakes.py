"""Mistakes in how values are combined: sums and products, pooling, and the order of flattened values."""

from collections.abc import Iterator

from npmobilenet.analysis.segments import Segment, SegmentStep, identity
from npmobilenet.porting.diagnose.mistakes.variants import Variant, in_place, scaled
from npmobilenet.porting.diagnose.mistakes.window_mistakes import padding_of, with_padding
from npmobilenet.reference.layers import Add, AveragePooling2D, GlobalAveragePooling2D, GlobalMaxPooling2D, Multiply


def joints(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """A sum or product with one operand left out, or a product for a sum."""
    layer = step.layer
    is_sum = isinstance(layer, Add)
    cause, what = ("missing-residual", "residual missing") if is_sum else ("missing-gate", "gate missing")
    for source in layer.inputs[::-1] if is_sum else layer.inputs:
        yield in_place(step, cause, f"{what}: only {source} is passed on", identity(layer, source))
    if is_sum:
        product = SegmentStep(Multiply(name=layer.name, inputs=layer.inputs), {})
        yield in_place(step, "residual", "residual multiplied instead of added", product)


def poolings(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """A mean divided by something else than the number of pixels, or a maximum."""
    layer = step.layer
    _, H, W, _ = segment.outputs[layer.inputs[0]].shape
    if isinstance(layer, AveragePooling2D):
        source, zeros = padding_of(segment, layer)
        if any(map(any, zeros)):
            what = "mean divided by K * K at the border too: padding zeros counted"
            yield in_place(step, "pooling-divisor", what, with_padding(step, source, zeros))
        H, W = layer.kernel_size
    else:
        assert isinstance(layer, GlobalAveragePooling2D)
        largest = GlobalMaxPooling2D(name=layer.name, inputs=layer.inputs, keepdims=layer.keepdims)
        yield in_place(step, "pooling", "the maximum instead of the mean", SegmentStep(largest, {}))
    for divisor in (1, 49, H, (H + 1) * (W + 1), (H - 1) * (W - 1)):
        if divisor not in (0, H * W):
            what = f"mean of {H} x {W} pixels divided by {divisor} instead of {H * W}"
            yield in_place(step, "pooling-divisor", what, *scaled(step, H * W / divisor))


def orders(segment: Segment, step: SegmentStep) -> Iterator[Variant]:
    """A map flattened channels first."""
    layer, x = step.layer, segment.outputs[step.layer.inputs[0]]
    if x.ndim == 4 and x.shape[1] * x.shape[2] > 1 < x.shape[3]:
        new = SegmentStep(layer, {}, lambda x: x.transpose(0, 3, 1, 2).reshape(x.shape))
        yield in_place(step, "layout", "flattened channels first", new)
