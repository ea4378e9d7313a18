"""The commands about models: classify, convert, models, warmup."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from npmobilenet.architectures import ARCHITECTURES
from npmobilenet.cli.network_options import ClassifierActivation, HiddenActivation, described_network
from npmobilenet.cli.options import Argument, Exit, Option
from npmobilenet.cli.shared import (
    DEFAULT_MODEL,
    Alpha,
    AsJson,
    Backend,
    Force,
    Minimalistic,
    ModelName,
    NoTop,
    Resize,
    ResizeOption,
    Resolution,
    load_and_say,
    reported,
    say_notes,
)
from npmobilenet.errors import ImageError, KernelError, NpMobileNetError
from npmobilenet.hub.cache import converted_path
from npmobilenet.hub.published_models import KNOWN_MODELS, KnownModel
from npmobilenet.models.image_file import file_suffixes
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import RAW, SYMMETRIC, UNIT
from npmobilenet.output import json_text, print_json, print_json_list, print_table, progress_bar, waiting
from npmobilenet.types import Array

COMPILING = "compiling the kernels for this CPU"
BAR = 24  # length of a probability of 1, in characters


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
        network = load_and_say(model)
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
        _let_compilation_end()
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
    activation: Annotated[
        ClassifierActivation | None, Option(help="With --arch: activation after the classifier.")
    ] = None,
    hidden_activation: Annotated[
        HiddenActivation | None, Option(help="With --arch: activation of every other layer of V1 and V2.")
    ] = None,
    pixels: Annotated[
        Range | None, Option("--range", help="What the network takes for pixels, where the file does not say.")
    ] = None,
    labels: Annotated[Path | None, Option(help="A text file with the name of one class a line.")] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Turn a Keras file into a .safetensors file that explains and checks itself."""
    graph = described_network(arch, alpha, resolution, minimalistic, no_top, classes, activation, hidden_activation)
    with reported(as_json):
        from npmobilenet_weights_convert import convert_file

        destination = output or Path(source.name.removesuffix(source.suffix).removesuffix(".weights") + ".safetensors")
        if destination.exists() and not force:
            raise NpMobileNetError(f"{destination} is there already; --force overwrites it, --output writes elsewhere")
        model = convert_file(
            source,
            destination,
            engine_check=True,
            graph=graph,
            scaling=None if pixels is None else SCALINGS[pixels],
            labels=None if labels is None else labels.read_text(encoding="utf-8").splitlines(),
        )
        say_notes(str(source), model)
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
            from npmobilenet.compiler.compilation import compile_kernels, kernels_are_kept
        except ImportError as error:
            raise NpMobileNetError(f"the kernels need llvmlite: {error}") from error
        with waiting(COMPILING):
            folder = compile_kernels()
        if not kernels_are_kept():
            raise NpMobileNetError(f"the kernels compile, but cannot be kept in {folder}; NPMOBILENET_CACHE may help")
        print(f"kernels: {folder}")


def _compile_first(network: Model) -> None:
    """Have the kernels before the network is computed, and say so where that takes a while."""
    if not network.is_compiled():
        with waiting(COMPILING):
            network.compile()


def _let_compilation_end() -> None:
    """Wait for the kernels that the first answers had compiled, so that the next command finds them."""
    try:
        from npmobilenet.compiler.compilation import compilation, finish_compilation
    except ImportError:
        return
    sys.stdout.flush()  # the answers come first
    if compilation() is None:
        return
    try:
        with suppress(KeyboardInterrupt), waiting(f"{COMPILING}, for the next time; Ctrl+C does no harm"):
            finish_compilation()
    except KernelError as error:
        print(f"npmobilenet: computed with the NumPy reference, which is slower: {error}", file=sys.stderr)


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
    from npmobilenet.models.streaming import predict_each

    def compute(x: Array) -> Array:
        if backend is Backend.compiled:
            _compile_first(network)
        return network.forward(x, backend=backend, threads=threads)

    sources: Iterator[Any] = (sys.stdin.buffer if name == "-" else name for name in names)
    found = predict_each(network, sources, compute, resize=resize, draft=draft, threads=threads)
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
