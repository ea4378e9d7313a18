"""The half of `npmobilenet explain` for quantized networks."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from npmobilenet.errors import ArgumentError
from npmobilenet.output import print_line, print_table

if TYPE_CHECKING:
    from npmobilenet.models.quantized_model import QuantizedModel
    from npmobilenet.porting.explained_integers import ExplainedInteger, Term
    from npmobilenet.porting.rescaled_value import RescaledValue
    from npmobilenet.quantized.tensors import Operator

TERMS = 12  # printed; --json has all
WIDTH = 60  # characters of a tensor's name


def operator_of(model: "QuantizedModel", layer: str) -> "Operator":
    """The operator with a name, a number, or the first part of a name or a pattern that no other one has.

    Raises:
        ArgumentError: there is none, or several.
    """
    from npmobilenet.porting.golden_manifest import suggestion

    operators = dict(zip(model.layer_names, model.computed.operators, strict=True))
    if layer in operators:
        return operators[layer]
    if layer.isdecimal() and int(layer) < len(operators):
        return model.computed.operators[int(layer)]
    matching = [name for name in operators if short_name(name) == layer or fnmatchcase(name, layer)]
    if len(matching) == 1:
        return operators[matching[0]]
    if matching:
        raise ArgumentError(f"{model.network.name}: {len(matching)} layers match {layer!r}, first {matching[0]}")
    last = len(operators) - 1
    raise ArgumentError(
        f"{model.network.name}: no layer {layer!r}; expected a name or a number from 0 to {last}"
        f"{suggestion(layer, list(operators))}"
    )


def print_integer(value: "ExplainedInteger") -> None:
    """Print one value and everything that it is made of."""
    print_line(f"{value.network}, {short_name(value.layer)} ({value.operator})")
    print_line(f"value at {' '.join(map(str, value.at))}, rule {value.rule}")
    print_table(
        ("tensor", "type", "scale", "zero point"),
        [(short_name(t["name"]), t["type"], f"{t['scale']:.9g}", t["zero_point"]) for t in value.tensors],
    )
    _print_terms(value.steps.terms)
    if value.steps.outside:
        print_line(f"{value.steps.outside} terms on padding: the zero point, which adds nothing")
    rows = [(name, _number(number)) for name, number in value.steps.numbers.items()]
    for name, each in value.steps.rescalings.items():
        rows += [(f"{name}: {label}" if name else label, text) for label, text in _rescaling(each)]
    rows += [
        ("zero point", str(value.zero_point)),
        ("limits", f"{value.limits[0]} to {value.limits[1]}"),
        ("value", str(value.value)),
        ("stands for", f"{value.real:.9g}"),
    ]
    print_table(("", ""), rows)
    print_table(
        ("rule", "value", ""),
        [(name, each, "" if each == value.value else "differs") for name, each in value.by_rule.items()],
    )


def _print_terms(terms: "Sequence[Term]") -> None:
    if not terms:
        return
    weighted = terms[0].w is not None
    places = sorted(range(len(terms)), key=lambda i: -abs(terms[i].product))[:TERMS]
    chosen = [terms[i] for i in sorted(places)]
    print_table(
        ("at", "x", *(("w", "(x - zx) (w - zw)") if weighted else ("x - zx",))),
        [
            (" ".join(map(str, term.at)), term.x, *((term.w, term.product) if weighted else (term.product,)))
            for term in chosen
        ],
    )
    if rest := len(terms) - len(chosen):
        total = sum(term.product for term in terms) - sum(term.product for term in chosen)
        print_line(f"and {rest} smaller terms, their sum {total}")


def _rescaling(value: "RescaledValue") -> list[tuple[str, str]]:
    """Rows from the accumulator to the steps."""
    rows = [("M", f"{value.M:.12g}"), ("accumulator M, exactly", f"{value.accumulator * value.M:.9g}")]
    if value.q is not None and value.e is not None:
        exponent = value.e if value.rounding == "mantissa" else value.e - 31
        rows.append(("multiplier q", f"{value.q}, M = q 2^{exponent}"))
        if value.rounding != "mantissa":
            rows.append(("shift", f"{abs(value.e)} to the {'left' if value.e > 0 else 'right'}"))
    if value.high is not None:
        rows.append(("acc q 2^-31, rounded", str(value.high)))
    tie = ", a tie: the rule decides" if value.tie else ""
    return [*rows, ("before the last rounding", f"{value.before:.9g}{tie}"), ("rounded", str(value.steps))]


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9g}"


def short_name(name: str) -> str:
    """A tensor's name as it is printed: converters join the names of all operators that they fused with semicolons."""
    first = name.partition(";")[0]
    return first if len(first) <= WIDTH else f"{first[: WIDTH // 2 - 1]}..{first[1 - WIDTH // 2 :]}"
