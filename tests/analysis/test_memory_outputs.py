"""Memory plans of graphs with several outputs: no output is overwritten before the end."""

import numpy as np
import pytest

from npmobilenet.analysis.arena_run import run_in_arena
from npmobilenet.analysis.memory_plan import POLICIES, plan
from npmobilenet.analysis.rounding_growth import network_bounds
from npmobilenet.architectures import mobilenet_v2
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Activation, Input
from tests.helpers.drawn_graphs import IMAGE, drawn_graph
from tests.helpers.networks import random_params
from tests.helpers.within import assert_within

BLOCKS = ("block_1_expand_relu", "block_3_depthwise_BN", "block_3_pad", "block_5_add", "out_relu", "predictions")
V2 = mobilenet_v2(alpha=0.35, resolution=64, classes=5)
GRAPHS = [drawn_graph(seed) for seed in range(30)]
GRAPHS += [Graph("v2", V2.layers, tuple((f"output {n}", name) for n, name in enumerate(BLOCKS)))]


@pytest.mark.parametrize("policy", POLICIES)
def test_every_output_is_there_when_the_plan_has_run(policy: str) -> None:
    for number, graph in enumerate(GRAPHS):
        params = random_params(graph, number)
        x = np.random.default_rng(number).normal(0, 1, (1, *graph.input_shape)).astype(np.float32)
        known = {name: (exact, bound) for name, exact, bound in network_bounds(graph, params, x)}
        y = run_in_arena(plan(graph, policy, parts=3, stripes=3), params, x)
        for name, layer in graph.outputs:
            exact, bound = known[layer]
            assert_within(bound, y[name] if isinstance(y, dict) else y, exact, f"graph {number}, {name}")


def test_an_elementwise_layer_does_not_write_over_an_output() -> None:
    chain = [Input(name="in", shape=IMAGE)]
    layers = (*chain, *(Activation(name=b, inputs=(a,), activation="relu") for a, b in (("in", "a"), ("a", "b"))))
    one = plan(Graph("net", layers), "in_place")
    both = plan(Graph("net", layers, (("first", "a"), ("last", "b"))), "in_place")
    size = 4 * 13 * 29 * 3
    assert (one.peak_bytes, both.peak_bytes) == (size, 2 * size)
    assert all(buffer.last == 2 for buffer in both.buffers)
