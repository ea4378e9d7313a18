"""Weights without a config: a MobileNet with Dense layers loads and says what is assumed, or how to specify it."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npmobilenet_weights_convert import read_model
from npmobilenet_weights_convert.custom_head import Head

from npmobilenet.architectures import mobilenet_v2
from npmobilenet.errors import ShapeError, WeightsError
from npmobilenet.models.model import Model
from tests.helpers.command_line import run
from tests.helpers.keras_files import Twin, application, twin
from tests.helpers.tolerances import rounding

SIZE = 96  # in the name of the file, since weights do not specify it
HEADS: dict[str, Callable[[Any], list[Any]]] = {
    "one": lambda L: [L.GlobalAveragePooling2D(), L.Dropout(0.2), L.Dense(5, activation="softmax", name="mine")],
    "several": lambda L: [
        L.GlobalAveragePooling2D(), L.Dense(16, "relu"), L.Dropout(0.5), L.Dense(8, "relu"), L.Dense(3, "softmax"),
    ],
    "flattened": lambda L: [L.Flatten(), L.Dense(3, "softmax", use_bias=False)],
}  # fmt: skip


def with_head(keras: Any, name: str, head: list[Any], *, nested: bool) -> Twin:
    base = application(keras, name, include_top=False, input_shape=(SIZE, SIZE, 3))
    if nested:
        model = keras.Sequential([base, *head])
    else:
        y = base.output
        for layer in head:
            y = layer(y)
        model = keras.Model(base.input, y)
    return twin(model, pixels=name == "v3")


def saved(theirs: Twin, folder: Path, suffix: str) -> Path:
    path = folder / f"mine_{SIZE}{suffix}"
    theirs.model.save_weights(path)
    return path


def check(model: Model, theirs: Twin) -> None:
    y = model.forward(theirs.x, backend="reference")
    np.testing.assert_allclose(y, theirs.y, rtol=0, atol=rounding(len(model.graph.layers)) * np.abs(theirs.y).max())


def convert_as_told(text: str, folder: Path) -> Model:
    """Run the command in a message, in the folder of its file."""
    command = re.search(r"npmobilenet convert (.+?)(?:; or|$)", text)
    assert command is not None, text
    file, *options = shlex.split(command[1])
    output = folder / "converted.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("npmobilenet.cli.convert_command.checked_engine", None)  # compiling is tested elsewhere
        result = run("convert", folder / file, *options, "-o", output, "--force")
    assert result.exit_code == 0, result.stderr
    return Model.open(output)


@pytest.mark.parametrize(
    ("name", "head", "nested"),
    [
        ("v1", "one", True), ("v2", "one", False), ("v3", "one", True), ("v3", "several", False),
        ("v2", "several", True), ("v1", "flattened", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("library", "suffix"), [("keras", ".weights.h5"), ("tf_keras", ".h5")])
def test_dense_layers_on_a_mobilenet_equal_keras_and_the_command_confirms_them(
    request: pytest.FixtureRequest, library: str, suffix: str, tmp_path: Path, name: str, head: str, nested: bool
) -> None:
    keras = request.getfixturevalue(library)
    theirs = with_head(keras, name, HEADS[head](keras.layers), nested=nested)
    model = read_model(saved(theirs, tmp_path, suffix))
    check(model, theirs)
    assert "softmax" in model.source["assumed"]
    confirmed = convert_as_told(model.source["assumed"], tmp_path)
    check(confirmed, theirs)
    assert "assumed" not in confirmed.source
    assert "default of" not in confirmed.source["given"]


@pytest.mark.parametrize("units", [(), (16,)])
def test_one_output_is_refused_with_a_command_that_works(keras: Any, tmp_path: Path, units: tuple[int, ...]) -> None:
    layers = keras.layers
    head = [layers.GlobalAveragePooling2D(), *(layers.Dense(n, "relu") for n in units), layers.Dense(1, "sigmoid")]
    theirs = with_head(keras, "v1", head, nested=True)
    with pytest.raises(WeightsError, match=r"mobilenet_v1, alpha 0\.25.*one output.*model\.keras") as caught:
        read_model(saved(theirs, tmp_path, ".weights.h5"))
    check(convert_as_told(str(caught.value), tmp_path), theirs)


def test_a_batch_normalization_in_the_head_is_refused(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    head = [layers.GlobalAveragePooling2D(), layers.BatchNormalization(), layers.Dense(3, "softmax")]
    with pytest.raises(WeightsError, match=r"model\.keras"):
        read_model(saved(with_head(keras, "v1", head, nested=True), tmp_path, ".weights.h5"))


def test_a_pooling_that_was_not_assumed_is_given_by_the_head(keras: Any, tmp_path: Path) -> None:
    head = [keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(3)]
    theirs = with_head(keras, "v2", head, nested=False)
    path = saved(theirs, tmp_path, ".weights.h5")
    base = mobilenet_v2(0.35, SIZE, include_top=False)
    check(read_model(path, graph=Head.parse("max,3:linear").on(base)), theirs)


@pytest.mark.parametrize("text", ["avg", "avg,", "mean,3:softmax", "avg,3", "avg,0:relu", "avg,3:cosine", "avg,nobias"])
def test_an_unknown_head_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="expected a pooling"):
        Head.parse(text)
    result = run("convert", tmp_path / "x.weights.h5", "--arch", "mobilenet_v2", "--head", text)
    assert result.exit_code == 2
    assert "--head: " in result.stderr
