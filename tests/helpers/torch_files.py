"""PyTorch files written without PyTorch, and the state dicts of ../shared/pytorch/."""

import io
import json
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from npmobilenet_weights_convert.torch_file import LEGACY_MAGIC

from npmobilenet.types import Array, Shape
from tests.helpers.real_files import real_file

STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage"}
PROTOCOL = 2  # as torch.save


@cache
def drawn_networks() -> dict[str, Any]:
    """The description of every network: transform, parameters, entries of the state dict."""
    document: dict[str, Any] = json.loads(real_file("pytorch", "mobilenets.json").read_text())
    return document["nets"]  # type: ignore[no-any-return]


def drawn_state_dict(network: str) -> dict[str, Array]:
    """Arrays by the rule of ../shared/README.md."""
    return {name: drawn_array(name, tuple(shape)) for name, shape in drawn_networks()[network]["entries"].items()}


def drawn_detector() -> dict[str, Array]:
    """The state dict of torchvision's ssdlite320_mobilenet_v3_large by the rule of ../shared/README.md."""
    document = json.loads(real_file("detection", "torchvision_ssdlite320.json").read_text())
    return {name: drawn_array(name, tuple(shape)) for name, shape in document["entries"].items()}


def drawn_array(name: str, shape: Shape) -> Array:
    """An array of a state dict, drawn by the name of its entry."""
    r = np.random.default_rng(int.from_bytes(sha256(name.encode()).digest()[:8], "little"))
    if name.endswith("num_batches_tracked"):
        return np.zeros((), np.int64)
    if name.endswith("running_mean"):
        values = r.normal(0, 0.1, shape)
    elif name.endswith("running_var"):
        values = r.uniform(0.5, 1.5, shape)
    elif name.endswith("bias"):
        values = r.normal(0, 0.1, shape)
    elif len(shape) == 4:
        values = r.normal(0, 1, shape) * np.sqrt(2 / np.prod(shape[1:]))
    elif len(shape) == 2:
        values = r.normal(0, 1, shape) / np.sqrt(shape[1])
    else:
        values = r.uniform(0.8, 1.2, shape)
    return values.astype(np.float32)


def torch_zip(content: Any) -> bytes:
    """What torch.save writes since 1.6; arrays become tensors."""
    storages: list[Array] = []
    stream = io.BytesIO()
    with _fake_torch() as torch:
        _TensorPickler(stream, torch, storages).dump(content)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, values in enumerate(storages):
            archive.writestr(f"archive/data/{key}", values.tobytes())
    return buffer.getvalue()


def torch_legacy(content: Any) -> bytes:
    """What torch.save wrote before 1.6."""
    storages: list[Array] = []
    stream = io.BytesIO(LEGACY_MAGIC)
    stream.seek(0, io.SEEK_END)
    pickle.dump(1001, stream, PROTOCOL)
    pickle.dump({"little_endian": True}, stream, PROTOCOL)
    with _fake_torch() as torch:
        _TensorPickler(stream, torch, storages).dump(content)
    pickle.dump([str(key) for key in range(len(storages))], stream, PROTOCOL)
    for values in storages:
        stream.write(struct.pack("<q", values.size) + values.tobytes())
    return stream.getvalue()


def write_safetensors(path: Path, arrays: Mapping[str, Array]) -> Path:
    """As timm and Hugging Face write it."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, path, {"format": "pt"})
    return path


class _Storage:
    """A storage on its way to the file."""

    def __init__(self, values: Array, key: int) -> None:
        self.values = values
        self.key = key


@contextmanager
def _fake_torch() -> Iterator[types.ModuleType]:
    """Modules whose names the pickler writes down."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield torch
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class _TensorPickler(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, torch: types.ModuleType, storages: list[Array]) -> None:
        super().__init__(stream, PROTOCOL)
        self._torch = torch
        self._storages = storages
        self._known: dict[tuple[int, int], _Storage] = {}  # by place in memory and size

    def persistent_id(self, thing: Any) -> Any:
        if not isinstance(thing, _Storage):
            return None
        kind = getattr(self._torch, STORAGES[thing.values.dtype.str[1:]])
        return "storage", kind, str(thing.key), "cpu", thing.values.size

    def _storage(self, values: Array) -> _Storage:
        """The storage of an array; views of the same values share it, as in PyTorch."""
        storage = _Storage(np.ascontiguousarray(values).reshape(-1), len(self._storages))
        if values.flags.c_contiguous and values.size:
            known = self._known.setdefault((values.ctypes.data, values.nbytes), storage)
            if known is not storage:
                return known
        self._storages.append(storage.values)
        return storage

    def reducer_override(self, thing: Any) -> Any:
        if not isinstance(thing, np.ndarray):
            return NotImplemented
        storage = self._storage(thing)
        strides = tuple(step // thing.itemsize for step in np.ascontiguousarray(thing).strides[: thing.ndim])
        shape = thing.shape
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (storage, 0, shape, strides, False, OrderedDict())
