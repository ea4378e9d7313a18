"""`npmobilenet dump`: exit code 0 done, 2 not."""

import io
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from npmobilenet.cli.options import Argument, Option
from npmobilenet.cli.shared import (
    AsJson,
    Force,
    RangeOption,
    ResizeOption,
    load_any_with_notes,
    reported,
    with_range,
)
from npmobilenet.errors import DumpError
from npmobilenet.files import write_atomically
from npmobilenet.models.image_model import ImageModel
from npmobilenet.models.model import Model
from npmobilenet.output import print_json, print_table
from npmobilenet.porting.diagnose.dumps import RUNNABLE, Dump, read_dump
from npmobilenet.porting.diagnose.tflite_outputs import tflite_outputs
from npmobilenet.types import Array

NOTHING_DONE = 2
TFLITE = ".tflite"


def dump(
    file: Annotated[Path, Argument(metavar="FILE", help=f"Model to run: {', '.join(RUNNABLE)}.")],
    image: Annotated[str, Argument(metavar="IMAGE", help="Image file.")],
    output: Annotated[Path, Option("--output", "-o", metavar="DUMP", help="File to write, .npz.")],
    model: Annotated[
        str | None,
        Option("--model", "-m", metavar="M", help="Network that determines the input; default: FILE itself."),
    ] = None,
    pixels: RangeOption = None,
    resize: ResizeOption = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Run a model file in its own runtime, and write the outputs of all its layers to a file, for `compare`.

    TensorFlow Lite files run in LiteRT, ONNX in ONNX Runtime, Keras files in Keras: whichever is installed.
    """
    with reported(as_json, NOTHING_DONE):
        if output.suffix.lower() != ".npz":
            raise DumpError(f"{output}: expected a name that ends in .npz")
        if output.exists() and not force:
            raise DumpError(f"{output} exists; --force overwrites it")
        if file.suffix.lower() not in RUNNABLE:
            raise DumpError(f"{file}: expected one of {', '.join(RUNNABLE)}")
        given = {"range": pixels, "resize": resize}
        network = with_range(load_any_with_notes(str(file) if model is None else model, given), pixels)
        outputs = _outputs(file, network, network.scale(network.pixels(image, resize)[None]))
        content, arrays = io.BytesIO(), dict[str, Any](outputs.arrays)
        np.savez(content, **arrays)
        write_atomically(output, content.getvalue())
        document = {"dump": str(output), "arrays": len(arrays), "bytes": len(content.getvalue())}
        if as_json:
            print_json(document | {"notes": list(outputs.notes)})
        else:
            print_table(("", ""), list(document.items()))


def _outputs(file: Path, network: ImageModel, x: Array) -> Dump:
    """What a file's own runtime computes: real numbers, or the integers of a quantized file."""
    if isinstance(network, Model):
        return read_dump(file, network, x)
    if file.suffix.lower() != TFLITE:
        raise DumpError(f"{file}: only the layers of {TFLITE} files can be dumped as integers")
    return Dump(tflite_outputs(file, x))
