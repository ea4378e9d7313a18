"""The reader of TensorFlow Lite files against LiteRT's generated classes, and on files that are damaged."""

import os
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from npmobilenet_weights_convert.flatbuffer import DamagedFileError
from npmobilenet_weights_convert.flexbuffer import read_map
from npmobilenet_weights_convert.tflite_file import read_tflite

from npmobilenet.architectures import mobilenet_v2, mobilenet_v3_small
from npmobilenet.bench.export_tflite import write_tflite
from npmobilenet.bench.random_weights import random_model
from npmobilenet.compiler.passes import fuse
from npmobilenet.errors import WeightsError
from npmobilenet.quantized.consistency import check_network
from npmobilenet.quantized.tensors import Network, Options
from npmobilenet.reference.graph import Graph
from tests.helpers.drawn_operators import OPERATORS, SIGNED, UNSIGNED, drawn_operator
from tests.helpers.real_files import real_file
from tests.helpers.tflite_files import FUSED, PADDINGS, TYPES, tflite_bytes

FILES = (
    "mobilenet_v1_0.25_128_quant", "mobilenet_v2_1.0_224_int8", "mobilenet_v2_1.0_224_uint8",
    "mobilenet_v3_small_1.0_224_uint8", "ssd_mobilenet_v1_coco_uint8", "vww_96_float", "vww_96_int8",
)  # fmt: skip
MUTATIONS = 20000 if os.environ.get("NPMOBILENET_NIGHTLY") else 400  # of each seed file
POST_PROCESSING = {
    "max_detections": 10, "max_classes_per_detection": 1, "num_classes": 90, "nms_score_threshold": 1e-8,
    "nms_iou_threshold": 0.6, "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0,
}  # fmt: skip


def theirs(data: bytes) -> Any:
    """The file by LiteRT's classes."""
    return schema.ModelT.InitFromPackedBuf(data, 0)


@pytest.mark.parametrize("name", FILES)
def test_real_files_are_read_as_by_litert(name: str) -> None:
    assert_read_as_by_litert(real_file("tflite", f"{name}.tflite").read_bytes())


@pytest.mark.parametrize("graph", [mobilenet_v2(0.35, 32), mobilenet_v3_small(0.75, 32)], ids=lambda graph: graph.name)
def test_exported_files_are_read_as_by_litert(graph: Graph, tmp_path: Path) -> None:
    model = random_model(graph)
    write_tflite(fuse(model.graph, model.params), 1, tmp_path / "exported.tflite")
    assert_read_as_by_litert((tmp_path / "exported.tflite").read_bytes())


def assert_read_as_by_litert(data: bytes) -> None:
    """Every field of a file is what LiteRT's classes say."""
    network, model = read_tflite(data), theirs(data)
    check_network(network)
    graph = model.subgraphs[0]
    assert (list(network.inputs), list(network.outputs)) == (list(graph.inputs), list(graph.outputs))
    for ours, other in zip(network.tensors, graph.tensors, strict=True):
        assert (ours.name, list(ours.shape), TYPES[ours.dtype.name]) == (
            other.name.decode(), [] if other.shape is None else list(other.shape), other.type,
        )  # fmt: skip
        content = model.buffers[other.buffer].data
        assert (b"" if content is None else bytes(content)) == (b"" if ours.data is None else ours.data.tobytes())
        scales = [] if other.quantization is None or other.quantization.scale is None else other.quantization.scale
        assert list(scales) == ([] if ours.quantization is None else list(ours.quantization.scale))
        if ours.quantization is not None:
            assert list(ours.quantization.zero_point) == list(other.quantization.zeroPoint)
            assert ours.quantization.axis == other.quantization.quantizedDimension
    for operator, other in zip(network.operators, graph.operators, strict=True):
        assert (list(operator.inputs), list(operator.outputs)) == (list(other.inputs), list(other.outputs))
        code = model.operatorCodes[other.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        assert getattr(schema.BuiltinOperator, operator.code.partition(":")[0]) == number
        if other.builtinOptions is not None:
            assert_options(operator.options, vars(other.builtinOptions))


def assert_options(ours: Options, other: dict[str, Any]) -> None:
    """Each of LiteRT's options is the same in ours; those that have no meaning for the operator's result are left."""
    pairs = {
        "stride": ("strideH", "strideW"), "dilation": ("dilationHFactor", "dilationWFactor"),
        "filter": ("filterHeight", "filterWidth"),
        "masks": ("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask"),
    }  # fmt: skip
    for name, fields in pairs.items():
        if fields[0] in other:
            assert getattr(ours, name) == tuple(other[field] for field in fields), name
    single = {
        "depthMultiplier": ours.multiplier, "keepDims": ours.keep_dims, "keepNumDims": ours.keep_dims,
        "beta": ours.beta, "axis": ours.axis, "padding": PADDINGS[ours.padding],
        "fusedActivationFunction": FUSED[ours.activation],
    }  # fmt: skip
    for name, value in single.items():
        assert other.get(name, value) == value, name
    for name in ("newShape", "squeezeDims"):
        if other.get(name) is not None:
            assert ours.shape == tuple(other[name])


@pytest.mark.parametrize("code", sorted(OPERATORS))
@pytest.mark.parametrize("dtype", [SIGNED, UNSIGNED])
def test_what_litert_writes_is_read_back(code: str, dtype: np.dtype[np.generic]) -> None:
    for seed in range(20):
        network = drawn_operator(code, seed, dtype).network
        back = read_tflite(tflite_bytes(network))
        check_network(back)
        assert_equal(back, network)


def assert_equal(ours: Network, other: Network) -> None:
    """Every field of two networks."""
    assert (ours.operators, ours.inputs, ours.outputs) == (other.operators, other.inputs, other.outputs)
    for a, b in zip(ours.tensors, other.tensors, strict=True):
        assert (a.name, a.shape, a.dtype, a.quantization is None) == (b.name, b.shape, b.dtype, b.quantization is None)
        if a.quantization is not None and b.quantization is not None:
            np.testing.assert_array_equal(a.quantization.scale, b.quantization.scale)
            np.testing.assert_array_equal(a.quantization.zero_point, b.quantization.zero_point)
            assert a.quantization.axis == b.quantization.axis
        if a.data is not None or b.data is not None:
            np.testing.assert_array_equal(a.data, b.data)


def test_options_of_the_post_processing_operator() -> None:
    network = read_tflite(real_file("tflite", "ssd_mobilenet_v1_coco_uint8.tflite").read_bytes())
    operator = network.operators[-1]
    assert operator.code == "CUSTOM:TFLite_Detection_PostProcess"
    found = dict(operator.options.custom)
    assert found.pop("use_regular_nms", False) is False
    assert found.pop("_output_quantized", None) in (True, None)
    assert found.pop("_support_output_type_float_in_quantized_op", None) in (True, None)
    assert found == pytest.approx(POST_PROCESSING, rel=1e-6)


def changed(**changes: object) -> bytes:
    """A small file with one thing changed in LiteRT's classes: `tensor_`, `operator_` or `model_` and the field."""
    model = theirs(tflite_bytes(drawn_operator("CONV_2D", 1, SIGNED).network))
    graph = model.subgraphs[0]
    for name, value in changes.items():
        kind, _, attribute = name.partition("_")
        item = {"tensor": graph.tensors[1], "operator": graph.operators[0], "code": model.operatorCodes[0]}.get(kind)
        setattr(model if item is None else item, attribute, value)
    return packed(model)


def packed(model: Any) -> bytes:
    """LiteRT's classes as a file."""
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tensor_type": 17}, "values of type int4 are not supported"),
        ({"tensor_type": 18}, "values of type bfloat16 are not supported"),
        ({"tensor_sparsity": schema.SparsityParametersT()}, "sparse weights are not supported"),
        ({"tensor_buffer": 99}, "there is no buffer 99, only"),
        ({"tensor_shape": [-1, 2, 3, 4]}, "expected sides that are not negative"),
        ({"tensor_shape": [1] * 65}, "65 axes; expected at most 8"),
        ({"operator_opcodeIndex": 7}, "there is no operator code 7"),
        ({"operator_inputs": [0, 77, 2]}, "there is no tensor 77"),
        ({"code_builtinCode": 28, "code_deprecatedBuiltinCode": 28}, "tensor_3: operator TANH is not supported"),
        ({"code_builtinCode": 999}, "operator number 999 is not supported"),
        ({"model_subgraphs": []}, "expected one subgraph, got 0"),
        ({"model_externalBuffers": [schema.ExternalBufferT()]}, "external buffers"),
    ],
)
def test_refused_by_name(changes: dict[str, object], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        read_tflite(changed(**changes))


def test_dynamic_range_quantization_is_refused_by_name() -> None:
    network = drawn_operator("FULLY_CONNECTED", 0, SIGNED).network
    x, w, b, y = network.tensors
    real = [replace(tensor, dtype=np.dtype(np.float32), quantization=None) for tensor in (x, y)]
    with pytest.raises(WeightsError, match="int8 weights on float activations"):
        read_tflite(tflite_bytes(replace(network, tensors=(real[0], w, b, real[1]))))


def test_int16_is_refused_by_name() -> None:
    network = drawn_operator("ADD", 0, SIGNED).network
    wide = tuple(replace(tensor, dtype=np.dtype(np.int16)) for tensor in network.tensors)
    with pytest.raises(WeightsError, match="quantized int16 is not supported"):
        check_network(read_tflite(tflite_bytes(replace(network, tensors=wide))))


def test_a_bias_with_scales_along_another_axis_is_read() -> None:
    """Files of TensorFlow Lite Micro and of older converters name axis 3, which a bias does not have."""
    network = next(
        network for seed in range(20)
        if (network := drawn_operator("DEPTHWISE_CONV_2D", seed, SIGNED).network).tensors[2].scale.size > 1
    )  # fmt: skip
    model = theirs(tflite_bytes(network))
    model.subgraphs[0].tensors[2].quantization.quantizedDimension = 3
    back = read_tflite(packed(model))
    check_network(back)
    bias = network.tensors[2]
    assert np.array_equal(back.tensors[2].dequantize(bias.integers), bias.dequantize(bias.integers))


def test_an_output_that_is_listed_twice_is_refused() -> None:
    network = drawn_operator("ADD", 0, SIGNED).network
    with pytest.raises(WeightsError, match="an output is listed twice"):
        check_network(replace(network, outputs=network.outputs * 2))


def sharing(tables: int, field: str) -> bytes:
    """A file of a few kilobytes whose tensors, or buffers, all share 60 kB."""
    builder = flatbuffers.Builder(0)
    size = 60_000
    shared = {
        "data": builder.CreateByteVector(bytes(size)), "name": builder.CreateString("n" * size),
        "shape": builder.CreateNumpyVector(np.ones(size // 4, np.int32)),
    }  # fmt: skip

    def table(slots: int, **fields: int) -> int:
        builder.StartObject(slots)
        for slot, offset in fields.items():
            builder.PrependUOffsetTRelativeSlot(int(slot[1:]), offset, 0)
        return int(builder.EndObject())

    def vector(count: int, offset: int) -> int:
        builder.StartVector(4, count, 4)
        for _ in range(count):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    buffers = vector(1, table(3, **({"_0": shared["data"]} if field == "data" else {})))
    described = {"name": {"_3": shared["name"]}, "shape": {"_0": shared["shape"]}, "data": {}}[field]
    shape = builder.CreateNumpyVector(np.array([size // 4], np.int32))
    tensor = table(11, **(described if field == "shape" else described | {"_0": shape}))
    graph = table(5, _0=vector(tables, tensor))
    builder.Finish(table(10, _2=vector(1, graph), _4=buffers), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize(
    ("field", "message"), [("name", "its tables share bytes"), ("data", "its tables share bytes"), ("shape", "axes")]
)
def test_tables_that_share_bytes_do_not_multiply_them(field: str, message: str) -> None:
    """1.2 GB in 300 kB."""
    data = sharing(20_000, field)
    assert len(data) < 300_000
    tracemalloc.start()
    with pytest.raises(WeightsError, match=message):
        read_tflite(data)
    assert tracemalloc.get_traced_memory()[1] < 40e6
    tracemalloc.stop()


def test_more_tables_than_a_network_has() -> None:
    with pytest.raises(DamagedFileError, match="100001 tables"):
        read_tflite(sharing(100_001, "name"))


def test_not_a_tensorflow_lite_file() -> None:
    with pytest.raises(WeightsError, match="expected a TensorFlow Lite file"):
        read_tflite(b"PK\x03\x04something else")


def test_constants_after_the_flatbuffer() -> None:
    """Files of more than 2 GB keep constants outside of the FlatBuffer, at an offset."""
    network = drawn_operator("CONV_2D", 1, SIGNED).network
    model = theirs(tflite_bytes(network))
    content = bytes(model.buffers[1].data)
    model.buffers[1].data, model.buffers[1].offset, model.buffers[1].size = None, 10**6, len(content)
    data = packed(model).ljust(10**6, b"\0") + content
    assert_equal(read_tflite(data), network)
    with pytest.raises(WeightsError, match="it is cut off"):
        read_tflite(data[:-1])


def seeds() -> list[bytes]:
    """Small files with every operator."""
    return [tflite_bytes(drawn_operator(code, 1, SIGNED).network) for code in sorted(OPERATORS)]


@pytest.mark.parametrize("number", range(len(OPERATORS)))
def test_damaged_files_are_read_or_refused(number: int) -> None:
    data, rng = seeds()[number], np.random.default_rng(number)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(MUTATIONS):
        damaged = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(0, len(damaged)))
            damaged[place] = int(rng.choice([0, 1, 127, 128, 255, int(rng.integers(0, 256))]))
        if rng.random() < 0.1:
            del damaged[int(rng.integers(0, len(damaged))) :]
        try:
            check_network(read_tflite(bytes(damaged)))
            outcomes["read"] += 1
        except WeightsError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 0


def test_damaged_options_are_refused() -> None:
    network = theirs(real_file("tflite", "ssd_mobilenet_v1_coco_uint8.tflite").read_bytes())
    data = bytes(network.subgraphs[0].operators[-1].customOptions)
    assert len(read_map(data)) > 5
    rng = np.random.default_rng(0)
    for _ in range(3000):
        damaged = bytearray(data)
        damaged[int(rng.integers(0, len(data)))] = int(rng.integers(0, 256))
        try:
            read_map(bytes(damaged[: int(rng.integers(1, len(data) + 1))]))
        except DamagedFileError:
            continue


def test_a_file_that_is_cut_off_says_so(tmp_path: Path) -> None:
    data = tflite_bytes(drawn_operator("CONV_2D", 0, SIGNED).network)
    with pytest.raises(DamagedFileError, match="it is damaged or cut off"):
        read_tflite(data[: len(data) // 2])
