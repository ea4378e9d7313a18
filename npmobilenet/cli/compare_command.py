"""`npmobilenet compare`: exit code 0 the same, 1 different, 2 nothing could be compared."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from npmobilenet.cli.integer_comparison import ANY_RULE, compare_integers, quantized_source
from npmobilenet.cli.options import Argument, Exit, Option, UsageError
from npmobilenet.cli.shared import AsJson, ResizeOption, load_any_with_notes, reported
from npmobilenet.errors import NpMobileNetError
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import Reading, decode, network_pixels
from npmobilenet.models.self_check import synthetic_image
from npmobilenet.output import print_json, print_line, print_table, progress_bar
from npmobilenet.porting.diagnose import walk
from npmobilenet.porting.diagnose.dump_matching import Matched, match, read_mapping
from npmobilenet.porting.diagnose.dumps import RUNNABLE, Dump, read_dump
from npmobilenet.porting.diagnose.explain import SECONDS
from npmobilenet.porting.diagnose.mistakes.input_mistakes import InputImage
from npmobilenet.porting.diagnose.walk import Diagnosis, Finding
from npmobilenet.types import Array

NOTHING_COMPARED = 2
ROWS = 10  # wrong layers listed without --per-layer


def compare(
    sources: Annotated[
        list[str],
        Argument(metavar="[PACK] OTHER", help="Test vectors (or --model and --image), and the output of a port."),
    ],
    model: Annotated[str | None, Option("--model", "-m", metavar="M", help="Instead of PACK: the network.")] = None,
    image: Annotated[str | None, Option("--image", "-i", metavar="IMAGE", help="Instead of PACK: the image.")] = None,
    resize: ResizeOption = None,
    mapping: Annotated[
        Path | None, Option("--map", metavar="FILE", help="JSON or CSV that maps names to layers.")
    ] = None,
    dtype: Annotated[str, Option(help="Arithmetic of the port: float16, float32 or float64.")] = "float32",
    effort: Annotated[
        float, Option(metavar="SECONDS", min=0, help="Time for explanations; what was not tried by then is counted.")
    ] = SECONDS,
    rule: Annotated[
        str, Option(help="Rule that the port of a quantized network should follow; any: the one that fits best.")
    ] = ANY_RULE,
    per_layer: Annotated[bool, Option("--per-layer", help="One row per layer.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find the first layer that another implementation computes wrongly, and name the mistake.

    OTHER is a dump of its layers (.npz, .safetensors, a folder of .npy), a golden pack, or a model that is run: .tflite
    with ai-edge-litert installed, .onnx with onnxruntime, .h5 or .keras with Keras.
    """
    if len(sources) != (2 if model is None else 1):
        raise UsageError("expected PACK OTHER, or --model M [--image IMAGE] OTHER")
    if dtype not in ("float16", "float32", "float64"):
        raise UsageError(f"unknown --dtype {dtype!r}; choose float16, float32 or float64")
    other = Path(sources[-1])
    with reported(as_json, NOTHING_COMPARED):
        loaded = None if model is None else load_any_with_notes(model, {"resize": resize})
        quantized = quantized_source(sources, loaded, image, resize)
        if quantized is not None:
            code = compare_integers(*quantized, other, mapping, rule, per_layer=per_layer, as_json=as_json)
            if code:
                raise Exit(code)
            return
        if rule != ANY_RULE:
            raise UsageError("--rule is for quantized networks")
        network, x, recorded = (
            _from_image(loaded, image, resize, other) if isinstance(loaded, Model) else _from_pack(sources[0])
        )
        dump, matched = _matched(network, x, other, mapping)
        comparison = walk.diagnose(
            network, x, matched.arrays, image=recorded, dtype=np.dtype(dtype), progress=progress_bar, seconds=effort
        )
    notes = (*dump.notes, *comparison.notes, *_unused(comparison))
    if as_json:
        print_json(_document(comparison, matched, notes))
    else:
        _print(other, comparison, matched, notes, per_layer)
    if comparison.exit_code:
        raise Exit(comparison.exit_code)


def _matched(network: Model, x: Array, other: Path, mapping: Path | None) -> tuple[Dump, Matched]:
    """The arrays of a port, and the layers that they are matched to."""
    dump = read_dump(other, network, x)
    matched = match(
        dict(network.trace(x.astype(np.float64))),
        dump.arrays,
        None if mapping is None else read_mapping(mapping),
        network.graph.outputs,
        network,
    )
    if not matched.arrays:
        raise NpMobileNetError(
            f"{other}: none of its {len(dump.arrays)} arrays has the name or the shape of a layer of "
            f"{network.graph.name}; {_examples(dump.arrays)}; --map FILE maps names"
        )
    return dump, matched


def _from_pack(folder: str) -> tuple[Model, Array, InputImage]:
    from npmobilenet.porting.golden import GoldenData

    pack = GoldenData.open(folder)
    decoded = pack.input("decoded") if "decoded" in pack.stages else None
    return pack.model(), pack.input("scaled"), InputImage(pack.scaling, decoded)


def _from_image(network: Model, image: str | None, resize: str | None, other: Path) -> tuple[Model, Array, InputImage]:
    """The network and its input; by default the synthetic image of the self-check, if OTHER is a model to run."""
    if image is None:
        if other.suffix.lower() not in RUNNABLE:
            raise NpMobileNetError(f"{other} holds outputs: give the image that it was computed from, --image IMAGE")
        return network, network.scale(synthetic_image(network.graph.input_shape)[None]), InputImage(network.scaling)
    decoded = decode(image, channels=network.graph.input_shape[-1])
    x = network.scale(network_pixels(decoded, network.graph, Reading(network.resize_rule(resize)))[None])
    return network, x, InputImage(network.scaling, decoded)


def _examples(arrays: Any) -> str:
    shown = [f"{name} {array.shape}" for name, array in list(arrays.items())[:3]]
    return f"they are {', '.join(shown)}{', ...' if len(arrays) > 3 else ''}"


def _print(other: Path, comparison: Diagnosis, matched: Matched, notes: tuple[str, ...], per_layer: bool) -> None:
    rows = [finding for finding in comparison.findings if finding.status != "missing"]
    print_line(
        f"{other}: {len(comparison.compared)} of {len(comparison.findings)} layers of {comparison.model} compared, "
        f"matched {matched.how}"
    )
    for note in (*notes, *_left_over(matched)):
        print_line(f"note: {note}")
    first = comparison.first
    if first is not None:
        _print_first(first)
    shown = rows if per_layer else list(comparison.wrong)[:ROWS]
    if shown:
        print_table(
            ("layer", "type", "", "difference", "times tolerance", "cause"),
            [
                (f.layer, f.type, f.status, _short(f.difference), _short(f.times_tolerance), _cause(f) or f.note)
                for f in shown
            ],
        )
    if not per_layer and len(comparison.wrong) > ROWS:
        print_line(f"and {len(comparison.wrong) - ROWS} more wrong layers; --per-layer lists all")
    if first is None and comparison.compared:
        print_line("equal: every layer is within its tolerance")


def _print_first(first: Finding) -> None:
    print_line(f"first wrong layer: {first.layer} ({first.type}){f'; {first.note}' if first.note else ''}")
    if len(first.covers) > 1:
        print_line(f"computed from the nearest preceding arrays, through {', '.join(first.covers)}")
        print_line(f"{first.layer} is the next dumped layer: the mistake may be in any of these {len(first.covers)}")
    if not first.explained:
        print_line("  no known mistake explains the difference")
        for fact in first.facts:
            print_line(f"  {fact}")
    for explanation in first.explanations:
        if explanation.fits == first.explained:
            nearest = "" if explanation.fits else "nearest, not explaining: "
            rest = "residual within tolerance" if explanation.fits else "residual exceeds tolerance"
            print_line(f"  {nearest}{explanation.cause}: {explanation.what}")
            print_line(f"    in {_some(explanation.layers)}; {explanation.left:.2g} of the difference remains: {rest}")
    if first.untried:
        print_line(
            "  the time was over before everything was tried; --effort SECONDS allows more, a dump with more layers "
            "takes less"
        )


def _some(layers: tuple[str, ...]) -> str:
    return ", ".join(layers) if len(layers) <= 3 else f"{layers[0]} and {len(layers) - 1} more layers"


def _cause(finding: Finding) -> str:
    return finding.explanations[0].cause if finding.explained else ""


def _short(number: float | None) -> str | None:
    return None if number is None else f"{number:.2g}"


def _left_over(matched: Matched) -> list[str]:
    if not matched.left_over:
        return []
    names = ", ".join(matched.left_over[:3]) + (", ..." if len(matched.left_over) > 3 else "")
    return [f"{len(matched.left_over)} arrays match no layer and were ignored: {names}"]


def _unused(comparison: Diagnosis) -> list[str]:
    return [f"{f.layer}: {f.note}; it differs, but is not wrong" for f in comparison.findings if f.status == "unused"]


def _document(comparison: Diagnosis, matched: Matched, notes: tuple[str, ...]) -> dict[str, Any]:
    layers = [asdict(finding) | {"name_in_dump": matched.names.get(finding.layer)} for finding in comparison.findings]
    first = comparison.first
    return {
        "model": comparison.model,
        "same": {0: True, 1: False, 2: None}[comparison.exit_code],
        "compared": len(comparison.compared),
        "matched": matched.how,
        "notes": list(notes),
        "left_over": list(matched.left_over),
        "first_wrong": first.layer if first is not None else None,
        "cause": _cause(first) or None if first is not None else None,
        "layers": layers,
    }
