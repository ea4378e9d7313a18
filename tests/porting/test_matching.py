"""No alarm on honest dumps, whatever their arrays are called, and one alarm for one mistake."""

import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_small
from npmobilenet.compiler.passes import fuse
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import RAW, SYMMETRIC
from npmobilenet.porting.diagnose import Diagnosis, diagnose
from npmobilenet.porting.diagnose.dump_matching import match
from npmobilenet.porting.diagnose.dumps import read_dump
from npmobilenet.types import Array
from tests.helpers import port
from tests.helpers.networks import random_images, random_params
from tests.helpers.onnx_files import onnx_file
from tests.helpers.port import Mistake

NETWORKS = {
    "V1": (mobilenet_v1(alpha=0.25, resolution=64, classes=12), SYMMETRIC),
    "V2": (mobilenet_v2(alpha=0.35, resolution=64, classes=12), SYMMETRIC),
    "V3": (mobilenet_v3_small(alpha=0.75, resolution=64, classes=12), RAW),
}


@cache
def network(family: str) -> tuple[Model, Array]:
    graph, scaling = NETWORKS[family]
    return Model(graph, random_params(graph, 11), scaling), random_images(graph, 5)


def compared(family: str, dump: Mapping[str, Array], seconds: float = 5) -> tuple[Diagnosis, Mapping[str, str]]:
    """The diagnosis of a dump, and the names of the arrays that it is about."""
    model, x = network(family)
    reference = dict(model.trace(x.astype(np.float64)))
    matched = match(reference, dump, None, model.graph.outputs, model)
    return diagnose(model, x, matched.arrays, seconds=seconds), matched.names


@cache
def exported(family: str, kind: str, folder: Path) -> Mapping[str, Array]:
    """All outputs of all nodes of an ONNX file of the network, as ONNX Runtime computes them."""
    model, x = network(family)
    path = folder / f"{family}_{kind}.onnx"
    if kind == "folded":
        pytest.importorskip("onnxruntime", reason="requires onnxruntime: pip install npmobilenet[test]")
        from npmobilenet.bench.export_onnx import write_onnx

        write_onnx(fuse(model.graph, model.params), len(x), path)
    else:
        onnx_file(path, model)
    return read_dump(path, model, x).arrays


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


def as_torchvision(names: list[str]) -> dict[str, str]:
    """Names as torch's exporter gives them to torchvision's modules: places in `features`, and the operation."""
    operations = ("Conv", "BatchNormalization", "Clip", "Add", "Mul", "conv")
    return {
        name: f"/features/features.{number // 3}/features.{number // 3}.{number % 3}/{operations[number % 6]}_output_0"
        for number, name in enumerate(names)
    }


NAMES: dict[str, Callable[[list[str]], dict[str, str]]] = {
    "own": lambda names: {name: name for name in names},
    "generic": lambda names: {name: f"t{number}" for number, name in enumerate(names)},
    "torchvision": as_torchvision,
    "a few": lambda names: {name: name if number % 9 == 0 else f"t{number}" for number, name in enumerate(names)},
}
PARTS: dict[str, Callable[[list[str]], list[str]]] = {
    "whole": lambda names: names,
    "every third": lambda names: names[::3],
    "the second half": lambda names: names[len(names) // 2 :],
}


CASES = [(kind, names, part) for kind in ("folded", "unfolded") for names in NAMES for part in PARTS]
if not os.environ.get("NPMOBILENET_NIGHTLY"):
    CASES = CASES[::5]  # prime to the number of parts: every kind of names, and every part


@pytest.mark.parametrize(("kind", "names", "part"), CASES)
@pytest.mark.parametrize("family", NETWORKS)
def test_no_alarm_on_an_onnx_file(family: str, kind: str, names: str, part: str, folder: Path) -> None:
    arrays = exported(family, kind, folder)
    renamed = NAMES[names](list(arrays))
    dump = {renamed[name]: arrays[name] for name in PARTS[part](list(arrays))}
    diagnosis, found = compared(family, dump)
    assert [(finding.layer, found[finding.layer]) for finding in diagnosis.wrong] == []
    assert len(diagnosis.compared) >= (0.8 if kind == "unfolded" else 0.3) * len(dump)


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("family", NETWORKS)
def test_a_mistake_gives_one_alarm_whatever_the_arrays_are_called(family: str, names: str) -> None:
    """Folded layers: convolution, batch norm and activation in one array."""
    model, x = network(family)
    graph = model.graph
    norms = [layer.name for layer in graph.layers if layer.type == "BatchNormalization"]
    outputs = port.run(graph, model.params, x, Mistake("gamma and beta exchanged", norms[len(norms) // 2]))
    kept = [
        name for name, y in outputs.items() if graph[name].type in ("BatchNormalization", "Activation", "Add", "Dense")
    ]
    renamed = NAMES[names](kept)
    diagnosis, found = compared(family, {renamed[name]: outputs[name] for name in kept})
    assert [finding.layer for finding in diagnosis.wrong] == [norms[len(norms) // 2]], found
    assert diagnosis.wrong[0].explanations[0].cause == "batch-norm-arrays"


@pytest.mark.parametrize("family", NETWORKS if os.environ.get("NPMOBILENET_NIGHTLY") else ["V3"])
def test_no_alarm_on_a_file_of_tensorflow_lite(family: str, keras: Any, tmp_path: Path) -> None:
    """As TensorFlow converts it: batch norms folded, activations fused, names listed between semicolons."""
    tensorflow = pytest.importorskip("tensorflow", reason="requires tensorflow: pip install npmobilenet[test]")
    pytest.importorskip("ai_edge_litert", reason="requires ai-edge-litert: pip install npmobilenet[bench]")
    from tests.porting.test_diagnose import in_keras

    model, x = network(family)
    built = in_keras(keras, family, model)
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = tensorflow.function(lambda image: built(image, training=False))
    shape = tensorflow.TensorSpec((1, *model.graph.input_shape))
    frozen = convert_variables_to_constants_v2(function.get_concrete_function(shape))
    converter = tensorflow.lite.TFLiteConverter.from_concrete_functions([frozen])
    (tmp_path / "network.tflite").write_bytes(converter.convert())
    arrays = read_dump(tmp_path / "network.tflite", model, x[:1]).arrays
    for dump in (arrays, {f"t{number}": y for number, y in enumerate(arrays.values())}):
        reference = dict(model.trace(x[:1].astype(np.float64)))
        matched = match(reference, dump, None, model.graph.outputs, model)
        diagnosis = diagnose(model, x[:1], matched.arrays, seconds=5)
        assert [(finding.layer, matched.names[finding.layer]) for finding in diagnosis.wrong] == []
        assert len(diagnosis.compared) >= 0.8 * len(arrays)


def test_a_layer_called_conv_does_not_take_what_is_only_called_so_between_slashes() -> None:
    model, x = network("V3")
    outputs = {name: y.astype(np.float32) for name, y in model.trace(x.astype(np.float64))}
    same_shape = [n for n, y in outputs.items() if y.shape == outputs["conv"].shape and n != "conv"]
    dump = {f"{name}/conv": outputs[name] for name in same_shape}
    _, names = compared("V3", dump)
    assert names == {name: f"{name}/conv" for name in same_shape}
