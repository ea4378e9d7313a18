"""The half of `npmobilenet compare` for quantized networks."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npmobilenet.cli.integer_explanation import short_name
from npmobilenet.cli.shared import counted
from npmobilenet.errors import NpMobileNetError
from npmobilenet.models.model import Model
from npmobilenet.models.opening import Loaded
from npmobilenet.output import print_json, print_line, print_table, progress_bar
from npmobilenet.types import Array

if TYPE_CHECKING:
    from npmobilenet.models.quantized_model import QuantizedModel
    from npmobilenet.porting.diagnose.dump_matching import Matched
    from npmobilenet.porting.diagnose.integer_walk import IntegerDiagnosis, IntegerExplanation, IntegerFinding

ANY_RULE = "any"
ROWS = 10  # wrong layers listed without --per-layer


def quantized_source(
    sources: Sequence[str], model: "Loaded | None", image: str | None, resize: str | None
) -> "tuple[QuantizedModel, Array] | None":
    """The network and its input, if the pack or the model is quantized."""
    if model is None:
        from npmobilenet.porting.integer_pack import IntegerPack, is_integer_pack

        if not is_integer_pack(sources[0]):
            return None
        pack = IntegerPack.open(sources[0])
        return pack.model(), pack.input()
    if isinstance(model, Model):
        return None
    if image is None:
        raise NpMobileNetError(f"{sources[-1]} holds outputs: give the image that it was computed from, --image IMAGE")
    return model, model.scale(model.pixels(image, resize)[None])


def compare_integers(
    network: "QuantizedModel",
    x: Array,
    other: Path,
    mapping: Path | None,
    rule: str,
    *,
    per_layer: bool,
    as_json: bool,
) -> int:
    """Compare a dump with a quantized network, and print the result; the exit code of the command."""
    from npmobilenet.porting.diagnose.dump_matching import match, read_mapping
    from npmobilenet.porting.diagnose.dumps import read_arrays
    from npmobilenet.porting.diagnose.integer_walk import diagnose_integers

    dump = read_arrays(other)
    image = network.names[network.network.inputs[0]]
    matched = match(
        {image: x} | dict(network.trace(x)), dump.arrays, None if mapping is None else read_mapping(mapping)
    )
    if not matched.arrays:
        raise NpMobileNetError(
            f"{other}: none of its {len(dump.arrays)} arrays has the name or the shape of a tensor of "
            f"{network.network.name}; --map FILE maps names"
        )
    comparison = diagnose_integers(network.computed, network.names, x, matched.arrays, rule=rule, progress=progress_bar)
    notes = (*dump.notes, *_left_over(matched), *comparison.notes)
    if as_json:
        print_json(_document(comparison, matched, notes))
    else:
        _print(other, comparison, matched, notes, per_layer, network.rule)
    return comparison.exit_code


def _left_over(matched: "Matched") -> list[str]:
    if not matched.left_over:
        return []
    names = ", ".join(matched.left_over[:3]) + (", ..." if len(matched.left_over) > 3 else "")
    return [f"{len(matched.left_over)} arrays match no tensor and were ignored: {names}"]


def _print(
    other: Path,
    comparison: "IntegerDiagnosis",
    matched: "Matched",
    notes: Sequence[str],
    per_layer: bool,
    own_rule: str,
) -> None:
    print_line(
        f"{other}: {len(comparison.compared)} of {len(comparison.findings)} layers of {comparison.model} compared, "
        f"matched {matched.how}"
    )
    for note in notes:
        print_line(f"note: {note}")
    print_line(_verdict(comparison))
    if comparison.rule in comparison.exact_under and (different := comparison.first_different.get(own_rule)):
        number = next(finding.number for finding in comparison.findings if finding.layer == different)
        print_line(
            f"not under {own_rule}, the rule of the pack or model: the first that differs is layer {number}, "
            f"{short_name(different)}"
        )
    if comparison.first is not None:
        _print_first(comparison.first)
    listed = comparison.findings if per_layer else comparison.wrong[:ROWS]
    rows = [finding for finding in listed if finding.status != "missing"]
    if rows:
        print_table(
            ("", "layer", "type", "", "differ", "by up to", "cause"),
            [
                (f.number, short_name(f.layer), f.type, f.status, f.differing, f.largest, _cause(f) or f.note)
                for f in rows
            ],
        )
    if not per_layer and len(comparison.wrong) > ROWS:
        print_line(f"and {len(comparison.wrong) - ROWS} more wrong layers; --per-layer lists all")


def _verdict(comparison: "IntegerDiagnosis") -> str:
    """The rule that the port follows, or by which it is judged."""
    exact = ", ".join(comparison.exact_under)
    if comparison.rule in comparison.exact_under:
        return f"equal to the bit: every layer is exact under rule {exact}"
    if comparison.exact_under:
        return f"not by rule {comparison.rule}, but every layer is exact under rule {exact}"
    right = sum(finding.status in ("same", "inherits") for finding in comparison.findings)
    return f"under no rule is every layer exact; under {comparison.rule}, {right} of {len(comparison.compared)} are"


def _print_first(first: "IntegerFinding") -> None:
    number = "" if first.number is None else f"{first.number}, "
    print_line(
        f"first wrong layer: {number}{short_name(first.layer)} ({first.type}){f'; {first.note}' if first.note else ''}"
    )
    if first.differing is not None:
        print_line(f"{counted(first.differing, 'value')} off by up to {first.largest}, from the port's own inputs")
    if first.number is not None and first.at:
        place = (0, 0, *first.at)[-3:]
        print_line(
            f"the first of them: npmobilenet explain M IMAGE --layer {first.number} --at {' '.join(map(str, place))}"
        )
    if len(first.covers) > 1:
        print_line(f"computed from the nearest preceding tensors, through {len(first.covers)} layers")
    shown = first.explanations[:1] if first.explained else first.explanations
    for explanation in shown:
        _print_explanation(explanation)
    also = dict.fromkeys(e.cause for e in first.explanations[1:] if first.explained)
    if also:
        print_line(f"  as exact in this layer: {', '.join(also)}")
    if not first.explanations:
        print_line("  no known mistake explains the difference")


def _print_explanation(explanation: "IntegerExplanation") -> None:
    print_line(f"  {explanation.cause}: {explanation.what}")
    rest = "every value is equal then" if explanation.fits else f"{explanation.left:.2g} of the values differ still"
    several = f" in {len(explanation.layers)} layers;" if len(explanation.layers) > 1 else ""
    print_line(f"   {several} {rest}")


def _cause(finding: "IntegerFinding") -> str:
    return finding.explanations[0].cause if finding.explained else ""


def _document(comparison: "IntegerDiagnosis", matched: "Matched", notes: Sequence[str]) -> dict[str, Any]:
    first = comparison.first
    return {
        "model": comparison.model,
        "same": {0: True, 1: False, 2: None}[comparison.exit_code],
        "rule": comparison.rule,
        "exact_under": list(comparison.exact_under),
        "first_different": dict(comparison.first_different),
        "compared": len(comparison.compared),
        "matched": matched.how,
        "notes": list(notes),
        "left_over": list(matched.left_over),
        "first_wrong": None if first is None else first.layer,
        "cause": None if first is None else _cause(first) or None,
        "layers": [
            asdict(finding) | {"name_in_dump": matched.names.get(finding.layer)} for finding in comparison.findings
        ],
    }
