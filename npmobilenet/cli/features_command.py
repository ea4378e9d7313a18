"""`npmobilenet features`."""

import io
from pathlib import Path
from typing import Annotated

import numpy as np

from npmobilenet.cli.image_sources import image_files
from npmobilenet.cli.options import Argument, Exit, Option, UsageError
from npmobilenet.cli.shared import (
    DEFAULT_MODEL,
    AsJson,
    Backend,
    Force,
    ModelName,
    RangeOption,
    ResizeOption,
    RuleOption,
    load_any_with_notes,
    print_resize_note,
    reported,
    with_range,
)
from npmobilenet.errors import ImageError, NpMobileNetError
from npmobilenet.files import write_atomically
from npmobilenet.models.embedding import embed_each
from npmobilenet.output import print_json, print_note, print_table, progress_bar
from npmobilenet.types import Array

FORMATS = (".npy", ".npz", ".parquet")


def features(
    images: Annotated[list[str], Argument(metavar="IMAGE...", help="Image files or directories.")],
    output: Annotated[
        Path, Option("--output", "-o", metavar="FILE", help=f"File to write: {', '.join(FORMATS)} (needs pyarrow).")
    ],
    model: ModelName = DEFAULT_MODEL,
    layer: Annotated[
        str | None, Option("--layer", metavar="NAME", help="Layer to write (default: the pooled embedding).")
    ] = None,
    pixels: RangeOption = None,
    resize: ResizeOption = None,
    rule: RuleOption = None,
    backend: Annotated[Backend, Option(help="Execution backend.")] = Backend.auto,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write the embeddings of images, or the outputs of a layer, to a file.

    One row per image, in order; NaN for an image that cannot be read. A .npy file holds the rows alone; .npz and
    .parquet hold them as "features", with the paths as "image".
    """
    if output.suffix not in FORMATS:
        raise UsageError(f"{output}: expected a name that ends in {', '.join(FORMATS)}")
    with reported(as_json):
        if output.exists() and not force:
            raise NpMobileNetError(f"{output} already exists; use --force to overwrite")
        if output.suffix == ".parquet":
            _check_pyarrow()
        names = list(image_files(images, recursive=False))
        network = with_range(load_any_with_notes(model, {"range": pixels, "resize": resize}, rule), pixels)
        if resize is None:
            print_resize_note(model, network)
        found = embed_each(network, names, layer=layer, resize=resize, backend=backend)
        rows: list[Array | None] = []
        for _, result in progress_bar(found, len(names), "computing", "images") if len(names) > 1 else found:
            if isinstance(result, NpMobileNetError):
                print_note(f"npmobilenet: {result}")
            rows.append(None if isinstance(result, NpMobileNetError) else result)
        failed = sum(row is None for row in rows)
        if failed == len(rows):
            raise ImageError(f"none of {failed} images could be read; nothing was written")
        values = _stacked(rows)
        write_atomically(output, _contents(output.suffix, names, values))
        document = {"output": str(output), "images": len(rows), "failed": failed, "shape": values.shape}
        if as_json:
            print_json(document)
        else:
            print_table(("", ""), list(document.items()))
    if failed:
        raise Exit(1)


def _stacked(rows: list[Array | None]) -> Array:
    """(N, ...) float32, with NaN in the place of None."""
    shape = next(row.shape for row in rows if row is not None)
    missing = np.full(shape, np.nan, np.float32)
    return np.stack([missing if row is None else row for row in rows])


def _contents(suffix: str, names: list[str], values: Array) -> bytes:
    """Contents of the file; in Parquet, rows are flat lists."""
    file = io.BytesIO()
    if suffix == ".npy":
        np.save(file, values)
    elif suffix == ".npz":
        np.savez(file, features=values, image=np.array(names))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        flat = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), int(np.prod(values.shape[1:])))
        pq.write_table(pa.table({"image": names, "features": flat}), file)
    return file.getvalue()


def _check_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise NpMobileNetError("a .parquet file requires pyarrow: pip install pyarrow; or choose .npz") from error
