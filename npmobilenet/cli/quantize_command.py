"""`npmobilenet quantize`."""

import math
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from npmobilenet.cli.image_sources import image_files
from npmobilenet.cli.options import Argument, Option, UsageError
from npmobilenet.cli.shared import (
    AsJson,
    Force,
    RangeOption,
    ResizeOption,
    load_with_notes,
    print_resize_note,
    reported,
    with_range,
)
from npmobilenet.errors import ArgumentError, NpMobileNetError
from npmobilenet.files import write_atomically
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import Reading
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.models.quantizing import Quantized, quantize_model
from npmobilenet.output import print_json, print_line, print_note, print_table, progress_bar
from npmobilenet.quantized.calibration import Calibration
from npmobilenet.types import Array

SUFFIXES = (".safetensors", ".tflite")
FLOAT32 = 4  # bytes


class Method(StrEnum):
    """How the range of a tensor is chosen."""

    minmax = "minmax"
    percentile = "percentile"


class InputType(StrEnum):
    """Type of the input."""

    int8 = "int8"
    uint8 = "uint8"


def quantize(
    model: Annotated[str, Argument(metavar="M", help="Known name, file (.safetensors, .h5, .keras, ...) or digits.")],
    images: Annotated[
        list[str], Option("--images", metavar="DIR", help="Typical images: a directory or a file; may be repeated.")
    ],
    output: Annotated[Path, Option("--output", "-o", help="Output path: .safetensors or .tflite.")],
    calibration: Annotated[
        Method, Option(help="Ranges: of all values, or without the outermost ones.")
    ] = Method.minmax,
    percentile: Annotated[
        float | None, Option(metavar="P", help="With percentile: values in the range, in per cent (default: 99.99).")
    ] = None,
    input_type: Annotated[InputType, Option("--input", help="Type of the input.")] = InputType.int8,
    recursive: Annotated[bool, Option("--recursive", "-r", help="Include directories in directories.")] = False,
    pixels: RangeOption = None,
    resize: ResizeOption = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Quantize a network to 8-bit integers, by the ranges that typical images bring about.

    Weights are int8 with a scale per output channel, activations int8 with a scale and a zero point. Then both networks
    compute the images: the table says how far each layer is from the float network, in decibels of signal to noise.
    """
    method = _calibration(calibration, percentile)
    if output.suffix not in SUFFIXES:
        raise UsageError(f"--output {output}: expected a name that ends in {' or '.join(SUFFIXES)}")
    with reported(as_json):
        if output.exists() and not force:
            raise NpMobileNetError(f"{output} already exists; use --force to overwrite, or another --output")
        network = with_range(load_with_notes(model, {"range": pixels, "resize": resize}), pixels)
        if resize is None:
            print_resize_note(model, network)
        sources = list(image_files(images, recursive))

        def watched(inputs: Iterator[Array], label: str) -> Iterator[Array]:
            return progress_bar(inputs, len(sources), label, "images")

        how = Reading(network.resize_rule(resize))
        result = quantize_model(network, sources, calibration=method, input_type=input_type, how=how, watch=watched)
        for _, error in result.failures:
            print_note(f"npmobilenet: {error}")
        for note in result.notes:
            print_note(f"npmobilenet: {model}: {note}")
        _write(network, result, output)
        document = _document(network, result, output, method, input_type)
        if as_json:
            print_json(document)
        else:
            _print(document)


def _calibration(method: Method, percentile: float | None) -> Calibration:
    if percentile is None:
        return Calibration(method)
    if method is not Method.percentile:
        raise UsageError("--percentile applies to --calibration percentile")
    try:
        return Calibration(method, percentile)
    except ArgumentError as error:
        raise UsageError(f"--{error}") from None


def _write(network: Model, result: Quantized, output: Path) -> None:
    model = QuantizedModel(
        result.network,
        scaling=result.scaling,
        labels=network.labels,
        background=network.background,
        source=network.source,
        resize=network.resize,
    )
    if output.suffix == ".tflite":
        from npmobilenet_weights_convert.tflite_metadata_writer import tflite_with_metadata

        write_atomically(output, tflite_with_metadata(model))
    else:
        model.save(output)


def _document(
    network: Model, result: Quantized, output: Path, method: Calibration, input_type: InputType
) -> dict[str, Any]:
    """What was done, for the tables and for JSON."""
    agreement = result.agreement
    return {
        "output": str(output),
        "model": network.graph.name,
        "calibration": method.method,
        **({"percentile": method.percentile} if method.method == "percentile" else {}),
        "input": str(input_type),
        "images": agreement.images,
        "failed_images": [str(source) for source, _ in result.failures],
        "same_class": agreement.same_class,
        "float_bytes": FLOAT32 * network.graph.total_params,
        "quantized_bytes": output.stat().st_size,
        "notes": result.notes,
        "layers": [
            {"name": layer.name, "operator": layer.operator, "decibels": layer.decibels} for layer in agreement.layers
        ],
    }


def _print(document: dict[str, Any]) -> None:
    rows = [(layer["name"], layer["operator"], _decibels(layer["decibels"])) for layer in document.pop("layers")]
    print_table(("layer", "operator", "signal to noise, dB"), rows)
    same = document.pop("same_class")
    if same is not None:
        document["same_class"] = f"{same} of {document['images']} images"
    document |= {"notes": "; ".join(document["notes"]), "failed_images": ", ".join(document["failed_images"])}
    shown = {name: value for name, value in document.items() if value not in ("", None)}
    print_line()
    print_table(("", ""), [(name.replace("_", " "), value) for name, value in shown.items() if name != "notes"])


def _decibels(value: float) -> str:
    return "exact" if math.isinf(value) and value > 0 else f"{value:.1f}"
