"""File formats of golden data, to write and to read.

    npz          one .npz per kind of tensor, entries by name: np.load("npz/outputs.npz")["conv1"]
    safetensors  the same as .safetensors
    raw          one file per tensor of little-endian numbers only, and index.tsv for programs without JSON
    c            one .c per tensor and pack.h, decimals that round-trip bit-exactly
    readmemh     one .hex per tensor for Verilog's $readmemh: one word per line, in hexadecimal: IEEE-754, or an integer
                 in two's complement

Every format holds every tensor, in the same order of axes, so any one of them is enough.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile, ZipInfo

import numpy as np

from npmobilenet.types import Array, Shape

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
    "uint8": np.dtype("u1"),
    "int8": np.dtype("i1"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
}
C_TYPES = {
    "float32": "float", "float64": "double",
    "uint8": "unsigned char", "int8": "signed char", "int32": "int", "int64": "long long",
}  # fmt: skip
C_NUMBERS = {"float32": "%.8ef", "float64": "%.16e", "int64": "%dLL"}  # 9 and 17 digits round-trip bit-exactly
C_INTEGER = "%d"
C_VALUES_PER_LINE = 8
SUFFIXES = {"float32": "f32", "float64": "f64", "uint8": "u8", "int8": "i8", "int32": "i32", "int64": "i64"}

Location = Mapping[str, str]
"""{"file": path inside the format's folder}, and the "key" of the tensor if the file holds several, or a C symbol."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """An array as stored.

    Attributes:
        kind: image, outputs, truth or weights; of quantized networks also accumulators, multipliers, shifts, factors.
        name: of a stage, of a layer, or `layer/array`.
        axes: one letter per axis, outermost first.
        values: of a dtype in `DTYPES`, contiguous.
    """

    kind: str
    name: str
    axes: str
    values: Array

    @property
    def dtype(self) -> str:
        """The dtype's name in `DTYPES`."""
        return self.values.dtype.name


class Format(NamedTuple):
    """A file format.

    `write(folder, tensors)` creates the files and yields the location of each tensor, in order, once it is written;
    tensors of one kind are consecutive. `read(file, key, dtype, shape)` returns one tensor, and raises whatever its
    library raises on a corrupt file.
    """

    write: Callable[[Path, Sequence[Tensor]], Iterator[Location]]
    read: Callable[[Path, str, np.dtype[Any], Shape], Array]


def _write_npz(folder: Path, tensors: Sequence[Tensor]) -> Iterator[Location]:
    for kind, group in groupby(tensors, lambda tensor: tensor.kind):
        with ZipFile(folder / f"{kind}.npz", "w") as archive:  # np.savez reserves some names
            for tensor in group:
                with archive.open(ZipInfo(f"{tensor.name}.npy"), "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, tensor.values, allow_pickle=False)
                yield {"file": f"{kind}.npz", "key": tensor.name}


def _read_npz(file: Path, key: str, dtype: np.dtype[Any], shape: Shape) -> Array:
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return np.asarray(archive[key])


def _write_safetensors(folder: Path, tensors: Sequence[Tensor]) -> Iterator[Location]:
    from safetensors.numpy import save_file

    for kind, group in groupby(tensors, lambda tensor: tensor.kind):
        arrays = {tensor.name: tensor.values for tensor in group}
        save_file(arrays, folder / f"{kind}.safetensors")
        yield from ({"file": f"{kind}.safetensors", "key": name} for name in arrays)


def _read_safetensors(file: Path, key: str, dtype: np.dtype[Any], shape: Shape) -> Array:
    from safetensors import safe_open

    with safe_open(file, framework="np") as tensors:
        return np.asarray(tensors.get_tensor(key))


def _write_raw(folder: Path, tensors: Sequence[Tensor]) -> Iterator[Location]:
    files = _file_names(tensors, lambda tensor: SUFFIXES[tensor.dtype])
    for tensor, file in zip(tensors, files, strict=True):
        _in_new_folder(folder / file).write_bytes(tensor.values.tobytes())
        yield {"file": file}


def _read_raw(file: Path, key: str, dtype: np.dtype[Any], shape: Shape) -> Array:
    return np.frombuffer(file.read_bytes(), dtype).reshape(shape)


def _write_c(folder: Path, tensors: Sequence[Tensor]) -> Iterator[Location]:
    files = _file_names(tensors, lambda _: "c")
    symbols = _unique(re.sub(r"[^A-Za-z0-9_]", "_", f"{tensor.kind}_{tensor.name}") for tensor in tensors)
    declarations = []
    for tensor, file, symbol in zip(tensors, files, symbols, strict=True):
        declaration = f"const {C_TYPES[tensor.dtype]} {symbol}[{max(tensor.values.size, 1)}]"
        sides = " x ".join(map(str, tensor.values.shape))
        declarations.append(f"extern {declaration};  /* {sides}, {tensor.axes} */\n")
        source = f'#include "../pack.h"\n\n{declaration} = {{\n{_c_values(tensor)}\n}};\n'
        _in_new_folder(folder / file).write_text(source, encoding="ascii")
        yield {"file": file, "key": symbol}
    header = "#ifndef PACK_H\n#define PACK_H\n\n#include <math.h>\n\n" + "".join(declarations) + "\n#endif\n"
    (folder / "pack.h").write_text(header, encoding="ascii")


def _c_values(tensor: Tensor) -> str:
    number = C_NUMBERS.get(tensor.dtype, C_INTEGER)
    values = tensor.values.ravel().tolist()
    rows = (values[start : start + C_VALUES_PER_LINE] for start in range(0, len(values), C_VALUES_PER_LINE))
    text = ",\n".join("    " + ", ".join([number] * len(row)) % tuple(row) for row in rows)
    if tensor.values.dtype.kind == "f" and not np.isfinite(tensor.values).all():
        text = re.sub(r"\binff?\b", "INFINITY", re.sub(r"\bnanf?\b", "NAN", text))
    return text or "    0"


def _read_c(file: Path, key: str, dtype: np.dtype[Any], shape: Shape) -> Array:
    body = file.read_text(encoding="ascii").split("{")[1].split("}")[0]
    texts = [value.strip() for value in body.split(",")] if np.prod(shape) else []
    if dtype.kind == "f":
        return np.array([float(text.removesuffix("f").lower()) for text in texts]).astype(dtype).reshape(shape)
    return np.array([int(text.removesuffix("LL")) for text in texts], dtype).reshape(shape)


def _write_readmemh(folder: Path, tensors: Sequence[Tensor]) -> Iterator[Location]:
    files = _file_names(tensors, lambda _: "hex")
    for tensor, file in zip(tensors, files, strict=True):
        sides = " x ".join(map(str, tensor.values.shape))
        words = tensor.values.astype(tensor.values.dtype.newbyteorder(">")).tobytes()
        text = f"// {tensor.dtype}, {sides}, {tensor.axes}\n{words.hex(chr(10), tensor.values.itemsize)}\n"
        _in_new_folder(folder / file).write_text(text, encoding="ascii")
        yield {"file": file}


def _read_readmemh(file: Path, key: str, dtype: np.dtype[Any], shape: Shape) -> Array:
    words = bytes.fromhex(re.sub(r"//.*", "", file.read_text(encoding="ascii")))
    return np.frombuffer(words, dtype.newbyteorder(">")).astype(dtype).reshape(shape)


FORMATS = {
    "npz": Format(_write_npz, _read_npz),
    "safetensors": Format(_write_safetensors, _read_safetensors),
    "raw": Format(_write_raw, _read_raw),
    "readmemh": Format(_write_readmemh, _read_readmemh),
    "c": Format(_write_c, _read_c),
}
"""Formats by name, in the order of a reader's preference."""


def _file_names(tensors: Sequence[Tensor], suffix: Callable[[Tensor], str]) -> list[str]:
    """`outputs/conv1.f32`, ...: safe on every file system, for any layer name."""
    stems = _unique(f"{tensor.kind}/{re.sub(r'[^A-Za-z0-9_.-]', '_', tensor.name)[:120]}" for tensor in tensors)
    return [f"{stem}.{suffix(tensor)}" for stem, tensor in zip(stems, tensors, strict=True)]


def _unique(names: Iterable[str]) -> list[str]:
    """The names, with a numeric suffix where one was used before; case is ignored."""
    seen: set[str] = set()
    unique = []
    for name in names:
        candidates = (name if number == 1 else f"{name}_{number}" for number in count(1))
        unique.append(next(candidate for candidate in candidates if candidate.casefold() not in seen))
        seen.add(unique[-1].casefold())
    return unique


def _in_new_folder(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    return path
