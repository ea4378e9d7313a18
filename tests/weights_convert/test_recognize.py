"""Recognition of the published network of a file: the width is that which building every width finds."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from npmobilenet_weights_convert import recognize as recognize_module
from npmobilenet_weights_convert.keras_file import Contents
from npmobilenet_weights_convert.name_matching import places_of
from npmobilenet_weights_convert.network_in_file import network_in_file
from npmobilenet_weights_convert.recognize import ALPHAS, CANDIDATES, VARIANTS, recognize
from npmobilenet_weights_convert.stored_layers import StoredArray, StoredLayer

from npmobilenet.architectures import ARCHITECTURES, mobilenet_v1, mobilenet_v2, mobilenet_v3_small
from npmobilenet.errors import ShapeError, WeightsError
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Shape

ODD: Shape = (5, 7)


def contents(graph: Graph, changed: dict[str, Shape]) -> Contents:
    """A weights file for a graph, with some arrays of other shapes."""
    shapes = graph.param_shapes | changed

    def stored(name: str, leaf: str) -> StoredArray:
        return StoredArray(name, leaf, shapes[name], np.dtype(np.float32), lambda: np.zeros(1))

    layers = tuple(
        StoredLayer(
            place.name, place.name, place.kind, place.name, tuple(stored(name, leaf) for leaf, name in place.arrays)
        )
        for place in places_of(graph)
    )
    return Contents("weights.h5", "", "", None, layers, numbered=False)


def width_by_building_all(arch: str, arguments: dict[str, Any], stored: dict[str, Shape]) -> float:
    """The width multiplier with the fewest mismatches, by trying all."""

    def mismatches(alpha: float) -> int:
        try:
            shapes = ARCHITECTURES[arch](**arguments, alpha=alpha).param_shapes
        except ShapeError:
            return len(stored)
        return sum(shapes.get(name) != shape for name, shape in stored.items())

    return min(ALPHAS, key=mismatches)


@pytest.mark.parametrize("every", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("build", "alpha"),
    [
        (mobilenet_v1, 0.07),
        (mobilenet_v1, 1.99),
        (mobilenet_v2, 0.35),
        (mobilenet_v2, 0.42),
        (mobilenet_v3_small, 0.61),
    ],
)
def test_the_width_is_that_with_the_fewest_mismatches(build: Any, alpha: float, every: int) -> None:
    graph = build(alpha, classes=10)
    changed = dict.fromkeys(list(graph.param_shapes)[4::every], ODD)
    changed |= {
        name: (2 * shape[0],) for name, shape in graph.param_shapes.items() if len(shape) == 1 and name in changed
    }
    found = recognize(contents(graph, changed))
    assert found is not None
    stored = {name: changed.get(name, shape) for name, shape in graph.param_shapes.items()}
    arguments = {name: value for name, value in found.arguments.items() if name != "alpha"}
    assert found.arguments["alpha"] == width_by_building_all(found.arch, arguments, stored)


def test_few_networks_are_built_for_an_unpublished_one(monkeypatch: pytest.MonkeyPatch) -> None:
    recognize_module._full_width.cache_clear()
    built = []
    monkeypatch.setattr(Graph, "__post_init__", lambda graph: built.append(graph.name))
    found = recognize(contents(mobilenet_v2(0.42, classes=10), {}))
    assert found is not None
    assert found.arguments["alpha"] == 0.42
    assert len(built) <= len(VARIANTS) + CANDIDATES


def named_contents(graph: Graph, names: list[str]) -> Contents:
    """A weights file that holds only some layers of a graph, by name."""
    layers = []
    for name in names:
        arrays = tuple(
            StoredArray(f"{name}/{leaf}", leaf, shape, np.dtype(np.float32), lambda shape=shape: np.zeros(shape))  # type: ignore[misc]
            for key, shape in graph.param_shapes.items()
            for layer, _, leaf in [key.rpartition("/")]
            if layer == name
        )
        layers.append(StoredLayer(name, name, "", name, arrays))
    return Contents("some.h5", "", "", None, tuple(layers), numbered=False)


def test_the_nearest_network_is_named_by_names_where_few_arrays_fit() -> None:
    graph = mobilenet_v2(0.35, include_top=False)
    names = list(dict.fromkeys(key.rpartition("/")[0] for key in graph.param_shapes))
    contents = named_contents(graph, names[:20])
    assert recognize(contents) is None
    with pytest.raises(WeightsError) as caught:
        network_in_file(contents)
    assert "closest match is mobilenet_v2, alpha 0.35, without top (20 of the file's 20 layers)" in str(caught.value)
    assert "model.keras" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 11
    assert len(caught.value.details) == len(graph.param_shapes) - sum(len(la.arrays) for la in contents.layers)


def test_weights_of_another_network_name_no_mobilenet() -> None:
    graph = mobilenet_v1(0.25)
    contents = named_contents(graph, ["conv1", "conv1_bn"])
    strange = tuple(replace(layer, name=f"{layer.name}_{i}") for i in range(4) for layer in contents.layers)
    with pytest.raises(WeightsError, match=r"match no keras.applications MobileNet.*model\.keras") as caught:
        network_in_file(replace(contents, layers=strange))
    assert "closest" not in str(caught.value)
