"""A layer of an arbitrary function, for mistakes that no layer type of the network makes."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.analysis.segments import SegmentStep
from npmobilenet.porting.diagnose.mistakes.variants import Variant, in_place
from npmobilenet.reference.layer import Layer, layer_type
from npmobilenet.reference.rounding import gamma
from npmobilenet.types import Array, Params

Function = Callable[..., Array]
ROUNDINGS = 16
"""Roundings allowed for a function of a few operations."""


@layer_type
class Applied(Layer):
    """y = function(*inputs).

    Attributes:
        function: of the arrays (N, ...) that it reads.
        slope: bound on how much larger an error gets.
        size: the largest numbers that occur on the way to each value, from the inputs; None for the values themselves.
        moves: the function that moves errors, if it moves values too, such as a shift; None if they stay in place.
    """

    function: Function
    slope: float = 1.0
    size: Function | None = None
    moves: Function | None = None

    def apply(self, params: Params, *inputs: Array) -> Array:
        return self.function(*inputs)

    def carried_bound(self, params: Params, xs: list[Array], errors: list[Array], dtype: DTypeLike) -> Array:
        y = np.abs(self.function(*xs))
        size = y if self.size is None else np.maximum(y, self.size(*xs))
        carried = sum(errors) if self.moves is None else self.moves(*errors)
        bound: Array = self.slope * carried + gamma(ROUNDINGS, dtype) * size
        return bound


def instead(step: SegmentStep, cause: str, what: str, applied: Applied) -> Variant:
    """A function of the step's inputs instead of the step."""
    return in_place(step, cause, what, SegmentStep(applied, {}))


def applied(layer: Layer, function: Function, *sources: str, slope: float = 1.0) -> Applied:
    """A function in place of a layer, of its inputs or of other `sources`."""
    return Applied(name=layer.name, inputs=sources or layer.inputs, function=function, slope=slope)


def followed_by(
    step: SegmentStep, function: Function, *, slope: float = 1.0, moves: Function | None = None
) -> Iterator[SegmentStep]:
    """The step, and a function of its output."""
    bare = f"{step.layer.name}+before"
    yield SegmentStep(replace(step.layer, name=bare), step.params, step.before)
    after = Applied(name=step.layer.name, inputs=(bare,), function=function, slope=slope, moves=moves)
    yield SegmentStep(after, {})


def preceded_by(
    step: SegmentStep, function: Function, *, which: int = 0, slope: float = 1.0, moves: Function | None = None
) -> Iterator[SegmentStep]:
    """A function of one of the step's inputs, and the step."""
    source, altered = step.layer.inputs[which], f"{step.layer.name}+input"
    inputs = tuple(altered if place == which else name for place, name in enumerate(step.layer.inputs))
    yield SegmentStep(Applied(name=altered, inputs=(source,), function=function, slope=slope, moves=moves), {})
    yield SegmentStep(replace(step.layer, inputs=inputs), step.params, step.before)


def linear_part(step: SegmentStep) -> tuple[tuple[SegmentStep, ...], str]:
    """The step without its own activation, and the name of what the activation reads."""
    layer = step.layer
    if layer.type == "Activation":
        return (), layer.inputs[0]
    sums = f"{layer.name}+sums"
    bare = replace(layer, name=sums, activation="linear")  # type: ignore[call-arg]
    return (SegmentStep(bare, step.params, step.before),), sums


def with_function(
    step: SegmentStep, cause: str, what: str, function: Function, *, slope: float = 1.0, size: Function | None = None
) -> Variant:
    """Another function instead of the step's activation."""
    before, source = linear_part(step)
    new = Applied(name=step.layer.name, inputs=(source,), function=function, slope=slope, size=size)
    return in_place(step, cause, what, *before, SegmentStep(new, {}))


def rolled(by: int) -> Function:
    """A shift of channels, or of the last axis."""
    return lambda x: np.roll(x, by, axis=-1)
