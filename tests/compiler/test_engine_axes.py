"""Engine against reference: every operation on values of one to four axes, at every batch size and vector width."""

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import pytest
from npmobilenet_kernels.runtime.cpu import host_target, host_targets

from npmobilenet.analysis.rounding_growth import network_bounds
from npmobilenet.compiler.plan import compile_graph
from npmobilenet.models.model import Model
from npmobilenet.models.preprocessing import RAW
from npmobilenet.reference.activations import ACTIVATIONS
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import (
    ELU,
    LAYER_TYPES,
    Activation,
    Add,
    Average,
    AveragePooling2D,
    BatchNormalization,
    Broadcast,
    ChannelRescaling,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Input,
    LayerNormalization,
    LeakyReLU,
    Maximum,
    MaxPooling2D,
    Minimum,
    Multiply,
    Normalization,
    PReLU,
    Rescaling,
    Reshape,
    Resizing,
    Subtract,
    UpSampling2D,
    ZeroPadding2D,
)
from tests.helpers.networks import random_params
from tests.helpers.within import assert_within

pytestmark = pytest.mark.usefixtures("kernels_kept")

WIDTHS = sorted(host_targets())
VALUES = [(228,), (12, 19), (57, 4), (4, 3, 19), (1, 1, 228), (2, 2, 3, 19), (2, 3, 19, 2)]


def operations(shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[Layer, ...]]]:
    """Each operation that a value of this shape can go through: its name, and layers that read "v", the last is it."""
    one: dict[str, Any] = {"name": "out", "inputs": ("v",)}
    twice = Rescaling(name="w", inputs=("v",), scale=-0.5, offset=0.25)
    for name in ACTIVATIONS:
        yield name, (Activation(activation=name, **one),)
        yield f"dense {name}", (Dense(units=21, activation=name, **one),)
    yield "rescaling", (Rescaling(scale=1.5, offset=-0.5, **one),)
    yield "batch norm", (BatchNormalization(**one),)
    yield (
        "batch norm twice",
        (BatchNormalization(name="n", inputs=("v",)), BatchNormalization(name="out", inputs=("n",))),
    )
    yield "dense, batch norm", (Dense(name="d", inputs=("v",), units=9), BatchNormalization(name="out", inputs=("d",)))
    constants = tuple(1 + channel / 8 for channel in range(shape[-1]))
    yield "rescaling per channel", (ChannelRescaling(scale=constants, offset=constants, **one),)
    yield "normalization", (Normalization(**one),)
    yield "layer normalization", (LayerNormalization(**one),)
    yield "elu with alpha", (ELU(alpha=0.5, **one),)
    yield "leaky", (LeakyReLU(negative_slope=0.1, **one),)
    yield "learned slopes", (PReLU(**one),)
    yield "learned slopes, shared", (PReLU(shared_axes=(1,), **one),)
    yield "dropout", (Dropout(**one),)
    yield "flatten", (Flatten(**one),)
    for target in VALUES:
        yield f"reshape {target}", (Reshape(target_shape=target, **one),)
    yield "reshape -1", (Reshape(target_shape=(-1, shape[-1]), **one),)
    for merge in (Add, Multiply):
        yield merge.__name__, (twice, merge(name="out", inputs=("v", "w")))
        yield f"{merge.__name__} with itself", (merge(name="out", inputs=("v", "v")),)
        yield f"{merge.__name__} of three", (twice, merge(name="out", inputs=("v", "w", "v")))
    for pair in (Average, Maximum, Minimum, Subtract):
        yield pair.__name__, (twice, pair(name="out", inputs=("v", "w")))
        yield f"{pair.__name__} with itself", (pair(name="out", inputs=("v", "v")),)
    for axis in (-1, *range(1, len(shape) + 1)):
        yield f"concatenate {axis}", (twice, Concatenate(name="out", inputs=("v", "w"), axis=axis))
    if len(shape) == 3:
        yield from of_maps(shape, one)


def of_maps(shape: tuple[int, ...], one: dict[str, Any]) -> Iterator[tuple[str, tuple[Layer, ...]]]:
    """The operations that take a map (H, W, C)."""
    window: dict[str, Any] = one | {"kernel_size": (2, 2), "padding": "same"}
    yield "padding", (ZeroPadding2D(padding=((1, 0), (2, 1)), **one),)
    if min(shape[:2]) > 1:
        yield "cropping", (Cropping2D(cropping=((1, 0), (0, 1)), **one),)
    for name in ACTIVATIONS:
        yield f"convolution {name}", (Conv2D(filters=21, activation=name, **window),)
        yield f"pointwise {name}", (Conv2D(filters=21, activation=name, kernel_size=(1, 1), **one),)
        yield f"depthwise {name}", (DepthwiseConv2D(activation=name, **window),)
    yield "transposed", (Conv2DTranspose(filters=21, stride=2, **window),)
    for dilation in (2, 3):
        yield f"dilation {dilation}", (Conv2D(filters=21, dilation=dilation, **window),)
        yield f"depthwise, dilation {dilation}", (DepthwiseConv2D(dilation=dilation, **window),)
    yield "one group per channel", (Conv2D(filters=2 * shape[-1], groups=shape[-1], **window),)
    yield "depth multiplier", (DepthwiseConv2D(depth_multiplier=2, **window),)
    yield "average", (AveragePooling2D(**window),)
    yield "average of all", (AveragePooling2D(kernel_size=(shape[0], shape[1]), **one),)
    yield "largest", (MaxPooling2D(**window),)
    for keepdims in (False, True):
        yield "global average", (GlobalAveragePooling2D(keepdims=keepdims, **one),)
        yield "global largest", (GlobalMaxPooling2D(keepdims=keepdims, **one),)
    for interpolation in ("nearest", "bilinear"):
        yield f"resizing {interpolation}", (Resizing(height=3, width=5, interpolation=interpolation, **one),)
        yield f"upsampling {interpolation}", (UpSampling2D(size=(2, 3), interpolation=interpolation, **one),)
    gate = GlobalAveragePooling2D(name="g", inputs=("v",), keepdims=True)
    yield "gate", (gate, Multiply(name="out", inputs=("v", "g")))
    spread = Broadcast(name="b", inputs=("g",), target_shape=shape)
    yield "bias of the image", (gate, spread, Add(name="out", inputs=("v", "b")))
    yield "gate first", (gate, Multiply(name="out", inputs=("g", "v")))


def network(shape: tuple[int, ...], layers: tuple[Layer, ...], maker: str) -> Graph:
    """The operation on a value of `shape`, which comes from a Reshape as it is ("linear"), or from an activation."""
    entry = (Input(name="in", shape=(4, 3, 19)), Reshape(name="r", inputs=("in",), target_shape=shape))
    return Graph("one operation", (*entry, Activation(name="v", activation=maker, inputs=("r",)), *layers))


CASES = [
    pytest.param(shape, layers, id=f"{'x'.join(map(str, shape))} {name}")
    for shape in VALUES
    for name, layers in operations(shape)
]


def test_every_layer_type_is_among_the_operations() -> None:
    types = {layer.type for shape in VALUES for _, layers in operations(shape) for layer in layers}
    assert types | {"Input"} == set(LAYER_TYPES)
    assert {len(shape) for shape in VALUES} == {1, 2, 3, 4}
    assert {prod(shape) for shape in VALUES} == {4 * 3 * 19}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("shape", "layers"), CASES)
def test_an_operation_in_the_engine_is_within_rounding_of_the_reference(
    shape: tuple[int, ...], layers: tuple[Layer, ...], width: int
) -> None:
    x = np.random.default_rng(len(shape)).normal(0, 2, (3, 4, 3, 19)).astype(np.float32)
    for maker in ("linear", "sigmoid"):
        graph = network(shape, layers, maker)
        params = random_params(graph, seed=1)
        *_, (_, exact, bound) = network_bounds(graph, params, x)
        plan = compile_graph(graph, params, host_target(width))
        for N in range(4):
            y = plan.run(x[:N])
            assert y.shape == (N, *graph.output_shape)
            assert_within(bound[:N], y, exact[:N], f"{N} images, {maker}")
            *_, (_, reference) = graph.run(params, x[:N])
            assert_within(bound[:N], reference, exact[:N], f"the reference, {N} images")


HANDED_ON: dict[str, tuple[Layer, ...]] = {
    "nothing": (),
    "dropout": (Dropout(name="out", inputs=("in",)),),
    "linear": (Activation(name="out", inputs=("in",), activation="linear"),),
    "flatten": (Flatten(name="out", inputs=("in",)),),
    "reshape": (Reshape(name="out", inputs=("in",), target_shape=(1, 19)),),
    "several": (
        Dropout(name="d", inputs=("in",)),
        Flatten(name="f", inputs=("d",)),
        Reshape(name="out", inputs=("f",), target_shape=(1, 1, 19)),
    ),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("layers", HANDED_ON.values(), ids=HANDED_ON)
def test_a_network_whose_output_is_its_input_hands_it_on(layers: tuple[Layer, ...], width: int) -> None:
    graph = Graph("identity", (Input(name="in", shape=(1, 1, 19)), *layers))
    x = np.random.default_rng(0).normal(0, 2, (3, 1, 1, 19)).astype(np.float32)
    plan = compile_graph(graph, {}, host_target(width))
    for N in range(4):
        *_, (_, reference) = graph.run({}, x[:N])
        np.testing.assert_array_equal(plan.run(x[:N], threads=2), reference, strict=True)


def test_a_value_that_is_read_and_is_the_output_through_a_dropout() -> None:
    layers = (
        Input(name="in", shape=(2, 2, 19)),
        Dropout(name="d", inputs=("in",)),
        Add(name="a", inputs=("d", "in")),
        Dropout(name="out", inputs=("a",)),
    )
    x = np.random.default_rng(0).normal(0, 2, (2, 2, 2, 19)).astype(np.float32)
    np.testing.assert_array_equal(compile_graph(Graph("twice", layers), {}).run(x), x + x)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_the_features_of_a_network_that_hands_its_input_on_are_the_mean_of_its_pixels(backend: str) -> None:
    model = Model(Graph("identity", (Input(name="in", shape=(4, 4, 3)),)), {}, RAW)
    pixels = np.full((2, 4, 4, 3), 7, np.uint8)
    np.testing.assert_array_equal(model.features(pixels, backend=backend), np.full((2, 3), 7, np.float32))
