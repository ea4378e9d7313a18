"""`npmobilenet trace`: exit code 0 done, 2 not."""

from pathlib import Path
from typing import Annotated

import numpy as np

from npmobilenet.cli.options import Argument, Option
from npmobilenet.cli.shared import (
    DEFAULT_MODEL,
    AsJson,
    Force,
    LayerPatterns,
    ModelName,
    RangeOption,
    ResizeOption,
    load_with_notes,
    reported,
    with_range,
)
from npmobilenet.errors import ImageError
from npmobilenet.output import print_json, print_table, progress_bar
from npmobilenet.porting.golden_formats import FORMATS
from npmobilenet.porting.golden_manifest import LAYOUTS
from npmobilenet.porting.golden_writer import write_golden_data
from npmobilenet.types import Array

NOTHING_DONE = 2


def trace(
    image: Annotated[str, Argument(metavar="IMAGE", help="Image file, or array of pixels or scaled images (.npy).")],
    output: Annotated[Path, Option("--output", "-o", metavar="PACK", help="Directory to write.")],
    model: ModelName = DEFAULT_MODEL,
    formats: Annotated[
        str, Option("--format", help=f"One or more of {', '.join(FORMATS)}, separated by commas.")
    ] = "npz",
    layers: LayerPatterns = None,
    layout: Annotated[str, Option(help=f"Layout of feature maps and kernels: {' or '.join(LAYOUTS)}.")] = LAYOUTS[0],
    pixels: RangeOption = None,
    resize: ResizeOption = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write test vectors: every tensor computed from an image, with its tolerance."""
    with reported(as_json, NOTHING_DONE):
        pack = write_golden_data(
            with_range(load_with_notes(model, {"range": pixels, "resize": resize}), pixels),
            _image(image),
            output,
            formats=[name.strip() for name in formats.split(",")],
            layers=layers,
            layout=layout,
            resize=resize,
            overwrite=force,
            progress=progress_bar,
        )
        document = {
            "pack": str(output),
            "model": pack.graph.name,
            "layers": len(pack.layers),
            "tensors": len(pack.manifest["tensors"]),
            "formats": pack.manifest["formats"],
            "layout": layout,
            "bytes": sum(path.stat().st_size for path in output.rglob("*") if path.is_file()),
        }
        if as_json:
            print_json(document)
        else:
            rows = document | {"formats": ", ".join(pack.manifest["formats"])}
            print_table(("", ""), list(rows.items()))


def _image(name: str) -> str | Array:
    """An image file, or the array in a file."""
    if not name.lower().endswith(".npy"):
        return name
    try:
        return np.asarray(np.load(name, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise ImageError(f"{name}: cannot be read as an array: {error}") from error
