"""`output_stride`: the strides and dilations of TF-Slim, and Keras's networks with the same dilations set by hand."""

from typing import Any

import numpy as np
import pytest

from npmobilenet.architectures import ARCHITECTURES
from npmobilenet.compiler.plan import compile_graph
from npmobilenet.errors import ArgumentError
from npmobilenet.reference.layer import Convolution
from tests.architectures.test_architectures import build, keras_twin
from tests.helpers.networks import random_images, random_params
from tests.helpers.tolerances import SMALL

pytestmark = pytest.mark.usefixtures("kernels_kept")


def named(form: str, *blocks: int) -> list[str]:
    return [form.format(block) for block in blocks]


V1, V2, V3 = "conv_dw_{}", "block_{}_depthwise", "expanded_conv_{}_depthwise"
FACTS: dict[tuple[str, int], tuple[list[str], dict[int, list[str]]]] = {
    # layers that lose their stride, layers by dilation: what `mobilenet_v1_base` and `mobilenet_base` of TF-Slim build
    ("mobilenet_v1", 16): (named(V1, 12), {2: named(V1, 13)}),
    ("mobilenet_v1", 8): (named(V1, 6, 12), {2: named(V1, 7, 8, 9, 10, 11, 12), 4: named(V1, 13)}),
    ("mobilenet_v2", 16): (named(V2, 13), {2: named(V2, 14, 15, 16)}),
    ("mobilenet_v2", 8): (named(V2, 6, 13), {2: named(V2, 7, 8, 9, 10, 11, 12, 13), 4: named(V2, 14, 15, 16)}),
    ("mobilenet_v3_large", 16): (named(V3, 12), {2: named(V3, 13, 14)}),
    ("mobilenet_v3_large", 8): (named(V3, 6, 12), {2: named(V3, 7, 8, 9, 10, 11, 12), 4: named(V3, 13, 14)}),
    ("mobilenet_v3_small", 16): (named(V3, 8), {2: named(V3, 9, 10)}),
    ("mobilenet_v3_small", 8): (named(V3, 3, 8), {2: named(V3, 4, 5, 6, 7, 8), 4: named(V3, 9, 10)}),
}
PADDING_BEFORE = {"mobilenet_v1": ("conv_dw", "conv_pad"), "mobilenet_v2": ("depthwise", "pad")}


@pytest.mark.parametrize(("arch", "output_stride"), FACTS)
def test_strides_and_dilations_are_those_of_tf_slim(arch: str, output_stride: int) -> None:
    plain, graph = (build(arch, {"output_stride": stride, "include_top": False}) for stride in (32, output_stride))
    unstrided, dilated = FACTS[arch, output_stride]

    windows = [layer for layer in graph.layers if isinstance(layer, Convolution)]
    assert {layer.name: layer.dilation for layer in windows if layer.dilation > 1} == {
        name: dilation for dilation, names in dilated.items() for name in names
    }
    before = {layer.name: layer.stride for layer in plain.layers if isinstance(layer, Convolution)}
    assert [layer.name for layer in windows if layer.stride < before[layer.name]] == unstrided
    assert graph.output_shape[:2] == (224 // output_stride, 224 // output_stride)
    assert graph.param_shapes == plain.param_shapes
    assert graph.macs > plain.macs
    assert graph.name == f"{plain.name}_os{output_stride}"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_an_output_stride_of_32_is_the_papers_network(arch: str) -> None:
    assert build(arch, {"output_stride": 32}) == build(arch, {})


@pytest.mark.parametrize("output_stride", [0, 1, 4, 24, 64])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_other_output_strides_are_refused(arch: str, output_stride: int) -> None:
    with pytest.raises(ArgumentError, match=f"output_stride as one of 8, 16, 32, got {output_stride}"):
        build(arch, {"output_stride": output_stride})


def dilated_twin(keras: Any, arch: str, arguments: dict[str, Any], output_stride: int) -> Any:
    """The network of keras.applications, its config edited by hand: strides, dilations, and no zeros before them."""
    unstrided, dilated = FACTS[arch, output_stride]
    config = keras_twin(keras, arch, arguments).get_config()
    entries = {layer["config"]["name"]: layer["config"] for layer in config["layers"]}
    ending, pad = PADDING_BEFORE.get(arch, ("depthwise", "depthwise_pad"))
    for name in unstrided:
        entries[name] |= {"strides": (1, 1), "padding": "same"}
        entries[name.replace(ending, pad)]["padding"] = ((0, 0), (0, 0))
    for dilation, names in dilated.items():
        for name in names:
            entries[name]["dilation_rate"] = (dilation, dilation)
    keras.backend.clear_session()
    return keras.Model.from_config(config)


@pytest.mark.parametrize("resolution", [64, (97, 75)], ids=str)
@pytest.mark.parametrize(("arch", "output_stride"), FACTS)
def test_a_dilated_network_equals_keras_with_the_same_dilations(
    keras: Any, arch: str, output_stride: int, resolution: Any
) -> None:
    arguments: dict[str, Any] = {"alpha": 0.75, "resolution": resolution, "include_top": False}
    graph = build(arch, arguments | {"output_stride": output_stride})
    params, x = random_params(graph, seed=5), random_images(graph, seed=6, N=2)
    twin = dilated_twin(keras, arch, arguments, output_stride)
    for layer in twin.layers:
        layer.set_weights([params[f"{layer.name}/{w.name}"] for w in layer.weights])

    theirs = np.asarray(twin(x, training=False))

    for y in (graph.output(params, x), compile_graph(graph, params).run(x)):
        assert y.shape == theirs.shape
        assert np.abs(y - theirs).max() < SMALL * np.abs(theirs).max()
