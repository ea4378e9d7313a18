"""Every operator on drawn tensors, bit-equal with LiteRT's two interpreters and TensorFlow Lite Micro."""

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from npmobilenet.errors import ArgumentError, ShapeError, WeightsError
from npmobilenet.quantized.rules import RULES, find_rule
from npmobilenet.quantized.running import compute, run
from npmobilenet.quantized.tensors import Operator
from npmobilenet.types import Array
from tests.helpers.drawn_operators import OPERATORS, SIGNED, UNSIGNED, DrawnOperator, drawn_operator
from tests.helpers.strategies import SEEDS
from tests.helpers.tflite_files import tflite_bytes
from tests.oracles.litert import LiteRT
from tests.oracles.tflm import micro_runtime, micro_tensors

EXAMPLES = 3000 if os.environ.get("NPMOBILENET_NIGHTLY") else 12
TYPES = st.sampled_from([SIGNED, UNSIGNED])
CODES = sorted(OPERATORS)


def computed(drawn: DrawnOperator, rule: str) -> Array:
    """The operator's output under a rule."""
    network = drawn.network
    (operator,) = network.operators
    tensors = dict(enumerate(network.tensors))
    for number, x in zip(network.inputs, drawn.inputs, strict=True):
        tensors[number] = replace(tensors[number], data=x)
    return compute(operator, [tensors[number] for number in operator.inputs], tensors[operator.outputs[0]], RULES[rule])


def equal(y: Array, z: Array) -> bool:
    """Whether two arrays have the same type and values."""
    return y.dtype == z.dtype and y.shape == z.shape and bool(np.array_equal(y, z))


@pytest.mark.parametrize(("rule", "reference"), [("tflite", True), ("xnnpack", False)])
@pytest.mark.parametrize("code", CODES)
def test_as_litert(code: str, rule: str, reference: bool) -> None:
    @settings(max_examples=EXAMPLES)
    @given(SEEDS, TYPES)
    @example(8, SIGNED)  # a change of type with halves
    @example(134, UNSIGNED)  # a logistic that float32 and float64 round apart
    def check(seed: int, dtype: np.dtype[np.generic]) -> None:
        drawn = drawn_operator(code, seed, dtype)
        theirs = LiteRT(tflite_bytes(drawn.network), reference=reference).tensors(*drawn.inputs)
        assert equal(computed(drawn, rule), theirs[drawn.network.outputs[0]])

    check()


@pytest.mark.parametrize("code", CODES)
def test_as_tensorflow_lite_micro(code: str) -> None:
    micro_runtime()

    @settings(max_examples=EXAMPLES)
    @given(SEEDS)
    @example(363)  # a hard swish that float32 and float64 round apart
    def check(seed: int) -> None:
        drawn = drawn_operator(code, seed, SIGNED)
        theirs = micro_tensors(tflite_bytes(drawn.network), *drawn.inputs)
        assert equal(computed(drawn, "tflm"), theirs[drawn.network.outputs[0]])

    check()


@pytest.mark.parametrize(
    ("code", "one", "other", "seed"),
    [
        ("CONV_2D", "tflite", "single", 16),
        ("CONV_2D", "tflite", "xnnpack", 16),
        ("CONV_2D", "tflite", "neon", 16),
        ("CONV_2D", "neon", "single", 31),
        ("DEPTHWISE_CONV_2D", "tflite", "single", 0),
        ("DEPTHWISE_CONV_2D", "tflite", "xnnpack", 0),
        ("FULLY_CONNECTED", "tflite", "tflm", 36),
        ("ADD", "tflite", "xnnpack", 935),
        ("MUL", "tflite", "single", 1),
        ("MEAN", "tflite", "xnnpack", 9),
        ("LOGISTIC", "tflite", "tflm", 134),
        ("RELU6", "tflite", "tflm", 0),
        ("SOFTMAX", "tflite", "xnnpack", 1406),
        ("QUANTIZE", "tflite", "xnnpack", 1),
    ],
)
def test_rules_differ(code: str, one: str, other: str, seed: int) -> None:
    """A rule that computed as another would be noticed: some drawn values tell them apart."""
    drawn = drawn_operator(code, seed, SIGNED)
    assert not equal(computed(drawn, one), computed(drawn, other))


def test_softmax_of_many_equal_classes() -> None:
    """1,000 equal probabilities of 0.001 round to nothing; the reference kernel of TensorFlow Lite ends the process."""
    drawn = drawn_operator("SOFTMAX", 0, SIGNED)
    x, y = (replace(tensor, shape=(1, 1000)) for tensor in drawn.network.tensors)
    network = replace(drawn.network, tensors=(x, y))
    (probabilities,) = run(network, np.zeros((1, 1000), np.int8))
    assert np.all(probabilities == -128)


def test_an_unknown_operator_is_named() -> None:
    drawn = drawn_operator("RELU", 0, SIGNED)
    with pytest.raises(WeightsError, match=r"tensor_1: operator TANH is not supported"):
        compute(Operator("TANH", (0,), (1,)), drawn.network.tensors[:1], drawn.network.tensors[1])


def test_another_input_is_refused() -> None:
    network = drawn_operator("RELU", 0, SIGNED).network
    with pytest.raises(ShapeError, match="expected int8 of shape"):
        run(network, np.zeros((1, 2), np.uint8))


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ArgumentError, match="unknown rule 'gemmlowp'; expected tflite, xnnpack"):
        find_rule("gemmlowp")
