"""`npmobilenet verify`: exit code 0 the same, 1 different, 2 nothing could be verified."""

import warnings
from pathlib import Path
from typing import Annotated, Any

from npmobilenet.analysis.engine_check import ByteEngineCheck, EngineCheck
from npmobilenet.cli.options import Argument, Exit, Option
from npmobilenet.cli.shared import AsJson, Backend, checked_engine, print_notes, reported
from npmobilenet.errors import AssumptionWarning, NpMobileNetError, WeightsError
from npmobilenet.models.model import Model
from npmobilenet.models.opening import Loaded
from npmobilenet.output import print_json, print_line, print_table
from npmobilenet.porting.verify import LayerVerdict, SelfCheck, compare_with_keras, open_and_check

NOTHING_DONE = 2
DIFFERENT = 1


def verify(
    file: Annotated[
        str, Argument(metavar="FILE", help="Converted file (.safetensors), or golden data of a quantized network.")
    ],
    against: Annotated[
        tuple[str, Path] | None,
        Option("--against", metavar="keras SOURCE", help="Compare every layer with Keras running the original file."),
    ] = None,
    backend: Annotated[
        Backend, Option(help="compiled: also check every step of the engine; auto: if available.")
    ] = Backend.reference,
    as_json: AsJson = False,
) -> None:
    """Run the self-check of a file, and compare its layers with the engine and with Keras."""
    with reported(as_json, NOTHING_DONE):
        if against is not None and against[0] != "keras":
            raise NpMobileNetError(f"--against expects the word keras and a Keras file, got {against[0]!r}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AssumptionWarning)
            model, check = open_and_check(file)
        print_notes(file, model)
        engine = _engine_check(model, backend)
        if check is None and against is None and engine is None:
            raise NpMobileNetError(
                f"{file}: contains no self-check; convert it, check the engine with --backend compiled, or compare "
                "it --against keras"
            )
        if not as_json and check is not None:
            _print_check(file, check)
        if not as_json and engine is not None:
            print_line(f"{file}: compiled backend: {engine}")
        verdicts = None if against is None else _verdicts(file, model, against[1])
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


def _engine_check(model: Loaded, backend: Backend) -> EngineCheck | ByteEngineCheck | None:
    if backend is Backend.reference:
        return None
    try:
        return checked_engine(model)
    except NpMobileNetError:
        if backend is Backend.compiled:
            raise
        return None


def _verdicts(file: str, model: Loaded, source: Path) -> list[LayerVerdict]:
    if not isinstance(model, Model):
        raise WeightsError(f"{file}: a quantized model, whose integers Keras does not compute")
    return compare_with_keras(model, source)


def _print_check(file: str, check: SelfCheck) -> None:
    if check.passed:
        print_line(f"{file}: self-check passed: outputs of all {check.checked} layers unchanged")
        return
    if not check.intact:
        print_line(f"{file}: checksum mismatch: the file is corrupt")
    if check.differing:
        count = f"{len(check.differing)} of {check.checked} layers"
        print_line(f"{file}: self-check failed: outputs of {count} differ, first {check.differing[0]}")
    else:
        print_line(f"{file}: but outputs of all {check.checked} layers are unchanged")


def _print_verdicts(source: Path, verdicts: list[LayerVerdict]) -> None:
    compared = [verdict for verdict in verdicts if verdict.compared]
    if not compared:
        print_line(f"{source}: no layer could be compared: {verdicts[0].note}")
        return
    wrong = [verdict for verdict in compared if not verdict.same]
    if wrong:
        rows = [
            (verdict.name, verdict.type, f"{verdict.difference:.2e}", f"{verdict.allowed:.2e}", verdict.note)
            for verdict in wrong
        ]
        print_table(("layer", "type", "difference", "allowed", ""), rows)
    count = f"{len(compared) - len(wrong)} of {len(compared)} layers compared"
    first = f"; first different: {wrong[0].name}" if wrong else ""
    print_line(f"{source}: {count} equal Keras within rounding{first}")
    for verdict in verdicts:
        if not verdict.compared:
            print_line(f"not compared: {verdict.name}: {verdict.note}")


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
