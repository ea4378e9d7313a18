"""Try mistakes on a wrong layer until one makes the difference vanish."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import DTypeLike

from npmobilenet.analysis.segments import Segment, distance, excess
from npmobilenet.porting.diagnose.axes import Arranged
from npmobilenet.porting.diagnose.mistakes.fitted_mistakes import solved
from npmobilenet.porting.diagnose.mistakes.input_mistakes import Picture, other_inputs
from npmobilenet.porting.diagnose.mistakes.layer_mistakes import SHORT, Altered, alone, everywhere
from npmobilenet.porting.diagnose.mistakes.precision_mistakes import roundings

EFFORT = 6e10
"""Multiply-adds that may go into explaining one layer, about half a minute; what is left untried then is counted."""
ALL_EFFORT = 2e11
"""The same for all layers of a comparison together. A dump of another network has nothing to be explained."""
A_CALL = 3e5
"""What computing a layer costs beside its arithmetic, in multiply-adds."""
JUDGING = 6
"""Runs of the whole segment that a tolerance takes."""
NEARLY = 0.5
"""A mistake that leaves more than this share of the difference is no explanation."""
SHOWN = 5
PAIRED = 4
"""From so many of the best single mistakes a second one is tried, where no single one explains the difference."""
EQUALLY = 10.0
"""Explanations whose remaining differences are within this factor explain equally well: what remains is rounding."""


@dataclass(frozen=True)
class Explanation:
    """A mistake, and what is left of the difference if it was made.

    Attributes:
        cause: what kind of mistake, one of the names in `docs/compare.md`; two, joined by " + ", where it takes two.
        what: the mistake in words.
        layers: the layers that it was made in.
        fits: whether rounding explains all that is left.
        left: root mean square of the difference that is left, as a share of that without the mistake.
        times_tolerance: largest difference left, as a multiple of the tolerance at its place.
    """

    cause: str
    what: str
    layers: tuple[str, ...]
    fits: bool
    left: float
    times_tolerance: float


@dataclass(frozen=True, eq=False)
class _Tried:
    """A mistake that takes something of the difference away, and the segment that has it."""

    explanation: Explanation
    altered: Altered


class Explainer:
    """Explains wrong layers, one after the other; what explained an earlier one is tried first.

    Args:
        entry: name of the network's input.
        picture: what the input was made from.
        dtype: of the other side's arithmetic.
    """

    def __init__(self, entry: str, picture: Picture, dtype: DTypeLike) -> None:
        self._entry = entry
        self._picture = picture
        self._dtype = dtype
        self._known: set[tuple[str, str]] = set()
        self._effort_left = ALL_EFFORT

    def explain(self, segment: Segment, theirs: Arranged, *, own_input: bool) -> tuple[tuple[Explanation, ...], int]:
        """Explanations of the difference between a segment's output and the other side's, the best first.

        Args:
            segment: up to the wrong layer, from the other side's inputs.
            theirs: the wrong layer's output.
            own_input: whether the segment starts at the network's input as it is here, not as the other side gave it.

        Returns:
            The explanations, and how many mistakes were not tried because they would have taken too long.
        """
        trial = _Trial(segment, theirs, self._dtype, min(EFFORT, self._effort_left))
        candidates = list(everywhere(segment))
        tried = trial.run(altered for altered in candidates if (altered.cause, altered.what) in self._known)
        if not _fits(tried):
            from_input = other_inputs(segment, self._entry, self._picture) if own_input else ()
            tried += trial.run(chain(from_input, candidates, roundings(segment, theirs.values)))
            if len(segment.steps) <= SHORT or not _fits(tried):
                tried += trial.run(alone(segment))
        if not _fits(tried) and trial.effort_left > 0:
            tried += trial.run(solved(segment, theirs.values))
        if not _fits(tried):
            tried += trial.run(_pairs(tried))
        self._effort_left -= trial.effort
        explanations = _ranked(tried)
        self._known |= {(best.cause, best.what) for best in explanations[:1] if best.fits}
        return explanations, trial.untried


class _Trial:
    """Tries mistakes on one segment, as long as the effort lasts."""

    def __init__(self, segment: Segment, theirs: Arranged, dtype: DTypeLike, effort: float) -> None:
        self._segment = segment
        self._theirs = theirs
        self._dtype = dtype
        self._before = distance(theirs.values, segment.y) if theirs.fits else float("inf")
        self._macs = _macs(segment)
        self._allowed = effort
        self.effort = 0.0
        self.untried = 0

    @property
    def effort_left(self) -> float:
        """Multiply-adds that may still be spent."""
        return self._allowed - self.effort

    def run(self, candidates: Iterable[Altered]) -> list[_Tried]:
        """Those that take something of the difference away."""
        tried = []
        for altered in candidates:
            if self.effort_left <= 0:
                self.untried += 1
                continue
            explanation = self._judged(altered)
            altered.segment.forget()  # hundreds of them would not fit into memory
            if explanation is not None:
                tried.append(_Tried(explanation, altered))
        return tried

    def _judged(self, altered: Altered) -> Explanation | None:
        theirs, segment = self._theirs, altered.segment
        self.effort += self._effort(segment)
        try:
            y = segment.y
        except ValueError:  # shapes that do not go together: this mistake cannot be made here
            return None
        if y.shape != theirs.values.shape:
            return None
        after = distance(theirs.values, y, segment.free)
        left = after / self._before if np.isfinite(self._before) else 0.0 if np.isfinite(after) else 1.0
        if not left < 1:
            return None
        times = float("inf")
        if left <= NEARLY:
            self.effort += JUDGING * sum(self._macs.values())
            times = excess(theirs.values, y, segment.tolerance(self._dtype) + theirs.rounding)
        return Explanation(altered.cause, altered.what, altered.layers, times <= 1, left, times)

    def _effort(self, segment: Segment) -> float:
        """Multiply-adds of the steps that have to be computed anew: those from the first one altered."""
        same = set(map(id, self._segment.steps)) if segment.storage is None else set()
        shared = all(self._segment.inputs.get(name) is x for name, x in segment.inputs.items())
        cost = 0.0
        for step in segment.steps:
            shared = shared and id(step) in same
            cost += 0 if shared else self._macs.get(step.layer.name, A_CALL)
        return cost


def _macs(segment: Segment) -> dict[str, float]:
    """What every step costs for the whole batch, in multiply-adds; one a value where there is no kernel."""
    outputs = segment.outputs
    return {
        step.layer.name: A_CALL
        + outputs[step.layer.name].size
        + len(outputs[step.layer.name]) * step.layer.macs(*(outputs[source].shape[1:] for source in step.layer.inputs))
        for step in segment.steps
    }


def _fits(tried: Iterable[_Tried]) -> bool:
    return any(one.explanation.fits for one in tried)


def _pairs(tried: list[_Tried]) -> Iterator[Altered]:
    """Each of the best single mistakes with a second one on top."""
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
    """Those that fit, in the order in which they were tried where they fit equally well; else the nearest few."""
    explanations = [one.explanation for one in tried]
    fitting = [explanation for explanation in explanations if explanation.fits]
    if fitting:
        best = min(explanation.left for explanation in fitting)
        return tuple(sorted(fitting, key=lambda e: e.left > EQUALLY * best)[:SHOWN])
    near = [explanation for explanation in explanations if explanation.left <= NEARLY]
    return tuple(sorted(near, key=lambda explanation: explanation.left)[:SHOWN])
