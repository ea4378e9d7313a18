"""Explanations of a wrong layer: known mistakes are tried until one removes the difference."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from time import monotonic

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.analysis.segments import Segment, distance, excess
from npmobilenet.porting.diagnose.axes import Arranged
from npmobilenet.porting.diagnose.mistakes.fitted_mistakes import fitted
from npmobilenet.porting.diagnose.mistakes.foreign_mistakes import Surroundings
from npmobilenet.porting.diagnose.mistakes.further_mistakes import further
from npmobilenet.porting.diagnose.mistakes.input_mistakes import InputImage, other_inputs
from npmobilenet.porting.diagnose.mistakes.layer_mistakes import alone, everywhere
from npmobilenet.porting.diagnose.mistakes.precision_mistakes import roundings
from npmobilenet.porting.diagnose.mistakes.variants import Altered
from npmobilenet.porting.progress import Progress, no_progress

SECONDS = 30.0
"""Time spent on all explanations of a diagnosis, unless another is asked for; mistakes left untried are counted."""
SHARE = 0.5
"""Share of the time left that one layer may take, so that something is left for the next one."""
EFFORT_PER_LAYER = 6e10
"""Limit on the multiply-adds spent on one layer."""
TOTAL_EFFORT = 2e11
"""Limit for all layers of a diagnosis together: a dump of another network cannot be explained."""
CALL_OVERHEAD = 3e5
"""Overhead of computing one layer, in multiply-adds."""
TOLERANCE_RUNS = 6
"""Cost of a tolerance, in runs of the whole segment."""
MAXIMUM_LEFT = 0.5
"""A mistake that leaves more than this share of the difference is not an explanation."""
SHOWN = 5
PAIRED = 4
"""Number of best single mistakes that are combined with a second one if none explains the difference alone."""
EQUALLY = 10.0
"""Factor within which remaining differences count as equal: what remains is rounding."""


@dataclass(frozen=True)
class Explanation:
    """A mistake, and the residual difference assuming that it was made.

    Attributes:
        cause: kind of mistake, one of the names in `docs/compare.md`, or two joined by " + ".
        what: description of the mistake.
        layers: the layers in which it was made.
        fits: whether the residual is within the tolerance.
        left: root mean square of the residual, as a share of the difference without the mistake.
        times_tolerance: maximum residual, as a multiple of the tolerance of its value.
    """

    cause: str
    what: str
    layers: tuple[str, ...]
    fits: bool
    left: float
    times_tolerance: float


@dataclass(frozen=True, eq=False)
class _Tried:
    """A mistake that reduces the difference, and the segment altered by it."""

    explanation: Explanation
    altered: Altered


class Explainer:
    """Explains wrong layers in turn; explanations of earlier layers are tried first.

    Args:
        input_name: name of the network's input layer.
        image: source of the network's input.
        dtype: of the port's arithmetic.
        seconds: time for all explanations together.
        progress: reports the progress over the mistakes tried on a layer.
    """

    def __init__(
        self,
        input_name: str,
        image: InputImage,
        dtype: DTypeLike,
        seconds: float = SECONDS,
        progress: Progress = no_progress,
    ) -> None:
        self._seconds_left = seconds
        self._progress = progress
        self._input_name = input_name
        self._image = image
        self._dtype = dtype
        self._known: set[tuple[str, str]] = set()
        self._effort_left = TOTAL_EFFORT

    def explain(
        self, segment: Segment, actual: Arranged, surroundings: Surroundings, *, own_input: bool
    ) -> tuple[tuple[Explanation, ...], int]:
        """Explanations of the difference between a segment's output and the port's, the best first.

        Args:
            segment: up to the wrong layer, from the port's arrays.
            actual: the port's output of the wrong layer.
            surroundings: the network, its parameters and the port's arrays before the layer.
            own_input: whether the segment starts at the reference's input, because the dump does not include the
                port's.

        Returns:
            The explanations, and a lower bound on the number of mistakes left untried to save time.
        """
        started = monotonic()
        trial = _Trial(segment, actual, self._dtype, min(EFFORT_PER_LAYER, self._effort_left))
        trial.ends = started + self._seconds_left * SHARE
        candidates = list(everywhere(segment))
        tried = trial.run(altered for altered in candidates if (altered.cause, altered.what) in self._known)
        from_input = other_inputs(segment, self._input_name, self._image) if own_input else ()
        for some in (
            chain(from_input, candidates, roundings(segment, actual.values)),
            alone(segment),
            fitted(segment, actual.values),
            further(segment, actual.values, surroundings),
        ):
            if not _fits(tried):
                tried += trial.run(self._progress(some, len(candidates), f"explaining {segment.output}"))
        if not _fits(tried):
            tried += trial.run(_pairs(tried))
        self._seconds_left -= monotonic() - started
        self._effort_left -= trial.effort
        explanations = _ranked(tried)
        self._known |= {(best.cause, best.what) for best in explanations[:1] if best.fits}
        return explanations, trial.untried


class _Trial:
    """Trials of mistakes on one segment, within a limit of effort in multiply-adds."""

    def __init__(self, segment: Segment, actual: Arranged, dtype: DTypeLike, effort: float) -> None:
        self._segment = segment
        self._actual = actual
        self._dtype = dtype
        self._before = distance(actual.values, segment.y) if actual.fits else float("inf")
        self._macs = _macs(segment)
        self._allowed = effort
        self.effort = 0.0
        self.ends = float("inf")
        self.untried = 0

    @property
    def effort_left(self) -> float:
        """Remaining multiply-adds; none after the time is over."""
        return self._allowed - self.effort if monotonic() < self.ends else 0.0

    def run(self, candidates: Iterable[Altered]) -> list[_Tried]:
        """The candidates that reduce the difference; without effort left, not even the next one is asked for."""
        tried = []
        for altered in candidates:
            if self.effort_left <= 0:
                self.untried += 1
                break
            explanation = self._judged(altered)
            altered.segment.forget()  # hundreds of outputs would not fit into memory
            if explanation is not None:
                tried.append(_Tried(explanation, altered))
        return tried

    def _judged(self, altered: Altered) -> Explanation | None:
        actual, segment = self._actual, altered.segment
        self.effort += self._effort(segment)
        try:
            y = segment.y
        except ValueError:  # incompatible shapes: this mistake cannot be made here
            return None
        if y.shape != actual.values.shape:
            return None
        after = distance(actual.values, y, segment.free)
        left = after / self._before if np.isfinite(self._before) else 0.0 if np.isfinite(after) else 1.0
        if not left < 1:
            return None
        times = float("inf")
        if left <= MAXIMUM_LEFT:
            self.effort += TOLERANCE_RUNS * sum(self._macs.values())
            times = excess(actual.values, y, segment.tolerance(self._dtype) + actual.rounding)
        return Explanation(altered.cause, altered.what, altered.layers, times <= 1, left, times)

    def _effort(self, segment: Segment) -> float:
        """Multiply-adds of the steps to recompute: those from the first altered one."""
        same = set(map(id, self._segment.steps)) if segment.storage is None else set()
        shared = all(self._segment.inputs.get(name) is x for name, x in segment.inputs.items())
        cost = 0.0
        for step in segment.steps:
            shared = shared and id(step) in same
            cost += 0 if shared else self._macs.get(step.layer.name, CALL_OVERHEAD)
        return cost


def _macs(segment: Segment) -> dict[str, float]:
    """Cost of every step for the whole batch in multiply-adds, with one per output value and the overhead."""
    outputs = segment.outputs
    return {
        step.layer.name: CALL_OVERHEAD
        + outputs[step.layer.name].size
        + len(outputs[step.layer.name]) * step.layer.macs(*(outputs[source].shape[1:] for source in step.layer.inputs))
        for step in segment.steps
    }


def _fits(tried: Iterable[_Tried]) -> bool:
    return any(one.explanation.fits for one in tried)


def _pairs(tried: list[_Tried]) -> Iterator[Altered]:
    """Pairs: each of the best single mistakes combined with a second one."""
    best = sorted(tried, key=lambda one: one.explanation.left)[:PAIRED]
    for first in best:
        for second in everywhere(first.altered.segment):
            if second.what != first.altered.what:
                yield Altered(
                    f"{first.altered.cause} + {second.cause}",
                    f"{first.altered.what}; and {second.what}",
                    tuple(dict.fromkeys((*first.altered.layers, *second.layers))),
                    second.segment,
                )


def _ranked(tried: list[_Tried]) -> tuple[Explanation, ...]:
    """The explanations that fit, in order of trial where they fit equally well; otherwise the closest few."""
    explanations = [one.explanation for one in tried]
    fitting = [explanation for explanation in explanations if explanation.fits]
    if fitting:
        best = min(explanation.left for explanation in fitting)
        return tuple(sorted(fitting, key=lambda e: e.left > EQUALLY * best)[:SHOWN])
    close = [explanation for explanation in explanations if explanation.left <= MAXIMUM_LEFT]
    return tuple(sorted(close, key=lambda explanation: explanation.left)[:SHOWN])
