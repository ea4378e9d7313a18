"""Ranges that end where the next operator is constant."""

from dataclasses import replace

import numpy as np
import pytest
from npmobilenet_weights_convert.tflite_writer import tflite_bytes

from npmobilenet.compiler.operator_network import operator_network
from npmobilenet.compiler.passes import fuse
from npmobilenet.quantized.agreement import compare
from npmobilenet.quantized.post_training import covering, quantized
from npmobilenet.quantized.real_numbers import real_trace
from npmobilenet.quantized.running import trace
from npmobilenet.quantized.saturation import MARGIN, saturation
from npmobilenet.quantized.tensors import Network
from npmobilenet.reference.activations import ACTIVATIONS
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Activation, Add, Conv2D, Input
from npmobilenet.types import Array
from tests.oracles.litert import LiteRT

WIDE = 60.0  # of the convolution's output, and more


def network(*layers: Activation | Add, outputs: tuple[str, ...] = ()) -> Network:
    """A convolution that multiplies pixels, -1 to 1, by +-`WIDE`, and layers after it."""
    conv = Conv2D(name="conv", inputs=("x",), filters=2, kernel_size=(1, 1), use_bias=False)
    named = tuple((name, name) for name in outputs)
    graph = Graph("net", (Input(name="x", shape=(16, 16, 1)), conv, *layers), named)
    return operator_network(fuse(graph, {"conv/kernel": np.array([[[[WIDE, -WIDE]]]], np.float32)}))


def activation(name: str, kind: str) -> Activation:
    return Activation(name=name, inputs=("conv",), activation=kind)


def image() -> Array:
    return np.linspace(-1, 1, 256, dtype=np.float32).reshape(1, 16, 16, 1)


def quantized_by_image(real: Network) -> Network:
    ranges = {operator.outputs[0]: (float(y.min()), float(y.max())) for operator, y in real_trace(real, image())}
    return quantized(real, ranges, covering(-1, 1))


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("hard_swish", -3, WIDE), ("hard_sigmoid", -3, 3), ("sigmoid", -np.log(511), np.log(511)), ("relu6", -WIDE, WIDE)],
)
def test_the_range_of_what_is_read_ends_where_the_activation_is_constant(kind: str, low: float, high: float) -> None:
    real = network(activation("y", kind))
    result = quantized_by_image(real)
    linear = result.tensors[result.operators[0].outputs[0]]
    if kind == "relu6":  # fused: no tensor of its own
        assert saturation(real) == {}
        return
    least, largest = linear.dequantize(np.array(linear.range))
    step = float(linear.scale[0])
    assert least == pytest.approx(low - MARGIN if low > -WIDE else low, abs=step)
    assert largest == pytest.approx(high + MARGIN if high < WIDE else high, abs=step)
    q = result.input.quantize(image())
    x = result.input.dequantize(q)
    expected = ACTIVATIONS[kind](WIDE * np.concatenate([x, -x], axis=3))
    found = {operator.outputs[0]: y for operator, y in trace(result, q)}[result.outputs[0]]
    y = result.tensors[result.outputs[0]]
    outside = (expected == 0) | (expected == 1)
    assert outside.sum() > 100
    assert np.abs(y.dequantize(found) - expected)[outside].max() <= y.scale[0], "nothing is lost beyond the limits"
    theirs = LiteRT(tflite_bytes(result)).tensors(q)
    assert np.array_equal(theirs[result.outputs[0]], found)


def test_what_something_else_reads_keeps_its_range() -> None:
    swish, gate = activation("swish", "hard_swish"), activation("gate", "hard_sigmoid")
    add = Add(name="sum", inputs=("conv", "swish"))
    conv = network(swish).operators[0].outputs[0]
    assert saturation(network(swish)) == {conv: (-3 - MARGIN, np.inf)}
    assert saturation(network(swish, gate, outputs=("swish", "gate"))) == {conv: (-3 - MARGIN, np.inf)}
    assert saturation(network(swish, add)) == {}
    assert saturation(network(swish, outputs=("swish", "conv"))) == {}


def test_values_beyond_the_limits_are_no_noise() -> None:
    real = network(activation("y", "hard_sigmoid"))
    agreement = compare(real, quantized_by_image(real), [image()], None)
    assert agreement.layers[0].operator == "CONV_2D"
    assert agreement.layers[0].decibels > 25


def test_only_the_3_of_a_hard_sigmoid_makes_one() -> None:
    real = network(activation("y", "hard_sigmoid"))
    other = tuple(
        replace(tensor, data=np.array(1, np.float32))
        if tensor.data is not None and np.array_equal(tensor.data, 3)
        else tensor
        for tensor in real.tensors
    )
    assert len(saturation(real)) == 1
    assert saturation(replace(real, tensors=other)) == {}
