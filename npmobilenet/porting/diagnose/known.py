"""What is known of a difference that no mistake explains: where it is, of what kind, and what to dump next."""

from collections.abc import Iterator

import numpy as np

from npmobilenet.analysis.segments import Segment
from npmobilenet.reference.layer import KernelLayer, Window
from npmobilenet.types import Array

WORST = 5
"""Number of values shown."""
LISTED = 6
"""Number of channels, rows or columns listed."""
EXACTLY = 1e-4
"""Share of the difference that may remain of a difference that is said to be constant, or a multiple."""
FEW = 0.02
"""Share of values on the wrong side of a threshold that is said to separate."""


def facts(segment: Segment, actual: Array, tolerance: Array) -> tuple[str, ...]:
    """Lines on the difference between a segment's output and the port's (N, ...)."""
    expected = segment.y
    if expected.shape != actual.shape:
        return (_next_dump(segment),)
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(actual - expected) <= tolerance)
    lines = [f"{wrong.sum()} of {wrong.size} values differ"]
    lines += _where(wrong)
    if np.isfinite(actual).all() and np.isfinite(expected).all():
        lines += _kinds(expected, actual)
        lines += _thresholds(segment, wrong)
    lines += _worst(segment, expected, actual, wrong)
    return (*lines, _next_dump(segment))


def _where(wrong: Array) -> Iterator[str]:
    """Channels, rows, columns, borders and corners."""
    names = {4: ("images", "rows", "columns", "channels"), 2: ("images", "channels")}.get(wrong.ndim, ())
    for axis, name in enumerate(names):
        lines = wrong.any(axis=tuple(other for other in range(wrong.ndim) if other != axis))
        if 0 < lines.sum() < lines.size:
            yield f"{lines.sum()} of {lines.size} {name} differ: {_listed(np.flatnonzero(lines))}"
    if wrong.ndim == 4 and min(wrong.shape[1:3]) > 2:
        inner = wrong[:, 1:-1, 1:-1].any()
        edges = wrong[:, [0, -1]].any() or wrong[:, :, [0, -1]].any()
        corners = wrong[:, [0, -1]][:, :, [0, -1]].any()
        if not inner and edges:
            rest = wrong.copy()
            rest[:, 0, 0] = rest[:, 0, -1] = rest[:, -1, 0] = rest[:, -1, -1] = False
            yield "only at the corners" if corners and not rest.any() else "only at the borders"


def _listed(numbers: Array) -> str:
    shown = ", ".join(map(str, numbers[:LISTED]))
    return shown + (", ..." if numbers.size > LISTED else "")


def _kinds(expected: Array, actual: Array) -> Iterator[str]:
    """Constant per channel, a multiple, a permutation."""
    axes = tuple(range(expected.ndim - 1))
    difference = actual - expected
    size = float(np.sqrt((difference**2).mean()))
    if size == 0:
        return
    many = expected.size > expected.shape[-1]
    offset = difference.mean(axes) if many else difference.mean()
    if np.sqrt(((difference - offset) ** 2).mean()) < EXACTLY * size:
        yield f"the difference is constant{' in each channel' * many}: {_numbers(offset)}"
        return
    square = (expected**2).sum(axes)
    factor = (expected * actual).sum(axes) / np.where(square == 0, 1, square)
    if many and np.sqrt(((actual - expected * factor) ** 2).mean()) < EXACTLY * size:
        yield f"each channel is a multiple of the expected one: {_numbers(factor)}"
        return
    if many:
        centered = expected - expected.mean(axes)
        slope = (centered * actual).sum(axes) / np.maximum((centered**2).sum(axes), 1e-30)
        fit = centered * slope + actual.mean(axes)
        if np.sqrt(((actual - fit) ** 2).mean()) < EXACTLY * size:
            yield f"each channel is the expected one times a factor plus a constant: factors {_numbers(slope)}"
            return
    if np.allclose(
        np.sort(actual, None), np.sort(expected, None), rtol=1e-5, atol=1e-6 * float(np.abs(expected).max())
    ):
        yield "the values are a permutation of the expected ones"


def _numbers(numbers: Array) -> str:
    flat = np.ravel(numbers)
    if np.ptp(flat) <= 1e-4 * np.abs(flat).max():
        return f"{flat[0]:.6g}"
    return ", ".join(f"{number:.4g}" for number in flat[:4]) + (", ..." if flat.size > 4 else "")


def _thresholds(segment: Segment, wrong: Array) -> Iterator[str]:
    """Whether exactly the values above, or below, some value of the layer's input or output differ."""
    layer = segment[segment.output].layer if segment.output in segment else None
    own = segment.outputs[layer.inputs[0]] if layer is not None and len(layer.inputs) == 1 else segment.y
    for name, values in (("input", own), ("output", segment.y)):
        if values.shape != wrong.shape or not 0 < wrong.sum() < wrong.size:
            continue
        inside, outside = values[wrong], values[~wrong]
        if (outside > inside.min()).mean() < FEW * wrong.mean():
            yield f"only where the layer's {name} is above {inside.min():.4g}"
            return
        if (outside < inside.max()).mean() < FEW * wrong.mean():
            yield f"only where the layer's {name} is below {inside.max():.4g}"
            return


def _worst(segment: Segment, expected: Array, actual: Array, wrong: Array) -> Iterator[str]:
    """The values that differ most, with the window that each was computed from."""
    with np.errstate(invalid="ignore"):
        difference = np.where(wrong, np.abs(actual - expected), -1.0)
    difference = np.where(np.isnan(difference), np.inf, difference)
    for flat in np.argsort(-difference, axis=None, kind="stable")[:WORST]:
        at = tuple(int(number) for number in np.unravel_index(flat, wrong.shape))
        if wrong[at]:
            yield f"at {list(at)}: expected {expected[at]:.6g}, got {actual[at]:.6g}{_window(segment, at)}"


def _window(segment: Segment, at: tuple[int, ...]) -> str:
    """Rows and columns that a value of the output was computed from, and the range of the values there."""
    layer = segment[segment.output].layer if segment.output in segment else None
    if layer is None or len(at) != 4 or not layer.inputs:
        return ""
    x = segment.outputs[layer.inputs[0]]
    rows, columns = (at[1], at[1] + 1), (at[2], at[2] + 1)
    if isinstance(layer, Window):
        zeros = layer.zeros(x.shape[1:])
        starts = [place * layer.stride - pad[0] for place, pad in zip(at[1:3], zeros, strict=True)]
        (rows, columns) = (
            (max(start, 0), min(start + size, n))
            for start, size, n in zip(starts, layer.extent, x.shape[1:3], strict=True)
        )
    elif x.ndim != 4 or x.shape[1:3] != segment.y.shape[1:3]:
        return ""
    channels = slice(None) if isinstance(layer, KernelLayer) and layer.type == "Conv2D" else slice(at[3], at[3] + 1)
    seen = x[at[0], rows[0] : rows[1], columns[0] : columns[1], channels]
    if seen.size == 1:
        return f", from {layer.inputs[0]} = {seen.item():.6g}"
    if seen.size == 0:
        return ""
    return (
        f", from rows {rows[0]} to {rows[1] - 1}, columns {columns[0]} to {columns[1] - 1} of {layer.inputs[0]}, "
        f"{seen.min():.4g} to {seen.max():.4g}"
    )


def _next_dump(segment: Segment) -> str:
    between = [name for name in segment.layers if name != segment.output]
    if between:
        names = ", ".join(between[:LISTED]) + (", ..." if len(between) > LISTED else "")
        return f"dump next: {names}, the layers between this array and the one before it"
    layer = segment[segment.output].layer if segment.output in segment else None
    if isinstance(layer, KernelLayer):
        return (
            f"dump next: the sums of {segment.output} before bias and activation, and the weights as the port has them"
        )
    if layer is not None and layer.inputs:
        return f"dump next: what the port passes to {segment.output}, to compare with {', '.join(layer.inputs)}"
    return "dump next: the network's input as the port holds it"
