"""Mistakes in which a layer reads what belongs to another one: its weights, or its output."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from npmobilenet.analysis.segments import Segment, SegmentStep
from npmobilenet.porting.diagnose.mistakes.applied import Applied, Function, preceded_by, rolled
from npmobilenet.porting.diagnose.mistakes.variants import Altered
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Add, Multiply
from npmobilenet.types import Array, Params


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What a wrong layer could have read: the network, its float64 parameters, and the port's arrays so far."""

    graph: Graph
    params: Params
    given: Mapping[str, Array]

    def like(self, layer: Layer) -> Iterator[Layer]:
        """The other layers of the same type with parameters of the same shapes."""
        own = self.graph.param_shapes_of(layer)
        for other in self.graph.layers:
            if other.type == layer.type and other.name != layer.name and self.graph.param_shapes_of(other) == own:
                yield other


def foreign(segment: Segment, surroundings: Surroundings) -> Iterator[Altered]:
    """Other weights and other inputs for the layers of a segment."""
    yield from other_inputs_of_joints(segment, surroundings)
    yield from other_outputs(segment, surroundings)
    yield from blocks(segment, surroundings)
    for step in segment.steps:
        if step.params:
            yield from other_weights(segment, step, surroundings)
    for step in segment.steps:
        if step.params:
            yield from other_arrays(segment, step, surroundings)
    yield from other_sources(segment, surroundings)


def blocks(segment: Segment, surroundings: Surroundings) -> Iterator[Altered]:
    """The weights of all layers of a segment from those of another block with the same shapes."""
    steps = [step for step in segment.steps if step.params]
    if len(steps) < 2:
        return
    graph = surroundings.graph
    weighted = [layer for layer in graph.layers if graph.param_shapes_of(layer)]
    kinds = [
        (step.layer.type, graph.param_shapes_of(graph[step.layer.name]))
        for step in steps
        if step.layer.name in graph.shapes
    ]
    own = next((place for place, layer in enumerate(weighted) if layer.name == steps[0].layer.name), None)
    for start in range(len(weighted) - len(steps) + 1):
        others = weighted[start : start + len(steps)]
        if start != own and [(other.type, graph.param_shapes_of(other)) for other in others] == kinds:
            new = {
                step.layer.name: [_with(step, graph.arrays_of(other, surroundings.params))]
                for step, other in zip(steps, others, strict=True)
            }
            what = f"weights of {', '.join(other.name for other in others)}"
            yield Altered("other-layer-weights", what, tuple(new), segment.altered(new))


def other_weights(segment: Segment, step: SegmentStep, surroundings: Surroundings) -> Iterator[Altered]:
    """All arrays of another layer."""
    for other in surroundings.like(step.layer):
        arrays = surroundings.graph.arrays_of(other, surroundings.params)
        new = {step.layer.name: [_with(step, arrays)]}
        yield Altered("other-layer-weights", f"weights of {other.name}", (step.layer.name,), segment.altered(new))


def other_arrays(segment: Segment, step: SegmentStep, surroundings: Surroundings) -> Iterator[Altered]:
    """One array of another layer, of any type that has one of this name and shape."""
    if len(step.params) < 2:
        return
    for other in surroundings.graph.layers:
        if other.name == step.layer.name:
            continue
        arrays = surroundings.graph.arrays_of(other, surroundings.params)
        for name, array in step.params.items():
            if name in arrays and arrays[name].shape == array.shape:
                new = {step.layer.name: [_with(step, {**step.params, name: arrays[name]})]}
                what = f"{name} of {other.name}"
                yield Altered("other-layer-weights", what, (step.layer.name,), segment.altered(new))


def other_inputs_of_joints(segment: Segment, surroundings: Surroundings) -> Iterator[Altered]:
    """A sum or product with another operand, or with one that is altered."""
    for step in segment.steps:
        layer = step.layer
        if not isinstance(layer, Add | Multiply):
            continue
        cause = "residual" if isinstance(layer, Add) else "gate"
        for which, source in enumerate(layer.inputs):
            for what, function in OPERANDS.items():
                new = {layer.name: list(preceded_by(step, function, which=which, moves=_moves(what, function)))}
                yield Altered(cause, f"{what.format(source)} in {layer.type}", (layer.name,), segment.altered(new))
        for which, source in enumerate(layer.inputs):
            yield from _read_elsewhere(segment, step, which, surroundings, cause, f"{source}")


OPERANDS: dict[str, Function] = {
    "relu6 of {} before the joint": lambda x: np.clip(x, 0, 6),
    "relu of {} before the joint": lambda x: np.maximum(x, 0),
    "minus {}": lambda x: -x,
    "{} shifted by 1 channel up": rolled(1),
    "{} shifted by 1 channel down": rolled(-1),
    "{} counted twice": lambda x: 2 * x,
    "{} halved": lambda x: x / 2,
    "{} moved down by a row": lambda x: np.roll(x, 1, axis=1),
    "{} moved right by a column": lambda x: np.roll(x, 1, axis=min(2, x.ndim - 1)),
    "{} transposed": lambda x: x.swapaxes(1, 2) if x.ndim == 4 and x.shape[1] == x.shape[2] else x,
}


def _moves(what: str, function: Function) -> Function | None:
    return function if "shifted" in what or "moved" in what or "transposed" in what else None


def _read_elsewhere(
    segment: Segment, step: SegmentStep, which: int, surroundings: Surroundings, cause: str, own: str
) -> Iterator[Altered]:
    """The step with another array of the same shape at one of its inputs."""
    layer = step.layer
    shape = segment.outputs[layer.inputs[which]].shape
    inside = {name: y for name, y in segment.outputs.items() if name != layer.name}
    at = [other.layer.name for other in segment.steps].index(layer.name)
    later = {other.layer.name for other in segment.steps[at:]}
    available = {**surroundings.given, **inside}
    for name in reversed([name for name in surroundings.graph.shapes if name in available]):
        if name == layer.inputs[which] or name in later or available[name].shape != shape:
            continue
        inputs = tuple(name if place == which else source for place, source in enumerate(layer.inputs))
        new = SegmentStep(replace(layer, inputs=inputs), step.params, step.before)
        altered = segment.altered({layer.name: [new]})
        if name not in inside:
            altered = replace(altered, inputs={**altered.inputs, name: available[name]})
        yield Altered(cause, f"{name} instead of {own}", (layer.name,), altered)


def other_sources(segment: Segment, surroundings: Surroundings) -> Iterator[Altered]:
    """A layer with one input that reads another array."""
    for step in segment.steps:
        if len(step.layer.inputs) == 1 and step.layer.inputs[0] in segment.outputs:
            yield from _read_elsewhere(segment, step, 0, surroundings, "other-input", step.layer.inputs[0])


def other_outputs(segment: Segment, surroundings: Surroundings) -> Iterator[Altered]:
    """Another layer's output in place of this one's, as if a buffer had not been written."""
    shape = segment.outputs[segment.output].shape
    for name, x in surroundings.given.items():
        if name == segment.output or x.shape != shape or name in segment[segment.output].layer.inputs:
            continue
        layer = Applied(name=segment.output, inputs=(name,), function=lambda x: x)
        altered = segment.altered({segment.output: [SegmentStep(layer, {})]})
        altered = replace(altered, inputs={**altered.inputs, name: x})
        yield Altered("other-output", f"the output is that of {name}", (segment.output,), altered)


def _with(step: SegmentStep, params: Params) -> SegmentStep:
    return SegmentStep(step.layer, dict(params), step.before)
