"""TensorFlow Lite files that are written: read back by our reader and by LiteRT's own, and run."""

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st
from npmobilenet_weights_convert import flatbuffer
from npmobilenet_weights_convert.flatbuffer_writer import Fields, Nodes, Number, Numbers, Text
from npmobilenet_weights_convert.flatbuffer_writer import flatbuffer as written
from npmobilenet_weights_convert.tflite_file import read_tflite
from npmobilenet_weights_convert.tflite_writer import OPTIONS, tflite_bytes

from npmobilenet.errors import WeightsError
from npmobilenet.quantized.tensors import Network, Operator, Options, Tensor
from tests.helpers.real_files import real_file
from tests.oracles.litert import LiteRT

FILES = (
    "mobilenet_v1_0.25_128_quant", "mobilenet_v2_1.0_224_int8", "mobilenet_v3_small_1.0_224_uint8",
    "ssd_mobilenet_v1_coco_uint8", "vww_96_float", "vww_96_int8",
)  # fmt: skip
FLOAT32 = np.dtype(np.float32)


@pytest.fixture(scope="module", params=FILES)
def original(request: pytest.FixtureRequest) -> bytes:
    """A real file."""
    return real_file("tflite", f"{request.param}.tflite").read_bytes()


@pytest.fixture(scope="module")
def network(original: bytes) -> Network:
    """The network in it, up to the operators that are not TensorFlow Lite's own."""
    found = read_tflite(original)
    builtin = tuple(operator for operator in found.operators if not operator.code.startswith("CUSTOM"))
    return replace(found, operators=builtin, outputs=builtin[-1].outputs)


def description(tensor: Tensor) -> tuple[Any, ...]:
    """All that there is to a tensor, arrays as lists."""
    how = tensor.quantization
    numbers = None if how is None else (how.scale.tolist(), how.zero_point.tolist(), how.axis)
    values = None if tensor.data is None else tensor.data.tolist()
    return tensor.name, tensor.shape, tensor.dtype, numbers, values


def test_what_is_read_back_is_equal(network: Network) -> None:
    again = read_tflite(tflite_bytes(network))
    assert list(map(description, again.tensors)) == list(map(description, network.tensors))
    for field in ("name", "operators", "inputs", "outputs"):
        assert getattr(again, field) == getattr(network, field)


def test_litert_computes_what_it_computes_from_the_original(original: bytes, network: Network) -> None:
    image = network.input
    x = np.random.default_rng(0).integers(0, 100, image.shape).astype(image.dtype)
    theirs, ours = (LiteRT(data).tensors(x) for data in (original, tflite_bytes(network)))
    for operator in network.operators:
        assert np.array_equal(theirs[operator.outputs[0]], ours[operator.outputs[0]]), network.label(operator)


OPTION_VALUES = (
    Options(padding="same", stride=(2, 1), dilation=(1, 3), filter=(2, 5), activation="relu6", multiplier=3),
    Options(keep_dims=True, beta=0.5, axis=2, shape=(1, 6), masks=(1, 2, 0, 0, 4), activation="relu"),
)


def operator_network(code: str, options: Options) -> Network:
    """One operator, with a tensor of every type."""
    types = ("float32", "float64", "float16", "int8", "uint8", "int32", "int64", "bool")
    tensors = [Tensor(name, (1, 2), np.dtype(name), None, np.array([[0, 1]], name)) for name in types]
    y = Tensor("y", (1, 2), FLOAT32)
    return Network("net", (y, *tensors), (Operator(code, (1, 2, -1), (0,), options),), (1,), (0,))


@pytest.mark.parametrize("options", OPTION_VALUES)
@pytest.mark.parametrize("code", OPTIONS)
def test_options_are_those_that_litert_reads(code: str, options: Options) -> None:
    """Against LiteRT's generated classes, field by field; and ours keep what the operator has."""
    model = schema.ModelT.InitFromPackedBuf(tflite_bytes(operator_network(code, options)), 0)
    (operator,) = model.subgraphs[0].operators
    assert list(operator.inputs) == [1, 2, -1]
    table = operator.builtinOptions
    expected = schema.BuiltinOptions.__dict__[type(table).__name__.removesuffix("T")]
    assert operator.builtinOptionsType == expected
    names = {
        "strideH": options.stride[0], "strideW": options.stride[1], "dilationHFactor": options.dilation[0],
        "dilationWFactor": options.dilation[1], "filterHeight": options.filter[0], "filterWidth": options.filter[1],
        "depthMultiplier": options.multiplier, "keepDims": options.keep_dims, "keepNumDims": options.keep_dims,
        "beta": options.beta, "axis": options.axis, "padding": ("same", "valid").index(options.padding),
        "beginMask": options.masks[0], "endMask": options.masks[1], "shrinkAxisMask": options.masks[4],
        "fusedActivationFunction": {"linear": 0, "relu": 1, "relu6": 3}[options.activation],
    }  # fmt: skip
    for name, value in names.items():
        assert getattr(table, name, value) == value, name
    for name in ("newShape", "squeezeDims"):
        found = getattr(table, name, options.shape)
        assert tuple(() if found is None else found) == options.shape
    (again,) = read_tflite(tflite_bytes(operator_network(code, options))).operators
    assert OPTIONS[code][1](again.options).keys() == OPTIONS[code][1](options).keys()


def test_constants_are_aligned(network: Network) -> None:
    data = tflite_bytes(network)
    model = schema.Model.GetRootAs(data, 0)
    places = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers(model) if buffer.DataLength()]
    assert len(places) > 10
    assert {place % 16 for place in places} == {0}


def buffers(model: Any) -> Iterator[Any]:
    return (model.Buffers(number) for number in range(model.BuffersLength()))


@pytest.mark.parametrize("code", ["CUSTOM:TFLite_Detection_PostProcess", "CUSTOM", "LSTM"])
def test_operators_that_are_not_written_are_refused_by_name(code: str) -> None:
    network = Network(
        "net", (Tensor("x", (1,), FLOAT32), Tensor("y", (1,), FLOAT32)), (Operator(code, (0,), (1,)),), (0,), (1,)
    )
    with pytest.raises(WeightsError, match=f"y: operator {code} cannot be written"):
        tflite_bytes(network)


def test_types_that_are_not_written_are_refused_by_name() -> None:
    with pytest.raises(WeightsError, match="tensor x: values of type complex128 cannot be written"):
        tflite_bytes(Network("net", (Tensor("x", (1,), np.dtype(complex)),), (), (0,), (0,)))


vectors = st.lists(st.integers(-9, 9)).map(lambda values: Numbers(np.array(values, np.int16)))
numbers = st.builds(Number, st.sampled_from("bBhif"), st.integers(0, 99))
values = st.recursive(
    st.builds(Text, st.text(max_size=9)) | vectors,
    lambda nodes: st.builds(Fields, st.dictionaries(st.integers(0, 7), nodes | numbers)),
    max_leaves=8,
)


@given(st.dictionaries(st.integers(0, 9), values, max_size=5))
def test_any_table_is_read_back(fields: dict[int, Any]) -> None:
    check(flatbuffer.root(written(Fields(fields), b"TEST")), fields)


def check(table: flatbuffer.Table, fields: dict[int, Any]) -> None:
    """Every field, by its slot, is what was written."""
    for slot, field in fields.items():
        match field:
            case Number(code, value):
                assert table.number(slot, code, -1) == value
            case Text(text):
                assert table.string(slot) == text
            case Numbers(numbers):
                assert np.array_equal(table.numbers(slot, "i2"), numbers)
            case Fields(inner):
                below = table.table(slot)
                assert below is not None
                check(below, dict(inner))
    for slot in set(range(12)) - fields.keys():
        assert table.number(slot, "b", 77) == 77


@given(st.dictionaries(st.integers(0, 9), numbers | st.just(Text("text"))))
def test_fields_are_aligned(fields: dict[int, Any]) -> None:
    table = flatbuffer.root(written(Fields(fields), b"TEST"))
    for slot, field in fields.items():
        place = table._field(slot)
        assert place is not None
        assert place % (struct.calcsize(field.code) if isinstance(field, Number) else 4) == 0


def test_vectors_of_tables_keep_their_order() -> None:
    tables = flatbuffer.root(
        written(Fields({0: Nodes([Fields({1: Number("i", n)}) for n in range(5)])}), b"TEST")
    ).tables(0)
    assert [table.number(1, "i") for table in tables] == list(range(5))
