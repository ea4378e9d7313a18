"""What the commands of the command line have in common: options, networks, and how they report failures."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

from npmobilenet.architectures import ARCHITECTURES
from npmobilenet.cli.options import Exit, Option, UsageError
from npmobilenet.errors import AssumptionWarning, NpMobileNetError
from npmobilenet.hub.load import load, names_a_file
from npmobilenet.hub.published_models import find_model
from npmobilenet.models.model import Model
from npmobilenet.output import print_json
from npmobilenet.reference.graph import Graph

DEFAULT_MODEL = "mobilenet_v2_1.0_224"


class Resize(StrEnum):
    """How a picture is brought to the network's size."""

    crop = "crop"
    keras = "keras"


class Backend(StrEnum):
    """What computes the network."""

    auto = "auto"
    compiled = "compiled"
    reference = "reference"


AsJson = Annotated[bool, Option("--json", help="Print one JSON document and nothing else.")]
ModelName = Annotated[
    str, Option("--model", "-m", metavar="M", help="A known name, a file (.safetensors, .h5, .keras), digits.")
]
ResizeOption = Annotated[
    Resize, Option("--resize", help="crop: keep proportions, cut the center (not if the size fits); keras: stretch.")
]
Alpha = Annotated[float | None, Option(help="Width multiplier of an architecture.")]
Resolution = Annotated[str | None, Option(help="Side of the picture in pixels, or HxW.")]
Minimalistic = Annotated[bool, Option("--minimalistic", help="The minimalistic variant of V3.")]
NoTop = Annotated[bool, Option("--no-top", help="Without the classifier.")]
Force = Annotated[bool, Option("--force", "-f", help="Overwrite the output if it is there.")]


@contextmanager
def reported(as_json: bool, exit_code: int = 1) -> Iterator[None]:
    """Turn what could not be done into one line on standard error (with --json, also a document) and an exit code."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (NpMobileNetError, OSError, UnicodeDecodeError) as error:
        if as_json:
            print_json({"error": str(error)})
        print(f"npmobilenet: {error}", file=sys.stderr)
        raise Exit(exit_code) from None


def load_and_say(model: str) -> Model:
    """Open a model, and say on standard error what has to be known about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        network = load(model)
    say_notes(model, network)
    return network


def say_notes(name: str, network: Model) -> None:
    """Say on standard error what a model's file does not tell and was assumed, and what else to know about it."""
    for key in ("assumed", "notes"):
        if text := network.source.get(key):
            print(f"npmobilenet: {name}: {text}", file=sys.stderr)


def graph_of(model: str, alpha: float | None, resolution: str | None, minimalistic: bool, no_top: bool) -> Graph:
    """The graph of an architecture, of a known model (which is not fetched for it), or of a file."""
    if model in ARCHITECTURES:
        return architecture(model, alpha, resolution, minimalistic, no_top)
    if (alpha, resolution, minimalistic, no_top) != (None, None, False, False):
        raise UsageError(f"{model} is what it is; only an architecture ({', '.join(ARCHITECTURES)}) has options")
    return load_and_say(model).graph if names_a_file(model) else find_model(model).graph()


def architecture(
    arch: str,
    alpha: float | None,
    resolution: str | None,
    minimalistic: bool,
    no_top: bool,
    classes: int | None = None,
    activation: str | None = None,
) -> Graph:
    """The graph of an architecture with its options as they were typed; wrong use where they do not fit."""
    given: dict[str, Any] = {"alpha": alpha, "minimalistic": minimalistic or None, "classes": classes}
    options = {name: value for name, value in given.items() if value is not None}
    if activation is not None:
        options["classifier_activation"] = None if activation == "linear" else activation
    if arch not in ARCHITECTURES:
        raise UsageError(f"{arch} is not an architecture; there are {', '.join(ARCHITECTURES)}")
    try:
        sides = [int(side) for side in (resolution or "224").split("x")]
        return ARCHITECTURES[arch](resolution=(sides[0], sides[-1]), include_top=not no_top, **options)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{arch}: {error}") from None
