"""Arrays of an HDF5 file written by Keras, layer by layer.

    legacy weights     attributes `layer_names` and, in the group of each layer, `weight_names`
    .weights.h5        groups `layers/<class>_<number>/vars`, whose arrays are numbered

Sizes are checked before anything is read; only hard links are followed.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np

from npmobilenet.errors import WeightsError
from npmobilenet.types import Array, Shape

MAX_BYTES = 1 << 30  # of a file, and of all arrays in it: twenty times the largest MobileNet with optimizer state
MAX_LAYERS = 10_000
MAX_DEPTH = 8  # of models inside models

SEEDS = ("seed_generator", "random_generator", "_random_generator")  # state of random layers, no-ops at inference
TRAINING_STATE = frozenset({"optimizer", "optimizer_weights", "metrics", *SEEDS})  # groups unused at inference


@dataclass(frozen=True)
class StoredArray:
    """One array in a file.

    Attributes:
        path: in the HDF5 file.
        leaf: its own name, such as "kernel", or "" if the file only numbers arrays.
        shape: as stored, in Keras's layout.
        dtype: as stored.
        read: reads the floating-point values, once; further calls return the same array.
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
        name: the layer's name, `outer/inner` inside a nested model; "" if not stored.
        group: name of the top-level layer that it belongs to.
        kind: its class in snake case, such as "conv2d"; "" if not stored.
        path: in the file.
        arrays: in Keras's order.
    """

    name: str
    group: str
    kind: str
    path: str
    arrays: tuple[StoredArray, ...]


def named_layers(root: Any) -> Iterator[StoredLayer]:
    """Layers in the order of `layer_names`; a group that stores a nested model yields one per inner layer."""
    for group_name in texts(root.attrs, "layer_names"):
        group = child_of(root, group_name)
        by_layer: dict[str, list[StoredArray]] = {}
        for weight in texts(group.attrs, "weight_names"):
            owner, _, leaf = weight.rpartition("/")
            leaf = leaf.partition(":")[0]
            by_layer.setdefault(_full_name(group_name, owner), []).append(_array(child_of(group, weight), leaf))
        for name, arrays in by_layer.items():
            depthwise = any(array.leaf == "depthwise_kernel" for array in arrays)
            kind = "depthwise_conv2d" if depthwise and len(arrays) < 3 else ""
            kind = "separable_conv2d" if any(array.leaf == "pointwise_kernel" for array in arrays) else kind
            yield StoredLayer(name, group_name, kind, f"{group_name}/{name}", tuple(arrays))


def _full_name(group: str, owner: str) -> str:
    """`outer/inner` from the group of a layer and the path of a weight; some Keras versions prefix it with scopes."""
    padded = f"/{owner}/"
    at = padded.rfind(f"/{group}/")
    if at >= 0:
        return padded[at + 1 : -1]
    return f"{group}/{owner}" if owner else group


def numbered_layers(file: Any) -> Iterator[StoredLayer]:
    """Layers below `layers/`, by class and number; Keras 2.12 and 2.13 have another name for that group."""
    for root in ("layers", "_layer_checkpoint_dependencies"):
        if root in file:
            yield from _walk(child_of(file, root), "layers", "", 1)
            return


def left_over(root: Any, layers: tuple[StoredLayer, ...]) -> tuple[str, ...]:
    """Path and shape of every array below a group that belongs to no layer and is not training state."""
    taken = {array.path for layer in layers for array in layer.arrays}
    found = []
    for count, dataset in enumerate(_datasets(root, 0)):
        if count > MAX_LAYERS:
            raise WeightsError(f"too many arrays for a MobileNet (limit {MAX_LAYERS:,})")
        if dataset.name not in taken:
            found.append(f"{dataset.name.strip('/')} {tuple(map(int, dataset.shape or ()))}")
    return tuple(found)


def _datasets(group: Any, depth: int) -> Iterator[Any]:
    """Datasets below a group, following hard links only."""
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
        child, where = child_of(group, key), f"{path}/{key}"
        if key in SEEDS or not hasattr(child, "keys"):
            continue
        name = None
        arrays: tuple[StoredArray, ...] = ()
        if "vars" in child:
            values = child_of(child, "vars")
            name = as_text(values.attrs.get("name")) or None
            arrays = tuple(_array(child_of(values, index), "") for index in sorted(values, key=int))
        full = None if outer is None or name is None else f"{outer}{name}"
        if arrays:
            top = (outer or "").partition("/")[0] or name or ""
            yield StoredLayer(full or "", top, number(key)[0], where, arrays)
        for inside in ("layers", "_layer_checkpoint_dependencies"):
            if inside in child:
                yield from _walk(child_of(child, inside), f"{where}/layers", full and f"{full}/", depth + 1)


def number(key: str) -> tuple[str, int]:
    """("conv2d", 3) of "conv2d_3"."""
    match = re.fullmatch(r"(.+?)_(\d{1,9})", key)
    return (match[1], int(match[2])) if match else (key, 0)


def child_of(group: Any, path: str) -> Any:
    """Object at a path below a group, following hard links only: others can point outside the file."""
    import h5py

    for part in path.split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise WeightsError(f"{part} is a soft or external link, which is not followed")
        group = group[part]
    return group


def _array(dataset: Any, leaf: str) -> StoredArray:
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        raise WeightsError(f"{leaf}: expected an array, got a {type(dataset).__name__}")
    if dataset.is_virtual or dataset.external:
        raise WeightsError(f"{dataset.name}: its values are stored in another file, which is not opened")
    if dataset.nbytes > MAX_BYTES:
        raise WeightsError(f"{dataset.name}: {dataset.shape} would be {dataset.nbytes:,} bytes (limit {MAX_BYTES:,})")
    shape = tuple(int(side) for side in dataset.shape)
    bfloat16 = dataset.attrs.get("dtype") == "bfloat16"

    @cache
    def read() -> Array:
        if prod(shape) and not dataset.id.get_storage_size():
            raise WeightsError(f"{dataset.name}: declares shape {shape}, but the file stores no values for it")
        if bfloat16:
            return np.asarray((dataset[()].view(np.uint16).astype(np.uint32) << 16).view(np.float32))
        if dataset.dtype.kind != "f":
            raise WeightsError(f"{dataset.name}: expected floating-point weights, got {dataset.dtype}")
        return np.asarray(dataset[()])

    return StoredArray(dataset.name, leaf, shape, np.dtype(dataset.dtype), read)


def check_sizes(layers: tuple[StoredLayer, ...]) -> None:
    if len(layers) > MAX_LAYERS:
        raise WeightsError(f"{len(layers):,} layers are too many for a MobileNet (limit {MAX_LAYERS:,})")
    total = sum(prod(array.shape) * array.dtype.itemsize for layer in layers for array in layer.arrays)
    if total > MAX_BYTES:
        raise WeightsError(f"its arrays would be {total:,} bytes (limit {MAX_BYTES:,})")


def has_texts(attributes: Any, name: str) -> bool:
    return name in attributes or f"{name}0" in attributes


def texts(attributes: Any, name: str) -> list[str]:
    """A list of names; Keras splits long lists into `name0`, `name1`, ..."""
    if name in attributes:
        return [as_text(value) for value in np.ravel(attributes[name])]
    texts: list[str] = []
    for part in range(MAX_LAYERS):
        if f"{name}{part}" not in attributes:
            break
        texts += [as_text(value) for value in np.ravel(attributes[f"{name}{part}"])]
    return texts


def as_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value if isinstance(value, str) else ""
