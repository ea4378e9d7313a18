"""Keras files: the config and the arrays by layer, in any format.

    legacy weights     HDF5; attributes `layer_names` and, in a group per layer, `weight_names`
    whole model .h5    HDF5; attribute `model_config`, and the same weights below `model_weights`
    .weights.h5        HDF5; `layers/<class>_<number>/vars/<number>`, without a config
    .keras             zip; config.json, metadata.json, and a .weights.h5 as model.weights.h5

The format is determined by the first bytes, never by the file name. The file is not trusted: sizes are checked before
anything is read or inflated, links are not followed, no code is executed.
"""

import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

from npmobilenet.errors import NpMobileNetError, WeightsError
from npmobilenet.limits import check_inflated
from npmobilenet_weights_convert.file_formats import unknown_format
from npmobilenet_weights_convert.global_heap import check_global_heaps, check_lengths
from npmobilenet_weights_convert.stored_layers import (
    MAX_BYTES,
    StoredLayer,
    check_sizes,
    child,
    has_list,
    left_over,
    named_layers,
    numbered_layers,
    text,
)

MAX_JSON_BYTES = 1 << 25  # of a config; MobileNetV3's has 200 kB

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"

CORRUPTION = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, NotImplementedError, OSError, RecursionError,
    RuntimeError, TypeError, ValueError, lzma.LZMAError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""Exceptions that h5py, zipfile, json, and the readers of what these return, raise on a corrupt file."""


@dataclass(frozen=True)
class Contents:
    """An open Keras file.

    Attributes:
        file: its path, for messages.
        sha256: of the whole file.
        keras_version: as stored in the file, or "".
        config: of the model, None in a weights file.
        layers: all layers with arrays.
        numbered: whether layers are stored by class and number, not in the order of the model.
        left_over: path and shape of every array that belongs to no layer, training state excluded.
    """

    file: str
    sha256: str
    keras_version: str
    config: dict[str, Any] | None
    layers: tuple[StoredLayer, ...]
    numbered: bool
    left_over: tuple[str, ...] = ()

    @property
    def is_nested(self) -> bool:
        """Whether some layers belong to a nested model."""
        if self.numbered:
            return any(layer.path.count("/") > 1 for layer in self.layers)
        groups = [layer.group for layer in self.layers if layer.arrays]
        return len(groups) > len(set(groups))

    @property
    def keras_major(self) -> int:
        """2 or 3, the dialect of the config; files without a version are older than 3."""
        return 3 if self.keras_version.startswith("3") else 2


def read_bytes(path: Path) -> bytes:
    """The contents of a file.

    Raises:
        WeightsError: it does not exist, is a directory, is empty, or is too large for a MobileNet.
    """
    if path.is_dir():
        raise WeightsError(f"{path}: a folder, not a file")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise WeightsError(f"{path}: {size:,} bytes exceed the limit of {MAX_BYTES:,} for a MobileNet")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    if not data:
        raise WeightsError(f"{path}: the file is empty; save or download it again")
    return data


def is_safetensors(path: Path) -> bool:
    """Whether the first bytes of a file are a header length and the brace of a JSON object."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        data = file.read(9)
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= path.stat().st_size


@contextmanager
def open_contents(path: Path, data: bytes) -> Iterator[Contents]:
    """Open a Keras file; its arrays can be read inside the `with` block.

    Args:
        path: the file, for messages.
        data: its contents.

    Raises:
        WeightsError: it is not a Keras file, or is corrupt.
    """
    where, digest = str(path), sha256(data).hexdigest()
    version, config = "", None
    with corruption_reported(where):
        if data.startswith(ZIP_MAGIC):
            version, config, data = _unzip(where, data)
        elif not data.startswith(HDF5_MAGIC):
            raise unknown_format(path, data)
        import h5py

        check_global_heaps(where, data)
        check_lengths(where, data)
        with h5py.File(BytesIO(data), "r") as file:
            version = version or text(file.attrs.get("keras_version"))
            root = file
            if "model_config" in file.attrs:
                config = _json(text(file.attrs["model_config"]).encode())
                root = child(file, "model_weights")
            if config is not None and not isinstance(config.get("config"), dict):
                raise WeightsError(f"{where}: the config in this file describes no model")
            version = version or text(root.attrs.get("keras_version"))
            if has_list(root.attrs, "layer_names"):
                layers, numbered = tuple(named_layers(root)), False
            else:
                layers, numbered = tuple(numbered_layers(file)), True
            check_sizes(layers, len(data))
            if not any(layer.arrays for layer in layers):
                raise WeightsError(
                    f"{where}: no Keras weights in this file: it has neither `layer_names` nor `layers/`"
                )
            yield Contents(where, digest, version, config, layers, numbered, left_over(root, layers))


@contextmanager
def corruption_reported(where: str) -> Iterator[None]:
    """Raise a WeightsError that names the file in place of whatever a corrupt file makes its readers raise."""
    try:
        yield
    except NpMobileNetError as error:
        text = str(error)
        details = error.details if isinstance(error, WeightsError) else ()
        raise WeightsError(text if text.startswith(where) else f"{where}: {text}", details) from error
    except CORRUPTION as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise WeightsError(f"{where}: corrupt or truncated ({reason}); save or download it again") from error


def _unzip(where: str, data: bytes) -> tuple[str, dict[str, Any], bytes]:
    """Keras version, config and weights file of a `.keras` archive."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if "config.json" not in members:
            raise WeightsError(f"{where}: a zip file, but not a .keras file: it has no config.json")
        if "model.weights.h5" not in members:
            raise WeightsError(
                f"{where}: the archive has no model.weights.h5, only {', '.join(sorted(members)[:10])}; "
                "save the model as one file with HDF5 weights"
            )
        config = _json(read_member(archive, members["config.json"], MAX_JSON_BYTES))
        metadata = {}
        if "metadata.json" in members:
            metadata = _json(read_member(archive, members["metadata.json"], MAX_JSON_BYTES))
        weights = read_member(archive, members["model.weights.h5"], MAX_BYTES)
    return text(metadata.get("keras_version")), config, weights


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """Inflate one member, at most the size that it declares, which is checked first."""
    check_inflated(f"{info.filename} in the archive", info.file_size, info.compress_size)
    if info.file_size > limit:
        raise WeightsError(
            f"{info.filename} in the archive declares {info.file_size:,} bytes, more than the limit of {limit:,}"
        )
    with archive.open(info) as file:
        return file.read(info.file_size + 1)


def _json(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_JSON_BYTES:
        raise WeightsError(f"the config has {len(data):,} bytes, more than the limit of {MAX_JSON_BYTES:,}")
    document = json.loads(data.decode("utf-8"))
    if not isinstance(document, dict):
        raise WeightsError("the config in this file is not a JSON object")
    return with_layers(document)


def with_layers(entry: dict[str, Any]) -> dict[str, Any]:
    """A config in which each Sequential model is an object with a list of layers; Keras up to 2.2.2 wrote the list."""
    config = entry.get("config")
    if entry.get("class_name") == "Sequential" and isinstance(config, list):
        config = {"name": "sequential", "layers": config}
    if isinstance(config, dict) and isinstance(config.get("layers"), list):
        layers = [with_layers(layer) if isinstance(layer, dict) else layer for layer in config["layers"]]
        config = {**config, "layers": layers}
    return entry if config is None else {**entry, "config": config}
