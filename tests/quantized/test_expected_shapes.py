"""Shapes that a network declares, against those that its operators give."""

from dataclasses import replace

import numpy as np
import pytest

from npmobilenet.errors import WeightsError
from npmobilenet.models.quantized_model import QuantizedModel
from npmobilenet.quantized.expected_shapes import with_shapes
from npmobilenet.quantized.tensors import Network
from tests.helpers.drawn_operators import OPERATORS, SIGNED, UNSIGNED, drawn_operator
from tests.helpers.quantized_models import real_network, small_network


@pytest.mark.parametrize("code", sorted(OPERATORS))
@pytest.mark.parametrize("dtype", [SIGNED, UNSIGNED])
def test_a_network_that_computes_fits(code: str, dtype: np.dtype[np.generic]) -> None:
    for seed in range(20):
        network = drawn_operator(code, seed, dtype).network
        if len(network.inputs) == 1:
            with_shapes(network)


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_quant", "vww_96_int8"])
def test_real_networks_fit(name: str) -> None:
    with_shapes(real_network(name))


def changed(number: int, shape: tuple[int, ...]) -> Network:
    """A small network in which a tensor, and its values, have another shape."""
    network = small_network()
    tensor = network.tensors[number]
    data = None if tensor.data is None else np.resize(tensor.data, shape)
    tensors = list(network.tensors)
    tensors[number] = replace(tensor, shape=shape, data=data)
    return replace(network, tensors=tuple(tensors))


@pytest.mark.parametrize(
    ("number", "shape", "message"),
    [
        (1, (8, 3, 3, 2), "conv: CONV_2D does not fit its tensors: weights of shape"),
        (1, (9, 3, 3, 3), "conv: CONV_2D does not fit its tensors: expected"),
        (1, (8, 0, 3, 3), "conv: CONV_2D"),
        (2, (4,), r"conv: CONV_2D does not fit its tensors: expected int32 bias of shape \(8,\), got int32 \(4,\)"),
        (3, (1, 5, 6, 8), r"conv: CONV_2D gives shape .*, the file says \(1, 5, 6, 8\)"),
        (4, (2, 3, 3, 8), "depthwise: DEPTHWISE_CONV_2D does not fit its tensors: weights of shape"),
        (4, (1, 3, 3, 12), "depthwise: DEPTHWISE_CONV_2D does not fit its tensors: expected int32 bias of shape"),
        (11, (1, 1, 1, 16), "pool: MEAN gives shape"),
        (12, (4, 15), "dense: FULLY_CONNECTED does not fit its tensors: weights of shape"),
        (15, (1, 5), "softmax: SOFTMAX gives shape"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_before_kernels_see_it(
    number: int, shape: tuple[int, ...], message: str
) -> None:
    network = changed(number, shape)
    with pytest.raises(WeightsError, match=message):
        with_shapes(network)
    with pytest.raises(WeightsError, match=message):
        QuantizedModel(network)


def test_weights_that_are_computed_are_refused_before_kernels_see_them() -> None:
    network = small_network()
    first, second, third, *others = network.operators
    third = replace(third, inputs=(6, 6, 8))
    with pytest.raises(WeightsError, match=r"pointwise: CONV_2D does not fit its tensors: .* is not a constant"):
        with_shapes(replace(network, operators=(first, second, third, *others)))
