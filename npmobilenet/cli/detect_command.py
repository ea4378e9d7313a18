"""`npmobilenet detect`."""

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np

from npmobilenet.cli.coco_results import CocoImages, read_annotations
from npmobilenet.cli.image_sources import image_files
from npmobilenet.cli.options import Argument, Exit, Option, UsageError
from npmobilenet.cli.shared import (
    AsJson,
    Backend,
    RangeOption,
    ResizeOption,
    RuleOption,
    compile_with_notice,
    finish_compilation,
    print_notes,
    reported,
    with_range,
)
from npmobilenet.errors import ArgumentError, NpMobileNetError
from npmobilenet.files import write_atomically
from npmobilenet.hub.load import load_unnamed, with_names, with_rule
from npmobilenet.models.annotated import annotated
from npmobilenet.models.detections import Detection
from npmobilenet.models.detector import Detector
from npmobilenet.models.image_file import WHITE
from npmobilenet.models.quantized_detector import QuantizedDetector
from npmobilenet.output import json_text, print_json_list, print_note, print_table, progress_bar

AnyDetector: TypeAlias = Detector | QuantizedDetector

THRESHOLD = 0.5  # where objects are shown to people
COLUMNS = ("image", "left", "top", "right", "bottom", "label", "score", "category")


@dataclass(frozen=True)
class Asked:
    """What is asked of the detector, besides the images."""

    threshold: float
    top: int | None
    resize: str | None
    backend: Backend
    threads: int | None
    transparent_as: str | None


def detect(
    images: Annotated[
        list[str], Argument(metavar="IMAGE...", help="Image files, directories, or - for standard input.")
    ],
    model: Annotated[
        str | None, Option("--model", "-m", metavar="M", help="File of a detector (.tflite, .pth, .safetensors).")
    ] = None,
    threshold: Annotated[
        float | None, Option(help=f"Lowest score that is shown (default: {THRESHOLD}; with --coco the model's own).")
    ] = None,
    top: Annotated[int | None, Option(min=1, help="Largest number of objects per image.")] = None,
    draw: Annotated[
        Path | None, Option("--draw", metavar="DIR", help="Directory for the images with their boxes, as PNG.")
    ] = None,
    labels: Annotated[Path | None, Option(metavar="FILE", help="Names of the categories.")] = None,
    coco: Annotated[
        Path | None,
        Option("--coco", metavar="ANNOTATIONS", help="Print results in COCO's format, with the ids of this file."),
    ] = None,
    rule: RuleOption = None,
    pixels: RangeOption = None,
    resize: ResizeOption = None,
    transparent_as: Annotated[
        str,
        Option("--background", metavar="COLOR", help="Color of transparent pixels; none: the color below, as Keras."),
    ] = WHITE,
    recursive: Annotated[bool, Option("--recursive", "-r", help="Include directories in directories.")] = False,
    backend: Annotated[Backend, Option(help="Execution backend.")] = Backend.auto,
    threads: Annotated[
        int | None, Option(min=1, help="Maximum number of threads (default: $NPMOBILENET_THREADS or all cores).")
    ] = None,
    as_csv: Annotated[bool, Option("--csv", help="Print one line per object.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find objects on images: boxes with names, by an SSD network.

    Boxes are left, top, right, bottom in pixels of the image.
    """
    if model is None:
        raise UsageError("a detector has to be given: --model FILE")
    if sum((as_csv, as_json, coco is not None)) > 1:
        raise UsageError("--csv, --json and --coco exclude each other")
    if threshold is None:
        threshold = THRESHOLD if coco is None else 0.0
    color = None if transparent_as.lower() == "none" else transparent_as
    asked = Asked(threshold, top, resize, backend, threads, color)
    with reported(as_json):
        sources = list(image_files(images, recursive))
        known = None if coco is None else read_annotations(coco, sources)
        detector = _detector(model, labels, pixels, resize, rule)
        if draw is not None:
            draw.mkdir(parents=True, exist_ok=True)
        found = _detected(detector, sources, asked, draw)
        results = list(progress_bar(found, len(sources), "detecting", "images") if len(sources) > 1 else found)
        failed = _print(results, as_csv, as_json, known)
        finish_compilation()
    if failed:
        raise Exit(1)


def _detector(model: str, labels: Path | None, pixels: Any, resize: Any, rule: str | None) -> AnyDetector:
    loaded = with_rule(load_unnamed(model), rule)
    if not isinstance(loaded, Detector | QuantizedDetector):
        raise ArgumentError(f"{model}: not a detector: {loaded!r}; npmobilenet classify names the classes of an image")
    print_notes(model, loaded, {"range": pixels, "resize": resize})
    named, note = with_names(loaded, model, labels)
    if note:
        print_note(f"npmobilenet: {note}")
    return with_range(named, pixels)


@dataclass(frozen=True)
class Result:
    """The objects on one image, or its error."""

    image: str
    detections: Sequence[Detection] = ()
    error: str = ""


def _detected(detector: AnyDetector, names: list[str], asked: Asked, folder: Path | None) -> Iterator[Result]:
    """The objects on every image, in order; an image that cannot be read does not stop the others."""
    if asked.backend is Backend.compiled:
        compile_with_notice(detector)
    sources: Iterator[Any] = (sys.stdin.buffer.read() if name == "-" else name for name in names)
    taken: set[Path] = set()
    for name, (source, result) in zip(names, detector.detect_each(sources, **vars(asked)), strict=True):
        assert not isinstance(source, np.ndarray)
        if isinstance(result, NpMobileNetError):
            yield Result(name, error=str(result))
            continue
        if folder is not None:
            write_atomically(_free_path(folder, name, taken), annotated(source, result, asked.transparent_as))
        yield Result(name, result)


def _free_path(folder: Path, name: str, taken: set[Path]) -> Path:
    """A file for the image, numbered if another image of this run has its name."""
    stem = "stdin" if name == "-" else Path(name).stem
    path, number = folder / f"{stem}.png", 1
    while path in taken:
        number += 1
        path = folder / f"{stem}-{number}.png"
    taken.add(path)
    return path


def _print(results: list[Result], as_csv: bool, as_json: bool, known: CocoImages | None) -> bool:
    """Print the results; whether any image has an error."""
    errors = [result for result in results if result.error]
    if not as_json:
        for result in errors:
            print_note(f"npmobilenet: {result.error}")
    good = [result for result in results if not result.error]
    if known is not None:
        print_json_list(
            [json_text(entry) for result in good for entry in known.entries(result.image, result.detections)]
        )
        known.print_left_out()
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(COLUMNS)
        for result in good:
            for found in result.detections:
                writer.writerow((result.image, *found.box, found.label, found.score, found.category))
    elif as_json:
        print_json_list([json_text(_document(result)) for result in results])
    else:
        for result in good:
            rows = [(f"{o.score:.3f}", o.label, *(f"{side:.1f}" for side in o.box)) for o in result.detections]
            print_table(("score", "label", "left", "top", "right", "bottom"), rows, title=result.image)
    return bool(errors)


def _document(result: Result) -> dict[str, Any]:
    if result.error:
        return {"image": result.image, "error": result.error}
    return {"image": result.image, "detections": [asdict(found) for found in result.detections]}
