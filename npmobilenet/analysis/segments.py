"""The piece of a network that leads to one dumped layer, computed from the other side's own inputs.

A dump rarely holds every layer: deployment tools fold the batch normalisation into the convolution and write down
only what is left. So the unit of comparison is a `Segment`: from the nearest dumped ancestors of a layer to the layer
itself. Its inputs are the other side's arrays, so that errors made earlier do not count, and it is computed in
float64, so that what remains is the other side's own rounding, or its mistake.

How far rounding may take the result is derived, never chosen:

    one sum           `bounds.layer_bound`, carried through what follows it, which nothing within the arithmetic exceeds
    several sums      that bound, or, where smaller, eight standard deviations of what roundings of random signs do when
                      they are carried through the segment: sqrt(n) in place of n for a sum of n terms

The bound grows through every convolution by the sum of |w|, as if all errors conspired, and says nothing behind ten
layers. Errors of rounding do not conspire: the second figure takes each at its worst size but with signs by chance.

Source: Parker 1997, Monte Carlo arithmetic; Higham & Mary 2019 (SIAM J. Sci. Comput. 41) on random signs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod, sqrt

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.errors import ShapeError
from npmobilenet.reference.graph import (
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePooling2D,
    Graph,
    Input,
    Layer,
)
from npmobilenet.reference.rounding import RSQRT_ROUNDINGS, gamma, layer_bound
from npmobilenet.types import Array, Params, Shape

FOLDING = 1 + RSQRT_ROUNDINGS + 1 + 1
"""Roundings of a kernel that batch normalisation was folded into: var + epsilon and its root, gamma, the product."""
DEVIATIONS = 8
"""Standard deviations allowed to a sum of independent roundings: a normal one passes them once in 10**15."""
DRAWS = 4
"""Random draws from which the standard deviation is taken, over all values of a layer."""

SUMS = (Conv2D, DepthwiseConv2D, Dense, AveragePooling2D, GlobalAveragePooling2D)
"""The layers that add many terms."""

Move = Callable[[Array], Array]
"""Moves values about, or drops some, and computes nothing: errors move the same way."""


@dataclass(frozen=True)
class Storage:
    """A number format that values are rounded to between layers: its name, unit roundoff, and the rounding."""

    name: str
    unit: float
    smallest: float
    round: Move


@dataclass(frozen=True, eq=False)
class Step:
    """One layer with its arrays; `before` is done to what it reads."""

    layer: Layer
    params: Params
    before: Move | None = None

    def apply(self, values: Sequence[Array]) -> Array:
        """Its output in float64, from what it reads."""
        with np.errstate(all="ignore"):
            return self.layer.apply(self.params, *self._moved(values))

    def bound(self, values: Sequence[Array], errors: Sequence[Array] | None, folded: bool, dtype: DTypeLike) -> Array:
        """How far its output may be off in arithmetic of `dtype`, where its inputs are off by `errors`."""
        values = self._moved(values)
        with np.errstate(all="ignore"):
            bound = layer_bound(
                self.layer,
                self.params,
                *values,
                input_bounds=None if errors is None else self._moved(errors),
                dtype=dtype,
            )
            return bound + gamma(FOLDING, dtype) * self._terms(values[0]) if folded else bound

    def terms(self, x: Array) -> int:
        """How many terms each sum has, for an input x."""
        if isinstance(self.layer, GlobalAveragePooling2D):
            return prod(x.shape[1:3])
        w = self.params.get("kernel")
        return 1 if w is None else prod(w.shape[:2] if isinstance(self.layer, DepthwiseConv2D) else w.shape[:-1])

    def _moved(self, values: Sequence[Array]) -> list[Array]:
        return [value if self.before is None else self.before(value) for value in values]

    def _terms(self, x: Array) -> Array:
        """Sum of |x||w|."""
        sizes = {name: np.abs(array) for name, array in self.params.items() if name == "kernel"}
        bare = replace(self.layer, use_bias=False, activation="linear")  # type: ignore[call-arg]
        return bare.apply(sizes, np.abs(x))


@dataclass(frozen=True, eq=False)
class Segment:
    """Layers from some given arrays to `output`.

    Attributes:
        output: name of the layer (or of an input) that the segment leads to.
        inputs: the arrays that it starts from, float64, by name.
        errors: how far these may be off already, by name; 0 where not given.
        steps: the layers, in order.
        after: what is done to the output.
        storage: what outputs are rounded to, if it is not the dtype of the arithmetic.
        stored_inside: whether every layer's output is rounded to it, or only the last.
        free: True where a value of the output may be anything, broadcast to it.
        parent: the segment that this one is an alteration of; what both have in common is computed once.
    """

    output: str
    inputs: Mapping[str, Array]
    errors: Mapping[str, Array] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    after: Move | None = None
    storage: Storage | None = None
    stored_inside: bool = True
    free: Array | None = None
    parent: "Segment | None" = None

    def __getitem__(self, name: str) -> Step:
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    @cached_property
    def _by_name(self) -> dict[str, Step]:
        return {step.layer.name: step for step in self.steps}

    def readers(self, name: str) -> list[Step]:
        """The steps that read a layer."""
        return [step for step in self.steps if name in step.layer.inputs]

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in order."""
        return tuple(step.layer.name for step in self.steps)

    def altered(self, steps: Mapping[str, Iterable[Step]]) -> "Segment":
        """The same segment with some steps replaced, each by one or more, of which the last has its name."""
        new = (new for step in self.steps for new in steps.get(step.layer.name, (step,)))
        return replace(self, steps=tuple(new), parent=self)

    @cached_property
    def outputs(self) -> dict[str, Array]:
        """Every layer's output in float64; what the parent has computed from the same arrays is taken from there."""
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
        """Drop the outputs; they are computed again when they are asked for."""
        self.__dict__.pop("outputs", None)

    @property
    def y(self) -> Array:
        """(N, ...) the exact output."""
        y = self.outputs[self.output]
        return y if self.after is None else self.after(y)

    def tolerance(self, dtype: DTypeLike = np.float32) -> Array:
        """How far from `y` arithmetic in `dtype` may get; see the top of this module.

        Returns:
            Shape of y; infinite where a value may be anything.
        """
        errors, own = self._bounds(dtype)
        bound = errors[self.output]
        if sum(isinstance(step.layer, SUMS) for step in self.steps) > 1:
            bound = np.fmin(bound, DEVIATIONS * self._deviation(own))
        if self.after is not None:
            bound = self.after(bound)
        return bound if self.free is None else np.where(self.free, np.inf, bound)

    def _bounds(self, dtype: DTypeLike) -> tuple[dict[str, Array], dict[str, Array]]:
        """For every layer the bound on its error, carried through the segment, and the part that is its own."""
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
            if self.storage is not None and self._is_stored(name):  # both sides round: an error can add a whole step
                rounding = 2 * self.storage.unit * (np.abs(values[name]) + errors[name]) + self.storage.smallest
                own[name], errors[name] = own[name] + rounding, errors[name] + rounding
        return errors, own

    def _is_stored(self, name: str) -> bool:
        return self.stored_inside or name == self.output

    def _is_folded(self, step: Step) -> bool:
        """Whether a batch normalisation of this segment may have been folded into the step's kernel."""
        readers = self.readers(step.layer.name)
        return isinstance(step.layer, Conv2D | DepthwiseConv2D | Dense) and any(
            isinstance(reader.layer, BatchNormalization) for reader in readers
        )

    def _deviation(self, own: Mapping[str, Array]) -> Array:
        """Standard deviation of the output under roundings of random signs in every layer.

        Of n of them, each at its worst, the sum is sqrt(n) and not n of one: the layer's own bound over sqrt(n). Half
        of the draws give all pixels of a channel one sign, as the rounding of a weight does.
        """
        rng = np.random.default_rng(0)
        exact, squares = self.outputs[self.output], []
        for draw in range(DRAWS):
            values: dict[str, Array] = {}
            for name, x in self.inputs.items():
                values[name] = x + _signed(rng, own[name], draw % 2 == 0)
            for step in self.steps:
                xs = [values[source] for source in step.layer.inputs]
                size = own[step.layer.name] / sqrt(step.terms(xs[0]))
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
        name: of the layer.
        given: float64 arrays by layer name; the graph's input has to be among them.
        errors: how far each may be off, by name.

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
    steps = tuple(
        Step(layer, {array: params[f"{layer.name}/{array}"] for array in graph.param_shapes_of(layer)})
        for layer in graph.layers
        if layer.name in needed
    )
    inputs = {source: given[source] for source in graph.shapes if source in sources}
    known = {source: error for source, error in (errors or {}).items() if source in sources}
    check_fit(graph, steps, inputs)
    return Segment(name, inputs, known, steps)


def check_fit(graph: Graph, steps: Sequence[Step], inputs: Mapping[str, Array]) -> None:
    """See that layers can be computed from the arrays, and with the parameters that the graph has for them.

    Raises:
        ShapeError: they cannot.
    """
    shapes: dict[str, Shape] = {source: x.shape[1:] for source, x in inputs.items()}
    batches = {len(x) for x in inputs.values()}
    if len(batches) > 1:
        raise ShapeError(f"batches of different sizes: {sorted(batches)}")
    for step in steps:
        sources = tuple(shapes[source] for source in step.layer.inputs)
        try:
            fits = step.layer.param_shapes(*sources) == graph.param_shapes_of(step.layer)
            shapes[step.layer.name] = step.layer.output_shape(*sources)
        except (IndexError, ValueError) as error:
            raise ShapeError(f"{step.layer.name}: cannot be computed from {sources}: {error}") from None
        if not fits:
            raise ShapeError(f"{step.layer.name}: its weights do not fit inputs of {sources}")


def identity(layer: Layer, source: str | None = None) -> Step:
    """A step that hands on what the layer reads (or one of the layers that it reads), under the layer's name."""
    return Step(Dropout(name=layer.name, inputs=(layer.inputs[0] if source is None else source,)), {})


def chain(layer: Layer, *layers: Layer) -> Iterator[Step]:
    """Steps without arrays in a row: the first reads what `layer` reads, the last takes its name."""
    source = layer.inputs
    for place, link in enumerate(layers, start=1):
        name = layer.name if place == len(layers) else f"{layer.name}+{place}"
        yield Step(replace(link, name=name, inputs=source), {})
        source = (name,)


def excess(theirs: Array, y: Array, tolerance: Array) -> float:
    """The largest difference as a multiple of what is allowed at its place; at most 1 where all is well.

    NaN or infinity on one side only is infinitely far away; the same on both sides is no difference.
    """
    with np.errstate(all="ignore"):
        ratio = np.abs(theirs - y) / tolerance
    ratio = np.where(theirs == y, 0.0, np.where(np.isnan(ratio), np.inf, ratio))
    ratio = np.where((np.isnan(theirs) & np.isnan(y)) | np.isposinf(tolerance), 0.0, ratio)
    return float(ratio.max(initial=0.0))


def distance(theirs: Array, y: Array, free: Array | None = None) -> float:
    """Root mean square of the difference where both are finite and the value is not free; infinite where none is."""
    with np.errstate(all="ignore"):
        square = (theirs - y) ** 2
    usable = np.isfinite(square)
    if not np.array_equal(np.isnan(theirs), np.isnan(y)):
        return float("inf")
    if free is not None:
        usable &= ~free
    return float(np.sqrt(square[usable].mean())) if usable.any() else float("inf")


def _signed(rng: np.random.Generator, size: Array, whole_channels: bool) -> Array:
    """Sizes with random signs, one for each value or one for each channel."""
    signs: Array = rng.choice((-1.0, 1.0), size.shape[-1:] if whole_channels else size.shape)
    return size * signs
