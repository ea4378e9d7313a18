"""Config and arrays of a Keras file in any of its formats.

    legacy weights     HDF5; attributes `layer_names` and, in the group of each layer, `weight_names`
    whole model .h5    HDF5; attribute `model_config`, the same weights below `model_weights`
    .weights.h5        HDF5; `layers/<class>_<number>/vars/<number>`, without config
    .keras             zip; config.json, metadata.json, and the arrays as model.weights.h5

The format is detected from the first bytes, never from the file's name. Files are not trusted: sizes are checked before
anything is read or decompressed, only hard links are followed, no code is executed.
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
from npmobilenet_weights_convert.global_heap import check_global_heaps
from npmobilenet_weights_convert.hdf5_weights import (
    MAX_BYTES,
    StoredLayer,
    as_text,
    check_sizes,
    child_of,
    has_texts,
    left_over,
    named_layers,
    numbered_layers,
)

MAX_JSON_BYTES = 1 << 25  # of a config; that of MobileNetV3 has 200 kB

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"

CORRUPTION = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, NotImplementedError, OSError, RecursionError,
    RuntimeError, TypeError, ValueError, lzma.LZMAError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""Exceptions of the libraries used here on a corrupt file."""


@dataclass(frozen=True)
class Contents:
    """An open Keras file.

    Attributes:
        file: path, for messages.
        sha256: of the whole file, hexadecimal.
        keras_version: of the Keras that wrote it, "" if not recorded.
        config: of the model, None in a file of weights.
        layers: the layers with arrays.
        numbered: whether layers are stored by class and number, not in their order.
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
        """2 or 3: the dialect of the config. Files without a version are old."""
        return 3 if self.keras_version.startswith("3") else 2


def read_bytes(path: Path) -> bytes:
    """Contents of a file.

    Raises:
        WeightsError: it does not exist, is a folder, empty, or too large for a MobileNet.
    """
    if path.is_dir():
        saved_model = (path / "saved_model.pb").exists()
        what = "a TensorFlow SavedModel folder" if saved_model else "a folder, not a file"
        raise WeightsError(f"{path}: {what}; load it in Keras and save it as .keras or .h5")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise WeightsError(f"{path}: {size:,} bytes is too large for a MobileNet (limit {MAX_BYTES:,})")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    if not data:
        raise WeightsError(f"{path}: the file is empty; save or download it again")
    return data


def is_safetensors(data: bytes) -> bool:
    """Whether the first bytes are a header length and the brace of a JSON object."""
    return len(data) > 8 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data)


@contextmanager
def open_contents(path: Path, data: bytes) -> Iterator[Contents]:
    """Open a Keras file; its arrays can be read within the `with` block.

    Args:
        path: for messages.
        data: the file's bytes.

    Raises:
        WeightsError: it is not a Keras file, or corrupt.
    """
    where, digest = str(path), sha256(data).hexdigest()
    version, config = "", None
    with refusing_corruption(where):
        if data.startswith(ZIP_MAGIC):
            version, config, data = _unzip(where, data)
        elif not data.startswith(HDF5_MAGIC):
            raise WeightsError(f"{where}: expected a Keras file (.h5, .weights.h5 or .keras), got {_what_is(data)}")
        import h5py

        check_global_heaps(where, data)
        with h5py.File(BytesIO(data), "r") as file:
            version = version or as_text(file.attrs.get("keras_version"))
            root = file
            if "model_config" in file.attrs:
                config = _json(as_text(file.attrs["model_config"]).encode())
                root = child_of(file, "model_weights")
            if config is not None and not isinstance(config.get("config"), dict):
                raise WeightsError(f"{where}: the config in the file describes no model")
            version = version or as_text(root.attrs.get("keras_version"))
            if has_texts(root.attrs, "layer_names"):
                layers, numbered = tuple(named_layers(root)), False
            else:
                layers, numbered = tuple(numbered_layers(file)), True
            check_sizes(layers)
            if not any(layer.arrays for layer in layers):
                raise WeightsError(
                    f"{where}: no Keras weights in this file: it has neither `layer_names` nor `layers/`"
                )
            yield Contents(where, digest, version, config, layers, numbered, left_over(root, layers))


@contextmanager
def refusing_corruption(where: str) -> Iterator[None]:
    """Convert the libraries' exceptions on corrupt files to a WeightsError that names the file."""
    try:
        yield
    except NpMobileNetError as error:
        text = str(error)
        raise WeightsError(text if text.startswith(where) else f"{where}: {text}") from error
    except CORRUPTION as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise WeightsError(
            f"{where}: the file is corrupt or truncated ({reason}); save or download it again"
        ) from error


def _unzip(where: str, data: bytes) -> tuple[str, dict[str, Any], bytes]:
    """Keras version, config and weights file of a `.keras` archive."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if "config.json" not in members:
            raise WeightsError(f"{where}: a zip file, but not a .keras file: it has no config.json")
        if "model.weights.h5" not in members:
            raise WeightsError(
                f"{where}: the archive has no model.weights.h5, only {', '.join(sorted(members)[:10])}; "
                "save the model as a single file, with weights as HDF5"
            )
        config = _json(_member(archive, members["config.json"], MAX_JSON_BYTES))
        metadata = {}
        if "metadata.json" in members:
            metadata = _json(_member(archive, members["metadata.json"], MAX_JSON_BYTES))
        weights = _member(archive, members["model.weights.h5"], MAX_BYTES)
    return as_text(metadata.get("keras_version")), config, weights


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """Decompress one member: at most its declared size, which is checked first."""
    if info.file_size > limit:
        raise WeightsError(f"{info.filename} in the archive would be {info.file_size:,} bytes (limit {limit:,})")
    with archive.open(info) as file:
        return file.read(info.file_size + 1)


def _json(text: bytes) -> dict[str, Any]:
    if len(text) > MAX_JSON_BYTES:
        raise WeightsError(f"the config has {len(text):,} bytes (limit {MAX_JSON_BYTES:,})")
    document = json.loads(text.decode("utf-8"))
    if not isinstance(document, dict):
        raise WeightsError("the config in the file is not a JSON object")
    return document


def _what_is(data: bytes) -> str:
    """Kind of a file that starts with neither signature."""
    if data.startswith(b"version https://git-lfs"):
        return "a pointer to a file in Git LFS, not the file; fetch it with `git lfs pull`"
    if data.lstrip()[:1] == b"<":
        return "a web page, possibly an error page saved as the download"
    if data[4:8] == b"TFL3":
        return "a TFLite file, which is not supported"
    return f"neither HDF5 nor zip: it starts with {data[:8]!r}"
