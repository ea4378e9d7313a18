"""`npmobilenet trace`: exit code 0 done, 2 not."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    RuleOption,
    load_any_with_notes,
    reported,
    with_range,
)
from npmobilenet.errors import ImageError, NpMobileNetError
from npmobilenet.models.model import Model
from npmobilenet.output import print_json, print_table, progress_bar
from npmobilenet.porting.golden_formats import FORMATS
from npmobilenet.porting.golden_manifest import LAYOUTS
from npmobilenet.porting.golden_writer import write_golden_data
from npmobilenet.types import Array

if TYPE_CHECKING:
    from npmobilenet.models.quantized_model import QuantizedModel

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
    rule: RuleOption = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write test vectors: every tensor computed from an image, with its tolerance."""
    with reported(as_json, NOTHING_DONE):
        network = with_range(load_any_with_notes(model, {"range": pixels, "resize": resize}, rule), pixels)
        names = [name.strip() for name in formats.split(",")]
        if isinstance(network, Model):
            document = _float_pack(network, image, output, names, layers, layout, resize, force)
        else:
            document = _integer_pack(network, image, output, names, layers, layout, resize, force)
        document |= {"bytes": sum(path.stat().st_size for path in output.rglob("*") if path.is_file())}
        if as_json:
            print_json(document)
        else:
            rows = document | {"formats": ", ".join(names)}
            print_table(("", ""), list(rows.items()))


def _float_pack(
    network: Model,
    image: str,
    output: Path,
    formats: list[str],
    layers: list[str] | None,
    layout: str,
    resize: str | None,
    force: bool,
) -> dict[str, Any]:
    pack = write_golden_data(
        network,
        _image(image),
        output,
        formats=formats,
        layers=layers,
        layout=layout,
        resize=resize,
        overwrite=force,
        progress=progress_bar,
    )
    return _document(output, pack.graph.name, len(pack.layers), pack.manifest, layout)


def _integer_pack(
    network: "QuantizedModel",
    image: str,
    output: Path,
    formats: list[str],
    layers: list[str] | None,
    layout: str,
    resize: str | None,
    force: bool,
) -> dict[str, Any]:
    from npmobilenet.porting.integer_pack_writer import write_integer_pack

    if layout != LAYOUTS[0]:
        raise NpMobileNetError(f"--layout {layout}: golden data of a quantized network is {LAYOUTS[0]}")
    pack = write_integer_pack(
        network,
        _image(image),
        output,
        formats=formats,
        layers=layers,
        resize=resize,
        overwrite=force,
        progress=progress_bar,
    )
    return _document(output, network.network.name, len(pack.layers), pack.manifest, layout) | {"rule": pack.rule}


def _document(output: Path, model: str, layers: int, manifest: Mapping[str, Any], layout: str) -> dict[str, Any]:
    return {
        "pack": str(output),
        "model": model,
        "layers": layers,
        "tensors": len(manifest["tensors"]),
        "formats": manifest["formats"],
        "layout": layout,
    }


def _image(name: str) -> str | Array:
    """An image file, or the array in a file."""
    if not name.lower().endswith(".npy"):
        return name
    try:
        return np.asarray(np.load(name, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise ImageError(f"{name}: cannot be read as an array: {error}") from error
