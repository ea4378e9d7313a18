"""Matching of a dump's arrays to the layers of a network."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npmobilenet.errors import DumpError
from npmobilenet.porting.diagnose.axes import arrange, can_be_arranged
from npmobilenet.types import Array

SAMPLE = 4096  # values by which two arrays are compared
PAIR_SCORE = 0.25  # score of a pair in addition to the agreement of its values, so that more pairs beat better ones


@dataclass(frozen=True, eq=False)
class Matched:
    """A dump by layer names.

    Attributes:
        arrays: by layer name.
        names: layer name -> name in the dump.
        how: "by name", "by the mapping" or "by order and shape".
        left_over: names in the dump that match no layer.
    """

    arrays: Mapping[str, Array]
    names: Mapping[str, str]
    how: str
    left_over: tuple[str, ...]


def match(
    reference: Mapping[str, Array],
    dump: Mapping[str, Array],
    mapping: Mapping[str, str] | None = None,
    outputs: Sequence[tuple[str, str]] = (),
) -> Matched:
    """Match the arrays of a dump to the layers of a network.

    With a mapping, by the mapping, and by name for the arrays that it does not mention. Otherwise by name, if that
    places at least half of the dump: a name is a layer's if it equals the layer's or that of an output which the layer
    computes, or has the layer's between slashes (`outputs/conv1`, `model/conv1/Relu6:0`). Otherwise by order and shape:
    the longest order-preserving pairing with equal shapes, and among equally long ones the one whose values agree best.

    Args:
        reference: every layer's output (N, ...) by its name, in the order of the graph.
        dump: arrays by name, in their order.
        mapping: {name in the dump: layer name}.
        outputs: of the network, as in its graph.

    Raises:
        DumpError: the mapping has an unknown name, or maps two arrays to one layer.
    """
    mapped = _by_mapping(reference, dump, mapping or {})
    rest = {name: array for name, array in dump.items() if name not in mapped}
    found = mapped | _by_name({name: y for name, y in reference.items() if name not in mapped.values()}, rest, outputs)
    how = "by the mapping" if mapped else "by name"
    if not mapped and 2 * len(found) < len(dump):
        found, how = _by_order(reference, dump), "by order and shape"
    names = {layer: name for name, layer in found.items()}
    ordered = {layer: names[layer] for layer in reference if layer in names}
    arrays = {layer: dump[name] for layer, name in ordered.items()}
    return Matched(arrays, ordered, how, tuple(name for name in dump if name not in found))


def read_mapping(path: Path) -> dict[str, str]:
    """A mapping {name in the dump: layer name} from a JSON object or the first two columns of a CSV file.

    Raises:
        DumpError: the file is neither.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            document = json.loads(text)
            if not isinstance(document, dict) or not all(isinstance(name, str) for name in document.values()):
                raise DumpError(f"{path}: expected a JSON object {{name in the dump: layer name}}")
            return document
        rows = [row for row in csv.reader(text.splitlines()) if any(row)]
    except (ValueError, csv.Error, RecursionError) as error:
        raise DumpError(f"{path}: cannot be read as a mapping: {error}") from error
    short = [number for number, row in enumerate(rows, start=1) if len(row) < 2]
    if short:
        raise DumpError(f"{path}: line {short[0]}: expected two columns, name in the dump and layer name")
    return {row[0].strip(): row[1].strip() for row in rows}


def _by_mapping(
    reference: Mapping[str, Array], dump: Mapping[str, Array], mapping: Mapping[str, str]
) -> dict[str, str]:
    header = {name for name, layer in list(mapping.items())[:1] if name not in dump and layer not in reference}
    pairs = {name: layer for name, layer in mapping.items() if name not in header}
    problems = [f"the dump has no array {name!r}" for name in pairs if name not in dump]
    problems += [f"the network has no layer {layer!r}" for layer in pairs.values() if layer not in reference]
    layers = list(pairs.values())
    problems += [f"two arrays are mapped to {layer!r}" for layer in dict.fromkeys(layers) if layers.count(layer) > 1]
    if problems:
        raise DumpError("the mapping does not fit:\n  " + "\n  ".join(problems))
    return pairs


def _by_name(
    reference: Mapping[str, Array], dump: Mapping[str, Array], outputs: Sequence[tuple[str, str]]
) -> dict[str, str]:
    """{name in the dump: layer}: equal names first, then those of outputs; of several with a layer between slashes, the
    last that fits.
    """
    found = {name: name for name in dump if name in reference}
    for name, layer in outputs:
        if name in dump and name not in found and layer in reference and layer not in found.values():
            found[name] = layer
    inside: dict[str, str] = {}
    for name, array in dump.items():
        for part in reversed(re.split(r"[/:]", name)):
            if (
                name not in found
                and part in reference
                and part not in found
                and can_be_arranged(np.shape(array), reference[part].shape)
            ):
                inside[part] = name
                break
    return found | {name: layer for layer, name in inside.items()}


def _by_order(reference: Mapping[str, Array], dump: Mapping[str, Array]) -> dict[str, str]:
    """The order-preserving pairing with the highest total score, by dynamic programming over prefixes."""
    names, layers = list(dump), list(reference)
    score = np.zeros((len(names), len(layers)))
    for i, name in enumerate(names):
        for j, layer in enumerate(layers):
            if can_be_arranged(np.shape(dump[name]), reference[layer].shape):
                score[i, j] = PAIR_SCORE + _agreement(dump[name], reference[layer])
    best = np.zeros((len(names) + 1, len(layers) + 1))
    for i in range(len(names)):
        for j in range(len(layers)):
            pair = best[i, j] + score[i, j] if score[i, j] else 0.0
            best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], pair)
    found: dict[str, str] = {}
    i, j = len(names), len(layers)
    while i and j:
        if best[i, j] == best[i, j - 1]:
            j -= 1
        elif best[i, j] == best[i - 1, j]:
            i -= 1
        else:
            i, j = i - 1, j - 1
            found[names[i]] = layers[j]
    return dict(reversed(found.items()))


def _agreement(actual: Array, expected: Array) -> float:
    """Between 0 and 1: half the correlation of the values, which survives mistakes, half their closeness."""
    a, b = arrange(actual, expected).values.ravel(), expected.ravel()
    some = slice(None, None, max(1, b.size // SAMPLE))
    a, b = a[some], b[some]
    usable = np.isfinite(a) & np.isfinite(b)
    a, b = a[usable], b[usable]
    if a.size == 0:
        return 0.0
    with np.errstate(over="ignore"):
        difference = float(np.linalg.norm(a - b))
        closeness = 1.0 if difference == 0 else 1 - difference / (difference + float(np.linalg.norm(b)))
        a, b = a - a.mean(), b - b.mean()
        size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return (closeness + max(float(a @ b) / size, 0.0)) / 2 if 0 < size < np.inf else closeness / 2
