"""Models: what predict takes and refuses, and that the file explains, checks and guards itself."""

import copy
import json
import multiprocessing
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npmobilenet import architectures
from npmobilenet.errors import ImageError, NpMobileNetError, ShapeError, WeightsError
from npmobilenet.models.model import RAW, UNIT, Model
from npmobilenet.reference.graph import Graph
from npmobilenet.reference.layers import AveragePooling2D, Conv2D, Dense, Flatten, Input
from tests.helpers.networks import random_params

NETWORK = architectures.mobilenet_v1(alpha=0.25, resolution=(48, 32), classes=4)


def some_model(graph: Graph = NETWORK, **fields: Any) -> Model:
    """A model that answers with the same bits every time: kernels that get ready meanwhile change nothing."""
    return Model(graph, random_params(graph, seed=1), **{"backend": "compiled"} | fields)


def some_pixels(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "some.safetensors"
    some_model(labels=["a", "b", "c", "d"], source={"file": "x.h5"}).save(path)
    return path


def test_predict_scales_pixels_and_forward_does_not() -> None:
    model = some_model(scaling=UNIT)
    pixels = some_pixels(3, 48, 32, 3)
    np.testing.assert_array_equal(model.predict(pixels), model.forward(pixels.astype(np.float32) * np.float32(1 / 255)))


@pytest.mark.parametrize("kind", ["path", "str", "bytes", "image", "array", "float", "list", "batch"])
def test_predict_takes_one_picture_in_any_form(kind: str, tmp_path: Path) -> None:
    pixels = some_pixels(48, 32, 3)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    forms: dict[str, Any] = {
        "path": path,
        "str": str(path),
        "bytes": path.read_bytes(),
        "image": Image.fromarray(pixels),
        "array": pixels,
        "float": pixels.astype(np.float64),
        "list": [path],
        "batch": pixels[None],
    }
    model = some_model()
    np.testing.assert_array_equal(model.predict(forms[kind], resize="keras"), model.predict([pixels]))


@pytest.mark.parametrize("resize", ["crop", "keras"])
@pytest.mark.parametrize("size", [(48, 32), (60, 90)])
def test_an_image_is_resized_by_one_rule_wherever_it_comes_from(
    size: tuple[int, int], resize: str, tmp_path: Path
) -> None:
    """An image of the network's own size was cropped as a path and taken as it is as an array."""
    pixels = some_pixels(*size, 3)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    model = some_model()
    as_array = model.predict(pixels, resize=resize)
    for image in (path, str(path), path.read_bytes(), Image.fromarray(pixels), [pixels], pixels[None]):
        np.testing.assert_array_equal(model.predict(image, resize=resize), as_array)
    if size == (48, 32):
        np.testing.assert_array_equal(as_array, model.forward(model.scale(pixels[None])))


def test_predict_gives_each_of_many_pictures_its_own_row() -> None:
    model = some_model()
    pixels = some_pixels(19, 48, 32, 3)  # more than one batch
    together = model.predict(pixels)
    assert together.shape == (19, 4)
    np.testing.assert_allclose(together[[0, 18]], model.predict(pixels[[0, 18]]), rtol=1e-4)


def test_no_pictures_give_no_rows() -> None:
    assert some_model().predict([]).shape == (0, 4)
    assert some_model().features(np.zeros((0, 48, 32, 3), np.uint8)).shape == (0, 256)


def test_pictures_of_another_size_are_resized() -> None:
    assert some_model().predict(some_pixels(100, 70, 3)).shape == (1, 4)


@pytest.mark.parametrize(
    "pixels",
    [np.full((48, 32, 3), 0.5), np.linspace(-1, 1, 48 * 32 * 3).reshape(48, 32, 3), np.full((48, 32, 3), np.nan)],
    ids=["0..1", "-1..1", "nan"],
)
def test_pixels_that_are_scaled_already_are_refused(pixels: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ImageError, match=r"0\.\.255.*model\.forward"):
        some_model().predict(pixels)


def test_a_black_float_picture_is_not_taken_for_a_scaled_one() -> None:
    assert some_model().predict(np.zeros((48, 32, 3))).shape == (1, 4)


@pytest.mark.parametrize("shape", [(48, 32), (48, 32, 4), (1, 1, 48, 32, 3)])
def test_arrays_that_are_no_rgb_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="needed"):
        some_model().predict(some_pixels(*shape))


def test_forward_refuses_integers_and_names_predict() -> None:
    with pytest.raises(ShapeError, match=r"model\.predict"):
        some_model().forward(some_pixels(1, 48, 32, 3))


def test_forward_refuses_an_unknown_backend() -> None:
    with pytest.raises(NpMobileNetError, match="reference"):
        some_model().forward(np.zeros((1, 48, 32, 3), np.float32), backend="gpu")


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("threads", [0, -1, 1.0, "2", True, 10_000])
def test_a_number_of_threads_that_is_none_is_refused_whatever_computes(threads: Any, backend: str) -> None:
    model, pixels = some_model(), some_pixels(48, 32, 3)
    for call in (model.predict, model.features, model.classify):
        with pytest.raises(
            NpMobileNetError, match=f"threads: expected a whole number from 1 to 1024, or None; got {threads!r}"
        ):
            call(pixels, backend=backend, threads=threads)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_the_number_of_threads_does_not_change_the_answer(backend: str) -> None:
    model, pixels = some_model(), some_pixels(2, 48, 32, 3)
    for call in (model.predict, model.features):
        answers = [call(pixels, backend=backend, threads=threads) for threads in (None, 1, 2, np.int64(3))]
        for answer in answers[1:]:
            np.testing.assert_array_equal(answer, answers[0])


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_a_model_answers_as_the_model_does(copied: Callable[[Model], Model], used: bool) -> None:
    model, pixels = some_model(labels=["a", "b", "c", "d"]), some_pixels(48, 32, 3)
    if used:
        model.predict(pixels, backend="compiled")
        model.features(pixels, backend="compiled")

    twin = copied(model)

    np.testing.assert_array_equal(twin.predict(pixels), model.predict(pixels))
    assert twin.classify(pixels) == model.classify(pixels)
    assert twin.graph == model.graph
    assert twin.backend == model.backend


@pytest.mark.parametrize("used", [False, True])
def test_a_model_can_be_handed_to_a_process_started_by_spawn(used: bool) -> None:
    model, pixels = some_model(), some_pixels(2, 48, 32, 3)
    if used:
        model.predict(pixels, backend="compiled")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.map(model.predict, pixels)  # a bound method takes its model along
    np.testing.assert_array_equal(np.concatenate(there), model.predict(pixels))


def test_forward_computes_in_the_precision_of_its_input() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (1, 48, 32, 3))
    assert some_model(backend="auto").forward(x).dtype == np.float64
    assert some_model(backend="auto").forward(x.astype(np.float16)).dtype == np.float16


def test_trace_ends_with_what_forward_answers() -> None:
    model = some_model()
    x = model.scale(some_pixels(1, 48, 32, 3))
    outputs = dict(model.trace(x))
    assert list(outputs) == [layer.name for layer in model.graph.layers]
    np.testing.assert_array_equal(outputs["predictions"], model.forward(x, backend="reference"))


@pytest.mark.parametrize("include_top", [True, False])
@pytest.mark.parametrize("arch", architectures.ARCHITECTURES)
def test_features_are_the_mean_of_the_last_map(arch: str, include_top: bool) -> None:
    graph = architectures.ARCHITECTURES[arch](alpha=0.25, resolution=64, include_top=include_top)
    model = some_model(graph)
    x = some_pixels(1, 64, 64, 3)
    last_map = next(y for _, y in reversed(list(model.trace(model.scale(x)))) if y.ndim == 4 and y.shape[1] == 2)
    features = model.features(x, backend="reference")
    np.testing.assert_allclose(features, last_map.mean(axis=(1, 2)), rtol=1e-5, atol=1e-7)


def test_features_of_a_network_that_flattens_a_pooled_map() -> None:
    graph = Graph(
        "small",
        (
            Input(name="in", shape=(8, 8, 3)),
            Conv2D(name="conv", inputs=("in",), filters=5, kernel_size=(3, 3)),
            AveragePooling2D(name="pool", inputs=("conv",), kernel_size=(6, 6)),
            Flatten(name="flat", inputs=("pool",)),
            Dense(name="head", inputs=("flat",), units=2),
        ),
    )
    assert graph.embedding == "pool"
    assert some_model(graph, scaling=RAW).features(some_pixels(8, 8, 3)).shape == (1, 5)


def test_a_network_without_classifier_refuses_predict_and_names_features() -> None:
    graph = architectures.mobilenet_v1(alpha=0.25, resolution=32, include_top=False)
    with pytest.raises(ShapeError, match=r"model\.features"):
        some_model(graph).predict(some_pixels(32, 32, 3))


def test_classify_names_classes_and_numbers_those_without_names() -> None:
    pixels = some_pixels(48, 32, 3)
    named = some_model(labels=["a", "b", "c", "d"]).classify(pixels, top=2)
    numbered = some_model().classify(pixels, top=2)
    assert [label for _, label, _ in named[0]] == ["abcd"[int(label)] for _, label, _ in numbered[0]]


def test_a_wrong_number_of_labels_is_refused() -> None:
    with pytest.raises(ShapeError, match="4 labels"):
        some_model(labels=["a", "b"])


def test_parameters_that_do_not_fit_are_all_listed_in_one_message() -> None:
    params = dict(random_params(NETWORK, seed=1))
    del params["conv1/kernel"]
    params["conv_pw_3/kernel"] = params["conv_pw_3/kernel"][..., :5]
    params["extra/bias"] = np.zeros(3, np.float32)
    with pytest.raises(WeightsError) as error:
        Model(NETWORK, params)
    assert "missing: conv1/kernel (3, 3, 3, 8)" in str(error.value)
    assert "unexpected: extra/bias (3,)" in str(error.value)
    assert "wrong shape: conv_pw_3/kernel is (1, 1, 32, 5)" in str(error.value)


def test_a_saved_model_comes_back_whole(saved: Path) -> None:
    model, again = some_model(), Model.open(saved)
    assert again.graph == model.graph
    assert again.labels == (("", "a"), ("", "b"), ("", "c"), ("", "d"))
    assert again.source == {"file": "x.h5"}
    for name, array in model.params.items():
        np.testing.assert_array_equal(again.params[name], array)


def test_a_good_file_passes_its_self_check(saved: Path) -> None:
    assert Model.open(saved).failed_checks() == []


@pytest.mark.parametrize("array", ["conv_dw_3/kernel", "conv_pw_9_bn/moving_mean"])
def test_the_self_check_names_the_layer_where_two_channels_are_swapped(saved: Path, array: str) -> None:
    model = Model.open(saved)
    weights = model.params[array].copy()
    axis = 2 if weights.ndim == 4 else 0
    changed = dict(model.params) | {array: np.flip(weights, axis)}
    assert replace(model, params=changed).failed_checks()[0] == array.partition("/")[0]


def test_a_model_that_came_from_no_file_has_no_check_to_fail() -> None:
    with pytest.raises(WeightsError, match="no stored self-check"):
        some_model().failed_checks()


def test_the_file_holds_the_tensors_and_a_description_that_any_reader_can_use(saved: Path) -> None:
    content = saved.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    document = json.loads(header["__metadata__"]["npmobilenet"])
    assert header["conv1/kernel"]["shape"] == [3, 3, 3, 8]
    assert document["format"] == 1
    assert document["scaling"] == {"scale": 1 / 127.5, "offset": -1.0}
    assert Graph.from_json(document["graph"]) == NETWORK


def test_a_changed_bit_anywhere_is_noticed(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    rng = np.random.default_rng(3)
    tensors_start = 8 + struct.unpack("<Q", content[:8])[0]
    places = [*rng.integers(0, tensors_start, 100), *rng.integers(tensors_start, len(content), 20)]
    damaged = tmp_path / "damaged.safetensors"
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(flipped)
        with pytest.raises(WeightsError, match=r"damaged\.safetensors"):
            Model.open(damaged)


@pytest.mark.parametrize("kept", [0, 5, 1000, -1])
def test_a_file_that_is_cut_off_is_refused(saved: Path, tmp_path: Path, kept: int) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"cut\.safetensors"):
        Model.open(cut)


def test_a_folder_and_a_missing_file_are_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.safetensors"):
        with pytest.raises(WeightsError, match=path.name):
            Model.open(path)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        some_model().save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
