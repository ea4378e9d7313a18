"""Mutations of files: of raw bytes, and of what a format is made of, so that the damage lies deeper than a checksum."""

import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from random import Random
from typing import Any

import numpy as np

from npmobilenet.porting.golden_manifest import MANIFEST, manifest_hash

Members = dict[str, bytes]
"""Contents of a folder or an archive by name."""

NUMBERS = (0, 1, 2, 3, 127, 128, 255, 256, 1000, 32767, 65535, 2**20, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 1000, 2**31, 2**64, 10**30, 0.5, 1e-30, 1e308, -1e308, float("nan"),
    float("inf"), "", "x", "relu6", "same", "../../etc/passwd", "\x1b[31m\u202e\ud800", 100_000 * "a", [], {}, [[]],
    [0], [1, -1], [None], [1, [2, [3]]], {"": 0}, [1e300, 1e300, 1e300], list(range(300)),
)  # fmt: skip
HOLE = 512  # bytes: a block that a broken download leaves empty


def mutated(name: str, data: bytes, random: Random) -> bytes:
    """A file with one to three changes; what is damaged beyond its format is changed byte by byte.

    Its name, or the end of it, says which format it has.
    """
    change = STRUCTURED.get(name) or STRUCTURED.get(name[name.rfind(".") :], raw)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        is_raw = random.random() < 0.4
        try:
            data = raw(data, random) if is_raw else change(data, random)
            if is_raw and change is hdf5_changed:  # HDF5 itself may never end on what is damaged
                change = raw
        except Exception:  # a format's own library gives up on what was changed before
            data = raw(data, random)
    return data


def mutated_members(members: Mapping[str, bytes], random: Random) -> Members:
    """A folder or archive in which some members are changed, swapped, missing, or of another name."""
    changed = dict(members)
    name = random.choice(list(changed))
    match random.randrange(12):
        case 0:
            del changed[name]
        case 1:
            other = random.choice(list(changed))
            changed[name], changed[other] = changed[other], changed[name]
        case 2:
            other = random.choice(("x", "../x", "/x", "a/b/c", f"x/{name}", name.upper(), "labels.txt"))
            changed[other] = changed.pop(name)
        case 3:
            changed[name] = b""
        case _:
            changed[name] = mutated(name, changed[name], random)
    return changed


def packed(members: Mapping[str, bytes], random: Random) -> bytes:
    """A zip archive of some members, in one of its compressions."""
    file = BytesIO()
    method = random.choice((zipfile.ZIP_STORED, *[zipfile.ZIP_DEFLATED] * 8, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)  # of no date, so that it can be made again
    return file.getvalue()


def raw(data: bytes, random: Random) -> bytes:
    """One change of bytes, half of the time near the beginning or the end, where headers are."""
    size = len(data)
    if size < 2:
        return random.randbytes(random.randrange(40))
    near = min(size, 300)
    place = random.choice((random.randrange(size), random.randrange(near), size - 1 - random.randrange(near)))
    length = min(random.choice((1, 2, 4, 8, 16, 64, HOLE, max(1, size // 3))), size - place)
    before, piece, after = data[:place], data[place : place + length], data[place + length :]
    match random.randrange(9):
        case 0 | 1:
            return before + bytes([piece[0] ^ 1 << random.randrange(8)]) + data[place + 1 :]
        case 2:
            return before + _number(random, random.choice((1, 2, 4, 8))) + after
        case 3:
            return before
        case 4:
            return before + after
        case 5:
            return before + piece * random.choice((2, 3, 40)) + after
        case 6:
            return before + bytes(length) + after
        case 7:
            return before + random.randbytes(length) + after
        case _:
            other = random.randrange(size)
            return before + data[other : other + length] + after


def _number(random: Random, size: int) -> bytes:
    value = random.choice(NUMBERS) + random.choice((0, 0, 0, 1, -1))
    return int(value % 256**size).to_bytes(size, "little" if random.random() < 0.7 else "big")


def json_changed(data: bytes, random: Random) -> bytes:
    """A JSON document with a value or a key changed; sometimes nested beyond any recursion."""
    if random.random() < 0.02:
        return 100_000 * random.choice((b"[", b'{"a":'))
    document = json.loads(data)
    _change_value(document, random)
    return json.dumps(document).encode()


def _change_value(document: Any, random: Random) -> None:
    """Change a JSON document in place."""
    places = list(_places(document))
    if not places:
        return
    parent, key = random.choice(places)
    value = parent[key]
    match random.randrange(10):
        case 0:
            del parent[key]
        case 1:
            owner, other = random.choice(places)
            parent[key] = owner[other] if key in _keys(parent) and other in _keys(owner) else None
        case 2 if isinstance(parent, dict):
            parent[random.choice(("", "name", "x", f"{key}_"))] = parent.pop(key)
        case 3 if isinstance(value, list) and value:
            value.append(random.choice(value))
        case 4 if isinstance(value, int | float):
            parent[key] = random.choice((-value, value + 1, value - 1, value * 1000, value / 3, str(value)))
        case 5 if isinstance(value, str):
            parent[key] = random.choice((value + "_1", value[:-1], value.upper(), value.encode().hex(), [value]))
        case _:
            parent[key] = random.choice(VALUES)


def _keys(parent: Any) -> Any:
    return parent if isinstance(parent, dict) else range(len(parent))


def _places(document: Any) -> Any:
    """(parent, key) of every value below a document."""
    pairs = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(pairs) if isinstance(document, dict | list) else ():
        yield document, key
        yield from _places(value)


def manifest_changed(data: bytes, random: Random) -> bytes:
    """The manifest of golden data, changed, with the hash that it would have."""
    document = json.loads(data)
    _change_value(document, random)
    return json.dumps(document | {"sha256": manifest_hash(document)}).encode()


def safetensors_changed(data: bytes, random: Random) -> bytes:
    """A `.safetensors` with another header, or with another description in its metadata."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    own = header.get("__metadata__", {})
    if "npmobilenet" in own and random.random() < 0.7:
        own["npmobilenet"] = json_changed(own["npmobilenet"].encode(), random).decode()
    else:
        _change_value(header, random)
    text = json.dumps(header).encode()
    text += bytes(-len(text) % 8).replace(b"\0", b" ")
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def hdf5_changed(data: bytes, random: Random) -> bytes:
    """An HDF5 file with an attribute, a dataset or a group changed."""
    import h5py

    file = BytesIO(data)
    with h5py.File(file, "r+") as opened:
        items: list[Any] = [opened]
        opened.visititems(lambda _, item: items.append(item))
        owners = [item for item in items if len(item.attrs)]
        if owners and random.random() < 0.6:
            _change_attribute(random.choice(owners).attrs, random)
        elif len(items) > 1:
            _change_item(opened, random.choice(items[1:]), random)
    return file.getvalue()


def _change_attribute(attributes: Any, random: Random) -> None:
    key = random.choice(list(attributes))
    value = attributes[key]
    if isinstance(value, str | bytes) and len(value) > 1 and value[:1] in ("{", b"{") and random.random() < 0.8:
        attributes[key] = json_changed(value if isinstance(value, bytes) else value.encode(), random).decode()
    elif isinstance(value, np.ndarray) and value.size and random.random() < 0.6:
        values = value.tolist()
        values[random.randrange(len(values))] = random.choice((values[0], b"", b"x", b"/", b"../x"))
        attributes[key] = values
    elif random.random() < 0.3:
        del attributes[key]
    else:
        attributes[key] = random.choice((0, 1.5, b"x", "", "3.0.0", [b"a", b"b"], np.zeros((2, 2)), 70_000 * [b""][:9]))


def _change_item(root: Any, item: Any, random: Random) -> None:
    import h5py

    path, parent = item.name, item.parent
    match random.randrange(7):
        case 0:
            del root[path]
        case 1:
            root.move(path, random.choice(("/x", f"{path}x", f"{path}/x")))
        case 2:
            del root[path]
            parent[path.rpartition("/")[2]] = random.choice(
                (h5py.SoftLink(path), h5py.SoftLink("/"), h5py.ExternalLink("x.h5", "/"), h5py.SoftLink("/none"))
            )
        case 3 if isinstance(item, h5py.Dataset):
            item[...] = random.choice((np.nan, np.inf, -1, 1e38))
        case _:
            shape = list(getattr(item, "shape", ())) or [1]
            shape[random.randrange(len(shape))] = random.choice((0, 1, 2, 5, 10**5, 10**9))
            kind = random.choice(("f4", "f4", "f8", "f2", "i8", "S5", "c8", "?", h5py.string_dtype()))
            del root[path]
            if random.random() < 0.2:
                root.create_group(path)
            else:
                root.create_dataset(path, tuple(shape), kind, chunks=tuple(min(side, 8) or 1 for side in shape))


def png_changed(data: bytes, random: Random) -> bytes:
    """A PNG with a chunk changed, and the checksums that it would have."""
    chunks, place = [], 8
    while place < len(data):
        (size,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    number = random.randrange(len(chunks))
    kind, content = chunks[number]
    match random.randrange(5):
        case 0:
            del chunks[number]
        case 1:
            chunks.insert(number, random.choice(chunks))
        case 2:
            chunks[number] = (random.choice((b"tRNS", b"eXIf", b"iCCP", b"PLTE", b"acTL", b"fcTL", b"zTXt")), content)
        case _:
            chunks[number] = (kind, raw(content, random))
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    return data[:8] + b"".join(parts)


def words_changed(data: bytes, random: Random) -> bytes:
    """A FlatBuffer with one of its offsets, lengths or numbers changed."""
    place = 4 * random.randrange(len(data) // 4)
    (value,) = struct.unpack_from("<I", data, place)
    other = struct.unpack_from("<I", data, 4 * random.randrange(len(data) // 4))[0]
    changed = random.choice(
        (value + 1, value - 1, value + 4, value - 4, -value, 2 * value, other, random.choice(NUMBERS))
    )
    return data[:place] + struct.pack("<I", changed % 2**32) + data[place + 4 :]


def protobuf_changed(data: bytes, random: Random) -> bytes:
    """An ONNX model with one field changed."""
    import onnx

    model = onnx.ModelProto.FromString(data)
    fields = list(_fields(model))
    message, field = random.choice(fields)
    if field.is_repeated:
        values = getattr(message, field.name)
        number = random.randrange(len(values))
        if field.message_type or random.random() < 0.2:
            if random.random() < 0.5:
                del values[number]
            else:
                values.append(values[number])
        else:
            values[number] = _other(values[number], random)
    elif random.random() < 0.2:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _other(getattr(message, field.name), random))
    return bytes(model.SerializeToString())


def _fields(message: Any) -> Any:
    """(message, field) of every field that is set, messages in one field left to the level below."""
    for field, value in message.ListFields():
        if field.is_repeated or not field.message_type:
            yield message, field
        for inner in (value if field.is_repeated else [value]) if field.message_type else ():
            yield from _fields(inner)


def _other(value: Any, random: Random) -> Any:
    if isinstance(value, str):
        return random.choice(("", "x", value + "x", "Conv", "Add", "Reshape", "Constant", "kernel_shape", 9999 * "y"))
    if isinstance(value, bytes):
        return raw(value, random)
    if isinstance(value, float):
        return random.choice((0.0, -value, float("nan"), 1e38, float("inf")))
    return random.choice((value + 1, value - 1, -value, 0, -1, 2, 7, 2**31 - 1, 10**6))


def npy_changed(data: bytes, random: Random) -> bytes:
    """A `.npy` that describes its bytes as another array."""
    version = data[6:8]
    size = int.from_bytes(data[8:10], "little")
    kinds = ("<f4", "<f8", "|O", "<U9", "|V8", "|S0", ">c16", "<M8[s]", "|b1", "<f2", [("a", "<f4")])
    shapes = ((), (0,), (3,), (10**9,), (-1,), (2**62, 4), (1, 2, 3), (10**5, 10**5), [3], (1.5,), (True,))
    described = {
        "descr": random.choice(kinds),
        "fortran_order": random.choice((True, False, 1)),
        "shape": random.choice(shapes),
    }
    text = repr(described).encode().ljust(117) + b"\n"
    return data[:6] + version + len(text).to_bytes(2, "little") + text + data[10 + size :]


def lines_changed(data: bytes, random: Random) -> bytes:
    """A text with a line or its encoding changed."""
    lines = data.decode("utf-8", "replace").splitlines()
    number = random.randrange(len(lines))
    changed = ("", "0 x", 9999 * "9" + " x", "\ufeff", 9999 * "z", "\x00", "7", "\u0661 x", "a\u2028b", 9999 * "[")
    lines[number] = random.choice(changed)
    return "\n".join(lines).encode(random.choice(("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32")))


STRUCTURED: dict[str, Callable[[bytes, Random], bytes]] = {
    ".json": json_changed, ".safetensors": safetensors_changed, ".h5": hdf5_changed, ".png": png_changed,
    ".tflite": words_changed, ".onnx": protobuf_changed, ".npy": npy_changed, ".txt": lines_changed,
    MANIFEST: manifest_changed,
}  # fmt: skip
