"""Models with several outputs: results by name, one output alone, class names, and the file."""

import json
import struct
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from npmobilenet.errors import ArgumentError, ImageError, NpMobileNetError, ShapeError, WeightsError
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import Scaling
from npmobilenet.porting.golden import GoldenData
from npmobilenet.porting.golden_writer import write_golden_data
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Activation, Conv2D, Dense, GlobalAveragePooling2D, Input
from tests.helpers.models import some_model, some_pixels
from tests.helpers.real_files import ROOT

pytestmark = pytest.mark.usefixtures("kernels_kept")

SHAPE = (10, 9, 3)
BACKENDS = ["compiled", "reference", "auto"]


def graph_of(*heads: Layer, outputs: tuple[tuple[str, str], ...]) -> Graph:
    """Heads on a pooled map."""
    layers = (
        Input(name="x", shape=SHAPE),
        Conv2D(name="conv", inputs=("x",), filters=8, kernel_size=(3, 3), stride=2, activation="relu6"),
        GlobalAveragePooling2D(name="pool", inputs=("conv",)),
    )
    return Graph("zoo", (*layers, *heads), outputs)


SPECIES = (
    Dense(name="logits", inputs=("pool",), units=3),
    Activation(name="softmax", inputs=("logits",), activation="softmax"),
)
BOX = Dense(name="box", inputs=("pool",), units=4)
ZOO = graph_of(*SPECIES, BOX, outputs=(("where", "box"), ("map", "conv"), ("what", "softmax")))
NAMES = ["where", "map", "what"]


def zoo(**fields: Any) -> Model:
    return some_model(ZOO, **{"labels": ["cat", "dog", "owl"]} | fields)


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_are_dicts_by_the_names_of_the_outputs(backend: str) -> None:
    model, pixels = zoo(), some_pixels(11, *SHAPE)
    y = model.predict(pixels, backend=backend)
    assert {name: (array.shape, array.dtype) for name, array in y.items()} == {
        "where": ((11, 4), np.float32),
        "map": ((11, 4, 4, 8), np.float32),
        "what": ((11, 3), np.float32),
    }
    assert list(y) == NAMES
    forward = model.forward(model.scale(pixels), backend=backend)
    traced = dict(model.trace(model.scale(pixels)))
    for name, layer in ZOO.outputs:
        np.testing.assert_allclose(y[name], traced[layer], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(forward[name], y[name], rtol=1e-4, atol=1e-5)
    assert [len(array) for array in model.predict([], backend=backend).values()] == [0, 0, 0]


def test_every_image_has_its_row_of_every_output_and_a_bad_one_its_error() -> None:
    model, pixels = zoo(), some_pixels(3, *SHAPE)
    sources: list[Any] = [pixels[0], "missing.png", pixels[1], pixels[2]]
    results = [result for _, result in model.predict_each(sources)]
    assert isinstance(results.pop(1), ImageError)
    y = model.predict(pixels)
    for number, result in enumerate(results):
        assert not isinstance(result, NpMobileNetError)
        assert list(result) == NAMES
        for name in NAMES:
            np.testing.assert_array_equal(result[name], y[name][number])


def test_classes_come_from_the_only_softmax_or_from_the_output_that_is_named() -> None:
    model, pixels = zoo(), some_pixels(*SHAPE)
    (found,) = model.classify(pixels, top=1)
    y = model.predict(pixels)
    best = int(y["what"].argmax())
    assert found == [("", ("cat", "dog", "owl")[best], float(y["what"].max()))]
    ((_, number, value),) = model.classify(pixels, top=1, output="where")[0]
    assert (number, value) == (str(y["where"].argmax()), float(y["where"].max()))
    with pytest.raises(ArgumentError, match="zoo: unknown output 'box'; outputs: where, map, what"):
        model.classify(pixels, output="box")
    with pytest.raises(ShapeError, match=r"no classifier, its output is \(4, 4, 8\)"):
        model.classify(pixels, output="map")


@pytest.mark.parametrize(
    ("graph", "chosen"),
    [
        (ZOO, "what"),
        (graph_of(BOX, outputs=(("map", "conv"), ("values", "box"))), "values"),
        (graph_of(*SPECIES, BOX, outputs=(("a", "softmax"), ("b", "softmax"), ("c", "box"))), "a"),
        (graph_of(*SPECIES, BOX, outputs=(("a", "logits"), ("c", "box"), ("d", "softmax"))), "d"),
        (graph_of(SPECIES[0], BOX, outputs=(("a", "logits"), ("b", "box"))), None),
        (graph_of(outputs=(("a", "conv"), ("b", "x"), ("c", "pool"))), "c"),
    ],
)
def test_an_output_is_chosen_only_where_it_is_clear(graph: Graph, chosen: str | None) -> None:
    model = some_model(graph)
    if chosen is None:
        with pytest.raises(
            ArgumentError, match=r"zoo has 2 outputs, it is not clear which holds classes: a \(3,\), b \(4,\)"
        ):
            model.with_output()
        with pytest.raises(ArgumentError, match="not clear which"):
            some_model(graph, labels=["one", "two", "three"])
        return
    one, pixels = model.with_output(), some_pixels(2, *SHAPE)
    np.testing.assert_array_equal(one.predict(pixels), model.predict(pixels)[chosen])


def test_one_output_alone_computes_only_what_it_depends_on() -> None:
    model = zoo()
    what, where = model.with_output("what"), model.with_output("where")
    assert set(what.params) == {"conv/kernel", "conv/bias", "logits/kernel", "logits/bias"}
    assert (what.labels, where.labels) == (model.labels, ())
    pixels = some_pixels(2, *SHAPE)
    for one, name in ((what, "what"), (where, "where"), (model.with_output("map"), "map")):
        scaled = model.scale(pixels)
        np.testing.assert_array_equal(one.forward(scaled), model.forward(scaled)[name])
    assert model.with_output("what").engines is model.engines  # not compiled anew by every classify
    assert what.with_output() is what.with_output("what") is what


def test_labels_belong_to_the_output_with_the_classes() -> None:
    with pytest.raises(ShapeError, match="zoo: expected 3 labels, one per class, got 4"):
        zoo(labels=["a", "b", "c", "d"])


def test_the_file_restores_the_outputs_in_a_format_that_earlier_versions_refuse(tmp_path: Path) -> None:
    path = tmp_path / "zoo.safetensors"
    model = zoo(scaling=Scaling((0.1, 0.2, 0.3), (0.0, 0.0, 1.0)))
    model.save(path)
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    document = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["npmobilenet"])
    assert document["format"] == 3
    assert document["graph"]["outputs"] == {"where": "box", "map": "conv", "what": "softmax"}
    again = Model.open(path)
    assert again.graph == model.graph
    assert again.failed_checks() == []
    stored = document["self_check"]["output"]
    assert (len(stored["where"]), stored["map"], len(stored["what"])) == (4, None, 3)
    swapped = content.replace(rb"{\"where\": \"box\", \"map\"", rb"{\"what!\": \"box\", \"map\"")
    assert swapped != content
    path.write_bytes(swapped)
    with pytest.raises(WeightsError, match="checksum mismatch"):
        Model.open(path)


def test_the_embedding_is_that_before_the_heads_or_a_layer_is_asked_for() -> None:
    pixels = some_pixels(2, *SHAPE)
    model = zoo()
    np.testing.assert_array_equal(model.features(pixels), model.layer_output("pool", model.scale(pixels)))
    layers = (*ZOO.layers[:2], *(Conv2D(name=n, inputs=("conv",), filters=2, kernel_size=(1, 1)) for n in ("a", "b")))
    with pytest.raises(ShapeError, match="zoo has 2 outputs and no pooled embedding before them; choose a layer"):
        some_model(Graph("zoo", layers, (("a", "a"), ("b", "b")))).features(pixels)


def test_a_model_shows_its_outputs() -> None:
    assert "10 x 9 x 3 -> where (4,), map (4, 4, 8), what (3,), " in repr(zoo())


def test_golden_data_holds_the_outputs(tmp_path: Path) -> None:
    model = zoo()
    write_golden_data(model, some_pixels(*SHAPE), tmp_path / "pack")
    golden = GoldenData.open(tmp_path / "pack")
    assert golden.graph == model.graph
    y, x = golden.model().forward(golden.input(), backend="reference"), golden.input()
    for name, layer in ZOO.outputs:
        np.testing.assert_array_equal(y[name], golden.output(layer))
        np.testing.assert_array_equal(y[name], model.forward(x, backend="reference")[name])
    schema = json.loads((ROOT / "npmobilenet" / "data" / "pack.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads((tmp_path / "pack" / "manifest.json").read_text(encoding="utf-8")), schema)
