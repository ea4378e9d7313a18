"""The walk over an 8-bit network's operators: which are wrong on the port's own inputs, and which rule they follow.

Integers have no tolerance: an operator is exact or wrong. What is exact depends on the rule of rounding, so every
operator is computed under every rule, and the port is judged by one under which most of it is exact.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from npmobilenet.errors import NpMobileNetError
from npmobilenet.porting.diagnose.integer_parts import IntegerPart
from npmobilenet.porting.diagnose.mistakes.operator_mistakes import integer_mistakes
from npmobilenet.porting.diagnose.port_integers import port_integers, shared_notes
from npmobilenet.porting.progress import Progress, no_progress
from npmobilenet.quantized.rules import RULES, find_rule
from npmobilenet.quantized.running import trace
from npmobilenet.quantized.tensors import Network, Tensor
from npmobilenet.types import Array

ANY_RULE = "any"
SHOWN = 5  # of those that do not fit
EXPLAINED = 12
"""Wrong operators on which every mistake is tried; on those that follow only the mistakes found before."""
CLEARLY = 0.5
"""A mistake that leaves more than this share of the differing values is no explanation."""


@dataclass(frozen=True)
class IntegerExplanation:
    """A mistake, and what remains of the difference if it is assumed.

    Attributes:
        cause: kind of mistake, one of the names in `docs/compare.md`.
        what: description of the mistake.
        layers: the operators in which it was made.
        fits: whether every value is equal.
        left: differing values, as a share of those without the mistake.
    """

    cause: str
    what: str
    layers: tuple[str, ...]
    fits: bool
    left: float


@dataclass(frozen=True)
class IntegerFinding:
    """The result for one operator.

    Attributes:
        layer: name of the tensor that it makes.
        type: its code.
        status: "same" (every value is equal), "inherits" (the same, on inputs that are wrong), "wrong" (not equal, on
            the port's own inputs), "shape" (cannot be brought to the tensor's shape and range), "missing" (not in the
            dump).
        number: of the operator, in order; None of the input.
        differing: number of values that differ from the operator computed on the port's inputs.
        largest: the largest of these differences.
        at: place of the first one, without the batch axis.
        rules: rules under which every value is equal.
        covers: operators that were computed for it: itself, and those before it that the dump does not include.
        note: further remarks.
        explanations: of a wrong operator, the best first.
    """

    layer: str
    type: str
    status: str
    number: int | None = None
    differing: int | None = None
    largest: int | None = None
    at: tuple[int, ...] = ()
    rules: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    note: str = ""
    explanations: tuple[IntegerExplanation, ...] = ()

    @property
    def explained(self) -> bool:
        """Whether the best explanation leaves no difference."""
        return bool(self.explanations) and self.explanations[0].fits


@dataclass(frozen=True)
class IntegerDiagnosis:
    """All findings, in the order of the operators.

    Attributes:
        model: name of the network.
        findings: one per operator, the input first.
        exact_under: rules under which every operator is exact.
        first_different: by every other rule, the first operator that is not exact.
        rule: the rule that findings are judged by.
        notes: on the dump as a whole.
    """

    model: str
    findings: tuple[IntegerFinding, ...]
    exact_under: tuple[str, ...]
    first_different: Mapping[str, str]
    rule: str
    notes: tuple[str, ...] = ()

    @property
    def wrong(self) -> tuple[IntegerFinding, ...]:
        """The operators that are wrong themselves."""
        return tuple(finding for finding in self.findings if finding.status in ("wrong", "shape"))

    @property
    def compared(self) -> tuple[IntegerFinding, ...]:
        """The operators whose values were compared."""
        return tuple(finding for finding in self.findings if finding.differing is not None)

    @property
    def first(self) -> IntegerFinding | None:
        """The first wrong operator."""
        return next(iter(self.wrong), None)

    @property
    def exit_code(self) -> int:
        """0: the same. 1: different. 2: nothing to compare."""
        if not self.compared and not self.wrong:
            return 2
        return 1 if self.wrong else 0


def diagnose_integers(
    network: Network,
    names: Sequence[str],
    x: Array,
    dump: Mapping[str, Array],
    *,
    rule: str = ANY_RULE,
    progress: Progress = no_progress,
) -> IntegerDiagnosis:
    """Compare a port's arrays with what the network computes from the port's own inputs, and explain the differences.

    Args:
        network: a quantized network.
        names: a name for every tensor, by number.
        x: (1, H, W, C) its input.
        dump: the port's tensors by name, in any order of axes, of either 8-bit type. Missing ones are computed from
            those before them.
        rule: the rule that the port should follow; "any" for the one under which most operators are exact.
        progress: reports the progress over the operators.

    Raises:
        ArgumentError: the rule is unknown.
    """
    if rule != ANY_RULE:
        find_rule(rule)
    walk = _Walk(network, names, x, dump)
    exact = {number: walk.exact_rules(number) for number in progress(walk.dumped, len(walk.dumped), "comparing")}
    common = [name for name in RULES if all(name in rules for rules in exact.values())]
    walk.counts.update(name for rules in exact.values() for name in rules)
    judged = rule if rule != ANY_RULE else max(RULES, key=lambda name: walk.counts[name])
    findings = walk.findings(judged, exact)
    different = {
        name: next(names[number] for number, rules in exact.items() if name not in rules)
        for name in RULES
        if name not in common
    }
    return IntegerDiagnosis(
        network.name, findings, tuple(common), different, judged, (*walk.notes, *_summary(findings))
    )


class _Walk:
    """The port's tensors, and what is computed from them."""

    def __init__(self, network: Network, names: Sequence[str], x: Array, dump: Mapping[str, Array]) -> None:
        self._network, self._names = network, names
        self._input = network.inputs[0]
        own = {self._input: x} | {op.outputs[0]: y for op, y in trace(network, x)}
        placed = {
            number: port_integers(np.asarray(dump[names[number]]), network.tensors[number], y)
            for number, y in own.items()
            if names[number] in dump
        }
        self.notes = shared_notes({names[number]: array.notes for number, array in placed.items() if array.fits})
        self._unfit = {number: array for number, array in placed.items() if not array.fits}
        given = {number: array.values.reshape(own[number].shape) for number, array in placed.items() if array.fits}
        self.dumped = [op.outputs[0] for op in network.operators if op.outputs[0] in given]
        self._own_input = self._input not in given
        self._given_x = given.get(self._input, x)
        self._x = x
        constants = {number: tensor for number, tensor in enumerate(network.tensors) if tensor.data is not None}
        self._given: dict[int, Tensor] = constants | {
            number: replace(network.tensors[number], data=array) for number, array in ({self._input: x} | given).items()
        }
        self._known: list[tuple[str, str]] = []
        self.counts: Counter[str] = Counter()

    def exact_rules(self, number: int) -> tuple[str, ...]:
        """Rules under which the port's tensor is exactly what follows from the tensors before it."""
        return self._part(number).exact_rules(self._values(number))

    def findings(self, judged: str, exact: Mapping[int, tuple[str, ...]]) -> tuple[IntegerFinding, ...]:
        """The finding on the input, if it was dumped, and on every operator."""
        findings, tainted = [], set()
        if not self._own_input or self._input in self._unfit:
            findings.append(self._input_finding())
            tainted |= {self._input} if findings[0].status != "same" else set()
        explained = 0
        for place, operator in enumerate(self._network.operators):
            number = operator.outputs[0]
            finding = IntegerFinding(self._names[number], operator.code, "missing", place)
            if number in self._unfit:
                finding = replace(finding, status="shape", note="; ".join(self._unfit[number].notes))
            elif number in exact:
                finding = self._judged(finding, number, judged, exact[number], tainted)
                if finding.status == "wrong":
                    explanations = self._explained(number, judged, only_known=explained >= EXPLAINED)
                    finding, explained = replace(finding, explanations=explanations), explained + 1
            if finding.status not in ("same", "missing"):
                tainted.add(number)
            findings.append(finding)
        return tuple(findings)

    def _input_finding(self) -> IntegerFinding:
        finding = IntegerFinding(self._names[self._input], "input", "shape")
        if self._input in self._unfit:
            return replace(finding, note="; ".join(self._unfit[self._input].notes))
        port = self._given_x.astype(np.float64)
        apart = np.abs(port - self._x)
        if not apart.any():
            return replace(finding, status="same", differing=0, largest=0, rules=tuple(RULES))
        explanations = tuple(
            IntegerExplanation(cause, what, (finding.layer,), True, 0.0)
            for cause, what, other in _other_inputs(self._x)
            if np.array_equal(other, self._given_x)
        )
        count, largest = int(np.count_nonzero(apart)), int(apart.max())
        return replace(finding, status="wrong", differing=count, largest=largest, explanations=explanations)

    def _judged(
        self, finding: IntegerFinding, number: int, judged: str, rules: tuple[str, ...], tainted: set[int]
    ) -> IntegerFinding:
        part, port = self._part(number), self._values(number)
        apart = _apart(part.run(RULES[judged]), port)
        status = "wrong" if judged not in rules else "inherits" if tainted.intersection(part.starts) else "same"
        largest, differing = apart.max(initial=0), np.argwhere(apart)
        return replace(
            finding,
            status=status,
            differing=len(differing),
            at=tuple(map(int, differing[0][1:])) if len(differing) else (),
            largest=int(largest) if np.isfinite(largest) else None,
            rules=rules,
            covers=tuple(self._names[operator.outputs[0]] for operator in part.operators),
        )

    def _explained(self, number: int, judged: str, *, only_known: bool) -> tuple[IntegerExplanation, ...]:
        """Mistakes that remove the difference, or most of it; those of earlier operators are tried first."""
        part, port = self._part(number), self._values(number)
        trial = _Trial(part, port, [self._names[operator.outputs[0]] for operator in part.operators], judged)
        known = [found for found in trial.candidates if found[:2] in self._known]
        explanations = trial.run(known)
        if only_known:
            return self._ranked(explanations)
        if not any(explanation.fits for explanation in explanations):
            explanations = trial.run(trial.candidates)
        if not any(explanation.fits for explanation in explanations) and self._own_input and self._input in part.starts:
            explanations += self._from_input(part, port, judged)
        if not any(explanation.fits for explanation in explanations):
            explanations += trial.run_under_other_rules()
        ranked = self._ranked(explanations)
        self._known += [(ranked[0].cause, ranked[0].what)] if ranked and ranked[0].fits else []
        return ranked

    def _ranked(self, explanations: Sequence[IntegerExplanation]) -> tuple[IntegerExplanation, ...]:
        """Those that fit, rules by the number of operators that they fit; if none does, the closest few."""
        fitting = [explanation for explanation in explanations if explanation.fits]
        if fitting:
            return tuple(sorted(fitting, key=lambda explanation: self._place(explanation.cause)))
        return tuple(sorted(explanations, key=lambda explanation: explanation.left)[:SHOWN])

    def _place(self, cause: str) -> int:
        rule = cause.removeprefix("rule-")
        return -self.counts[rule] if cause.startswith("rule-") and rule in RULES else 1

    def _from_input(self, part: IntegerPart, port: Array, judged: str) -> list[IntegerExplanation]:
        """Mistakes in the image, if the dump does not include it."""
        found = []
        for cause, what, other in _other_inputs(self._x):
            changed = part.with_start(self._input, other)
            if np.array_equal(changed.run(RULES[judged]), port):
                found.append(IntegerExplanation(cause, what, (self._names[self._input],), True, 0.0))
        return found

    def _part(self, number: int) -> IntegerPart:
        return IntegerPart.leading_to(self._network, number, self._given)

    def _values(self, number: int) -> Array:
        data = self._given[number].data
        assert data is not None
        return data


class _Trial:
    """Mistakes tried on one wrong operator, and on those before it that the dump does not include."""

    def __init__(self, part: IntegerPart, port: Array, labels: Sequence[str], judged: str) -> None:
        self._part, self._port, self._labels, self._judged = part, port, labels, judged
        self._before = int(np.count_nonzero(_apart(part.run(RULES[judged]), port)))
        by_kind: dict[tuple[str, str], dict[int, Callable[..., Array]]] = {}
        for place, (operator, inputs, y) in enumerate(part.described()):
            for mistake in integer_mistakes(operator, inputs, y):
                by_kind.setdefault((mistake.cause, mistake.what), {})[place] = mistake.compute
        everywhere = [(*kind, changes) for kind, changes in by_kind.items()]
        alone = [
            (*kind, {place: change}) for kind, changes in by_kind.items() if len(changes) > 1
            for place, change in changes.items()
        ]  # fmt: skip
        self.candidates = everywhere + alone

    def run(
        self, candidates: Sequence[tuple[str, str, dict[int, Callable[..., Array]]]], rule: str | None = None
    ) -> list[IntegerExplanation]:
        """The candidates that remove half of the difference or more, under the rule that the port is judged by."""
        under = rule or self._judged
        found = []
        for cause, what, changes in candidates:
            left = self._left(changes, under)
            if left <= CLEARLY:
                layers = tuple(self._labels[place] for place in sorted(changes))
                joined = (cause, what) if rule is None else (f"{cause} + rule-{rule}", f"{what}; and rounded as {rule}")
                found.append(IntegerExplanation(*joined, layers, left == 0, left))
        return found

    def run_under_other_rules(self) -> list[IntegerExplanation]:
        """The candidates together with another rule of rounding."""
        real = [candidate for candidate in self.candidates if not candidate[0].startswith("rule-")]
        for name in RULES:
            found = self.run(real, name) if name != self._judged else []
            if any(explanation.fits for explanation in found):
                return found
        return []

    def _left(self, changes: dict[int, Callable[..., Array]], rule: str) -> float:
        try:
            y = self._part.run(RULES[rule], changes)
        except (ValueError, IndexError, NpMobileNetError):  # shapes that do not fit: this mistake cannot be made here
            return 1.0
        if y.shape != self._port.shape:
            return 1.0
        return int(np.count_nonzero(_apart(y, self._port))) / max(self._before, 1)


def _apart(y: Array, port: Array) -> Array:
    """Absolute differences, in float64."""
    if y.shape != port.shape:
        return np.full(port.shape, np.inf)
    return np.asarray(np.abs(y.astype(np.float64) - port))


def _other_inputs(x: Array) -> list[tuple[str, str, Array]]:
    """Mistakes in the image: (cause, what, the image with it)."""
    flipped = (x.view(np.uint8) ^ 0x80).view(x.dtype) if x.dtype.itemsize == 1 else x
    return [
        ("channel-order", "the channels are blue, green, red", x[..., ::-1]),
        ("off-by-128", "the image is off by 128, as between int8 and uint8", flipped),
        ("image-axes", "rows and columns are exchanged", x.transpose(0, 2, 1, 3)),
        ("image-axes", "the image is upside down", x[:, ::-1]),
        ("image-axes", "the image is mirrored", x[:, :, ::-1]),
    ]


def _summary(findings: Sequence[IntegerFinding]) -> list[str]:
    """One note per cause that several wrong operators share."""
    causes = Counter(finding.explanations[0].cause for finding in findings if finding.explained)
    wrong = sum(finding.status in ("wrong", "shape") for finding in findings)
    return [f"{cause}: explains {count} of {wrong} wrong layers" for cause, count in causes.items() if wrong > 1]
