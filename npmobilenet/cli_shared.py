"""What the commands of the command line have in common: options, and how they report what could not be done."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import typer

from npmobilenet.errors import NpMobileNetError
from npmobilenet.terminal import print_json

DEFAULT_MODEL = "mobilenet_v2_1.0_224"


class Resize(StrEnum):
    """How a picture is brought to the network's size."""

    crop = "crop"
    keras = "keras"


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
ModelName = Annotated[
    str, typer.Option("--model", "-m", metavar="M", help="A known name, a file (.safetensors, .h5, .keras), digits.")
]
ResizeOption = Annotated[
    Resize, typer.Option("--resize", help="crop: keep proportions, cut the centre; keras: stretch.")
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite the output if it is there.")]


@contextmanager
def reported(as_json: bool, exit_code: int = 1) -> Iterator[None]:
    """Turn what could not be done into one line on standard error (with --json, also a document) and an exit code."""
    try:
        yield
    except (NpMobileNetError, OSError, UnicodeDecodeError) as error:
        if as_json:
            print_json({"error": str(error)})
        print(f"npmobilenet: {error}", file=sys.stderr)
        raise typer.Exit(exit_code) from None
