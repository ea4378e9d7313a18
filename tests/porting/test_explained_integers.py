"""Values of quantized networks from their terms, computed a second time in Python's integers."""

import os
from collections.abc import Sequence
from fractions import Fraction
from math import frexp
from pathlib import Path

import numpy as np
import pytest
from npmobilenet_weights_convert.tflite_file import read_tflite
from PIL import Image

from npmobilenet.errors import ArgumentError
from npmobilenet.porting.explained_integers import computed_tensors, explain_integer
from npmobilenet.porting.rescaled_value import rescaled
from npmobilenet.quantized.rules import RULES, TFLITE
from npmobilenet.quantized.tensors import Network, Operator, Tensor
from npmobilenet.types import Array
from tests.helpers.command_line import document, run
from tests.helpers.drawn_quantized import drawn_network
from tests.helpers.real_files import real_file

FILES = ("mobilenet_v1_0.25_128_quant", "mobilenet_v3_small_1.0_224_uint8", "vww_96_int8")
PLACES = 40 if os.environ.get("NPMOBILENET_NIGHTLY") else 1  # of every layer


@pytest.fixture(scope="module", params=FILES)
def path(request: pytest.FixtureRequest) -> Path:
    return real_file("tflite", f"{request.param}.tflite")


@pytest.fixture(scope="module")
def network(path: Path) -> Network:
    return read_tflite(path.read_bytes())


@pytest.fixture(scope="module")
def x(network: Network) -> Array:
    return photograph(network)


def photograph(network: Network) -> Array:
    """A photograph as integers of a network's input."""
    _, H, W, _ = network.input.shape
    with Image.open(real_file("images", "panda.jpg")) as image:
        pixels = np.asarray(image.convert("RGB").resize((W, H)))[None]
    return pixels if network.input.dtype == np.uint8 else (pixels ^ 0x80).view(np.int8)


def rounded_away(value: Fraction) -> int:
    """The nearest integer, halves away from zero."""
    size = int(abs(value) + Fraction(1, 2))
    return size if value >= 0 else -size


def fixed(M: float) -> tuple[int, int]:
    """M as a multiplier of 31 bits and an exponent."""
    f, e = frexp(M)
    q = rounded_away(Fraction(f) * 2**31)
    return (q // 2, e + 1) if q == 2**31 else (q, e)


def twice(acc: int, q: int, e: int) -> int:
    """acc q 2^(e-31) in two steps: halves up, then halves away from zero."""
    high = (Fraction(acc * 2 ** max(e, 0) * q, 2**31) + Fraction(1, 2)).__floor__()
    return rounded_away(Fraction(high, 2 ** max(-e, 0)))


def factor(x: Tensor, w: Tensor, y: Tensor, c: int) -> float:
    sw = w.scale[c if w.scale.size > 1 else 0]
    if y.dtype == np.uint8:
        return float(np.float32(x.scale[0] * sw)) / float(y.scale[0])
    return float(x.scale[0]) * float(sw) / float(y.scale[0])


def accumulator(operator: Operator, inputs: Sequence[Tensor], y: Tensor, at: Sequence[int]) -> int:
    """The sum of a convolution or dense layer, tap by tap."""
    x, w = inputs[:2]
    assert x.data is not None
    assert w.data is not None
    total = int(inputs[2].integers[at[-1]]) if len(inputs) > 2 else 0
    if operator.code == "FULLY_CONNECTED":
        values = x.data.ravel()
        return total + sum(
            (int(values[k]) - x.zero_point) * (int(w.data[at[-1], k]) - w.zero_point) for k in range(w.shape[1])
        )
    Y, X, c = at
    H, W, C = x.data.shape[1:]
    o = operator.options
    K = w.shape[1:3]
    before = [0, 0]
    if o.padding == "same":
        before = [
            max((-(-side // s) - 1) * s + (k - 1) * d + 1 - side, 0) // 2
            for side, s, k, d in zip((H, W), o.stride, K, o.dilation, strict=True)
        ]
    for u in range(K[0]):
        for v in range(K[1]):
            row, column = (
                Y * o.stride[0] + u * o.dilation[0] - before[0],
                X * o.stride[1] + v * o.dilation[1] - before[1],
            )
            if not (0 <= row < H and 0 <= column < W):
                continue
            if operator.code == "DEPTHWISE_CONV_2D":
                source = c // (w.shape[3] // C)
                total += (int(x.data[0, row, column, source]) - x.zero_point) * (int(w.data[0, u, v, c]) - w.zero_point)
            else:
                for k in range(C):
                    total += (int(x.data[0, row, column, k]) - x.zero_point) * (int(w.data[c, u, v, k]) - w.zero_point)
    return total


def recomputed(
    operator: Operator, inputs: Sequence[Tensor], y: Tensor, at: Sequence[int], limits: tuple[int, int]
) -> int:
    """An operator's integer under the rule `tflite`."""
    if operator.code == "FULLY_CONNECTED":
        M = float(inputs[0].scale[0]) * float(inputs[1].scale[at[-1] if inputs[1].scale.size > 1 else 0])
        steps = rounded_away(Fraction(accumulator(operator, inputs, y, at) * (M / float(y.scale[0]))))
    elif operator.code in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        steps = twice(accumulator(operator, inputs, y, at), *fixed(factor(inputs[0], inputs[1], y, at[-1])))
    else:
        a, b = (int(np.broadcast_to(t.integers, y.shape)[(0, *at)]) - t.zero_point for t in inputs)
        if operator.code == "MUL":
            steps = twice(a * b, *fixed(float(np.float32(inputs[0].scale[0] * inputs[1].scale[0]) / y.scale[0])))
        else:
            s1, s2 = (float(t.scale[0]) for t in inputs)
            common = 2 * max(s1, s2)
            total = twice(a << 20, *fixed(s1 / common)) + twice(b << 20, *fixed(s2 / common))
            steps = twice(total, *fixed(common / (2**20 * float(y.scale[0]))))
    return min(max(steps + y.zero_point, limits[0]), limits[1])


SUMS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
RECOMPUTED = (*SUMS, "ADD", "MUL")


def test_drawn_places_of_every_layer(network: Network, x: Array) -> None:
    """Terms, accumulator and integer; the runner's integer; the sum of the terms."""
    rng = np.random.default_rng(1)
    tensors = computed_tensors(network, x, network.operators[-1], TFLITE)
    for operator in network.operators:
        y, inputs = tensors[operator.outputs[0]], [tensors[i] for i in operator.inputs if i >= 0]
        if y.quantization is None or y.integers.ndim == 3:
            continue
        for _ in range(PLACES):
            at = tuple(int(rng.integers(side)) for side in y.integers.shape[1:])
            explained = explain_integer(network, tensors, operator, (0, 0, *at)[-3:], TFLITE)
            assert explained.value == y.integers[(0, *at)] == explained.by_rule["tflite"]
            for name, value in explained.steps.rescalings.items():
                if name in ("", "sum"):
                    assert explained.value == np.clip(value.steps + explained.zero_point, *explained.limits)
            if operator.code in RECOMPUTED:
                assert explained.value == recomputed(operator, inputs, y, at, explained.limits), y.name
            if operator.code in SUMS:
                assert explained.steps.numbers["accumulator"] == accumulator(operator, inputs, y, at), y.name


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_ends_at_the_integer_of_the_runner(rule: str) -> None:
    """The value after the last rounding, with zero point and limits; the same integer in the table of rules."""
    for seed in range(2):
        network = drawn_network(seed)
        x = np.random.default_rng(seed).integers(0, 256, network.input.shape).astype(np.uint8).view(network.input.dtype)
        tensors = computed_tensors(network, x, network.operators[-1], RULES[rule])
        for operator in network.operators:
            y = tensors[operator.outputs[0]].integers
            for k in range(2):
                at = tuple(int(i) for i in np.random.default_rng(k).integers(y.shape[1:]))
                explained = explain_integer(network, tensors, operator, at, RULES[rule])
                assert explained.value == y[(0, *at)] == explained.by_rule[rule]
                if last := list(explained.steps.rescalings.values())[-1:]:
                    value = np.clip(last[0].steps + explained.zero_point, *explained.limits)
                    assert explained.value == value, (operator.code, at)
                if operator.code == "AVERAGE_POOL_2D":
                    numbers = explained.steps.numbers
                    assert numbers["sum"] == sum(term.x for term in explained.steps.terms)
                    assert abs(explained.value - numbers["mean"]) <= 0.5


def test_ties_are_seen() -> None:
    """acc M = 2.5 and -2.5: halves up, away from zero, and to even give different integers."""
    up, down = rescaled(5, 0.5, "twice"), rescaled(-5, 0.5, "twice")
    assert (up.q, up.e, up.high, up.before, up.tie, up.steps) == (2**30, 0, 3, 3.0, False, 3)
    assert (down.high, down.steps) == (-2, -2)  # with s = 0 the only rounding is halves up
    quarter = rescaled(-10, 0.25, "twice")
    assert (quarter.e, quarter.high, quarter.before, quarter.tie, quarter.steps) == (-1, -5, -2.5, True, -3)
    assert [rescaled(-10, 0.25, rounding).steps for rounding in ("once", "up_twice", "float32", "float64")] == [
        -2,
        -2,
        -2,
        -3,
    ]
    assert all(rescaled(-10, 0.25, rounding).tie for rounding in ("once", "up_twice", "float32", "float64", "mantissa"))
    assert not rescaled(-11, 0.25, "once").tie


def test_places_and_layers_that_are_not_there(network: Network, x: Array) -> None:
    tensors = computed_tensors(network, x, network.operators[0], TFLITE)
    H, W, C = tensors[network.operators[0].outputs[0]].integers.shape[1:]
    for at in ((H, 0, 0), (0, W, 0), (0, 0, C), (-1, 0, 0)):
        with pytest.raises(ArgumentError, match=f"within {H} x {W} x {C}"):
            explain_integer(network, tensors, network.operators[0], at, TFLITE)


def test_the_command(path: Path) -> None:
    """By name, number and pattern; text and JSON say the same."""
    image = real_file("images", "panda.jpg")
    network = read_tflite(path.read_bytes())
    name = network.label(network.operators[1])
    command = ("explain", path, image, "--at", 3, 4, 5)
    found = document(run(*command, "--layer", 1, "--json"))
    assert found == document(run(*command, "--layer", name, "--json"))
    assert found["layer"] == name
    printed = run(*command, "--layer", 1).stdout
    assert "value at 3 4 5, rule tflite" in printed
    assert all(rule in printed for rule in RULES)
    assert document(run(*command, "--layer", 1, "--rule", "xnnpack", "--json"))["rule"] == "xnnpack"
    for layer, message in (("nothing", "expected a name or a number from 0"), ("*", "layers match"), (999, "no layer")):
        result = run(*command, "--layer", layer)
        assert result.exit_code == 2
        assert message in result.stderr
    assert "three integers" in run("explain", path, image, "--layer", 1, "--at", "a", 1, 2).stderr
