"""Every tensor of real quantized networks on real photographs, bit-equal with LiteRT."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from npmobilenet_weights_convert.tflite_file import read_tflite
from PIL import Image

from npmobilenet.quantized.rules import RULES
from npmobilenet.quantized.running import compute, trace
from npmobilenet.quantized.tensors import Network
from npmobilenet.types import Array
from tests.helpers.real_files import real_file
from tests.oracles.litert import LiteRT

FILES = (
    "mobilenet_v1_0.25_128_quant", "mobilenet_v2_1.0_224_int8", "mobilenet_v2_1.0_224_uint8",
    "mobilenet_v3_small_1.0_224_uint8", "ssd_mobilenet_v1_coco_uint8", "vww_96_int8",
)  # fmt: skip
PHOTOGRAPHS = ("panda.jpg", "cat.bmp", "parrot.jpg", "sunflower.bmp", "burger.jpg")
SOME = PHOTOGRAPHS if os.environ.get("NPMOBILENET_NIGHTLY") else PHOTOGRAPHS[:1]
SIGN_BIT = 0x80  # between uint8 and int8


def without_custom_operators(network: Network) -> Network:
    """The network up to the operators that are not TensorFlow Lite's own."""
    builtin = tuple(operator for operator in network.operators if not operator.code.startswith("CUSTOM"))
    return replace(network, operators=builtin)


def photographs(network: Network, names: tuple[str, ...]) -> Iterator[Array]:
    """Photographs in the network's size, as integers of its input."""
    _, H, W, _ = network.input.shape
    for name in names:
        with Image.open(real_file("images", name)) as image:
            pixels = np.asarray(image.convert("RGB").resize((W, H)))[None]
        yield pixels if network.input.dtype == np.uint8 else (pixels ^ SIGN_BIT).view(np.int8)


@pytest.fixture(params=FILES)
def path(request: pytest.FixtureRequest) -> Path:
    """A real file."""
    return real_file("tflite", f"{request.param}.tflite")


def test_reference_kernels_end_to_end(path: Path) -> None:
    """All five photographs; each tensor is computed from our own."""
    network = without_custom_operators(read_tflite(path.read_bytes()))
    litert = LiteRT(path.read_bytes())
    for x in photographs(network, PHOTOGRAPHS):
        theirs = litert.tensors(x)
        different = [
            network.label(operator)
            for operator, y in trace(network, x)
            if not np.array_equal(y, theirs[operator.outputs[0]].reshape(y.shape))
        ]
        assert not different
        assert len(theirs) == len(network.operators)


def test_xnnpack_operator_by_operator(path: Path) -> None:
    """What LiteRT runs by default; each tensor is computed from LiteRT's."""
    network = without_custom_operators(read_tflite(path.read_bytes()))
    litert = LiteRT(path.read_bytes(), reference=False)
    for x in photographs(network, SOME):
        theirs = {**litert.tensors(x), network.inputs[0]: x}
        tensors = {
            number: tensor if tensor.data is not None else replace(tensor, data=theirs.get(number))
            for number, tensor in enumerate(network.tensors)
        }
        for operator in network.operators:
            number = operator.outputs[0]
            inputs = [tensors[i] for i in operator.inputs if i >= 0]
            y = compute(operator, inputs, network.tensors[number], RULES["xnnpack"])
            assert np.array_equal(y, theirs[number].reshape(y.shape)), network.label(operator)
