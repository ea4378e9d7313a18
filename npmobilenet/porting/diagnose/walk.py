"""Walk the layers in order, find those that are wrong by themselves, and tell them from those that inherit an error.

A layer is judged on the other side's own inputs: what it made of them must be within rounding of what the layer makes
of them exactly. So a mistake is found where it was made, not where it grew large.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.analysis.segments import Segment, excess, segment_to
from npmobilenet.errors import ShapeError
from npmobilenet.models.model import Model
from npmobilenet.porting.diagnose.axes import Arranged, arrange, is_channels_first, layout_note
from npmobilenet.porting.diagnose.explain import Explainer, Explanation
from npmobilenet.porting.diagnose.mistakes.input_mistakes import Picture
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.rounding import gamma
from npmobilenet.types import Array


@dataclass(frozen=True)
class Finding:
    """What became of one layer.

    Attributes:
        layer: its name.
        type: its type.
        status: "same" (within its tolerance), "inherits" (correct on its inputs, which are wrong), "wrong" (outside its
            tolerance on its own inputs), "shape" (not of the layer's shape), "missing" (not in the dump).
        difference: largest difference to our output in float64, None where there is none to compare.
        times_tolerance: largest difference to the layer computed from the other side's inputs, as a multiple of the
            tolerance at its place.
        covers: the layers that were computed for it: itself, and those before it that the dump does not hold.
        note: what else is to be said.
        explanations: for a wrong layer, the best first.
        untried: how many explanations were left untried, to save time.
    """

    layer: str
    type: str
    status: str
    difference: float | None = None
    times_tolerance: float | None = None
    covers: tuple[str, ...] = ()
    note: str = ""
    explanations: tuple[Explanation, ...] = ()
    untried: int = 0

    @property
    def explained(self) -> bool:
        """Whether there is an explanation that leaves nothing but rounding."""
        return bool(self.explanations) and self.explanations[0].fits


@dataclass(frozen=True)
class Comparison:
    """All findings, in the order of the graph, and what was noticed about the dump as a whole."""

    model: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """The layers that are wrong by themselves."""
        return tuple(finding for finding in self.findings if finding.status in ("wrong", "shape"))

    @property
    def compared(self) -> tuple[Finding, ...]:
        """The layers whose values could be compared."""
        return tuple(finding for finding in self.findings if finding.times_tolerance is not None)

    @property
    def first(self) -> Finding | None:
        """The first wrong layer."""
        return next(iter(self.wrong), None)

    @property
    def exit_code(self) -> int:
        """0: the same. 1: different. 2: nothing could be compared."""
        if not self.compared and not any(finding.explained for finding in self.wrong):
            return 2
        return 1 if self.wrong else 0


Watch = Callable[[list[str]], Iterable[str]]


def compare(
    model: Model,
    x: Array,
    theirs: Mapping[str, Array],
    *,
    picture: Picture | None = None,
    dtype: DTypeLike = np.float32,
    watch: Watch = iter,
) -> Comparison:
    """Compare another implementation's arrays with what the network should have computed.

    Args:
        model: the network.
        x: (N, H, W, C) the scaled input.
        theirs: outputs by layer name, in any common layout, such as (N, C, H, W) or without the batch. They may be
            few: what is not there is computed from what is. Names that are not in the network are passed over.
        picture: what x was made from, for mistakes made there; None for pixels by the model's scaling.
        dtype: of the other side's arithmetic.
        watch: hands on the names of the layers, one when it is begun: for a progress bar.

    Raises:
        ShapeError: x does not fit the network.
    """
    picture = picture or Picture(model.scaling)
    x = np.asarray(x, np.float64)
    shapes = {name: np.shape(array) for name, array in theirs.items() if name in model.graph.shapes}
    first = is_channels_first(shapes, model.graph.shapes)
    traced = ((name, y) for name, y in model.trace(x) if name in theirs)
    arrays = {name: arrange(theirs[name], y, channels_first=first) for name, y in traced}
    walk = _Walk(model, x, arrays, picture, dtype)
    findings = {name: walk.judge(name) for name in watch(list(arrays))}
    missing = (Finding(layer.name, layer.type, "missing") for layer in model.graph.layers)
    everything = tuple(findings.get(finding.layer, finding) for finding in missing)
    return Comparison(model.graph.name, everything, (*layout_note(arrays), *_summary(everything)))


class _Walk:
    """The state of one walk: what the other side has given so far, and how far that may be off."""

    def __init__(
        self, model: Model, x: Array, arrays: Mapping[str, Arranged], picture: Picture, dtype: DTypeLike
    ) -> None:
        self.graph: Graph = model.graph
        self.params = {name: array.astype(np.float64) for name, array in model.params.items()}
        self.arrays = arrays
        self.entry = model.graph.layers[0].name
        self.given: dict[str, Array] = {self.entry: x}
        self.errors: dict[str, Array] = {self.entry: _scaling_error(x, picture)}
        self.dtype = dtype
        self.explainer = Explainer(self.entry, picture, dtype)
        self.astray: set[str] = set()  # wrong, or computed from what is wrong

    def judge(self, name: str) -> Finding:
        """Judge one layer, and take its array as given for those that follow."""
        theirs, layer = self.arrays[name], self.graph[name]
        finding = Finding(name, layer.type, "shape", theirs.difference, note=theirs.note)
        segment = self._segment(name, theirs.fits)
        if segment is None:
            finding = replace(finding, note=_joined(theirs.note, "its inputs have shapes that cannot be read"))
        elif theirs.fits:
            tolerance = segment.tolerance(self.dtype) + theirs.rounding
            times = excess(theirs.values, segment.y, tolerance)
            status = "wrong" if times > 1 else "inherits" if self.astray.intersection(segment.inputs) else "same"
            finding = replace(finding, status=status, times_tolerance=times, covers=segment.layers)
        else:
            shapes = f"shape {theirs.values.shape}, needed {segment.y.shape}"
            finding = replace(finding, covers=segment.layers, note=_joined(shapes, theirs.note))
        if segment is not None and finding.status in ("wrong", "shape"):
            given = self.entry in self.arrays and name != self.entry
            own_input = self.entry in segment.inputs and not given
            explanations, untried = self.explainer.explain(segment, theirs, own_input=own_input)
            finding = replace(finding, explanations=explanations, untried=untried)
        if finding.status != "same":
            self.astray.add(name)
        self.given[name] = theirs.values
        self.errors[name] = np.broadcast_to(theirs.rounding, theirs.values.shape)
        return finding

    def _segment(self, name: str, fits: bool) -> Segment | None:
        """From everything given; where shapes do not allow that, from what has the right shape."""
        shaped = {n: x for n, x in self.given.items() if n not in self.arrays or self.arrays[n].fits}
        for given in (self.given, shaped) if len(shaped) < len(self.given) else (shaped,):
            try:
                segment = segment_to(self.graph, self.params, name, given, self.errors)
                if not fits or segment.y.shape == self.arrays[name].values.shape:
                    return segment
            except ShapeError:
                continue
        return None


def _scaling_error(x: Array, picture: Picture) -> Array:
    """What three roundings make of pixels * scale + offset, in whatever order it is computed."""
    scale, offset = picture.scaling.scale, picture.scaling.offset
    if (scale, offset) == (1.0, 0.0):
        return np.zeros(x.shape)
    return gamma(3) * (np.abs(x - offset) + abs(offset))


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _summary(findings: tuple[Finding, ...]) -> list[str]:
    """What several wrong layers have in common."""
    causes = Counter(finding.explanations[0].cause for finding in findings if finding.explained)
    wrong = sum(finding.status in ("wrong", "shape") for finding in findings)
    return [f"{cause}: explains {count} of {wrong} wrong layers" for cause, count in causes.items() if wrong > 1]
