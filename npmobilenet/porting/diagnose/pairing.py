"""Pairing of nameless arrays with layers: by the values that a layer would have, computed from the arrays before it.

An array belongs to a layer if it agrees with the layer's output on the port's own inputs. So the arrays after a mistake
are recognized as well as those before it, and only the array with the mistake agrees with nothing. It is paired with a
layer if this makes the arrays after it agree, and with none if they agree without it.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from npmobilenet.analysis.segments import segment_to
from npmobilenet.errors import ShapeError
from npmobilenet.models.model import Model
from npmobilenet.porting.diagnose.axes import arrange, can_be_arranged
from npmobilenet.types import Array

AGREES = 0.05
"""Share of a layer's deviation by which an array may differ from it and still be taken for it."""
EQUALLY = 1e-5
"""Residuals below this one are rounding: the first of such layers in order is taken."""
BACK = 8
"""Number of layers before the last paired one that are searched too: branches may be dumped in another order."""
HYPOTHESES = 8
"""Number of layers tried for an array with a mistake, and number of layers after each."""
PENDING = 3
"""Number of unpaired arrays for which a layer is sought whenever the next array agrees with none."""
NEXT = 4
"""Number of arrays after one that could be a layer's, among which a better one is sought."""
SAMPLE = 4096
"""Values by which two arrays are compared."""


class Pairing:
    """Pairs found so far.

    Args:
        reference: every layer's output (N, ...) by its name, in the order of the graph.
        dump: arrays by name, in their order.
        model: computes layers from the arrays of the dump; without it, an array is compared with the reference only.
    """

    def __init__(self, reference: Mapping[str, Array], dump: Mapping[str, Array], model: Model | None) -> None:
        self._reference = reference
        self._dump = dump
        self._graph = model.graph if model is not None else None
        self._params = {n: a.astype(np.float64) for n, a in model.params.items()} if model is not None else {}
        self._layers = list(reference)
        self._place = {layer: place for place, layer in enumerate(self._layers)}
        self.found: dict[str, str] = {}
        self._given = dict(list(reference.items())[:1])
        self._deviates = False
        self._pending: list[str] = []

    def run(self, anchors: Mapping[str, str], hints: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """{name in the dump: layer} of all arrays that could be paired.

        Args:
            anchors: {name in the dump: layer} that are certain.
            hints: names in the dump -> the layers that these names could mean.
        """
        places = [self._place[anchors[name]] for name in self._dump if name in anchors]
        in_order = places == sorted(places)
        position, taken = -1, set(anchors.values())
        last = {layer: name for name, layers in hints.items() for layer in layers[:1]}
        for name in self._dump:
            if name in anchors:
                self._take_before(name, anchors[name], position)
                self._take(name, anchors[name])
                self._pending.clear()
            elif name in hints:
                self._take_hinted(name, [layer for layer in hints[name] if layer not in taken], last, taken)
            else:
                end = next(self._after(name, anchors), len(self._layers)) if in_order else len(self._layers)
                self._take_nameless(name, position if in_order else -1, end, taken)
            taken.update(self.found.values())
            position = max(position, self._place.get(self.found.get(name, ""), position))
        self._take_last(position, taken)
        return self.found

    def _after(self, name: str, anchors: Mapping[str, str]) -> Iterator[int]:
        names = list(self._dump)
        return (self._place[anchors[other]] for other in names[names.index(name) :] if other in anchors)

    def _take(self, name: str, layer: str) -> None:
        self.found[name] = layer
        expected = self._reference[layer]
        arranged = arrange(self._dump[name], expected)
        if not arranged.fits:
            return
        self._deviates |= not _residual(arranged.values, expected) < EQUALLY
        self._given[layer] = arranged.values

    def _take_hinted(self, name: str, layers: Sequence[str], last: Mapping[str, str], taken: set[str]) -> None:
        """One of the layers that the name could mean, or one close before: the one that agrees.

        If none agrees, the first, for the last array with its name: `block_1_relu/conv` may be a convolution's output.
        """
        layer, _ = self._best(name, layers, self._given)
        if layer is None:
            place = max((self._place[layer] for layer in layers), default=0)
            near = [y for y in self._fitting(name) if y not in taken and place - BACK <= self._place[y] < place]
            layer, _ = self._best(name, near, self._given)
        if layer is None:
            layer = next((layer for layer in layers[:1] if last.get(layer) == name), None)
            if layer is not None and self._has_another(name, layer):
                return
        if layer is not None:
            self._take(name, layer)

    def _has_another(self, name: str, layer: str) -> bool:
        """Whether one of the next arrays of another name agrees with a layer."""
        names = list(self._dump)
        later = names[names.index(name) + 1 :][:NEXT]
        fitting = (
            other for other in later if can_be_arranged(np.shape(self._dump[other]), self._reference[layer].shape)
        )
        return any(self._best(other, [layer], self._given)[0] is not None for other in fitting)

    def _take_nameless(self, name: str, position: int, end: int, taken: set[str]) -> None:
        if self._is_repeated(name):
            return
        free = [layer for layer in self._fitting(name) if layer not in taken and self._place[layer] < end]
        for layers in (
            [layer for layer in free if self._place[layer] > position],
            [layer for layer in free if position - BACK <= self._place[layer] < position],
        ):
            layer, _ = self._best(name, layers, self._given)
            if layer is not None:
                self._take(name, layer)
                self._pending.clear()
                return
        if self._graph is not None and self._take_both(name, position, free):
            self._pending.clear()
            return
        self._pending.append(name)

    def _take_before(self, name: str, anchor: str, position: int) -> None:
        """Pair an array before with the layer that makes a certain one after it agree, if it does not agree without."""
        if self._graph is None or not self._pending or self._best(name, [anchor], self._given)[0] is not None:
            return
        best: tuple[float, int, str, str] | None = None
        for before in self._pending[-PENDING:]:
            layers = [y for y in self._fitting(before) if position < self._place[y] < self._place[anchor]]
            for layer in layers[-HYPOTHESES:]:
                values = arrange(self._dump[before], self._reference[layer]).values
                other, residual = self._best(name, [anchor], {**self._given, layer: values}, reads=layer)
                if other is not None:
                    found = (max(residual, EQUALLY), self._place[layer], before, layer)
                    best = found if best is None else min(best, found)
        if best is not None:
            self._take(best[2], best[3])

    def _take_both(self, name: str, position: int, free: Sequence[str]) -> bool:
        """Pair an array before with the layer that makes this array agree with a layer after it."""
        best: tuple[float, int, str, str, str] | None = None
        for before in self._pending[-PENDING:]:
            layers = [y for y in self._fitting(before) if self._place[y] > position and y not in self.found.values()]
            for layer in layers[:HYPOTHESES]:
                values = arrange(self._dump[before], self._reference[layer]).values
                given = {**self._given, layer: values}
                later = [other for other in free if self._place[other] > self._place[layer]][:HYPOTHESES]
                other, residual = self._best(name, later, given, reads=layer)
                if other is not None:
                    found = (max(residual, EQUALLY), self._place[layer], before, layer, other)
                    best = found if best is None else min(best, found)
        if best is None:
            return False
        self._take(best[2], best[3])
        self._take(name, best[4])
        return True

    def _take_last(self, position: int, taken: set[str]) -> None:
        """The arrays after the last paired one, of which nothing is known but order and shape."""
        rest, position_left = list(self._pending), position
        for number, name in enumerate(rest):
            names_left = len(rest) - number
            layers = [y for y in self._fitting(name) if self._place[y] > position_left and y not in taken]
            scores = [similarity(self._dump[name], self._reference[layer]) for layer in layers]
            if scores and names_left:
                layer = layers[int(np.argmax(scores))]
                self._take(name, layer)
                position_left = self._place[layer]

    def _fitting(self, name: str) -> list[str]:
        shape = np.shape(self._dump[name])
        return [layer for layer, y in self._reference.items() if can_be_arranged(shape, y.shape)]

    def _is_repeated(self, name: str) -> bool:
        """Whether the array holds the values of a paired one: an output that was only passed on."""
        array = self._dump[name]
        return any(
            array.size == self._dump[other].size
            and array.shape != self._reference[layer].shape
            and np.array_equal(array.ravel(), self._dump[other].ravel())
            for other, layer in self.found.items()
        )

    def _best(
        self, name: str, layers: Sequence[str], given: Mapping[str, Array], reads: str | None = None
    ) -> tuple[str | None, float]:
        """The first layer of those that agree best with an array, and its residual; None if none agrees."""
        residuals = []
        if reads is None:
            residuals = [self._compared(name, layer, self._reference[layer]) for layer in layers]
        if not any(residual < AGREES for residual in residuals) and (self._deviates or reads is not None):
            computed = [self._computed(layer, given, reads) for layer in layers]
            residuals = [
                np.inf if y is None else self._compared(name, layer, y)
                for layer, y in zip(layers, computed, strict=True)
            ]
        agreeing = [residual for residual in residuals if residual < AGREES]
        if not agreeing:
            return None, np.inf
        limit = max(2 * min(agreeing), EQUALLY)
        chosen = next(number for number, residual in enumerate(residuals) if residual <= limit)
        return layers[chosen], residuals[chosen]

    def _compared(self, name: str, layer: str, expected: Array) -> float:
        return _residual(arrange(self._dump[name], expected).values, expected)

    def _computed(self, layer: str, given: Mapping[str, Array], reads: str | None) -> Array | None:
        """A layer's output from the port's arrays; None if it cannot be computed, or does not read `reads`."""
        if self._graph is None:
            return None
        try:
            segment = segment_to(self._graph, self._params, layer, given)
            return segment.y if reads is None or reads in segment.inputs else None
        except (ShapeError, ValueError):
            return None


def _residual(actual: Array, expected: Array) -> float:
    """Root mean square of the difference as a share of the expected values' deviation; infinite if not finite."""
    if actual.shape != expected.shape:
        return float("inf")
    with np.errstate(all="ignore"):
        size = float(np.std(expected)) or float(np.abs(expected).max(initial=0.0))
        difference = float(np.sqrt(np.mean((actual - expected) ** 2)))
    if difference == 0:
        return 0.0
    return difference / size if np.isfinite(difference) and size > 0 else float("inf")


def similarity(actual: Array, expected: Array) -> float:
    """Between 0 and 1: half the correlation of the values, which survives mistakes, half their closeness."""
    a, b = arrange(actual, expected).values.ravel(), expected.ravel()
    some = slice(None, None, max(1, b.size // SAMPLE))
    a, b = a[some], b[some]
    usable = np.isfinite(a) & np.isfinite(b)
    a, b = a[usable], b[usable]
    if a.size == 0:
        return 0.0
    with np.errstate(over="ignore"):
        difference = float(np.linalg.norm(a - b))
        closeness = 1.0 if difference == 0 else 1 - difference / (difference + float(np.linalg.norm(b)))
        a, b = a - a.mean(), b - b.mean()
        size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return (closeness + max(float(a @ b) / size, 0.0)) / 2 if 0 < size < np.inf else closeness / 2
