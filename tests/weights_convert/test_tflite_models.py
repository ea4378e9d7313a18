"""TensorFlow Lite files in: LiteRT's answers, float twins, class names and normalization, and what is refused."""

import os
import zipfile
from collections import Counter
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from npmobilenet_weights_convert import read_model
from npmobilenet_weights_convert.tflite_file import read_tflite
from npmobilenet_weights_convert.tflite_graph import network_graph
from npmobilenet_weights_convert.tflite_metadata import read_metadata

import npmobilenet as nm
from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from npmobilenet.bench.export_tflite import write_tflite
from npmobilenet.bench.random_weights import random_model
from npmobilenet.compiler.passes import fuse
from npmobilenet.errors import AssumptionWarning, NpMobileNetError, WeightsError
from npmobilenet.models.labels import label_pairs
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import RAW, SYMMETRIC, Scaling
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.quantized.tensors import Network, Operator, Options, Tensor
from npmobilenet.reference.graph import Graph
from npmobilenet.types import Array
from tests.helpers.quantized_models import real_network, small_network
from tests.helpers.real_files import real_file
from tests.helpers.tflite_files import tflite_bytes
from tests.helpers.tolerances import SMALL, rounding
from tests.oracles.litert import litert_output

PHOTOGRAPHS = ("panda.jpg", "parrot.jpg")
LOGITS: dict[str, Any] = {"classifier_activation": None}  # a softmax would magnify the rounding of large logits


def assert_litert_agrees(model: Model, data: bytes, x: Array, tolerance: float | None = None) -> None:
    """The reference and the engine give LiteRT's output for x (1, H, W, C)."""
    wanted = litert_output(data, x)
    relative = tolerance or rounding(len(model.graph.layers))
    for backend in ("reference", "compiled"):
        y = model.forward(x, backend=backend)
        np.testing.assert_allclose(y, wanted, rtol=0, atol=relative * np.abs(wanted).max(), err_msg=backend)


@pytest.mark.parametrize(
    "graph",
    [
        mobilenet_v1(0.25, 64, **LOGITS), mobilenet_v2(0.35, (64, 96), **LOGITS),
        mobilenet_v3_small(0.75, 64, **LOGITS), mobilenet_v3_large(0.75, 64, minimalistic=True, **LOGITS),
    ],
    ids=lambda graph: graph.name,
)  # fmt: skip
def test_the_export_of_bench_comes_back(graph: Graph, tmp_path: Path) -> None:
    model = random_model(graph)
    path = tmp_path / "network.tflite"
    write_tflite(fuse(model.graph, model.params), 1, path)
    H, W, C = graph.input_shape
    x = model.scale(np.random.default_rng(0).integers(0, 256, (1, H, W, C)))
    again = read_model(path)
    assert_litert_agrees(again, path.read_bytes(), x, SMALL)
    assert again.graph.macs == graph.macs
    assert again.scaling == (RAW if "V3" in graph.name else SYMMETRIC)


def test_a_real_float_file() -> None:
    path = real_file("tflite", "vww_96_float.tflite")
    with pytest.warns(
        AssumptionWarning, match=r"the file does not specify how pixels are scaled; \[-1, 1\] is assumed"
    ):
        model = nm.load(path)
    assert isinstance(model, Model)
    assert model.graph.name == "vww_96_float"
    x = model.scale(model.pixels(real_file("images", "cat.bmp"))[None])
    assert_litert_agrees(model, path.read_bytes(), x)


@pytest.mark.parametrize(
    ("name", "graph"),
    [
        ("mobilenet_v1_0.25_128_quant", mobilenet_v1(0.25, 128, classes=1001)),
        ("mobilenet_v2_1.0_224_int8", mobilenet_v2(classes=1001)),
        ("mobilenet_v2_1.0_224_uint8", mobilenet_v2(classes=1001)),
        ("mobilenet_v3_small_1.0_224_uint8", mobilenet_v3_small(classes=1001)),
    ],
)
def test_a_float_twin_counts_and_answers_as_the_architecture(name: str, graph: Graph) -> None:
    """Its multiply-adds are those of the paper's table; it sees in a photograph what the integers see."""
    network = real_network(name)
    twin, params = network_graph(network)
    assert twin.macs == graph.macs
    model, quantized = Model(twin, params), QuantizedModel(network)
    for photograph in PHOTOGRAPHS if os.environ.get("NPMOBILENET_NIGHTLY") else PHOTOGRAPHS[: "v2" not in name]:
        pixels = quantized.pixels(real_file("images", photograph))[None]
        real = quantized.network.input.dequantize(quantized.scale(pixels))
        assert model.forward(real, backend="reference").argmax() == quantized.predict(pixels).argmax()


def test_a_twin_has_the_real_numbers_of_the_integers() -> None:
    network = small_network("uint8")
    twin, params = network_graph(network)
    assert [layer.name for layer in twin.layers[1:]] == ["conv", "depthwise", "pointwise", "pool", "dense", "softmax"]
    weights = network.tensors[4]
    for name, exact in (
        ("depthwise/kernel", (weights.integers - 128).reshape(3, 3, 8, 1) * float(weights.scale[0])),
        ("conv/bias", network.tensors[2].integers * float(network.tensors[2].scale[0])),
    ):
        assert np.array_equal(params[name], exact.astype(np.float32))


def float_network(weights: Array, *before: Operator) -> Network:
    """A pointwise convolution of float32 maps by weights that an operator may have to make."""
    kind = np.dtype(np.float32)
    tensors = (
        Tensor("x", (1, 4, 4, 3), kind),
        Tensor("weights", weights.shape, weights.dtype, None, weights),
        Tensor("weights as float32", weights.shape, kind),
        Tensor("y", (1, 4, 4, 5), kind),
        Tensor("bias", (5,), kind, None, np.linspace(-1, 1, 5, dtype=np.float32)),
    )
    convolution = Operator("CONV_2D", (0, 2 if before else 1, 4), (3,), Options(activation="relu6"))
    return Network("main", tensors, (*before, convolution), (0,), (3,))


def test_float16_weights_are_folded(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).normal(0, 1, (5, 1, 1, 3)).astype(np.float16)
    path = tmp_path / "half.tflite"
    path.write_bytes(tflite_bytes(float_network(weights, Operator("DEQUANTIZE", (1,), (2,)))))
    model = read_model(path, scaling=SYMMETRIC)
    assert np.array_equal(model.params["y/kernel"][0, 0], weights[:, 0, 0].T.astype(np.float32))
    assert_litert_agrees(model, path.read_bytes(), np.linspace(-1, 1, 48, dtype=np.float32).reshape(1, 4, 4, 3))


def with_metadata(data: bytes, labels: str, mean: list[float], std: list[float]) -> bytes:
    """A file with metadata: normalization of the input, and a label file in an appended archive."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(metadata_buffer("names.txt", mean, std), np.uint8)
    model.buffers.append(buffer)
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers) - 1
    model.metadata = [entry]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    file = BytesIO(bytes(builder.Output()))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("names.txt", labels)
    return file.getvalue()


def metadata_buffer(file: str, mean: list[float], std: list[float]) -> bytes:
    """ModelMetadata with one input and one output, by the slots of the public schema."""
    builder = flatbuffers.Builder()

    def table(slots: int, *fields: tuple[int, int]) -> int:
        builder.StartObject(slots)
        for slot, offset in fields:
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        return int(builder.EndObject())

    def vector(*offsets: int) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    numbers = [builder.CreateNumpyVector(np.array(values, np.float32)) for values in (mean, std)]
    options = table(2, *enumerate(numbers))
    builder.StartObject(2)
    builder.PrependUint8Slot(0, 1, 0)
    builder.PrependUOffsetTRelativeSlot(1, options, 0)
    image = table(7, (4, vector(builder.EndObject())))
    name = builder.CreateString(file)
    builder.StartObject(5)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    builder.PrependInt8Slot(2, 2, 0)
    output = table(7, (6, vector(builder.EndObject())))
    subgraph = table(7, (2, vector(image)), (3, vector(output)))
    builder.Finish(table(8, (3, vector(subgraph))), b"M001")
    return bytes(builder.Output())


def test_metadata_give_names_and_normalization(tmp_path: Path) -> None:
    path = tmp_path / "described.tflite"
    labels = "cat\ndog\nowl\nnewt\n"
    path.write_bytes(with_metadata(tflite_bytes(small_network()), labels, [0.0], [255.0]))
    metadata = read_metadata(path, path.read_bytes())
    assert metadata.scaling == Scaling(1 / 255, -0.0)
    model = read_model(path)
    assert [label for _, label in label_pairs(model.labels)] == ["cat", "dog", "owl", "newt"]
    assert model.scaling == Scaling(1 / 128, -1.0)  # integers are pixels, whatever the metadata says of real numbers
    data = tflite_bytes(float_network(np.ones((5, 1, 1, 3), np.float32)))
    path.write_bytes(with_metadata(data, labels, [10.0, 20.0, 30.0], [2.0, 4.0, 5.0]))
    assert read_model(path).scaling == Scaling((0.5, 0.25, 0.2), (-5.0, -5.0, -6.0))
    assert "assumed_range" not in read_model(path).source


def test_names_in_real_metadata() -> None:
    path = real_file("tflite", "mobilenet_v1_0.25_128_quant.tflite")
    metadata = read_metadata(path, path.read_bytes())
    assert metadata.scaling == Scaling(1 / 127.5, -1.0)
    model = read_model(path)
    assert len(model.labels) == 1001
    assert [label for _, label in label_pairs(model.labels[:2])] == ["background", "tench, Tinca tinca"]
    unnamed = read_model(real_file("tflite", "mobilenet_v2_1.0_224_uint8.tflite"))
    assert unnamed.background
    assert "logits" in unnamed.source["notes"]
    assert "notes" not in model.source


def test_a_shape_that_is_computed() -> None:
    """As Keras's Flatten is converted: the batch of a map's shape, packed with -1. Nothing else reads that map."""
    real, whole = np.dtype(np.float32), np.dtype(np.int32)
    constants = {3: [1, 4, 12], 5: [0], 6: [1], 7: [1]}
    described = {0: (1, 4, 4, 3), 1: (3, 48), 4: (4,), 8: (), 10: (2,), 11: (1, 48), 12: (1, 3), 2: (1, 4, 12)}
    weights = np.random.default_rng(0).normal(0, 1, (3, 48)).astype(np.float32)
    tensors = [
        Tensor(str(number), described.get(number, ()), whole if number in (4, 8, 10) else real) for number in range(13)
    ]
    for number, values in constants.items():
        tensors[number] = Tensor(str(number), (len(values),), whole, None, np.array(values, np.int32))
    tensors[9] = Tensor("9", (), whole, None, np.array(-1, np.int32))
    tensors[1] = Tensor("1", (3, 48), real, None, weights)
    operators = (
        Operator("RESHAPE", (0, 3), (2,)),
        Operator("SHAPE", (2,), (4,)),
        Operator("STRIDED_SLICE", (4, 5, 6, 7), (8,), Options(masks=(0, 0, 0, 0, 1))),
        Operator("PACK", (8, 9), (10,)),
        Operator("RESHAPE", (0, 10), (11,)),
        Operator("FULLY_CONNECTED", (11, 1), (12,)),
    )
    graph, params = network_graph(Network("flat", tuple(tensors), operators, (0,), (12,)))
    assert [layer.type for layer in graph.layers] == ["Input", "Flatten", "Dense"]
    x = np.random.default_rng(1).normal(0, 1, (2, 4, 4, 3))
    np.testing.assert_allclose(graph.output(params, x), x.reshape(2, 48) @ weights.T.astype(np.float64))


def test_a_network_that_does_not_take_one_image_is_refused(tmp_path: Path) -> None:
    network = float_network(np.ones((5, 1, 1, 3), np.float32))
    path = tmp_path / "sound.tflite"
    sound = replace(network.tensors[0], shape=(1, 44032))
    for other in (
        replace(network, tensors=(sound, *network.tensors[1:])),
        replace(network, inputs=(0, 5), tensors=(*network.tensors, sound)),
    ):
        path.write_bytes(tflite_bytes(other))
        with pytest.raises(WeightsError, match=r"expected one input of shape \(1, H, W, C\), got .*\(1, 44032\)"):
            read_model(path)


def test_a_small_file_does_not_fill_the_memory_when_it_is_opened(tmp_path: Path) -> None:
    """Large images, or wide borders, of a network whose output shape the file leaves out."""
    network, path = small_network(), tmp_path / "large.tflite"
    image, *between, output = network.tensors
    output = replace(output, shape=())
    large = (replace(image, shape=(1, 20000, 20000, 3)), *between, output)
    path.write_bytes(tflite_bytes(replace(network, tensors=large)))
    with pytest.raises(WeightsError, match=r"CONV_2D gives shape \(1, 10000, 10000, 8\), the file says"):
        read_model(path)
    amounts = np.array([[0, 0], [20000, 0], [0, 20000], [0, 0]], np.int32)
    border = Tensor("border", amounts.shape, amounts.dtype, None, amounts)
    tensors = (image, *between, output, border, replace(image, name="wide", shape=()))
    first, *others = network.operators
    pad = Operator("PAD", (0, len(large)), (len(large) + 1,))
    operators = (pad, replace(first, inputs=(*pad.outputs, *first.inputs[1:])), *others)
    path.write_bytes(tflite_bytes(replace(network, tensors=tensors, operators=operators)))
    with pytest.raises(WeightsError, match=r"CONV_2D gives shape \(1, 10006, 10005, 8\), the file says"):
        read_model(path)


JOINS = [Operator("CONCATENATION", (5 + n, 5 + n), (6 + n,)) for n in range(12)]


@pytest.mark.parametrize(
    ("operators", "message"),
    [([Operator("ADD", (4, 5), (6,))], "operator ADD of constants"), (JOINS, "make of each constant more than 8")],
)
def test_constants_are_not_multiplied(operators: list[Operator], message: str) -> None:
    """Sums of a row and a column, and joins of joins, would make of a small file what no memory holds."""
    network = float_network(np.ones((5, 1, 1, 3), np.float32))
    column = Tensor("column", (1000, 1), np.dtype(np.float32), None, np.ones((1000, 1), np.float32))
    made = (replace(column, name=f"join {number}", data=None) for number in range(12))
    tensors, outputs = (*network.tensors, column, *made), operators[-1].outputs
    with pytest.raises(WeightsError, match=message):
        network_graph(replace(network, tensors=tensors, operators=(*operators, *network.operators), outputs=outputs))


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (Operator("CONV_2D", (0, 1, 2), (3,), Options("same", (2, 1))), "another stride or dilation along rows"),
        (Operator("MEAN", (9, 10), (11,)), "over other axes than rows and columns"),
        (Operator("SOFTMAX", (14,), (15,), Options(beta=2.0)), "with beta 2"),
        (Operator("TRANSPOSE", (6, 10), (9,)), "operator TRANSPOSE is not supported"),
    ],
)
def test_what_a_graph_cannot_express_is_refused(operator: Operator, message: str) -> None:
    network = small_network()
    operators = tuple(operator if other.outputs == operator.outputs else other for other in network.operators)
    axes = replace(network.tensors[10], data=np.array([1, 3], np.int32))
    tensors = tuple(axes if number == 10 else tensor for number, tensor in enumerate(network.tensors))
    if operator.code != "MEAN":
        tensors = network.tensors
    with pytest.raises(WeightsError, match=message):
        network_graph(replace(network, operators=operators, tensors=tensors))


def test_a_changed_file_is_read_or_refused(tmp_path: Path) -> None:
    """Whatever byte is changed, there is a model that answers, and a graph, or an error of ours."""
    rng, outcomes = np.random.default_rng(7), Counter[str]()
    data, path = tflite_bytes(small_network()), tmp_path / "changed.tflite"
    for _ in range(6000 if os.environ.get("NPMOBILENET_NIGHTLY") else 600):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), int(rng.integers(1, 4))):
            changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        try:
            model = read_model(path)
            outcomes["read"] += 1
            with np.errstate(all="ignore"):
                model.predict(np.zeros(model.interface.input_shape, np.uint8), backend="reference")
            if isinstance(model, QuantizedModel):
                network_graph(model.network)
            outcomes["computed"] += 1
        except NpMobileNetError:
            pass
    assert outcomes["read"] >= outcomes["computed"] > 0


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    data = tflite_bytes(small_network())
    path = tmp_path / "cut.tflite"
    for kept in (8, 100, len(data) // 2):
        path.write_bytes(data[:kept])
        with pytest.raises(WeightsError, match=r"cut\.tflite: "):
            nm.load(path)
    assert read_tflite(data).name == "network"
