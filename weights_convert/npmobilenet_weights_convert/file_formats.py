"""Names of model formats by first bytes or folder contents, and the way on from those that cannot be read.

Nothing is executed, and nothing is unpacked.
"""

import json
import re
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from npmobilenet.errors import WeightsError

SAVE_IN_KERAS = 'save it in Keras: model.save("model.keras")'
PYTHON = re.compile(r"(?m)^\s*(import \w|from [\w.]+ import |def \w+\(|class \w+[(:]|#!.*python)")


@dataclass(frozen=True)
class UnreadableFormat:
    """A format that is recognized but not read.

    Args:
        name: with its article.
        advice: what to do instead.
    """

    name: str
    advice: str

    def refusal(self, path: Path) -> WeightsError:
        """The error for a file or folder of this format."""
        return WeightsError(f"{path}: {self.name}; {self.advice}")


SAVED_MODEL = UnreadableFormat(
    "a TensorFlow SavedModel",
    "it has no Keras layers. Load it with the code that made it, then " + SAVE_IN_KERAS,
)
GRAPH_MODEL = UnreadableFormat(
    "a TensorFlow.js graph model",
    f"its layers are dissolved into operations. Export the Keras model as a layers model, or {SAVE_IN_KERAS}",
)
PICKLE = UnreadableFormat("a Python pickle", f"a pickle can run code, so it is never opened. Instead, {SAVE_IN_KERAS}")
LFS_POINTER = UnreadableFormat(
    "a Git LFS pointer, not the file itself",
    "download the file with `git lfs pull`, or with the site's download button",
)
WEB_PAGE = UnreadableFormat(
    "a web page (HTML), probably an error page in place of a download",
    "open the address in a browser, and download the file itself",
)
SCRIPT = UnreadableFormat(
    "a Python script, not a model", f"run it where Keras is installed, then {SAVE_IN_KERAS}, and convert that file"
)
FROZEN_GRAPH = UnreadableFormat(
    "a TensorFlow frozen graph",
    f"it has no Keras layers. Build the model in Keras, load its weights, then {SAVE_IN_KERAS}",
)
CHECKPOINT = UnreadableFormat(
    "a TensorFlow checkpoint", f"it has no network. In Keras: model.load_weights(...), then {SAVE_IN_KERAS}"
)


def folder_format(folder: Path) -> UnreadableFormat | None:
    """Format of a folder by its contents, None if it is unknown."""
    names = {entry.name for entry in folder.iterdir()}
    if names & {"saved_model.pb", "saved_model.pbtxt", "keras_metadata.pb"}:
        return SAVED_MODEL
    if "checkpoint" in names or any(name.endswith(".ckpt.index") for name in names):
        return CHECKPOINT
    return None


def file_format(path: Path, data: bytes) -> UnreadableFormat | None:
    """Format of a file by its first bytes, None if it is one that is read, or unknown.

    Args:
        path: the file; its name only tells two formats apart that begin alike.
        data: its contents.
    """
    if data.startswith(b"PK\x03\x04"):
        return _archive_format(data)
    if data.startswith(b"version https://git-lfs"):
        return LFS_POINTER
    if data[:1] == b"\x80" and data[1:2] in b"\x02\x03\x04\x05":
        return PICKLE
    if data[:1] == b"\x08" and data[2:3] in (b"\x12", b"\x3a", b"\x42"):  # a protocol buffer with a version in front
        return SAVED_MODEL  # the version of ONNX is higher
    if path.suffix in (".pb", ".pbtxt"):
        return FROZEN_GRAPH
    return _text_format(data)


def unknown_format(path: Path, data: bytes) -> WeightsError:
    """The error for a file of an unknown format."""
    return WeightsError(
        f"{path}: unknown format, not HDF5 and not a zip archive (first bytes {data[:8]!r}); expected a Keras file: "
        f".h5, .weights.h5 or .keras. If it was one, download it again; otherwise {SAVE_IN_KERAS}"
    )


def check_not_quantized(file: str, config: dict[str, Any] | None) -> None:
    """Refuse a model of Keras 3 with quantized layers.

    Raises:
        WeightsError: there are such layers; the message names them and their mode.
    """
    found = sorted(_quantized(config or {}))
    if not found:
        return
    names = ", ".join(name for name, _ in found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    modes = " and ".join(sorted({mode for _, mode in found}))
    raise WeightsError(
        f"{file}: quantized by Keras to {modes} ({names}); save the model before model.quantize: "
        'model.save("model.keras"), then convert that file'
    )


def _quantized(entry: Any) -> set[tuple[str, str]]:
    """(Layer, mode) of every layer in a config whose policy quantizes."""
    if isinstance(entry, list):
        return {found for item in entry for found in _quantized(item)}
    if not isinstance(entry, dict):
        return set()
    own, settings = set(), entry.get("config")
    if isinstance(settings, dict) and isinstance(policy := settings.get("dtype"), dict):
        inner = policy.get("config") or {}
        if str(policy.get("class_name", "")).startswith("Quantized"):
            own.add((str(settings.get("name", entry.get("class_name"))), str(inner.get("mode", "integers"))))
    return own.union(*(_quantized(item) for key, item in entry.items() if key != "dtype"))


def is_graph_model(document: dict[str, Any]) -> bool:
    """Whether the contents of a TensorFlow.js model.json are operations, not layers."""
    topology = document.get("modelTopology")
    return document.get("format") == "graph-model" or (isinstance(topology, dict) and "node" in topology)


def _archive_format(data: bytes) -> UnreadableFormat | None:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            return _archive_of(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return None  # reported as corrupt when it is opened


def _archive_of(names: Collection[str]) -> UnreadableFormat | None:
    return SAVED_MODEL if any(name.endswith("saved_model.pb") for name in names) else None


def _text_format(data: bytes) -> UnreadableFormat | None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if "\0" in text:
        return None
    if text.lstrip()[:1] == "<":
        return WEB_PAGE
    if text.lstrip()[:1] == "{":
        return _json_format(text)
    return SCRIPT if PYTHON.search(text) else None


def _json_format(text: str) -> UnreadableFormat | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if "cells" in document:
        return UnreadableFormat("a Jupyter notebook, not a model", SCRIPT.advice)
    if is_graph_model(document):
        return GRAPH_MODEL
    return UnreadableFormat("a JSON file without weights", f"expected a model with its weights: {SAVE_IN_KERAS}")
