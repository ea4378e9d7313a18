"""Label files: the names of a network's classes as Teachable Machine, Keras scripts and Windows editors write them."""

import json
import re
from collections.abc import Collection
from os import PathLike
from pathlib import Path
from typing import Any

from npmobilenet.errors import LabelFileError
from npmobilenet.models.labels import Label

NEXT_TO_A_MODEL = ("labels.txt", "metadata.json")  # names that Teachable Machine gives
MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
LEGACY = ("cp949", "cp932", "gb18030", "big5", "cp1251", "cp1252")  # what Windows wrote before UTF-8
MOST_DIGITS = 9  # of a class number
NUMBERED = re.compile(rf"\s*(\d{{1,{MOST_DIGITS}}})[\s:,;]+(\S.*)")
MAX_BYTES = 16 << 20


def read_labels(path: str | PathLike[str]) -> list[str | Label]:
    """Return the class names of a label file, in the order of the network's outputs.

    Text holds one name per line; numbers in front (`0 Class 1`) give the order and are removed if every line has one.
    JSON is a list of names, an object with a list `labels` (Teachable Machine's metadata.json), names by number
    (`{"0": "cat"}`, or `{"0": [wnid, name]}` as in Keras's imagenet_class_index.json), or numbers by name (Keras's
    `class_indices`). UTF-8 and UTF-16, with or without a byte order mark; any line ends; blank lines at the end.

    Raises:
        LabelFileError: no such file, another encoding, no names, or a gap in the numbers.
    """
    where = Path(path)
    try:
        with where.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise LabelFileError(f"{where}: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise LabelFileError(f"{where}: larger than {MAX_BYTES >> 20} MB; expected one class name per line, or JSON")
    return parse_labels(where, data)


def parse_labels(where: Path, data: bytes) -> list[str | Label]:
    """Return the class names in the contents of a label file; see `read_labels`.

    Args:
        where: the file, for messages.
        data: its contents.
    """
    text = _decode(where, data)
    names = _from_json(where, text) if text.lstrip()[:1] in ("[", "{") else _from_lines(where, text)
    if not names:
        raise LabelFileError(f"{where}: no class names; expected one per line, or JSON")
    return names


def find_labels(model: str | PathLike[str]) -> Path | None:
    """Return the label file in a model file's folder, if there is one."""
    for name in NEXT_TO_A_MODEL:
        path = Path(model).parent / name
        if path.is_file() and (path.suffix != ".json" or _holds_labels(path)):
            return path
    return None


def _holds_labels(path: Path) -> bool:
    try:
        return "labels" in json.loads(path.read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _decode(where: Path, data: bytes) -> str:
    encoding = next((encoding for mark, encoding in MARKS if data.startswith(mark)), None) or _without_mark(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        possible = [name for name in LEGACY if _decodes(data, name)]
        raise LabelFileError(
            f"{where}: not {encoding.upper()} (byte {error.start} is 0x{data[error.start]:02x}); "
            + (f"it may be {' or '.join(possible)}: " if possible else "")
            + f"convert it, e.g. iconv -f {(possible or LEGACY)[0].upper()} -t UTF-8 {where.name} > labels-utf8.txt"
        ) from error


def _without_mark(data: bytes) -> str:
    """Encoding of text without a byte order mark: in UTF-16, every ASCII character has a zero byte."""
    if b"\0" not in data:
        return "utf-8"
    return "utf-16-le" if data[1::2].count(0) >= data[::2].count(0) else "utf-16-be"


def _decodes(data: bytes, encoding: str) -> bool:
    """Whether data is printable text in an encoding."""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\r\n\t" for character in text)


def _from_lines(where: Path, text: str) -> list[str | Label]:
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines:
        raise LabelFileError(f"{where}: line {lines.index('') + 1} is blank; expected one class name per line")
    numbered = [NUMBERED.fullmatch(line) for line in lines]
    if all(numbered):
        found = {int(match[1]): match[2] for match in numbered if match}
        if len(found) == len(lines) and _is_a_range(found):
            return [found[number] for number in sorted(found)]
    return list(lines)


def _from_json(where: Path, text: str) -> list[str | Label]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LabelFileError(f"{where}: not valid JSON: {error}") from error
    if isinstance(document, dict) and isinstance(document.get("labels"), list):
        document = document["labels"]
    names = _by_number(where, document) if isinstance(document, dict) else document
    return [_label(where, name) for name in names]


def _by_number(where: Path, document: dict[str, Any]) -> list[Any]:
    """Names of an object that maps numbers to names, or names to numbers."""
    if document and all(isinstance(value, int) for value in document.values()):
        found: dict[int, Any] = {number: name for name, number in document.items()}
    elif all(key.isdecimal() and len(key) <= MOST_DIGITS for key in document):
        found = {int(key): value for key, value in document.items()}
    else:
        raise LabelFileError(
            f'{where}: expected a list of names, {{"labels": [...]}}, names by number or numbers by name'
        )
    if len(found) != len(document) or not _is_a_range(found):
        raise LabelFileError(f"{where}: the class numbers have gaps or repeat; expected 0 to {len(document) - 1}")
    return [found[number] for number in sorted(found)]


def _is_a_range(numbers: Collection[int]) -> bool:
    """Whether numbers count up without gaps from 0 or 1."""
    return sorted(numbers) in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))


def _label(where: Path, name: Any) -> str | Label:
    if isinstance(name, str):
        return name
    if isinstance(name, list) and len(name) == 2 and all(isinstance(part, str) for part in name):
        return name[0], name[1]
    raise LabelFileError(f"{where}: {json.dumps(name)} is not a class name; expected a string or [WordNet id, name]")
