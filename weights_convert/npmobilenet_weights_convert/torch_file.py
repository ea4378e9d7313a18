"""PyTorch files: the arrays of a state dict, without torch and without executing what a pickle asks for.

    .safetensors         tensors by name
    .pth, .pt            zip; `<folder>/data.pkl`, a pickle, and the bytes of every storage as `<folder>/data/<key>`
    .pth before 1.6      five pickles one after another, then the bytes of every storage

The format is determined by the first bytes. The unpickler knows dictionaries and tensors; any other class is refused
by its name.
"""

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from npmobilenet.errors import WeightsError
from npmobilenet.limits import check_inflated
from npmobilenet.models.model_file import is_foreign
from npmobilenet.types import Array, Shape
from npmobilenet_weights_convert.keras_file import ZIP_MAGIC
from npmobilenet_weights_convert.stored_layers import MAX_BYTES

LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e"  # the pickle of 0x1950a86a20f9469cfc6c

STORAGES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "u2", "LongStorage": "i8",
    "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip
SAFETENSORS = {"F64": "f8", "F32": "f4", "F16": "f2", "BF16": "u2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
               "U8": "u1", "BOOL": "?"}  # fmt: skip

NESTED = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts keep a state dict in a checkpoint, the one to evaluate first."""
PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and wrappers put before every name."""


@dataclass(frozen=True)
class _Storage:
    """A one-dimensional array in a file, read when a tensor needs it."""

    kind: str
    read: Callable[[], Array]


def is_torch_file(path: Path) -> bool:
    """Whether a file begins as PyTorch's do: zip with a pickle, legacy pickle, `.safetensors` of another program."""
    with path.open("rb") as file:
        head = file.read(len(LEGACY_MAGIC))
    if head.startswith(ZIP_MAGIC):
        try:
            with zipfile.ZipFile(path) as archive:
                return _pickle_name(archive) is not None
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
            return False
    return head == LEGACY_MAGIC or (head[8:9] == b"{" and is_foreign(path))


def read_state_dict(data: bytes) -> dict[str, Array]:
    """Arrays by name; bfloat16 is widened to float32.

    Raises:
        WeightsError: the file is corrupt, or contains anything but tensors; the message names it.
    """
    try:
        found = _load(data)
    except WeightsError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        raise WeightsError(f"a corrupt or truncated PyTorch file ({type(error).__name__}: {error})") from error
    return _without_prefix(_state_dict(found))


def _load(data: bytes) -> Any:
    if data.startswith(ZIP_MAGIC):
        return _load_zip(data)
    if data.startswith(LEGACY_MAGIC):
        return _load_legacy(data)
    return _load_safetensors(data)


def _load_safetensors(data: bytes) -> dict[str, Array]:
    from safetensors import deserialize  # not `safetensors.numpy.load`, which refuses bfloat16

    return {
        name: _widened(np.frombuffer(entry["data"], SAFETENSORS[entry["dtype"]]), entry["dtype"]).reshape(
            entry["shape"]
        )
        for name, entry in deserialize(data)  # type: ignore[no-untyped-call]
        if entry["dtype"] in SAFETENSORS
    }


def _pickle_name(archive: zipfile.ZipFile) -> str | None:
    return next((name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"), None)


def _load_zip(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = _pickle_name(archive)
        assert name is not None
        folder = name.removesuffix("data.pkl")
        if f"{folder}constants.pkl" in archive.namelist():
            raise WeightsError(
                "a TorchScript program, not a state dict; in PyTorch, torch.save(torch.jit.load(file).state_dict(), "
                "'weights.pth')"
            )
        total = sum(member.file_size for member in archive.infolist())
        if total > MAX_BYTES:
            raise WeightsError(f"the archive unpacks to more than {MAX_BYTES:,} bytes")
        check_inflated("the archive", total, len(data))
        big = f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder").strip() == b"big"

        def storage(kind: str, key: str, _: int) -> _Storage:
            dtype = np.dtype(STORAGES[kind]).newbyteorder(">" if big else "<")
            return _Storage(kind, lambda: np.frombuffer(content(key), dtype))

        @cache
        def content(key: str) -> bytes:
            return archive.read(f"{folder}data/{key}")

        return _unpickled(io.BytesIO(archive.read(name)), storage, len(data))


def _load_legacy(data: bytes) -> Any:
    """The format of torch.save before PyTorch 1.6: magic, version, system, object, keys; the storages follow."""
    stream = io.BytesIO(data)
    sizes: dict[str, tuple[str, int]] = {}
    values: dict[str, Array] = {}

    def storage(kind: str, key: str, size: int) -> _Storage:
        sizes[key] = kind, size
        return _Storage(kind, lambda: values[key])

    def load() -> Any:
        return _unpickled(stream, storage, len(data), lazy=True)

    _magic, _version, _system = load(), load(), load()
    found = load()
    for key in load():
        kind, size = sizes[key]
        if int.from_bytes(stream.read(8), "little") != size:
            raise WeightsError(f"storage {key}: expected {size} values, got another number: the file is corrupt")
        dtype = np.dtype(STORAGES[kind]).newbyteorder("<")
        values[key] = np.frombuffer(stream.read(size * dtype.itemsize), dtype)
    return _resolved(found)


ReadStorage = Callable[[str, str, int], _Storage]
"""(kind, key, number of values) to the storage."""


def _unpickled(stream: io.BytesIO, storage: ReadStorage, file_bytes: int, *, lazy: bool = False) -> Any:
    """What a pickle in a file of this size holds; see `_TensorUnpickler`.

    The unpickler allocates a list as long as the highest number under which a pickle keeps an object, which is
    therefore checked before.

    Raises:
        WeightsError: that number is higher than the pickle has bytes.
    """
    start = stream.tell()
    for operation, number, _ in pickletools.genops(stream):
        if operation.name.endswith("PUT") and number is not None and int(number) > file_bytes:
            raise WeightsError(f"corrupt: the pickle keeps an object under the number {number}")
    stream.seek(start)
    return _TensorUnpickler(stream, storage, file_bytes, lazy=lazy).load()


class _TensorUnpickler(pickle.Unpickler):
    """Unpickler of dictionaries, lists, numbers, text and tensors.

    Args:
        stream: the pickle.
        storage: to the storage of a tensor.
        file_bytes: size of the file, which bounds that of all tensors.
        lazy: keep tensors as functions, for storages that follow the pickle; see `_resolved`.
    """

    def __init__(self, stream: io.BytesIO, storage: ReadStorage, file_bytes: int, *, lazy: bool) -> None:
        super().__init__(stream)
        self._storage = storage
        self._file_bytes = file_bytes
        self._lazy = lazy
        self._declared = 0  # bytes of the tensors so far

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *arguments: self._tensor(*arguments[:4])
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module in ("torch", "torch.storage") and name in STORAGES:
            return _StorageKind(name)
        raise WeightsError(
            f"the pickle contains {module}.{name}, which would execute code; expected tensors only. In PyTorch, save "
            "the state dict alone: torch.save(model.state_dict(), 'weights.pth')"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        tag, kind, key, _location, size = pid[:5]
        if tag != "storage" or (len(pid) > 5 and pid[5] is not None):
            raise WeightsError(f"expected the storage of a tensor, got {tag!r}")
        return self._storage(kind.name, str(key), int(size))

    def _tensor(self, storage: _Storage, offset: int, shape: Shape, strides: tuple[int, ...]) -> Any:
        self._declared += prod(shape) * np.dtype(STORAGES[storage.kind]).itemsize
        check_inflated("its tensors", self._declared, self._file_bytes)

        def build() -> Array:
            return _strided(storage, offset, tuple(shape), tuple(strides))

        return _Later(build) if self._lazy else build()


@dataclass(frozen=True)
class _StorageKind:
    name: str


@dataclass(frozen=True)
class _Later:
    build: Callable[[], Array]


def _resolved(found: Any) -> Any:
    """The object with every delayed tensor built."""
    if isinstance(found, _Later):
        return found.build()
    if isinstance(found, Mapping):
        return {key: _resolved(value) for key, value in found.items()}
    return found


def _strided(storage: _Storage, offset: int, shape: Shape, strides: tuple[int, ...]) -> Array:
    """A tensor as a view of its storage, which it must not exceed."""
    values = _widened(storage.read(), storage.kind)
    last = offset + sum((side - 1) * step for side, step in zip(shape, strides, strict=True))
    if min(offset, *shape, *strides, 0) < 0 or prod(shape) > max(values.size, 1):
        raise WeightsError(f"a tensor of {shape} with strides {strides} does not fit its storage of {values.size}")
    if 0 in shape:
        return np.zeros(shape, values.dtype)
    if last >= values.size:
        raise WeightsError(f"a tensor of {shape} exceeds its storage of {values.size} values: the file is truncated")
    steps = tuple(step * values.itemsize for step in strides)
    return np.array(np.lib.stride_tricks.as_strided(values[offset:], shape, steps))


def _widened(values: Array, kind: str) -> Array:
    """bfloat16, the high half of a float32, as float32."""
    if kind not in ("BFloat16Storage", "BF16"):
        return values
    return (values.astype(np.uint32) << 16).view(np.float32)


def _state_dict(found: Any) -> dict[str, Array]:
    """The state dict in a checkpoint."""
    if isinstance(found, Mapping):
        arrays = {str(name): value for name, value in found.items() if isinstance(value, np.ndarray)}
        if arrays:
            return arrays
        for key in NESTED:
            if isinstance(found.get(key), Mapping):
                return _state_dict(found[key])
    keys = f" with the keys {', '.join(map(str, list(found)[:8]))}" if isinstance(found, Mapping) else ""
    raise WeightsError(f"expected a state dict, tensors by name, got {type(found).__name__}{keys}")


def _without_prefix(arrays: dict[str, Array]) -> dict[str, Array]:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in arrays):
            return _without_prefix({name.removeprefix(prefix): values for name, values in arrays.items()})
    return arrays
