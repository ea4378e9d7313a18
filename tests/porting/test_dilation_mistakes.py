"""Golden data and the diagnosis of dilated networks."""

from dataclasses import replace

import pytest

from npmobilenet.architectures import mobilenet_v2
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import SYMMETRIC
from npmobilenet.porting.diagnose import diagnose
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import DepthwiseConv2D
from tests.helpers.networks import random_images, random_params

GRAPH = mobilenet_v2(alpha=0.35, resolution=64, classes=12, output_stride=8)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(GRAPH, random_params(GRAPH, 11), SYMMETRIC)


def dilated_otherwise(model: Model, name: str, dilation: int) -> Model:
    layers = {layer.name: layer for layer in model.graph.layers}
    layer = layers[name]
    assert isinstance(layer, DepthwiseConv2D)
    layers[name] = replace(layer, dilation=dilation)
    return replace(model, graph=Graph(model.graph.name, tuple(layers.values())), stored_check=None)


def test_a_dilated_network_equals_itself(model: Model) -> None:
    x = random_images(GRAPH, 5)
    assert diagnose(model, x, dict(model.trace(x))).exit_code == 0


@pytest.mark.parametrize(("name", "dilation"), [("block_9_depthwise", 1), ("block_14_depthwise", 2)])
def test_another_dilation_is_named(model: Model, name: str, dilation: int) -> None:
    x = random_images(GRAPH, 5)
    diagnosis = diagnose(model, x, dict(dilated_otherwise(model, name, dilation).trace(x)))
    assert diagnosis.first is not None
    assert diagnosis.first.layer == name
    assert diagnosis.first.explanations[0].cause == "dilation"
