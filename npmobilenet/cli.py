"""The commands about models: classify, convert, models, warmup."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from npmobilenet.architectures import ARCHITECTURES
from npmobilenet.cli_shared import (
    DEFAULT_MODEL,
    Alpha,
    AsJson,
    Force,
    Minimalistic,
    ModelName,
    NoTop,
    Resize,
    ResizeOption,
    Resolution,
    architecture,
    reported,
)
from npmobilenet.errors import ImageError, NpMobileNetError
from npmobilenet.images import file_suffixes
from npmobilenet.loading import load
from npmobilenet.model import RAW, SYMMETRIC, UNIT, Model
from npmobilenet.options import Argument, Exit, Option, UsageError
from npmobilenet.registry import KNOWN_MODELS, KnownModel, converted_path
from npmobilenet.terminal import json_text, print_json, print_json_list, print_table, progress_bar, waiting

BAR = 24  # length of a probability of 1, in characters


class Backend(StrEnum):
    """What computes the network."""

    auto = "auto"
    compiled = "compiled"
    reference = "reference"


class Range(StrEnum):
    """What a network takes for pixels in 0..255."""

    symmetric = "-1..1"
    unit = "0..1"
    raw = "0..255"


SCALINGS = {Range.symmetric: SYMMETRIC, Range.unit: UNIT, Range.raw: RAW}


def classify(
    images: Annotated[list[str], Argument(metavar="IMAGE...", help="Pictures, folders of pictures, or - .")],
    model: ModelName = DEFAULT_MODEL,
    top: Annotated[int, Option(min=1, help="How many classes to name for each picture.")] = 5,
    resize: ResizeOption = Resize.crop,
    draft: Annotated[
        bool, Option("--draft", help="Let large JPEG files be scaled down as they are decoded: faster, other bits.")
    ] = False,
    backend: Annotated[Backend, Option(help="What computes the network.")] = Backend.auto,
    threads: Annotated[
        int | None, Option(min=1, help="At most so many compute; by default NPMOBILENET_THREADS, or all cores.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Name what is on pictures."""
    with reported(as_json):
        sources = list(_pictures(images))
        network = load(model)
        if "notes" in network.source:
            print(f"npmobilenet: {model}: {network.source['notes']}", file=sys.stderr)
        if backend is not Backend.reference:
            _compile_kernels_once()
        found = _classified(network, sources, top, resize, draft, backend, threads)
        answers = []  # as JSON, which is one document
        failed = False
        for answer in progress_bar(found, len(sources), "classifying", "images") if len(sources) > 1 else found:
            failed |= "error" in answer
            if as_json:
                answers.append(json_text(answer))
            else:
                _print_answer(answer)
        if as_json:
            print_json_list(answers)
    if failed:
        raise Exit(1)


def convert(
    source: Annotated[Path, Argument(metavar="SOURCE", help="A Keras file: .h5, .weights.h5 or .keras.")],
    output: Annotated[
        Path | None, Option("--output", "-o", help="Where to; by default the source's name, in this folder.")
    ] = None,
    arch: Annotated[str | None, Option(help=f"What the weights are for: {', '.join(ARCHITECTURES)}.")] = None,
    alpha: Alpha = None,
    resolution: Resolution = None,
    classes: Annotated[int | None, Option(help="With --arch: outputs of the classifier.")] = None,
    minimalistic: Minimalistic = False,
    no_top: NoTop = False,
    pixels: Annotated[
        Range | None, Option("--range", help="What the network takes for pixels, where the file does not say.")
    ] = None,
    labels: Annotated[Path | None, Option(help="A text file with the name of one class a line.")] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Turn a Keras file into a .safetensors file that explains and checks itself."""
    if arch is None and (alpha, resolution, classes, minimalistic, no_top) != (None, None, None, False, False):
        raise UsageError("--alpha, --resolution, --classes, --minimalistic and --no-top describe an --arch")
    graph = None if arch is None else architecture(arch, alpha, resolution, minimalistic, no_top, classes)
    with reported(as_json):
        from npmobilenet_weights_convert import convert_file

        destination = output or Path(source.name.removesuffix(source.suffix).removesuffix(".weights") + ".safetensors")
        if destination.exists() and not force:
            raise NpMobileNetError(f"{destination} is there already; --force overwrites it, --output writes elsewhere")
        model = convert_file(
            source,
            destination,
            graph=graph,
            scaling=None if pixels is None else SCALINGS[pixels],
            labels=None if labels is None else labels.read_text(encoding="utf-8").splitlines(),
        )
        document = {
            "output": str(destination),
            "model": model.graph.name,
            "input_shape": model.graph.input_shape,
            "params": model.graph.total_params,
            **model.source,
        }
        if as_json:
            print_json(document)
        else:
            print_table(("", ""), [(name.replace("_", " "), value) for name, value in document.items()])


def models(as_json: AsJson = False) -> None:
    """List the known models: what they cost, how good they are, whether they are here already."""
    with reported(as_json):
        if as_json:
            print_json([_model_document(known) for known in KNOWN_MODELS])
            return
        rows = [
            (known.name, f"{known.macs / 1e6:.1f}", f"{known.params / 1e6:.2f}", known.top1, known.top5,
             "yes" if converted_path(known).exists() else "")
            for known in KNOWN_MODELS
        ]  # fmt: skip
        header = ("model", "M macs", "M params", "top-1 %", "top-5 %", "here")
        print_table(header, rows)
        print("each also with _no_top; --json gives addresses and where the accuracies come from")


def warmup() -> None:
    """Compile the kernels for this CPU ahead of their first use."""
    with reported(as_json=False):
        try:
            from npmobilenet.engine import compile_kernels, kernels_are_kept

            with waiting("compiling the kernels for this CPU"):
                folder = compile_kernels()
        except ImportError as error:
            raise NpMobileNetError(f"the kernels need Numba: {error}") from error
        if not kernels_are_kept():
            raise NpMobileNetError(f"the kernels compile, but cannot be kept in {folder}; NPMOBILENET_CACHE may help")
        print(f"kernels: {folder}")


def _compile_kernels_once() -> None:
    """Compile the kernels if no earlier process has, and say so; without Numba the model itself says what follows."""
    try:
        from npmobilenet.engine import compile_kernels, kernels_are_kept
    except ImportError:
        return
    if not kernels_are_kept():
        with waiting("compiling the kernels for this CPU, once"), suppress(ImportError):
            compile_kernels()


def _pictures(images: list[str]) -> Iterator[str]:
    """Files as they are named, and what looks like a picture inside folders, sorted."""
    for name in images:
        if name == "-" or not Path(name).is_dir():
            yield name
            continue
        inside = sorted(path for path in Path(name).iterdir() if path.suffix.lower() in file_suffixes())
        if not inside:
            raise ImageError(f"{name}: no pictures in this folder ({', '.join(sorted(file_suffixes()))})")
        yield from map(str, inside)


def _classified(
    network: Model, names: list[str], top: int, resize: Resize, draft: bool, backend: Backend, threads: int | None
) -> Iterator[dict[str, Any]]:
    """An answer for every picture, in order; one that cannot be read gets its error and does not stop the others."""
    sources: Iterator[Any] = (sys.stdin.buffer if name == "-" else name for name in names)
    found = network.predict_each(sources, resize=resize, draft=draft, backend=backend, threads=threads)
    for name, (_, answer) in zip(names, found, strict=True):
        if isinstance(answer, NpMobileNetError):
            yield {"image": name, "error": str(answer)}
            continue
        (named,) = network.decode(answer[None], top)
        predictions = [{"wnid": wnid, "label": label, "probability": probability} for wnid, label, probability in named]
        yield {"image": name, "predictions": predictions}


def _print_answer(answer: dict[str, Any]) -> None:
    if "error" in answer:
        print(f"npmobilenet: {answer['error']}", file=sys.stderr)
        return
    rows = [
        (f"{found['probability']:.4f}", found["label"], found["wnid"], "█" * round(BAR * found["probability"]))
        for found in answer["predictions"]
    ]
    columns = 4 if sys.stdout.isatty() else 3  # a bar is for the eye
    print_table([""] * columns, [row[:columns] for row in rows], title=answer["image"])


def _model_document(known: KnownModel) -> dict[str, Any]:
    return {
        "model": known.name,
        "macs": known.macs,
        "params": known.params,
        "top1": known.top1,
        "top5": known.top5,
        "accuracy_source": known.accuracy_source,
        "url": known.url,
        "converted": str(converted_path(known)) if converted_path(known).exists() else None,
    }
