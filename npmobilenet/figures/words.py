"""The texts of the figures in two languages: tables in `text/`, one file per family of figures."""

import json
import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

LANGUAGES = ("en", "zh")
UNBREAKABLE = ((" = ", "\u00a0=\u00a0"), (" %", "\u00a0%"), ("fig. ", "fig.\u00a0"), ("table ", "table\u00a0"))
"""Where no line ends: the spaces that stay together with what is next to them."""


class Words:
    """Texts in one language.

    Args:
        language: one of `LANGUAGES`.
    """

    def __init__(self, language: str) -> None:
        self.language = language

    def __call__(self, key: str, **values: object) -> str:
        """A text with its placeholders filled in; `KeyError` if there is none."""
        return texts()[key][self.language].format(**values)

    def of(self, prefix: str, name: str) -> str:
        """The text of a name that data holds, such as a kind of layer; the name itself if it has none."""
        entry = texts().get(f"{prefix}.{name}")
        return name if entry is None else entry[self.language]


@cache
def texts() -> Mapping[str, Mapping[str, str]]:
    """All texts: key -> language -> text."""
    tables: dict[str, Mapping[str, str]] = {}
    for file in sorted(files("npmobilenet.figures").joinpath("text").iterdir(), key=lambda file: file.name):
        table = json.loads(file.read_text(encoding="utf-8"))
        assert not tables.keys() & table.keys(), f"{file.name}: a key is in another file"
        tables |= table
    return tables


def wrap(text: str, width: int) -> str:
    """Text in lines of at most `width` columns; a Chinese character has two, and a line may end after any."""
    for loose, tight in UNBREAKABLE:
        text = text.replace(loose, tight)
    lines, line, used = [], "", 0
    for piece in _pieces(text):
        size = sum(_columns(letter) for letter in piece.rstrip())
        if line and used + size > width:
            lines.append(line.rstrip())
            line, used = "", 0
        line += piece
        used += sum(_columns(letter) for letter in piece)
    return "\n".join([*lines, line.rstrip()])


def _pieces(text: str) -> list[str]:
    """Words with the spaces after them, and single Chinese characters with the punctuation after them."""
    pieces: list[str] = []
    for letter in text:
        ends = not pieces or pieces[-1].endswith(" ") or _columns(letter) == 2 or _columns(pieces[-1][-1]) == 2
        closes = letter in "，。；：、）” " or (bool(pieces) and pieces[-1][-1] in "（“")
        if pieces and (closes or not ends):
            pieces[-1] += letter
        else:
            pieces.append(letter)
    return pieces


def _columns(letter: str) -> int:
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
