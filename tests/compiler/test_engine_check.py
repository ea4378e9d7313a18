"""The check of the engine: it passes on what is right, and names the step that is not."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from npmobilenet_kernels.drivers.step_table import Field
from npmobilenet_kernels.runtime.cpu import host_target, host_targets
from npmobilenet_weights_convert import convert_file

from npmobilenet import architectures
from npmobilenet.analysis.engine_check import check_engine, check_plan
from npmobilenet.compiler import ir, passes
from npmobilenet.compiler.plan import compile_graph
from npmobilenet.errors import KernelError
from npmobilenet.hub.load import load
from npmobilenet.models.model import Model
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import Activation, Add, Conv2D, Input, Reshape
from tests.helpers.command_line import run
from tests.helpers.keras_files import application, twin
from tests.helpers.networks import random_params

pytestmark = pytest.mark.usefixtures("kernels_kept")

WIDTHS = sorted(host_targets())


def detector_head() -> Graph:
    """16 boxes of 5 values: a Reshape, an Add and a sigmoid on values that are no maps."""
    return Graph(
        "head",
        (
            Input(name="in", shape=(8, 8, 3)),
            Conv2D(name="c", inputs=("in",), filters=20, kernel_size=(4, 4), stride=4),
            Reshape(name="r", inputs=("c",), target_shape=(-1, 5)),
            Add(name="a", inputs=("r", "r")),
            Activation(name="p", inputs=("a",), activation="sigmoid"),
        ),
    )


NETWORKS: dict[str, Callable[[], Graph]] = {
    "v1": lambda: architectures.mobilenet_v1(0.25, 64, classes=5),
    "v2": lambda: architectures.mobilenet_v2(0.35, 97, classes=5),
    "v3": lambda: architectures.mobilenet_v3_small(resolution=64, classes=5),
    "head": detector_head,
    "input": lambda: Graph("in", (Input(name="in", shape=(2, 3, 4)),)),
}


def some_model(name: str) -> Model:
    graph = NETWORKS[name]()
    return Model(graph, random_params(graph, seed=2))


@pytest.fixture
def forgetful_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that loses the activation of `conv_pw_13_relu`: the engine computes another network than the graph."""

    def forget(ops: ir.Operations) -> ir.Operations:
        return [
            replace(op, activation="linear") if isinstance(op, ir.Conv) and op.name == "conv_pw_13_relu" else op
            for op in ops
        ]

    monkeypatch.setattr(passes, "PASSES", (*passes.PASSES, forget))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_right_engine_passes(name: str, width: int) -> None:
    model = some_model(name)
    check = check_plan(model, compile_graph(model.graph, model.params, host_target(width)))
    assert check.passed, check
    assert check.checked >= 1
    assert check.width == width


def test_a_step_that_computes_its_first_row_alone_is_named() -> None:
    model = some_model("head")
    plan = compile_graph(model.graph, model.params)
    number = next(number for number, step in enumerate(plan.steps) if step.target == "a")
    plan.table.values[number, [Field.HEIGHT, Field.WIDTH]] = 1  # as it was before values of two axes were known
    assert check_plan(model, plan).differing == ("a",)


@pytest.mark.usefixtures("forgetful_pass")
def test_a_fusion_that_loses_something_is_named() -> None:
    check = check_engine(some_model("v1"))
    assert check.differing == ("conv_pw_13_relu",)
    assert check.worst > 1
    assert str(check).startswith(f"1 of {check.checked} results differ from the reference, first conv_pw_13_relu, ")


def test_no_number_is_a_difference() -> None:
    model = some_model("head")
    plan = compile_graph(model.graph, model.params)
    plan.table.weights[:] = float("nan")
    assert check_plan(model, plan).differing[0] == "c"


def test_verify_checks_the_engine_when_it_is_asked_to(tmp_path: Path) -> None:
    file = tmp_path / "some.safetensors"
    some_model("v1").save(file)
    code, out, _ = run("verify", file, "--backend", "compiled")
    assert code == 0
    assert out.splitlines()[1] == f"{file}: compiled backend: {check_engine(load(file))}"
    document = json.loads(run("verify", file, "--backend", "compiled", "--json")[1])
    assert document["engine"]["differing"] == []
    assert 0 < document["engine"]["worst"] <= 1
    assert json.loads(run("verify", file, "--json")[1])["engine"] is None


@pytest.mark.usefixtures("forgetful_pass")
def test_verify_fails_where_the_engine_differs_though_the_self_check_passes(tmp_path: Path) -> None:
    file = tmp_path / "some.safetensors"
    some_model("v1").save(file)
    assert run("verify", file)[0] == 0
    code, out, _ = run("verify", file, "--backend", "compiled")
    assert code == 1
    assert "first conv_pw_13_relu" in out
    document = json.loads(run("verify", file, "--backend", "compiled", "--json")[1])
    assert document["same"] is False
    assert document["engine"]["first_differing"] == "conv_pw_13_relu"


def test_without_an_engine_the_check_is_refused_or_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> None:
        raise KernelError("no compiled kernels: no Numba")

    file = tmp_path / "some.safetensors"
    some_model("v1").save(file)
    monkeypatch.setattr("npmobilenet.compiler.native_plan.compiled_kernels", missing)
    with pytest.raises(KernelError, match="no compiled kernels: no Numba"):
        check_engine(load(file))
    assert run("verify", file, "--backend", "auto")[0] == 0
    code, _, err = run("verify", file, "--backend", "compiled")
    assert code == 2
    assert "no Numba" in err


def test_convert_records_the_check_once(keras: Any, tmp_path: Path) -> None:
    source = twin(application(keras, "v1"), pixels=False).save(tmp_path, ".keras")
    file = tmp_path / "network.safetensors"
    code, out, _ = run("convert", source, "-o", file)
    assert code == 0
    assert f"all {check_engine(load(file)).checked} results within rounding of the reference, " in out
    assert load(file).source["engine"] == str(check_engine(load(file)))
    assert "engine" not in convert_file(source, tmp_path / "without.safetensors").source


@pytest.mark.usefixtures("forgetful_pass")
def test_an_engine_that_differs_is_said_by_convert_and_at_every_use(keras: Any, tmp_path: Path) -> None:
    source = twin(application(keras, "v1"), pixels=False).save(tmp_path, ".keras")
    file = tmp_path / "network.safetensors"
    assert run("convert", source, "-o", file)[0] == 0
    assert "first conv_pw_13_relu" in load(file).source["engine"]
    assert "use the reference backend" in load(file).source["notes"]
