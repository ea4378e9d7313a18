"""Errors as they grow through a network: exact arithmetic has the last word on both the truth and the bounds."""

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
from npmobilenet.reference.graph import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
    Graph,
    Input,
    Multiply,
    Rescaling,
)
from npmobilenet.reference.rounding import layer_bound
from tests.helpers.command_line import run
from tests.helpers.networks import random_images, random_params
from tests.helpers.real_files import ROOT

V3 = architectures.mobilenet_v3_small(alpha=0.35, resolution=64, classes=5)


def inverted_residual() -> Graph:
    """A block of V3 in small, squeeze-and-excite included: all that rational numbers can compute."""
    bn = {"epsilon": 0.25}  # with variance 2 the root is 3/2
    return Graph(
        "inverted residual",
        (
            Input(name="image", shape=(6, 5, 3)),
            Rescaling(name="scaled", inputs=("image",), scale=1 / 128, offset=-1.0),
            Conv2D(name="expand", inputs=("scaled",), filters=6, kernel_size=(1, 1), use_bias=False),
            BatchNormalization(name="expand_bn", inputs=("expand",), **bn),
            Activation(name="swish", inputs=("expand_bn",), activation="hard_swish"),
            DepthwiseConv2D(name="dw", inputs=("swish",), kernel_size=(3, 3), padding="same", use_bias=False),
            BatchNormalization(name="dw_bn", inputs=("dw",), **bn),
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
def test_against_exact_arithmetic_float32_stays_within_its_bounds_and_float64_is_the_truth(seed: int) -> None:
    graph, params, x = rational_case(seed)
    exactly = graph.run({name: fractions(values) for name, values in params.items()}, fractions(x))
    for (name, exact), traced in zip(exactly, traced_layers(graph, params, x), strict=True):
        error = fractions(traced.computed) - exact
        assert (np.abs(error) <= fractions(traced.bound)).all(), name
        truth = fractions(traced.exact) - exact
        assert (np.abs(truth) <= fractions(traced.bound) / 2**29).all(), f"{name}: float64 is no truth"  # u is 2**-29
        measured = max(abs(value) for value in error.ravel())
        assert abs(Fraction(traced.error().measured) - measured) <= max(abs(value) for value in truth.ravel()), name


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_is_of_the_size_of_real_errors_in_the_first_layers(seed: int) -> None:
    """A bound a million times too large would accept anything: within the block it is at most some hundred times."""
    graph, params, x = rational_case(seed)
    for error in error_growth(graph, params, x):
        if error.name in ("expand", "expand_bn", "swish", "dw", "dw_bn"):
            assert error.bound < 300 * error.measured, error


def test_the_layers_own_bound_is_that_of_the_inputs_it_really_had() -> None:
    params, x = random_params(V3, seed=1), random_images(V3, seed=2)
    outputs: dict[str, Any] = {}
    for traced in traced_layers(V3, params, x):
        layer = traced.layer
        outputs[layer.name] = traced.computed
        if isinstance(layer, Input):
            continue
        arrays = {array: params[f"{layer.name}/{array}"] for array in V3.param_shapes_of(layer)}
        inputs = [outputs[name] for name in layer.inputs]
        np.testing.assert_array_equal(traced.own_bound, layer_bound(layer, arrays, *inputs))
        arrays = {array: values.astype(np.float64) for array, values in arrays.items()}
        own = np.abs(traced.computed - layer.apply(arrays, *(values.astype(np.float64) for values in inputs)))
        assert (own <= traced.own_bound).all(), layer.name


@pytest.mark.parametrize("build", architectures.ARCHITECTURES.values())
def test_errors_lie_below_bounds_which_grow_while_the_layers_own_do_not(build: Any) -> None:
    graph = build(alpha=0.35, resolution=64, classes=5)
    errors = list(error_growth(graph, random_params(graph, seed=1), random_images(graph, seed=2)))
    assert [error.name for error in errors] == [layer.name for layer in graph.layers]
    assert all(error.measured <= error.bound for error in errors)
    assert all(error.own_bound <= error.bound * (1 + 1e-3) for error in errors)
    convolutions = [error for error in errors if error.type == "Conv2D"]
    assert convolutions[-1].bound > 1e3 * convolutions[0].bound
    assert convolutions[-1].own_bound < 1e-2 * convolutions[-1].bound


def test_x_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="needed"):
        next(error_growth(V3, random_params(V3, seed=1), np.zeros((1, 64, 64, 4), np.float32)))


def some_errors() -> list[LayerError]:
    sizes = [(1.0, 0.0, 0.0, 0.0), (2.0, 1e-7, 1e-6, 1e-6), (0.0, 0.0, 0.0, 0.0), (3.0, 2e-7, 2e-6, float("inf"))]
    return [LayerError(f"layer_{n}", "Conv2D", (4, 4, 2), *size) for n, size in enumerate(sizes)]


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_the_drawing_is_a_picture_of_the_kind_that_its_name_says(suffix: str, start: bytes, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws: pip install npmobilenet[plot]")
    path = tmp_path / f"growth{suffix}"
    draw_growth(some_errors(), path, "title")
    assert path.read_bytes().startswith(start)


def test_the_curves_are_relative_to_the_largest_value_and_leave_zeros_out() -> None:
    pytest.importorskip("matplotlib", reason="draws: pip install npmobilenet[plot]")
    from npmobilenet.analysis.rounding_growth import _figure

    (axes,) = _figure(some_errors(), "").axes
    curves = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    measured = curves["measured, float32 vs. float64"]
    np.testing.assert_allclose(measured, [np.nan, 1e-7 / 2, np.nan, 2e-7 / 3], rtol=1e-12)
    np.testing.assert_allclose(curves["bound of the layer alone"], [np.nan, 1e-6 / 2, np.nan, 2e-6 / 3], rtol=1e-12)
    assert len(curves) == 3


def test_an_unknown_kind_of_picture_is_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws: pip install npmobilenet[plot]")
    with pytest.raises(NpMobileNetError, match=r"growth\.xyz"):
        draw_growth(some_errors(), tmp_path / "growth.xyz")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_advice_is_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(NpMobileNetError, match=r"npmobilenet\[plot\]"):
        draw_growth(some_errors(), tmp_path / "growth.png")


def test_the_command_gives_every_number_as_json_and_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws: pip install npmobilenet[plot]")
    picture = tmp_path / "growth.png"
    code, out, _ = run("bounds", ROOT / "examples/digits/7.png", "-m", "digits", "--picture", picture, "--json")
    document = json.loads(out)
    assert code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(document["layers"]) == 91
    last = document["layers"][-1]
    assert last.keys() == {"name", "type", "shape", "largest", "measured", "own_bound", "bound"}
    assert 0 < last["measured"] < last["bound"] <= 1


@pytest.mark.parametrize(
    "arguments",
    [["none.png", "-m", "digits"], ["7.png", "-m", "digits", "--layers", "x"], ["7.png", "-m", "x.h5"]],
    ids=str,
)
def test_what_the_command_cannot_do_it_says_and_exits_with_2(arguments: list[str]) -> None:
    arguments = [str(ROOT / "examples/digits/7.png") if part == "7.png" else part for part in arguments]
    code, out, err = run("bounds", *arguments, "--json")
    assert code == 2
    assert err == f"npmobilenet: {json.loads(out)['error']}\n"


def test_the_table_in_the_docs_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the measured error is the same on every machine; that one depends on the order of sums in its BLAS."""
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "bounds.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```text\n\$ (npmobilenet bounds .*?)^```$", page, re.MULTILINE | re.DOTALL)
    command, *shown = block.splitlines()
    code, out, _ = run(*shlex.split(command)[1:])
    assert code == 0
    printed = out.splitlines()
    assert printed[0] == shown[0]
    for here, there in zip(printed[1:], shown[1:], strict=True):
        *_, error, _, _ = columns = here.split()
        *_, error_shown, _, _ = columns_shown = there.split()
        assert columns[:-3] + columns[-2:] == columns_shown[:-3] + columns_shown[-2:]
        assert float(error_shown) / 4 <= float(error) <= 4 * float(error_shown)
