"""What is inside a Keras file: its config and its arrays, layer by layer, whatever the format.

    legacy weights     HDF5; attributes `layer_names` and, a group for each layer, `weight_names`
    whole model .h5    HDF5; attribute `model_config`, the same weights below `model_weights`
    .weights.h5        HDF5; `layers/<class>_<number>/vars/<number>`, without config
    .keras             zip; config.json, metadata.json, and the former as model.weights.h5

The format is told by the first bytes, never by the file's name. Nothing here trusts the file: sizes are checked before
anything is read or inflated, links to elsewhere are not followed, no code is run.
"""

import json
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from npmobilenet.errors import NpMobileNetError, WeightsError
from npmobilenet.types import Array, Shape
from npmobilenet_weights_convert.global_heap import check_global_heaps

MAX_BYTES = 1 << 30  # of a file, and of all arrays in it: twenty times the largest MobileNet with optimizer state
MAX_JSON_BYTES = 1 << 25  # of a config; that of MobileNetV3 has 200 kB
MAX_LAYERS = 10_000
MAX_DEPTH = 8  # of models inside models

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"

DAMAGE = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, NotImplementedError, OSError, RecursionError,
    RuntimeError, TypeError, ValueError, lzma.LZMAError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What the libraries below raise on a damaged file."""

SEEDS = ("seed_generator", "random_generator", "_random_generator")  # state of random layers, which do nothing here
TRAINING_STATE = frozenset({"optimizer", "optimizer_weights", "metrics", *SEEDS})  # groups that inference does not use


@dataclass(frozen=True)
class StoredArray:
    """One array in a file.

    Attributes:
        path: where it is in the HDF5 file.
        leaf: its own name, such as "kernel", or "" where the file only numbers arrays.
        shape, dtype: as they are stored.
        read: its values, floating point.
    """

    path: str
    leaf: str
    shape: Shape
    dtype: np.dtype[Any]
    read: Callable[[], Array]


@dataclass(frozen=True)
class StoredLayer:
    """The arrays of one Keras layer.

    Args:
        name: the layer's name, `outer/inner` inside a nested model; "" where the file does not say.
        group: name of the layer of the whole model that it belongs to.
        kind: its class in snake case, such as "conv2d"; "" where the file does not say.
        path: where it is in the file.
        arrays: in Keras's order.
    """

    name: str
    group: str
    kind: str
    path: str
    arrays: tuple[StoredArray, ...]


@dataclass(frozen=True)
class Contents:
    """A Keras file, opened.

    Attributes:
        file: for messages. sha256: of the whole file.
        keras_version: as the file says, or "".
        config: of the model, None in a file of weights.
        layers: with the arrays of each.
        numbered: whether layers are stored by class and number, not in their order.
        left_over: path and shape of every array that is of none of the layers, training state left out.
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
        """Whether some layers belong to a model inside the model."""
        if self.numbered:
            return any(layer.path.count("/") > 1 for layer in self.layers)
        groups = [layer.group for layer in self.layers if layer.arrays]
        return len(groups) > len(set(groups))

    @property
    def keras_major(self) -> int:
        """2 or 3: which dialect the config speaks. A file that does not say is old."""
        return 3 if self.keras_version.startswith("3") else 2


def read_bytes(path: Path) -> bytes:
    """The whole file.

    Raises:
        WeightsError: there is no such file, it is a folder, empty, or too large to be a MobileNet.
    """
    if path.is_dir():
        saved_model = (path / "saved_model.pb").exists()
        what = "a TensorFlow SavedModel folder" if saved_model else "a folder, not a file"
        raise WeightsError(f"{path}: {what}; load it in Keras and save it as .keras or .h5")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise WeightsError(f"{path}: {size:,} bytes are too many for a MobileNet; at most {MAX_BYTES:,} are read")
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
    """Open a Keras file. Arrays can be read while the block lasts.

    Args:
        path: for messages.
        data: the file's bytes.

    Raises:
        WeightsError: it is not a Keras file, or damaged.
    """
    where, digest = str(path), sha256(data).hexdigest()
    version, config = "", None
    with refusing_damage(where):
        if data.startswith(ZIP_MAGIC):
            version, config, data = _unzip(where, data)
        elif not data.startswith(HDF5_MAGIC):
            raise WeightsError(f"{where}: {_what_is(data)}. A Keras file is needed: .h5, .weights.h5 or .keras")
        import h5py

        check_global_heaps(where, data)
        with h5py.File(BytesIO(data), "r") as file:
            version = version or _text(file.attrs.get("keras_version"))
            root = file
            if "model_config" in file.attrs:
                config = _json(_text(file.attrs["model_config"]).encode())
                root = _child(file, "model_weights")
            if config is not None and not isinstance(config.get("config"), dict):
                raise WeightsError(f"{where}: the config in the file describes no model")
            version = version or _text(root.attrs.get("keras_version"))
            if _has(root.attrs, "layer_names"):
                layers, numbered = tuple(_named_layers(root)), False
            else:
                layers, numbered = tuple(_numbered_layers(file)), True
            _check_sizes(layers)
            if not any(layer.arrays for layer in layers):
                raise WeightsError(
                    f"{where}: no weights of Keras are in this file; it has neither `layer_names` nor `layers/`"
                )
            yield Contents(where, digest, version, config, layers, numbered, _left_over(root, layers))


@contextmanager
def refusing_damage(where: str) -> Iterator[None]:
    """Turn what libraries raise on damaged files into a WeightsError that names the file."""
    try:
        yield
    except NpMobileNetError as error:
        text = str(error)
        raise WeightsError(text if text.startswith(where) else f"{where}: {text}") from error
    except DAMAGE as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise WeightsError(
            f"{where}: the file is damaged or not what its beginning says ({reason}); save or download it again"
        ) from error


def _unzip(where: str, data: bytes) -> tuple[str, dict[str, Any], bytes]:
    """Version, config and weights file of a `.keras` archive."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if "config.json" not in members:
            raise WeightsError(f"{where}: a zip file, but not a .keras file: it has no config.json")
        if "model.weights.h5" not in members:
            raise WeightsError(
                f"{where}: the archive has no model.weights.h5, only {', '.join(sorted(members)[:10])}; "
                "save the model in one piece, with weights as HDF5"
            )
        config = _json(_member(archive, members["config.json"], MAX_JSON_BYTES))
        metadata = {}
        if "metadata.json" in members:
            metadata = _json(_member(archive, members["metadata.json"], MAX_JSON_BYTES))
        weights = _member(archive, members["model.weights.h5"], MAX_BYTES)
    return _text(metadata.get("keras_version")), config, weights


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """Inflate one member; what it declares is checked first, and no more than that is inflated."""
    if info.file_size > limit:
        raise WeightsError(
            f"{info.filename} in the archive would be {info.file_size:,} bytes; at most {limit:,} are read"
        )
    with archive.open(info) as file:
        return file.read(info.file_size + 1)


def _json(text: bytes) -> dict[str, Any]:
    if len(text) > MAX_JSON_BYTES:
        raise WeightsError(f"the config has {len(text):,} bytes; at most {MAX_JSON_BYTES:,} are read")
    document = json.loads(text.decode("utf-8"))
    if not isinstance(document, dict):
        raise WeightsError("the config in the file is not a JSON object")
    return document


def _named_layers(root: Any) -> Iterator[StoredLayer]:
    """Layers in the order of `layer_names`; the weights of a nested model, stored in one group, one layer at a time."""
    for group_name in _texts(root.attrs, "layer_names"):
        group = _child(root, group_name)
        by_layer: dict[str, list[StoredArray]] = {}
        for weight in _texts(group.attrs, "weight_names"):
            owner, _, leaf = weight.rpartition("/")
            leaf = leaf.partition(":")[0]
            by_layer.setdefault(_full_name(group_name, owner), []).append(_array(_child(group, weight), leaf))
        for name, arrays in by_layer.items():
            depthwise = any(array.leaf == "depthwise_kernel" for array in arrays)
            kind = "depthwise_conv2d" if depthwise and len(arrays) < 3 else ""
            kind = "separable_conv2d" if any(array.leaf == "pointwise_kernel" for array in arrays) else kind
            yield StoredLayer(name, group_name, kind, f"{group_name}/{name}", tuple(arrays))


def _full_name(group: str, owner: str) -> str:
    """`outer/inner` from the group of a layer and the path of a weight: some Keras versions put scopes before it."""
    padded = f"/{owner}/"
    at = padded.rfind(f"/{group}/")
    if at >= 0:
        return padded[at + 1 : -1]
    return f"{group}/{owner}" if owner else group


def _numbered_layers(file: Any) -> Iterator[StoredLayer]:
    """Layers below `layers/`, by class and number; Keras 2.12 and 2.13 call that folder otherwise."""
    for root in ("layers", "_layer_checkpoint_dependencies"):
        if root in file:
            yield from _walk(_child(file, root), "layers", "", 1)
            return


def _left_over(root: Any, layers: tuple[StoredLayer, ...]) -> tuple[str, ...]:
    """Path and shape of every array below a group that is of none of the layers and is no training state."""
    taken = {array.path for layer in layers for array in layer.arrays}
    found = []
    for count, dataset in enumerate(_datasets(root, 0)):
        if count > MAX_LAYERS:
            raise WeightsError(f"more than {MAX_LAYERS:,} arrays are too many for a MobileNet")
        if dataset.name not in taken:
            found.append(f"{dataset.name.strip('/')} {tuple(map(int, dataset.shape or ()))}")
    return tuple(found)


def _datasets(group: Any, depth: int) -> Iterator[Any]:
    """The datasets below a group, along hard links only."""
    import h5py

    if depth > 2 * MAX_DEPTH:
        raise WeightsError(f"groups are nested deeper than {2 * MAX_DEPTH} levels at {group.name}")
    for key in group:
        if key in TRAINING_STATE or not isinstance(group.get(key, getlink=True), h5py.HardLink):
            continue
        child = group[key]
        if isinstance(child, h5py.Dataset):
            yield child
        elif isinstance(child, h5py.Group):
            yield from _datasets(child, depth + 1)


def _walk(group: Any, path: str, outer: str | None, depth: int) -> Iterator[StoredLayer]:
    if depth > MAX_DEPTH:
        raise WeightsError(f"models are nested deeper than {MAX_DEPTH} levels at {path}")
    for key in sorted(group, key=number):
        child, where = _child(group, key), f"{path}/{key}"
        if key in SEEDS or not hasattr(child, "keys"):
            continue
        name = None
        arrays: tuple[StoredArray, ...] = ()
        if "vars" in child:
            values = _child(child, "vars")
            name = _text(values.attrs.get("name")) or None
            arrays = tuple(_array(_child(values, index), "") for index in sorted(values, key=int))
        full = None if outer is None or name is None else f"{outer}{name}"
        if arrays:
            top = (outer or "").partition("/")[0] or name or ""
            yield StoredLayer(full or "", top, number(key)[0], where, arrays)
        for inside in ("layers", "_layer_checkpoint_dependencies"):
            if inside in child:
                yield from _walk(_child(child, inside), f"{where}/layers", full and f"{full}/", depth + 1)


def number(key: str) -> tuple[str, int]:
    """("conv2d", 3) of "conv2d_3"."""
    match = re.fullmatch(r"(.+?)_(\d{1,9})", key)
    return (match[1], int(match[2])) if match else (key, 0)


def _child(group: Any, path: str) -> Any:
    """What lies below a group, along hard links only: other links can point anywhere, also out of the file."""
    import h5py

    for part in path.split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise WeightsError(f"{part} is a link to elsewhere, which is not followed")
        group = group[part]
    return group


def _array(dataset: Any, leaf: str) -> StoredArray:
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        raise WeightsError(f"{leaf}: an array is needed, the file has a {type(dataset).__name__}")
    if dataset.is_virtual or dataset.external:
        raise WeightsError(f"{dataset.name}: its values are in another file, which is not opened")
    if dataset.nbytes > MAX_BYTES:
        raise WeightsError(f"{dataset.name}: {dataset.shape} would be {dataset.nbytes:,} bytes; at most {MAX_BYTES:,}")
    shape = tuple(int(side) for side in dataset.shape)
    bfloat16 = dataset.attrs.get("dtype") == "bfloat16"

    def read() -> Array:
        if prod(shape) and not dataset.id.get_storage_size():
            raise WeightsError(f"{dataset.name}: declares {shape}, but the file holds no values for it")
        if bfloat16:
            return np.asarray((dataset[()].view(np.uint16).astype(np.uint32) << 16).view(np.float32))
        if dataset.dtype.kind != "f":
            raise WeightsError(f"{dataset.name}: floating-point weights are needed, these are {dataset.dtype}")
        return np.asarray(dataset[()])

    return StoredArray(dataset.name, leaf, shape, np.dtype(dataset.dtype), read)


def _check_sizes(layers: tuple[StoredLayer, ...]) -> None:
    if len(layers) > MAX_LAYERS:
        raise WeightsError(f"{len(layers):,} layers are too many for a MobileNet; at most {MAX_LAYERS:,} are read")
    total = sum(prod(array.shape) * array.dtype.itemsize for layer in layers for array in layer.arrays)
    if total > MAX_BYTES:
        raise WeightsError(f"its arrays would be {total:,} bytes; at most {MAX_BYTES:,} are read")


def _has(attributes: Any, name: str) -> bool:
    return name in attributes or f"{name}0" in attributes


def _texts(attributes: Any, name: str) -> list[str]:
    """A list of names; Keras cuts long lists into `name0`, `name1`, ..."""
    if name in attributes:
        return [_text(value) for value in np.ravel(attributes[name])]
    texts: list[str] = []
    for part in range(MAX_LAYERS):
        if f"{name}{part}" not in attributes:
            break
        texts += [_text(value) for value in np.ravel(attributes[f"{name}{part}"])]
    return texts


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value if isinstance(value, str) else ""


def _what_is(data: bytes) -> str:
    """What a file without a known beginning may be."""
    if data.startswith(b"version https://git-lfs"):
        return "a pointer to a file in Git LFS, not the file; fetch it with `git lfs pull`"
    if data.lstrip()[:1] == b"<":
        return "a web page, perhaps an error message in place of a download"
    if data[4:8] == b"TFL3":
        return "a TFLite file, which is not read"
    return f"not HDF5 and not a zip file; it begins with {data[:8]!r}"
