"""Somebody else's arrays, wherever they are: a file, a folder, a Keras or ONNX model that is run, a golden pack."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from npmobilenet.errors import DumpError, NpMobileNetError
from npmobilenet.models.model import Model
from npmobilenet.types import Array

RUNNABLE = (".onnx", ".h5", ".hdf5", ".keras")
"""Endings of models that are run on our input; anything else holds arrays."""


@dataclass(frozen=True, eq=False)
class Dump:
    """Arrays by their names, in their order, and what could not be read."""

    arrays: Mapping[str, Array]
    notes: tuple[str, ...] = field(default=())


def read_dump(path: Path, model: Model, x: Array) -> Dump:
    """Read or compute another implementation's arrays.

    Args:
        path: `.npz`, `.npy`, `.safetensors`; a folder of `.npy` files; a golden pack; or a model, `.onnx` or Keras's,
            which is run on x.
        model: the network that it should be.
        x: (N, H, W, C) the scaled input.

    Raises:
        DumpError: there is no such file, it is none of these, or nothing in it can be read.
        NpMobileNetError: a model needs a framework that is not installed.
    """
    if not path.exists():
        raise DumpError(f"{path}: there is no such file or folder")
    if path.is_dir():
        return _read_pack(path) if (path / "manifest.json").is_file() else _read_folder(path)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return _checked(path, _run_onnx(path, model, x))
    if suffix in RUNNABLE:
        return _checked(path, _run_keras(path, model, x))
    if suffix not in _READERS:
        known = ", ".join((*_READERS, *RUNNABLE))
        raise DumpError(
            f"{path}: {suffix or 'a file without an ending'} is not known; a dump is a folder or one of {known}"
        )
    return _checked(path, _whole(path, partial(_READERS[suffix], path)))


def _checked(path: Path, arrays: Mapping[str, Array]) -> Dump:
    """Keep what holds numbers; complain where nothing does."""
    usable: dict[str, Array] = {}
    notes = []
    for name, array in arrays.items():
        if isinstance(array, Exception):
            notes.append(f"{name}: cannot be read: {array}")
        elif array.dtype.kind in "fiub" and array.size:
            usable[name] = array
        else:
            notes.append(f"{name}: holds no numbers that could be compared ({array.dtype}, shape {array.shape})")
    if not usable:
        raise DumpError(f"{path}: there is nothing in it to compare" + "".join(f"\n  {note}" for note in notes))
    return Dump(usable, tuple(notes))


def _read_npz(path: Path) -> dict[str, Any]:
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        return {name: _attempt(partial(file.__getitem__, name)) for name in file.files}


def _read_npy(path: Path) -> dict[str, Any]:
    return {path.stem: np.load(path, allow_pickle=False)}


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import deserialize

    tensors = sorted(deserialize(path.read_bytes()), key=lambda tensor: _natural(tensor[0]))  # type: ignore[no-untyped-call]
    return {name: _attempt(partial(_from_safetensors, tensor)) for name, tensor in tensors}


_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}


def _from_safetensors(tensor: Mapping[str, Any]) -> Array:
    dtype, data, shape = tensor["dtype"], tensor["data"], tensor["shape"]
    if dtype == "BF16":  # the upper half of a float32
        bits = np.frombuffer(data, "<u2").astype(np.uint32) << np.uint32(16)
        return bits.view(np.float32).reshape(shape)
    if dtype not in _DTYPES:
        raise ValueError(f"dtype {dtype} is not known; known are {', '.join(_DTYPES)}, BF16")
    return np.frombuffer(data, _DTYPES[dtype]).reshape(shape)


_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".safetensors": _read_safetensors,
}


def _read_folder(path: Path) -> Dump:
    files = sorted(path.rglob("*.npy"), key=lambda file: _natural(str(file.relative_to(path))))
    if not files:
        raise DumpError(f"{path}: a folder without .npy files, and no golden pack, which has a manifest.json")
    arrays = {
        file.relative_to(path).with_suffix("").as_posix(): _attempt(partial(np.load, file, allow_pickle=False))
        for file in files
    }
    return _checked(path, arrays)


def _read_pack(path: Path) -> Dump:
    from npmobilenet.porting.golden import GoldenData

    pack = GoldenData.open(path)
    return _checked(path, {name: _attempt(partial(pack.output, name)) for name in pack.layers})


def _run_keras(path: Path, model: Model, x: Array) -> dict[str, Any]:
    from npmobilenet_weights_convert.run_in_keras import layer_outputs, open_in_keras

    return dict(layer_outputs(open_in_keras(path, model.graph), x))


def _run_onnx(path: Path, model: Model, x: Array) -> dict[str, Any]:
    """Every output of every node of an ONNX model, in the order of the nodes."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise NpMobileNetError(f"running {path} needs onnx and onnxruntime installed: {error}") from error
    try:
        network = onnx.load(str(path))
        shown = {output.name for output in network.graph.output}
        names = [name for node in network.graph.node for name in node.output if name]
        network.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in shown)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(network.SerializeToString(), options, providers=["CPUExecutionProvider"])
        entry = session.get_inputs()[0]
        outputs = session.run(names, {entry.name: _as_wanted(entry, x)})
    except Exception as error:  # both raise every kind
        raise DumpError(f"{path}: onnxruntime cannot run it: {str(error).splitlines()[0]}") from error
    return {name: np.asarray(array) for name, array in zip(names, outputs, strict=True)}


def _as_wanted(entry: Any, x: Array) -> Array:
    """The input in the layout and dtype of an ONNX model's."""
    C = x.shape[3]
    channels_first = len(entry.shape) == 4 and entry.shape[1] == C and entry.shape[3] != C
    dtype = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(entry.type, np.float32)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2) if channels_first else x, dtype)


def _attempt(read: Callable[[], Array]) -> Any:
    """The array, or the error that reading it raised: one bad array does not spoil the others.

    Every Exception is meant: on damaged files zlib, zipfile and NumPy raise many kinds.
    """
    try:
        return read()
    except Exception as error:
        return error


def _whole(path: Path, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What reading a file gives; on damaged files zlib, zipfile, NumPy and safetensors raise many kinds of errors."""
    try:
        return read()
    except Exception as error:
        raise DumpError(f"{path}: cannot be read, it is damaged or cut off: {error}") from error


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key by which conv_2 comes before conv_10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]
