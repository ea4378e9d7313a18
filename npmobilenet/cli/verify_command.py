"""The commands that verify: trace, bounds, verify.

Exit code 0: done, or the same. 1: different. 2: nothing could be done or compared.
"""

import warnings
from pathlib import Path
from typing import Annotated, Any

from npmobilenet.analysis.engine_check import EngineCheck, check_engine
from npmobilenet.analysis.rounding_growth import LayerError, draw_growth, error_growth
from npmobilenet.cli.options import Argument, Exit, Option
from npmobilenet.cli.shared import (
    DEFAULT_MODEL,
    AsJson,
    Backend,
    Force,
    ModelName,
    Resize,
    ResizeOption,
    load_and_say,
    reported,
    say_notes,
)
from npmobilenet.errors import AssumptionWarning, NpMobileNetError
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import prepare
from npmobilenet.output import print_json, print_table, progress_bar
from npmobilenet.porting.golden_formats import FORMATS
from npmobilenet.porting.golden_manifest import LAYOUTS
from npmobilenet.porting.golden_writer import chosen_layers, write_golden_data
from npmobilenet.porting.verify import LayerVerdict, SelfCheck, compare_with_keras, open_and_check

NOTHING_DONE = 2
DIFFERENT = 1

Layers = Annotated[
    list[str] | None,
    Option("--layers", metavar="PATTERN", help="A layer, or a pattern with * and ?; again for more. Default: all."),
]
Picture = Annotated[str, Argument(metavar="IMAGE", help="A picture.")]


def trace(
    image: Picture,
    output: Annotated[Path, Option("--output", "-o", metavar="PACK", help="The folder to write.")],
    model: ModelName = DEFAULT_MODEL,
    formats: Annotated[
        str, Option("--format", help=f"One or several of {','.join(FORMATS)}, with commas between.")
    ] = "npz",
    layers: Layers = None,
    layout: Annotated[str, Option(help=f"{' or '.join(LAYOUTS)}, for maps and kernels.")] = LAYOUTS[0],
    resize: ResizeOption = Resize.crop,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a golden pack: every tensor that a network computes from a picture, with its tolerance."""
    with reported(as_json, NOTHING_DONE):
        pack = write_golden_data(
            load_and_say(model),
            image,
            output,
            formats=[name.strip() for name in formats.split(",")],
            layers=layers,
            layout=layout,
            resize=resize,
            overwrite=force,
            progress=progress_bar,
        )
        document = {
            "pack": str(output),
            "model": pack.graph.name,
            "layers": len(pack.layers),
            "tensors": len(pack.manifest["tensors"]),
            "formats": pack.manifest["formats"],
            "layout": layout,
            "bytes": sum(path.stat().st_size for path in output.rglob("*") if path.is_file()),
        }
        if as_json:
            print_json(document)
        else:
            rows = document | {"formats": ", ".join(pack.manifest["formats"])}
            print_table(("", ""), list(rows.items()))


def bounds(
    image: Picture,
    model: ModelName = DEFAULT_MODEL,
    layers: Layers = None,
    picture: Annotated[
        Path | None, Option("--picture", help="Draw it: a .png, .svg or .pdf file. Needs matplotlib.")
    ] = None,
    resize: ResizeOption = Resize.crop,
    as_json: AsJson = False,
) -> None:
    """Show how rounding errors grow through a network: measured, and bounded."""
    with reported(as_json, NOTHING_DONE):
        network = load_and_say(model)
        chosen = set(chosen_layers(network.graph, layers))
        H, W, _ = network.graph.input_shape
        x = network.scale(prepare(image, H, W, resize)[None])
        growth = error_growth(network.graph, network.params, x)
        watched = progress_bar(growth, len(network.graph.layers), "tracing")
        errors = [error for error in watched if error.name in chosen]
        if picture is not None:
            draw_growth(errors, picture, f"{network.graph.name}, {Path(image).name}")
        if as_json:
            rows = [error.to_json() for error in errors]
            print_json({"model": network.graph.name, "image": image, "layers": rows})
        else:
            header = ("layer", "type", "largest", "error", "layer's bound", "bound")
            print_table(header, [_error_row(error) for error in errors])


def verify(
    file: Annotated[str, Argument(metavar="FILE", help="A converted file, .safetensors.")],
    against: Annotated[
        tuple[str, Path] | None,
        Option("--against", metavar="keras SOURCE", help="Compare every layer with Keras's, from its own file."),
    ] = None,
    backend: Annotated[
        Backend, Option(help="compiled: also check every step of the engine; auto: if it is available.")
    ] = Backend.reference,
    as_json: AsJson = False,
) -> None:
    """Run a file's self-check again, and compare its layers with the engine's and with Keras's."""
    with reported(as_json, NOTHING_DONE):
        if against is not None and against[0] != "keras":
            raise NpMobileNetError(f"--against takes the word keras and a Keras file; got {against[0]!r}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AssumptionWarning)
            model, check = open_and_check(file)
        say_notes(file, model)
        engine = _engine_check(model, backend)
        if check is None and against is None and engine is None:
            raise NpMobileNetError(f"{file}: there is no self-check in it; convert it, or compare it --against keras")
        if not as_json and check is not None:
            _print_check(file, check)
        if not as_json and engine is not None:
            print(f"{file}: compiled backend: {engine}")
        verdicts = None if against is None else compare_with_keras(model, against[1])
        if not as_json and against is not None and verdicts is not None:
            _print_verdicts(against[1], verdicts)
    compared = [verdict for verdict in verdicts or () if verdict.compared]
    nothing = verdicts is not None and not compared
    passed = all(result.passed for result in (check, engine) if result is not None)
    different = not passed or not all(verdict.same for verdict in compared)
    if as_json:
        document = _document(file, check, against, verdicts) | {"engine": None if engine is None else engine.to_json()}
        print_json(document | {"same": None if nothing else not different})
    if different or nothing:
        raise Exit(DIFFERENT if different else NOTHING_DONE)


def _engine_check(model: Model, backend: Backend) -> EngineCheck | None:
    if backend is Backend.reference:
        return None
    try:
        return check_engine(model)
    except NpMobileNetError:
        if backend is Backend.compiled:
            raise
        return None


def _error_row(error: LayerError) -> tuple[str, ...]:
    sizes = (error.largest, error.measured, error.own_bound, error.bound)
    return error.name, error.type, *(f"{size:.1e}" for size in sizes)


def _print_check(file: str, check: SelfCheck) -> None:
    if check.passed:
        print(f"{file}: all {check.checked} layers answer as they did when it was written")
        return
    if not check.intact:
        print(f"{file}: its bytes are not those that were written")
    if check.differing:
        count = f"{len(check.differing)} of {check.checked} layers answer"
        print(f"{file}: {count} otherwise than when it was written; the first is {check.differing[0]}")
    else:
        print(f"{file}: though all {check.checked} layers answer as they did")


def _print_verdicts(source: Path, verdicts: list[LayerVerdict]) -> None:
    compared = [verdict for verdict in verdicts if verdict.compared]
    if not compared:
        print(f"{source}: no layer could be compared; {verdicts[0].note}")
        return
    wrong = [verdict for verdict in compared if not verdict.same]
    if wrong:
        rows = [
            (verdict.name, verdict.type, f"{verdict.difference:.2e}", f"{verdict.allowed:.2e}", verdict.note)
            for verdict in wrong
        ]
        print_table(("layer", "type", "difference", "allowed", ""), rows)
    count = f"{len(compared) - len(wrong)} of {len(compared)} layers compared"
    first = f"; the first that is not is {wrong[0].name}" if wrong else ""
    print(f"{source}: {count} are the same as Keras's but for rounding{first}")
    for verdict in verdicts:
        if not verdict.compared:
            print(f"not compared: {verdict.name}: {verdict.note}")


def _document(
    file: str, check: SelfCheck | None, against: tuple[str, Path] | None, verdicts: list[LayerVerdict] | None
) -> dict[str, Any]:
    document: dict[str, Any] = {"file": file, "self_check": None, "keras": None}
    if check is not None:
        first = check.differing[0] if check.differing else None
        document["self_check"] = {"checked": check.checked, "intact": check.intact, "first_differing": first,
                                  "differing": check.differing}  # fmt: skip
    if against is not None and verdicts is not None:
        wrong = [verdict.name for verdict in verdicts if verdict.compared and not verdict.same]
        document["keras"] = {
            "source": str(against[1]),
            "compared": sum(verdict.compared for verdict in verdicts),
            "first_differing": wrong[0] if wrong else None,
            "layers": [verdict.to_json() for verdict in verdicts],
        }
    return document
