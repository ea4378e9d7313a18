"""Fusion: lowering and every pass keep the function, and each does what its name says."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from npmobilenet.architectures import mobilenet_v3_small
from npmobilenet.architectures.ssd import ssd
from npmobilenet.compiler import ir, passes
from npmobilenet.compiler.lowering import lower
from npmobilenet.reference import rounding
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layer import Layer
from npmobilenet.reference.layers import Activation, Add, BatchNormalization, Conv2D, Dropout, Input, Rescaling, Reshape
from npmobilenet.types import Array, Params, Shape
from tests.helpers.engine_networks import ENGINE_NETWORKS
from tests.helpers.networks import random_params

Rule = tuple[tuple[str, ...], Callable[..., Array]]  # names of the arguments, and the function


def exact_params(graph: Graph) -> dict[str, Array]:
    """Parameters with which float64 computes exactly: small integers; normalizations divide by a power of two."""
    rng = np.random.default_rng(5)
    params = {}
    for layer in graph.layers:
        for array, shape in graph.param_shapes_of(layer).items():
            values: Array = rng.integers(-3, 4, shape).astype(np.float64)
            if isinstance(layer, BatchNormalization) and array == "moving_variance":
                values = 4.0 ** rng.integers(-1, 2, shape) - layer.epsilon
                assert np.isin(values + layer.epsilon, (0.25, 1, 4)).all()
            params[f"{layer.name}/{array}"] = values
    return params


class Calculation:
    """What every name stands for: the names it is computed from, and the function."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self._rules = rules

    @staticmethod
    def of_graph(graph: Graph, params: Params) -> "Calculation":
        def apply(layer: Layer) -> Callable[..., Array]:
            return partial(layer.apply, graph.arrays_of(layer, params))

        return Calculation({layer.name: (layer.inputs, apply(layer)) for layer in graph.layers[1:]})

    @staticmethod
    def of_operations(ops: ir.Operations) -> "Calculation":
        return Calculation({op.name: (op.reads, op.evaluate) for op in ops[1:]})

    def __call__(self, name: str, given: Params) -> Array:
        """The value of a name, computed from the given ones, by name."""
        if name in given:
            return given[name]
        reads, function = self._rules[name]
        return function(*(self(read, given) for read in reads))


def given_for(name: str, ops: ir.Operations, known: Mapping[str, Shape], rng: np.random.Generator) -> dict[str, Array]:
    """Small integers for all that an operation reads; where lowering introduced it, for what it is made from."""
    values: dict[str, Array] = {}
    for read in next(op.reads for op in ops if op.name == name):
        if read in known:
            values[read] = rng.integers(-4, 5, (1, *known[read])).astype(np.float64)
        else:
            values |= given_for(read, ops, known, rng)
    return values


@pytest.mark.parametrize("name", ENGINE_NETWORKS)
@pytest.mark.parametrize("count", range(len(passes.PASSES) + 1))
def test_every_pass_keeps_the_function_to_the_bit(name: str, count: int) -> None:
    """Lowering (0) and each pass: whatever it changed computes what the layers or operations before it did.

    The numbers are such that float64 rounds nothing. But relu6(x + 3) * (1 / 6) is no relu6(x + 3) / 6: the constant,
    the product and the quotient are rounded.
    """
    graph = ENGINE_NETWORKS[name]()
    params, rng = exact_params(graph), np.random.default_rng(6)
    ops = lower(graph, params)
    before, known, output = Calculation.of_graph(graph, params), dict(graph.shapes), graph.layers[-1].name
    unchanged: ir.Operations = []
    for run in passes.PASSES[:count]:
        before, known, output, unchanged = Calculation.of_operations(ops), shapes(ops), ops[-1].name, ops
        ops = run(ops)
    after = Calculation.of_operations(ops)
    is_exact = count == 0 or passes.PASSES[count - 1] is not passes.recognize_hard_sigmoid
    rtol = 0.0 if is_exact else rounding.gamma(3, np.float64)

    changed = {op.name: op.name for op in ops[1:] if op not in unchanged and op.name in known}
    for was, now in (changed | {output: ops[-1].name}).items():
        given = given_for(now, ops, known, rng)
        np.testing.assert_allclose(after(now, given), before(was, given), rtol=rtol, atol=0, err_msg=now)

    assert sum(op.macs for op in ops) == graph.macs


def shapes(ops: ir.Operations) -> dict[str, Shape]:
    return {op.name: op.shape for op in ops}


def lowered(*layers: Layer, **params: Array) -> ir.Operations:
    """Operations of a graph whose image is called "in"."""
    graph = Graph("some", layers)
    return lower(graph, random_params(graph, 0) | params)


def types(ops: ir.Operations) -> list[str]:
    """Types of all operations but the outputs."""
    return [type(op).__name__ for op in ops if not isinstance(op, ir.Output)]


def test_each_pass_removes_what_it_is_named_after() -> None:
    graph = mobilenet_v3_small(resolution=64)
    ops = lower(graph, random_params(graph, 0))
    assert any(isinstance(op, ir.Alias) for op in ops)
    ops = passes.remove_identities(ops)
    known = shapes(ops)
    assert all(known[op.inputs[0]] != op.shape for op in ops if type(op) is ir.Alias)
    ops = passes.fold_batch_norm(passes.merge_zero_padding(ops))
    assert not any(isinstance(op, ir.BatchNorm | ir.Pad) for op in ops)
    ops = passes.recognize_hard_sigmoid(ops)
    assert [op.name for op in ops if isinstance(op, ir.Rescale)] == ["rescaling"]
    ops = passes.fuse_activation(ops)
    assert [type(op) for op in ops if isinstance(op, ir.Activate)] == [ir.Softmax]
    ops = passes.fuse_rescaling(ops)
    first = ops[1]
    assert isinstance(first, ir.Conv)
    assert first.scaling == (1 / 127.5, -1)
    gates = sum(isinstance(op, ir.Multiply) for op in ops)
    ops = passes.fuse_gate(ops)
    assert sum(bool(op.gate) for op in ops if isinstance(op, ir.Conv)) == gates == 9
    sums = sum(isinstance(op, ir.Add) for op in ops)
    ops = passes.fuse_residual(ops)
    assert sum(bool(op.residual) for op in ops if isinstance(op, ir.Conv)) == sums == 6


def test_only_aliases_of_the_same_shape_are_removed() -> None:
    ops = lowered(
        Input(name="in", shape=(1, 1, 4)),
        Dropout(name="d", inputs=("in",)),
        Activation(name="l", inputs=("d",), activation="linear"),
        Reshape(name="r", inputs=("l",), target_shape=(4,)),
        Dropout(name="e", inputs=("r",)),
        Add(name="a", inputs=("e", "r")),
    )
    assert types(ops) == ["Image", "Alias", "Alias", "Alias", "Alias", "Add"]
    image, alias, add, output = passes.remove_identities(ops)
    assert (alias.name, alias.inputs, alias.shape) == ("r", ("in",), (4,))
    assert (image.name, add.inputs, output.inputs) == ("in", ("r", "r"), ("a",))
    assert ir.stored_names([image, alias, add]) == {"in": "in", "r": "in", "a": "a"}


def test_folding_a_normalization_is_the_formula_of_the_paper() -> None:
    layers = (
        Input(name="in", shape=(4, 4, 1)),
        Conv2D(name="c", inputs=("in",), filters=1, kernel_size=(1, 1)),
        BatchNormalization(name="n", inputs=("c",), epsilon=0.75),
    )
    values = {"c/kernel": 2, "c/bias": 3, "n/gamma": 5, "n/beta": 7, "n/moving_mean": 1, "n/moving_variance": 0.25}
    graph = Graph("one", layers)
    ops = lower(graph, {name: np.full(graph.param_shapes[name], v, np.float32) for name, v in values.items()})

    _, conv, _ = passes.fold_batch_norm(ops)

    assert isinstance(conv, ir.Conv)
    assert conv.kernel.item() == 10  # 2 * 5 / sqrt(0.25 + 0.75)
    assert conv.bias.item() == 17  # (3 - 1) * 5 + 7


def test_scale_and_shift_of_a_normalization_without_gamma_and_beta() -> None:
    params = {"moving_mean": np.array([8.0]), "moving_variance": np.array([3.0])}
    scale, shift = passes.scale_and_shift(params, epsilon=1.0)
    assert (scale.item(), shift.item()) == (0.5, -4)


@pytest.mark.parametrize(
    ("scale", "activation", "found"), [(1 / 6, "relu6", True), (1 / 5, "relu6", False), (1 / 6, "relu", False)]
)
def test_a_hard_sigmoid_is_recognized_by_all_three_of_its_layers(scale: float, activation: str, found: bool) -> None:
    ops = lowered(
        Input(name="in", shape=(2, 2, 3)),
        Rescaling(name="shift", inputs=("in",), scale=1.0, offset=3.0),
        Activation(name="clip", inputs=("shift",), activation=activation),
        Rescaling(name="scale", inputs=("clip",), scale=scale),
    )
    fused = passes.recognize_hard_sigmoid(ops)
    assert types(fused) == (["Image", "Activate"] if found else types(ops))
    assert fused[-2].layers == (("shift", "clip", "scale") if found else ("scale",))


def test_the_parts_of_a_hard_sigmoid_that_something_else_reads_stay() -> None:
    ops = lowered(
        Input(name="in", shape=(2, 2, 3)),
        Rescaling(name="shift", inputs=("in",), scale=1.0, offset=3.0),
        Activation(name="clip", inputs=("shift",), activation="relu6"),
        Rescaling(name="scale", inputs=("clip",), scale=1 / 6),
        Add(name="out", inputs=("scale", "shift")),
    )
    assert passes.recognize_hard_sigmoid(ops) == ops


def detector_ops(*last: str) -> tuple[Graph, Params, ir.Operations]:
    """A small SSDLite with its outputs and others, and its operations after all passes."""
    graph = ssd("mobilenet_v2", 0.35, 96, slots=5)
    graph = replace(graph, outputs=(*graph.outputs, *((f"again {name}", name) for name in last)))
    params = random_params(graph, 0)
    return graph, params, passes.fuse(graph, params)


def test_the_outputs_of_a_detector_read_the_maps_of_its_heads() -> None:
    graph, params, ops = detector_ops()
    joined = [op for op in ops if isinstance(op, ir.Joined)]
    assert [op.inputs for op in joined] == [tuple(f"{kind}_{i}_conv" for i in range(1, 7)) for kind in ("box", "class")]
    assert not any(isinstance(op, ir.Reference) for op in ops)
    x = np.random.default_rng(0).uniform(-1, 1, (2, 96, 96, 3))
    exact = {name: array.astype(np.float64) for name, array in params.items()}
    maps = dict(graph.run(exact, x))
    for op, (name, _) in zip(joined, graph.outputs, strict=True):
        np.testing.assert_array_equal(op.evaluate(*(maps[source] for source in op.inputs)), maps[name])


def test_what_is_read_elsewhere_is_not_joined() -> None:
    *_, ops = detector_ops("box_3_reshape")
    assert [op.name for op in ops if isinstance(op, ir.Joined)] == ["scores (output)"]
    *_, ops = detector_ops("boxes")
    assert [op.name for op in ops if isinstance(op, ir.Joined)] == ["scores (output)"]
