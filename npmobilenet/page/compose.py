"""Joins the page's files into one self-contained HTML document.

Nothing is minified: "view source" is part of the lesson. Binary data goes in as base64. The document makes no request,
so that it opens by double click, from `file://`, without a network.
"""

import base64
import json
import re
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from npmobilenet.figures.words import LANGUAGES
from npmobilenet.models.model import Model
from npmobilenet.page.facts import facts
from npmobilenet.page.python_cell import python_cell

FOLDER = files("npmobilenet.page")
SCRIPTS = (
    "file", "shapes", "ops", "network", "steps", "bounds", "linear", "memory", "images", "mistakes",
    "draw", "page", "session", "python",
    *(f"views/{letter}" for letter in "abcdefghijklp"),
)  # fmt: skip
"""Scripts in reading order, without their ending."""
_SLOT = re.compile(r"<!-- (css|js|text|facts|weights|micropython) -->")


def compose_page(network: Model | None = None, *, ladder: Mapping[str, Any] | None = None, language: str = "en") -> str:
    """Compose the page.

    Args:
        network: a network that the page carries next to digits, such as V1 0.25/128; None for digits alone.
        ladder: the document of `npmobilenet ladder --json`, times of one machine; None for the recorded run.
        language: "en" or "zh", the language that the page is opened in; it carries both.

    Returns:
        An HTML document that makes no request to anything.
    """
    contents = {
        "css": _text("page.css"),
        "js": "\n".join(_text(f"js/{script}.js") for script in SCRIPTS),
        "text": _embedded(texts()),
        "facts": _embedded(facts(ladder=ladder, language=language)),
        "weights": _embedded(_weights(network)),
        "micropython": _embedded(python_cell()),
    }
    return _SLOT.sub(lambda slot: contents[slot[1]], _text("page.html"))


def texts() -> dict[str, dict[str, str]]:
    """Every text of the page by language and key: {"en": {"a.title": ...}, "zh": ...}."""
    entries: dict[str, dict[str, str]] = {}
    for file in sorted(FOLDER.joinpath("text").iterdir(), key=lambda file: file.name):
        entries |= json.loads(file.read_text(encoding="utf-8"))
    return {language: {key: entry[language] for key, entry in entries.items()} for language in LANGUAGES}


def _weights(network: Model | None) -> dict[str, str]:
    """Files of the networks by name, in base64: digits, and one more."""
    networks = {"digits": files("npmobilenet").joinpath("data", "digits.safetensors").read_bytes()}
    if network is not None:
        networks[network.graph.name] = _file_of(network)
    return {name: _base64(content) for name, content in networks.items()}


def _file_of(model: Model) -> bytes:
    """Bytes of the file that `Model.save` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model.save(path)
        return path.read_bytes()


def _embedded(document: Any) -> str:
    """JSON that can stand in a script element: it has no "<" that might end it."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _text(name: str) -> str:
    return FOLDER.joinpath(name).read_text(encoding="utf-8")
