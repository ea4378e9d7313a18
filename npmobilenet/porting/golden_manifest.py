"""The manifest of golden data: its name, its version, and the hashes that detect damage."""

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any

from npmobilenet.errors import NpMobileNetError
from npmobilenet.types import Array

PACK_FORMAT = 1  # of a float network
INTEGER_PACK_FORMAT = 2  # of a quantized one
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


def matching_names(names: Sequence[str], patterns: Sequence[str] | None, network: str) -> list[str]:
    """Names that match a pattern, in their order.

    Args:
        names: of the layers.
        patterns: names, or patterns with *, ? and [...]; None for all layers.
        network: its name, for messages.

    Raises:
        NpMobileNetError: some patterns match no layer; all of them are named.
    """
    if patterns is None:
        return list(names)
    unmatched = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)]
    if unmatched or not patterns:
        problems = [f"no layer matches {pattern!r}{suggestion(pattern, names)}" for pattern in unmatched]
        raise NpMobileNetError(f"{network}: {' '.join(problems) or 'expected at least one pattern, got none'}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
