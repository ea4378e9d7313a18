"""The walk over the layers: which are wrong themselves, and which only inherit an error.

A layer is judged on the port's own inputs: the port's output must be within rounding of the exact output for these
inputs. So a mistake is found where it was made, not where it grew large.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.analysis.segments import Segment, distance, excess, segment_to
from npmobilenet.errors import ShapeError
from npmobilenet.models.model import Model
from npmobilenet.porting.diagnose.axes import Arranged, arrange, is_channels_first, layout_note
from npmobilenet.porting.diagnose.explain import SECONDS, Explainer, Explanation
from npmobilenet.porting.diagnose.known import facts
from npmobilenet.porting.diagnose.mistakes.foreign_mistakes import Surroundings
from npmobilenet.porting.diagnose.mistakes.input_mistakes import InputImage
from npmobilenet.porting.progress import Progress, no_progress
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.rounding import gamma
from npmobilenet.types import Array

ROUNDINGS = 4
"""Roundings of a value that make no difference between two distances."""
CLOSER = 2.0
"""Factor within which two distances count as equal: both are rounding."""


@dataclass(frozen=True)
class Finding:
    """The result for one layer.

    Attributes:
        layer: its name.
        type: its type.
        status: "same" (within its tolerance), "inherits" (correct on its inputs, which are wrong), "wrong" (outside its
            tolerance on its own inputs), "shape" (wrong shape), "unused" (outside, but what follows was not computed
            from it), "missing" (not in the dump).
        difference: maximum difference from the reference's output in float64, None if nothing can be compared.
        times_tolerance: maximum difference from the layer computed on the port's inputs, as a multiple of the
            tolerance of its value.
        covers: the layers that were computed for it: itself, and those before it that the dump does not include.
        note: further remarks.
        explanations: for a wrong layer, the best first.
        untried: number of groups of explanations that were cut short, or left untried, to save time.
        facts: for a wrong layer that nothing explains, what is known of the difference.
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
    facts: tuple[str, ...] = ()

    @property
    def explained(self) -> bool:
        """Whether the residual of the best explanation is within the tolerance."""
        return bool(self.explanations) and self.explanations[0].fits


@dataclass(frozen=True)
class Diagnosis:
    """All findings, in the order of the graph, and notes on the dump as a whole."""

    model: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """The layers that are wrong themselves."""
        return tuple(finding for finding in self.findings if finding.status in ("wrong", "shape"))

    @property
    def compared(self) -> tuple[Finding, ...]:
        """The layers whose values were compared."""
        return tuple(finding for finding in self.findings if finding.times_tolerance is not None)

    @property
    def first(self) -> Finding | None:
        """The first wrong layer."""
        return next(iter(self.wrong), None)

    @property
    def exit_code(self) -> int:
        """0: the same. 1: different. 2: nothing to compare."""
        if not self.compared and not any(finding.explained for finding in self.wrong):
            return 2
        return 1 if self.wrong else 0


def diagnose(
    model: Model,
    x: Array,
    dump: Mapping[str, Array],
    *,
    image: InputImage | None = None,
    dtype: DTypeLike = np.float32,
    progress: Progress = no_progress,
    seconds: float = SECONDS,
) -> Diagnosis:
    """Compare a port's arrays with the outputs that the network should have, and explain the differences.

    Args:
        model: the network.
        x: (N, H, W, C) the scaled input.
        dump: the port's outputs by layer name, in any common layout, such as (N, C, H, W) or without the batch axis.
            Missing outputs are computed from the ones before them. Names that are not in the network are ignored.
        image: source of x, for mistakes made before the network; None for pixels by the model's scaling.
        dtype: of the port's arithmetic.
        progress: reports the progress over the layers, such as `output.progress_bar`.
        seconds: time for the explanations; mistakes that were not tried by then are counted.

    Raises:
        ShapeError: x does not fit the network.
    """
    image = image or InputImage(model.scaling)
    x = np.asarray(x, np.float64)
    shapes = {name: np.shape(array) for name, array in dump.items() if name in model.graph.shapes}
    first = is_channels_first(shapes, model.graph.shapes)
    traced = ((name, y) for name, y in model.trace(x) if name in dump)
    arrays = {name: arrange(dump[name], y, channels_first=first) for name, y in traced}
    walk = _Walk(model, x, arrays, image, dtype, Explainer(model.graph.layers[0].name, image, dtype, seconds))
    findings = {name: walk.judge(name) for name in progress(list(arrays), len(arrays), "comparing")}
    missing = (Finding(layer.name, layer.type, "missing") for layer in model.graph.layers)
    everything = tuple(findings.get(finding.layer, finding) for finding in missing)
    return Diagnosis(model.graph.name, everything, (*layout_note(arrays), *_summary(everything)))


class _Walk:
    """State of one walk: the port's arrays so far, and bounds on their errors."""

    def __init__(
        self,
        model: Model,
        x: Array,
        arrays: Mapping[str, Arranged],
        image: InputImage,
        dtype: DTypeLike,
        explainer: Explainer,
    ) -> None:
        self.graph: Graph = model.graph
        self.params = {name: array.astype(np.float64) for name, array in model.params.items()}
        self.arrays = arrays
        self.input_name = model.graph.layers[0].name
        self.given: dict[str, Array] = {self.input_name: x}
        self.errors: dict[str, Array] = {self.input_name: _scaling_error(x, image)}
        self.dtype = dtype
        self.explainer = explainer
        self.tainted: set[str] = set()  # wrong layers, and those computed from them

    def judge(self, name: str) -> Finding:
        """The finding on one layer; its array is taken as given for the layers that follow."""
        actual = self.arrays[name]
        finding, segment = self._compared(name, actual)
        if segment is not None and finding.status == "wrong" and not actual.note and self._is_unused(name, segment):
            return replace(finding, status="unused", note="the layers after it were not computed from this array")
        if segment is not None and finding.status in ("wrong", "shape"):
            dumped = self.input_name in self.arrays and name != self.input_name
            own_input = self.input_name in segment.inputs and not dumped
            around = Surroundings(self.graph, self.params, self.given)
            explanations, untried = self.explainer.explain(segment, actual, around, own_input=own_input)
            finding = replace(finding, explanations=explanations, untried=untried)
            if not finding.explained:
                tolerance = segment.tolerance(self.dtype) + actual.rounding
                finding = replace(finding, facts=facts(segment, actual.values, tolerance))
        if finding.status != "same":
            self.tainted.add(name)
        if name == self.input_name and not actual.fits:
            return finding  # the layers that follow are computed from the network's own input
        self.given[name] = actual.values
        self.errors[name] = np.broadcast_to(actual.rounding, actual.values.shape)
        return finding

    def _is_unused(self, name: str, segment: Segment) -> bool:
        """Whether every array that reads this one agrees, at least as closely, with what follows from those before.

        Then the port's layer is right, and the array is another one: dumped too early, or overwritten in place.
        """
        given = self.given | {name: self.arrays[name].values}
        readers = 0
        for later, array in self.arrays.items():
            if not array.fits or later in given or self.graph.layers[0].name == later:
                continue
            try:
                reading = segment_to(self.graph, self.params, later, given, self.errors)
                if name not in reading.inputs:
                    continue
                readers += 1
                without = segment_to(self.graph, self.params, later, self.given, self.errors)
                rounding = ROUNDINGS * np.finfo(self.dtype).eps * float(np.sqrt((array.values**2).mean()))
                if not distance(array.values, without.y) <= CLOSER * distance(array.values, reading.y) + rounding:
                    return False
                if excess(array.values, without.y, without.tolerance(self.dtype) + array.rounding) > 1:
                    return False
            except (ShapeError, ValueError):
                return False
        return readers > 0

    def _compared(self, name: str, actual: Arranged) -> tuple[Finding, Segment | None]:
        """The finding without explanations, and the segment that leads to the layer."""
        finding = Finding(name, self.graph[name].type, "shape", actual.difference, note=actual.note)
        if name == self.input_name and not actual.fits:
            shapes = f"expected shape {self.given[name].shape}, got {actual.values.shape}"
            return replace(finding, note=_joined(shapes, actual.note)), None
        segment = self._segment(name, actual.fits)
        if segment is None:
            return replace(finding, note=_joined(actual.note, "its inputs have incompatible shapes")), None
        finding = replace(finding, covers=segment.layers)
        if not actual.fits:
            shapes = f"expected shape {segment.y.shape}, got {actual.values.shape}"
            return replace(finding, note=_joined(shapes, actual.note)), segment
        times = excess(actual.values, segment.y, segment.tolerance(self.dtype) + actual.rounding)
        status = "wrong" if times > 1 else "inherits" if self.tainted.intersection(segment.inputs) else "same"
        return replace(finding, status=status, times_tolerance=times), segment

    def _segment(self, name: str, fits: bool) -> Segment | None:
        """The segment from all given arrays; if their shapes are incompatible, from those of the right shape."""
        shaped = {
            n: x for n, x in self.given.items() if n == self.input_name or n not in self.arrays or self.arrays[n].fits
        }
        for given in (self.given, shaped) if len(shaped) < len(self.given) else (shaped,):
            try:
                segment = segment_to(self.graph, self.params, name, given, self.errors)
                if not fits or segment.y.shape == self.arrays[name].values.shape:
                    return segment
            except ShapeError:
                continue
        return None


def _scaling_error(x: Array, image: InputImage) -> Array:
    """Bound on the error of x = pixels * scale + offset with three roundings, in any order of computation."""
    scale, offset = image.scaling.scale, image.scaling.offset
    if (scale, offset) == (1.0, 0.0):
        return np.zeros(x.shape)
    return gamma(3) * (np.abs(x - offset) + np.abs(offset))


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _summary(findings: tuple[Finding, ...]) -> list[str]:
    """One note per cause that several wrong layers share."""
    causes = Counter(finding.explanations[0].cause for finding in findings if finding.explained)
    wrong = sum(finding.status in ("wrong", "shape") for finding in findings)
    return [f"{cause}: explains {count} of {wrong} wrong layers" for cause, count in causes.items() if wrong > 1]
