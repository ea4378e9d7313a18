"""Matching of a dump's arrays to the layers of a network."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npmobilenet.errors import DumpError
from npmobilenet.models.model import Model
from npmobilenet.porting.diagnose.axes import can_be_arranged
from npmobilenet.porting.diagnose.pairing import Pairing
from npmobilenet.types import Array


@dataclass(frozen=True, eq=False)
class Matched:
    """A dump by layer names.

    Attributes:
        arrays: by layer name.
        names: layer name -> name in the dump.
        how: "by the mapping", "by name", "by order and shape", or several of these.
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
    model: Model | None = None,
) -> Matched:
    """Match the arrays of a dump to the layers of a network.

    A mapping is followed. Then names are: those that equal a layer's or that of an output which it computes, then those
    that have a layer's between slashes (`outputs/conv1`, `model/conv1/Relu6:0`). The other arrays are placed between
    these, by order, shape and values; see `pairing`.

    Args:
        reference: every layer's output (N, ...) by its name, in the order of the graph.
        dump: arrays by name, in their order.
        mapping: {name in the dump: layer name}.
        outputs: of the network, as in its graph.
        model: the network, to recognize nameless arrays that were computed from wrong ones.

    Raises:
        DumpError: the mapping has an unknown name, or maps two arrays to one layer.
    """
    mapped = _by_mapping(reference, dump, mapping or {})
    rest = {name: array for name, array in dump.items() if name not in mapped}
    anchors = mapped | _by_name(
        {name: y for name, y in reference.items() if name not in mapped.values()}, rest, outputs
    )
    hints = _hints(reference, dump, anchors)
    found = Pairing(reference, dump, model).run(anchors, hints)
    names = {layer: name for name, layer in found.items()}
    ordered = {layer: names[layer] for layer in reference if layer in names}
    arrays = {layer: dump[name] for layer, name in ordered.items()}
    named = sum(name in anchors or name in hints for name in found)
    return Matched(arrays, ordered, _how(mapped, named, len(found)), tuple(name for name in dump if name not in found))


def _how(mapped: Mapping[str, str], named: int, found: int) -> str:
    ways = ["by the mapping"] * bool(mapped) + ["by name"] * (named > len(mapped))
    ways += ["by order and shape"] * (found > named)
    return ", ".join(ways) or "by name"


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
    """{name in the dump: layer} of equal names first, then of those of outputs."""
    found = {name: name for name in dump if name in reference}
    for name, layer in outputs:
        if name in dump and name not in found and layer in reference and layer not in found.values():
            found[name] = layer
    return found


def _hints(
    reference: Mapping[str, Array], dump: Mapping[str, Array], anchors: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Names in the dump with layers in them, and these layers, of a shape that fits and without an array of their own.

    `model/conv1/Conv2D:0` has conv1 in it. Of the layers between slashes in one name only the longest counts:
    `expanded_conv_project/conv` belongs to the former, and not to the layer `conv`. A name of TensorFlow Lite lists
    what an operator was fused from, between semicolons.
    """
    taken = set(anchors.values())
    hints: dict[str, tuple[str, ...]] = {}
    for name, array in dump.items():
        if name in anchors:
            continue
        named = [max(inside, key=len) for part in name.split(";") if (inside := _between_slashes(part, reference))]
        free = [y for y in named if y not in taken and can_be_arranged(np.shape(array), reference[y].shape)]
        if free:
            hints[name] = tuple(dict.fromkeys(free))
    return hints


def _between_slashes(name: str, reference: Mapping[str, Array]) -> list[str]:
    """The layers whose names are one or several consecutive parts of a path."""
    parts = re.split(r"[/:]", name)
    paths = ("/".join(parts[i:j]) for i in range(len(parts)) for j in range(i + 1, len(parts) + 1))
    return [path for path in paths if path in reference]
