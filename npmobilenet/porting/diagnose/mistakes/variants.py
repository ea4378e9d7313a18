"""Mistakes as alterations: of one layer, or of a whole segment."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from npmobilenet.analysis.segments import Segment, SegmentStep
from npmobilenet.reference.layers import Rescaling

SHORT = 12  # layers of a segment in which everything is tried; in longer ones only common mistakes


@dataclass(frozen=True)
class Variant:
    """A mistake in one layer.

    Attributes:
        cause: kind of mistake, one of the names in `docs/compare.md`.
        what: description of the mistake.
        layers: the layers in which it is made.
        steps: replacement steps by the name of the step that they replace.
    """

    cause: str
    what: str
    layers: tuple[str, ...]
    steps: Mapping[str, tuple[SegmentStep, ...]]


@dataclass(frozen=True, eq=False)
class Altered:
    """A segment with a mistake: its kind, its description, and the layers in which it is made."""

    cause: str
    what: str
    layers: tuple[str, ...]
    segment: Segment


def in_place(step: SegmentStep, cause: str, what: str, *steps: SegmentStep) -> Variant:
    """A variant that replaces one step by one or several; the last of them has its name."""
    name = step.layer.name
    return Variant(cause, what, (name,), {name: steps})


def with_params(step: SegmentStep, cause: str, what: str, **arrays: Any) -> Variant:
    """A variant of a step with some of its arrays replaced."""
    return in_place(step, cause, what, SegmentStep(step.layer, {**step.params, **arrays}, step.before))


def scaled(step: SegmentStep, scale: float, offset: float = 0.0) -> Iterator[SegmentStep]:
    """The step, and its output * scale + offset."""
    bare = f"{step.layer.name}+unscaled"
    yield SegmentStep(replace(step.layer, name=bare), step.params, step.before)
    yield SegmentStep(Rescaling(name=step.layer.name, inputs=(bare,), scale=scale, offset=offset), {})
