"""`npmobilenet explain`: exit code 0 done, 2 not."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from npmobilenet.cli.integer_explanation import operator_of, print_integer
from npmobilenet.cli.options import Argument, Option, UsageError
from npmobilenet.cli.shared import AsJson, ImageName, ResizeOption, RuleOption, load_any_with_notes, reported
from npmobilenet.models.model import Model
from npmobilenet.output import print_json, print_line, print_table

if TYPE_CHECKING:
    from npmobilenet.porting.explained_reals import ExplainedReal, RealTerm

NOTHING_DONE = 2
TERMS = 12  # printed; --json has all


def explain(
    model: Annotated[
        str, Argument(metavar="M", help="Known name, file (.safetensors, .h5, .keras, .tflite) or digits.")
    ],
    image: ImageName,
    layer: Annotated[
        str, Option("--layer", metavar="L", help="Layer; of a quantized model also its number, as compare prints it.")
    ],
    at: Annotated[tuple[str, str, str], Option("--at", metavar="Y X C", help="Place of the value; 0 0 C in a vector.")],
    rule: RuleOption = None,
    resize: ResizeOption = None,
    as_json: AsJson = False,
) -> None:
    """Show one value of a layer from its terms.

    Of a quantized model: every input and weight with its zero point, the accumulator, multiplier and shift, the value
    before the last rounding, and the integer under every rule. Of a float model: the terms, the sum, and the bound on
    its rounding.
    """
    place = _place(at)
    with reported(as_json, NOTHING_DONE):
        network = load_any_with_notes(model, {"resize": resize}, rule)
        x = network.scale(network.pixels(image, resize)[None])
        if isinstance(network, Model):
            from npmobilenet.porting.explained_reals import explain_real

            real = explain_real(network, x, layer, place)
            if as_json:
                print_json(real.to_json())
            else:
                _print_real(real)
            return
        from npmobilenet.porting.explained_integers import computed_tensors, explain_integer

        operator = operator_of(network, layer)
        tensors = computed_tensors(network.computed, x, operator, network.rounding)
        integer = explain_integer(network.computed, tensors, operator, place, network.rounding)
        if as_json:
            print_json(integer.to_json())
        else:
            print_integer(integer)


def _place(at: Sequence[str]) -> tuple[int, ...]:
    if not all(text.lstrip("-").isdecimal() for text in at):
        raise UsageError(f"--at: expected three integers Y X C, got {' '.join(at)}")
    return tuple(map(int, at))


def _print_real(value: "ExplainedReal") -> None:
    print_line(f"{value.network}, {value.layer} ({value.type}), value at {' '.join(map(str, value.at))}")
    _print_terms(value.terms)
    if value.outside:
        print_line(f"{value.outside} terms on padding add nothing")
    rows: list[tuple[str, str]] = []
    if value.sum is not None:
        rows.append(("sum of the terms", _number(sum(term.product for term in value.terms))))
    rows += [(name, _number(number)) for name, number in value.parameters.items()]
    if value.sum is not None:
        rows += [("sum", _number(value.sum)), ("activation", value.activation)]
    rows += [
        ("value in float64", _number(value.exact)),
        ("value in float32", _number(value.value)),
        ("their difference", f"{abs(value.value - value.exact):.3g}"),
        ("bound on it", f"{value.bound:.3g}"),
    ]
    print_table(("", ""), rows)


def _print_terms(terms: "Sequence[RealTerm]") -> None:
    if not terms:
        return
    weighted = terms[0].w is not None
    largest = sorted(terms, key=lambda term: -abs(term.product))[:TERMS]
    chosen = [term for term in terms if term in largest][:TERMS]
    rows = [
        (term.input, " ".join(map(str, term.at)), _number(term.x), *((_number(term.w), _number(term.product)) if
         weighted and term.w is not None else ()))
        for term in chosen
    ]  # fmt: skip
    print_table(("input", "at", "x", *(("w", "x w") if weighted else ())), rows)
    rest = len(terms) - len(chosen)
    if rest:
        total = sum(term.product for term in terms) - sum(term.product for term in chosen)
        print_line(f"and {rest} smaller terms, their sum {_number(total)}")


def _number(value: float) -> str:
    return f"{value:.9g}"
