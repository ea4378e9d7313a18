"""A separable convolution costs 1 / c_out + 1 / K**2 of a standard one: exactly, in integers, and by counting.

The counts have three sources: the graph's layers, the papers' networks, and the reference itself, run on numbers that
count their multiplications.
"""

from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet import reference
from npmobilenet.analysis.separable_cost import count_multiplications
from npmobilenet.architectures import mobilenet_v1
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Conv2D, DepthwiseConv2D, Input


def blocks(H: int, W: int, K: int, c_in: int, c_out: int, stride: int) -> tuple[Graph, Graph]:
    """(standard, separable): same input, same output shape."""
    entry = Input(name="x", shape=(H, W, c_in))
    window: dict[str, Any] = {"kernel_size": (K, K), "stride": stride, "padding": "same", "use_bias": False}
    standard = Graph("standard", (entry, Conv2D(name="conv", inputs=("x",), filters=c_out, **window)))
    depthwise = DepthwiseConv2D(name="dw", inputs=("x",), **window)
    pointwise = Conv2D(name="pw", inputs=("dw",), filters=c_out, kernel_size=(1, 1), use_bias=False)
    return standard, Graph("separable", (entry, depthwise, pointwise))


@given(
    H=st.integers(1, 300), W=st.integers(1, 300), K=st.integers(1, 11),
    c_in=st.integers(1, 2000), c_out=st.integers(1, 2000), stride=st.sampled_from([1, 2]),
)  # fmt: skip
def test_parameters_and_multiply_adds_of_the_graph_keep_the_identity(
    H: int, W: int, K: int, c_in: int, c_out: int, stride: int
) -> None:
    standard, separable = blocks(H, W, K, c_in, c_out, stride)
    assert standard.output_shape == separable.output_shape
    ratio = Fraction(1, c_out) + Fraction(1, K * K)
    assert Fraction(separable.total_params, standard.total_params) == ratio
    assert Fraction(separable.macs, standard.macs) == ratio


SMALL = [
    # H W  K c_in c_out stride
    (4, 5, 3, 2, 3, 1),
    (5, 4, 3, 3, 2, 2),
    (1, 1, 3, 2, 5, 1),
    (3, 3, 5, 1, 4, 1),
    (6, 6, 1, 4, 4, 1),
    (7, 3, 2, 2, 2, 2),
]


@pytest.mark.parametrize(("H", "W", "K", "c_in", "c_out", "stride"), SMALL)
def test_the_reference_performs_the_multiplications_that_the_graph_counts(
    H: int, W: int, K: int, c_in: int, c_out: int, stride: int
) -> None:
    """Products with the zeros of the padding are counted, and performed."""
    performed = {}
    for graph in blocks(H, W, K, c_in, c_out, stride):
        performed[graph.name] = sum(
            count_multiplications(layer, *graph.input_shapes(layer)) for layer in graph.layers[1:]
        )
        assert performed[graph.name] == graph.macs
    ratio = Fraction(1, c_out) + Fraction(1, K * K)
    assert Fraction(performed["separable"], performed["standard"]) == ratio


def test_a_separable_layer_is_the_standard_one_with_the_product_kernel() -> None:
    """Depthwise, then pointwise, is the standard convolution whose kernel is the product of theirs."""
    _, separable = blocks(6, 5, 3, 2, 4, 1)
    rng = np.random.default_rng(1)
    params = {name: rng.integers(-9, 10, shape) for name, shape in separable.param_shapes.items()}
    x = rng.integers(-9, 10, (1, 6, 5, 2))
    y = separable.output(params, x)
    product = params["dw/kernel"] * params["pw/kernel"]  # (3, 3, 2, 1) * (1, 1, 2, 4)
    np.testing.assert_array_equal(y, reference.conv2d(x, product))


def test_every_block_of_mobilenet_v1_keeps_the_identity_of_its_full_convolution_twin() -> None:
    separable, full = mobilenet_v1(), mobilenet_v1(full_convolution=True)
    for block in range(1, 14):
        dw, pw, conv = separable[f"conv_dw_{block}"], separable[f"conv_pw_{block}"], full[f"conv_{block}"]
        assert isinstance(conv, Conv2D)
        ratio = Fraction(1, conv.filters) + Fraction(1, 9)
        assert Fraction(separable.macs_of(dw) + separable.macs_of(pw), full.macs_of(conv)) == ratio
        kernels = [prod(separable.param_shapes_of(layer)["kernel"]) for layer in (dw, pw)]
        assert Fraction(sum(kernels), prod(full.param_shapes_of(conv)["kernel"])) == ratio
