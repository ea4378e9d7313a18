"""The layers of an HDF5 file of Keras, with their arrays.

Two layouts: named layers (attributes `layer_names` and, per layer, `weight_names`), and numbered layers
(`layers/<class>_<number>/vars/<number>`). The file is not trusted: sizes are checked before anything is read, and only
hard links are followed.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np

from npmobilenet.errors import WeightsError
from npmobilenet.limits import check_inflated
from npmobilenet.types import Array, Shape

MAX_BYTES = 1 << 30  # of a file, and of all arrays in it: twenty times the largest MobileNet with optimizer state
MAX_LAYERS = 10_000
MAX_DEPTH = 8  # of nested models

SEEDS = ("seed_generator", "random_generator", "_random_generator")  # state of random layers, no-ops at inference
TRAINING_STATE = frozenset({"optimizer", "optimizer_weights", "metrics", *SEEDS})  # groups not used at inference
CONTAINERS = (
    "layers",
    "_layer_checkpoint_dependencies",
)  # the group of a model's layers; the second in Keras 2.12, 2.13


@dataclass(frozen=True)
class StoredArray:
    """An array in a file.

    Attributes:
        path: its path in the HDF5 file.
        leaf: its own name, such as "kernel"; "" if the file only numbers arrays.
        shape, dtype: as stored.
        read: its values, floating point; read from the file once.
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
        name: name of the layer, `outer/inner` inside a nested model; "" if the file does not store it.
        group: name of the top-level layer that it belongs to.
        kind: its class in snake case, such as "conv2d"; "" if the file does not store it.
        path: its path in the file.
        arrays: in Keras's order.
    """

    name: str
    group: str
    kind: str
    path: str
    arrays: tuple[StoredArray, ...]


def named_layers(root: Any) -> Iterator[StoredLayer]:
    """Layers in the order of `layer_names`; a nested model, stored as one group, is split into its layers."""
    for group_name in texts(root.attrs, "layer_names"):
        group = child(root, group_name)
        by_layer: dict[str, list[StoredArray]] = {}
        for weight in texts(group.attrs, "weight_names"):
            owner, _, leaf = weight.rpartition("/")
            leaf = leaf.partition(":")[0]
            by_layer.setdefault(_full_name(group_name, owner), []).append(_array(child(group, weight), leaf))
        for name, arrays in by_layer.items():
            yield StoredLayer(name, group_name, kind_by_arrays(arrays), f"{group_name}/{name}", tuple(arrays))


def kind_by_arrays(arrays: list[StoredArray]) -> str:
    """Class of a layer in snake case if the names of its arrays determine it, else ""."""
    leaves = [array.leaf for array in arrays]
    if "pointwise_kernel" in leaves:
        return "separable_conv2d"
    return "depthwise_conv2d" if "depthwise_kernel" in leaves and len(leaves) < 3 else ""


def _full_name(group: str, owner: str) -> str:
    """`outer/inner` from the group of a layer and the path of a weight, which some versions prefix with scopes."""
    padded = f"/{owner}/"
    at = padded.rfind(f"/{group}/")
    if at >= 0:
        return padded[at + 1 : -1]
    return f"{group}/{owner}" if owner else group


def numbered_layers(file: Any) -> Iterator[StoredLayer]:
    """Layers by class and number, below the first of `CONTAINERS` in the file."""
    for root in CONTAINERS:
        if root in file:
            yield from _walk(child(file, root), "layers", "", 1)
            return


def _walk(group: Any, path: str, outer: str | None, depth: int) -> Iterator[StoredLayer]:
    """Layers below a group, nested models included; `outer` is the prefix of their names, None if it is unknown."""
    if depth > MAX_DEPTH:
        raise WeightsError(f"models are nested deeper than {MAX_DEPTH} levels at {path}")
    for key in sorted(group, key=number):
        entry, where = child(group, key), f"{path}/{key}"
        if key in SEEDS or not hasattr(entry, "keys"):
            continue
        name, arrays = _numbered_arrays(entry)
        full = None if outer is None or name is None else f"{outer}{name}"
        if arrays:
            top = (outer or "").partition("/")[0] or name or ""
            yield StoredLayer(full or "", top, number(key)[0], where, arrays)
        for inside in CONTAINERS:
            if inside in entry:
                yield from _walk(child(entry, inside), f"{where}/layers", full and f"{full}/", depth + 1)


def _numbered_arrays(entry: Any) -> tuple[str | None, tuple[StoredArray, ...]]:
    """Name of a layer, None if the file does not store it, and its arrays."""
    if "vars" not in entry:
        return None, ()
    values = child(entry, "vars")
    arrays = tuple(_array(child(values, index), "") for index in sorted(values, key=int))
    return text(values.attrs.get("name")) or None, arrays


def number(key: str) -> tuple[str, int]:
    """("conv2d", 3) of "conv2d_3"."""
    match = re.fullmatch(r"(.+?)_(\d{1,9})", key)
    return (match[1], int(match[2])) if match else (key, 0)


def left_over(root: Any, layers: tuple[StoredLayer, ...]) -> tuple[str, ...]:
    """Path and shape of every array below a group that belongs to no layer and is no training state."""
    taken = {array.path for layer in layers for array in layer.arrays}
    found = []
    for count, dataset in enumerate(_datasets(root, 0)):
        if count > MAX_LAYERS:
            raise WeightsError(f"more than {MAX_LAYERS:,} arrays exceed the limit for a MobileNet")
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
        entry = group[key]
        if isinstance(entry, h5py.Dataset):
            yield entry
        elif isinstance(entry, h5py.Group):
            yield from _datasets(entry, depth + 1)


def check_sizes(layers: tuple[StoredLayer, ...], file_bytes: int) -> None:
    """Check the number of layers and the total size of their arrays, in a file of `file_bytes` bytes.

    Raises:
        NpMobileNetError: one exceeds its limit.
    """
    if len(layers) > MAX_LAYERS:
        raise WeightsError(f"{len(layers):,} layers exceed the limit of {MAX_LAYERS:,}")
    total = sum(prod(array.shape) * array.dtype.itemsize for layer in layers for array in layer.arrays)
    if total > MAX_BYTES:
        raise WeightsError(f"its arrays declare {total:,} bytes, more than the limit of {MAX_BYTES:,}")
    check_inflated("its arrays", total, file_bytes)


def child(group: Any, path: str) -> Any:
    """The entry at a path below a group, along hard links only: other links can point anywhere, even outside the file.

    Raises:
        WeightsError: a part of the path is another link, or missing.
    """
    import h5py

    for part in path.split("/"):
        link = group.get(part, getlink=True)
        if link is None:
            raise WeightsError(f"{part} is missing in {group.name}")
        if not isinstance(link, h5py.HardLink):
            raise WeightsError(f"{part} is a soft or external link, which is never followed")
        group = group[part]
    return group


def _array(dataset: Any, leaf: str) -> StoredArray:
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        raise WeightsError(f"{leaf}: expected an array, got a {type(dataset).__name__}")
    if dataset.is_virtual or dataset.external:
        raise WeightsError(f"{dataset.name}: its values are in another file, which is never opened")
    if dataset.nbytes > MAX_BYTES:
        raise WeightsError(
            f"{dataset.name}: {dataset.shape} declares {dataset.nbytes:,} bytes, more than {MAX_BYTES:,}"
        )
    shape = tuple(int(side) for side in dataset.shape)
    bfloat16 = dataset.attrs.get("dtype") == "bfloat16"

    @cache
    def read() -> Array:
        if prod(shape) and not dataset.id.get_storage_size():
            raise WeightsError(f"{dataset.name}: declares {shape}, but the file contains no values for it")
        if bfloat16 and dataset.dtype.itemsize == 2:
            return np.asarray((dataset[()].view(np.uint16).astype(np.uint32) << 16).view(np.float32))
        if dataset.dtype.kind != "f":
            raise WeightsError(f"{dataset.name}: expected floating-point weights, got {dataset.dtype}")
        return np.asarray(dataset[()])

    return StoredArray(dataset.name, leaf, shape, np.dtype(dataset.dtype), read)


def has_list(attributes: Any, name: str) -> bool:
    """Whether the attributes contain a list of names, in one or several parts."""
    return name in attributes or f"{name}0" in attributes


def texts(attributes: Any, name: str) -> list[str]:
    """A list of names; Keras splits long lists into `name0`, `name1`, ..."""
    if name in attributes:
        return [text(value) for value in np.ravel(attributes[name])]
    found: list[str] = []
    for part in range(MAX_LAYERS):
        if f"{name}{part}" not in attributes:
            break
        found += [text(value) for value in np.ravel(attributes[f"{name}{part}"])]
    return found


def text(value: Any) -> str:
    """A string attribute, "" if it is missing or of another type."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value if isinstance(value, str) else ""
