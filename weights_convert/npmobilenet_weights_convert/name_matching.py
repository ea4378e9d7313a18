"""Matching of the arrays in a file with the parameters of a graph.

Keras loads weight files by order and ignores names, and the names in a file are those of the year it was written. So
three ways are tried in turn, and the first under which every array fits is taken:

    current Keras names    the layer has its name in the graph
    legacy Keras names     a table per family in `legacy_names`
    layer order            as Keras does, and only if class, array name and shape fit everywhere

In between, Dense layers alone are matched by order where all others have their names: heads are named by their owners.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest

from npmobilenet.reference.graph import Graph
from npmobilenet.types import Shape
from npmobilenet_weights_convert.keras_file import Contents
from npmobilenet_weights_convert.legacy_names import ARRAY_NAMES, LEGACY_NAMES, Rules, current_name
from npmobilenet_weights_convert.stored_layers import StoredArray, StoredLayer

CURRENT = "current Keras names"
HEAD_BY_ORDER = ", Dense layers by order"
LEGACY = "legacy Keras names"
ORDER = "layer order"


@dataclass(frozen=True)
class Place:
    """Destination in the graph of the arrays of one Keras layer.

    Args:
        name: the layer's name, `outer/inner` inside a nested model.
        kind: its class in snake case.
        path: its path in a `.weights.h5`; "" if unknown.
        arrays: (name in Keras, name in the graph) of every array, in Keras's order; "" if the graph does not have it.
    """

    name: str
    kind: str
    path: str
    arrays: tuple[tuple[str, str], ...]


Pairs = list[tuple[StoredLayer | None, Place | None]]


def snake_case(class_name: str) -> str:
    """ "depthwise_conv2d" of "DepthwiseConv2D", as groups in a `.weights.h5` are named."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", class_name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def places_of(graph: Graph) -> list[Place]:
    """Places of a graph in which every layer is one Keras layer."""
    return [
        Place(layer.name, snake_case(layer.type), "", tuple((array, f"{layer.name}/{array}") for array in arrays))
        for layer in graph.layers
        if (arrays := graph.param_shapes_of(layer))
    ]


def attempts(contents: Contents, places: Sequence[Place]) -> Iterator[tuple[str, Pairs]]:
    """(Name of the way, pairs) for every way to match the layers of a file with places, the most certain first."""
    layers = contents.layers
    if any(layer.name for layer in layers):
        yield CURRENT, _pair_by_name(layers, places, lambda name: name)
        if (pairs := _pair_dense_by_order(layers, places, ())) is not None:
            yield f"{CURRENT}{HEAD_BY_ORDER}", pairs
    if not contents.numbered:
        for table, rules in LEGACY_NAMES.items():
            yield f"{LEGACY}: {table}", _pair_by_name(layers, places, partial(current_name, rules=rules))
            if (pairs := _pair_dense_by_order(layers, places, rules)) is not None:
                yield f"{LEGACY}: {table}{HEAD_BY_ORDER}", pairs
    if contents.numbered and all(place.path for place in places):
        yield ORDER, _pair(layers, places, lambda layer: layer.path, lambda place: place.path)
    elif _is_ordered(contents):
        yield ORDER, _pair_by_order(contents, places)


def have_same_names(own: Graph, published: Graph) -> bool:
    """Whether the layers with arrays have the names of a published graph, current or legacy."""
    names = {layer.name for layer in own.layers if own.param_shapes_of(layer)}
    wanted = {layer.name for layer in published.layers if published.param_shapes_of(layer)}
    return any({current_name(name, rules) for name in names} == wanted for rules in ((), *LEGACY_NAMES.values()))


def problems(pairs: Pairs, shapes: Mapping[str, Shape] | None) -> list[str]:
    """Mismatches, one line per array; shapes are compared only if they are given."""
    lines: list[str] = []
    for layer, place in pairs:
        if layer is None or place is None:
            lines += [f"missing: {name}{_shape(shapes, name)}" for _, name in (place.arrays if place else ()) if name]
            lines += [f"unexpected: {_title(layer, i)} {a.shape}" for i, a in enumerate(layer.arrays if layer else ())]
        elif layer.kind and layer.kind != place.kind:
            lines.append(
                f"wrong class: {layer.name or layer.path}: expected {place.kind} for {place.name}, got {layer.kind}"
            )
        else:
            lines += _array_problems(layer, place, shapes)
    return lines


def assignment(pairs: Pairs) -> Iterator[tuple[str, StoredArray]]:
    """(Name in the graph, array in the file) for all arrays that are matched; shapes are not compared."""
    for layer, place in pairs:
        if layer is not None and place is not None:
            for name, index in _indices(layer, place):
                if name is not None and index is not None:
                    yield name, layer.arrays[index]


def _array_problems(layer: StoredLayer, place: Place, shapes: Mapping[str, Shape] | None) -> Iterator[str]:
    for name, index in _indices(layer, place):
        if index is None and name is not None:
            yield f"missing: {name}{_shape(shapes, name)}"
        elif name is None and index is not None:
            yield f"unexpected: {_title(layer, index)} {layer.arrays[index].shape}"
        elif name is not None and index is not None and shapes and layer.arrays[index].shape != shapes[name]:
            actual = layer.arrays[index].shape
            yield f"wrong shape: {_title(layer, index)}: expected {shapes[name]} for {name}, got {actual}"


def _indices(layer: StoredLayer, place: Place) -> Iterator[tuple[str | None, int | None]]:
    """(Name in the graph, index in the file) of every array of one layer; None if one side has no such array.

    By the name of the array if the file stores it, otherwise by Keras's order.
    """
    free = list(range(len(layer.arrays)))
    for position, (leaf, name) in enumerate(place.arrays):
        accepted = ARRAY_NAMES.get(place.kind, {}).get(leaf, (leaf,))
        found = [i for i in free if layer.arrays[i].leaf in accepted or (not layer.arrays[i].leaf and i == position)]
        free = [i for i in free if i not in found[:1]]
        if name:
            yield name, found[0] if found else None
    for index in free:
        yield None, index


def _pair_by_name(layers: Sequence[StoredLayer], places: Sequence[Place], rename: Callable[[str], str]) -> Pairs:
    """Pairs of the same name; some files abbreviate the names of nested layers."""
    known = {place.name for place in places}
    nested = [name for name in known if "/" in name]

    def name(layer: StoredLayer) -> str:
        full, group = rename(layer.name), rename(layer.group)
        if full in known or group in known:
            return full if full in known else group
        # three levels of nested models: Keras 2 omits the middle one
        inside = layer.name.removeprefix(f"{layer.group}/")
        ends = [name for name in nested if name.startswith(f"{layer.group}/") and name.endswith(f"/{inside}")]
        return min(ends, key=len, default=full)

    return _pair(layers, places, name, lambda place: place.name)


def _pair_dense_by_order(layers: Sequence[StoredLayer], places: Sequence[Place], rules: Rules) -> Pairs | None:
    """Pairs of the same name, in one nested model or none, and Dense layers by order; None if others are left."""
    pairs = _pair_by_name(without_prefix(layers), places, partial(current_name, rules=rules))
    rest = [layer for layer, place in pairs if layer is not None and place is None]
    free = [place for layer, place in pairs if layer is None and place is not None]
    if len(rest) != len(free) or not all(place.kind == "dense" for place in free):
        return None
    named = [(layer, place) for layer, place in pairs if layer is not None and place is not None]
    return [*named, *zip(rest, free, strict=True)]


def without_prefix(layers: Sequence[StoredLayer]) -> list[StoredLayer]:
    """Layers of nested models under their own names."""
    names = [layer.name.removeprefix(f"{layer.group}/") for layer in layers]
    return [replace(layer, name=name, group=name) for layer, name in zip(layers, names, strict=True)]


def _pair(
    layers: Sequence[StoredLayer],
    places: Sequence[Place],
    layer_key: Callable[[StoredLayer], str],
    place_key: Callable[[Place], str],
) -> Pairs:
    free = {place_key(place): place for place in places}
    pairs: Pairs = [(layer, free.pop(layer_key(layer), None)) for layer in layers if layer.arrays]
    return pairs + [(None, place) for place in free.values()]


def _pair_by_order(contents: Contents, places: Sequence[Place]) -> Pairs:
    """The n-th layer with the n-th place; per class if the file stores layers by class."""
    layers = [layer for layer in contents.layers if layer.arrays]
    if not contents.numbered:
        return list(zip_longest(layers, places))
    pairs: Pairs = []
    for kind in dict.fromkeys([*(layer.kind for layer in layers), *(place.kind for place in places)]):
        pairs += zip_longest((la for la in layers if la.kind == kind), (p for p in places if p.kind == kind))
    return pairs


def _is_ordered(contents: Contents) -> bool:
    """Whether the order of the layers in the file is that of the model.

    Nested models store trainable weights before the others, and numbered layers of one class in two models have no
    common order.
    """
    if not contents.numbered:
        return not contents.is_nested
    homes = {(layer.kind, layer.path.rpartition("/")[0]) for layer in contents.layers}
    return len(homes) == len({kind for kind, _ in homes})


def _title(layer: StoredLayer | None, index: int) -> str:
    if layer is None:
        return ""
    return f"{layer.name or layer.path}/{layer.arrays[index].leaf or index}"


def _shape(shapes: Mapping[str, Shape] | None, name: str) -> str:
    return f" {shapes[name]}" if shapes else ""
