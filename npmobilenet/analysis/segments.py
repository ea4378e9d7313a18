"""Segments: the part of a network that leads to one dumped layer, computed from the port's own inputs.

A dump rarely has every layer: deployment tools fold the batch normalization into the convolution and write only the
result. So the unit of comparison is a `Segment`: from the nearest dumped ancestors of a layer to the layer itself. Its
inputs are the port's arrays, so that earlier errors do not count, and it is computed in float64, so that what remains
is the port's own rounding, or its mistake.

The tolerance is derived, not chosen:

    one sum           `Layer.error_bound`, carried through what follows it: no correct arithmetic exceeds it
    several sums      that bound or, if smaller, eight standard deviations of roundings with random signs, carried
                      through the segment: sqrt(n) instead of n for a sum of n terms

The bound grows through every convolution by the sum of |w|, as if all errors had the worst sign, and is useless after
ten layers. The second figure takes each rounding error at its worst size but with a random sign.

Source: Parker 1997, Monte Carlo arithmetic; Higham & Mary 2019 (SIAM J. Sci. Comput. 41) on random signs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import sqrt

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.errors import ShapeError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import KernelLayer, Layer
from npmobilenet.reference.layers import BatchNormalization, Dropout, Input
from npmobilenet.reference.rounding import RSQRT_ROUNDINGS, gamma
from npmobilenet.types import Array, Params, Shape

FOLDING = 1 + RSQRT_ROUNDINGS + 1 + 1
"""Roundings of a kernel with a folded batch normalization: var + epsilon and its root, gamma, the product."""
DEVIATIONS = 8
"""Standard deviations allowed for a sum of independent roundings: a normal one exceeds them once in 10**15."""
DRAWS = 4
"""Random draws from which the standard deviation is taken, over all values of a layer."""

Move = Callable[[Array], Array]
"""A function that moves values, or drops some, and computes nothing: errors move the same way."""


@dataclass(frozen=True)
class Storage:
    """A number format in which values are stored between layers: its name, unit roundoff, and the rounding."""

    name: str
    unit: float
    smallest: float
    round: Move


@dataclass(frozen=True, eq=False)
class SegmentStep:
    """One layer with its arrays; `before` is applied to its inputs."""

    layer: Layer
    params: Params
    before: Move | None = None

    def apply(self, values: Sequence[Array]) -> Array:
        """Its output (N, ...) in float64, from its inputs."""
        with np.errstate(all="ignore"):
            return self.layer.apply(self.params, *self._moved(values))

    def bound(self, values: Sequence[Array], errors: Sequence[Array] | None, folded: bool, dtype: DTypeLike) -> Array:
        """Bound on the error of its output in arithmetic of `dtype`, if its inputs are off by up to `errors`."""
        values = self._moved(values)
        with np.errstate(all="ignore"):
            bound = self.layer.error_bound(
                self.params,
                *values,
                input_bounds=None if errors is None else self._moved(errors),
                dtype=dtype,
            )
            if folded and isinstance(self.layer, KernelLayer):
                sizes = {"kernel": np.abs(self.params["kernel"])}
                bound = bound + gamma(FOLDING, dtype) * self.layer.linear(sizes, np.abs(values[0]))  # sum of |x||w|
            return bound

    def _moved(self, values: Sequence[Array]) -> list[Array]:
        return [value if self.before is None else self.before(value) for value in values]


@dataclass(frozen=True, eq=False)
class Segment:
    """Layers from some given arrays to `output`.

    Attributes:
        output: name of its last layer (or of an input).
        inputs: float64 arrays that it starts from, by name.
        errors: bounds on the errors of these, by name; 0 if not given.
        steps: the layers, in order.
        after: applied to the output.
        storage: format that outputs are rounded to, if not the dtype of the arithmetic.
        stored_inside: whether every layer's output is rounded to it, or only the last one.
        free: True where a value of the output is arbitrary, broadcast to it.
        parent: the segment that this one was derived from; layers in common are computed once.
    """

    output: str
    inputs: Mapping[str, Array]
    errors: Mapping[str, Array] = field(default_factory=dict)
    steps: tuple[SegmentStep, ...] = ()
    after: Move | None = None
    storage: Storage | None = None
    stored_inside: bool = True
    free: Array | None = None
    parent: "Segment | None" = None

    def __getitem__(self, name: str) -> SegmentStep:
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    @cached_property
    def _by_name(self) -> dict[str, SegmentStep]:
        return {step.layer.name: step for step in self.steps}

    def consumers(self, name: str) -> list[SegmentStep]:
        """The steps that read a layer."""
        return [step for step in self.steps if name in step.layer.inputs]

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in order."""
        return tuple(step.layer.name for step in self.steps)

    def altered(self, steps: Mapping[str, Iterable[SegmentStep]]) -> "Segment":
        """The same segment with some steps replaced, each by one or more, the last of which has its name."""
        new = (new for step in self.steps for new in steps.get(step.layer.name, (step,)))
        return replace(self, steps=tuple(new), parent=self)

    @cached_property
    def outputs(self) -> dict[str, Array]:
        """Every layer's output in float64; the parent's where layer and inputs are the same."""
        same = self.parent if self.parent is not None and self.parent.storage is self.storage else None
        values = dict(self.inputs)
        shared = {name for name, x in values.items() if same is not None and same.inputs.get(name) is x}
        for step in self.steps:
            name, sources = step.layer.name, step.layer.inputs
            if same is not None and same._by_name.get(name) is step and shared.issuperset(sources):
                values[name] = same.outputs[name]
                shared.add(name)
            else:
                y = step.apply([values[source] for source in sources])
                values[name] = self.storage.round(y) if self.storage and self._is_stored(name) else y
        return values

    def forget(self) -> None:
        """Drop the cached outputs."""
        self.__dict__.pop("outputs", None)

    @property
    def y(self) -> Array:
        """Exact output, (N, ...)."""
        y = self.outputs[self.output]
        return y if self.after is None else self.after(y)

    def tolerance(self, dtype: DTypeLike = np.float32) -> Array:
        """Tolerance for the distance from `y` of arithmetic in `dtype`; see the top of this module.

        Returns:
            Shape of y; infinite where a value is arbitrary.
        """
        errors, own = self._bounds(dtype)
        bound = errors[self.output]
        if sum(step.layer.sums for step in self.steps) > 1:
            bound = np.fmin(bound, DEVIATIONS * self._deviation(own))
        if self.after is not None:
            bound = self.after(bound)
        return bound if self.free is None else np.where(self.free, np.inf, bound)

    def _bounds(self, dtype: DTypeLike) -> tuple[dict[str, Array], dict[str, Array]]:
        """Bounds on every layer's error: carried through the segment, and of its own rounding."""
        values = self.outputs
        errors = {name: self.errors.get(name, np.zeros(x.shape)) for name, x in self.inputs.items()}
        own = dict(errors)
        for step in self.steps:
            name, sources = step.layer.name, step.layer.inputs
            xs = [values[source] for source in sources]
            folded = self._is_folded(step)
            own[name] = step.bound(xs, None, folded, dtype)
            inherits = any(np.any(errors[source]) for source in sources)
            errors[name] = step.bound(xs, [errors[s] for s in sources], folded, dtype) if inherits else own[name]
            if self.storage is not None and self._is_stored(name):  # both round: an error can add a unit
                rounding = 2 * self.storage.unit * (np.abs(values[name]) + errors[name]) + self.storage.smallest
                own[name], errors[name] = own[name] + rounding, errors[name] + rounding
        return errors, own

    def _is_stored(self, name: str) -> bool:
        return self.stored_inside or name == self.output

    def _is_folded(self, step: SegmentStep) -> bool:
        """Whether a batch normalization of this segment may have been folded into the step's kernel."""
        consumers = self.consumers(step.layer.name)
        return isinstance(step.layer, KernelLayer) and any(
            isinstance(consumer.layer, BatchNormalization) for consumer in consumers
        )

    def _deviation(self, own: Mapping[str, Array]) -> Array:
        """Standard deviation of the output under roundings with random signs in every layer.

        The sum of n of them, each of the worst size, is sqrt(n) times one: the layer's own bound over sqrt(n). In half
        of the draws all pixels of a channel have one sign, as after the rounding of a weight.
        """
        rng = np.random.default_rng(0)
        exact, squares = self.outputs[self.output], []
        for draw in range(DRAWS):
            values: dict[str, Array] = {}
            for name, x in self.inputs.items():
                values[name] = x + _signed(rng, own[name], draw % 2 == 0)
            for step in self.steps:
                xs = [values[source] for source in step.layer.inputs]
                size = own[step.layer.name] / sqrt(step.layer.terms(step.params, xs[0]))
                values[step.layer.name] = step.apply(xs) + _signed(rng, size, draw % 2 == 0)
            squares.append((values[self.output] - exact) ** 2)
        square = np.mean(squares, axis=0)  # (N, ..., C)
        channels = square.mean(axis=tuple(range(square.ndim - 1)))  # (C,)
        deviation: Array = np.sqrt(np.maximum(np.maximum(square, channels), square.mean()))
        return deviation


def segment_to(
    graph: Graph,
    params: Params,
    name: str,
    given: Mapping[str, Array],
    errors: Mapping[str, Array] | None = None,
) -> Segment:
    """The segment from the nearest given ancestors of a layer to the layer.

    Args:
        graph: the network.
        params: float64 arrays by `layer/array`.
        name: name of the layer.
        given: float64 arrays by layer name, among them the graph's input.
        errors: bounds on the error of each, by name.

    Raises:
        ShapeError: the given arrays do not fit the layers that read them.
    """
    needed, sources, stack = set(), set(), [name]
    if isinstance(graph[name], Input):
        sources.add(name)
        stack = []
    while stack:
        layer = graph[stack.pop()]
        needed.add(layer.name)
        for source in layer.inputs:
            if source in given:
                sources.add(source)
            elif source not in needed:
                stack.append(source)
    steps = tuple(SegmentStep(layer, graph.arrays_of(layer, params)) for layer in graph.layers if layer.name in needed)
    inputs = {source: given[source] for source in graph.shapes if source in sources}
    known = {source: error for source, error in (errors or {}).items() if source in sources}
    check_fit(graph, steps, inputs)
    return Segment(name, inputs, known, steps)


def check_fit(graph: Graph, steps: Sequence[SegmentStep], inputs: Mapping[str, Array]) -> None:
    """Check that the layers can be computed from the arrays, with parameters of the graph's shapes.

    Raises:
        ShapeError: they cannot.
    """
    single = [source for source, x in inputs.items() if x.ndim == 0]
    if single:
        raise ShapeError(f"{single[0]}: expected an array (N, ...), got a single number")
    shapes: dict[str, Shape] = {source: x.shape[1:] for source, x in inputs.items()}
    batches = {len(x) for x in inputs.values()}
    if len(batches) > 1:
        raise ShapeError(f"expected one batch size, got {sorted(batches)}")
    for step in steps:
        sources = tuple(shapes[source] for source in step.layer.inputs)
        try:
            fits = step.layer.param_shapes(*sources) == graph.param_shapes_of(step.layer)
            shapes[step.layer.name] = step.layer.output_shape(*sources)
        except (IndexError, ValueError) as error:
            raise ShapeError(f"{step.layer.name}: cannot be computed from {sources}: {error}") from None
        if not fits:
            raise ShapeError(f"{step.layer.name}: its weights do not fit inputs of {sources}")


def identity(layer: Layer, source: str | None = None) -> SegmentStep:
    """A step that returns the layer's input (or one of its inputs) under the layer's name."""
    return SegmentStep(Dropout(name=layer.name, inputs=(layer.inputs[0] if source is None else source,)), {})


def chain(layer: Layer, *layers: Layer) -> Iterator[SegmentStep]:
    """Consecutive steps without arrays: the first has the inputs of `layer`, the last its name."""
    source = layer.inputs
    for place, link in enumerate(layers, start=1):
        name = layer.name if place == len(layers) else f"{layer.name}+{place}"
        yield SegmentStep(replace(link, name=name, inputs=source), {})
        source = (name,)


def excess(actual: Array, expected: Array, tolerance: Array) -> float:
    """Maximum of |actual - expected| / tolerance; at most 1 if all values are within it.

    NaN or infinity in one of the two only counts as infinitely far; the same in both as equal.
    """
    with np.errstate(all="ignore"):
        ratio = np.abs(actual - expected) / tolerance
    ratio = np.where(actual == expected, 0.0, np.where(np.isnan(ratio), np.inf, ratio))
    ratio = np.where((np.isnan(actual) & np.isnan(expected)) | np.isposinf(tolerance), 0.0, ratio)
    return float(ratio.max(initial=0.0))


def distance(actual: Array, expected: Array, free: Array | None = None) -> float:
    """Root mean square of actual - expected over finite values that are not free; infinite if there are none."""
    with np.errstate(all="ignore"):
        square = (actual - expected) ** 2
    usable = np.isfinite(square)
    if not np.array_equal(np.isnan(actual), np.isnan(expected)):
        return float("inf")
    if free is not None:
        usable &= ~free
    return float(np.sqrt(square[usable].mean())) if usable.any() else float("inf")


def _signed(rng: np.random.Generator, size: Array, whole_channels: bool) -> Array:
    """Sizes with random signs, one per value or one per channel."""
    signs: Array = rng.choice((-1.0, 1.0), size.shape[-1:] if whole_channels else size.shape)
    return size * signs
