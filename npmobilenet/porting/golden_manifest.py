"""The manifest of golden data: its name, its version, and the hashes that detect damage."""

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from hashlib import sha256
from typing import Any

from npmobilenet.types import Array

PACK_FORMAT = 1
LAYOUTS = ("NHWC", "NCHW")
MANIFEST = "manifest.json"


def tensor_hash(values: Array) -> str:
    """SHA-256 of the bytes of an array in C order, in hexadecimal."""
    return sha256(values.tobytes()).hexdigest()


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest, its own hash left out, in hexadecimal."""
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    return sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def suggestion(name: str, known: Sequence[str]) -> str:
    """End of a message on an unknown name: the closest known ones, or nothing."""
    close = get_close_matches(name, known, n=3)
    return f"; did you mean {', '.join(close)}?" if close else ""
