"""Networks quantized after training: what TensorFlow Lite requires of them, and that it computes them to the bit."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from npmobilenet_weights_convert.tflite_writer import tflite_bytes

from npmobilenet.compiler.operator_network import operator_network
from npmobilenet.compiler.passes import fuse
from npmobilenet.errors import WeightsError
from npmobilenet.quantized.agreement import compare
from npmobilenet.quantized.post_training import CHANNEL_AXIS, FIXED, KEEPS_SCALE, covering, quantized
from npmobilenet.quantized.real_numbers import real_trace
from npmobilenet.quantized.rules import RULES
from npmobilenet.quantized.running import compute, trace
from npmobilenet.quantized.tensors import Network, Tensor
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Input,
    MaxPooling2D,
    Multiply,
    Rescaling,
    Reshape,
    Subtract,
    ZeroPadding2D,
)
from npmobilenet.types import Array
from tests.helpers.networks import random_params
from tests.helpers.tolerances import LEAST_DECIBELS
from tests.oracles.litert import LiteRT
from tests.oracles.tflm import micro_tensors

K3 = (3, 3)
IMAGE = covering(-1, 1)


def everything() -> Graph:
    """Every operator that a layer becomes, and two outputs."""
    layers = (
        Input(name="x", shape=(14, 12, 3)),
        Conv2D(
            name="stem", inputs=("x",), filters=8, kernel_size=K3, stride=2, padding="same", activation="hard_swish"
        ),
        Conv2D(name="uneven", inputs=("stem",), filters=8, kernel_size=(3, 3), padding=((1, 1), (1, 1)), stride=2),
        BatchNormalization(name="norm", inputs=("stem",)),
        Activation(name="relu", inputs=("norm",), activation="relu"),
        DepthwiseConv2D(
            name="double", inputs=("relu",), kernel_size=K3, padding="same", depth_multiplier=2, activation="relu6"
        ),
        GlobalAveragePooling2D(name="means", inputs=("double",), keepdims=True),
        Conv2D(name="gate", inputs=("means",), filters=16, kernel_size=(1, 1), activation="hard_sigmoid"),
        Multiply(name="gated", inputs=("double", "gate")),
        Conv2D(name="project", inputs=("gated",), filters=8, kernel_size=(1, 1)),
        Add(name="sum", inputs=("project", "relu")),
        Subtract(name="difference", inputs=("sum", "relu")),
        Activation(name="silu", inputs=("difference",), activation="silu"),
        Activation(name="relu6", inputs=("silu",), activation="relu6"),
        ZeroPadding2D(name="padded", inputs=("relu6",), padding=((1, 0), (0, 0))),
        MaxPooling2D(name="largest", inputs=("padded",), kernel_size=(2, 2), stride=2),
        AveragePooling2D(name="average", inputs=("sum",), kernel_size=(3, 3), stride=2, padding="same"),
        Concatenate(name="all", inputs=("largest", "average", "uneven")),
        Rescaling(name="rescaled", inputs=("all",), scale=0.5, offset=0.25),
        GlobalMaxPooling2D(name="maxima", inputs=("rescaled",)),
        Dense(name="hidden", inputs=("maxima",), units=6, activation="sigmoid"),
        Dense(name="classes", inputs=("hidden",), units=5, activation="softmax"),
        Flatten(name="flat", inputs=("average",)),
        Reshape(name="pairs", inputs=("flat",), target_shape=(-1, 2)),
    )
    return Graph("everything", layers, (("classes", "classes"), ("pairs", "pairs")))


def float_network(graph: Graph, seed: int = 0) -> Network:
    return operator_network(fuse(graph, random_params(graph, seed)), name=graph.name)


def images(network: Network, seed: int, count: int = 3) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1, 1, network.input.shape).astype(np.float32) for _ in range(count)]


def ranges(network: Network, inputs: list[Array]) -> dict[int, tuple[float, float]]:
    """Least and largest value of every tensor."""
    seen: dict[int, list[float]] = {}
    for x in inputs:
        for operator, y in real_trace(network, x):
            seen.setdefault(operator.outputs[0], []).extend((float(y.min()), float(y.max())))
    return {number: (min(values), max(values)) for number, values in seen.items()}


def quantized_everything(seed: int = 0, *, uint8_input: bool = False) -> tuple[Network, Network]:
    network = float_network(everything(), seed)
    return network, quantized(network, ranges(network, images(network, seed)), IMAGE, uint8_input=uint8_input)


def how(tensor: Tensor) -> tuple[float, int]:
    return float(tensor.scale[0]), tensor.zero_point


def test_the_network_has_every_operator() -> None:
    _, network = quantized_everything()
    assert {operator.code for operator in network.operators} == {
        *CHANNEL_AXIS, *FIXED, *KEEPS_SCALE, "ADD", "SUB", "MUL", "MEAN", "HARD_SWISH", "RELU", "RELU6",
        "CONCATENATION", "QUANTIZE",
    }  # fmt: skip


@pytest.mark.parametrize("uint8_input", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_litert_computes_the_same_bits(seed: int, uint8_input: bool) -> None:
    """Every tensor, end to end."""
    _, network = quantized_everything(seed, uint8_input=uint8_input)
    x = network.input.quantize(images(network, seed)[0])
    assert x.dtype == (np.uint8 if uint8_input else np.int8)
    theirs = LiteRT(tflite_bytes(network)).tensors(x)
    for operator, y in trace(network, x):
        assert np.array_equal(theirs[operator.outputs[0]], y), (operator.code, network.label(operator))


def different(network: Network, x: Array, theirs: Mapping[int, Array], rule: str) -> list[str]:
    """Tensors that a rule makes of the oracle's own inputs, and that differ from the oracle's."""
    values = {**theirs, network.inputs[0]: x}
    tensors = [
        tensor if tensor.data is not None else replace(tensor, data=values.get(number))
        for number, tensor in enumerate(network.tensors)
    ]
    return [
        network.label(operator)
        for operator in network.operators
        if not np.array_equal(
            compute(operator, [tensors[i] for i in operator.inputs], tensors[operator.outputs[0]], RULES[rule]),
            theirs[operator.outputs[0]],
        )
    ]


def test_litert_s_default_computes_its_rule() -> None:
    _, network = quantized_everything()
    x = network.input.quantize(images(network, 0)[0])
    theirs = LiteRT(tflite_bytes(network), reference=False).tensors(x)
    assert different(network, x, theirs, "xnnpack") == []
    assert different(network, x, theirs, "tflite") != []


def test_tensorflow_lite_micro_computes_its_rule() -> None:
    _, network = quantized_everything()
    x = network.input.quantize(images(network, 0)[0])
    assert different(network, x, micro_tensors(tflite_bytes(network), x), "tflm") == []


@pytest.mark.parametrize("seed", range(3))
def test_it_is_near_the_float_network(seed: int) -> None:
    network, result = quantized_everything(seed)
    agreement = compare(network, result, images(network, seed), network.outputs[0])
    assert (agreement.images, agreement.same_class) == (3, 3)
    assert [layer.name for layer in agreement.layers] == [network.label(operator) for operator in network.operators]
    assert min(layer.decibels for layer in agreement.layers) > LEAST_DECIBELS


def test_other_classes_are_counted() -> None:
    """Scores with the opposite sign have another maximum."""
    network, result = quantized_everything()
    dense = [operator for operator in result.operators if operator.code == "FULLY_CONNECTED"][-1]
    opposite = tuple(
        replace(tensor, data=-tensor.data) if number in dense.inputs[1:] and tensor.data is not None else tensor
        for number, tensor in enumerate(result.tensors)
    )
    agreement = compare(network, replace(result, tensors=opposite), images(network, 0), network.outputs[0])
    assert (agreement.same_class, agreement.images) == (0, 3)
    scores = next(layer for layer in agreement.layers if layer.operator == "SOFTMAX")
    assert scores.decibels < LEAST_DECIBELS


def test_real_operators_are_the_layers() -> None:
    graph = everything()
    params = random_params(graph, 0)
    network = operator_network(fuse(graph, params), name=graph.name)
    (x,) = images(network, 0, 1)
    found = {operator.outputs[0]: y for operator, y in real_trace(network, x)}
    for number, expected in zip(network.outputs, graph.output(params, x).values(), strict=True):
        np.testing.assert_allclose(found[number], expected, rtol=1e-4, atol=1e-5)


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_a_range_is_covered_and_0_is_an_integer(a: float, b: float) -> None:
    tensor = Tensor("x", (3,), np.dtype(np.int8), covering(min(a, b), max(a, b)))
    assert tensor.dequantize(np.array([tensor.zero_point])) == 0
    assert -128 <= tensor.zero_point <= 127
    real = np.array([a, b, 0], np.float32)
    q = tensor.quantize(real)
    half_steps = np.abs(tensor.dequantize(q).astype(np.float64) - real) / float(tensor.scale[0])
    assert half_steps.max() <= 1.01  # half a step of the value, half a step of the zero point, and float32


def test_what_tensorflow_lite_requires() -> None:
    """Its 8-bit quantization specification, operator by operator."""
    _, network = quantized_everything()
    for operator in network.operators:
        x, y = network.tensors[operator.inputs[0]], network.tensors[operator.outputs[0]]
        if operator.code in FIXED:
            assert how(y) == (1 / 256, -128)
        elif operator.code in KEEPS_SCALE:
            assert how(y) == how(x)
        elif operator.code == "CONCATENATION":
            assert {how(network.tensors[number]) for number in operator.inputs} == {how(y)}
        elif operator.code in CHANNEL_AXIS:
            w, b = (network.tensors[number] for number in operator.inputs[1:])
            assert w.quantization is not None
            assert w.quantization.axis == CHANNEL_AXIS[operator.code]
            assert w.scale.shape == b.scale.shape == b.shape == (w.shape[w.quantization.axis],)
            assert not w.quantization.zero_point.any()
            assert -127 <= w.integers.min() <= w.integers.max() <= 127
            others = tuple(axis for axis in range(len(w.shape)) if axis != w.quantization.axis)
            assert set(np.abs(w.integers).max(others)) == {127}, "each channel uses all steps"
            assert b.dtype == np.int32
            np.testing.assert_array_equal(b.scale, (np.float64(x.scale[0]) * w.scale).astype(np.float32))


def test_weights_and_biases_are_the_nearest_integers() -> None:
    network, result = quantized_everything()
    for before, after in zip(network.tensors, result.tensors, strict=False):
        if before.data is not None and before.dtype == np.float32:
            assert after.data is not None
            assert after.quantization is not None
            scale = after.scale.astype(np.float64)
            along = tuple(
                -1 if axis == after.quantization.axis and scale.size > 1 else 1 for axis in range(before.data.ndim)
            )
            off = np.abs(after.dequantize(after.data) - before.data.astype(np.float64)) / scale.reshape(along)
            assert off.max() <= 0.5001 + 1e-7 * np.abs(after.integers).max(), before.name


def chain(*layers: Conv2D | Activation) -> Graph:
    return Graph("net", (Input(name="x", shape=(6, 6, 3)), *layers))


def test_channels_without_weights_keep_their_bias() -> None:
    graph = chain(Conv2D(name="conv", inputs=("x",), filters=4, kernel_size=(1, 1)))
    params = random_params(graph, 0)
    params["conv/kernel"][..., :2] = 0
    params["conv/kernel"][..., 2] = 1e-12
    params["conv/bias"] = np.array([0, 3, -3, 0.5], np.float32)
    network = operator_network(fuse(graph, params))
    inputs = images(network, 0)
    result = quantized(network, ranges(network, inputs), IMAGE)
    bias = result.tensors[result.operators[0].inputs[2]]
    assert bias.data is not None
    np.testing.assert_allclose(bias.dequantize(bias.data), params["conv/bias"], rtol=1e-4)
    q = result.input.quantize(inputs[0])
    ((_, y),) = trace(result, q)
    assert np.array_equal(LiteRT(tflite_bytes(result)).tensors(q)[result.outputs[0]], y)
    step = result.tensors[result.outputs[0]].scale[0]
    real = result.tensors[result.outputs[0]].dequantize(y)
    assert np.abs(real[..., :3] - params["conv/bias"][:3]).max() <= step


def test_a_hard_swish_that_is_nearly_0_has_steps_that_the_format_can_hold() -> None:
    graph = chain(Activation(name="swish", inputs=("x",), activation="hard_swish"))
    network = operator_network(fuse(graph, {}))
    result = quantized(network, {network.outputs[0]: (-1e-6, 0.0)}, covering(-10, 0))
    x = np.arange(-128, -20, dtype=np.int8).reshape(1, 6, 6, 3)
    ((_, y),) = trace(result, x)
    assert np.array_equal(LiteRT(tflite_bytes(result)).tensors(x)[result.outputs[0]], y)


def test_a_constant_network_is_computed() -> None:
    """A tensor that is always 0 has some scale."""
    graph = chain(Conv2D(name="conv", inputs=("x",), filters=4, kernel_size=(3, 3), activation="relu"))
    params = {name: -np.abs(array) for name, array in random_params(graph, 0).items()}
    network = operator_network(fuse(graph, params))
    result = quantized(network, {network.outputs[0]: (0.0, 0.0)}, covering(0, 1))
    x = np.full(result.input.shape, 100, np.int8)
    ((_, y),) = trace(result, x)
    assert np.array_equal(LiteRT(tflite_bytes(result)).tensors(x)[result.outputs[0]], y)
    assert not result.tensors[result.outputs[0]].dequantize(y).any()


def test_weights_that_are_not_finite_are_refused_by_name() -> None:
    graph = chain(Conv2D(name="conv", inputs=("x",), filters=4, kernel_size=(1, 1)))
    network = operator_network(fuse(graph, random_params(graph, 0)))
    broken = tuple(
        replace(tensor, data=np.full_like(tensor.data, np.inf)) if tensor.name == "conv/w" else tensor
        for tensor in network.tensors
    )
    with pytest.raises(WeightsError, match="conv/w: not all of its values are finite numbers"):
        quantized(replace(network, tensors=broken), {network.outputs[0]: (0.0, 1.0)}, IMAGE)
