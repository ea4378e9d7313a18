"""A separable convolution costs 1 / c_out + 1 / K**2 of a standard one: exactly, in integers, and by counting.

The counts come from three places: the graph's layers, the whole networks of the papers, and the reference itself, run
on numbers that count how often they are multiplied.
"""

from fractions import Fraction
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmobilenet import reference as ops
from npmobilenet.architectures import mobilenet_v1
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Conv2D, DepthwiseConv2D, Input


class Counted:
    """An integer that remembers in `Counted.multiplications` how often any of its kind was multiplied."""

    multiplications = 0

    def __init__(self, value):
        self.value = value

    def __mul__(self, other):
        Counted.multiplications += 1
        return Counted(self.value * (other.value if isinstance(other, Counted) else other))

    def __add__(self, other):
        return Counted(self.value + (other.value if isinstance(other, Counted) else other))

    __rmul__, __radd__ = __mul__, __add__  # zeros of the padding are plain integers


def counted(x):
    """The same integers, counting."""
    return np.vectorize(Counted, otypes=[object])(x)


def values(y):
    return np.vectorize(lambda number: number.value, otypes=[int])(y)


def run_counted(graph, params, x):
    """(output, multiplications performed) of the reference."""
    Counted.multiplications = 0
    *_, (_, y) = graph.run({name: counted(w) for name, w in params.items()}, counted(x))
    return values(y), Counted.multiplications


def blocks(H, W, K, c_in, c_out, stride):
    """(standard, separable): the same map in, the same map out."""
    entry = Input(name="x", shape=(H, W, c_in))
    window = {"kernel_size": (K, K), "stride": stride, "padding": "same", "use_bias": False}
    standard = Graph("standard", (entry, Conv2D(name="conv", inputs=("x",), filters=c_out, **window)))
    depthwise = DepthwiseConv2D(name="dw", inputs=("x",), **window)
    pointwise = Conv2D(name="pw", inputs=("dw",), filters=c_out, kernel_size=(1, 1), use_bias=False)
    return standard, Graph("separable", (entry, depthwise, pointwise))


@given(
    H=st.integers(1, 300), W=st.integers(1, 300), K=st.integers(1, 11),
    c_in=st.integers(1, 2000), c_out=st.integers(1, 2000), stride=st.sampled_from([1, 2]),
)  # fmt: skip
def test_parameters_and_multiply_adds_of_the_graph_keep_the_identity(H, W, K, c_in, c_out, stride) -> None:
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
def test_the_reference_performs_the_multiplications_that_the_graph_counts(H, W, K, c_in, c_out, stride) -> None:
    """Products with the zeros of the padding are counted, and performed."""
    standard, separable = blocks(H, W, K, c_in, c_out, stride)
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 10, (1, H, W, c_in))
    performed = {}
    for graph in (standard, separable):
        params = {name: rng.integers(-9, 10, shape) for name, shape in graph.param_shapes.items()}
        y, performed[graph.name] = run_counted(graph, params, x)
        *_, (_, expected) = graph.run(params, x)
        np.testing.assert_array_equal(y, expected)
        assert performed[graph.name] == graph.macs
    ratio = Fraction(1, c_out) + Fraction(1, K * K)
    assert Fraction(performed["separable"], performed["standard"]) == ratio


def test_a_separable_layer_is_the_standard_one_with_the_product_kernel() -> None:
    """Depthwise, then pointwise, is the standard convolution whose kernel is the product of theirs."""
    _, separable = blocks(6, 5, 3, 2, 4, 1)
    rng = np.random.default_rng(1)
    params = {name: rng.integers(-9, 10, shape) for name, shape in separable.param_shapes.items()}
    x = rng.integers(-9, 10, (1, 6, 5, 2))
    *_, (_, y) = separable.run(params, x)
    product = params["dw/kernel"] * params["pw/kernel"]  # (3, 3, 2, 1) * (1, 1, 2, 4)
    np.testing.assert_array_equal(y, ops.conv2d(x, product))


def test_every_block_of_mobilenet_v1_keeps_the_identity_beside_its_full_convolution_twin() -> None:
    separable, full = mobilenet_v1(), mobilenet_v1(full_convolution=True)
    for block in range(1, 14):
        dw, pw, conv = separable[f"conv_dw_{block}"], separable[f"conv_pw_{block}"], full[f"conv_{block}"]
        ratio = Fraction(1, conv.filters) + Fraction(1, 9)
        assert Fraction(separable.macs_of(dw) + separable.macs_of(pw), full.macs_of(conv)) == ratio
        kernels = [prod(separable.param_shapes_of(layer)["kernel"]) for layer in (dw, pw)]
        assert Fraction(sum(kernels), prod(full.param_shapes_of(conv)["kernel"])) == ratio
