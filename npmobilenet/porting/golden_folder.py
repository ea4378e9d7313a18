"""The folder of golden data: what writers of float and of quantized networks share, and how a tensor is read back."""

import json
from collections.abc import Callable, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from npmobilenet.errors import NpMobileNetError, WeightsError
from npmobilenet.porting.golden_formats import DTYPES, FORMATS, Tensor
from npmobilenet.porting.golden_manifest import (
    INTEGER_PACK_FORMAT,
    LAYOUTS,
    MANIFEST,
    PACK_FORMAT,
    manifest_hash,
    tensor_hash,
)
from npmobilenet.porting.json_schema import schema_named, violations
from npmobilenet.porting.progress import Progress
from npmobilenet.types import Array

SCHEMAS = {PACK_FORMAT: "pack.schema.json", INTEGER_PACK_FORMAT: "integer_pack.schema.json"}


def check_choices(formats: Sequence[str], layout: str) -> None:
    """Raise NpMobileNetError unless formats and layout are known."""
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats or len(set(formats)) < len(formats):
        got = ", ".join(formats) or "none"
        raise NpMobileNetError(f"expected one or more distinct formats of {', '.join(FORMATS)}, got {got}")
    if layout not in LAYOUTS:
        raise NpMobileNetError(f"unknown layout {layout!r}; choose one of {', '.join(LAYOUTS)}")


def check_free(path: Path, overwrite: bool) -> None:
    """Raise NpMobileNetError if a folder cannot be written: it exists, or is no golden data that may be replaced."""
    if not path.exists():
        return
    if not overwrite:
        raise NpMobileNetError(f"{path} already exists; use overwrite=True (--force) to replace it")
    if not path.is_dir() or (any(path.iterdir()) and not (path / MANIFEST).is_file()):
        raise NpMobileNetError(f"{path} already exists and is not golden data; it is not overwritten")


def entry_of(tensor: Tensor) -> dict[str, Any]:
    """What the manifest says about any tensor."""
    return {
        "kind": tensor.kind,
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": list(tensor.values.shape),
        "axes": tensor.axes,
        "sha256": tensor_hash(tensor.values),
        "stored": {},
    }


def write_tensors(
    folder: Path,
    manifest: dict[str, Any],
    stored: Sequence[Tensor],
    index: Callable[[Mapping[str, Any]], str],
    progress: Progress,
) -> None:
    """Write the tensors in every format, then the manifest, which then has their places and its own hash.

    Args:
        folder: a new one.
        manifest: without places and hash.
        stored: its tensors, in order.
        index: the text of `raw/index.tsv`, from the manifest.
        progress: reports the progress of each format.
    """
    for form in manifest["formats"]:
        (folder / form).mkdir()
        written = progress(FORMATS[form].write(folder / form, stored), len(stored), f"writing {form}")
        for entry, location in zip(manifest["tensors"], written, strict=True):
            entry["stored"][form] = location
    if "raw" in manifest["formats"]:
        (folder / "raw" / "index.tsv").write_text(index(manifest), encoding="utf-8")
    manifest["sha256"] = manifest_hash(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, allow_nan=False), encoding="utf-8")


def name_of(image: object) -> str | None:
    """The name of the image file, without its directory."""
    return Path(fspath(image)).name if isinstance(image, str | PathLike) else None


def read_manifest(path: Path, version: int = PACK_FORMAT) -> dict[str, Any]:
    """The content of a manifest.json of a version, checked against its own hash.

    Raises:
        WeightsError: the file is missing, corrupt, or of another version.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{path.parent}: not golden data: no {MANIFEST}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    found = manifest.get("pack_format") if isinstance(manifest, dict) else None
    if found != version:
        kinds: dict[Any, str] = {PACK_FORMAT: "a float network", INTEGER_PACK_FORMAT: "a quantized network"}
        other = kinds.get(found, "") if isinstance(found, int) else ""
        of = f", golden data of {other}" if other else ""
        raise WeightsError(f"{path}: unsupported pack_format, expected {version}, got {found}{of}")
    if manifest.get("sha256") != manifest_hash(manifest):
        raise WeightsError(f"{path}: checksum mismatch: the file is corrupt or was edited")
    schema = schema_named(SCHEMAS[version])
    if wrong := next(violations(manifest, schema, schema), None):
        raise WeightsError(f"{path}: corrupt: {wrong}")
    return dict(manifest)


def stored_tensor(folder: Path, entry: Mapping[str, Any], form: str) -> Array:
    """A tensor as stored, checked against its entry in the manifest.

    Exception is caught on purpose: the readers of five formats raise many types on corrupt files.

    Raises:
        WeightsError: it cannot be read, or is not the one that was written.
    """
    where = f"{folder}: {entry['kind']}/{entry['name']} ({form})"
    try:
        dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
        location = entry["stored"][form]
        file = (folder / form / location["file"]).resolve()
        if not file.is_relative_to(folder.resolve()):
            raise WeightsError(f"{where}: the path {location['file']} is outside the folder")
        values = FORMATS[form].read(file, location.get("key", ""), dtype, shape)
        intact = values.dtype == dtype and values.shape == shape and tensor_hash(values) == entry["sha256"]
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(f"{where}: cannot be read: {type(error).__name__}: {error}") from error
    if not intact:
        raise WeightsError(f"{where}: checksum mismatch: the file is corrupt")
    return values
