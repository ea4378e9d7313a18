"""Growth of errors through a network: exact arithmetic checks the float64 reference and the bounds."""

import json
import re
import shlex
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npmobilenet import architectures
from npmobilenet.analysis.rounding_growth import LayerError, draw_growth, error_growth, traced_layers
from npmobilenet.errors import NpMobileNetError, ShapeError
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
    Input,
    Multiply,
    Rescaling,
)
from tests.helpers.command_line import run
from tests.helpers.networks import random_images, random_params
from tests.helpers.real_files import ROOT
from tests.helpers.tolerances import BOUND_OVER_ERROR, MACHINES

V3 = architectures.mobilenet_v3_small(alpha=0.35, resolution=64, classes=5)


EPSILON = 0.25  # with variance 2 the root is 3/2


def inverted_residual() -> Graph:
    """A small block of V3 with squeeze-and-excite, restricted to rational arithmetic."""
    return Graph(
        "inverted residual",
        (
            Input(name="image", shape=(6, 5, 3)),
            Rescaling(name="scaled", inputs=("image",), scale=1 / 128, offset=-1.0),
            Conv2D(name="expand", inputs=("scaled",), filters=6, kernel_size=(1, 1), use_bias=False),
            BatchNormalization(name="expand_bn", inputs=("expand",), epsilon=EPSILON),
            Activation(name="swish", inputs=("expand_bn",), activation="hard_swish"),
            DepthwiseConv2D(name="dw", inputs=("swish",), kernel_size=(3, 3), padding="same", use_bias=False),
            BatchNormalization(name="dw_bn", inputs=("dw",), epsilon=EPSILON),
            Activation(name="relu6", inputs=("dw_bn",), activation="relu6"),
            GlobalAveragePooling2D(name="pool", inputs=("relu6",), keepdims=True),
            Conv2D(name="squeeze", inputs=("pool",), filters=2, kernel_size=(1, 1), activation="relu"),
            Conv2D(name="excite", inputs=("squeeze",), filters=6, kernel_size=(1, 1), activation="hard_sigmoid"),
            Multiply(name="se", inputs=("relu6", "excite")),
            Conv2D(name="project", inputs=("se",), filters=3, kernel_size=(1, 1), use_bias=False),
            Add(name="add", inputs=("scaled", "project")),
            Conv2D(name="conv", inputs=("add",), filters=4, kernel_size=(3, 3), stride=2, padding="same"),
        ),
    )


def rational_case(seed: int) -> tuple[Graph, dict[str, Any], Any]:
    """(graph, params, x) in float32, with variances whose roots are rational."""
    graph, rng = inverted_residual(), np.random.default_rng(seed)
    params = {name: rng.normal(0, 0.7, shape).astype(np.float32) for name, shape in graph.param_shapes.items()}
    for name in params:
        if name.endswith("moving_variance"):
            params[name] = rng.choice([2.0, 0.75, 6.0, 12.0], params[name].shape).astype(np.float32)
    return graph, params, rng.integers(0, 256, (1, *graph.input_shape)).astype(np.float32)


def fractions(values: Any) -> Any:
    return np.array([Fraction(float(value)) for value in values.ravel()], object).reshape(values.shape)


@pytest.mark.parametrize("seed", range(5))
def test_float32_is_within_its_bounds_of_exact_arithmetic_and_float64_far_closer(seed: int) -> None:
    graph, params, x = rational_case(seed)
    exactly = graph.run({name: fractions(values) for name, values in params.items()}, fractions(x))
    for (name, exact), traced in zip(exactly, traced_layers(graph, params, x), strict=True):
        error = fractions(traced.computed) - exact
        assert (np.abs(error) <= fractions(traced.bound)).all(), name
        truth = fractions(traced.exact) - exact
        assert (np.abs(truth) <= fractions(traced.bound) / 2**29).all(), (
            f"{name}: float64 is not exact enough"
        )  # its unit roundoff is 2**-29 of float32's
        measured = max(abs(value) for value in error.ravel())
        assert abs(Fraction(traced.error().measured) - measured) <= max(abs(value) for value in truth.ravel()), name


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_is_sharp_in_the_first_layers(seed: int) -> None:
    """A bound that is far too large would accept anything."""
    graph, params, x = rational_case(seed)
    for error in error_growth(graph, params, x):
        if error.name in ("expand", "expand_bn", "swish", "dw", "dw_bn"):
            assert error.bound < BOUND_OVER_ERROR * error.measured, error


def test_the_layer_s_own_bound_is_that_of_its_float32_inputs() -> None:
    params, x = random_params(V3, seed=1), random_images(V3, seed=2)
    outputs: dict[str, Any] = {}
    for traced in traced_layers(V3, params, x):
        layer = traced.layer
        outputs[layer.name] = traced.computed
        if isinstance(layer, Input):
            continue
        arrays = V3.arrays_of(layer, params)
        inputs = [outputs[name] for name in layer.inputs]
        np.testing.assert_array_equal(traced.own_bound, layer.error_bound(arrays, *inputs))
        arrays = {array: values.astype(np.float64) for array, values in arrays.items()}
        own = np.abs(traced.computed - layer.apply(arrays, *(values.astype(np.float64) for values in inputs)))
        assert (own <= traced.own_bound).all(), layer.name


@pytest.mark.parametrize("build", architectures.ARCHITECTURES.values())
def test_errors_are_within_bounds_that_grow_while_the_layers_own_do_not(build: Any) -> None:
    graph = build(alpha=0.35, resolution=64, classes=5)
    errors = list(error_growth(graph, random_params(graph, seed=1), random_images(graph, seed=2)))
    assert [error.name for error in errors] == [layer.name for layer in graph.layers]
    assert all(error.measured <= error.bound for error in errors)
    assert all(error.own_bound <= error.bound * (1 + 1e-3) for error in errors)
    convolutions = [error for error in errors if error.type == "Conv2D"]
    assert convolutions[-1].bound > 1e3 * convolutions[0].bound
    assert convolutions[-1].own_bound < 1e-2 * convolutions[-1].bound


def test_x_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match="expected x of shape"):
        next(error_growth(V3, random_params(V3, seed=1), np.zeros((1, 64, 64, 4), np.float32)))


def some_errors() -> list[LayerError]:
    sizes = [(1.0, 0.0, 0.0, 0.0), (2.0, 1e-7, 1e-6, 1e-6), (0.0, 0.0, 0.0, 0.0), (3.0, 2e-7, 2e-6, float("inf"))]
    return [LayerError(f"layer_{n}", "Conv2D", (4, 4, 2), *size) for n, size in enumerate(sizes)]


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_the_suffix_is_the_format_of_the_figure(suffix: str, start: bytes, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="requires matplotlib: pip install npmobilenet[plot]")
    path = tmp_path / f"growth{suffix}"
    draw_growth(some_errors(), path, "title")
    assert path.read_bytes().startswith(start)


def test_the_curves_are_relative_to_the_largest_value_without_zeros() -> None:
    pytest.importorskip("matplotlib", reason="requires matplotlib: pip install npmobilenet[plot]")
    from npmobilenet.analysis.rounding_growth import _figure

    (axes,) = _figure(some_errors(), "").axes
    curves: dict[object, Any] = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    measured = curves["measured, float32 vs. float64"]
    np.testing.assert_allclose(measured, [np.nan, 1e-7 / 2, np.nan, 2e-7 / 3], rtol=1e-12)
    np.testing.assert_allclose(curves["bound of the layer alone"], [np.nan, 1e-6 / 2, np.nan, 2e-6 / 3], rtol=1e-12)
    assert len(curves) == 3


def test_an_unknown_format_of_a_figure_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="requires matplotlib: pip install npmobilenet[plot]")
    with pytest.raises(NpMobileNetError, match=r"growth\.xyz"):
        draw_growth(some_errors(), tmp_path / "growth.xyz")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_message_has_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(NpMobileNetError, match=r"npmobilenet\[plot\]"):
        draw_growth(some_errors(), tmp_path / "growth.png")


def test_the_command_prints_json_and_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="requires matplotlib: pip install npmobilenet[plot]")
    figure = tmp_path / "growth.png"
    code, out, _ = run("bounds", ROOT / "examples/digits/7.png", "-m", "digits", "--figure", figure, "--json")
    document = json.loads(out)
    assert code == 0
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert len(document["layers"]) == 91
    last = document["layers"][-1]
    assert last.keys() == {"name", "type", "shape", "largest", "measured", "own_bound", "bound"}
    assert 0 < last["measured"] < last["bound"] <= 1


@pytest.mark.parametrize(
    "arguments",
    [["none.png", "-m", "digits"], ["7.png", "-m", "digits", "--layers", "x"], ["7.png", "-m", "x.h5"]],
    ids=str,
)
def test_an_impossible_request_is_reported_with_exit_code_2(arguments: list[str]) -> None:
    arguments = [str(ROOT / "examples/digits/7.png") if part == "7.png" else part for part in arguments]
    code, out, err = run("bounds", *arguments, "--json")
    assert code == 2
    assert err == f"npmobilenet: {json.loads(out)['error']}\n"


def test_the_table_in_the_docs_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the measured error depends on the machine: on the order of summation in its BLAS."""
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "bounds.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```text\n\$ (npmobilenet bounds .*?)^```$", page, re.MULTILINE | re.DOTALL)
    command, *shown = block.splitlines()
    code, out, _ = run(*shlex.split(command)[1:])
    assert code == 0
    printed = out.splitlines()
    assert printed[0] == shown[0]
    for actual, expected in zip(printed[1:], shown[1:], strict=True):
        *_, error, _, _ = columns = actual.split()
        *_, error_shown, _, _ = columns_shown = expected.split()
        assert columns[:-3] + columns[-2:] == columns_shown[:-3] + columns_shown[-2:]
        assert float(error_shown) / MACHINES <= float(error) <= MACHINES * float(error_shown)
