"""Plans of quantized networks: every bit is that of the NumPy operators, under every rule and on every target."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from npmobilenet_kernels.runtime.cpu import host_byte_targets
from npmobilenet_weights_convert.tflite_file import read_tflite

from npmobilenet.compiler.byte_operations import as_stored
from npmobilenet.compiler.byte_plan import BytePlan, compile_network
from npmobilenet.compiler.byte_steps import ByteReferenceStep
from npmobilenet.errors import ShapeError, WeightsError
from npmobilenet.quantized.rules import RULES, TFLITE, Rule
from npmobilenet.quantized.running import run, trace
from npmobilenet.quantized.tensors import Network
from npmobilenet.types import Array
from tests.helpers.drawn_operators import drawn_operator
from tests.helpers.one_image import after_identities
from tests.helpers.real_files import real_file
from tests.quantized.test_real_networks import FILES, photographs, without_custom_operators

NIGHTLY = bool(os.environ.get("NPMOBILENET_NIGHTLY"))
TARGETS = list(host_byte_targets().values())
CODES = (
    "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "ADD", "SUB", "MUL",
    "HARD_SWISH", "LOGISTIC", "SOFTMAX", "QUANTIZE", "DEQUANTIZE", "RELU", "RELU6", "PAD",
)  # fmt: skip
DRAWN = 40 if NIGHTLY else 6


def real_network(name: str) -> Network:
    """A real file, up to operators that are not TensorFlow Lite's own."""
    network = without_custom_operators(read_tflite(real_file("tflite", f"{name}.tflite").read_bytes()))
    made = {operator.outputs[0] for operator in network.operators}
    if made.issuperset(network.outputs):
        return network
    read = {number for operator in network.operators for number in operator.inputs}
    return replace(network, outputs=tuple(sorted(made - read)))


def differing(network: Network, x: Array, plan: BytePlan, rule: Rule) -> list[str]:
    """Names of the tensors (N, ...) that steps of a plan make otherwise than the operators, and the number of steps."""
    expected = {network.tensors[op.outputs[0]].name: as_stored(y) for op, y in trace(network, x, rule)}
    return [
        name
        for made in plan.step_outputs(x[0])
        for name, y in made.items()
        if name in expected and not np.array_equal(y, expected[name].reshape(y.shape))
    ]


@pytest.mark.parametrize("name", FILES)
def test_real_networks(name: str) -> None:
    """Every step's output of every real file on a photograph, by kernels alone but for the ends of an SSD."""
    network = real_network(name)
    plan = compile_network(network)
    (x,) = photographs(network, ("panda.jpg",))
    assert not differing(network, x, plan, TFLITE)
    others = [step.op.link.code for step in plan.steps if isinstance(step, ByteReferenceStep)]
    assert set(others) <= {"RESHAPE", "CONCATENATION", "LOGISTIC"}, others


@pytest.mark.parametrize("rule", list(RULES.values()), ids=RULES)
@pytest.mark.parametrize("name", FILES if NIGHTLY else FILES[:1])
def test_rules(name: str, rule: Rule) -> None:
    """Every rule; the answers of several images, by one thread and by two, are the same."""
    network = real_network(name)
    plan = compile_network(network, rule)
    x = np.concatenate(list(photographs(network, ("panda.jpg", "cat.bmp", "parrot.jpg"))))
    assert not differing(network, x[:1], plan, rule)
    expected = [np.concatenate(ys) for ys in zip(*(run(network, image[None], rule) for image in x), strict=True)]
    for images, threads in ((3, 1), (3, 2), (1, 2)):
        for y, should_be in zip(plan.outputs(x[:images], threads), expected, strict=True):
            assert y.dtype == should_be.dtype
            assert np.array_equal(y, should_be[:images])


@pytest.mark.skipif(not NIGHTLY, reason="compiles for every target: NPMOBILENET_NIGHTLY=1")
@pytest.mark.parametrize("name", FILES)
def test_real_networks_on_every_target(name: str) -> None:
    """The bits do not depend on the CPU."""
    network = real_network(name)
    (x,) = photographs(network, ("cat.bmp",))
    for target in TARGETS[1:]:
        assert not differing(network, x, compile_network(network, target=target), TFLITE), target.name


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize("code", CODES)
def test_drawn_operators(code: str, target: object) -> None:
    """Every operator, quantized at random, under every rule."""
    kernels = 0
    for network, x, rule in drawn_networks(code, DRAWN if target is TARGETS[0] else DRAWN // 3):
        plan = compile_network(network, rule, target)  # type: ignore[arg-type]
        (y,), (expected,) = plan.outputs(x, 1), run(network, x, rule)
        assert np.array_equal(y, expected), (rule.name, network.operators[-1])
        kernels += not isinstance(plan.steps[-1], ByteReferenceStep)
    if target is TARGETS[0] and code != "AVERAGE_POOL_2D":  # whose window seldom covers the map here
        assert (kernels == 0) == (code == "DEQUANTIZE")


def drawn_networks(code: str, count: int) -> Iterator[tuple[Network, Array, Rule]]:
    """Networks of one operator on one image, the image, and the rules in turn."""
    for dtype in (np.dtype(np.uint8), np.dtype(np.int8)):
        drawn = (drawn_operator(code, seed, dtype) for seed in itertools.count())
        of_one_image = (one for one in drawn if one.inputs[0].shape[0] == 1)
        for one, rule in zip(itertools.islice(of_one_image, count), itertools.cycle(RULES.values()), strict=False):
            yield *after_identities(one), rule


def test_refusals() -> None:
    """Images of another size or type, and operators that are not supported, are refused by name."""
    network = real_network("vww_96_int8")
    plan = compile_network(network)
    with pytest.raises(ShapeError, match=r"expected int8 of shape \(N, 96, 96, 3\), got uint8"):
        plan.outputs(np.zeros((1, 96, 96, 3), np.uint8))
    with pytest.raises(ShapeError, match="got int8"):
        plan.outputs(np.zeros((1, 95, 96, 3), np.int8))
    unknown = replace(network.operators[-1], code="CUSTOM:Mystery")
    with pytest.raises(WeightsError, match="operator CUSTOM:Mystery is not supported"):
        compile_network(replace(network, operators=(*network.operators[:-1], unknown)))
