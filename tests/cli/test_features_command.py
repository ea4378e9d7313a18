"""`npmobilenet features` writes what the model computes, whatever the file format."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npmobilenet import architectures
from npmobilenet.hub.load import load
from npmobilenet.models.model import Model
from tests.helpers.command_line import document, run
from tests.helpers.networks import random_params
from tests.helpers.real_files import ROOT

DIGITS = ROOT / "examples" / "digits"


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / "images" / f"{number}.png" for number in range(3)]
    paths[0].parent.mkdir()
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 32, 3), np.uint8)).save(path)
    return paths


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_each_format_holds_the_embeddings(small_network: Path, images: list[Path], tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"out{suffix}"
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="reads Parquet: pip install pyarrow")
    result = run("features", images[0].parent, "-m", small_network, "-o", output, "--backend", "reference", "--json")
    expected = load(small_network).features(list(map(str, images)), backend="reference")
    assert document(result)["shape"] == list(expected.shape)
    names = list(map(str, images))
    if suffix == ".npy":
        np.testing.assert_array_equal(np.load(output), expected)
    elif suffix == ".npz":
        with np.load(output) as file:
            np.testing.assert_array_equal(file["features"], expected)
            assert file["image"].tolist() == names
    else:
        import pyarrow.parquet as pq

        table = pq.read_table(output).to_pydict()
        np.testing.assert_array_equal(np.array(table["features"], np.float32), expected)
        assert table["image"] == names


def test_a_layer_is_written_in_its_shape(small_network: Path, images: list[Path], tmp_path: Path) -> None:
    model, output = load(small_network), tmp_path / "out.npy"
    run("features", images[1], "-m", small_network, "--layer", "conv_pw_2_relu", "-o", output, "--backend", "reference")
    x = model.scale(model.pixels(str(images[1]))[None])
    expected = dict(model.trace(x))["conv_pw_2_relu"]
    np.testing.assert_array_equal(np.load(output), expected)


def test_a_bad_image_is_a_row_of_nan(small_network: Path, images: list[Path], tmp_path: Path) -> None:
    images[1].write_bytes(b"no image")
    output = tmp_path / "out.npy"
    result = run("features", *images, "-m", small_network, "-o", output, "--backend", "reference")
    assert result.exit_code == 1
    assert str(images[1]) in result.stderr
    assert np.isnan(np.load(output)).all(axis=1).tolist() == [False, True, False]


def test_without_a_readable_image_nothing_is_written(small_network: Path, images: list[Path], tmp_path: Path) -> None:
    images[0].write_bytes(b"no image")
    result = run("features", images[0], "-m", small_network, "-o", tmp_path / "out.npy")
    assert (result.exit_code, (tmp_path / "out.npy").exists()) == (1, False)


def test_wrong_arguments_are_refused(small_network: Path, images: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out.npy"
    assert run("features", images[0], "-m", small_network, "-o", tmp_path / "out.csv").exit_code == 2
    unknown = run("features", images[0], "-m", small_network, "-o", output, "--layer", "conv_pw_2_rel")
    assert "conv_pw_2_relu" in unknown.stderr
    output.write_bytes(b"mine")
    assert "--force" in run("features", images[0], "-m", small_network, "-o", output).stderr
    assert output.read_bytes() == b"mine"


def test_classify_without_a_classifier_names_the_command(images: list[Path], tmp_path: Path) -> None:
    graph = architectures.mobilenet_v1(alpha=0.25, resolution=32, include_top=False)
    path = tmp_path / "no_top.safetensors"
    Model(graph, random_params(graph, seed=0)).save(path)
    assert "npmobilenet features" in run("classify", images[0], "-m", path).stderr
    output = tmp_path / "out.npy"
    assert run("features", images[0], "-m", path, "-o", output, "--backend", "reference").exit_code == 0
    assert np.load(output).shape == (1, 256)
