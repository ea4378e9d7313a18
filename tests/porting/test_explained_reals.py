"""Values of float networks from their terms: the sum of the terms, the reference's value, and the bound."""

from math import prod

import numpy as np
import pytest

from npmobilenet import load
from npmobilenet.architectures import mobilenet_v1, mobilenet_v2, mobilenet_v3_small
from npmobilenet.errors import ArgumentError
from npmobilenet.models.model import Model
from npmobilenet.porting.explained_reals import explain_real
from npmobilenet.reference.layer import KernelLayer
from npmobilenet.reference.layers import DepthwiseConv2D
from tests.helpers.command_line import document, run
from tests.helpers.models import some_model
from tests.helpers.networks import random_images
from tests.helpers.real_files import ROOT

DIGIT = ROOT / "examples" / "digits" / "3.png"
UNIT = 2.0**-53  # unit roundoff of float64
GRAPHS = {
    "dilated": mobilenet_v1(alpha=0.25, resolution=(33, 32), classes=3, output_stride=8),
    "v2": mobilenet_v2(alpha=0.35, resolution=32, classes=3),
    "v3": mobilenet_v3_small(alpha=0.2, resolution=32, classes=3),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_drawn_places_of_every_layer(name: str) -> None:
    model = some_model(GRAPHS[name])
    x = random_images(model.graph, 1)
    rng = np.random.default_rng(2)
    values = dict(model.trace(x))
    for layer in model.graph.layers:
        shape = model.graph.shapes[layer.name]
        at = tuple(int(rng.integers(side)) for side in shape)
        found = explain_real(model, x, layer.name, (0, 0, *at)[-3:])
        assert found.value == values[layer.name][(0, *at)]
        assert abs(found.value - found.exact) <= found.bound
        if isinstance(layer, KernelLayer):
            terms = [term.product for term in found.terms] + [found.parameters.get("bias", 0.0)]
            rounding = 2 * len(terms) * UNIT * sum(map(abs, terms))  # of two sums in float64, in any order
            assert found.sum is not None
            assert abs(found.sum - sum(terms)) <= rounding
            kernel = model.params[f"{layer.name}/kernel"].shape
            taps = kernel[:2] if isinstance(layer, DepthwiseConv2D) else kernel[:-1]
            assert len(found.terms) + found.outside == prod(taps)


def test_the_command() -> None:
    command = ("explain", "digits", DIGIT, "--layer", "conv_dw_2", "--at", 0, 0, 3)
    found = document(run(*command, "--json"))
    printed = run(*command).stdout
    assert len(found["terms"]) == 9 - found["outside"]
    assert "bound on it" in printed
    assert abs(found["value"] - found["exact"]) <= found["bound"]
    assert "no layer 'none'" in run("explain", "digits", DIGIT, "--layer", "none", "--at", 0, 0, 0).stderr
    result = run(*command, "--rule", "tflite")
    assert result.exit_code == 2
    assert "is not quantized" in result.stderr


def test_places_outside() -> None:
    model = load("digits")
    assert isinstance(model, Model)
    x = np.zeros((1, 32, 32, 3), np.float32)
    with pytest.raises(ArgumentError, match="within 1 x 1 x 10, got 0 0 10"):
        explain_real(model, x, "predictions", (0, 0, 10))
