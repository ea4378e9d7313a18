"""Files of quantized models: complete, exact, and refused when they are corrupt or do not fit together."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

import npmobilenet as nm
from npmobilenet.errors import ArgumentError, NpMobileNetError, WeightsError
from npmobilenet.models.model import Model
from npmobilenet.models.model_file import ModelFile
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.quantized.network_json import network_arrays, network_from_json, network_to_json
from npmobilenet.quantized.tensors import Network
from tests.helpers.images import random_pixels
from tests.helpers.models import some_model
from tests.helpers.quantized_models import SIDES, real_network, small_model

REAL = (
    "mobilenet_v1_0.25_128_quant", "mobilenet_v2_1.0_224_int8", "mobilenet_v3_small_1.0_224_uint8",
    "ssd_mobilenet_v1_coco_uint8", "vww_96_int8",
)  # fmt: skip
Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A file of the small model."""
    path = tmp_path / "small.safetensors"
    small_model(source={"file": "x.tflite"}, resize="keras").save(path)
    return path


def assert_equal(one: Network, other: Network) -> None:
    """Every field of every tensor and operator is the same."""
    assert (one.name, one.operators, one.inputs, one.outputs) == (
        other.name,
        other.operators,
        other.inputs,
        other.outputs,
    )
    for mine, theirs in zip(one.tensors, other.tensors, strict=True):
        assert (mine.name, mine.shape, mine.dtype) == (theirs.name, theirs.shape, theirs.dtype)
        assert (mine.data is None) == (theirs.data is None)
        if mine.data is not None and theirs.data is not None:
            assert mine.data.dtype == theirs.data.dtype
            assert np.array_equal(mine.data, theirs.data)
        assert (mine.quantization is None) == (theirs.quantization is None)
        if mine.quantization is not None and theirs.quantization is not None:
            for field in fields(mine.quantization):
                pair = (getattr(quantization, field.name) for quantization in (mine.quantization, theirs.quantization))
                assert np.array_equal(*pair)


@pytest.mark.parametrize("name", REAL)
def test_a_real_network_is_restored_exactly(name: str) -> None:
    network = real_network(name)
    file = ModelFile.written(4, {"network": network_to_json(network)}, network_arrays(network))
    assert_equal(network_from_json(json.loads(file.description)["network"], file.tensors), network)


def test_a_saved_model_is_restored_completely(saved: Path) -> None:
    model, again = small_model(), nm.load(saved, rule="tflm", backend="reference")
    assert isinstance(again, QuantizedModel)
    assert_equal(again.network, model.network)
    assert again.labels == (("", "cat"), ("", "dog"), ("", "owl"), ("", "newt"))
    assert (again.source, again.resize, again.rule, again.backend) == (
        {"file": "x.tflite"},
        "keras",
        "tflm",
        "reference",
    )
    assert again.scaling == model.scaling
    assert again.failed_checks() == []


def test_the_file_holds_integers_and_a_description_for_any_reader(saved: Path) -> None:
    with safe_open(saved, framework="np") as file:
        document = json.loads(file.metadata()["npmobilenet"])
        tensor = document["network"]["tensors"][4]
        assert tensor == {"name": "depthwise/weights", "shape": [1, 3, 3, 8], "dtype": "int8", "axis": 3}
        assert np.array_equal(file.get_tensor("4/values"), small_model().network.tensors[4].integers)
        assert file.get_tensor("4/scale").tolist() == [np.float32(0.01)]
    assert document["format"] == 4
    assert document["network"]["operators"][2] == {"code": "CONV_2D", "inputs": [6, 7, 8], "outputs": [9]}
    assert document["network"]["operators"][1]["options"] == {"padding": "same"}
    assert list(document["self_check"]["tensors"]) == list(small_model().layer_names)


def test_the_self_check_is_exact(saved: Path) -> None:
    """One weight that differs by 1 is found in the layer that reads it, and in all that depend on it."""
    model = QuantizedModel.open(saved)
    weights = model.network.tensors[4]
    changed = weights.integers.astype(np.int8)
    changed[0, 1, 1, 2] += 1
    tensors = [replace(weights, data=changed) if tensor is weights else tensor for tensor in model.network.tensors]
    other = replace(model, network=replace(model.network, tensors=tuple(tensors)), rule="xnnpack")
    assert other.failed_checks()[0] == "depthwise"
    assert replace(model, rule="xnnpack").failed_checks() == []
    with pytest.raises(WeightsError, match=r"small: no stored self-check; model.save writes one"):
        small_model().failed_checks()


def test_a_changed_bit_anywhere_is_detected(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    rng = np.random.default_rng(3)
    corrupt = tmp_path / "corrupt.safetensors"
    for place in rng.integers(0, len(content), 150):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        corrupt.write_bytes(flipped)
        with pytest.raises(WeightsError, match=r"corrupt\.safetensors"):
            QuantizedModel.open(corrupt)


def with_description(saved: Path, path: Path, change: Change) -> None:
    """A file whose description was changed, and whose hash is right."""
    file = ModelFile.read(str(saved))
    document = json.loads(file.description)
    change(document)
    kept = {key: value for key, value in document.items() if key not in ("format", "version")}
    arrays = {name: file.tensors[name] for name in network_arrays(small_model().network)}
    ModelFile.written(document["format"], kept, arrays).write(path)


def operator(number: int, **changes: Any) -> Change:
    """Change an operator's description."""
    return lambda document: document["network"]["operators"][number].update(changes)


def tensor(number: int, **changes: Any) -> Change:
    """Change a tensor's description."""
    return lambda document: document["network"]["tensors"][number].update(changes)


def network(**changes: Any) -> Change:
    """Change the network's description."""
    return lambda document: document["network"].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (operator(0, code="CONV_3D"), "operator 0 CONV_3D: not supported"),
        (operator(1, inputs=[6, 4, 5]), "reads tensor 6, which is neither a constant nor made before"),
        (operator(1, inputs=[3, 4, 99]), "reads tensor 99"),
        (operator(1, inputs=[3, 4, -2]), "reads tensor -2"),
        (operator(1, inputs=[3, 4, 5.0]), "expected an integer, got 5.0"),
        (operator(1, inputs=[]), "expected inputs and outputs"),
        (operator(1, outputs=[4]), "makes tensor 4, which is made already"),
        (operator(1, outputs=[99]), "makes tensor 99, which is missing"),
        (operator(0, options={"padding": "full"}), "unknown padding 'full'"),
        (operator(0, options={"activation": "gelu"}), "unknown activation 'gelu'"),
        (operator(0, options={"stride": [0, 1]}), r"stride \(0, 1\)"),
        (operator(0, options={"stride": [1, 1, 1]}), r"stride \(1, 1, 1\)"),
        (operator(0, options={"stride": "11"}), "expected an integer, got '1'"),
        (operator(0, options={"beta": True}), "expected float, got True"),
        (operator(0, options={"speed": 1}), "corrupt description"),
        (tensor(1, shape=[8, 3, 3, 4]), r"tensor 1 conv/weights: expected int8 of shape \(8, 3, 3, 4\), got int8"),
        (tensor(1, dtype="uint8"), "expected uint8 of shape"),
        (tensor(1, dtype="O"), "unknown type 'O'"),
        (tensor(1, shape=[8, 3, -3, 3]), "shape"),
        (tensor(3, dtype="float32"), "quantized float32 is not supported"),
        (tensor(3, dtype="uint8"), "a zero point is not one of 0..255"),
        (tensor(10, axis=0), "corrupt description"),
        (tensor(9, shape=[1, 6, 5, 15]), r"CONV_2D gives shape \(1, 6, 5, 16\), the file says \(1, 6, 5, 15\)"),
        (tensor(11, shape=[1, 4, 4]), r"MEAN gives shape \(1, 16\), the file says \(1, 4, 4\)"),
        (operator(2, inputs=[6, 7, 5]), r"expected int32 bias of shape \(16,\), got int32 \(8,\)"),
        (operator(2, inputs=[6, 1, 8]), r"expected int32 bias of shape \(8,\), got int32 \(16,\)"),
        (operator(2, inputs=[6, 6, 8]), "depthwise is not a constant"),
        (operator(1, inputs=[3, 7]), r"weights of shape \(16, 1, 1, 8\) for 8 channels"),
        (lambda document: document["network"]["tensors"][2].pop("axis"), "array 2/scale belongs to no tensor"),
        (network(outputs=[10]), "output axes is not made by an operator"),
        (network(inputs=[1]), "an input is a constant"),
        (network(outputs=[99]), "there is no tensor 99"),
        (network(inputs=[]), "expected an input and an output"),
        (lambda document: document["network"]["operators"].pop(2), "reads tensor 9"),
        (lambda document: document["network"]["operators"].pop(), "output softmax is never made"),
        (lambda document: document.update(format=9), "expected one of the formats 4, got 9: another version wrote it"),
        (lambda document: document.update(format=1), "a float model; npmobilenet.load opens it"),
        (lambda document: document.update(scaling={"scale": [1, 2], "offset": 0}), "expected a scaling of 3 channels"),
        (lambda document: document.update(labels=[["", "a"]]), "expected 4 labels, one per class, got 1"),
        (lambda document: document.update(network=[]), "corrupt description"),
        (lambda document: document.update(self_check={"layers": {}}), r'expected {"tensors"} or null'),
        (lambda document: document["self_check"]["tensors"].update(tail="0"), "the network has no tensor 'tail'"),
        (lambda document: document["self_check"]["tensors"].update(conv=1), "conv: expected a text, got 1"),
    ],
)  # fmt: skip
def test_a_wrong_description_under_a_right_hash_is_refused(
    saved: Path, tmp_path: Path, change: Change, message: str
) -> None:
    wrong = tmp_path / "wrong.safetensors"
    with_description(saved, wrong, lambda document: None)
    assert QuantizedModel.open(wrong).failed_checks() == []
    with_description(saved, wrong, change)
    with pytest.raises(WeightsError, match=rf"wrong\.safetensors: .*{message}"):
        QuantizedModel.open(wrong)


def test_a_shape_that_is_left_out_is_filled_in(saved: Path, tmp_path: Path) -> None:
    """As old converters leave out that of a squeeze; kernels need it."""
    path = tmp_path / "short.safetensors"

    def without_shapes(document: dict[str, Any]) -> None:
        for number in (3, 11, 15):
            tensor(number, shape=[])(document)

    with_description(saved, path, without_shapes)
    model = QuantizedModel.open(path)
    assert [model.computed.tensors[number].shape for number in (3, 11, 15)] == [(1, 6, 5, 8), (1, 16), (1, 4)]
    image = random_pixels(*SIDES, seed=1)
    for backend in ("reference", "compiled"):
        assert np.array_equal(model.predict(image, backend=backend), small_model().predict(image))


def test_scales_and_zero_points_are_checked(tmp_path: Path) -> None:
    network = small_model().network
    arrays = network_arrays(network)
    for name, value, message in (
        ("3/scale", np.array([np.inf], np.float32), "a scale is not a positive number"),
        ("3/scale", np.array([0.0], np.float32), "a scale is not a positive number"),
        ("3/scale", np.array([0.1, 0.1], np.float32), "expected a zero point for each scale"),
        ("3/scale", np.array([0.1], np.float64), "expected float32 scales"),
        ("3/zero_point", np.array([300]), "a zero point is not one of -128..127"),
    ):
        changed = {**arrays, name: value}
        ModelFile.written(4, {"network": network_to_json(network)}, changed).write(tmp_path / "a.safetensors")
        with pytest.raises(WeightsError, match=message):
            QuantizedModel.open(tmp_path / "a.safetensors")


def test_float_and_quantized_files_are_told_apart(saved: Path, tmp_path: Path) -> None:
    some_model().save(tmp_path / "float.safetensors")
    with pytest.raises(WeightsError, match=r"a quantized model; npmobilenet.load opens it"):
        Model.open(saved)
    with pytest.raises(WeightsError, match=r"a float model; npmobilenet.load opens it"):
        QuantizedModel.open(tmp_path / "float.safetensors")
    assert isinstance(nm.load(tmp_path / "float.safetensors"), Model)
    with pytest.raises(ArgumentError, match=r"rule 'tflm': mobilenet.* is not quantized, and follows none"):
        nm.load(tmp_path / "float.safetensors", rule="tflm")


def changed_somewhere(document: Any, rng: np.random.Generator) -> None:
    """Change one value of a JSON document, or leave it out."""
    places = list(entries(document))
    container, key = places[int(rng.integers(len(places)))]
    value = container[key]
    values: tuple[Any, ...] = (0, 1, 2, 3, 7, 40, -1, -5, 2**31, 10**12, 0.5, "same", "x", None, True, [], [3, 3], {})
    if rng.random() < 0.1:
        del container[key]
    elif type(value) is int and rng.random() < 0.5:
        container[key] = value + int(rng.integers(-3, 4))
    else:
        container[key] = values[int(rng.integers(len(values)))]


def entries(document: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything in a JSON document."""
    for key in list(document) if isinstance(document, dict) else range(len(document)):
        yield document, key
        if isinstance(document[key], dict | list):
            yield from entries(document[key])


def test_any_other_description_is_read_or_refused(saved: Path, tmp_path: Path) -> None:
    """Whatever a description says, the file gives a model that computes, or an error of ours."""
    rng = np.random.default_rng(11)
    wrong, outcomes = tmp_path / "wrong.safetensors", Counter[str]()
    image = random_pixels(*SIDES, seed=1)
    for _ in range(2000 if os.environ.get("NPMOBILENET_NIGHTLY") else 300):
        with_description(saved, wrong, lambda document: changed_somewhere(document["network"], rng))
        try:
            model = QuantizedModel.open(wrong)
        except WeightsError:
            outcomes["refused"] += 1
            continue
        try:
            with np.errstate(all="ignore"):
                model.predict(image[: model.interface.input_shape[0]])
            outcomes["computed"] += 1
        except NpMobileNetError:
            outcomes["refused when it is computed"] += 1
    assert outcomes["refused"] > outcomes["computed"] > 0
