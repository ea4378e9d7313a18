"""`npmobilenet classify`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from npmobilenet.cli.image_sources import image_files
from npmobilenet.cli.options import Argument, Exit, Option
from npmobilenet.cli.shared import (
    DEFAULT_MODEL,
    AsJson,
    Backend,
    ModelName,
    RangeOption,
    ResizeOption,
    RuleOption,
    compile_with_notice,
    finish_compilation,
    print_notes,
    print_resize_note,
    reported,
    with_range,
)
from npmobilenet.errors import ArgumentError, NpMobileNetError
from npmobilenet.hub.load import load_unnamed, with_names, with_rule
from npmobilenet.models.class_names import AnyModel, class_output
from npmobilenet.models.detects import Detects
from npmobilenet.models.image_file import WHITE
from npmobilenet.models.image_model import ImageModel
from npmobilenet.models.interface import output_names
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import Reading
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.output import json_text, print_json_list, print_note, print_table, progress_bar
from npmobilenet.types import Array, Outputs

BAR = 24  # characters of a bar for probability 1, and for logits beyond


def classify(
    images: Annotated[
        list[str], Argument(metavar="IMAGE...", help="Image files, directories, or - for standard input.")
    ],
    model: ModelName = DEFAULT_MODEL,
    top: Annotated[int, Option(min=1, help="Number of classes per image.")] = 5,
    output: Annotated[
        str | None, Option("--output", metavar="NAME", help="Output with the classes, if the network has several.")
    ] = None,
    labels: Annotated[
        Path | None,
        Option(metavar="FILE", help="Class names (default: labels.txt or metadata.json next to the model file)."),
    ] = None,
    pixels: RangeOption = None,
    resize: ResizeOption = None,
    rule: RuleOption = None,
    transparent_as: Annotated[
        str,
        Option("--background", metavar="COLOR", help="Color of transparent pixels; none: the color below, as Keras."),
    ] = WHITE,
    recursive: Annotated[bool, Option("--recursive", "-r", help="Include directories in directories.")] = False,
    draft: Annotated[
        bool, Option("--draft", help="Scale large JPEG files down while decoding: faster, not bit-exact.")
    ] = False,
    backend: Annotated[Backend, Option(help="Execution backend.")] = Backend.auto,
    threads: Annotated[
        int | None, Option(min=1, help="Maximum number of threads (default: $NPMOBILENET_THREADS or all cores).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Classify images."""
    with reported(as_json):
        sources = list(image_files(images, recursive))
        network = with_rule(load_unnamed(model), rule)
        if isinstance(network, Detects) and output is None:
            raise ArgumentError(f"{model}: a detector; npmobilenet detect finds the objects on an image")
        print_notes(model, network, {"range": pixels, "resize": resize})
        network, note = with_names(_one_output(network, output), model, labels)
        if note:
            print_note(f"npmobilenet: {note}")
        network = with_range(network, pixels)
        if resize is None:
            print_resize_note(model, network)
        color = None if transparent_as.lower() == "none" else transparent_as
        reading = Reading(network.resize_rule(resize), draft, color)
        found = _classified(network, sources, top, reading, backend, threads)
        texts = []  # with --json, the parts of one document
        failed = False
        for result in progress_bar(found, len(sources), "classifying", "images") if len(sources) > 1 else found:
            failed |= "error" in result
            if as_json:
                texts.append(json_text(result))
            else:
                _print_result(result)
        if as_json:
            print_json_list(texts)
        finish_compilation()
    if failed:
        raise Exit(1)


def _one_output(network: AnyModel, output: str | None) -> AnyModel:
    """The network with the output that holds the classes; which one of several was chosen is reported.

    Raises:
        ArgumentError: it is not clear which, or there is no such output; the message names them all.
    """
    try:
        one = network.with_output(output)
    except ArgumentError as error:
        raise ArgumentError(f"{error}; --output NAME chooses one" if output is None else str(error)) from None
    if output is None and one is not network:
        chosen, names = class_output(network.interface), output_names(network.interface)
        print_note(f"npmobilenet: classes from output {chosen} of {names}; --output chooses another")
    return one


def _classified(
    network: ImageModel, names: list[str], top: int, reading: Reading, backend: Backend, threads: int | None
) -> Iterator[dict[str, Any]]:
    """One document per image, in order; an image that cannot be read gets its error and does not stop the others."""
    from npmobilenet.models.streaming import predict_each

    def compute(x: Array) -> Outputs:
        if backend is Backend.compiled and isinstance(network, Model | QuantizedModel):
            compile_with_notice(network)
        return network.forward(x, backend=backend, threads=threads)

    sources: Iterator[Any] = (sys.stdin.buffer if name == "-" else name for name in names)
    found = predict_each(network, sources, compute, reading, threads)
    for name, (_, result) in zip(names, found, strict=True):
        if isinstance(result, NpMobileNetError):
            yield {"image": name, "error": str(result)}
            continue
        (classes,) = network.decode(result[None], top)
        predictions = [{"wnid": wnid, "label": label, "probability": p} for wnid, label, p in classes]
        yield {"image": name, "predictions": predictions}


def _print_result(result: dict[str, Any]) -> None:
    if "error" in result:
        print_note(f"npmobilenet: {result['error']}")
        return
    rows = [
        (
            f"{found['probability']:.4f}",
            found["label"],
            found["wnid"],
            "█" * round(BAR * min(max(0, found["probability"]), 1)),
        )
        for found in result["predictions"]
    ]
    columns = 4 if sys.stdout.isatty() else 3  # a bar only on a terminal
    print_table([""] * columns, [row[:columns] for row in rows], title=result["image"])
