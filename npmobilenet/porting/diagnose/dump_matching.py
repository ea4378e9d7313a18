"""Whose name is whose: from the names of a dump to those of the layers."""

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npmobilenet.errors import DumpError
from npmobilenet.porting.diagnose.axes import arrange, can_be_arranged
from npmobilenet.types import Array

SAMPLE = 4096  # values by which two arrays are held against each other
A_MATCH = 0.25  # what a pair is worth beside the agreement of its values, so that more pairs beat better ones


@dataclass(frozen=True, eq=False)
class Matched:
    """A dump under our names.

    Attributes:
        arrays: by layer name.
        names: the dump's name for each.
        how: "by name", "by the mapping" or "by order and shape".
        left_over: names of the dump that no layer took.
    """

    arrays: Mapping[str, Array]
    names: Mapping[str, str]
    how: str
    left_over: tuple[str, ...]


def match(ours: Mapping[str, Array], theirs: Mapping[str, Array], mapping: Mapping[str, str] | None = None) -> Matched:
    """Find out which array of a dump is which layer's output.

    With a mapping, by the mapping, and by name for what it does not mention. Else by name, if that places at least
    half of the dump: a name is a layer's if it is equal to it or has it between slashes (`outputs/conv1`,
    `model/conv1/Relu6:0`). Else by order and shape: the longest way of pairing both in their orders in which shapes
    agree, and among equally long ones that whose values agree most.

    Args:
        ours: every layer's output by its name, in the order of the graph.
        theirs: the dump, in its order.
        mapping: {their name: our name}.

    Raises:
        DumpError: the mapping mentions what is not there, or maps two arrays to one layer.
    """
    mapped = _by_mapping(ours, theirs, mapping or {})
    rest = {name: array for name, array in theirs.items() if name not in mapped}
    found = mapped | _by_name({name: y for name, y in ours.items() if name not in mapped.values()}, rest)
    how = "by the mapping" if mapped else "by name"
    if not mapped and 2 * len(found) < len(theirs):
        found, how = _by_order(ours, theirs), "by order and shape"
    names = {layer: name for name, layer in found.items()}
    ordered = {layer: names[layer] for layer in ours if layer in names}
    arrays = {layer: theirs[name] for layer, name in ordered.items()}
    return Matched(arrays, ordered, how, tuple(name for name in theirs if name not in found))


def read_mapping(path: Path) -> dict[str, str]:
    """Read {their name: our name} from a JSON object, or from the first two columns of a CSV file.

    Raises:
        DumpError: the file is not one of these.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            document = json.loads(text)
            if not isinstance(document, dict) or not all(isinstance(name, str) for name in document.values()):
                raise DumpError(f"{path}: a JSON object {{their name: our name}} is needed")
            return document
        rows = [row for row in csv.reader(text.splitlines()) if any(row)]
    except (ValueError, csv.Error, RecursionError) as error:
        raise DumpError(f"{path}: cannot be read as a mapping: {error}") from error
    short = [number for number, row in enumerate(rows, start=1) if len(row) < 2]
    if short:
        raise DumpError(f"{path}: line {short[0]} has not two columns, their name and ours")
    return {row[0].strip(): row[1].strip() for row in rows}


def _by_mapping(ours: Mapping[str, Array], theirs: Mapping[str, Array], mapping: Mapping[str, str]) -> dict[str, str]:
    header = {name for name, layer in list(mapping.items())[:1] if name not in theirs and layer not in ours}
    pairs = {name: layer for name, layer in mapping.items() if name not in header}
    problems = [f"the dump has no array {name!r}" for name in pairs if name not in theirs]
    problems += [f"the network has no layer {layer!r}" for layer in pairs.values() if layer not in ours]
    layers = list(pairs.values())
    problems += [f"two arrays are mapped to {layer!r}" for layer in dict.fromkeys(layers) if layers.count(layer) > 1]
    if problems:
        raise DumpError("the mapping does not fit:\n  " + "\n  ".join(problems))
    return pairs


def _by_name(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> dict[str, str]:
    """{their name: our name}: equal names first; of several that have a layer between slashes the last that fits."""
    found = {name: name for name in theirs if name in ours}
    inside: dict[str, str] = {}
    for name, array in theirs.items():
        for part in reversed(re.split(r"[/:]", name)):
            if part in ours and part not in found and can_be_arranged(np.shape(array), ours[part].shape):
                inside[part] = name
                break
    return found | {name: layer for layer, name in inside.items()}


def _by_order(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> dict[str, str]:
    """The pairing in both orders that is worth most, by dynamic programming over their prefixes."""
    their_names, our_names = list(theirs), list(ours)
    worth = np.zeros((len(their_names), len(our_names)))
    for i, name in enumerate(their_names):
        for j, layer in enumerate(our_names):
            if can_be_arranged(np.shape(theirs[name]), ours[layer].shape):
                worth[i, j] = A_MATCH + _agreement(theirs[name], ours[layer])
    best = np.zeros((len(their_names) + 1, len(our_names) + 1))
    for i in range(len(their_names)):
        for j in range(len(our_names)):
            pair = best[i, j] + worth[i, j] if worth[i, j] else 0.0
            best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], pair)
    found: dict[str, str] = {}
    i, j = len(their_names), len(our_names)
    while i and j:
        if best[i, j] == best[i, j - 1]:
            j -= 1
        elif best[i, j] == best[i - 1, j]:
            i -= 1
        else:
            i, j = i - 1, j - 1
            found[their_names[i]] = our_names[j]
    return dict(reversed(found.items()))


def _agreement(theirs: Array, ours: Array) -> float:
    """Between 0 and 1: half the correlation of the values, which survives mistakes, half their nearness."""
    a, b = arrange(theirs, ours).values.ravel(), ours.ravel()
    some = slice(None, None, max(1, b.size // SAMPLE))
    a, b = a[some], b[some]
    usable = np.isfinite(a) & np.isfinite(b)
    a, b = a[usable], b[usable]
    if a.size == 0:
        return 0.0
    with np.errstate(over="ignore"):
        apart = float(np.linalg.norm(a - b))
        near = 1.0 if apart == 0 else 1 - apart / (apart + float(np.linalg.norm(b)))
        a, b = a - a.mean(), b - b.mean()
        size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return (near + max(float(a @ b) / size, 0.0)) / 2 if 0 < size < np.inf else near / 2
