"""`npmobilenet convert`."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from npmobilenet.architectures import ARCHITECTURES
from npmobilenet.cli.options import Argument, Option, UsageError
from npmobilenet.cli.shared import (
    SCALINGS,
    AsJson,
    Force,
    NetworkOptions,
    RangeOption,
    ResizeOption,
    checked_engine,
    print_notes,
    reported,
)
from npmobilenet.errors import NpMobileNetError, ShapeError
from npmobilenet.models.interface import output_names
from npmobilenet.models.model import Model
from npmobilenet.models.opening import Loaded
from npmobilenet.output import print_json, print_table
from npmobilenet.reference.graph import Graph

PUBLISHED_CLASSES = (None, 1000, 1001)  # ImageNet's, also with a background class: a softmax follows


class ClassifierActivation(StrEnum):
    """Activation after the classifier, which a file of weights does not specify."""

    softmax = "softmax"
    sigmoid = "sigmoid"
    linear = "linear"


class HiddenActivation(StrEnum):
    """Activation of all other layers of a V1 or V2, which a file of weights does not specify."""

    relu6 = "relu6"
    relu = "relu"


HeadOption = Annotated[
    str | None,
    Option(
        metavar="HEAD",
        help="With --arch: pooling (avg, max, flatten) and Dense layers in place of the classifier, such as "
        "avg,64:relu,3:softmax.",
    ),
]


def convert(
    source: Annotated[
        Path,
        Argument(
            metavar="SOURCE",
            help="Keras, PyTorch, ONNX or TensorFlow Lite file; Teachable Machine or TensorFlow.js export.",
        ),
    ],
    network: NetworkOptions = NetworkOptions(),  # noqa: B008  frozen
    output: Annotated[
        Path | None,
        Option("--output", "-o", help="Output path (default: <source>.safetensors in the current directory)."),
    ] = None,
    arch: Annotated[str | None, Option(help=f"Architecture of the weights: {', '.join(ARCHITECTURES)}.")] = None,
    classes: Annotated[int | None, Option(help="With --arch: outputs of the classifier.")] = None,
    activation: Annotated[
        ClassifierActivation | None, Option(help="With --arch: activation after the classifier.")
    ] = None,
    head: HeadOption = None,
    hidden_activation: Annotated[
        HiddenActivation | None, Option(help="With --arch: activation of every other layer of V1 and V2.")
    ] = None,
    pixels: RangeOption = None,
    resize: ResizeOption = None,
    labels: Annotated[Path | None, Option(metavar="FILE", help="Class names: one per line, or JSON.")] = None,
    force: Force = False,
    verbose: Annotated[
        bool, Option("--verbose", help="List every array that does not fit, not only the first.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Convert a Keras file to a self-describing .safetensors file."""
    graph = _described_network(arch, network, classes, activation, head, hidden_activation)
    with reported(as_json, verbose=verbose):
        from npmobilenet_weights_convert import convert_file

        destination = output or Path(source.name.removesuffix(source.suffix).removesuffix(".weights") + ".safetensors")
        if destination.exists() and not force:
            raise NpMobileNetError(f"{destination} already exists; use --force to overwrite, or --output")
        model = convert_file(
            source,
            destination,
            engine_check=checked_engine,
            graph=graph,
            hidden_activation=hidden_activation,
            scaling=None if pixels is None else SCALINGS[pixels],
            labels=labels,
            resize=resize,
        )
        print_notes(str(source), model)
        document = _document(destination, model)
        if as_json:
            print_json(document)
        else:
            print_table(("", ""), [(name.replace("_", " "), value) for name, value in document.items()])


def _document(destination: Path, model: Loaded) -> dict[str, Any]:
    """What was written, for the table and for JSON."""
    network = model.interface
    return {
        "output": str(destination),
        "model": network.name,
        "input_shape": network.input_shape,
        "params": model.graph.total_params if isinstance(model, Model) else model.total_params,
        **({} if isinstance(model, Model) else {"quantized": str(model.network.input.dtype)}),
        **({"outputs": output_names(network)} if len(network.outputs) > 1 else {}),
        **model.source,
    }


def _described_network(
    arch: str | None,
    network: NetworkOptions,
    classes: int | None,
    activation: ClassifierActivation | None,
    head: str | None,
    hidden_activation: HiddenActivation | None,
) -> Graph | None:
    """The network that --arch and its options describe, None without --arch.

    Raises:
        UsageError: options that do not apply, or a custom classifier without its activation.
    """
    if arch is None:
        if network.any_given() or (classes, activation, head, hidden_activation) != (None, None, None, None):
            raise UsageError(
                "--alpha, --resolution, --classes, --activation, --head, --hidden-activation, --minimalistic, "
                "--output-stride and --no-top require --arch"
            )
        return None
    if head is not None and (classes, activation) != (None, None):
        raise UsageError("--head describes the classifier, and so do --classes and --activation; give either")
    if network.no_top and (classes, activation) != (None, None):
        raise UsageError("--classes and --activation describe a classifier, which --no-top leaves out")
    if not network.no_top and head is None and classes not in PUBLISHED_CLASSES and activation is None:
        raise UsageError(
            f"--classes {classes} is a custom classifier, and weights do not specify its activation: give "
            f"--activation {', '.join(ClassifierActivation)}"
        )
    graph = _with_head(arch, network, head) if head else network.graph(arch, classes, activation)
    if hidden_activation is None:
        return graph
    from npmobilenet_weights_convert.assumptions import with_hidden_activation

    try:
        return with_hidden_activation(graph, hidden_activation)
    except ShapeError as error:
        raise UsageError(f"--hidden-activation: {error}") from None


def _with_head(arch: str, network: NetworkOptions, head: str) -> Graph:
    """The network without its classifier, and a head on it."""
    from npmobilenet_weights_convert.custom_head import Head

    try:
        return Head.parse(head).on(replace(network, no_top=True).graph(arch))
    except ShapeError as error:
        raise UsageError(f"--head: {error}") from None
