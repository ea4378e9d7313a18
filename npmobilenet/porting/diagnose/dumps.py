"""Dumps of a port's layers: array files, directories of arrays, golden data, and Keras or ONNX models to run."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from npmobilenet.errors import DumpError, NpMobileNetError
from npmobilenet.limits import check_inflated
from npmobilenet.models.model import Model
from npmobilenet.porting.diagnose.tflite_outputs import tflite_outputs
from npmobilenet.porting.golden import GoldenData
from npmobilenet.porting.golden_manifest import MANIFEST
from npmobilenet.porting.integer_pack import IntegerPack, is_integer_pack
from npmobilenet.types import Array

RUNNABLE = (".tflite", ".onnx", ".h5", ".hdf5", ".keras")
"""Suffixes of models that are run on the network's input; other files hold arrays."""


@dataclass(frozen=True, eq=False)
class Dump:
    """Arrays by name, in their order, and a note per array that could not be read."""

    arrays: Mapping[str, Array]
    notes: tuple[str, ...] = field(default=())


def read_dump(path: Path, model: Model, x: Array) -> Dump:
    """Another implementation's arrays, read from files or computed.

    Args:
        path: `.npz`, `.npy` or `.safetensors`; a directory of `.npy` files; golden data; or a model (`.tflite`, `.onnx`
            or Keras's), which is run on x.
        model: the network that it implements.
        x: (N, H, W, C) the scaled input.

    Raises:
        DumpError: the file does not exist, is none of these, or nothing in it can be read.
        NpMobileNetError: a model requires a framework that is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in RUNNABLE or not path.is_file():
        return read_arrays(path, RUNNABLE)
    if suffix == ".tflite":
        return _checked(path, tflite_outputs(path, x))
    return _checked(path, _run_onnx(path, model, x) if suffix == ".onnx" else _run_keras(path, model, x))


def read_arrays(path: Path, others: Sequence[str] = ()) -> Dump:
    """Another implementation's arrays from files.

    Args:
        path: `.npz`, `.npy` or `.safetensors`; a directory of `.npy` files; golden data.
        others: suffixes that a message names as well.

    Raises:
        DumpError: the file does not exist, is none of these, or nothing in it can be read.
    """
    if not path.exists():
        raise DumpError(f"{path}: no such file or directory")
    if path.is_dir():
        return _read_golden(path) if (path / MANIFEST).is_file() else _read_folder(path)
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        known = ", ".join((*_READERS, *others))
        raise DumpError(f"{path}: unsupported suffix {suffix!r}, expected a directory or one of {known}")
    return _checked(path, _read(path, _READERS[suffix]))


def _checked(path: Path, arrays: Mapping[str, Array]) -> Dump:
    """The numeric arrays, and a note for every other one."""
    usable: dict[str, Array] = {}
    notes = []
    for name, array in arrays.items():
        if isinstance(array, Exception):
            notes.append(f"{name}: cannot be read: {array}")
        elif not isinstance(array, np.ndarray):  # a member of an .npz that is no array, such as a README
            notes.append(f"{name}: not an array")
        elif array.dtype.kind in "fiub" and array.size:
            usable[name] = array
        else:
            notes.append(f"{name}: not a numeric array ({array.dtype}, shape {array.shape})")
    if not usable:
        raise DumpError(f"{path}: no array to compare" + "".join(f"\n  {note}" for note in notes))
    return Dump(usable, tuple(notes))


def _read_npz(path: Path) -> dict[str, Any]:
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        declared = sum(member.file_size for member in file.zip.infolist())
        check_inflated("its arrays", declared, path.stat().st_size)
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
        raise ValueError(f"unsupported dtype {dtype}, expected one of {', '.join(_DTYPES)}, BF16")
    return np.frombuffer(data, _DTYPES[dtype]).reshape(shape)


_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".safetensors": _read_safetensors,
}


def _read_folder(path: Path) -> Dump:
    files = sorted(path.rglob("*.npy"), key=lambda file: _natural(str(file.relative_to(path))))
    if not files:
        raise DumpError(f"{path}: a directory with neither .npy files nor golden data ({MANIFEST})")
    arrays = {
        file.relative_to(path).with_suffix("").as_posix(): _attempt(partial(np.load, file, allow_pickle=False))
        for file in files
    }
    return _checked(path, arrays)


def _read_golden(path: Path) -> Dump:
    if is_integer_pack(path):
        pack = IntegerPack.open(path)
        return _checked(path, {name: _attempt(partial(pack.output, name)) for name in pack.layers})
    golden = GoldenData.open(path)
    return _checked(path, {name: _attempt(partial(golden.output, name)) for name in golden.layers})


def _run_keras(path: Path, model: Model, x: Array) -> dict[str, Any]:
    from npmobilenet_weights_convert.run_in_keras import layer_outputs, open_in_keras

    return dict(layer_outputs(open_in_keras(path, model.graph), x))


def _run_onnx(path: Path, model: Model, x: Array) -> dict[str, Any]:
    """All outputs of all nodes of an ONNX model, in the order of the nodes."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise NpMobileNetError(f"running {path} requires onnx and onnxruntime: {error}") from error
    try:
        network = onnx.load(str(path))
        shown = {output.name for output in network.graph.output}
        names = [name for node in network.graph.node for name in node.output if name]
        network.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in shown)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(network.SerializeToString(), options, providers=["CPUExecutionProvider"])
        entry = session.get_inputs()[0]
        outputs = session.run(names, {entry.name: _onnx_input(entry, x)})
    except Exception as error:  # both libraries raise many types
        raise DumpError(f"{path}: onnxruntime cannot run it: {str(error).splitlines()[0]}") from error
    return {name: np.asarray(array) for name, array in zip(names, outputs, strict=True)}


def _onnx_input(entry: Any, x: Array) -> Array:
    """The input x (N, H, W, C) in the layout and dtype of an ONNX model's input."""
    C = x.shape[3]
    channels_first = len(entry.shape) == 4 and entry.shape[1] == C and entry.shape[3] != C
    dtype = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(entry.type, np.float32)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2) if channels_first else x, dtype)


def _attempt(read: Callable[[], Array]) -> Any:
    """The array, or the exception raised by reading it: one corrupt array does not affect the others.

    Exception is caught on purpose: on corrupt files zlib, zipfile and NumPy raise many types.
    """
    try:
        return read()
    except Exception as error:
        return error


def _read(path: Path, reader: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The arrays of a file; on corrupt files zlib, zipfile, NumPy and safetensors raise many types of errors."""
    try:
        return reader(path)
    except Exception as error:
        raise DumpError(f"{path}: corrupt or truncated: {error}") from error


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that places conv_2 before conv_10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]
